"""A node's own copy of the job table and what is yet to be told about it.

Every core of the scheduler changes the table through here, so that the three things that follow
any change cannot be forgotten: the rows are written, the board is brought up to date, and the
news is kept until the coordinator (if it is this node) has spread it.

A write that fails leaves memory ahead of the disk. Until the disk works again nothing that was
learnt is vouched for; then everything is written anew (`rewrite`), since nobody can tell which
rows of which write are missing.
"""

import heapq
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from msgspec.msgpack import Encoder
from msgspec.structs import replace

from rain.effects import Effect, Persist, Record
from rain.model import TASKS_MAX, Job, JobId
from rain.sched.board import Board
from rain.sched.messages import (
    DAYS_MAX,
    NOT_CANCELLED,
    PATCH_TASKS_MAX,
    PATCHES_MAX,
    AttemptEnd,
    Cell,
    JobPatch,
    TaskPatch,
)
from rain.sched.records import TombstoneRow, keys_of
from rain.sched.table import JOBS_MAX, Table
from rain.sched.warrants import Warrants

FRAME_BYTES_MAX = 1_048_576
"""Of the patches in one message, so that a bulky table never blocks a stream for long."""
NEWS_MAX = 100_000
"""Patches kept for spreading; beyond it they are dropped and anti-entropy finds them."""
REWRITE_JOBS = 100
"""Jobs, or days of forgetting, per write when everything is written anew."""
DELETES_MAX = 2_000
"""Rows of forgotten jobs deleted with one write: one job may have had 100,000."""
FORGET_JOBS_MAX = 1_000
"""Forgotten at a time: nobody waits for it."""

_encode = Encoder().encode


class Ledger:
    """The table, its rows on disk, and the news since `drain` was last called."""

    def __init__(self, recovered: Iterable[Record], warrants: Warrants) -> None:
        self.warrants = warrants
        self.table = Table(recovered, warrants)
        self.board = Board(self.table)
        self.is_disk_failed = False
        self._news: list[JobPatch] = []

    def merge(
        self, patches: Iterable[JobPatch], *, is_vouched: bool = False
    ) -> tuple[JobPatch, ...]:
        """Join what a peer knows; what was news comes back, not yet written.

        `is_vouched`: that peer is the coordinator that is followed.
        """
        return self._kept(self.table.merge(patches, is_vouched=is_vouched))

    def take_back(self, patches: Iterable[JobPatch]) -> tuple[JobPatch, ...]:
        """Join what lay on this disk, verified long ago; as `merge`."""
        return self._kept(self.table.take_back(patches))

    def forget(self, job_id: JobId) -> None:
        """As if it had never been heard of; its rows are the caller's."""
        self.board.forget(job_id)
        self.table.forget(job_id)

    def decide(self, cell: Cell, job_id: JobId, task: int, *ends: AttemptEnd) -> list[JobPatch]:
        """Take a decision of this reign; the caller writes it."""
        return list(self._kept(self.table.decide(job_id, task, cell, ends)))

    def persist(
        self,
        news: Iterable[JobPatch],
        then: Iterable[Effect] = (),
        rows: Iterable[Record] = (),
    ) -> list[Persist]:
        """One write of all that the news touches, and what must follow it.

        With a tombstone goes what was on disk of its job; of a large one the rest with `sweep`.
        """
        puts = tuple(rows) + self.table.records(tuple(news))
        follow = tuple(then)
        deletes = self.table.take_buried(DELETES_MAX) if puts else ()
        return [Persist(puts, deletes, follow)] if puts or follow else []

    def sweep(self) -> list[Persist]:
        """Rows of forgotten jobs that are still on disk, some at a time; [] if there are none."""
        deletes = self.table.take_buried(DELETES_MAX)
        return [Persist(deletes=deletes)] if deletes else []

    def after_writes(self, effects: Iterable[Effect]) -> list[Persist]:
        """Once all that was decided by now is on disk; never while the disk fails.

        Writes keep their order, so an empty one comes after all before it. Orders that are repeated
        must not overtake the write of their decision on a slow disk.
        """
        follow = () if self.is_disk_failed else tuple(effects)
        return [Persist(then=follow)] if follow else []

    def known_part(self, patches: Iterable[JobPatch]) -> Iterator[JobPatch]:
        """What of a peer's patches this table has taken in: what may be written down."""
        for patch in patches:
            job = self.table.job(patch.job_id)
            if self.table.is_forgotten(patch.job_id):
                yield self.table.patch(patch.job_id)
            elif self.is_taken(patch) and not patch.forgotten:
                tasks = tuple(
                    part
                    for part in patch.tasks
                    if part.first <= part.last and (job is None or part.last < job.spec.tasks)
                )
                known = job if patch.job is not None else None
                yield replace(patch, job=known, tasks=tasks)

    def is_known(self, job_id: JobId) -> bool:
        """Is anything known of this job, were it only a cell, or that it was forgotten?"""
        return any(self.table.job_digest(job_id)) or self.table.is_forgotten(job_id)

    def known_jobs(self, job_ids: Iterable[JobId]) -> list[Job]:
        """Those of them that are known, in this order."""
        jobs = (self.table.job(job_id) for job_id in job_ids)
        return [job for job in jobs if job is not None]

    def is_taken(self, patch: JobPatch) -> bool:
        """Has this table, which has merged it, room for it and no reason to refuse it?

        Of a job that was forgotten it has all that counts.
        """
        if self.table.is_forgotten(patch.job_id):
            return True
        return (
            not patch.forgotten
            and self.is_known(patch.job_id)
            and self.is_cancel_known(patch)
            and not self.table.refusal(patch)
        )

    def is_cancel_known(self, patch: JobPatch) -> bool:
        """Does the cancel in it, if there is one, change nothing here?"""
        return patch.cancel() <= (self.table.cancel_of(patch.job_id) or NOT_CANCELLED)

    def rewrite(self) -> list[Persist]:
        """All rows, after a time in which writes failed."""
        # Jobs whose spec has not come yet as well: their cells and cancels are rows too. And the
        # days of forgetting.
        ids = [entry.job_id for entry in self.table.digests(JobId(""), JOBS_MAX + DAYS_MAX)]
        return [
            write
            for start in range(0, len(ids), REWRITE_JOBS)
            for write in self.persist(
                patch
                for entry_id in ids[start : start + REWRITE_JOBS]
                for patch in self.table.patches(entry_id)
            )
        ]

    def forget_all_but(self, kept: Collection[JobId]) -> list[Persist]:
        """Some FORGET_JOBS_MAX of the others; [] if there are none.

        For a node that keeps no copies: nobody compares tables with it, or they would come back.
        """
        others = (job_id for job_id in self.table.known_ids() if job_id not in kept)
        keys: list[str] = []
        for job_id in list(islice(others, FORGET_JOBS_MAX)):
            keys += keys_of(self.table.patch(job_id))
            self.forget(job_id)
        stones = self.table.tombstones.forget_some(FORGET_JOBS_MAX)
        keys += [TombstoneRow(job_id, 0).key() for job_id in stones]
        return [Persist(deletes=tuple(keys))] if keys else []

    def drain(self) -> list[JobPatch]:
        news, self._news = self._news, []
        return news

    def _kept(self, news: tuple[JobPatch, ...]) -> tuple[JobPatch, ...]:
        self.board.learn(news)
        self._news.extend(news)
        assert len(self._news) <= NEWS_MAX, "news is drained after every event"
        return news


def frames(patches: Iterable[JobPatch]) -> Iterator[tuple[JobPatch, ...]]:
    """Cut patches into messages that fit a frame; one patch too large for it is cut by tasks."""
    frame: list[JobPatch] = []
    frame_bytes, frame_tasks = 0, 0
    for patch in patches:
        for piece in pieces_of(patch):
            piece_bytes, piece_tasks = patch_bytes(piece), piece.tasks_count()
            if frame and (
                frame_bytes + piece_bytes > FRAME_BYTES_MAX
                or frame_tasks + piece_tasks > TASKS_MAX
                or len(frame) >= PATCHES_MAX
            ):
                yield tuple(frame)
                frame, frame_bytes, frame_tasks = [], 0, 0
            frame.append(piece)
            frame_bytes += piece_bytes
            frame_tasks += piece_tasks
    if frame:
        yield tuple(frame)


def patch_bytes(patch: JobPatch) -> int:
    return len(_encode(patch))


def are_too_large(patches: Iterable[JobPatch]) -> bool:
    """More than may be proposed at once: the copies of it would not fit into a frame."""
    return sum(patch_bytes(patch) for patch in patches) > FRAME_BYTES_MAX


def are_too_many(patches: Iterable[JobPatch]) -> bool:
    """Do they speak of more tasks than any frame that was cut here: to be expanded one by one?"""
    return sum(patch.tasks_count() for patch in patches) > TASKS_MAX


def pieces_of(patch: JobPatch) -> Iterator[JobPatch]:
    """Partial knowledge may be cut anywhere: the join puts it together again."""
    if len(patch.tasks) <= 1 or (
        len(patch.tasks) <= PATCH_TASKS_MAX and patch_bytes(patch) <= FRAME_BYTES_MAX
    ):
        yield patch
        return
    middle = len(patch.tasks) // 2
    yield from pieces_of(replace(patch, tasks=patch.tasks[:middle]))
    yield from pieces_of(JobPatch(patch.job_id, tasks=patch.tasks[middle:]))


def gathered(news: Iterable[JobPatch]) -> tuple[JobPatch, ...]:
    """Patches of one job in one, in the order in which the jobs first appear, then tombstones.

    In several where there is news of one task more than once: the tasks of a patch ascend.
    """
    joined: dict[JobId, JobPatch] = {}
    tasks: dict[JobId, list[TaskPatch]] = {}
    stones: dict[JobId, JobPatch] = {}
    for patch in news:
        if patch.forgotten:
            stones[patch.job_id] = max(patch, stones.get(patch.job_id, patch), key=_day_of)
            continue
        known = joined.get(patch.job_id, JobPatch(patch.job_id))
        joined[patch.job_id] = JobPatch.of_parts(
            patch.job_id,
            known.job if known.job is not None else patch.job,
            max(known.cancel(), patch.cancel()),
        )
        tasks.setdefault(patch.job_id, []).extend(patch.tasks)
    whole = (
        replace(patch if index == 0 else JobPatch(job_id), tasks=row)
        for job_id, patch in joined.items()
        if job_id not in stones
        for index, row in enumerate(_ascending(tasks[job_id]) or [()])
    )
    return (*whole, *stones.values())


def _day_of(patch: JobPatch) -> int:
    return patch.forgotten


def _ascending(tasks: Iterable[TaskPatch]) -> list[tuple[TaskPatch, ...]]:
    """As few rows as it takes so that in each of them no task is met twice."""
    rows: list[list[TaskPatch]] = []
    # Those that end soonest first in the heap: whoever fits nowhere there fits nowhere.
    ends: list[tuple[int, int]] = []
    for part in sorted(tasks, key=lambda part: part.first):
        if ends and ends[0][0] < part.first:
            index = heapq.heapreplace(ends, (part.last, ends[0][1]))[1]
        else:
            index = len(rows)
            rows.append([])
            heapq.heappush(ends, (part.last, index))
        rows[index].append(part)
    return [tuple(row) for row in rows]
