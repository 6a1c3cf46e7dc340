"""The coordinator's judgement of what workers say: adopt, advance, finish, stop, give up.

*Live* are attempts that their worker said, in this reign, to be starting or running, with the
instant of their start. Whatever comes in, `_resolve` makes the cell and what is live agree:

* task over: what is live is stopped;
* the cell's attempt is live: it is adopted (a new turn) where an earlier reign placed it, or its
  stage follows;
* the cell's attempt is silent: it is left alone, and so is what else is live, until its node
  speaks or is gone;
* the cell waits, or another one has run longer: the longest-running is adopted, and once that is
  on disk the others are stopped.

J1. The first word of a worker about an end stands; LOST, a conclusion, yields to a word. An end
is acknowledged only when this reign has counted enough copies of it. A worker's word counts for
attempts on its own node, for no others.
J4. An attempt of a known job is stopped only for a decision on disk: its task is over, or
another attempt stands. What is not known at all is asked for, never stopped: of a keeper its
table, of a mere worker the job as it was submitted (takeover.py). What runs of it is remembered
until then, so that it is adopted before anything of that job is placed.

A task under which PCs went down too often is given up as soon as that is known, from whatever
side, and what runs of it by then is stopped. How long a task waits after a failure follows from
the number of its failures, which the table knows: a takeover forgets one wait, never the step.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from rain.effects import Output
from rain.model import (
    AttemptId,
    End,
    EndState,
    Job,
    JobId,
    NodeId,
    Resources,
    Stage,
    Value,
)
from rain.sched import decisions
from rain.sched.admission import PASSING
from rain.sched.antientropy import AntiEntropy
from rain.sched.cells import FAILURES, is_active, is_conclusion
from rain.sched.ledger import Ledger
from rain.sched.messages import AttemptEnd, AttemptReport, Cell, JobPatch, TaskPatch
from rain.sched.orders import Orders, Reign
from rain.sched.placement import able
from rain.sched.pool import Pool
from rain.sched.refusals import Refusals
from rain.sched.replication import Receipt, Replication
from rain.sched.takeover import Inventories

TaskKey = tuple[JobId, int]


UNTOLD_MAX = 10_000
"""Attempts remembered of jobs not known yet; others are told of again, or found at their end."""
BACKOFF_DOUBLINGS_MAX = 16
"""More would reach any cap, and make numbers without end."""


class JudgementConfig(Value, frozen=True):
    failure_backoff_ms: int = 1_000
    """After the first failure of a task; twice as long after each further one."""
    failure_backoff_ms_max: int = 60_000


@dataclass(slots=True)
class _Live:
    since_ms: int
    stage: Stage
    started_unix_ms: int = 0


class Judgement:
    """What this reign has heard of attempts, and what it makes of it."""

    def __init__(
        self,
        config: JudgementConfig,
        ledger: Ledger,
        reign: Reign,
        orders: Orders,
        replication: Replication,
        antientropy: AntiEntropy,
        refusals: Refusals,
        inventories: Inventories,
        pool: Pool,
    ) -> None:
        self.dropped: dict[str, int] = {}
        self._config = config
        self._ledger = ledger
        self._table = ledger.table
        self._reign = reign
        self._orders = orders
        self._replication = replication
        self._antientropy = antientropy
        self._refusals = refusals
        self._inventories = inventories
        self._pool = pool
        self._live: dict[TaskKey, dict[AttemptId, _Live]] = {}
        self._strays: dict[NodeId, dict[AttemptId, None]] = {}
        """Of the live ones, those that their cell does not name: they take room all the same."""
        self._untold: dict[AttemptId, tuple[AttemptReport, int]] = {}
        """What was said, and when, of jobs that are not known yet."""

    def clear(self) -> None:
        self._live.clear()
        self._strays.clear()
        self._untold.clear()

    def starts(self, job_id: JobId, first: int, last: int) -> dict[AttemptId, int]:
        """When what runs of these tasks was started, by the clocks of the PCs that run it."""
        return {
            attempt_id: live.started_unix_ms
            for task in range(first, last + 1)
            for attempt_id, live in self._live.get((job_id, task), {}).items()
            if live.started_unix_ms
        }

    def stray_need(self, node_id: NodeId) -> Resources:
        """What runs on a node and is not placed there by any cell (being stopped, mostly)."""
        need = Resources()
        for attempt_id in self._strays.get(node_id, ()):
            job = self._table.job(attempt_id.job_id)
            assert job is not None, "only attempts of known jobs are live"
            need = need.plus(job.spec.need)
        return need

    def review(self, job_id: JobId, task: int, now_ms: int) -> list[Output]:
        """Another reign's decision on this task became known."""
        return self._resolve(job_id, task, now_ms)

    def is_at_crash_limit(self, job_id: JobId, task: int) -> bool:
        """Did PCs go down too often under this task, which is not over yet?"""
        job = self._table.job(job_id)
        if job is None or self._table.is_task_over(job_id, task):
            return False
        return decisions.is_at_crash_limit(job, self._table.ends(job_id, task))

    def take_in(self, sender: NodeId, jobs: Iterable[Job]) -> list[Output]:
        """Jobs that a worker was asked for; each counts by the signature of who submitted it."""
        awaited = {attempt_id.job_id for attempt_id in self._untold if attempt_id.node_id == sender}
        patches = [JobPatch(job.job_id, job) for job in jobs if job.job_id in awaited]
        return [*self._ledger.persist(self._ledger.merge(patches))]

    def learn(self, job_id: JobId, now_ms: int) -> list[Output]:
        """A job came that workers may have spoken of: what they said counts now."""
        outputs: list[Output] = []
        for attempt_id in [a for a in self._untold if a.job_id == job_id]:
            report, heard_ms = self._untold.pop(attempt_id)
            if report.stage is Stage.RUNNING:
                report = replace(report, running_ms=report.running_ms + now_ms - heard_ms)
            outputs += self.on_reports(attempt_id.node_id, (report,), now_ms)
        return outputs

    def conclude(self, job_id: JobId, task: int, now_ms: int) -> list[Output]:
        """Ends came from elsewhere: of what this reign still waits for, or one crash too many."""
        cell = self._table.cell(job_id, task)
        attempt_id = cell.attempt_id
        if self._table.job(job_id) is None:
            return []
        if self.is_at_crash_limit(job_id, task):
            return self._resolve(job_id, task, now_ms)
        if attempt_id is None or not is_active(cell):
            return []
        known = self._table.ends(job_id, task).get(attempt_id)
        is_live = attempt_id in self._live.get((job_id, task), {})
        if known is None or is_live or self._orders.is_stopping(attempt_id):
            return []
        if is_conclusion(known) and not self._orders.is_assigned(attempt_id):
            return []  # Its node will say.
        return self._lose(attempt_id, known.reason, now_ms)

    def on_reports(
        self, sender: NodeId, reports: Iterable[AttemptReport], now_ms: int
    ) -> list[Output]:
        outputs: list[Output] = []
        unknown: dict[JobId, None] = {}
        for report in reports:
            attempt_id = report.attempt_id
            job = self._table.job(attempt_id.job_id)
            if attempt_id.node_id != sender:
                self._drop("not_its_attempt")
            elif self._table.is_forgotten(attempt_id.job_id):
                posts = self._orders.dismiss(attempt_id, report.end, now_ms)
                outputs += self._ledger.persist((self._table.patch(attempt_id.job_id),), posts)
            elif job is None:
                unknown[attempt_id.job_id] = None
                self._remember(report, now_ms)
            elif attempt_id.task >= job.spec.tasks:
                self._drop("report_not_sound")
            elif report.end is not None:
                outputs += self._on_end(job, attempt_id, report.end, now_ms)
            else:
                outputs += self._on_live(report, now_ms)
        if unknown and not self._pool.is_keeper(sender):
            self._inventories.want(sender, unknown)
        return outputs + self._antientropy.want(sender, unknown)

    def on_inventory(
        self, node_id: NodeId, reports: Sequence[AttemptReport], now_ms: int
    ) -> list[Output]:
        """All that a node runs: what the table places there besides is lost."""
        listed = {report.attempt_id: None for report in reports}
        self._forget_live(node_id, listed)
        self._orders.let_go_of(node_id, listed)
        outputs = self.on_reports(node_id, reports, now_ms)
        for attempt_id in self._ledger.board.attempts_on(node_id):
            if attempt_id not in listed and not self._orders.is_unheard(attempt_id):
                outputs += self._lose(attempt_id, "its node does not know it", now_ms)
        return outputs

    def lose_node(self, node_id: NodeId, reason: str, now_ms: int) -> list[Output]:
        """A node is gone: what it ran is lost, and nobody's failure."""
        self._forget_live(node_id, {})
        self._orders.let_go_of(node_id)
        outputs: list[Output] = []
        for attempt_id in self._ledger.board.attempts_on(node_id):
            outputs += self._lose(attempt_id, reason, now_ms)
        return outputs

    def jobs(self) -> set[JobId]:
        """Of which something is said to run."""
        return {job_id for job_id, _ in self._live}

    def bury(self, job_id: JobId, now_ms: int) -> list[Output]:
        """A tombstone came: it stops what runs of that job, as a decision would."""
        live = [a for rivals in self._live.values() for a in rivals if a.job_id == job_id]
        for attempt_id in live:
            self._forget(attempt_id)
        for attempt_id in [a for a in self._untold if a.job_id == job_id]:
            del self._untold[attempt_id]
        posts = self._orders.bury(job_id, live, now_ms)
        return [*self._ledger.persist((self._table.patch(job_id),), posts)] if posts else []

    def cancel(self, job_id: JobId, now_ms: int) -> list[Output]:
        """A job was cancelled: what runs of it is stopped."""
        return [*self._orders.stop(self._ledger.board.attempts_of(job_id), "cancelled", now_ms)]

    def check(self) -> None:
        for key, rivals in self._live.items():
            for attempt_id in rivals:
                assert (attempt_id.job_id, attempt_id.task) == key
        for attempts in self._strays.values():
            for attempt_id in attempts:
                assert attempt_id in self._live[(attempt_id.job_id, attempt_id.task)]

    # --- Inside ----------------------------------------------------------------------------------

    def _drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def _block(self, job_id: JobId, task: int, cell: Cell) -> list[Output]:
        self._drop("decided_by_a_later_reign")
        self._reign.block(job_id, task, cell)
        return []

    def _on_live(self, report: AttemptReport, now_ms: int) -> list[Output]:
        attempt_id = report.attempt_id
        job_id, task = attempt_id.job_id, attempt_id.task
        known = self._table.ends(job_id, task).get(attempt_id)
        if self._orders.is_stopping(attempt_id):
            return []
        if known is not None and not is_conclusion(known):
            return [*self._orders.stop([attempt_id], "it has ended already", now_ms)]
        is_running = report.stage is Stage.RUNNING
        self._orders.heard(attempt_id, is_running=is_running)
        if is_running:
            self._refusals.forgive(job_id, attempt_id.node_id)
        stage = Stage.RUNNING if is_running else Stage.STARTING
        rivals = self._live.setdefault((job_id, task), {})
        before = rivals.get(attempt_id)
        if before is None or before.stage <= stage:  # It never moves back: that was on its way.
            since_ms = now_ms - report.running_ms
            rivals[attempt_id] = _Live(since_ms, stage, report.started_unix_ms)
        return self._resolve(job_id, task, now_ms)

    def _remember(self, report: AttemptReport, now_ms: int) -> None:
        """Of a job that is not known yet."""
        if report.attempt_id in self._untold or len(self._untold) < UNTOLD_MAX:
            self._untold[report.attempt_id] = (report, now_ms)

    def _on_end(self, job: Job, attempt_id: AttemptId, end: End, now_ms: int) -> list[Output]:
        """An outcome: decide what follows, make it safe, then let the worker forget it."""
        job_id, task, epoch = job.job_id, attempt_id.task, self._reign.current()
        receipt = Receipt(attempt_id.node_id, attempt_id=attempt_id)
        cell = self._table.cell(job_id, task)
        is_over = cell.success or cell.final
        # Its end may be known and yet its cell name it: another reign's decision came later.
        is_named = is_active(cell) and cell.attempt_id == attempt_id
        is_waiting = self._replication.is_waiting(receipt)
        if (is_waiting and not is_named) or (self._replication.is_full() and not is_waiting):
            return []
        if not is_over and not decisions.may_decide(cell, epoch):
            return self._block(job_id, task, cell)
        self._let_go(attempt_id)
        known = self._table.ends(job_id, task).get(attempt_id)
        is_news = end != known
        if known is not None and not is_conclusion(known):
            end = known
        if known is None or is_conclusion(known) or is_named:
            after = None
            if not is_over:
                for_good = self._is_refused_for_good(job, attempt_id, end)
                after = decisions.after_end(
                    self._table, job, attempt_id, end, epoch, is_refused_for_good=for_good
                )
            self._note(cell, after, AttemptEnd(attempt_id, end))
            if after is not None and after.stage is Stage.PENDING:
                self._back_off(attempt_id, end, now_ms)
        outputs = self._resolve(job_id, task, now_ms)
        near = (attempt_id.node_id, job.submitter_id)
        patch = self._task_patch(job_id, task)
        if is_waiting:
            return [*self._ledger.persist((patch,)), *outputs]
        return self._replication.commit((patch,), receipt, now_ms, *near, is_news=is_news) + outputs

    def _note(self, cell: Cell, after: Cell | None, entry: AttemptEnd) -> None:
        job_id, task = entry.attempt_id.job_id, entry.attempt_id.task
        if after is None:
            patch = JobPatch(job_id, tasks=(TaskPatch(task, task, cell, (entry,)),))
            self._ledger.merge((patch,))
        else:
            self._ledger.decide(after, job_id, task, entry)

    def _back_off(self, attempt_id: AttemptId, end: End, now_ms: int) -> None:
        """The next attempt waits a while, or goes elsewhere."""
        job_id, task = attempt_id.job_id, attempt_id.task
        if end.state is EndState.REFUSED:
            is_passing = end.reason in PASSING
            self._refusals.note(job_id, attempt_id.node_id, now_ms, is_passing=is_passing)
        elif end.state in FAILURES:
            failures = self._table.failures(job_id, task)
            assert failures > 0, "it has just been noted"
            config = self._config
            wait_ms = config.failure_backoff_ms << min(failures - 1, BACKOFF_DOUBLINGS_MAX)
            until_ms = now_ms + min(wait_ms, config.failure_backoff_ms_max)
            self._ledger.board.hold_back(job_id, task, until_ms)

    def _is_refused_for_good(self, job: Job, attempt_id: AttemptId, end: End) -> bool:
        """Has every node that could take it said no often enough, this one just now?"""
        if end.state is not EndState.REFUSED or end.reason in PASSING:
            return False
        peers = self._pool.peers.items()
        others = able(job.spec, ((node_id, peer.name, peer.facts) for node_id, peer in peers))
        return self._refusals.is_for_good(job.job_id, attempt_id.node_id, others)

    def _lose(self, attempt_id: AttemptId, reason: str, now_ms: int) -> list[Output]:
        """Conclude that the attempt its cell names is gone."""
        job_id, task, epoch = attempt_id.job_id, attempt_id.task, self._reign.current()
        cell = self._table.cell(job_id, task)
        if cell.attempt_id != attempt_id or not decisions.may_decide(cell, epoch):
            return self._block(job_id, task, cell)
        self._let_go(attempt_id)
        job = self._table.job(job_id)
        assert job is not None, "only attempts of known jobs are on the board"
        # Perhaps its end is known already, from another reign: then that is what it came to.
        known = self._table.ends(job_id, task).get(attempt_id)
        end = known if known is not None else End(EndState.LOST, reason=reason)
        after = decisions.after_end(self._table, job, attempt_id, end, epoch)
        assert after is not None, "the end of what the cell names calls for a decision"
        news = self._ledger.decide(after, job_id, task, AttemptEnd(attempt_id, end))
        return [*self._ledger.persist(news), *self._resolve(job_id, task, now_ms)]

    def _forget_live(self, node_id: NodeId, kept: Mapping[AttemptId, None]) -> None:
        """What this node was thought to run, but for what is kept, it does not."""
        for attempt_id in [a for a in self._untold if a.node_id == node_id and a not in kept]:
            del self._untold[attempt_id]
        for rivals in list(self._live.values()):
            for attempt_id in [a for a in rivals if a.node_id == node_id and a not in kept]:
                self._forget(attempt_id)

    def _let_go(self, attempt_id: AttemptId) -> None:
        self._orders.let_go(attempt_id)
        self._forget(attempt_id)

    def _forget(self, attempt_id: AttemptId) -> None:
        self._settle_stray(attempt_id)
        key = (attempt_id.job_id, attempt_id.task)
        rivals = self._live.get(key, {})
        rivals.pop(attempt_id, None)
        if not rivals:
            self._live.pop(key, None)

    def _settle_stray(self, attempt_id: AttemptId) -> None:
        strays = self._strays.get(attempt_id.node_id, {})
        strays.pop(attempt_id, None)
        if not strays:
            self._strays.pop(attempt_id.node_id, None)

    def _resolve(self, job_id: JobId, task: int, now_ms: int) -> list[Output]:
        """Make the cell and what is live agree; see the top of this file."""
        ends = self._table.ends(job_id, task)
        for attempt_id in list(self._live.get((job_id, task), {})):
            # Another reign has seen its end: a report that was still on its way made it live.
            known = ends.get(attempt_id)
            if known is not None and not is_conclusion(known):
                self._let_go(attempt_id)
        if self.is_at_crash_limit(job_id, task):
            outputs = self._give_up(job_id, task, now_ms)
        else:
            outputs = self._reconcile(job_id, task, now_ms)
        cell = self._table.cell(job_id, task)
        for attempt_id in self._live.get((job_id, task), {}):
            if is_active(cell) and attempt_id == cell.attempt_id:
                self._settle_stray(attempt_id)
            else:
                self._strays.setdefault(attempt_id.node_id, {})[attempt_id] = None
        return outputs

    def _give_up(self, job_id: JobId, task: int, now_ms: int) -> list[Output]:
        """PCs went down under this task too often: whoever runs it now is spared that."""
        epoch, cell = self._reign.current(), self._table.cell(job_id, task)
        if not decisions.may_decide(cell, epoch):
            return self._block(job_id, task, cell)
        live = dict.fromkeys(self._live.get((job_id, task), {}))
        if is_active(cell) and cell.attempt_id is not None:
            live[cell.attempt_id] = None
        stops = self._orders.stop(sorted(live), "its PCs went down too often", now_ms)
        after = decisions.given_up(cell, epoch, self._table.ends(job_id, task))
        return [*self._ledger.persist(self._ledger.decide(after, job_id, task), stops)]

    def _reconcile(self, job_id: JobId, task: int, now_ms: int) -> list[Output]:
        epoch = self._reign.current()
        rivals = self._live.get((job_id, task), {})
        live = {a: word for a, word in rivals.items() if not self._orders.is_stopping(a)}
        cell = self._table.cell(job_id, task)
        if not live:
            return []
        if self._table.is_task_over(job_id, task):
            stops = self._orders.stop(sorted(live), "its task is over", now_ms)
            return [*self._ledger.persist((self._task_patch(job_id, task),), stops)]
        if not decisions.may_decide(cell, epoch):
            return self._block(job_id, task, cell)
        current = cell.attempt_id if is_active(cell) else None
        if current is not None and current not in live:
            if not self._orders.is_assigned(current):
                return []
            live[current] = _Live(now_ms, cell.stage)
        kept = min(
            live,
            key=lambda a: (live[a].stage is not Stage.RUNNING, live[a].since_ms, a != current, a),
        )
        stage = live[kept].stage
        stops = self._orders.stop(sorted(a for a in live if a != kept), "another stands", now_ms)
        # Who stops a rival decides anew, under the newest number: another reign may have decided
        # for the rival, under a number between, and tables that say so are on their way.
        has_decided = cell.epoch == epoch or (not stops and cell.epoch in self._reign.epochs)
        if kept == current and has_decided:
            if stage <= cell.stage:
                return [*stops]
            after = Cell(False, cell.generation, False, cell.epoch, cell.turn, stage, kept)
        else:
            after = decisions.adopted(cell, epoch, kept, stage)
        return [*self._ledger.persist(self._ledger.decide(after, job_id, task), stops)]

    def _task_patch(self, job_id: JobId, task: int) -> JobPatch:
        ends = tuple(AttemptEnd(a, e) for a, e in self._table.ends(job_id, task).items())
        cell = self._table.cell(job_id, task)
        return JobPatch(job_id, tasks=(TaskPatch(task, task, cell, ends),))
