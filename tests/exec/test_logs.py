"""Frames, and the files that outlive containers."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.exec.logs import (
    CHUNKS_AHEAD_MAX,
    KEPT_BYTES_MAX,
    Chunk,
    FrameSplitter,
    Hose,
    KeptLogs,
    LogsUnavailable,
    frame,
    prune,
)

CHUNKS = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)))


@given(CHUNKS, st.lists(st.integers(1, 20)))
def test_frames_survive_any_cutting(chunks: list[Chunk], cuts: list[int]) -> None:
    stream = b"".join(frame(*chunk) for chunk in chunks)
    splitter = FrameSplitter()
    found: list[Chunk] = []
    for length in cuts:
        found += splitter.feed(stream[:length])
        stream = stream[length:]
    found += splitter.feed(stream)
    assert found == chunks


def test_a_broken_stream_yields_nothing_more() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(frame(1, b"good") + b"rubbish!" * 4) == [(1, b"good")]
    assert splitter.feed(frame(1, b"late")) == []


def test_a_kept_log_is_read_again(tmp_path: Path) -> None:
    kept = KeptLogs(tmp_path / "logs")
    assert not kept.has("a.0.1.ffffff")
    kept.keep("a.0.1.ffffff", [frame(1, b"out"), frame(2, b"err")])
    assert kept.has("a.0.1.ffffff")
    assert list(kept.chunks("a.0.1.ffffff")) == [[(1, b"out"), (2, b"err")]]
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["a.0.1.ffffff.log"]


def test_a_kept_log_is_bounded(tmp_path: Path) -> None:
    kept = KeptLogs(tmp_path)
    piece = frame(1, b"x" * (1 << 20))
    kept.keep("a", [piece] * (KEPT_BYTES_MAX // len(piece) + 2))
    assert (tmp_path / "a.log").stat().st_size <= KEPT_BYTES_MAX


@pytest.mark.parametrize(
    ("bytes_max", "files_max", "left"),
    [(100, 9, ["a", "b", "c"]), (25, 9, ["b", "c"]), (100, 1, ["c"]), (0, 0, [])],
)
def test_the_oldest_logs_go_first(
    tmp_path: Path, bytes_max: int, files_max: int, left: list[str]
) -> None:
    for age, name in enumerate(("a", "b", "c")):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (age, age))
    assert prune(tmp_path, bytes_max, files_max) == 3 - len(left)
    assert sorted(path.name for path in tmp_path.iterdir()) == left


async def test_a_hose_brings_everything_in_order() -> None:
    hose = Hose(asyncio.get_running_loop())
    batches: list[list[Chunk]] = [[(1, bytes([n]))] for n in range(CHUNKS_AHEAD_MAX * 5)]
    pouring = asyncio.to_thread(hose.pour, [[], *batches, []])
    taken, _ = await asyncio.gather(collect(hose), pouring)
    assert [[chunk] for chunk in taken] == batches


async def collect(hose: Hose) -> list[Chunk]:
    return [chunk async for chunk in hose.taken()]


async def test_a_hose_brings_the_error_too() -> None:
    def broken() -> Iterator[list[Chunk]]:
        yield [(1, b"good")]
        raise LogsUnavailable("the engine is gone")

    hose = Hose(asyncio.get_running_loop())
    await asyncio.to_thread(hose.pour, broken())
    taken = hose.taken()
    assert await anext(taken) == (1, b"good")
    with pytest.raises(LogsUnavailable):
        await anext(taken)


async def test_a_closed_hose_ends_its_thread() -> None:
    def endless() -> Iterator[list[Chunk]]:
        while True:
            yield [(1, b"x")]

    hose = Hose(asyncio.get_running_loop())
    pouring = asyncio.create_task(asyncio.to_thread(hose.pour, endless()))
    assert await anext(hose.taken()) == (1, b"x")
    hose.close()
    await pouring
