"""What one node knows of one job: its spec, its cancel, a cell and ends for each task.

It only grows (orders: cells.py). Tasks nobody has decided on are implicit, so an array of
100,000 tasks costs a byte a task until work starts. Kept along with it, never computed anew:
a digest of the content and the state of each task.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import compress
from sys import intern

from msgspec.msgpack import Encoder
from msgspec.structs import replace

from rain.model import NO_EPOCH, AttemptId, End, Job, JobId, NodeId, Value
from rain.sched.cells import FAILURES, UNDECIDED, cell_key, join_ends
from rain.sched.messages import (
    NOT_CANCELLED,
    AttemptEnd,
    Cancel,
    Cell,
    JobPatch,
    TaskPatch,
)
from rain.sched.states import TaskState, is_over, task_state

DIGEST_BYTES = 8

_SUCCEEDED = bytes((TaskState.SUCCEEDED,))
_IS_OPEN = bytes(code < TaskState.SUCCEEDED for code in range(256))

_encode = Encoder().encode


Content = int | Value | Cancel | tuple[int, Cell] | tuple[object, ...]


def element(kind: str, job_id: JobId, content: Content = 0) -> int:
    """The digest of one piece of knowledge; a job's digest is the XOR over all it consists of."""
    packed = _encode((kind, job_id, content))
    return int.from_bytes(blake2b(packed, digest_size=DIGEST_BYTES).digest(), "big")


def end_element(job_id: JobId, entry: AttemptEnd) -> int:
    """Of the end of one attempt.

    As it was before an end could say that its PC had crashed, where this one does not say so: two
    versions of Rain must find equal tables equal.
    """
    end = entry.end
    if end.crashed:
        return element("end", job_id, entry)
    times = (end.started_unix_ms, end.ended_unix_ms)
    told = (end.state, end.exit_code, end.reason, *times)
    return element("end", job_id, (entry.attempt_id, told))


def pack_tasks(rows: Iterable[tuple[int, Cell, tuple[AttemptEnd, ...]]]) -> list[TaskPatch]:
    """Rows in order of task, as few patches as possible: equal cells without ends form ranges."""
    packed: list[TaskPatch] = []
    for task, cell, ends in rows:
        before = packed[-1] if packed else None
        if (
            before is not None
            and not ends
            and not before.ends
            and before.last + 1 == task
            and before.cell == cell
        ):
            packed[-1] = TaskPatch(before.first, task, cell)
        else:
            packed.append(TaskPatch(task, task, cell, ends))
    return packed


class JobKnowledge:
    """Grows by the `learn_` methods; each says whether (or what) it did not know."""

    __slots__ = (
        "_cancel",
        "_ends",
        "_epoch",
        "_failures",
        "_finished",
        "_generations",
        "_states",
        "cells",
        "counts",
        "digest",
        "job",
        "job_id",
    )

    def __init__(self, job_id: JobId) -> None:
        self.job_id = job_id
        self.job: Job | None = None
        self._cancel = NOT_CANCELLED
        self.cells: dict[int, Cell] = {}
        self.digest = 0
        self.counts = [0] * len(TaskState)
        """How many tasks are in each state; zeros while the spec is unknown."""
        self._ends: dict[int, tuple[AttemptEnd, ...]] = {}
        self._failures: dict[int, int] = {}
        """Of tasks that failed at all."""
        self._generations: dict[int, int] = {}
        """How many cells are of each generation after the first."""
        self._states = bytearray()
        """One byte a task, its TaskState, once the spec is known."""
        self._finished = (0, 0)
        """The newest end of all, and the digest for which that is true."""
        self._epoch = NO_EPOCH
        """The one seen last, to be shared (see _shared)."""

    @property
    def cancelled_through(self) -> int:
        return self._cancel.cancelled_through

    def is_empty(self) -> bool:
        return not (self.job or self.cancelled_through or self.cells or self._ends)

    def cell(self, task: int) -> Cell:
        return self.cells.get(task, UNDECIDED)

    def ends(self, task: int) -> dict[AttemptId, End]:
        return {entry.attempt_id: entry.end for entry in self.entries(task)}

    def entries(self, task: int) -> tuple[AttemptEnd, ...]:
        """The same, in order of attempt id."""
        return self._ends.get(task, ())

    def failures(self, task: int) -> int:
        return self._failures.get(task, 0)

    def tasks(self) -> list[int]:
        """Those with a cell or ends of their own, sorted."""
        return sorted(self.cells.keys() | self._ends.keys())

    def tasks_known(self) -> int:
        """How many tasks it has; while that is unknown, of how many there is knowledge."""
        if self.job is not None:
            return self.job.spec.tasks
        return len(self.cells) + len(self._ends)

    def generation(self) -> int:
        """The newest that any task is in."""
        return max(self._generations, default=UNDECIDED.generation)

    def is_over(self, task: int) -> bool:
        return is_over(self.cell(task), self.cancelled_through)

    def state(self, task: int) -> TaskState:
        cell = self.cell(task)
        return task_state(cell, self._end_of(task, cell), self.cancelled_through)

    def is_job_over(self) -> bool:
        return self.job is not None and not any(self.counts[: TaskState.SUCCEEDED])

    def first_unsuccessful(self) -> int | None:
        """The first task that has not succeeded."""
        task = len(self._states) - len(self._states.lstrip(_SUCCEEDED))
        return task if task < len(self._states) else None

    def finished_unix_ms(self) -> int:
        """When the last attempt ended; 0: none did."""
        if self._finished[1] != self.digest:
            ended = (entry.end.ended_unix_ms for row in self._ends.values() for entry in row)
            self._finished = (max(ended, default=0), self.digest)
        return self._finished[0]

    def open_tasks(self) -> list[int]:
        """Tasks that are not over, sorted; none while the spec is unknown."""
        if not any(self.counts[: TaskState.SUCCEEDED]):
            return []
        return list(compress(range(len(self._states)), self._states.translate(_IS_OPEN)))

    def learn_job(self, job: Job) -> list[tuple[int, Cell]]:
        """Returns the cells that were nonsense: of tasks that this job does not have."""
        assert self.job is None
        assert job.job_id == self.job_id
        self.job = job
        self.digest ^= element("job", self.job_id)
        strays = [task for task in self.tasks() if task >= job.spec.tasks]
        forgotten = [(task, self._forget(task)) for task in strays]
        self._derive_states(job)
        return forgotten

    def cancel(self) -> Cancel:
        """The largest that was learnt."""
        return self._cancel

    def learn_cancel(self, cancel: Cancel) -> bool:
        before = self._cancel
        if not cancel.cancelled_through or cancel <= before:
            return False
        if before.cancelled_through:
            self.digest ^= element("cancel", self.job_id, before)
        self._cancel = cancel
        self.digest ^= element("cancel", self.job_id, cancel)
        if self.job is not None and cancel.cancelled_through > before.cancelled_through:
            self._derive_states(self.job)
        return True

    def learn_cell(self, task: int, cell: Cell) -> bool:
        before = self.cells.get(task, UNDECIDED)
        if cell == before or cell_key(cell) <= cell_key(before):
            return False
        if before is not UNDECIDED:
            self.digest ^= element("cell", self.job_id, (task, before))
        self.digest ^= element("cell", self.job_id, (task, cell))
        self._count_generation(before.generation, -1)
        self._count_generation(cell.generation, 1)
        if cell.attempt_id is not None:
            attempt_id = self._shared(task, cell.attempt_id)
            epoch = self._epoch if cell.epoch == self._epoch else cell.epoch
            cell = replace(cell, epoch=epoch, attempt_id=attempt_id)
        self.cells[task] = cell
        self._derive_state(task)
        return True

    def learn_ends(self, task: int, theirs: tuple[AttemptEnd, ...]) -> list[AttemptId]:
        """Returns the attempts whose end is news (what the cap drops is none)."""
        before = self.entries(task)
        after = join_ends(before, theirs)
        if after == before:
            return []
        news = [entry for entry in after if entry not in before]
        for entry in (*(entry for entry in before if entry not in after), *news):
            self.digest ^= end_element(self.job_id, entry)
        self._ends[task] = tuple(
            AttemptEnd(self._shared(task, entry.attempt_id), entry.end) for entry in after
        )
        failures = sum(entry.end.state in FAILURES for entry in after)
        if failures:
            self._failures[task] = failures
        else:
            self._failures.pop(task, None)
        self._derive_state(task)
        return [entry.attempt_id for entry in news]

    def patch(self, first: int = 0, tasks_max: int | None = None) -> JobPatch:
        """All of it, or so many tasks from `first` on.

        May hold more than PATCH_TASKS_MAX: for the wire see ledger.frames.
        """
        ids = self.tasks()
        start = bisect_left(ids, first)
        ids = ids[start:] if tasks_max is None else ids[start : start + tasks_max]
        tasks = pack_tasks((task, self.cell(task), self.entries(task)) for task in ids)
        return JobPatch.of_parts(self.job_id, self.job, self._cancel, tuple(tasks))

    def check(self) -> None:
        """Everything kept along equals what it is kept for."""
        assert not self.is_empty()
        assert self.digest == self._digest_anew(), "the digest is that of the content"
        assert UNDECIDED not in self.cells.values(), "the smallest cell is implicit"
        generations = [cell.generation for cell in self.cells.values()]
        assert self.generation() == max(generations, default=UNDECIDED.generation)
        if self.job is not None:
            assert all(task < self.job.spec.tasks for task in self.tasks())
        self.check_tasks(self.tasks() if self.job is None else range(self.job.spec.tasks))

    def check_tasks(self, tasks: Iterable[int]) -> None:
        """The same for these tasks, and what is counted over all; not the digest of all."""
        if self.job is not None:
            assert len(self._states) == sum(self.counts) == self.job.spec.tasks
            assert self.counts == [self._states.count(state) for state in TaskState]
        for task in tasks:
            if self.job is not None:
                code = self._states[task]
                assert code == self.state(task), f"the state of task {task}"
                assert TaskState(code).is_end == self.is_over(task)
            failures = sum(entry.end.state in FAILURES for entry in self.entries(task))
            assert self.failures(task) == failures, f"failures of task {task}"

    def _elements(self) -> Iterator[int]:
        if self.job is not None:
            yield element("job", self.job_id)
        if self.cancelled_through:
            yield element("cancel", self.job_id, self._cancel)
        for task, cell in self.cells.items():
            yield element("cell", self.job_id, (task, cell))
        for entries in self._ends.values():
            for entry in entries:
                yield end_element(self.job_id, entry)

    def _digest_anew(self) -> int:
        digest = 0
        for part in self._elements():
            digest ^= part
        return digest

    def _shared(self, task: int, attempt_id: AttemptId) -> AttemptId:
        """An equal one of shared parts: freshly decoded ones would cost 400 bytes more a task."""
        known = self.cell(task).attempt_id
        if known == attempt_id:
            return known
        if attempt_id.epoch != self._epoch:
            self._epoch = attempt_id.epoch
        return AttemptId(
            self.job_id, task, attempt_id.number, self._epoch, NodeId(intern(attempt_id.node_id))
        )

    def _end_of(self, task: int, cell: Cell) -> End | None:
        for entry in self._ends.get(task, ()):
            if entry.attempt_id == cell.attempt_id:
                return entry.end
        return None

    def _derive_state(self, task: int) -> None:
        if self.job is not None:
            state = self.state(task)
            self.counts[self._states[task]] -= 1
            self.counts[state] += 1
            self._states[task] = state

    def _derive_states(self, job: Job) -> None:
        """Of all tasks: those nobody has decided on are in the same state."""
        undecided = task_state(UNDECIDED, None, self.cancelled_through)
        self._states = bytearray((undecided,)) * job.spec.tasks
        for task in self.tasks():
            self._states[task] = self.state(task)
        self.counts = [self._states.count(state) for state in TaskState]

    def _count_generation(self, generation: int, by: int) -> None:
        if generation > UNDECIDED.generation:
            count = self._generations.get(generation, 0) + by
            if count:
                self._generations[generation] = count
            else:
                del self._generations[generation]

    def _forget(self, task: int) -> Cell:
        cell = self.cells.pop(task, UNDECIDED)
        if cell is not UNDECIDED:
            self.digest ^= element("cell", self.job_id, (task, cell))
            self._count_generation(cell.generation, -1)
        for entry in self.entries(task):
            self.digest ^= end_element(self.job_id, entry)
        self._ends.pop(task, None)
        self._failures.pop(task, None)
        return cell
