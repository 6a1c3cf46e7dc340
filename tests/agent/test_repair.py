"""A torn store is put aside whole; what is left of it is used, and said to be old."""

import asyncio
from pathlib import Path

import pytest

from rain.agent.recollection import BOOT_KEY, DISK_KEY, STORE_FILE, begin, forget, records_in
from rain.agent.repair import _rows_of, repair
from rain.agent.salvage import PAGE_BYTES, _Images, _row_at, salvage
from rain.effects import Record
from rain.election.records import BehindRecord, EpochRecord
from rain.gossip.lives import Lives
from rain.gossip.records import LifeRow
from rain.log import Logger
from rain.mesh import codec, keys
from rain.model import Epoch, JobId, NodeId
from rain.rows import beside
from rain.sched.messages import JobPatch
from rain.sched.records import TombstoneRow
from rain.store import Store, StoreError
from rain.trust.messages import RingKey
from rain.trust.records import RingRow
from tests.agent.desk import OneNode
from tests.sched.samples import make_job, make_table

EPOCH = Epoch(7, NodeId("n1"), 3)
Rows = dict[str, bytes]


def rows_of(*records: Record) -> Rows:
    return {record.key(): codec.encode_record(record) for record in records}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / STORE_FILE


async def _write(path: Path, rows: Rows) -> None:
    store = Store.open(path)
    await store.write(list(rows.items()), ())
    await store.close()


async def _read(path: Path) -> Rows:
    store = Store.open(path)
    rows = dict(store.read_all())
    await store.close()
    return rows


def _change(path: Path, old: bytes) -> None:
    """One bit of a value, wherever it lies."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, bytes([old[0] ^ 1]) + old[1:]))


def _numbered(count: int) -> Rows:
    return {f"task/j/{n:04}": b"value %d" % n * 30 for n in range(count)}


def test_half_a_page_is_half_saved(path: Path) -> None:
    asyncio.run(_write(path, _numbered(6)))
    path.write_bytes(path.read_bytes()[:-400])
    assert 0 < asyncio.run(repair(path.parent)).saved["tasks"] < 6


def test_a_whole_store_is_left_alone(path: Path) -> None:
    asyncio.run(_write(path, _numbered(10)))
    before = path.read_bytes()
    done = asyncio.run(repair(path.parent))
    assert (done.why, done.kept_as) == ("", None)
    assert path.read_bytes() == before


def test_one_changed_row_costs_one_row(path: Path) -> None:
    rows = _numbered(200)
    asyncio.run(_write(path, rows))
    _change(path, rows["task/j/0050"])
    torn = path.read_bytes()
    done = asyncio.run(repair(path.parent))

    assert "1 rows" in done.why
    assert done.kept_as == beside(path, ".damaged-1")
    assert done.kept_as.read_bytes() == torn, "nothing is ever deleted"
    assert done.saved == {"tasks": 199}
    kept = asyncio.run(_read(path))
    assert kept.pop(BehindRecord().key())
    assert b"199 rows saved" in kept.pop(DISK_KEY)
    assert kept == {key: value for key, value in rows.items() if key != "task/j/0050"}


def test_what_is_gone_but_for_its_journal_is_saved_from_that(path: Path) -> None:
    async def lose() -> None:
        store = Store.open(path)
        await store.write(list(_numbered(50).items()), ())
        journals.append(await asyncio.to_thread(beside(path, "-wal").read_bytes))
        await store.close()

    journals: list[bytes] = []
    asyncio.run(lose())
    path.unlink()
    beside(path, "-wal").write_bytes(journals[0])
    assert asyncio.run(repair(path.parent)).saved == {"tasks": 50}


def test_rows_with_and_without_sums_are_saved_of_a_takeover_that_was_torn(path: Path) -> None:
    old = TombstoneRow(JobId("old"), 20_000)
    both = TombstoneRow(JobId("both"), 20_000)
    newer = TombstoneRow(JobId("both"), 20_001)
    asyncio.run(_write(path, rows_of(newer)))
    unsummed = {**rows_of(old, both), "forgotten/chance": b"no record"}
    found = salvage(path)
    found.unsummed.update(unsummed)
    kept = {key: row for key, row in _rows_of(found, path).items() if key.startswith("forgotten/")}
    assert kept == rows_of(old, newer)


class _ManyImages(_Images):
    """Each page goes on with the next of so many, the last with the first."""

    def __init__(self, count: int) -> None:
        super().__init__(b"", b"")
        self.asked: list[int] = []
        self._count = count

    def newest(self, page: int) -> bytes:
        self.asked.append(page)
        return ((page + 1) % self._count).to_bytes(4, "big") + bytes(PAGE_BYTES - 4)


def test_a_long_value_whose_pages_run_in_a_circle_ends() -> None:
    images = _ManyImages(3)
    with pytest.raises(ValueError, match="circle"):
        _row_at(b"\x84\x80\x80\x00" + bytes(PAGE_BYTES), 0, images)  # 8 MiB
    assert images.asked == [0, 1, 2]


def test_no_more_of_a_long_value_is_read_than_a_row_may_have() -> None:
    images = _ManyImages(2**30)
    with pytest.raises(ValueError, match="that long"):
        _row_at(b"\x90\x80\x80\x00" + bytes(PAGE_BYTES), 0, images)  # 32 MiB
    assert images.asked == []


def test_the_boot_epoch_is_none_that_was(path: Path, logger: Logger) -> None:
    far = 2**40
    own = {**rows_of(LifeRow(far)), BOOT_KEY: (5).to_bytes(8, "big")}
    asyncio.run(_write(path, {**own, **_numbered(2)}))
    _change(path, _numbered(2)["task/j/0001"])
    asyncio.run(repair(path.parent))

    async def start() -> int:
        store = Store.open(path)
        _, boot_epoch, _ = await begin(path.parent, store, logger)
        await store.close()
        return boot_epoch

    assert asyncio.run(start()) > far


@pytest.mark.parametrize("steps", range(3))
def test_a_repair_that_was_cut_short_goes_on(
    path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _numbered(100)
    asyncio.run(_write(path, rows))
    _change(path, rows["task/j/0050"])
    torn, left = path.read_bytes(), steps

    rename = Path.rename

    def cut(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(5, "pulled")
        return rename(self, target)

    with monkeypatch.context() as power:
        power.setattr(Path, "rename", cut)
        if steps < 2:
            with pytest.raises(StoreError, match="cannot be repaired"):
                asyncio.run(repair(path.parent))
            with pytest.raises(StoreError, match="its repair was cut short"):
                Store.open(path)
    asyncio.run(repair(path.parent))
    assert beside(path, ".damaged-1").read_bytes() == torn
    assert not beside(path, ".damaged-2").exists()
    kept = asyncio.run(_read(path))
    assert set(rows) - set(kept) == {"task/j/0050"}


async def test_a_store_in_use_is_not_repaired(path: Path) -> None:
    store = Store.open(path)
    with pytest.raises(StoreError, match="another agent runs"):
        await repair(path.parent)
    await store.close()


def test_where_there_is_no_store_there_is_nothing_to_repair(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        asyncio.run(repair(path.parent))
    assert not path.exists()


def test_what_a_repair_lost_comes_back_from_another_copy(path: Path) -> None:
    jobs = [make_job(1, f"job {n}") for n in range(60)]
    other = make_table()
    patches = other.merge([JobPatch(job.job_id, job) for job in jobs])
    asyncio.run(_write(path, rows_of(*other.records(patches))))
    content = bytearray(path.read_bytes())
    content[2 * 4096 : 4 * 4096] = bytes(2 * 4096)
    path.write_bytes(content)
    done = asyncio.run(repair(path.parent))
    assert 0 < done.saved["jobs"] < 60

    records = [codec.decode_record(row) for key, row in asyncio.run(_read(path)).items()
               if not key.startswith("agent/")]  # fmt: skip
    mine = make_table([record for record in records if isinstance(record, Record)])
    assert mine.digest() != other.digest()
    mine.merge(patches)
    assert mine.digest() == other.digest()


# --- How the agent starts ------------------------------------------------------------------------


async def test_a_folder_of_the_last_release_is_no_old_disk(path: Path, logger: Logger) -> None:
    """It kept the number of its start and no life: peers that tell of that start tell no news."""
    await _write(path, {BOOT_KEY: (7).to_bytes(8, "big")})
    store = Store.open(path)
    kept, boot_epoch, _ = await begin(path.parent, store, logger)
    known = [row for row in records_in(kept) if isinstance(row, LifeRow)]
    lives = Lives(boot_epoch, known)
    assert lives.remind(7) is None
    assert lives.remind(8) is not None
    await store.close()


async def test_rows_that_others_have_are_done_without(path: Path, logger: Logger) -> None:
    rows = {**_numbered(10), **rows_of(EpochRecord(EPOCH, EPOCH))}
    await _write(path, rows)
    await asyncio.to_thread(_change, path, rows["task/j/0003"])
    store = Store.open(path)
    kept, _, health = await begin(path.parent, store, logger)
    assert "task/j/0003" not in kept
    assert BehindRecord().key() in kept
    state, reason = health.told()
    assert state == "failing"
    assert "rain repair" in reason
    await store.close()


async def test_rows_that_say_who_this_is_are_not_done_without(path: Path, logger: Logger) -> None:
    ring = rows_of(RingRow((RingKey(1, b"k" * 32),)))
    await _write(path, ring)
    await asyncio.to_thread(_change, path, b"k" * 32)
    store = Store.open(path)
    with pytest.raises(StoreError, match="trust/ring") as refused:
        await begin(path.parent, store, logger)
    assert refused.value.kind == "damaged"
    await store.close()


async def test_a_store_that_is_gone_under_a_known_pc_is_told(
    tmp_path: Path, logger: Logger
) -> None:
    desk = OneNode(tmp_path)
    await desk.store.close()
    keys.keep_pool(tmp_path, desk.pool)
    store = Store.open(tmp_path / STORE_FILE)
    kept, _, health = await begin(tmp_path, store, logger)
    assert BehindRecord().key() in kept
    assert health.told()[0] == "repaired"
    await store.close()


async def test_what_a_repair_did_is_told_at_the_next_start_only(path: Path, logger: Logger) -> None:
    await _write(path, {DISK_KEY: b"mended"})
    told = []
    for _ in range(2):
        store = Store.open(path)
        kept, _, health = await begin(path.parent, store, logger)
        assert DISK_KEY not in kept
        told.append(health.told()[1])
        await store.close()
    assert told == ["mended", ""]


def test_leaving_takes_what_was_put_aside_along(path: Path) -> None:
    rows = _numbered(100)
    asyncio.run(_write(path, rows))
    _change(path, rows["task/j/0050"])
    asyncio.run(repair(path.parent))
    forget(path.parent)
    assert sorted(each.name for each in path.parent.iterdir()) == [f"{STORE_FILE}.lock"]
