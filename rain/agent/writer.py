"""Writes, in order, everything that waits in one go; and what a disk that refuses does to them.

A write that fails takes what depends on it along, and so do all that were asked for before the
node was told: it hears DiskFailed and asks anew for what still matters. What the node holds in
memory by then must get to disk all the same, so its rows stay *owed* and go with the first write
that works. Rows of the job table are not: the table writes itself anew on DiskRecovered.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Protocol

from rain.agent.clock import now_ms
from rain.agent.disk import DiskHealth
from rain.effects import DiskFailed, DiskRecovered, Effect, Event, Persist, Persisted
from rain.log import Logger
from rain.mesh import codec
from rain.sched.records import CancelRow, JobRow, TaskRow
from rain.store import StoreError

WRITES_QUEUED_MAX = 10_000
OWED_ROWS_MAX = 50_000
"""Beyond it deletes of jobs go first, then what was owed first."""
DISK_RETRY_MS = 1_000
TABLE_ROWS = ("job/", "task/", "cancel/", "forgotten/")

Rows = dict[str, bytes | None]
"""Key -> value; None: to be deleted."""


class Disk(Protocol):
    """What the writer needs of the store."""

    async def write(self, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str]) -> None: ...


class Writer:
    """The one queue to the disk."""

    def __init__(
        self,
        disk: Disk,
        carry_out: Callable[[Sequence[Effect]], None],
        feed: Callable[[Event], None],
        log: Logger,
        health: DiskHealth | None = None,
    ) -> None:
        self.health = health or DiskHealth()
        self._disk = disk
        self._carry_out = carry_out
        self._feed = feed
        self._log = log
        self._queue: deque[tuple[int, Persist]] = deque()
        self._owed: Rows = {}
        self._wake = asyncio.Event()
        self._is_told = False

    @property
    def reason(self) -> str:
        """Why the disk refuses; empty: it works."""
        return self.health.refusal

    def enqueue(self, write: Persist) -> None:
        self._queue.append((now_ms(), write))
        self._wake.set()
        if len(self._queue) > WRITES_QUEUED_MAX:
            # As a disk that refuses: what depends on a write does not happen, peers ask again.
            self._fail("the disk is too slow: too many writes wait", "")

    async def run(self) -> None:
        """Write for ever; while the disk refuses, try again at intervals."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.write_once()
            if self.reason:
                await asyncio.sleep(DISK_RETRY_MS / 1_000)
                self._wake.set()

    async def write_once(self) -> None:
        """One group: what is owed, and all that waits now."""
        batch = list(self._queue)
        self._queue.clear()
        rows = dict(self._owed)
        for _, write in batch:
            rows.update(_rows(write))
        puts = [(key, value) for key, value in rows.items() if value is not None]
        deletes = [key for key, value in rows.items() if value is None]
        began_ms = now_ms()
        try:
            await self._disk.write(puts, deletes)
        except StoreError as error:
            self._owe(write for _, write in batch)
            self._fail(str(error), error.kind)
            return
        self._took(now_ms() - began_ms)
        for key, value in rows.items():
            if key in self._owed and self._owed[key] is value:
                del self._owed[key]
        if self._is_told:
            self._is_told = False
            self.health.works()
            self._log.info("disk_recovered")
            self._feed(DiskRecovered())
        done_ms = now_ms()
        for asked_ms, write in batch:
            self._carry_out(write.then)
            if write.token:
                self._feed(Persisted(write.token, done_ms - asked_ms))

    def _took(self, ms: int) -> None:
        pace = self.health.pace
        if pace.took(ms):
            word = "disk_slow" if pace.is_slow else "disk_fast_again"
            self._log.warning(word, median_ms=pace.median_ms, worst_ms=pace.worst_ms)

    def _fail(self, reason: str, kind: str) -> None:
        if not self.reason:
            self._log.warning("disk_failed", reason=reason)
            # Soon, not now: the node may be in the middle of an event.
            asyncio.get_running_loop().call_soon(self._tell_failed)
        self.health.refused(reason, kind)

    def _tell_failed(self) -> None:
        # All that is queued was asked for by a node that did not know yet.
        self._owe(write for _, write in self._queue)
        self._queue.clear()
        self._wake.set()
        self._is_told = True
        self._feed(DiskFailed(self.reason))

    def _owe(self, writes: Iterable[Persist]) -> None:
        for write in writes:
            self._owed.update(_rows(write, without_table=True))
        excess = len(self._owed) - OWED_ROWS_MAX
        if excess > 0:
            spare = (key for key in self._owed if self._is_found_again(key))
            for key in list(islice(dict.fromkeys(chain(spare, self._owed)), excess)):
                del self._owed[key]

    def _is_found_again(self, key: str) -> bool:
        """Whether that is a delete that the next start asks for anew: of a job long over."""
        return self._owed[key] is None and key.startswith(TABLE_ROWS)


def _rows(write: Persist, without_table: bool = False) -> Rows:
    rows: Rows = {
        put.key(): codec.encode_record(put)
        for put in write.puts
        if not (without_table and isinstance(put, JobRow | TaskRow | CancelRow))
    }
    rows.update(dict.fromkeys(write.deletes))
    return rows
