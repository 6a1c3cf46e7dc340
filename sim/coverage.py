"""What was hit, and how often: a simulator proves nothing of what it never came to.

Every fault, oddity, message, end, and many a rare branch has a name and is counted in every run.
Rare branches are seen from outside: by what a node says to its log, and by what it counts as
dropped. What must have been hit in some hundred seeds is `expected()`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from rain.effects import Log, Message
from rain.election.messages import ElectionMessage
from rain.gossip.messages import GossipMessage
from rain.model import Role
from rain.sched.messages import SchedMessage
from rain.sched.states import TaskState
from rain.trust.messages import TrustMessage

from .options import (
    EPILOGUES,
    FAULT_KINDS,
    HARD_EPILOGUES,
    HOSTILE_KINDS,
    TROUBLE_KINDS,
    Options,
)

if TYPE_CHECKING:
    from .host import Host

SEEDS_ENOUGH = 300
"""So many seeds come to everything that is expected."""
REASON_FIELDS = ("reason", "why")
"""Fields of a log line that tell one branch from another."""
LOG_EVENTS = (
    "absence",
    "barred",
    "campaign_lost",
    "disk_caught_up",
    "pool_key",
    "refused",
    "reign_began",
    "reign_ended",
)
"""All that the cores say to the log by a literal name."""
SELDOM_LOGGED = ("absence", "disk_caught_up")
"""Not in every run of some hundred seeds."""
ROLES = ("follower", "candidate", "coordinator", "braked")
ENDS = ("SUCCEEDED", "FAILED", "TIMEOUT", "CANCELLED", "LOST", "REFUSED")
STATES = ("SUCCEEDED", "FAILED", "TIMEOUT", "CANCELLED", "ABORTED")
DROPPED: Mapping[str, tuple[str, ...]] = {
    "election": (
        "ack_of_another_reign",
        "below_floor",
        "granted_to_another",
        "late_answer",
        "late_vouch",
        "old_heartbeat",
        "outranked_challenge",
        "weaker_reign",
    ),
    "envelope": (
        "clone",
        "not_a_member",
        "old_boot",
        "old_key",
        "other_pool",
        "own",
        "recipient",
        "replayed",
        "signature",
        "stranger",
        "too_short",
        "unknown_key",
        "unproven",
        "version",
    ),
    "gossip": ("barred", "unsigned"),
    "sched": (
        "accepted_unasked",
        "ack_of_another_reign",
        "cancel_of_unknown_job",
        "inventory_of_another_reign",
        "knowledge_under_another_reign",
        "order_not_by_the_coordinator",
        "order_of_another_reign",
        "order_too_old",
        "replicated_unasked",
        "report_before_inventory",
        "report_to_another_reign",
    ),
    "stream": ("not_its_key", "removed", "stranger"),
    "trust": (
        "asked_too_often",
        "certificate_of_no_chain",
        "claim_forged",
        "claim_without_right",
        "sender_distrusted",
        "unbacked_key",
    ),
}
"""By whom, why: refusals that some hundred seeds come to. Rarer ones are counted all the same."""
REFUSED = ("Assign role", "Grant role", "Heartbeat role", "Patch role", "Replicate role")

ODDITIES: Mapping[str, Callable[[Options], bool]] = {
    "loss": lambda options: options.loss_permille > 0,
    "duplicates": lambda options: options.duplicate_permille > 0,
    "replays": lambda options: options.replay_permille > 0,
    "damage": lambda options: options.corrupt_permille > 0,
    "heavy tail": lambda options: options.heavy_tail_permille > 0,
    "truncation": lambda options: options.truncate_permille > 0,
    "calm": lambda options: not options.loss_permille,
    "disk stalls": lambda options: options.stall_permille > 0,
    "starts that fail": lambda options: options.start_failure_permille > 0,
    "ends told twice": lambda options: options.exit_twice_permille > 0,
    "ends told late": lambda options: options.exit_late_permille > 0,
    "submits twice": lambda options: options.submit_twice_percent > 0,
    "tasks that hang": lambda options: options.hangs > 0,
    "burst": lambda options: options.burst_tasks > 0,
    "exact clocks": lambda options: set(options.clock_rates_ppm) == {1_000_000},
    "skewed clocks": lambda options: len(set(options.clock_rates_ppm)) > 1,
    "wide clock rates": lambda options: any(
        abs(rate - 1_000_000) > 50_000 for rate in options.clock_rates_ppm
    ),
    "coarse clocks": lambda options: any(tick > 1_000 for tick in options.clock_ticks_us),
    "ranks": lambda options: any(options.ranks),
    "workers": lambda options: Role.WORKER in options.roles,
    "two admins": lambda options: options.roles.count(Role.ADMIN) > 1,
    "common faults only": lambda options: not options.trouble_kinds,
    "nobody hostile": lambda options: not options.hostile_kinds,
}


class Coverage:
    """Counts of one run."""

    def __init__(self) -> None:
        self.hits: dict[str, int] = {}

    def hit(self, name: str, times: int = 1) -> None:
        self.hits[name] = self.hits.get(name, 0) + times

    def note_options(self, options: Options) -> None:
        for name, is_played in ODDITIES.items():
            if is_played(options):
                self.hit(f"option {name}")
        self.hit(f"epilogue {options.epilogue}")
        self.hit(f"nodes {min(options.nodes, 10)}")

    def note_message(self, message: Message) -> None:
        self.hit(f"message {type(message).__name__}")

    def note_log(self, log: Log) -> None:
        self.hit(f"log {log.event}")
        for name, value in log.fields:
            if name in REASON_FIELDS:
                self.hit(f"log {log.event} {value}")

    def note_role(self, host: "Host") -> None:
        """Which part it plays just now."""
        if host.node is not None:
            self.hit(f"role {host.node.election.role()}")
            if host.node.election.is_braked():
                self.hit("role braked")

    def note_hosts(self, hosts: "Sequence[Host]") -> None:
        """What nodes that are up have dropped so far."""
        for host in hosts:
            node = host.node
            if node is None:
                continue
            self._note_dropped("trust", node.trust.dropped)
            self._note_dropped("gossip", node.gossip.dropped)
            self._note_dropped("election", node.election.dropped)
            self._note_dropped("sched", node.sched.dropped_by_reason())
            self._note_dropped("envelope", host.wire.envelope.dropped)
            self._note_dropped("stream", host.wire.streams.refused)
            for (_, refusal), times in node.refused.items():
                self.hit(f"refused {refusal}", times)

    def _note_dropped(self, where: str, dropped: Mapping[str, int]) -> None:
        for reason, times in dropped.items():
            self.hit(f"dropped {where} {reason}", times)

    def note_tables(self, hosts: "Sequence[Host]") -> None:
        """What the tasks and the attempts of the pool came to, by one table."""
        node = next((host.node for host in hosts if host.is_keeper and host.node is not None), None)
        if node is None:
            return
        table = node.sched.table
        for job_id in table.jobs():
            for state, count in zip(TaskState, table.state_counts(job_id), strict=True):
                if count:
                    self.hit(f"task {state.name}", count)
            for task in table.decided_tasks(job_id):
                for end in table.ends(job_id, task).values():
                    self.hit(f"end {end.state.name}")


def expected() -> list[str]:
    """Everything that many seeds must have come to, sorted."""
    from .moments import MOMENTS

    names = [f"fault {kind}" for kind in (*FAULT_KINDS, *TROUBLE_KINDS)]
    names += [f"hostile {kind}" for kind in HOSTILE_KINDS]
    names += [f"epilogue {kind}" for kind in (*EPILOGUES, *HARD_EPILOGUES)]
    names += [f"moment {moment.name}" for moment in MOMENTS]
    names += [f"option {name}" for name in ODDITIES]
    for union in (TrustMessage, GossipMessage, ElectionMessage, SchedMessage):
        names += [f"message {kind.__name__}" for kind in get_args(union)]
    names += [f"log {event}" for event in LOG_EVENTS if event not in SELDOM_LOGGED]
    names += [f"role {role}" for role in ROLES]
    names += [f"end {state}" for state in ENDS]
    names += [f"task {state}" for state in STATES]
    names += [f"dropped {core} {reason}" for core, reasons in DROPPED.items() for reason in reasons]
    names += [f"refused {refusal}" for refusal in REFUSED]
    return sorted(names)


def total(runs: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of many runs."""
    counts = Coverage()
    for hits in runs:
        for name, times in hits.items():
            counts.hit(name, times)
    return counts.hits


def missing(counts: Mapping[str, int]) -> list[str]:
    """What was expected and never hit."""
    return [name for name in expected() if not counts.get(name)]


def lines(counts: Mapping[str, int]) -> list[str]:
    """The table as it is printed."""
    names = sorted(set(expected()) | set(counts))
    return [f"{counts.get(name, 0):>12}  {name}" for name in names]
