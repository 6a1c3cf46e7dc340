"""What a plain process prints: a file for each stream, emptied where it grows too long.

An emptied stream is marked beside it, so that whoever reads it is told that it is not whole.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rain.exec.kernel import open_private
from rain.exec.logs import READ_BYTES, REMARK, STDERR, STDOUT, Chunk, frame

STREAM_BYTES_MAX = 8 * 1024 * 1024
"""Of stdout and of stderr each; what is longer starts anew, as the engine's logs do."""
STREAMS_BY_NAME = ((STDOUT, "stdout"), (STDERR, "stderr"))


def cut(path: Path, bytes_max: int) -> bool:
    """Empties a stream that has grown too long; its writer appends and does not notice."""
    with suppress(OSError):
        if path.stat().st_size > bytes_max:
            with open(path.with_suffix(".cut"), "w", opener=open_private):
                pass
            os.truncate(path, 0)
            return True
    return False


def remarks(folder: Path) -> list[Chunk]:
    """What a reader should know of the streams in this folder."""
    return [
        (REMARK, f"{name} was too long: only what came last is kept".encode())
        for _, name in STREAMS_BY_NAME
        if (folder / f"{name}.cut").exists()
    ]


def frames(folder: Path) -> Iterator[bytes]:
    """The whole log of an attempt, as it is kept."""
    for stream, words in remarks(folder):
        yield frame(stream, words)
    for stream, name in STREAMS_BY_NAME:
        with suppress(FileNotFoundError), (folder / name).open("rb") as file:
            while content := file.read(READ_BYTES):
                yield frame(stream, content)


def read_from(path: Path, offset: int) -> bytes | None:
    """What was appended since; None: the stream started anew."""
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < offset:
                return None
            file.seek(offset)
            return file.read(READ_BYTES)
    except OSError:
        return b""
