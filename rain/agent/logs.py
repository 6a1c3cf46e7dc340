"""What tasks print, read from the PC that runs them and followed from any other.

A task's log is that of its latest attempt. When an attempt is lost and the task runs again
elsewhere, a follower goes on with the new one; the break is told in the `note` of an item.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator

from msgspec import convert, to_builtins

from rain.agent.control import Json
from rain.agent.driver import Driver
from rain.agent.executors import Executors
from rain.agent.reads import Reads
from rain.exec.logs import STDERR, STDOUT, LogsUnavailable
from rain.mesh.streams import CallError, Streams
from rain.model import AttemptId, Identity, JobId, NodeId, Stage
from rain.sched.messages import Cell
from rain.sched.people import may_read_log

LOG_VERB = "log"
FOLLOWED_MAX = 64
"""Tasks of one job followed at the same time; more follow as these end."""
PIECES_WAITING_MAX = 256
POLL_MS = 200
ATTEMPT_TRIES_MAX = 50
READ_AGAIN_MS = 1_000
"""After a reading that broke off: then it is read anew, and what was shown is skipped."""
READS_MAX = 60
"""Readings of one attempt in a row that show nothing new, while it is followed."""
READS_ONCE_MAX = 3
"""The same where a person waits only for what there is."""


class Logs:
    def __init__(
        self,
        driver: Driver,
        streams: Streams,
        identity: Identity,
        reads: Reads,
        executors: Executors,
    ) -> None:
        self._driver = driver
        self._streams = streams
        self._identity = identity
        self._reads = reads
        self._executors = executors
        streams.serve(LOG_VERB, self._serve)

    async def follow(self, job: Json, task: int | None, follow: bool) -> AsyncIterator[Json]:
        """Items {"fd", "data", "task"} (base64) or {"note", "task"}, tasks side by side."""
        job_id = JobId(str(job["id"]))
        indexes = [task] if task is not None else list(range(int(job["tasks_total"])))
        pieces: asyncio.Queue[Json | None] = asyncio.Queue(PIECES_WAITING_MAX)
        reading = asyncio.create_task(self._read_all(job_id, indexes, follow, pieces))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await reading
        finally:
            reading.cancel()

    async def _read_all(
        self, job_id: JobId, tasks: list[int], follow: bool, pieces: asyncio.Queue[Json | None]
    ) -> None:
        places = asyncio.Semaphore(FOLLOWED_MAX if follow else 1)

        async def read(task: int) -> None:
            async with places:
                async for piece in self._task(job_id, task, follow):
                    await pieces.put(piece)

        try:
            async with asyncio.TaskGroup() as group:
                for task in tasks:
                    group.create_task(read(task))
        finally:
            await pieces.put(None)

    async def _task(self, job_id: JobId, task: int, follow: bool) -> AsyncIterator[Json]:
        """One task's output, over all its attempts while it is followed."""
        shown: AttemptId | None = None
        table = self._driver.node.sched.table
        for _ in range(ATTEMPT_TRIES_MAX):
            attempt_id = await self._next_attempt(job_id, task, shown, follow)
            if attempt_id is None:
                return
            if shown is not None:
                yield {"note": f"attempt {attempt_id.number} starts anew", "task": task}
            shown = attempt_id
            async for piece in self._whole(attempt_id, follow):
                yield {**piece, "task": task}
            if not follow or table.is_task_over(job_id, task):
                return

    async def _whole(self, attempt_id: AttemptId, follow: bool) -> AsyncIterator[Json]:
        """All that an attempt prints, each byte once, over readings that break off.

        Its PC may be cut off for a while, its agent may start anew, its engine may be away.
        """
        shown = {STDOUT: 0, STDERR: 0}
        reads = 0
        while True:
            reads += 1
            again = dict(shown)
            broke_off = False
            try:
                async for fd, content in self._attempt(attempt_id, follow):
                    skipped = min(again.get(fd, 0), len(content))
                    again[fd] = again.get(fd, 0) - skipped
                    if skipped == len(content):
                        continue
                    reads = 0
                    shown[fd] = shown.get(fd, 0) + len(content) - skipped
                    yield {"fd": fd, "data": base64.b64encode(content[skipped:]).decode()}
            except (CallError, LogsUnavailable):
                broke_off = True
            if not broke_off and not follow:
                return
            is_enough = reads >= (READS_MAX if follow else READS_ONCE_MAX)
            if is_enough or not await self._is_to_be_read_again(attempt_id, broke_off):
                break
        if not broke_off:
            return
        name = self._reads.names().get(attempt_id.node_id, attempt_id.node_id)
        yield {"note": f"the log is on {name}, which does not answer"}

    async def _is_to_be_read_again(self, attempt_id: AttemptId, broke_off: bool) -> bool:
        """After a pause: may there be more of it? A reading also ends where an agent restarts."""
        for _ in range(READ_AGAIN_MS // POLL_MS):
            if not self._is_unread(attempt_id, broke_off):
                return False
            await asyncio.sleep(POLL_MS / 1_000)
        return self._is_unread(attempt_id, broke_off)

    def _is_unread(self, attempt_id: AttemptId, broke_off: bool) -> bool:
        """It runs as far as is known here; or its reading broke off, and its PC is there."""
        table = self._driver.node.sched.table
        cell = table.cell(attempt_id.job_id, attempt_id.task)
        if cell.attempt_id not in (attempt_id, None):
            return False
        ends = table.ends(attempt_id.job_id, attempt_id.task)
        if not (attempt_id in ends or cell.final or cell.stage is Stage.ENDED):
            return True
        here = {one.record.node_id for one in self._driver.node.gossip.members() if one.is_here}
        return broke_off and attempt_id.node_id in here

    async def _next_attempt(
        self, job_id: JobId, task: int, shown: AttemptId | None, follow: bool
    ) -> AttemptId | None:
        """The attempt to show now; waits for one while following an unfinished task."""
        table = self._driver.node.sched.table
        while True:
            cell: Cell = table.cell(job_id, task)
            attempt_id = cell.attempt_id
            if attempt_id is None:
                attempt_id = max(table.ends(job_id, task), default=None)
            started = cell.stage >= Stage.STARTING
            over = table.is_task_over(job_id, task)
            if attempt_id is not None and attempt_id != shown and (started or over):
                return attempt_id
            if not follow or over:
                return None
            await asyncio.sleep(POLL_MS / 1_000)

    def _attempt(self, attempt_id: AttemptId, follow: bool) -> AsyncIterator[tuple[int, bytes]]:
        if attempt_id.node_id == self._identity.node_id:
            return self._executors.logs(attempt_id, follow)
        return self._remote(attempt_id, follow)

    async def _remote(
        self, attempt_id: AttemptId, follow: bool
    ) -> AsyncIterator[tuple[int, bytes]]:
        question = {"attempt": to_builtins(attempt_id), "follow": follow}
        body = json.dumps(question).encode()
        async for piece in self._streams.call(attempt_id.node_id, LOG_VERB, body):
            if len(piece) > 1:
                yield piece[0], piece[1:]

    async def _serve(self, sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
        question = json.loads(args)
        attempt_id = convert(question["attempt"], AttemptId)
        node = self._driver.node
        reader = node.trust.credential(sender)
        job = node.sched.table.job(attempt_id.job_id)
        if reader is None or not may_read_log(reader.role, reader.person, job):
            raise CallError("a worker's PC may not read what other people's jobs print")
        async for fd, content in self._executors.logs(attempt_id, bool(question["follow"])):
            yield bytes([fd]) + content
