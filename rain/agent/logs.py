"""What tasks print, read from the PC that runs them and followed from any other.

A task's log is that of its latest attempt. When an attempt is lost and the task runs again
elsewhere, a follower goes on with the new one; the break is told in the `note` of an item. Of an
attempt that is over other PCs keep the end of the log (see log_copies.py), which is shown where its
own PC does not answer; an item whose note says that nothing is to be had is `missing`.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from msgspec import convert, to_builtins

from rain.agent.control import Json
from rain.agent.driver import Driver
from rain.agent.executors import Executors
from rain.agent.log_copies import LogCopies
from rain.agent.reads import Reads
from rain.exec.logs import REMARK, STDERR, STDOUT, LogsUnavailable, Tail
from rain.mesh.streams import CallError, Streams
from rain.model import AttemptId, End, EndState, Identity, JobId, NodeId, Stage
from rain.sched.civil import rfc3339
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
FIRST_ANSWER_S = 3.0
"""A PC that says nothing for so long has its copies asked, where the attempt is over."""


class _Shown:
    """What a person has seen of an attempt, so that nobody sees a byte twice."""

    def __init__(self) -> None:
        self._bytes = {STDOUT: 0, STDERR: 0}
        self._again = dict(self._bytes)
        self._remarks: dict[bytes, None] = {}

    def begin(self, left_out: tuple[int, int] = (0, 0)) -> int:
        """A reading begins after so many bytes of each stream; of these so many were not seen."""
        missing = 0
        for fd, left in zip((STDOUT, STDERR), left_out, strict=True):
            missing += max(0, left - self._bytes[fd])
            self._again[fd] = max(0, self._bytes[fd] - left)
        return missing

    def news(self, fd: int, content: bytes) -> Json | None:
        """The item for what is new in this; None: nothing is."""
        if fd == REMARK:
            if content in self._remarks:
                return None
            self._remarks[content] = None
            return {"note": content.decode(errors="replace")}
        skipped = min(self._again.get(fd, 0), len(content))
        self._again[fd] = self._again.get(fd, 0) - skipped
        if skipped == len(content):
            return None
        self._bytes[fd] = self._bytes.get(fd, 0) + len(content) - skipped
        return {"fd": fd, "data": base64.b64encode(content[skipped:]).decode()}


class Logs:
    def __init__(
        self,
        driver: Driver,
        streams: Streams,
        identity: Identity,
        reads: Reads,
        executors: Executors,
        copies: LogCopies,
        gone_since: Callable[[NodeId], int | None] = lambda node_id: None,
    ) -> None:
        self._gone_since = gone_since
        self._copies = copies
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
        shown = _Shown()
        reads = 0
        while True:
            reads += 1
            shown.begin()
            broke_off = self._is_over(attempt_id) and not self._is_here(attempt_id.node_id)
            try:
                if not broke_off:
                    async for fd, content in self._attempt(attempt_id, follow, reads):
                        item = shown.news(fd, content)
                        if item is not None:
                            reads = 0
                            yield item
            except (CallError, LogsUnavailable):
                broke_off = True
            if not broke_off and not follow:
                return
            if broke_off and self._is_over(attempt_id):
                copy = await self._copies.find(attempt_id)
                if copy is not None:
                    for item in self._of_copy(attempt_id, copy, shown):
                        yield item
                    return
            is_enough = reads >= (READS_MAX if follow else READS_ONCE_MAX)
            if is_enough or not await self._is_to_be_read_again(attempt_id, broke_off):
                break
        if broke_off:
            yield {"note": self._why_missing(attempt_id), "missing": True}

    def _why_missing(self, attempt_id: AttemptId) -> str:
        """Where the log is, why it cannot be had from there, and whether it may come back."""
        is_here = self._is_here(attempt_id.node_id)
        since = self._gone_since(attempt_id.node_id)
        state = "does not answer" if is_here else "is down"
        if since is not None and not is_here:
            state += f" since {rfc3339(since)}"
        words = f"the log is on {self._name(attempt_id)}, which {state}"
        if self._is_over(attempt_id):
            words += "; no other PC has a copy of its end"
        return words if is_here else f"{words}; it may come back with that PC"

    def _of_copy(self, attempt_id: AttemptId, copy: Tail, shown: _Shown) -> Iterator[Json]:
        missing = shown.begin(copy.left_out)
        if missing:
            words = f"{self._name(attempt_id)} does not answer: only the end of its log is left"
            yield {"note": f"{words}, {missing} bytes before it are on that PC"}
        for fd, content in copy.chunks():
            item = shown.news(fd, content)
            if item is not None:
                yield item

    async def _is_to_be_read_again(self, attempt_id: AttemptId, broke_off: bool) -> bool:
        """After a pause: may there be more of it? A reading also ends where an agent restarts."""
        for _ in range(READ_AGAIN_MS // POLL_MS):
            if not self._is_unread(attempt_id, broke_off):
                return False
            await asyncio.sleep(POLL_MS / 1_000)
        return self._is_unread(attempt_id, broke_off)

    def _is_unread(self, attempt_id: AttemptId, broke_off: bool) -> bool:
        """It runs as far as is known here; or its reading broke off, and its PC is there."""
        cell = self._driver.node.sched.table.cell(attempt_id.job_id, attempt_id.task)
        if cell.attempt_id not in (attempt_id, None):
            return False
        return not self._is_over(attempt_id) or (broke_off and self._is_here(attempt_id.node_id))

    def _is_over(self, attempt_id: AttemptId) -> bool:
        table = self._driver.node.sched.table
        cell = table.cell(attempt_id.job_id, attempt_id.task)
        if attempt_id in table.ends(attempt_id.job_id, attempt_id.task):
            return True
        return cell.attempt_id in (attempt_id, None) and (cell.final or cell.stage is Stage.ENDED)

    def _is_here(self, node_id: NodeId) -> bool:
        members = self._driver.node.gossip.members()
        return any(one.is_here and one.record.node_id == node_id for one in members)

    def _name(self, attempt_id: AttemptId) -> str:
        return self._reads.names().get(attempt_id.node_id, attempt_id.node_id)

    async def _next_attempt(
        self, job_id: JobId, task: int, shown: AttemptId | None, follow: bool
    ) -> AttemptId | None:
        """The attempt to show now; waits for one while following an unfinished task."""
        table = self._driver.node.sched.table
        while True:
            cell: Cell = table.cell(job_id, task)
            over = table.is_task_over(job_id, task)
            attempt_id = cell.attempt_id if over or cell.stage >= Stage.STARTING else None
            if attempt_id is None and (over or not follow):
                # It waits, or was given up: what there is was printed by an attempt before.
                attempt_id = _newest(table.ends(job_id, task))
            if attempt_id is not None and attempt_id != shown:
                return attempt_id
            if not follow or over:
                return None
            await asyncio.sleep(POLL_MS / 1_000)

    def _attempt(
        self, attempt_id: AttemptId, follow: bool, reads: int
    ) -> AsyncIterator[tuple[int, bytes]]:
        if attempt_id.node_id == self._identity.node_id:
            return self._executors.logs(attempt_id, follow)
        return self._remote(attempt_id, follow, reads)

    async def _remote(
        self, attempt_id: AttemptId, follow: bool, reads: int
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Of an attempt that runs, nothing may come for long; else there is more patience with
        each reading: an engine may be slow."""
        question = {"attempt": to_builtins(attempt_id), "follow": follow}
        body = json.dumps(question).encode()
        patience_s = FIRST_ANSWER_S * reads if self._is_over(attempt_id) else None
        try:
            async with asyncio.timeout(patience_s) as patience:
                async for piece in self._streams.call(attempt_id.node_id, LOG_VERB, body):
                    patience.reschedule(None)
                    if len(piece) > 1:
                        yield piece[0], piece[1:]
        except TimeoutError:
            raise CallError("that node takes too long") from None

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


def _newest(ends: Mapping[AttemptId, End]) -> AttemptId | None:
    """The last attempt that may have printed something: one that was refused has not begun."""
    begun = [one for one, end in ends.items() if end.state is not EndState.REFUSED]
    return max(begun or ends, default=None)
