"""The store keeps what it acknowledged, whatever happens, and refuses what it cannot trust."""

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rain import store
from rain.store import Store, StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rain.db"


async def _kept(path: Path) -> dict[str, bytes]:
    opened = Store.open(path)
    try:
        return dict(opened.read_all())
    finally:
        await opened.close()


async def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    opened = Store.open(path)
    assert opened.read_all() == []
    await opened.write([("b", b"2"), ("a", b"1"), ("c", b"")], [])
    await opened.write([("a", b"new")], ["b", "unknown"])
    assert opened.read_all() == [("a", b"new"), ("c", b"")]
    await opened.close()
    assert await _kept(path) == {"a": b"new", "c": b""}


def test_the_file_is_private(path: Path) -> None:
    _filled(path)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_many_writers_share_transactions_and_keep_their_order(path: Path) -> None:
    opened = Store.open(path)
    count = store.WRITES_QUEUED_MAX + 500
    await asyncio.gather(
        *(opened.write([("last", str(n).encode()), (f"k{n:05}", b"x")], []) for n in range(count))
    )
    await opened.close()
    kept = await _kept(path)
    assert len(kept) == count + 1
    assert kept["last"] == str(count - 1).encode()


async def test_close_finishes_what_is_queued(path: Path) -> None:
    opened = Store.open(path)
    writes = [asyncio.ensure_future(opened.write([(f"k{n}", b"x")], [])) for n in range(50)]
    await asyncio.sleep(0)
    await opened.close()
    await asyncio.gather(*writes)
    await opened.close()
    assert len(await _kept(path)) == 50
    with pytest.raises(StoreError, match="closed"):
        await opened.write([("late", b"x")], [])


async def test_one_bad_write_does_not_take_its_neighbours_along(path: Path) -> None:
    opened = Store.open(path)
    bad = [("bad", None)]  # the column refuses it
    results = await asyncio.gather(
        opened.write([("a", b"1")], []),
        opened.write(bad, []),  # type: ignore[arg-type]
        opened.write([("b", b"2")], []),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), StoreError, type(None)]
    await opened.close()
    assert await _kept(path) == {"a": b"1", "b": b"2"}


async def test_a_waiter_that_gave_up_harms_nobody(path: Path) -> None:
    opened = Store.open(path)
    first = asyncio.ensure_future(opened.write([("a", b"1")], []))
    await asyncio.sleep(0)
    first.cancel()
    await opened.write([("b", b"2")], [])
    await opened.close()
    assert (await _kept(path))["b"] == b"2"


# --- Killed while writing ------------------------------------------------------------------------

WRITER = """
import asyncio, sys
from pathlib import Path
from rain.store import Store

async def main():
    opened = Store.open(Path(sys.argv[1]))
    async def one(lane):
        n = 0
        while True:
            key = f"{lane}/{n}"
            await opened.write([(key, key.encode() * 50)], [])
            print(key, flush=True)
            n += 1
    await asyncio.gather(*(one(lane) for lane in range(8)))

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9(path: Path) -> None:
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        with writer.stdout as words:
            acknowledged = [words.readline().strip() for _ in range(120)]
            writer.send_signal(signal.SIGKILL)
            acknowledged += [line.strip() for line in words if line.endswith("\n")]
        assert writer.wait() == -signal.SIGKILL
        kept = asyncio.run(_kept(path))
        for key in acknowledged:
            assert kept[key] == key.encode() * 50


# --- Files that cannot be trusted ----------------------------------------------------------------


def _refused(path: Path, words: str) -> StoreError:
    """Opening is refused with these words; the file is as it was, and unlocked again."""
    before = path.read_bytes()
    with pytest.raises(StoreError, match=words) as refused:
        Store.open(path)
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match=words):
        Store.open(path)
    return refused.value


def _filled(path: Path) -> None:
    asyncio.run(_fill(path))


async def _fill(path: Path) -> None:
    opened = Store.open(path)
    await opened.write([(f"k{n}", os.urandom(500)) for n in range(400)], [])
    await opened.close()


@pytest.mark.parametrize("content", [b"", b"SQLite", b"not a database " * 1000])
def test_a_foreign_or_empty_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert str(path) in _refused(path, "not a store").hint


def test_the_file_of_another_program_is_refused(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    _refused(path, "another program")


def test_a_cut_file_is_refused(path: Path) -> None:
    _filled(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    _refused(path, "damaged|malformed")


def test_a_file_with_torn_pages_is_refused(path: Path) -> None:
    _filled(path)
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 20] = os.urandom(4096 * 17)
    path.write_bytes(content)
    _refused(path, "damaged|malformed")


def test_a_newer_version_is_refused(path: Path) -> None:
    _filled(path)
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute("UPDATE meta SET value = '99'")
        newer.commit()
    assert "newer Rain" in _refused(path, "newer Rain").hint


def test_a_journal_without_its_file_is_refused(path: Path) -> None:
    path.with_name("rain.db-wal").write_bytes(b"x" * 100)
    with pytest.raises(StoreError, match="is gone but its journal"):
        Store.open(path)
    assert not path.exists()


def test_a_creation_that_was_cut_short_is_begun_again(path: Path) -> None:
    path.with_name("rain.db.new").write_bytes(b"half")
    _filled(path)
    assert len(asyncio.run(_kept(path))) == 400


async def test_two_agents_on_one_folder_are_told_apart(path: Path) -> None:
    first = Store.open(path)
    with pytest.raises(StoreError, match="another agent") as refused:
        Store.open(path)
    assert "--data-dir" in refused.value.hint
    await first.close()
    assert await _kept(path) == {}


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path / "none" / "rain.db")


# --- What SQLite does not notice -----------------------------------------------------------------


async def _write(path: Path, *writes: list[tuple[str, bytes]]) -> None:
    opened = Store.open(path)
    for rows in writes:
        await opened.write(rows, [])
    await opened.close()


async def _damage(path: Path) -> tuple[dict[str, bytes], tuple[str, ...]]:
    opened = Store.open(path)
    try:
        return dict(opened.read_all()), opened.damaged
    finally:
        await opened.close()


def _behind_its_back(path: Path, change: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(change)
        other.commit()


def test_a_changed_value_is_told_and_not_read(path: Path) -> None:
    asyncio.run(_write(path, [("a", b"one"), ("b", b"two")]))
    content = path.read_bytes()
    assert content.count(b"two") == 1
    path.write_bytes(content.replace(b"two", b"twp"))
    assert asyncio.run(_damage(path)) == ({"a": b"one"}, ("b",))

    asyncio.run(_write(path, [("b", b"three")]))
    assert asyncio.run(_damage(path)) == ({"a": b"one", "b": b"three"}, ())


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM rows WHERE key = 'k7'",
        "UPDATE rows SET sum = x'00' WHERE key = 'k7'",
        "UPDATE rows SET sum = (SELECT sum FROM rows WHERE key = 'k8') WHERE key = 'k7'",
        "UPDATE rows SET number = 99 WHERE key = 'k7'",
    ],
)
def test_rows_that_are_gone_or_of_another_time_are_damage(path: Path, change: str) -> None:
    _filled(path)
    _behind_its_back(path, change)
    with pytest.raises(StoreError, match="is damaged") as damaged:
        asyncio.run(_kept(path))
    assert damaged.value.kind == "damaged"
    assert "rain repair" in damaged.value.hint


def test_a_schema_that_is_no_text_is_damage(path: Path) -> None:
    _filled(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE rows", b"CREATE TABLE \xd7\xd7\xd7\xd7"))
    assert _refused(path, "is damaged|cannot be opened|lost").kind == "damaged"


@pytest.mark.parametrize("change", ["DELETE FROM meta", "UPDATE meta SET value = 'x'"])
def test_a_store_without_its_number_is_damage(path: Path, change: str) -> None:
    _filled(path)
    _behind_its_back(path, change + " WHERE key = 'state'")
    _refused(path, "has lost its number")


def test_an_older_file_in_its_place_is_told(path: Path) -> None:
    asyncio.run(_write(path, [("a", b"1")]))
    older = path.read_bytes()
    asyncio.run(_write(path, [("a", b"2")], [("a", b"3")]))
    path.write_bytes(older)
    assert _refused(path, "the last 2 of its writes are gone").kind == "damaged"


async def test_a_journal_that_is_broken_within_is_refused_and_stays(path: Path) -> None:
    opened = Store.open(path)
    for number in range(20):
        await opened.write([(f"k{number}", b"x" * 100)], [])
    journal = path.with_name("rain.db-wal")
    files = {each: each.read_bytes() for each in (path, journal, path.with_name("rain.db.mark"))}
    await opened.close()
    for each, content in files.items():
        each.write_bytes(content)
    broken = bytearray(files[journal])
    broken[len(broken) // 2] ^= 1
    journal.write_bytes(broken)
    with pytest.raises(StoreError, match="of its writes are gone"):
        Store.open(path)
    assert journal.read_bytes() == broken


async def test_a_snapshot_is_of_one_moment(path: Path) -> None:
    opened = Store.open(path)
    pairs = [
        asyncio.ensure_future(opened.write([("a", b"%d" % n), ("b", b"%d" % n)], []))
        for n in range(50)
    ]
    seen = dict(await opened.snapshot())
    assert seen.get("a") == seen.get("b")
    await asyncio.gather(*pairs)
    assert await opened.snapshot() == [("a", b"49"), ("b", b"49")]
    await opened.close()


# --- A store of the first version ----------------------------------------------------------------


def _of_version_1(path: Path, rows: dict[str, bytes]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(
            f"""
            PRAGMA application_id = {store.APPLICATION_ID};
            PRAGMA journal_mode = WAL;
            CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE rows (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
            INSERT INTO meta VALUES ('schema_version', '1');
            """
        )
        old.executemany("INSERT INTO rows VALUES (?, ?)", rows.items())
        old.commit()


def test_a_store_of_version_1_is_taken_over(path: Path) -> None:
    rows = {f"k{n:03}": os.urandom(n * 20) for n in range(300)}
    _of_version_1(path, rows)
    assert asyncio.run(_damage(path)) == (rows, ())
    assert asyncio.run(_damage(path)) == (rows, ())
    content = path.read_bytes()
    path.write_bytes(content.replace(rows["k250"][:100], bytes(100)))
    assert asyncio.run(_damage(path))[1] == ("k250",)


async def test_what_was_taken_over_is_in_the_file_when_it_is_open(path: Path) -> None:
    _of_version_1(path, {f"k{n:03}": os.urandom(500) for n in range(100)})
    opened = Store.open(path)
    journal = path.with_name(path.name + "-wal")
    assert journal.stat().st_size == 0
    await opened.close()


def test_a_takeover_that_found_no_room_is_begun_again(path: Path) -> None:
    rows = {f"k{n:03}": os.urandom(1_000) for n in range(300)}
    _of_version_1(path, rows)
    size = path.stat().st_size
    with _files_end_at(size // 2), pytest.raises(StoreError):
        Store.open(path)
    assert asyncio.run(_damage(path)) == (rows, ())


# --- A full disk ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _files_end_at(size: int) -> Iterator[None]:
    """No file of this process may grow beyond this: what a full disk looks like to SQLite."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_fails_the_write_and_later_writes_work_again(path: Path) -> None:
    opened = Store.open(path)
    await opened.write([("before", b"1")], [])
    with _files_end_at(256 * 1024):
        with pytest.raises(StoreError, match="could not be written") as full:
            await opened.write([("big", os.urandom(1024 * 1024))], [])
        assert "space" in full.value.hint
        await opened.write([("small", b"2")], [])
    await opened.write([("big", b"3" * 1024 * 1024)], [])
    await opened.close()
    assert await _kept(path) == {"before": b"1", "small": b"2", "big": b"3" * 1024 * 1024}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root only")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "rain-test", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_really_full_disk(small_disk: Path) -> None:
    opened = Store.open(small_disk / "rain.db")
    await opened.write([("before", b"1")], [])
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    rows = [(f"k{n}", os.urandom(8_000)) for n in range(100)]
    with pytest.raises(StoreError, match="could not be written"):
        await opened.write(rows, [])
    filler.unlink()
    await opened.write([("after", b"2")], [])
    await opened.close()
    kept = await _kept(small_disk / "rain.db")
    assert (kept["before"], kept["after"]) == (b"1", b"2")
