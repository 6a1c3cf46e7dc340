"""What a task printed: frames of (stream, bytes), and the files that outlive its container.

A frame is the engine's own: one byte for the stream (1 stdout, 2 stderr), three zeros, the length
as four bytes big-endian, then the bytes. So a kept log is what the engine sent, byte for byte. A
third stream is Rain's own: what a reader should know of a log that is not whole.

Other PCs keep copies of the ends of logs: a `Tail` is how much was left out at the front, of each
stream, and then the last frames.
"""

import asyncio
import os
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rain.exec import dialect
from rain.exec.engine import Engine, EngineGone
from rain.exec.kernel import open_private

FRAME_BYTES_MAX = 1 << 24
"""A longer frame is no frame: the stream is broken."""
READ_BYTES = 64 * 1024
KEPT_BYTES_MAX = 128 * 1024 * 1024
"""Of one attempt. The engine keeps 100 MB of text, frames add to that."""
ENGINE_BYTES_MAX = 80_000_000
"""Written by an engine: of the five files that it is told to keep, it has begun the last one, and
drops the first next."""
WRITTEN_AROUND_BYTES = 70
"""What an engine writes around each piece."""
KEPT_FOLDER_BYTES_MAX = 2 * 1024 * 1024 * 1024
KEPT_FILES_MAX = 20_000
KEEPS_PER_PRUNE = 64

TAIL_BYTES_MAX = 256 * 1024
"""Of the end of one log, that other PCs keep a copy of."""
TAIL_READ_BYTES = 1024 * 1024

STDOUT = 1
STDERR = 2
REMARK = 3
"""Not the task's: words of Rain's about its log."""
STREAMS = (STDOUT, STDERR, REMARK)

_HEADER = struct.Struct(">BxxxI")
_LEFT_OUT = struct.Struct(">QQ")

Chunk = tuple[int, bytes]


class LogsUnavailable(Exception):
    """There is no log to show, and why."""


class FrameSplitter:
    """Bytes in, whole or partial frames out; a broken stream yields nothing more."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._is_broken = False

    def feed(self, received: bytes) -> list[Chunk]:
        """All frames that are complete now."""
        if self._is_broken:
            return []
        self._pending += received
        chunks: list[Chunk] = []
        start = 0
        while len(self._pending) - start >= _HEADER.size:
            stream, length = _HEADER.unpack_from(self._pending, start)
            if stream not in (0, *STREAMS) or length > FRAME_BYTES_MAX:
                self._is_broken = True
                break
            end = start + _HEADER.size + length
            if end > len(self._pending):
                break
            chunks.append((stream or STDOUT, bytes(self._pending[start + _HEADER.size : end])))
            start = end
        del self._pending[:start]
        return chunks


def frame(stream: int, content: bytes) -> bytes:
    """One frame, as the engine writes it."""
    assert stream in STREAMS, "a task has two streams, Rain one"
    assert len(content) <= FRAME_BYTES_MAX, "the caller cuts"
    return _HEADER.pack(stream, len(content)) + content


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a log."""

    left_out: tuple[int, int]
    """Bytes of stdout and of stderr that came before."""
    frames: bytes

    def packed(self) -> bytes:
        """As it is copied; empty where nothing was printed."""
        return _LEFT_OUT.pack(*self.left_out) + self.frames if self.frames else b""

    def chunks(self) -> list[Chunk]:
        return FrameSplitter().feed(self.frames)


def unpacked(copied: bytes) -> Tail | None:
    """What somebody keeps as a copy; None for what is none."""
    if len(copied) < _LEFT_OUT.size:
        return None
    out, err = _LEFT_OUT.unpack_from(copied)
    return Tail((out, err), copied[_LEFT_OUT.size :])


PACKED_BYTES_MAX = TAIL_BYTES_MAX + _LEFT_OUT.size


def tail_of(file: BinaryIO, bytes_max: int = TAIL_BYTES_MAX) -> Tail:
    """The last whole frames of a log that fit; steps from frame to frame, keeps none in memory."""
    start = max(0, file.seek(0, os.SEEK_END) - bytes_max)
    left_out = {STDOUT: 0, STDERR: 0, REMARK: 0}
    position, window, window_at = 0, b"", 0
    while position < start:
        if not window_at <= position <= window_at + len(window) - _HEADER.size:
            file.seek(position)
            window, window_at = file.read(TAIL_READ_BYTES), position
            if len(window) < _HEADER.size:
                break
        stream, length = _HEADER.unpack_from(window, position - window_at)
        if stream not in (0, *STREAMS):
            return Tail((0, 0), b"")
        left_out[stream or STDOUT] += length
        position += _HEADER.size + length
    file.seek(position)
    return Tail((left_out[STDOUT], left_out[STDERR]), file.read(bytes_max))


class KeptLogs:
    """The folder of logs whose containers are gone; the oldest go when it grows too large."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keeps = 0

    def path(self, attempt_key: str) -> Path:
        return self._folder / f"{attempt_key}.log"

    def has(self, attempt_key: str) -> bool:
        return self.path(attempt_key).exists()

    def keep(self, attempt_key: str, frames: Iterable[bytes]) -> None:
        """Writes the log beside its place and moves it there: half a log is never shown."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._folder / f"{attempt_key}.part"
        size = 0
        with open(unfinished, "wb", opener=open_private) as file:
            for piece in frames:
                size += len(piece)
                if size > KEPT_BYTES_MAX:
                    break
                file.write(piece)
        unfinished.replace(self.path(attempt_key))
        self._keeps += 1
        if self._keeps % KEEPS_PER_PRUNE == 1:
            prune(self._folder, KEPT_FOLDER_BYTES_MAX, KEPT_FILES_MAX)

    def chunks(self, attempt_key: str) -> Iterator[list[Chunk]]:
        """The frames of a kept log, a read at a time."""
        splitter = FrameSplitter()
        with self.path(attempt_key).open("rb") as file:
            while received := file.read(READ_BYTES):
                yield splitter.feed(received)

    def keys(self) -> list[str]:
        """Of all kept logs in which anything is printed."""
        found: list[str] = []
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.name.endswith(".log") and entry.stat().st_size:
                        found.append(entry.name.removesuffix(".log"))
        return sorted(found)

    def tail(self, attempt_key: str) -> Tail:
        """The end of a kept log; empty where there is none."""
        with suppress(OSError), self.path(attempt_key).open("rb") as file:
            return tail_of(file)
        return Tail((0, 0), b"")


def prune(folder: Path, bytes_max: int, files_max: int) -> int:
    """Removes the oldest logs until both bounds hold; returns how many went."""
    files: list[tuple[int, str, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                status = entry.stat()
                files.append((status.st_mtime_ns, entry.name, status.st_size))
    files.sort()
    size = sum(length for _, _, length in files)
    removed = 0
    while removed < len(files) and (size > bytes_max or len(files) - removed > files_max):
        _, name, length = files[removed]
        with suppress(OSError):
            (folder / name).unlink()
        size -= length
        removed += 1
    return removed


CHUNKS_AHEAD_MAX = 16
"""Batches a thread may read ahead of whoever takes them."""


class Hose:
    """Chunks from a thread that reads to a coroutine that takes, at the taker's pace."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[list[Chunk] | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(CHUNKS_AHEAD_MAX)
        self._is_closed = threading.Event()

    def pour(self, batches: Iterable[list[Chunk]]) -> None:
        """In the reading thread: hands on every batch, then the end or the error."""
        end: BaseException | None = None
        try:
            for batch in batches:
                self._room.acquire()
                if self._is_closed.is_set():
                    return
                if batch:
                    self._tell(batch)
                else:
                    self._room.release()
        except Exception as error:
            # Not swallowed: it is raised where the chunks are taken.
            end = error
        self._tell(end)

    async def taken(self) -> AsyncIterator[Chunk]:
        """On the loop: everything that was poured."""
        while (batch := await self._queue.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            self._room.release()
            for chunk in batch:
                yield chunk

    def close(self) -> None:
        """Nobody takes any more: the thread ends at its next batch."""
        self._is_closed.set()
        self._room.release()

    def _tell(self, batch: list[Chunk] | BaseException | None) -> None:
        # The loop may be closed while the thread still reads: then nobody waits either.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, batch)


class LogSource:
    """A log for the reading thread: kept, or from the engine; can be cut while it is read."""

    def __init__(self, engine: Engine, kept: KeptLogs, key: str, follow: bool) -> None:
        self._engine = engine
        self._kept = kept
        self._key = key
        self._follow = follow
        self._cut: Callable[[], None] = _nothing
        self._is_closed = False

    def batches(self) -> Iterator[list[Chunk]]:
        written = given = 0
        for chunks in self._chunks(self._follow):
            written += sum(len(content) + WRITTEN_AROUND_BYTES for _, content in chunks)
            given += sum(len(content) for _, content in chunks)
            yield chunks
        if self._follow and not self._is_closed and written < ENGINE_BYTES_MAX:
            # An engine may end a followed log before its end, where much is printed at the last.
            yield from after(given, self._chunks(follow=False))
        if written >= ENGINE_BYTES_MAX:
            yield [(REMARK, b"as long as an engine keeps a log: its beginning may be gone")]

    def _chunks(self, follow: bool) -> Iterator[list[Chunk]]:
        if self._kept.has(self._key):
            yield from self._kept.chunks(self._key)
            return
        splitter = FrameSplitter()
        name = dialect.container_name(self._key)
        try:
            for received in self._engine.logs(name, follow, self._on_open):
                yield splitter.feed(received)
        except EngineGone as error:
            raise LogsUnavailable(str(error)) from error

    def close(self) -> None:
        """Wakes the reading thread, wherever it waits."""
        self._is_closed = True
        self._cut()

    def _on_open(self, cut: Callable[[], None]) -> None:
        self._cut = cut
        if self._is_closed:
            cut()


def after(given: int, batches: Iterable[list[Chunk]]) -> Iterator[list[Chunk]]:
    """The same log without its first `given` bytes."""
    for batch in batches:
        rest: list[Chunk] = []
        for stream, content in batch:
            left = content[given:]
            given -= len(content) - len(left)
            if left:
                rest.append((stream, left))
        yield rest


def _nothing() -> None:
    """Nothing to cut yet."""
