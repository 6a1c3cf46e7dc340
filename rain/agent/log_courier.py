"""Brings the ends of this PC's logs to other PCs, in the background and at its leisure.

When an attempt is over and its log is kept here, the log's end (`TAIL_BYTES_MAX`) is brought to as
many other members as it takes for `replicas` disks in all. Many logs travel in one call; one call
at a time goes to a keeper, and no more than BYTES_PER_S leave this PC. Logs in which nothing was
printed are not brought at all. What a keeper would not take is tried again later, longer and
longer, and brought to the next one meanwhile. Who is gone for ABSENT_S has lost its copies as far
as anybody knows: then another one gets them.

After a start it is not known what was brought where: the keepers are asked before anything is
sent again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rain.agent.driver import Driver
from rain.agent.executors import Executors
from rain.agent.log_copies import (
    COPY_VERB,
    HELD_VERB,
    KEYS,
    PIECES_MAX,
    Keys,
    Piece,
    Pieces,
    copy_name,
    keepers,
    ranked,
)
from rain.exec.logs import KEPT_FILES_MAX, KeptLogs
from rain.log import Logger
from rain.mesh.codec import Rejected, pack, unpack
from rain.mesh.streams import CallError, Streams
from rain.model import NodeId

ROUND_INTERVAL_S = 1.0
"""Logs that are kept within this time travel together."""
REVIEW_INTERVAL_S = 15.0
ABSENT_S = 20.0
ROUND_KEYS_MAX = 512
KEEPERS_AT_ONCE = 2
BATCH_BYTES_MAX = 56 * 1024
"""Of one call: its arguments have a bound."""
PIECE_OVERHEAD_BYTES = 128
TAILS_AT_ONCE = 16
"""Read ahead: what they take of the memory is bounded by this."""
BYTES_PER_S = 4 * 1024 * 1024
CALL_TIMEOUT_S = 10.0
SHUNNED_S = 10.0
BACKOFF_S_MAX = 60.0
TRIES_MAX = 12
"""Of one log that nobody takes: the job may be forgotten."""
REVIEWED_AT_ONCE = 1_000

Call = Callable[[NodeId, str, bytes], AsyncIterator[bytes]]


@dataclass(slots=True)
class _Load:
    """A log that is to be brought somewhere."""

    kept_by: tuple[NodeId, ...] = ()
    is_old: bool = False
    """Of an earlier life of this agent: it may have been brought already."""
    tries: int = 0
    due_s: float = 0.0


class LogCourier:
    """What is still to be brought, and who has what."""

    def __init__(
        self,
        own: NodeId,
        kept: KeptLogs,
        call: Call,
        who_keeps: Callable[[], Iterable[NodeId]],
        copies_wanted: int,
        clock_s: Callable[[], float],
        log: Logger,
    ) -> None:
        self._own = own
        self._kept = kept
        self._call = call
        self._who_keeps = who_keeps
        self._copies_wanted = copies_wanted
        self._clock_s = clock_s
        self._log = log
        self._due: dict[str, _Load] = {}
        self._brought: dict[str, tuple[NodeId, ...]] = {}
        self._seen_s: dict[NodeId, float] = {}
        self._shunned_s: dict[NodeId, float] = {}
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Logs that are not yet where they should be."""
        return len(self._due)

    def note(self, attempt_key: str) -> None:
        """That log is kept here now."""
        if attempt_key not in self._brought and len(self._due) < KEPT_FILES_MAX:
            self._due.setdefault(attempt_key, _Load(due_s=self._clock_s() + ROUND_INTERVAL_S))
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        await self._recall()
        review_s = self._clock_s() + REVIEW_INTERVAL_S
        while True:
            await self._pause()
            await self.bring_due()
            if self._clock_s() >= review_s:
                await self.review()
                review_s = self._clock_s() + REVIEW_INTERVAL_S

    async def _recall(self) -> None:
        """What an earlier life of this agent kept; where that cannot be read, only what is new."""
        try:
            keys = await asyncio.to_thread(self._kept.keys)
        except OSError as error:
            self._log.warning("kept_logs_unreadable", reason=str(error))
            return
        for key in keys[-KEPT_FILES_MAX:]:
            self._due.setdefault(key, _Load(is_old=True))

    async def _pause(self) -> None:
        """A round's time where something waits, else until something does."""
        if self._due:
            await asyncio.sleep(ROUND_INTERVAL_S)
            return
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(REVIEW_INTERVAL_S):
                await self._wake.wait()

    async def flush(self, timeout_s: float) -> None:
        """This agent is about to end: bring what has not been tried yet, while there is time."""
        for load in self._due.values():
            if not load.tries:
                load.due_s = 0.0
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.bring_due()

    # --- a round ---------------------------------------------------------------------------------

    async def bring_due(self) -> None:
        """One round: what is due is brought where it is missing."""
        async with self._turn:
            now_s = self._clock_s()
            here = self._look_around(now_s)
            due = [key for key, load in self._due.items() if load.due_s <= now_s][:ROUND_KEYS_MAX]
            loads: dict[NodeId, list[str]] = {}
            for key in due:
                for keeper in self._missing(key, here, now_s):
                    loads.setdefault(keeper, []).append(key)
            places = asyncio.Semaphore(KEEPERS_AT_ONCE)

            async def bring(keeper: NodeId, keys: list[str]) -> None:
                async with places:
                    await self._bring(keeper, keys)

            await asyncio.gather(*(bring(keeper, keys) for keeper, keys in loads.items()))
            for key in due:
                self._settle(key, here)

    def _look_around(self, now_s: float) -> list[NodeId]:
        here = [node_id for node_id in self._who_keeps() if node_id != self._own]
        for node_id in here:
            self._seen_s[node_id] = now_s
        for node_id in [one for one, at in self._seen_s.items() if now_s - at > ABSENT_S]:
            del self._seen_s[node_id]
            self._shunned_s.pop(node_id, None)
        return here

    def _short_of(self, kept_by: Sequence[NodeId], here: Sequence[NodeId]) -> int:
        """How many copies are missing; of who was here a moment ago they may not be lost."""
        have = sum(node_id in self._seen_s for node_id in kept_by)
        could_have = len(set(here).union(one for one in kept_by if one in self._seen_s))
        return min(self._copies_wanted, could_have) - have

    def _missing(self, key: str, here: Sequence[NodeId], now_s: float) -> list[NodeId]:
        """Where it is to be brought now."""
        kept_by = self._due[key].kept_by
        free = [
            node_id
            for node_id in here
            if node_id not in kept_by and self._shunned_s.get(node_id, now_s) <= now_s
        ]
        name = copy_name(key, self._own)
        return ranked(name, free)[: max(0, self._short_of(kept_by, here))]

    def _settle(self, key: str, here: Sequence[NodeId]) -> None:
        """After a round: it is where it should be, or is tried again."""
        load = self._due.get(key)
        if load is None:
            return
        if self._short_of(load.kept_by, here) <= 0:
            del self._due[key]
            self._brought[key] = load.kept_by
            while len(self._brought) > KEPT_FILES_MAX:
                del self._brought[next(iter(self._brought))]
            return
        load.tries += 1
        load.due_s = self._clock_s() + min(BACKOFF_S_MAX, 2.0**load.tries)
        if load.tries >= TRIES_MAX:
            del self._due[key]
            self._log.info("log_not_copied", attempt=key)

    async def review(self) -> None:
        """Whose copies were lost is to be brought anew."""
        here = self._look_around(self._clock_s())
        brought = list(self._brought.items())
        for first in range(0, len(brought), REVIEWED_AT_ONCE):
            await asyncio.sleep(0)
            for key, kept_by in brought[first : first + REVIEWED_AT_ONCE]:
                if self._short_of(kept_by, here) > 0 and key in self._brought:
                    del self._brought[key]
                    still = tuple(one for one in kept_by if one in self._seen_s)
                    self._due[key] = _Load(still)

    # --- one keeper ------------------------------------------------------------------------------

    async def _bring(self, keeper: NodeId, keys: list[str]) -> None:
        try:
            old = [key for key in keys if key in self._due and self._due[key].is_old]
            held = await self._held(keeper, old)
            await self._send_all(keeper, [key for key in keys if key not in held])
        except (CallError, TimeoutError):
            self._shunned_s[keeper] = self._clock_s() + SHUNNED_S

    async def _held(self, keeper: NodeId, keys: list[str]) -> frozenset[str]:
        if not keys:
            return frozenset()
        held = await self._ask(keeper, HELD_VERB, pack(Keys(tuple(keys))))
        self._note_kept(keeper, held & frozenset(keys))
        return held

    async def _send_all(self, keeper: NodeId, keys: list[str]) -> None:
        batch: list[Piece] = []
        room = BATCH_BYTES_MAX
        for first in range(0, len(keys), TAILS_AT_ONCE):
            some = keys[first : first + TAILS_AT_ONCE]
            for key, packed in (await asyncio.to_thread(self._tails, some)).items():
                if not packed:
                    self._due.pop(key, None)  # nothing was printed, or it is no longer here
                offset = 0
                while offset < len(packed):
                    content = packed[offset : offset + room - PIECE_OVERHEAD_BYTES]
                    batch.append(Piece(key, offset, len(packed), content))
                    offset += len(content)
                    room -= len(content) + PIECE_OVERHEAD_BYTES
                    if room <= PIECE_OVERHEAD_BYTES or len(batch) >= PIECES_MAX:
                        await self._send(keeper, batch)
                        batch, room = [], BATCH_BYTES_MAX
        if batch:
            await self._send(keeper, batch)

    def _tails(self, keys: Sequence[str]) -> dict[str, bytes]:
        """In a thread."""
        return {key: self._kept.tail(key).packed() for key in keys}

    async def _send(self, keeper: NodeId, batch: Sequence[Piece]) -> None:
        content = pack(Pieces(tuple(batch)))
        taken = await self._ask(keeper, COPY_VERB, content)
        whole = [one.key for one in batch if one.offset + len(one.content) == one.total]
        self._note_kept(keeper, taken.intersection(whole))
        await asyncio.sleep(len(content) / BYTES_PER_S)

    async def _ask(self, keeper: NodeId, verb: str, args: bytes) -> frozenset[str]:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            pieces = [piece async for piece in self._call(keeper, verb, args)]
        answer = unpack(b"".join(pieces), KEYS)
        if isinstance(answer, Rejected):
            raise CallError(f"the answer cannot be read ({answer.reason})")
        return frozenset(answer.keys)

    def _note_kept(self, keeper: NodeId, keys: Iterable[str]) -> None:
        for key in keys:
            load = self._due.get(key)
            if load is not None and keeper not in load.kept_by:
                load.kept_by = (*load.kept_by, keeper)


def courier_for(
    driver: Driver,
    streams: Streams,
    executors: Executors,
    data_dir: Path,
    replicas: int,
    log: Logger,
) -> LogCourier:
    """The courier of one agent, told of every log that its executors keep."""
    courier = LogCourier(
        driver.node.identity.node_id,
        KeptLogs(data_dir / "exec" / "logs"),
        streams.call,
        lambda: keepers(driver),
        replicas - 1,
        time.monotonic,
        log,
    )
    executors.on_kept = courier.note
    return courier
