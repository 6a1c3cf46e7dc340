"""Copies of the ends of other PCs' logs, so that a log outlives the PC that it was printed on.

Who ran an attempt brings the end of its log (`LogCourier`) to the members that come first in an
order which everybody can work out: by the hash of the copy's name and the member's id. A copy is
named by the attempt and by the PC that brought it, and taken only where this node's job table says
that this very PC ran that attempt: nobody can put words into another one's mouth. Read it may who
may read the log itself.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, TypeVar

from msgspec import Meta

from rain.agent.driver import Driver
from rain.exec.kernel import open_private
from rain.exec.logs import KEEPS_PER_PRUNE, PACKED_BYTES_MAX, Tail, prune, unpacked
from rain.log import Logger
from rain.mesh.codec import Rejected, by_tag, pack, unpack
from rain.mesh.streams import CallError, Streams
from rain.model import AttemptId, Count, JobId, NodeId, Role, Value
from rain.sched.identity import attempt_key
from rain.sched.people import may_read_log

COPY_VERB = "log copy"
HELD_VERB = "log held"
READ_VERB = "log tail"

PIECES_MAX = 512
"""Of one call: ends of several logs, or parts of one."""
COPIES_BYTES_MAX = 1024 * 1024 * 1024
COPIES_FILES_MAX = 50_000
"""Kept here of other PCs' logs; the oldest go first."""
SWEEP_INTERVAL_S = 600.0
JUDGED_AT_ONCE = 1_000
"""Copies looked up in the job table before whatever else waits has its turn."""
ASKED_MAX = 32
"""Members asked for one copy."""
READ_TIMEOUT_S = 3.0
READ_BYTES = 64 * 1024

_KEY = re.compile(r"([a-z0-9]{1,32})\.(\d{1,9})\.(\d{1,18})\.[0-9a-f]{6}")

Key = Annotated[str, Meta(max_length=96)]
T = TypeVar("T", bound=Value)


class Piece(Value, frozen=True):
    """A part of the packed end of one log; the parts come in order."""

    key: Key
    offset: Count
    total: Annotated[int, Meta(ge=1, le=PACKED_BYTES_MAX)]
    content: bytes


class Pieces(Value, frozen=True, tag="p"):
    """Keep these."""

    pieces: Annotated[tuple[Piece, ...], Meta(max_length=PIECES_MAX)]


class Keys(Value, frozen=True, tag="k"):
    """Whose copies are asked about; in an answer: those that are kept."""

    keys: Annotated[tuple[Key, ...], Meta(max_length=PIECES_MAX)]


class Wanted(Value, frozen=True, tag="w"):
    """The end of that attempt's log."""

    attempt_id: AttemptId


PIECES, KEYS, WANTED = by_tag((Pieces,)), by_tag((Keys,)), by_tag((Wanted,))


def copy_name(key: str, node_id: NodeId) -> str:
    """Of a copy, as a file."""
    return f"{key}.{node_id}"


def ranked(name: str, node_ids: Iterable[NodeId]) -> list[NodeId]:
    """The order in which members keep that copy: each node comes first for its share of them."""

    def weight(node_id: NodeId) -> bytes:
        return blake2b(f"{name} {node_id}".encode(), digest_size=8).digest()

    return sorted(node_ids, key=weight, reverse=True)


def keepers(driver: Driver) -> list[NodeId]:
    """Members that are up and keep copies: all but workers, this node perhaps among them."""
    found = []
    for member in driver.node.gossip.members():
        node_id = member.record.node_id
        role = driver.node.trust.role(node_id)
        if member.is_here and role is not None and role >= Role.MEMBER:
            found.append(node_id)
    return found


class LogCopies:
    """The folder of copies, what other PCs may do with it, and looking for one in the pool."""

    def __init__(self, folder: Path, driver: Driver, streams: Streams, log: Logger) -> None:
        self._folder = folder
        self._driver = driver
        self._streams = streams
        self._log = log
        self._turn = asyncio.Lock()
        """Of one writer after the other: a crowd of workers must not take all threads."""
        self.held = 0
        """Copies that are kept here, about: counted now and then."""
        self._pieces = 0
        self._doubted: frozenset[str] = frozenset()
        self.dropped: dict[str, int] = {}
        streams.serve(COPY_VERB, self._serve_copy)
        streams.serve(HELD_VERB, self._serve_held)
        streams.serve(READ_VERB, self._serve_read)

    # --- looking for one -------------------------------------------------------------------------

    async def find(self, attempt_id: AttemptId) -> Tail | None:
        """What is left of an attempt's log anywhere but on its own PC."""
        name = copy_name(attempt_key(attempt_id), attempt_id.node_id)
        own = self._driver.node.identity.node_id
        others = [one for one in keepers(self._driver) if one not in (own, attempt_id.node_id)]
        found = unpacked(await asyncio.to_thread(_read, self._folder / f"{name}.log"))
        for node_id in ranked(name, others)[:ASKED_MAX] if found is None else ():
            with suppress(CallError, TimeoutError):
                async with asyncio.timeout(READ_TIMEOUT_S):
                    found = unpacked(await self._read_from(node_id, attempt_id))
            if found is not None:
                break
        return found

    async def _read_from(self, node_id: NodeId, attempt_id: AttemptId) -> bytes:
        copied = b""
        async for piece in self._streams.call(node_id, READ_VERB, pack(Wanted(attempt_id))):
            copied += piece
            if len(copied) > PACKED_BYTES_MAX:
                raise CallError("that is too long for a copy")
        return copied

    # --- what others want ------------------------------------------------------------------------

    async def _serve_copy(self, sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
        asked = self._understood(args, PIECES)
        pieces = [piece for piece in asked.pieces if self._ran(sender, piece.key)]
        if len(pieces) < len(asked.pieces):
            self._drop("unknown_attempt", len(asked.pieces) - len(pieces))
        async with self._turn:
            try:
                kept = await asyncio.to_thread(self._write, sender, pieces)
            except OSError as error:
                self._drop("disk")
                raise CallError("the disk here keeps nothing") from error
        yield pack(Keys(tuple(kept)))

    async def _serve_held(self, sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
        asked = self._understood(args, KEYS)
        names = {key: copy_name(key, sender) for key in asked.keys if _KEY.fullmatch(key)}
        held = await asyncio.to_thread(self._held, names)
        yield pack(Keys(tuple(held)))

    async def _serve_read(self, sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
        attempt_id = self._understood(args, WANTED).attempt_id
        node = self._driver.node
        reader = node.trust.credential(sender)
        job = node.sched.table.job(attempt_id.job_id)
        if reader is None or not may_read_log(reader.role, reader.person, job):
            raise CallError("a worker's PC may not read what other people's jobs print")
        key = attempt_key(attempt_id)
        if _KEY.fullmatch(key) is None or not attempt_id.node_id.isalnum():
            raise CallError("no attempt is called that")
        path = self._folder / f"{copy_name(key, attempt_id.node_id)}.log"
        copied = await asyncio.to_thread(_read, path)
        for start in range(0, len(copied), READ_BYTES):
            yield copied[start : start + READ_BYTES]

    def _understood(self, args: bytes, kinds: dict[str, type[T]]) -> T:
        asked = unpack(args, kinds)
        if isinstance(asked, Rejected):
            self._drop(asked.reason)
            raise CallError("that is no question about copies of logs")
        return asked

    def _ran(self, sender: NodeId, key: str) -> bool:
        """Does the job table say that this PC ran this attempt?"""
        parts = _KEY.fullmatch(key)
        table = self._driver.node.sched.table
        job = table.job(JobId(parts[1])) if parts is not None else None
        if parts is None or job is None or int(parts[2]) >= job.spec.tasks:
            return False
        task = int(parts[2])
        cell = table.cell(job.job_id, task)
        attempts = [cell.attempt_id, *table.ends(job.job_id, task)]
        return any(
            one is not None and one.node_id == sender and attempt_key(one) == key
            for one in attempts
        )

    # --- the folder ------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever: copies of jobs that the pool has forgotten go, and what was never finished."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def sweep(self) -> None:
        """Twice in a row without a job: a table that was just restored may get it back."""
        try:
            names = await asyncio.to_thread(_names, self._folder)
        except OSError as error:
            self._log.warning("log_copies_unreadable", reason=str(error))
            return
        table = self._driver.node.sched.table
        doubted: set[str] = set()
        for first in range(0, len(names), JUDGED_AT_ONCE):
            await asyncio.sleep(0)
            for name in names[first : first + JUDGED_AT_ONCE]:
                is_whole = name.endswith(".log")
                if not is_whole or table.job(JobId(name.partition(".")[0])) is None:
                    doubted.add(name)
        self.held = len(names)
        gone = sorted(doubted & self._doubted)
        self._doubted = frozenset(doubted.difference(gone))
        await asyncio.to_thread(_remove, self._folder, gone)

    def _write(self, sender: NodeId, pieces: Sequence[Piece]) -> list[str]:
        """In a thread. The keys of those that are whole now, or of which a part was taken."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken: list[str] = []
        for piece in pieces:
            path = self._folder / f"{copy_name(piece.key, sender)}.log"
            part = path.with_suffix(".part")
            end = piece.offset + len(piece.content)
            if end > piece.total:
                continue
            self._prune_now_and_then()
            with open(part, "ab" if piece.offset else "wb", opener=open_private) as file:
                if file.tell() != piece.offset:
                    continue  # a part before this one was lost: it comes again from the start
                file.write(piece.content)
            if end == piece.total:
                self.held += not path.exists()
                part.replace(path)
            taken.append(piece.key)
        return list(dict.fromkeys(taken))

    def _prune_now_and_then(self) -> None:
        """Every piece counts: what is begun and never made whole takes room as well."""
        self._pieces += 1
        if self._pieces % KEEPS_PER_PRUNE == 1:
            prune(self._folder, COPIES_BYTES_MAX, COPIES_FILES_MAX)

    def _held(self, names: dict[str, str]) -> list[str]:
        return [key for key, name in names.items() if (self._folder / f"{name}.log").exists()]

    def _drop(self, reason: str, times: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + times


def _read(path: Path) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        return file.read(PACKED_BYTES_MAX)
    return b""


def _names(folder: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(path.name for path in folder.iterdir())
    return []


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()
