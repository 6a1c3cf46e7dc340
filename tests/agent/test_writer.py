"""The writer: what a disk that refuses does to what depends on it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from rain.agent.disk import DiskState
from rain.agent.writer import OWED_ROWS_MAX, Writer
from rain.effects import DiskFailed, DiskRecovered, Effect, Event, Log, Persist, Persisted
from rain.election.records import BehindRecord, EpochRecord, ViewRecord
from rain.gossip.records import LifeRow
from rain.log import Logger
from rain.mesh import codec
from rain.model import Epoch, JobId, NodeId
from rain.sched.records import TombstoneRow
from rain.store import Store, StoreError
from tests.torn import files_end_at


class Disk:
    """A disk in memory that refuses as often as it is told to."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.deleted: list[str] = []
        self.refusals = 0

    async def write(self, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str]) -> None:
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise StoreError("full", "")
        self.rows.update(puts)
        self.deleted.extend(deletes)


class Story:
    """A writer, its disk, and all that happened in order."""

    def __init__(self, logger: Logger) -> None:
        self.disk = Disk()
        self.told: list[object] = []
        self.writer = Writer(self.disk, self._carry_out, self._feed, logger)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        self.told.extend(effects)

    def _feed(self, event: Event) -> None:
        self.told.append(event)


def epoch_write(number: int, after: str, token: int = 0) -> Persist:
    epoch = Epoch(number, NodeId("n1"), 7)
    return Persist((EpochRecord(epoch, epoch),), then=(Log(after),), token=token)


async def test_what_follows_a_write_comes_after_it(logger: Logger) -> None:
    story = Story(logger)
    story.writer.enqueue(epoch_write(1, "after", token=5))
    await story.writer.write_once()

    assert list(story.disk.rows) == [epoch_write(1, "").puts[0].key()]
    assert story.told[0] == Log("after")
    assert isinstance(story.told[1], Persisted)
    assert story.told[1].token == 5


async def test_what_waits_behind_a_failed_write_is_dropped_too(logger: Logger) -> None:
    story = Story(logger)
    story.disk.refusals = 1
    story.writer.enqueue(epoch_write(1, "first"))
    failing = asyncio.create_task(story.writer.write_once())
    await asyncio.sleep(0)
    story.writer.enqueue(epoch_write(2, "queued behind it"))
    await failing
    await asyncio.sleep(0)
    assert story.told == [DiskFailed("full")]

    await story.writer.write_once()
    assert story.told == [DiskFailed("full"), DiskRecovered()]
    assert story.writer.reason == ""


async def test_rows_that_were_refused_reach_the_disk_with_the_next_write(logger: Logger) -> None:
    story = Story(logger)
    story.disk.refusals = 1
    story.writer.enqueue(epoch_write(3, "never"))
    await story.writer.write_once()
    await asyncio.sleep(0)
    await story.writer.write_once()

    assert len(story.disk.rows) == 1
    assert Log("never") not in story.told


async def test_deletes_of_forgotten_jobs_push_nothing_out_that_is_owed(logger: Logger) -> None:
    story = Story(logger)
    story.disk.refusals = 10**9
    owed = Persist((LifeRow(7), BehindRecord(), TombstoneRow(JobId("j"), 20_000)))
    story.writer.enqueue(owed)
    kept = [f"attempt/{number}" for number in range(100)]
    story.writer.enqueue(Persist(deletes=tuple(kept)))
    await story.writer.write_once()
    for number in range(OWED_ROWS_MAX // 5_000 + 1):
        keys = (f"task/j/{number * 5_000 + n}" for n in range(5_000))
        story.writer.enqueue(Persist(deletes=tuple(keys)))
        await story.writer.write_once()
    story.disk.refusals = 0
    await story.writer.write_once()

    assert set(story.disk.rows) == {row.key() for row in owed.puts}
    assert set(kept) <= set(story.disk.deleted)
    assert len(story.disk.deleted) + len(story.disk.rows) == OWED_ROWS_MAX


async def test_an_overflow_while_a_write_is_under_way_is_told_and_healed(logger: Logger) -> None:
    story = Story(logger)
    for number in range(10_002):
        story.writer.enqueue(epoch_write(number, "x"))
    await asyncio.sleep(0)
    assert [type(one) for one in story.told] == [DiskFailed]

    await story.writer.write_once()
    assert [type(one) for one in story.told] == [DiskFailed, DiskRecovered]


async def test_a_slow_disk_is_told_once(logger: Logger) -> None:
    story = Story(logger)
    for number in range(3):
        story.writer.health.pace.took(9_000)
        story.writer.enqueue(epoch_write(number, "after"))
        await story.writer.write_once()
    assert story.writer.health.told()[0] is DiskState.SLOW
    assert story.told == [Log("after")] * 3, "slow is no failure: nothing is dropped"


@pytest.mark.parametrize("size", range(0, 200_000, 20_011))
async def test_a_disk_full_at_any_byte_drops_what_it_did_not_keep(
    tmp_path: Path, logger: Logger, size: int
) -> None:
    store = Store.open(tmp_path / "rain.db")
    told: list[object] = []
    writer = Writer(store, told.extend, told.append, logger)
    with files_end_at(max(size, 20_000)):
        for number in range(25):
            record = ViewRecord(tuple(NodeId(f"{number:04}{n:05}") for n in range(200)))
            writer.enqueue(Persist((record,), then=(Log(str(number)),)))
            await writer.write_once()
            await asyncio.sleep(0)
            kept = dict(await store.snapshot())
            if Log(str(number)) in told:
                assert codec.decode_record(kept[record.key()]) == record
    await writer.write_once()
    assert writer.reason == ""
    failed = [one for one in told if isinstance(one, DiskFailed)]
    assert told.count(DiskRecovered()) == len(failed)
    assert bool(failed) is (len([one for one in told if isinstance(one, Log)]) < 25)
    last = codec.decode_record(dict(await store.snapshot())[record.key()])
    assert last == record, "what was refused is owed"
    await store.close()
