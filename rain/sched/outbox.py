"""The submitter's side: a person's wish is written down here, then handed to whoever coordinates.

Any node takes a proposal. It merges it into its own table, writes it down and posts Propose to
the coordinator it follows (to itself, if that is the one), every `retry_ms` again with the same
number and the same content, whoever coordinates by then, until Accepted says on how many disks
it is. After `patience_ms` the person gets an answer nonetheless: it is kept here, and
anti-entropy will bring it to the next coordinator.

What it does not do: remember proposals over a restart; the table does.
"""

import random
from dataclasses import dataclass

from rain.effects import Answer, Output, Post, Proposed
from rain.model import Epoch, JobId, NodeId, Value
from rain.sched.ledger import Ledger, are_too_large
from rain.sched.messages import PATCHES_MAX, Accepted, JobPatch, Propose

PROPOSALS_MAX = 1_000
PROPOSAL_BITS = 62


class OutboxConfig(Value, frozen=True):
    retry_ms: int = 500
    patience_ms: int = 10_000


@dataclass(slots=True)
class _Proposal:
    request: int
    patches: tuple[JobPatch, ...]
    deadline_ms: int
    sent_ms: int


class Outbox:
    """What people on this node proposed and were not yet answered."""

    def __init__(self, config: OutboxConfig, ledger: Ledger, rng: random.Random) -> None:
        self.dropped: dict[str, int] = {}
        self._config = config
        self._ledger = ledger
        self._rng = rng
        self._epoch: Epoch | None = None
        self._proposals: dict[int, _Proposal] = {}

    def follow(self, epoch: Epoch | None, now_ms: int) -> list[Output]:
        """Whoever coordinates now is told at once what waits."""
        is_another = epoch != self._epoch
        self._epoch = epoch
        if not is_another or epoch is None:
            return []
        return [self._post(number, epoch, now_ms) for number in self._proposals]

    def on_proposed(self, event: Proposed, now_ms: int) -> list[Output]:
        patches = tuple(JobPatch(job.job_id, job) for job in event.jobs) + tuple(
            self._cancel(JobId(job_id), event.at_unix_ms) for job_id in event.cancels
        )
        refusal = self._refusal(patches)
        if refusal:
            return [Answer(event.request, 0, refusal)]
        self._ledger.merge(patches)
        if not all(self._ledger.is_known(patch.job_id) for patch in patches):
            return [Answer(event.request, 0, "the job table of this node takes no more jobs")]
        # Drawn, not counted: a restarted node must not seem to repeat an older proposal.
        number = self._rng.getrandbits(PROPOSAL_BITS)
        deadline_ms = now_ms + self._config.patience_ms
        self._proposals[number] = _Proposal(event.request, patches, deadline_ms, now_ms)
        then = () if self._epoch is None else (self._post(number, self._epoch, now_ms),)
        return [*self._ledger.persist(self._ledger.known_part(patches), then)]

    def on_accepted(self, sender: NodeId, message: Accepted) -> list[Output]:
        proposal = self._proposals.get(message.proposal)
        if message.epoch != self._epoch or sender != message.epoch.node_id or proposal is None:
            self.dropped["accepted_unasked"] = self.dropped.get("accepted_unasked", 0) + 1
            return []
        del self._proposals[message.proposal]
        return [Answer(proposal.request, message.copies, message.error)]

    def on_deadline(self, now_ms: int) -> list[Output]:
        outputs: list[Output] = []
        for number, proposal in list(self._proposals.items()):
            if now_ms >= proposal.deadline_ms:
                del self._proposals[number]
                outputs.append(self._give_up(proposal))
            elif self._epoch is not None and now_ms >= proposal.sent_ms + self._config.retry_ms:
                outputs.append(self._post(number, self._epoch, now_ms))
        return outputs

    def next_deadline_ms(self) -> int | None:
        if not self._proposals:
            return None
        deadlines = [proposal.deadline_ms for proposal in self._proposals.values()]
        if self._epoch is not None:
            retry_ms = self._config.retry_ms
            deadlines += [proposal.sent_ms + retry_ms for proposal in self._proposals.values()]
        return min(deadlines, default=None)

    def check(self) -> None:
        assert len(self._proposals) <= PROPOSALS_MAX

    def _cancel(self, job_id: JobId, at_unix_ms: int) -> JobPatch:
        """Of the newest generation; one that is cancelled already stays so from when it was."""
        table = self._ledger.table
        cancel = max(table.cancel(job_id), (table.generation(job_id), 0))
        through, unix_ms = cancel if cancel[1] else (cancel[0], at_unix_ms)
        return JobPatch(job_id, cancelled_through=through, cancelled_unix_ms=unix_ms)

    def _refusal(self, patches: tuple[JobPatch, ...]) -> str:
        if self._ledger.is_disk_failed:
            return "the disk of this PC takes no writes"
        if len(self._proposals) >= PROPOSALS_MAX:
            return "too many requests are waiting on this PC"
        if len(patches) > PATCHES_MAX:
            return f"more than {PATCHES_MAX} jobs in one request"
        if are_too_large(patches):
            return "command and environment are larger than 1 MiB"
        return ""

    def _post(self, number: int, epoch: Epoch, now_ms: int) -> Post:
        proposal = self._proposals[number]
        proposal.sent_ms = now_ms
        return Post(epoch.node_id, Propose(number, proposal.patches))

    def _give_up(self, proposal: _Proposal) -> Answer:
        if self._ledger.is_disk_failed:
            return Answer(proposal.request, 0, "nobody confirmed, and this PC cannot write it down")
        return Answer(
            proposal.request,
            1,
            "no coordinator confirmed it in time; it is kept on this PC and will be sent on",
        )
