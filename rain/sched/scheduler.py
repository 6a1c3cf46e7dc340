"""The scheduling core: one job table, and the four roles that work on it.

Every node submits (outbox.py), works (worker.py), holds copies and spreads them (replication.py,
antientropy.py), and coordinates when the election says so (coordinator.py). This core keeps
which reign is followed, lets in only what that reign may say, and routes.

A node that coordinates is its own worker, holder and submitter. Messages to itself never leave
this core: those of an event are delivered after it, in order, and those that must follow a write
when that write is on disk (a token says so). So no role needs to know where another one sits.

After every event, whatever it was: news of the table goes to the coordinator's part (spread,
doubt, cancel, place), and a changed digest to the election (TableChanged).

Who may say what (people.py holds roles and persons, by the roll). Whoever is not in the pool is
not heard. Workers report, no more; and a worker keeps nothing but the jobs of its own attempts,
and forgets each with its last attempt: neither copies nor other people's secrets stay there.
Orders count only from the node of the followed reign, reports only about the sender's own
attempts, jobs and cancels only by who signed them (warrants.py). Members are trusted for cells:
any of them may come to coordinate.

Invariants: those of the parts; and nothing that is said under a reign that is not followed, or
by somebody who may not say it, has any effect here.
"""

import random
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from rain.claims import Sign, Verify
from rain.effects import (
    AbsenceDecided,
    Admitted,
    Barred,
    Beat,
    BrakeChanged,
    ClockTold,
    ContainerExited,
    ContainerFailed,
    ContainersListed,
    ContainerStarted,
    CoordinatorHeard,
    DeadlinePassed,
    DiskFailed,
    DiskRecovered,
    Event,
    FactsChanged,
    FollowerHeard,
    HardwareMeasured,
    MemberDown,
    MemberUnreachable,
    MemberUp,
    Message,
    Notice,
    Output,
    Persisted,
    Post,
    Proposed,
    Received,
    Record,
    ReignChanged,
    SiblingNotice,
    StopRequested,
    TableChanged,
    ViewChanged,
)
from rain.model import (
    AttemptId,
    Epoch,
    Facts,
    Identity,
    JobId,
    MemberState,
    NodeId,
    Role,
    Value,
)
from rain.sched.absence import Absence
from rain.sched.antientropy import AntiEntropy
from rain.sched.beats import Beats
from rain.sched.calendar import Calendar
from rain.sched.complaints import Complaints
from rain.sched.coordinator import Coordinator, CoordinatorConfig
from rain.sched.early import Early
from rain.sched.ledger import Ledger, are_too_many
from rain.sched.messages import (
    Accepted,
    Assign,
    ClockReading,
    Digests,
    Inventory,
    InventoryRequest,
    Patch,
    Propose,
    Replicate,
    Replicated,
    Report,
    ReportAck,
    Stop,
)
from rain.sched.outbox import Outbox, OutboxConfig
from rain.sched.own_mail import OwnMail
from rain.sched.people import People
from rain.sched.pool import Pool
from rain.sched.records import AttemptRow
from rain.sched.replication import ReplicationConfig, hold
from rain.sched.table import Table
from rain.sched.warrants import Warrants
from rain.sched.worker import Worker, WorkerConfig

ROUNDS_MAX = 10_000
"""Messages to itself that one event may set off; more means that roles feed each other."""


class SchedConfig(Value, frozen=True):
    loss_grace_ms: int = 15_000
    """After a loss copies are counted against the last stable view for so long (E7)."""
    worker: WorkerConfig = WorkerConfig()
    outbox: OutboxConfig = OutboxConfig()
    coordinator: CoordinatorConfig = CoordinatorConfig()
    pool_id: bytes = b""
    """Part of what is signed."""

    @classmethod
    def of(cls, pool_id: bytes, replicas: int) -> "SchedConfig":
        """What is not the same everywhere."""
        coordinator = CoordinatorConfig(replication=ReplicationConfig(replicas))
        return cls(pool_id=pool_id, coordinator=coordinator)


class Scheduler:
    """What runs where, on this node and, while it reigns, on all."""

    NOTICES: ClassVar[frozenset[type[SiblingNotice]]] = frozenset(
        {
            ReignChanged,
            CoordinatorHeard,
            Beat,
            FollowerHeard,
            MemberUp,
            MemberDown,
            MemberUnreachable,
            FactsChanged,
            ViewChanged,
            BrakeChanged,
            Admitted,
            Barred,
        }
    )

    def __init__(
        self,
        identity: Identity,
        facts: Facts,
        config: SchedConfig,
        rng: random.Random,
        now_ms: int,
        recovered: Sequence[Record] = (),
        *,
        sign: Sign,
        public_key: bytes,
        verify: Verify,
    ) -> None:
        self.node_id = identity.node_id
        self.dropped: dict[str, int] = {}
        self._people = People()
        self._ledger = Ledger(recovered, Warrants(verify, self._people, config.pool_id))
        self._pool = Pool(identity, facts, config.loss_grace_ms, self._people)
        self._antientropy = AntiEntropy(config.coordinator.antientropy, self._ledger, self._pool)
        self._outbox = Outbox(
            config.outbox, self._ledger, rng, self._people, public_key, sign, config.pool_id
        )
        calendar_config = config.coordinator.retention.calendar
        self._calendar = Calendar(calendar_config, identity.node_id, self._pool.entitled_keepers)
        self._absence = Absence(recovered, self._ledger, self._calendar)
        self._coordinator = Coordinator(
            config.coordinator, self._ledger, self._pool, self._antientropy, self._calendar
        )
        rows = [record for record in recovered if isinstance(record, AttemptRow)]
        self._worker = Worker(identity, facts, config.worker, self._ledger, rows)
        self._beats = Beats(self._worker, self._coordinator, self._antientropy)
        self._epoch: Epoch | None = None
        self._is_mine = False
        self._early = Early()
        self._last_coordinator: NodeId | None = None
        self._now_ms = now_ms
        self._told_digest = b""
        self._mail = OwnMail(identity.node_id)
        self._may_forget = False
        self._deadline_ms = self._soonest_ms()
        self._complaints = Complaints(
            self.dropped,
            self._ledger.table.dropped,
            self._outbox.dropped,
            self._worker.dropped,
            *self._coordinator.counters(),
        )

    # --- What the agent may look at --------------------------------------------------------------

    @property
    def table(self) -> Table:
        return self._ledger.table

    @property
    def absence(self) -> Absence:
        """What was set aside after a long absence of this node."""
        return self._absence

    def unsettled(self) -> set[AttemptId]:
        """At the coordinator: attempts whose outcome is not yet on enough disks."""
        return self._coordinator.unsettled()

    def starts(self, job_id: JobId, first: int, last: int) -> dict[AttemptId, int]:
        """At the coordinator: when what runs of these tasks was started, by the wall clock."""
        return self._coordinator.judgement.starts(job_id, first, last)

    def why(self, job_id: JobId) -> dict[str, int]:
        """At the coordinator: how many nodes take no more of this job, by reason."""
        job = self.table.job(job_id)
        return {} if job is None else self._coordinator.why(job, self._now_ms)

    def dropped_by_reason(self) -> dict[str, int]:
        """Messages, and parts of them, that had no effect; whatever part of this core said so."""
        return self._complaints.counts()

    def active_attempts(self) -> tuple[AttemptId, ...]:
        """What this node has accepted and not ended."""
        return self._worker.active_attempts()

    def is_taking_inventory(self) -> bool:
        return self._coordinator.is_taking_inventory()

    # --- The core --------------------------------------------------------------------------------

    def handle(self, event: Event | Notice, now_ms: int) -> list[Output]:
        self._now_ms = now_ms
        is_due = self._deadline_ms is not None and now_ms >= self._deadline_ms
        if not is_due and not self._may_forget and self._beats.took(event, now_ms):
            return []
        outputs: list[Output] = []
        local: deque[Message] = deque()
        self._mail.sort(self._on(event, now_ms), outputs, local)
        for _ in range(ROUNDS_MAX):
            self._mail.sort(self._follow_up(now_ms), outputs, local)
            if not local:
                break
            self._mail.sort(self._on_message(self.node_id, local.popleft(), now_ms), outputs, local)
        else:
            raise AssertionError("the roles of a node feed each other without end")
        outputs += [*self._forget(), *self._ledger.sweep()]
        digest = self.table.digest()
        if digest != self._told_digest:
            self._told_digest = digest
            outputs.append(TableChanged(digest))
        self._deadline_ms = self._soonest_ms()
        return outputs

    def next_deadline_ms(self) -> int | None:
        return self._deadline_ms

    def _soonest_ms(self) -> int | None:
        """Asked once per event, as nothing else moves it."""
        soonest_ms = self._worker.next_deadline_ms()
        for at_ms in (self._outbox.next_deadline_ms(), self._coordinator.next_deadline_ms()):
            if at_ms is not None and (soonest_ms is None or at_ms < soonest_ms):
                soonest_ms = at_ms
        return soonest_ms

    def check(self) -> None:
        assert self._deadline_ms == self._soonest_ms(), "the deadline told is the soonest"
        self._ledger.table.check()
        self._ledger.board.check()
        self._worker.check()
        self._outbox.check()
        self._coordinator.check()
        assert self._coordinator.is_reigning() == self._is_mine
        assert not self._is_mine or self._epoch is not None

    # --- Inside ----------------------------------------------------------------------------------

    def _follow_up(self, now_ms: int) -> list[Output]:
        news = self._ledger.drain()
        if not self._is_mine:
            return []
        return self._coordinator.on_news(news, now_ms) + self._coordinator.advance(now_ms)

    def _on(self, event: Event | Notice, now_ms: int) -> list[Output]:
        match event:
            case Received(sender=sender, message=message):
                outputs = self._on_message(sender, message, now_ms)
                return [*outputs, *self._complaints.about(sender, message)]
            case DeadlinePassed():
                return self._worker.on_deadline(now_ms) + self._outbox.on_deadline(now_ms)
            case Persisted(token=token):
                return self._on_persisted(token)
            case Proposed():
                return self._outbox.on_proposed(event, now_ms)
            case ContainersListed():
                return self._worker.on_listed(event, now_ms)
            case ContainerStarted():
                return self._worker.on_started(event, now_ms)
            case ContainerExited():
                return self._worker.on_exited(event, now_ms)
            case ContainerFailed():
                return self._worker.on_failed(event, now_ms)
            case ClockTold(unix_ms=unix_ms):
                self._calendar.tell(self.node_id, unix_ms, now_ms)
                noted = self._absence.on_clock(unix_ms, now_ms, is_alone=self._epoch is None)
                return noted + self._tell_clock(now_ms)
            case AbsenceDecided(take_back=take_back):
                return self._absence.take_back() if take_back else self._absence.drop()
            case StopRequested():
                return self._worker.on_stop_requested(now_ms)
            case DiskFailed() | DiskRecovered():
                return self._on_disk(event, now_ms)
            case HardwareMeasured(facts=facts):
                self._worker.offer(facts)
                return self._on_notice(FactsChanged(self.node_id, facts), now_ms)
            case _:
                return self._on_notice(event, now_ms)

    def _on_notice(self, notice: Event | Notice, now_ms: int) -> list[Output]:
        match notice:
            case ReignChanged():
                return self._on_reign(notice, now_ms)
            case CoordinatorHeard(epoch=epoch, beat=beat):
                self._worker.heard(epoch, beat, now_ms)
            case Beat(epoch=epoch, beat=beat):
                self._coordinator.note_beat(epoch, beat)
            case FollowerHeard():
                return self._coordinator.on_follower_heard(notice, now_ms)
            case Admitted():
                return self._on_admitted(notice, now_ms)
            case Barred(node_id=node_id):
                self._pool.on_barred(node_id, now_ms)
                return self._coordinator.on_member_gone(node_id, "node removed", now_ms)
            case MemberUp() if notice.node_id != self.node_id:
                is_new = self._pool.on_up(notice)
                return self._coordinator.on_member_up(notice.node_id, is_new, now_ms)
            case MemberDown() if notice.node_id != self.node_id:
                self._pool.on_down(notice, now_ms)
                reason = "node left" if notice.state is MemberState.LEFT else "node gone"
                return self._coordinator.on_member_gone(notice.node_id, reason, now_ms)
            case MemberUnreachable():
                return self._coordinator.on_unreachable(notice, now_ms)
            case FactsChanged():
                self._pool.on_facts(notice)
                self._coordinator.on_facts(notice)
            case ViewChanged():
                self._pool.on_view(notice)
                return self._coordinator.on_members_counted(now_ms)
            case BrakeChanged():
                self._pool.on_brake(notice)
                return self._coordinator.on_brake(notice, now_ms)
            case _:
                pass
        return []

    def _on_admitted(self, notice: Admitted, now_ms: int) -> list[Output]:
        self._may_forget |= notice.node_id == self.node_id
        is_new = self._pool.on_admitted(notice)
        return self._coordinator.on_member_up(notice.node_id, is_new, now_ms)

    def _forget(self) -> list[Output]:
        """What a worker does not need (any more); a part at a time, the rest with later events."""
        if not self._may_forget:
            return []
        if self._people.role(self.node_id) is not Role.WORKER:
            self._may_forget = False
            return []
        if self._is_mine:
            return []
        forgotten = self._ledger.forget_all_but(self._worker.jobs())
        self._may_forget = bool(forgotten)
        return [*forgotten]

    def _on_reign(self, notice: ReignChanged, now_ms: int) -> list[Output]:
        was_mine, self._is_mine = self._is_mine, notice.mine and notice.epoch is not None
        self._epoch = notice.epoch
        fallen = self._last_coordinator
        if notice.epoch is not None:
            self._last_coordinator = notice.epoch.node_id
        outputs: list[Output] = []
        if self._is_mine and notice.epoch is not None:
            if notice.takeover or not was_mine:
                fallen = fallen if fallen != self.node_id else None
                outputs += self._coordinator.begin(notice.epoch, fallen, now_ms)
            else:
                outputs += self._coordinator.renumber(notice.epoch, now_ms)
        elif was_mine:
            self._coordinator.end()
        outputs += self._worker.follow(notice.epoch, self._is_mine, now_ms)
        outputs += self._outbox.follow(notice.epoch, now_ms) + self._tell_clock(now_ms)
        for sender, message in self._early.take(notice.epoch):
            outputs += self._on_message(sender, message, now_ms)
        return outputs

    def _tell_clock(self, now_ms: int) -> list[Output]:
        """To the coordinator that is followed; a mere worker has no say in what is forgotten."""
        unix_ms = self._calendar.own_unix_ms(now_ms)
        is_keeper = self._people.is_at_least(self.node_id, Role.MEMBER)
        if unix_ms is None or self._epoch is None or self._is_mine or not is_keeper:
            return []
        return [Post(self._epoch.node_id, ClockReading(self._epoch, unix_ms))]

    def _on_disk(self, event: DiskFailed | DiskRecovered, now_ms: int) -> list[Output]:
        """Writes that fail take their follow-ups with them: everything is asked for again."""
        if isinstance(event, DiskFailed):
            self._ledger.is_disk_failed = True
            self._mail.lose_all()
            return self._worker.on_disk_failed(now_ms)
        if not self._ledger.is_disk_failed:
            return []
        self._ledger.is_disk_failed = False
        return [*self._ledger.rewrite(), *self._worker.rewrite()]

    def _on_message(self, sender: NodeId, message: Message, now_ms: int) -> list[Output]:
        """To the role that it is for. What only the followed reign may say is checked there."""
        refusal = self._right_refusal(sender, message)
        if refusal:
            return self._drop(refusal)
        if self._early.keep(sender, message, self._epoch):
            return []
        match message:
            case Propose():
                return self._coordinator.on_propose(sender, message, now_ms)
            case Report():
                return self._coordinator.on_report(sender, message, now_ms)
            case Inventory():
                return self._coordinator.on_inventory(sender, message)
            case Replicated():
                return self._coordinator.on_replicated(sender, message, now_ms)
            case Accepted():
                return self._outbox.on_accepted(sender, message)
            case Assign():
                self._may_forget = True
                return self._worker.on_assign(sender, message, now_ms)
            case Stop():
                return self._worker.on_stop(sender, message, now_ms)
            case ReportAck():
                self._may_forget = True
                return self._worker.on_report_ack(sender, message)
            case InventoryRequest():
                return self._worker.on_inventory_request(sender, message, now_ms)
            case ClockReading(epoch=epoch, unix_ms=unix_ms):
                if not self._is_mine or epoch != self._epoch:
                    return self._drop("clock_told_to_another_reign")
                self._calendar.tell(sender, unix_ms, now_ms)
                return []
            case Replicate() | Digests() | Patch():
                return self._on_knowledge(sender, message, now_ms)
            case _:
                return self._drop("not_a_message_of_scheduling")

    def _right_refusal(self, sender: NodeId, message: Message) -> str:
        """Why this is not heard from who sent it; '' if it is.

        A worker that proposes is told why not: that is for the coordinator to say.
        """
        if sender == self.node_id:
            return ""
        role = self._people.role(sender)
        if role is None:
            return "sender_not_in_the_pool"
        if role < Role.MEMBER and not isinstance(message, Report | Inventory | Propose):
            return "beyond_its_role"
        return ""

    def _on_knowledge(
        self, sender: NodeId, message: Replicate | Digests | Patch, now_ms: int
    ) -> list[Output]:
        if message.epoch != self._epoch:
            return self._drop("knowledge_under_another_reign")
        if self._people.role(self.node_id) is Role.WORKER:
            return self._drop("a_worker_keeps_no_copies")
        if not isinstance(message, Digests) and are_too_many(message.patches):
            return self._drop("knowledge_of_too_many_tasks")
        if self._is_mine and isinstance(message, Patch):
            return self._coordinator.on_patch(sender, message, now_ms)
        if sender != message.epoch.node_id:
            return self._drop("knowledge_not_by_the_coordinator")
        match message:
            case Replicate():
                return [*hold(self._ledger, sender, message)]
            case Digests():
                return self._antientropy.on_digests(sender, message)
            case Patch():
                return self._antientropy.on_news(sender, message)

    def _drop(self, reason: str) -> list[Output]:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        return []

    def _on_persisted(self, token: int) -> list[Output]:
        after = self._mail.take(token)
        if after is None:
            return []
        self._worker.note_ordered(after.ordered)
        return [Post(self.node_id, message) for message in after.own]
