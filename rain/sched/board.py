"""What waits and what is placed where: read off the table, kept up to date change by change.

The table answers questions about one task; the coordinator asks about all of them, a hundred
times a second. So every node keeps this index beside its table (a follower too: it may have to
coordinate within a second) and feeds it the news of every merge. It decides nothing and holds
nothing that could not be read off the table again.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable
from itertools import islice

from rain.model import AttemptId, JobId, NodeId, Resources, Stage
from rain.sched.cells import is_active
from rain.sched.messages import JobPatch
from rain.sched.table import CHECK_TASKS_MAX, Table

JobRank = tuple[int, int, JobId]
TaskKey = tuple[JobId, int]


class _Queue:
    """The waiting tasks of one job, smallest first. The heap may name tasks that left."""

    def __init__(self, rank: JobRank) -> None:
        self.rank = rank
        self.waiting: dict[int, None] = {}
        self._heap: list[int] = []

    def add(self, task: int) -> None:
        if task not in self.waiting:
            self.waiting[task] = None
            heapq.heappush(self._heap, task)

    def remove(self, task: int) -> None:
        self.waiting.pop(task, None)

    def first(self, count: int) -> list[int]:
        """The `count` smallest, which stay in the queue until the table says otherwise."""
        found: list[int] = []
        while self._heap and len(found) < count:
            task = heapq.heappop(self._heap)
            if task in self.waiting and (not found or task != found[-1]):
                found.append(task)
        for task in found:
            heapq.heappush(self._heap, task)
        return found


class Board:
    """Waiting tasks by job, active attempts by node."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._queues: dict[JobId, _Queue] = {}
        self._ranks: list[JobRank] = []
        self._delayed: list[tuple[int, JobId, int]] = []
        self._held_back: dict[TaskKey, int] = {}
        self._attempt_of: dict[TaskKey, AttemptId] = {}
        self._on_node: dict[NodeId, dict[AttemptId, None]] = {}
        self._used: dict[NodeId, Resources] = {}
        self._active: dict[JobId, int] = {}
        self._need: dict[JobId, Resources] = {}
        """Of a task, by job with an active attempt."""
        for job_id in table.jobs():
            self._read(job_id)

    def learn(self, news: Iterable[JobPatch]) -> None:
        """Bring the index up to what the table says of all that the news touches."""
        for patch in news:
            if patch.forgotten:
                self.forget(patch.job_id)
                self._read(patch.job_id)  # it may be back, where its tombstone fell at once
                continue
            if patch.job is not None or patch.cancelled_through:
                self._refresh(patch.job_id)
            if patch.job is not None:
                for task in self._table.decided_tasks(patch.job_id):
                    self._update(patch.job_id, task)
            for part in patch.tasks:
                for task in range(part.first, part.last + 1):
                    self._update(patch.job_id, task)

    def forget(self, job_id: JobId) -> None:
        """The table forgets this job."""
        self._drop_queue(job_id)
        for attempt_id in self.attempts_of(job_id):
            self._leave(attempt_id)

    # --- What waits ------------------------------------------------------------------------------

    def waiting_jobs(self) -> list[JobId]:
        """Jobs with a waiting task: by priority, then age, then id."""
        return [job_id for _, _, job_id in self._ranks]

    def waiting_count(self, job_id: JobId) -> int:
        queue = self._queues.get(job_id)
        return len(queue.waiting) if queue is not None else 0

    def first_waiting(self, job_id: JobId, count: int) -> list[int]:
        queue = self._queues.get(job_id)
        return queue.first(count) if queue is not None else []

    def hold_back(self, job_id: JobId, task: int, until_ms: int) -> None:
        """Its last attempt failed a moment ago: it waits out of sight for so long."""
        self._held_back[(job_id, task)] = until_ms
        heapq.heappush(self._delayed, (until_ms, job_id, task))
        self._update(job_id, task)

    def release(self, now_ms: int) -> bool:
        """Let those wait in sight whose time is over. Was there any?"""
        is_any = False
        while self._delayed and self._delayed[0][0] <= now_ms:
            until_ms, job_id, task = heapq.heappop(self._delayed)
            if self._held_back.get((job_id, task)) == until_ms:
                del self._held_back[(job_id, task)]
                self._update(job_id, task)
                is_any = True
        return is_any

    def next_release_ms(self) -> int | None:
        return self._delayed[0][0] if self._delayed else None

    # --- What is placed --------------------------------------------------------------------------

    def nodes(self) -> list[NodeId]:
        """Nodes that an active attempt is placed on, sorted."""
        return sorted(self._on_node)

    def attempts_on(self, node_id: NodeId) -> list[AttemptId]:
        return sorted(self._on_node.get(node_id, {}))

    def attempts_of(self, job_id: JobId) -> list[AttemptId]:
        """The active attempts of a job; rare, for a cancel."""
        if not self._active.get(job_id):
            return []
        return [
            attempt_id
            for node_id in self.nodes()
            for attempt_id in self.attempts_on(node_id)
            if attempt_id.job_id == job_id
        ]

    def count_on(self, node_id: NodeId) -> int:
        return len(self._on_node.get(node_id, {}))

    def used_on(self, node_id: NodeId) -> Resources:
        return self._used.get(node_id, Resources())

    def active_jobs(self) -> set[JobId]:
        """With an active attempt."""
        return set(self._active)

    def active_count(self, job_id: JobId) -> int:
        return self._active.get(job_id, 0)

    def check(self) -> None:
        """Assert that the index says what the table says; of each queue its first tasks."""
        for node_id, attempts in self._on_node.items():
            placed = self._table.attempts_on(node_id)
            known = [a for a in placed if self._table.job(a.job_id) is not None]
            assert sorted(attempts) == known
        for job_id, queue in self._queues.items():
            for task in islice(queue.waiting, CHECK_TASKS_MAX):
                assert self._table.cell(job_id, task).stage is Stage.PENDING
        assert [rank[2] for rank in self._ranks] == sorted(
            self._queues, key=lambda job_id: self._rank(job_id)
        )

    # --- Inside ----------------------------------------------------------------------------------

    def _read(self, job_id: JobId) -> None:
        self._refresh(job_id)
        for task in self._table.decided_tasks(job_id):
            self._update(job_id, task)

    def _refresh(self, job_id: JobId) -> None:
        """A job appeared or was cancelled: all its tasks may have started or ceased to wait."""
        self._drop_queue(job_id)
        for task in self._table.open_tasks(job_id):
            if self._table.cell(job_id, task).stage is Stage.PENDING:
                self._wait(job_id, task)

    def _update(self, job_id: JobId, task: int) -> None:
        job = self._table.job(job_id)
        if job is None:
            return
        cell = self._table.cell(job_id, task)
        attempt_id = cell.attempt_id if is_active(cell) else None
        known = self._attempt_of.get((job_id, task))
        if known != attempt_id:
            if known is not None:
                self._leave(known)
            if attempt_id is not None:
                self._enter(attempt_id, job.spec.need)
        if cell.stage is Stage.PENDING and not self._table.is_task_over(job_id, task):
            self._wait(job_id, task)
        else:
            self._held_back.pop((job_id, task), None)
            self._stop_waiting(job_id, task)

    def _enter(self, attempt_id: AttemptId, need: Resources) -> None:
        node_id, job_id = attempt_id.node_id, attempt_id.job_id
        self._attempt_of[(job_id, attempt_id.task)] = attempt_id
        self._on_node.setdefault(node_id, {})[attempt_id] = None
        self._used[node_id] = self.used_on(node_id).plus(need)
        self._active[job_id] = self.active_count(job_id) + 1
        self._need[job_id] = need

    def _leave(self, attempt_id: AttemptId) -> None:
        node_id, job_id = attempt_id.node_id, attempt_id.job_id
        del self._attempt_of[(job_id, attempt_id.task)]
        del self._on_node[node_id][attempt_id]
        need, used = self._need[job_id], self._used[node_id]
        assert used.covers(need), "what leaves a node had entered it"
        self._used[node_id] = used.minus(need)
        self._active[job_id] -= 1
        if not self._on_node[node_id]:
            del self._on_node[node_id], self._used[node_id]
        if not self._active[job_id]:
            del self._active[job_id], self._need[job_id]

    def _rank(self, job_id: JobId) -> JobRank:
        job = self._table.job(job_id)
        assert job is not None, "only known jobs wait"
        return (-job.spec.priority, job.created_unix_ms, job_id)

    def _wait(self, job_id: JobId, task: int) -> None:
        if (job_id, task) in self._held_back:
            self._stop_waiting(job_id, task)
            return
        queue = self._queues.get(job_id)
        if queue is None:
            queue = self._queues[job_id] = _Queue(self._rank(job_id))
            insort(self._ranks, queue.rank)
        queue.add(task)

    def _stop_waiting(self, job_id: JobId, task: int) -> None:
        queue = self._queues.get(job_id)
        if queue is not None:
            queue.remove(task)
            if not queue.waiting:
                self._drop_queue(job_id)

    def _drop_queue(self, job_id: JobId) -> None:
        queue = self._queues.pop(job_id, None)
        if queue is not None:
            del self._ranks[bisect_left(self._ranks, queue.rank)]
