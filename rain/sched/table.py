"""The job table: what this node knows of all jobs. A join-semilattice.

Roles. Every node holds a copy. Coordinators decide (`decide`), everybody merges what others
know (`merge`), and both give the news: exactly what was not known here before, to be written
down (`records`) and passed on. Copies that differ find out by digests: one of the whole table
in every heartbeat, then one per job, then whole jobs as patches.

Invariants. 1. `merge` is commutative, associative and idempotent, over patches whole or split,
and merging the news of one copy into an equal one makes them equal again. 2. Two tables have
the same digest exactly if they hold the same (64 bits: one chance in 10^19 to be wrong).
3. Knowledge only grows; no cell ever goes down, so nothing that was decided is undone. 4. The
rows of any prefix of the writes give a table that knows no more than this one.

Peers' nonsense (a job that its submitter did not sign, tasks it does not have, attempts of
others) is dropped and counted in `dropped`; whether a patch is nonsense never depends on what
came before it, or the order of merging would matter. So a task beyond the spec is dropped when
the patch comes after the spec, and forgotten when it came before. What looks at what is there
already only puts off: the bounds (JOBS_MAX, UNKNOWN_JOBS_MAX, UNKNOWN_TASKS_MAX), and what is
judged by the roll (warrants.py): who submitted a job, and a cancel, whose job has to be known too.
Such a table says so by `dropped`, differs, and learns the rest by anti-entropy when it can.

Jobs and cancels count by the signature of who made them, whoever brings them. Cells and ends do
not: they are decisions, and every member may come to coordinate; members are trusted for them.

A job may be known by its cells before its spec arrives: such a job counts in digests and patches
(so that the spec is fetched), and is no job yet for `job` and `jobs`.

A job that was forgotten (tombstones.py) is its tombstone, which absorbs everything else of it:
spec, cells, ends, cancel, whether they come before or after.

What it does not do: decide anything, choose what to forget, know who holds copies.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from itertools import islice

from rain.effects import Record
from rain.model import AttemptId, End, Job, JobId, NodeId
from rain.sched.active import ActiveAttempts
from rain.sched.cells import UNDECIDED, cell_key, is_active
from rain.sched.identity import is_named_rightly, oversize
from rain.sched.knowledge import DIGEST_BYTES, JobKnowledge
from rain.sched.messages import (
    HORIZON,
    AttemptEnd,
    Cancel,
    Cell,
    JobDigest,
    JobPatch,
    TaskPatch,
)
from rain.sched.news import News
from rain.sched.records import (
    CancelRow,
    HorizonRow,
    JobRow,
    TableRecord,
    TaskRow,
    TombstoneRow,
    keys_of,
    patch_of,
)
from rain.sched.soundness import fault_of
from rain.sched.states import TaskState
from rain.sched.tombstones import Tombstones, is_job_id
from rain.sched.warrants import JOB_NOT_AUTHENTIC, Warrants

JOBS_MAX = 50_000
"""Jobs in one table; patches for more are dropped and counted."""
UNKNOWN_JOBS_MAX = 1_000
"""Of these, jobs whose spec is not known yet. One round of anti-entropy brings it."""
UNKNOWN_TASKS_MAX = 1_000
"""Of a job whose spec is unknown, tasks told of in ranges: few bytes that cost as many cells."""
CHECK_TASKS_MAX = 1_000
"""Jobs of so many tasks are checked whole; of larger ones the tasks that changed."""

_NOTHING = JobKnowledge(JobId(""))
"""What is known of a job that was never heard of."""


class Table:
    """All jobs a node knows of. Reads are cheap; what is read out must not be changed."""

    def __init__(self, recovered: Iterable[Record], warrants: Warrants) -> None:
        self.dropped: dict[str, int] = {}
        self._warrants = warrants
        self._known: dict[JobId, JobKnowledge] = {}
        self._ids: list[JobId] = []
        """All, sorted; `_job_ids` those whose spec is known."""
        self._job_ids: list[JobId] = []
        self._digest = 0
        self._active = ActiveAttempts()
        self._unchecked: dict[JobId, dict[int, None]] = {}
        """Tasks that changed since the last check, by job."""
        self._checked_ids = (0, 0)
        self.tombstones = Tombstones()
        self._buried: dict[str, None] = {}
        """Keys of rows on disk that a tombstone has made void: see `take_buried`."""
        self._is_recovering = False
        rows = [record for record in recovered if isinstance(record, TableRecord)]
        # Specs first, so that rows without one are known for what they are; tombstones before
        # them, to find what a power cut has left of the jobs below.
        self.take_back(patch_of(row) for row in rows if isinstance(row, TombstoneRow))
        self.take_back(patch_of(row) for row in rows if isinstance(row, HorizonRow))
        self.take_back(patch_of(row) for row in rows if isinstance(row, JobRow))
        self.take_back(patch_of(row) for row in rows if isinstance(row, CancelRow | TaskRow))

    # --- What grows it ---------------------------------------------------------------------------

    def merge(
        self, patches: Iterable[JobPatch], *, is_vouched: bool = False
    ) -> tuple[JobPatch, ...]:
        """The join. Returns the news: what of it was not known here; () if nothing was.

        `is_vouched`: by the coordinator that is followed; see warrants.py.
        """
        news: dict[JobId, News] = {}
        stones: list[JobPatch] = []
        for patch in patches:
            if patch.forgotten:
                stones += self._bury(patch)
                continue
            if patch.job_id in self.tombstones:
                if self._is_recovering:  # left on this disk by a power cut
                    self._buried.update(dict.fromkeys(keys_of(patch)))
                continue
            known = self._admit(patch, is_vouched)
            if known is not None:
                before = known.digest
                self._absorb(known, patch, news.setdefault(patch.job_id, News()))
                self._digest ^= before ^ known.digest
                self._settle(known)
        for job_id, fresh in news.items():
            if job_id in self._known:
                self._unchecked.setdefault(job_id, {}).update(fresh.tasks())
        return tuple(
            patch
            for job_id, fresh in news.items()
            if job_id in self._known
            for patch in fresh.patches(self._known[job_id])
        ) + tuple(stones)

    def take_back(self, patches: Iterable[JobPatch]) -> tuple[JobPatch, ...]:
        """Merge what was on this disk: it was verified when it came.

        Who signed it may be forgotten by now.
        """
        self._is_recovering = True
        try:
            return self.merge(patches)
        finally:
            self._is_recovering = False

    def decide(
        self, job_id: JobId, task: int, cell: Cell, ends: Iterable[AttemptEnd] = ()
    ) -> tuple[JobPatch, ...]:
        """Merge one decision of this node. Returns the news."""
        before = self.cell(job_id, task)
        assert self.job(job_id) is not None, "only known jobs are decided on"
        assert not before.success, "no later outcome changes a committed success"
        assert cell_key(cell) > cell_key(before), f"a decision rises: {before} to {cell}"
        decision = TaskPatch(task, task, cell, tuple(ends))
        news = self.merge((JobPatch(job_id, tasks=(decision,)),))
        assert self.cell(job_id, task) == cell, f"a decision is sound: {cell}"
        return news

    def forget(self, job_id: JobId) -> None:
        """As if it had never been heard of. To who keeps copies it would come back."""
        known = self._known.pop(job_id)
        for task in known.tasks():
            self._active.move(known.cell(task), UNDECIDED)
        self._digest ^= known.digest
        self._unchecked.pop(job_id, None)
        del self._ids[bisect_left(self._ids, job_id)]
        if known.job is not None:
            del self._job_ids[bisect_left(self._job_ids, job_id)]

    # --- What leaves it --------------------------------------------------------------------------

    def records(self, news: Iterable[JobPatch]) -> tuple[Record, ...]:
        """The rows to write for news of this table: each holds all that is known under its key."""
        rows: dict[str, Record] = {}
        for patch in news:
            known = self._of(patch.job_id)
            fresh: list[Record] = [*self.tombstones.rows(patch.job_id)]
            if patch.job is not None and known.job is not None:
                fresh.append(JobRow(patch.job))
            if patch.cancelled_through and known.cancelled_through:
                fresh.append(CancelRow(patch.job_id, *known.cancel()))
            for part in patch.tasks if known is not _NOTHING else ():
                fresh.extend(
                    TaskRow(patch.job_id, task, known.cell(task), known.entries(task))
                    for task in range(part.first, part.last + 1)
                )
            rows.update((row.key(), row) for row in fresh)
        for key in rows if self._buried else ():
            self._buried.pop(key, None)
        return tuple(rows.values())

    def take_buried(self, limit: int) -> tuple[str, ...]:
        """Keys of rows to delete, once each: what is left on this disk of forgotten jobs."""
        keys = tuple(islice(self._buried, limit))
        for key in keys:
            del self._buried[key]
        return keys

    def digest(self) -> bytes:
        """Of the whole table; equal tables, and no others, have equal digests."""
        return (self._digest ^ self.tombstones.digest).to_bytes(DIGEST_BYTES, "big")

    def job_digest(self, job_id: JobId) -> bytes:
        """Of what is compared under that id; zeros for a job nothing is known of."""
        known = self._known.get(job_id)
        digest = self.tombstones.entry_digest(job_id) if known is None else known.digest
        return digest.to_bytes(DIGEST_BYTES, "big")

    def digests(self, first: JobId, limit: int) -> tuple[JobDigest, ...]:
        """Of up to `limit` jobs from `first` on, sorted; those without a spec included.

        After all jobs come the days of forgetting.
        """
        start = bisect_left(self._ids, first)
        ids = self._ids[start : start + limit]
        jobs = [JobDigest(job_id, self.job_digest(job_id)) for job_id in ids]
        return (*jobs, *self.tombstones.digests(max(first, HORIZON), limit - len(jobs)))

    def patches(self, entry_id: JobId) -> list[JobPatch]:
        """All that is compared under that id: of a job, of a day of forgetting, of the horizon."""
        if entry_id in self._known:
            return [self.patch(entry_id)]
        return self.tombstones.patches(entry_id)

    def patch(self, job_id: JobId, first: int = 0, tasks_max: int | None = None) -> JobPatch:
        """All that is known of a job, or so many tasks from `first` on.

        For the wire see `ledger.frames`: this may be too large.
        """
        known = self._known.get(job_id)
        if known is None:
            return JobPatch(job_id, forgotten=self.tombstones.day(job_id))
        return known.patch(first, tasks_max)

    def refusal(self, patch: JobPatch, *, is_vouched: bool = False) -> str:
        """Why nothing of this patch is taken in, whatever room there is; '' if it is sound."""
        known, job = self._known.get(patch.job_id), patch.job
        if patch.forgotten:
            is_horizon = patch.job_id == HORIZON
            return "" if is_horizon else self.tombstones.refusal(patch.job_id, patch.forgotten)
        if not patch.is_orderly():
            return "tasks_not_in_order"
        if job is not None and (known is None or job != known.job):
            if oversize(job):
                return "job_too_large"
            if job.job_id != patch.job_id:
                return JOB_NOT_AUTHENTIC
            is_new = known is None or known.job is None
            refusal = self._job_refusal(job, is_new, is_vouched)
            if refusal:
                return refusal
        if not is_job_id(patch.job_id):
            return JOB_NOT_AUTHENTIC
        is_specless = job is None and (known is None or known.job is None)
        if is_specless and patch.tasks_count() - len(patch.tasks) > UNKNOWN_TASKS_MAX:
            return "unknown_tasks_max"
        return ""

    # --- What it tells ---------------------------------------------------------------------------

    def job(self, job_id: JobId) -> Job | None:
        return self._of(job_id).job

    def is_forgotten(self, job_id: JobId) -> bool:
        """Was it over, and is there only a tombstone of it?"""
        return job_id in self.tombstones

    def known_ids(self) -> tuple[JobId, ...]:
        """Jobs of which anything is known, sorted."""
        return tuple(self._ids)

    def jobs(self) -> tuple[JobId, ...]:
        """Jobs whose spec is known, sorted."""
        return tuple(self._job_ids)

    def cell(self, job_id: JobId, task: int) -> Cell:
        return self._of(job_id).cell(task)

    def ends(self, job_id: JobId, task: int) -> dict[AttemptId, End]:
        return self._of(job_id).ends(task)

    def failures(self, job_id: JobId, task: int) -> int:
        """Attempts that failed by the task's own doing, over all generations."""
        return self._of(job_id).failures(task)

    def cancelled(self, job_id: JobId) -> bool:
        """Is the newest generation of this job cancelled?"""
        known = self._of(job_id)
        return known.generation() <= known.cancelled_through

    def cancel_of(self, job_id: JobId) -> Cancel | None:
        """The one that stands, with its author; None: there was none."""
        known = self._of(job_id)
        return known.cancel() if known.cancelled_through else None

    def generation(self, job_id: JobId) -> int:
        """The newest that any task is in: what a cancel goes through."""
        return self._of(job_id).generation()

    def is_task_over(self, job_id: JobId, task: int) -> bool:
        """Succeeded, final, or cancelled: nothing more will be started for it."""
        return self._of(job_id).is_over(task)

    def is_job_over(self, job_id: JobId) -> bool:
        return self._of(job_id).is_job_over()

    def open_tasks(self, job_id: JobId) -> list[int]:
        """Tasks that are not over, sorted; none of a job whose spec is unknown."""
        return self._of(job_id).open_tasks()

    def decided_tasks(self, job_id: JobId) -> list[int]:
        """Tasks with a cell or ends of their own, sorted; all others are pending."""
        return self._of(job_id).tasks()

    def state(self, job_id: JobId, task: int) -> TaskState:
        return self._of(job_id).state(task)

    def state_counts(self, job_id: JobId) -> list[int]:
        """How many tasks are in each state, in the order of TaskState."""
        return list(self._of(job_id).counts)

    def first_unsuccessful(self, job_id: JobId) -> int | None:
        """The first task that has not succeeded; None: all have."""
        return self._of(job_id).first_unsuccessful()

    def finished_unix_ms(self, job_id: JobId) -> int:
        """When the last attempt of this job ended; 0: none did."""
        return self._of(job_id).finished_unix_ms()

    def attempts_on(self, node_id: NodeId) -> tuple[AttemptId, ...]:
        """Placed, starting or running there by the cells, sorted; of cancelled jobs too."""
        return self._active.on(node_id)

    def check(self) -> None:
        """Assert every invariant, in what changed since the last check.

        Of that some CHECK_TASKS_MAX tasks at a time, the rest at later calls: a node that runs a
        large array checks itself every second, and must not stand still for it.
        """
        sizes = (len(self._ids), len(self._job_ids))
        if sizes != self._checked_ids:
            self._checked_ids = sizes
            assert self._ids == sorted(self._known)
            assert self._job_ids == [i for i in self._ids if self._known[i].job is not None]
        assert len(self._ids) <= JOBS_MAX
        assert len(self._ids) - len(self._job_ids) <= UNKNOWN_JOBS_MAX
        digest = 0
        for known in self._known.values():
            digest ^= known.digest
        assert digest == self._digest, "the digest is the XOR of those of the jobs"
        self.tombstones.check()
        room = CHECK_TASKS_MAX
        while self._unchecked and room > 0:
            room -= self._check_some(next(iter(self._unchecked)), room)
        for attempt_id in self._active.all():
            assert self.cell(attempt_id.job_id, attempt_id.task).attempt_id == attempt_id

    # --- Inside ----------------------------------------------------------------------------------

    def _of(self, job_id: JobId) -> JobKnowledge:
        return self._known.get(job_id, _NOTHING)

    def _check_some(self, job_id: JobId, room: int) -> int:
        """Check one job, or `room` tasks of a large one. Returns what it has cost."""
        known, changed = self._known[job_id], self._unchecked[job_id]
        if known.tasks_known() <= CHECK_TASKS_MAX:
            del self._unchecked[job_id]
            known.check()
            tasks = known.tasks()
        else:
            tasks = list(islice(changed, room))
            for task in tasks:
                del changed[task]
            if not changed:
                del self._unchecked[job_id]
            known.check_tasks(task for task in tasks if task < known.tasks_known())
        for task in tasks:
            cell = known.cell(task)
            if is_active(cell) and cell.attempt_id is not None:
                assert cell.attempt_id in self._active
        return 1 + min(known.tasks_known(), room)

    def _drop(self, reason: str, count: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def _bury(self, patch: JobPatch) -> list[JobPatch]:
        """Join a tombstone, or the horizon: whatever else the patch says is absorbed by it."""
        job_id, day = patch.job_id, patch.forgotten
        reason = self.refusal(patch)
        if reason:
            self._drop(reason)
            return []
        if job_id == HORIZON:
            fallen = self.tombstones.raise_horizon(day)
            self._buried.update((TombstoneRow(each, 0).key(), None) for each in fallen or ())
            return [] if fallen is None else [JobPatch(HORIZON, forgotten=day)]
        if not self.tombstones.bury(job_id, day):
            return []
        if job_id in self._known:
            self._buried.update(dict.fromkeys(keys_of(self.patch(job_id))))
            self.forget(job_id)
        return [JobPatch(job_id, forgotten=day)]

    def _admit(self, patch: JobPatch, is_vouched: bool) -> JobKnowledge | None:
        """Where this patch goes; None for nonsense and for what finds no room."""
        job_id = patch.job_id
        known = self._known.get(job_id)
        job = patch.job
        reason = self.refusal(patch, is_vouched=is_vouched)
        if reason:
            self._drop(reason)
            return None
        if known is not None:
            wide = patch.tasks_count() - len(patch.tasks)
            is_specless = known.job is None and job is None
            if wide and is_specless and known.tasks_known() + wide > UNKNOWN_TASKS_MAX:
                self._drop("unknown_tasks_max")
                return None
            return known
        if len(self._ids) >= JOBS_MAX:
            self._drop("jobs_max")
            return None
        if job is None and len(self._ids) - len(self._job_ids) >= UNKNOWN_JOBS_MAX:
            self._drop("unknown_jobs_max")
            return None
        return JobKnowledge(job_id)

    def _job_refusal(self, job: Job, is_new: bool, is_vouched: bool) -> str:
        if self._is_recovering:
            return "" if is_named_rightly(job) else JOB_NOT_AUTHENTIC
        return self._warrants.job_refusal(job, is_new=is_new, is_vouched=is_vouched)

    def _cancel_refusal(self, known: JobKnowledge, cancel: Cancel) -> str:
        if self._is_recovering:
            return ""
        return self._warrants.cancel_refusal(known.job, cancel)

    def _absorb(self, known: JobKnowledge, patch: JobPatch, news: News) -> None:
        if patch.job is not None and known.job is None:
            forgotten = known.learn_job(patch.job)
            news.job = True
            for task, cell in forgotten:
                self._active.move(cell, UNDECIDED)
                news.cells.pop(task, None)
                news.ends.pop(task, None)
                self._drop("task_beyond_spec")
        cancel = patch.cancel()
        if cancel > known.cancel():
            refusal = self._cancel_refusal(known, cancel)
            if refusal:
                self._drop(refusal)
            elif known.learn_cancel(cancel):
                news.cancelled = True
        for part in patch.tasks:
            self._absorb_tasks(known, part, news)

    def _absorb_tasks(self, known: JobKnowledge, part: TaskPatch, news: News) -> None:
        first, last, cell = part.first, part.last, part.cell
        fault = fault_of(part, known.job_id)
        if fault:
            self._drop(fault)
            return
        if known.job is not None and last >= known.job.spec.tasks:
            self._drop("task_beyond_spec")
            last = known.job.spec.tasks - 1
        if not part.ends and cell == UNDECIDED:
            return  # what is implicit stays so, however many tasks are said to be so
        for task in range(first, last + 1):
            before = known.cell(task)
            if known.learn_cell(task, cell):
                self._active.move(before, known.cell(task))
                news.cells[task] = None
            if part.ends:
                fresh = known.learn_ends(task, part.ends)
                if fresh:
                    news.ends.setdefault(task, {}).update(dict.fromkeys(fresh))

    def _settle(self, known: JobKnowledge) -> None:
        """Keep the sorted lists in step; a patch that brought nothing leaves no trace."""
        job_id = known.job_id
        if known.is_empty():
            return
        if job_id not in self._known:
            self._known[job_id] = known
            insort(self._ids, job_id)
        index = bisect_left(self._job_ids, job_id)
        is_listed = self._job_ids[index : index + 1] == [job_id]
        if known.job is not None and not is_listed:
            self._job_ids.insert(index, job_id)
