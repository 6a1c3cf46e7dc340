"""Frames, and the files that outlive containers."""

import asyncio
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.exec.engine import Engine
from rain.exec.logs import (
    CHUNKS_AHEAD_MAX,
    KEPT_BYTES_MAX,
    REMARK,
    STDERR,
    STDOUT,
    Chunk,
    FrameSplitter,
    Hose,
    KeptLogs,
    LogSource,
    LogsUnavailable,
    after,
    frame,
    prune,
    tail_of,
    unpacked,
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


def test_a_log_as_long_as_engines_keep_them_says_that_it_may_not_be_whole(tmp_path: Path) -> None:
    kept = KeptLogs(tmp_path)
    kept.keep("a", [frame(1, b"short")])
    kept.keep("b", [frame(1, b"x" * 1_000_000)] * 81)
    last = {key: list(_source(kept, key).batches())[-1][-1] for key in ("a", "b")}
    assert last["a"] == (1, b"short")
    assert last["b"] == (REMARK, b"as long as an engine keeps a log: its beginning may be gone")


def _source(kept: KeptLogs, key: str) -> LogSource:
    return LogSource(cast(Engine, None), kept, key, follow=False)


class Hasty:
    """An engine that ends a followed log before its end, as they do now and then."""

    def __init__(self, whole: list[bytes], followed: int, then: Callable[[], None]) -> None:
        self._whole, self._followed, self._then = whole, followed, then

    def logs(
        self, name: str, follow: bool, opened: Callable[[Callable[[], None]], None]
    ) -> Iterator[bytes]:
        assert name == "rain-a"
        opened(lambda: None)
        yield from self._whole[: self._followed] if follow else self._whole
        self._then()


PRINTED = [frame(1, b"one\n"), frame(2, b"oops\n"), frame(1, b"two\n"), frame(1, b"three\n")]


def _followed(kept: KeptLogs, engine: Hasty) -> list[Chunk]:
    source = LogSource(cast(Engine, engine), kept, "a", follow=True)
    return [chunk for batch in source.batches() for chunk in batch]


@pytest.mark.parametrize("followed", range(5))
def test_what_a_followed_log_lacks_at_its_end_is_read_again(tmp_path: Path, followed: int) -> None:
    engine = Hasty(PRINTED, followed, lambda: None)
    whole = [(1, b"one\n"), (2, b"oops\n"), (1, b"two\n"), (1, b"three\n")]
    assert _followed(KeptLogs(tmp_path), engine) == whole


def test_the_rest_of_a_followed_log_is_in_the_kept_one_where_its_container_is_gone(
    tmp_path: Path,
) -> None:
    kept = KeptLogs(tmp_path)
    engine = Hasty(PRINTED, 3, lambda: kept.keep("a", PRINTED))
    assert _followed(kept, engine)[2:] == [(1, b"two\n"), (1, b"three\n")]


def test_a_reader_who_left_is_read_nothing_more(tmp_path: Path) -> None:
    engine = Hasty(PRINTED, 1, lambda: source.close())
    source = LogSource(cast(Engine, engine), KeptLogs(tmp_path), "a", follow=True)
    assert list(source.batches()) == [[(1, b"one\n")]]


@given(CHUNKS, st.integers(0, 300))
def test_after_what_was_given_comes_the_rest_and_nothing_twice(
    chunks: list[Chunk], given_bytes: int
) -> None:
    printed = b"".join(content for _, content in chunks)
    rest = b"".join(content for batch in after(given_bytes, [chunks]) for _, content in batch)
    assert rest == printed[given_bytes:]


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=30),
    st.integers(0, 300),
)
def test_a_tail_is_the_last_whole_frames(pieces: list[Chunk], bytes_max: int) -> None:
    whole = [frame(stream, content) for stream, content in pieces]
    tail = tail_of(io.BytesIO(b"".join(whole)), bytes_max)
    kept = [piece for n, piece in enumerate(whole) if len(b"".join(whole[n:])) <= bytes_max]
    assert tail.frames == b"".join(kept)
    left = pieces[: len(pieces) - len(kept)]
    assert tail.left_out == tuple(
        sum(len(content) for stream, content in left if stream == which)
        for which in (STDOUT, STDERR)
    )
    assert not kept or unpacked(tail.packed()) == tail


def test_a_tail_of_a_long_log_is_quick(tmp_path: Path) -> None:
    kept = KeptLogs(tmp_path)
    kept.keep("a", [frame(1, b"x" * 72) * 10_000] * 100)
    began = time.monotonic()
    assert kept.tail("a").left_out[0] > 70_000_000
    assert time.monotonic() - began < 5


def test_what_is_no_log_has_no_tail(tmp_path: Path) -> None:
    kept = KeptLogs(tmp_path)
    (tmp_path / "a.log").write_bytes(b"rubbish!" * 100_000)
    assert kept.tail("a").packed() == b""
    assert kept.tail("none").packed() == b""
    assert unpacked(b"short") is None


def test_only_logs_with_something_in_them_are_listed(tmp_path: Path) -> None:
    kept = KeptLogs(tmp_path / "logs")
    assert kept.keys() == []
    kept.keep("b.0.1.ffffff", [frame(1, b"out")])
    kept.keep("a.0.1.ffffff", [])
    assert kept.keys() == ["b.0.1.ffffff"]
