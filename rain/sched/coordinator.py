"""The coordinator: decides for every task what becomes of it, and sees to it that it happens.

Every node has this core; it is idle while another one reigns. It composes who is known to run
what (takeover.py), who holds copies (replication.py), who lacks what (antientropy.py), where a
task may go (placement.py) and what an end calls for (decisions.py).

Messages. In: Propose, Report, Inventory, Replicated, Patch. Out: Accepted, Assign, Stop,
ReportAck, and what the composed parts send.

What it knows beyond the table. *Orders*: attempts it has assigned and not yet heard of as
running; Assign is repeated. *Live*: attempts that a worker says it runs, since when. *Stops*:
attempts ordered to end and not yet reported as ended; Stop is repeated.

Invariants.
J1 The first word of a worker about an end stands; a conclusion (LOST) yields to a word.
J3 What one reign places on a node never exceeds its capacity.
J4 A task has one attempt in its cell. Of two that run the one that has run longer is decided
   for, and only that decision, once on disk, stops the other. What the cell does not name and
   nobody decided on is left alone.
J6 Every task that is not over waits for a named thing: a report, an inventory, an instant, or
   room (`why`).

A node counts as gone by gossip's word, by this node's own evidence (MemberUnreachable), or when
it has not been seen for `absent_ms`; but not while it is behind the brake.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rain.effects import Effect, Output, Post
from rain.model import (
    AttemptId,
    End,
    EndState,
    Epoch,
    Job,
    JobId,
    NodeId,
    Resources,
    Stage,
    Value,
)
from rain.sched import decisions
from rain.sched.antientropy import AntiEntropy
from rain.sched.cells import is_active
from rain.sched.ledger import Ledger
from rain.sched.messages import (
    ORDERS_MAX,
    Accepted,
    Assign,
    AttemptEnd,
    AttemptReport,
    Inventory,
    JobPatch,
    Propose,
    Report,
    Stop,
    TaskPatch,
)
from rain.sched.placement import Offer, Wish, place, why
from rain.sched.pool import Pool
from rain.sched.refusals import Refusals
from rain.sched.replication import Receipt, Replication
from rain.sched.takeover import Inventories

PASS_JOBS_MAX = 1_000
"""Jobs looked at in one pass of placement."""


class CoordinatorConfig(Value, frozen=True):
    assign_resend_ms: int = 1_000
    assign_ask_ms: int = 5_000
    """An attempt that is starting is asked about so often."""
    stop_resend_ms: int = 1_000
    place_interval_ms: int = 10
    failure_backoff_ms: int = 1_000
    sweep_interval_ms: int = 500
    absent_ms: int = 15_000


@dataclass(slots=True)
class _Order:
    sent_ms: int
    is_heard: bool = False


class Coordinator:
    """The decisions of this node's reign."""

    def __init__(
        self,
        config: CoordinatorConfig,
        ledger: Ledger,
        pool: Pool,
        replication: Replication,
        antientropy: AntiEntropy,
        inventories: Inventories,
        refusals: Refusals,
    ) -> None:
        self.dropped: dict[str, int] = {}
        self._config = config
        self._ledger = ledger
        self._table = ledger.table
        self._board = ledger.board
        self._pool = pool
        self._replication = replication
        self._antientropy = antientropy
        self._inventories = inventories
        self._refusals = refusals
        self._epoch: Epoch | None = None
        self._epochs: dict[Epoch, None] = {}
        """All numbers of this reign."""
        self._beat = 0
        self._orders: dict[AttemptId, _Order] = {}
        self._live: dict[tuple[JobId, int], dict[AttemptId, int]] = {}
        self._stops: dict[AttemptId, int] = {}
        self._absent: dict[NodeId, int] = {}
        self._unreachable: dict[NodeId, None] = {}
        self._is_dirty = False
        self._placed_ms = 0
        self._swept_ms = 0

    # --- What others may look at -----------------------------------------------------------------

    def is_reigning(self) -> bool:
        return self._epoch is not None

    def is_taking_inventory(self) -> bool:
        return self._inventories.is_taking()

    def why(self, job: Job) -> dict[str, int]:
        """Why no more of its tasks are running: nodes by reason. Empty: there is room."""
        return why(self._wish(job, 1), self._offers(with_down=True))

    # --- The reign -------------------------------------------------------------------------------

    def begin(self, epoch: Epoch, now_ms: int) -> list[Output]:
        """A new reign: take inventory before anything else."""
        self.end()
        self._epoch = epoch
        self._epochs = {epoch: None}
        self._pool.note_loss(now_ms)
        self._replication.begin(epoch)
        self._antientropy.reign(epoch)
        self._inventories.begin(epoch, now_ms)
        self._swept_ms = now_ms
        return [
            output
            for node_id in self._pool.others()
            for output in self._antientropy.exchange_with(node_id, now_ms)
        ]

    def renumber(self, epoch: Epoch, now_ms: int) -> list[Output]:
        """The same reign under a higher number: nothing is forgotten."""
        if self._epoch is None:
            return self.begin(epoch, now_ms)
        self._epoch = epoch
        self._epochs[epoch] = None
        self._antientropy.reign(epoch)
        self._inventories.renumber(epoch)
        self._is_dirty = True
        return self._replication.renumber(epoch, now_ms)

    def end(self) -> None:
        """Another one reigns, or nobody."""
        self._epoch = None
        self._beat = 0
        for part in (self._epochs, self._orders, self._live, self._stops):
            part.clear()
        self._absent.clear()
        self._unreachable.clear()
        self._replication.end()
        self._antientropy.reign(None)
        self._inventories.end()
        self._refusals.clear()

    def note_beat(self, epoch: Epoch, beat: int) -> None:
        if epoch == self._epoch:
            self._beat = beat

    # --- What is proposed ------------------------------------------------------------------------

    def on_propose(self, sender: NodeId, message: Propose, now_ms: int) -> list[Output]:
        receipt = Receipt(sender, message.proposal)
        if self._replication.is_waiting(receipt):
            return []
        if self._epoch is None or self._replication.is_full():
            return self._drop("proposal_not_taken")
        # A submitter has no say over cells: only jobs and cancels are taken from it.
        patches = tuple(JobPatch(p.job_id, p.job, p.cancelled_through) for p in message.patches)
        news = self._ledger.merge(patches)
        if not all(self._ledger.is_known(patch.job_id) for patch in patches):
            error = "the pool takes no more jobs"
            return [
                *self._ledger.persist(news),
                Post(sender, Accepted(message.proposal, self._epoch, 0, error)),
            ]
        known = self._ledger.known_part(patches)
        return self._replication.commit(known, receipt, now_ms, sender)

    # --- What workers say ------------------------------------------------------------------------

    def on_report(self, sender: NodeId, message: Report, now_ms: int) -> list[Output]:
        if self._epoch is None or message.epoch not in self._epochs:
            return self._drop("report_to_another_reign")
        return self._take_reports(sender, message.attempts, now_ms)

    def on_inventory(self, sender: NodeId, message: Inventory) -> list[Output]:
        if self._epoch is None or message.epoch != self._epoch:
            return self._drop("inventory_of_another_reign")
        self._inventories.on_inventory(sender, message)
        return []

    def _take_reports(
        self, sender: NodeId, reports: Sequence[AttemptReport], now_ms: int
    ) -> list[Output]:
        outputs: list[Output] = []
        unknown: dict[JobId, None] = {}
        for report in reports:
            attempt_id = report.attempt_id
            job = self._table.job(attempt_id.job_id)
            if attempt_id.node_id != sender:
                self._drop("report_for_another_node")
            elif job is None:
                unknown[attempt_id.job_id] = None
            elif attempt_id.task >= job.spec.tasks:
                self._drop("report_not_sound")
            elif report.end is not None:
                outputs += self._on_end(job, attempt_id, report.end, now_ms)
            elif not self._inventories.is_taking():
                outputs += self._on_live(attempt_id, report, now_ms)
        return outputs + self._antientropy.want(sender, unknown)

    def _on_live(self, attempt_id: AttemptId, report: AttemptReport, now_ms: int) -> list[Output]:
        """A worker runs this: is that what is decided?"""
        job_id, task = attempt_id.job_id, attempt_id.task
        known = self._table.ends(job_id, task).get(attempt_id)
        if attempt_id in self._stops:
            return []
        if known is not None and known.state is not EndState.LOST:
            return self._stop([attempt_id], "it has ended already", now_ms)
        order = self._orders.get(attempt_id)
        if report.stage is Stage.RUNNING:
            self._orders.pop(attempt_id, None)
            self._refusals.forgive(job_id, attempt_id.node_id)
        elif order is not None:
            order.is_heard = True
        self._live.setdefault((job_id, task), {})[attempt_id] = now_ms - report.running_ms
        return self._resolve(job_id, task, report.stage, now_ms)

    def _on_end(self, job: Job, attempt_id: AttemptId, end: End, now_ms: int) -> list[Output]:
        """An outcome: decide what follows, make it safe, then let the worker forget it."""
        assert self._epoch is not None, "the caller has looked"
        job_id, task = job.job_id, attempt_id.task
        receipt = Receipt(attempt_id.node_id, attempt_id=attempt_id)
        if self._replication.is_waiting(receipt) or self._replication.is_full():
            return []
        cell = self._table.cell(job_id, task)
        if cell.epoch is not None and cell.epoch > self._epoch and not _is_over(cell):
            return self._drop("decided_by_a_later_reign")
        self._let_go(attempt_id)
        entry = AttemptEnd(attempt_id, end)
        known = self._table.ends(job_id, task).get(attempt_id)
        if known is None or known.state is EndState.LOST:
            after = None
            if decisions.may_decide(cell, self._epoch):
                after = decisions.after_end(self._table, job, attempt_id, end, self._epoch)
            if after is None:
                self._ledger.merge((JobPatch(job_id, tasks=(TaskPatch(task, task, cell, (entry,)),)),))
            else:
                self._ledger.decide(after, job_id, task, entry)
                self._after_decision(job, attempt_id, end, after, now_ms)
        outputs = self._replication.commit(
            (self._task_patch(job_id, task),), receipt, now_ms, attempt_id.node_id, job.submitter_id
        )
        return outputs + self._resolve(job_id, task, Stage.RUNNING, now_ms)

    def _after_decision(
        self, job: Job, attempt_id: AttemptId, end: End, after: decisions.Cell, now_ms: int
    ) -> None:
        """What an end means for the next placing of this job."""
        if after.stage is not Stage.PENDING:
            return
        if end.state is EndState.REFUSED:
            self._refusals.note(job.job_id, attempt_id.node_id, now_ms)
        elif end.state in decisions.FAILURES:
            until_ms = now_ms + self._config.failure_backoff_ms
            self._board.hold_back(job.job_id, attempt_id.task, until_ms)

    def _resolve(self, job_id: JobId, task: int, stage: Stage, now_ms: int) -> list[Output]:
        """Make the cell and what runs agree: adopt, advance, or stop, by decision only."""
        assert self._epoch is not None, "only a coordinator resolves"
        live = {
            attempt_id: since_ms
            for attempt_id, since_ms in self._live.get((job_id, task), {}).items()
            if attempt_id not in self._stops
        }
        cell = self._table.cell(job_id, task)
        if not live:
            return []
        if self._table.is_task_over(job_id, task):
            return self._stop(sorted(live), "its task is over", now_ms)
        if not decisions.may_decide(cell, self._epoch):
            return []
        current = cell.attempt_id if is_active(cell) else None
        if current is not None and current not in live:
            if current not in self._orders:
                # Silent, perhaps running: it is left alone until its node is heard or gone.
                return []
            live[current] = now_ms
        kept = min(live, key=lambda a: (live[a], a != current, a))
        outputs: list[Output] = []
        stops = self._stop(sorted(a for a in live if a != kept), "another one stands", now_ms)
        if kept != current or cell.epoch not in self._epochs:
            is_started = kept not in self._orders and stage is Stage.RUNNING
            kept_stage = Stage.RUNNING if is_started else Stage.STARTING
            after = decisions.adopted(cell, self._epoch, kept, kept_stage)
            news = self._ledger.decide(after, job_id, task)
            outputs += self._ledger.persist(news, [o for o in stops if isinstance(o, Post)])
        else:
            outputs += self._advance(cell, kept, stage, job_id, task)
            outputs += stops
        return outputs
