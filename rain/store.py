"""The disk of one node: rows of key and bytes in one SQLite file. No other file opens SQLite.

A write is acknowledged when it is durable (WAL, synchronous=FULL) and not before. One thread
writes; what queues up while it waits for the disk goes into its next transaction together, so
the cost of an fsync is shared. A file that is not ours, torn, or of a newer Rain is refused with
an error and stays untouched: nothing here ever deletes what it cannot read.

SQLite does not notice a changed bit, so this file does. Every row has a sum over its key, its value
and the number of the write that put it. The sums of all rows, taken together, and the number of
the last write are kept in each transaction: a row that is missing or of another time shows. And
the number stands in the *mark* beside the file, written after the fsync without one of its own:
so it is never ahead of what was acknowledged, and a store that is behind it has lost something.

The file is made under another name and renamed when it is complete, so an empty or headless file
under the real name is always damage, never a start that was cut short.
"""

import asyncio
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rain.rows import (
    SUM_BYTES,
    Mark,
    beside,
    is_sound,
    keep_journal,
    put_journal_back,
    row_sum,
    sync_folder,
)

if sys.platform != "win32":
    import fcntl

SCHEMA_VERSION = 2
"""1: rows had no sums."""
APPLICATION_ID = 0x5241494E
"""`RAIN` in ASCII: tells our file from anybody else's SQLite file."""
WRITES_QUEUED_MAX = 4_096
"""Writes that wait for the disk; the next ones wait in line before the queue."""
GROUP_WRITES_MAX = 1_024
"""Writes in one transaction."""
WAL_PAGES_MAX = 2_000
CLOSE_TIMEOUT_S = 10

_HEADER = b"SQLite format 3\x00"
_DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""The last: our statements have no errors, so the schema in the file has."""
_SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite says of a damaged schema quotes it, and that may be no text."""
_FOLDER_HINT = "check the folder's owner and the space on its disk, or use another --data-dir"
_FULL_HINT = "free some space on the disk of {folder}; Rain goes on by itself then"
_DAMAGE_HINT = "save what can be read, and keep {path} aside: rain repair"

Rows = Sequence[tuple[str, bytes]]


class StoreError(Exception):
    """The disk said no. `hint` says what a person can do about it."""

    def __init__(self, message: str, hint: str = "", kind: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind
        """`damaged`: a repair may help; `full`; `failing`: the device said no; else empty."""


@dataclass(frozen=True)
class _Write:
    puts: Rows
    deletes: Sequence[str]
    done: "asyncio.Future[None]"


@dataclass(frozen=True)
class _Read:
    done: "asyncio.Future[list[tuple[str, bytes]]]"


class Store:
    """Opened with `Store.open`; used from one event loop."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, lock: int, *, is_new: bool = False
    ) -> None:
        self.path = path
        self.is_new = is_new
        """There was no file."""
        self.damaged: tuple[str, ...] = ()
        """Keys whose rows do not have their sum, as `read_all` found them."""
        self._connection = connection
        self._lock = lock
        self._store_id, self._number, self._digest = _state_of(path, connection)
        self._mark = Mark(path, self._store_id)
        if self._mark.number > self._number:
            gone = self._mark.number - self._number
            self._mark.close()
            raise _damage(path, f"the last {gone} of its writes are gone")
        self._queue: queue.SimpleQueue[_Write | _Read | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(WRITES_QUEUED_MAX)
        self._thread = threading.Thread(target=self._run, name="rain-store", daemon=True)
        self._is_closed = False
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the file, or make it where there is none. Raises StoreError."""
        lock = take_lock(path)
        try:
            if beside(path, ".repaired").exists():
                raise _damage(path, "its repair was cut short")
            is_new = not path.exists()
            if is_new:
                _refuse_orphan(path)
                make_store(path, ())
            return cls._looked_at(path, lock, is_new)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, OSError):
                raise StoreError(
                    f"{path} cannot be opened: {error.strerror}", _FOLDER_HINT
                ) from error
            raise

    @classmethod
    def _looked_at(cls, path: Path, lock: int, is_new: bool) -> "Store":
        keep_journal(path)
        try:
            connection = _connect(path)
            try:
                store = cls(path, connection, lock, is_new=is_new)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            put_journal_back(path)
            raise
        beside(path, "-wal.kept").unlink(missing_ok=True)
        return store

    def read_all(self) -> list[tuple[str, bytes]]:
        """Every row that has its sum, sorted by key; the keys of others are in `damaged`.

        For the start, before the first write. Raises StoreError where rows are missing.
        """
        try:
            found = self._connection.execute(_SELECT).fetchall()
        except _SQLITE_ERRORS as error:
            raise _damage(self.path, str(error)) from error
        rows, damaged, digest, last = [], [], 0, b""
        for key, value, number, own_sum in found:
            name = str(key).encode("utf-8", "replace")
            is_new_row = isinstance(number, int) and number > self._number
            if (last and name <= last) or is_new_row:
                raise _damage(self.path, "its rows are of different times")
            last = name
            if not (isinstance(own_sum, bytes) and len(own_sum) == SUM_BYTES):
                raise _damage(self.path, f"the sum of {str(key)!r} is gone")
            digest ^= int.from_bytes(own_sum, "big")
            if is_sound(key, value, number, own_sum):
                rows.append((key, value))
            else:
                damaged.append(str(key))
        if digest != self._digest:
            raise _damage(self.path, "rows are missing, or older than they should be")
        self.damaged = tuple(damaged)
        return rows

    def damage(self, what: str) -> StoreError:
        """To be raised by who reads the rows and misses one."""
        return _damage(self.path, what)

    async def write(self, puts: Rows, deletes: Sequence[str]) -> None:
        """Put and delete in one transaction; durable on return. Raises StoreError: then nothing."""
        await self._enter()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(_Write(puts, deletes, done))
        await done

    async def snapshot(self) -> list[tuple[str, bytes]]:
        """Every sound row as of one moment between two transactions. Raises StoreError."""
        await self._enter()
        done: asyncio.Future[list[tuple[str, bytes]]]
        done = asyncio.get_running_loop().create_future()
        self._queue.put(_Read(done))
        return await done

    async def close(self) -> None:
        """Finish what is queued, then let the file go. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)

    async def _enter(self) -> None:
        await self._room.acquire()
        if self._is_closed:
            self._room.release()
            raise StoreError(f"{self.path} is closed")

    # --- the writing thread ---

    def _run(self) -> None:
        is_open = True
        while is_open:
            group: list[_Write] = []
            item = self._queue.get()
            while isinstance(item, _Write):
                group.append(item)
                if len(group) >= GROUP_WRITES_MAX:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            is_open = item is not None
            self._commit(group)
            if isinstance(item, _Read):
                self._read(item)
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        self._mark.close()
        os.close(self._lock)

    def _read(self, item: _Read) -> None:
        try:
            found = self._connection.execute(_SELECT).fetchall()
        except _SQLITE_ERRORS as error:
            return self._settle(item, None, _damage(self.path, str(error)))
        rows = [
            (key, value) for key, value, number, own in found if is_sound(key, value, number, own)
        ]
        return self._settle(item, rows, None)

    def _commit(self, group: list[_Write]) -> None:
        error = self._try_commit(group)
        if error is not None and len(group) > 1:
            # One write that cannot be stored must not take its neighbours with it.
            for write in group:
                self._settle(write, None, self._try_commit([write]))
            return
        for write in group:
            self._settle(write, None, error)

    def _try_commit(self, group: list[_Write]) -> StoreError | None:
        if not group:
            return None
        number = self._number + 1
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            digest = self._digest
            for write in group:
                digest ^= _put(self._connection, write.puts, number)
                for key in write.deletes:
                    digest ^= _sum_of(self._connection, key)
                    self._connection.execute("DELETE FROM rows WHERE key = ?", (key,))
            self._connection.execute(_SET_STATE, (_state_text(number, digest),))
            self._connection.execute("COMMIT")
        except (*_SQLITE_ERRORS, OverflowError, TypeError) as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            return _unwritten(self.path, error)
        self._number, self._digest = number, digest
        self._mark.write(number)
        return None

    def _settle(self, item: "_Write | _Read", result: object, error: StoreError | None) -> None:
        # The loop may be gone: then nobody waits for the word.
        with suppress(RuntimeError):
            item.done.get_loop().call_soon_threadsafe(self._tell, item.done, result, error)

    def _tell(self, done: "asyncio.Future[Any]", result: object, error: StoreError | None) -> None:
        self._room.release()
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)


# --- Rows and their sums -------------------------------------------------------------------------

_SELECT = "SELECT key, value, number, sum FROM rows"
"""In the order of the tree, which is that of the keys: sorted again it could not be judged."""
_PUT = (
    "INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
    "SET value = excluded.value, number = excluded.number, sum = excluded.sum"
)
_SET_STATE = "UPDATE meta SET value = ? WHERE key = 'state'"


def _put(connection: sqlite3.Connection, puts: Rows, number: int) -> int:
    """By how much the sum of all sums changes."""
    change = 0
    for key, value in puts:
        own_sum = row_sum(key, value, number)
        change ^= _sum_of(connection, key) ^ int.from_bytes(own_sum, "big")
        connection.execute(_PUT, (key, value, number, own_sum))
    return change


def _sum_of(connection: sqlite3.Connection, key: str) -> int:
    found = connection.execute("SELECT sum FROM rows WHERE key = ?", (key,)).fetchone()
    return int.from_bytes(found[0], "big") if found is not None else 0


def _state_text(number: int, digest: int) -> str:
    return f"{number} {digest:016x}"


def _state_of(path: Path, connection: sqlite3.Connection) -> tuple[bytes, int, int]:
    """The store's own id, the number of its last write, and the sum of all its sums."""
    try:
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        number, digest = str(meta["state"]).split(" ")
        return bytes.fromhex(meta["store"])[:8], int(number), int(digest, 16)
    except _SQLITE_ERRORS as error:
        raise _damage(path, str(error)) from error
    except (KeyError, ValueError, TypeError):
        raise _damage(path, "it has lost its number") from None


# --- Files ---------------------------------------------------------------------------------------


def take_lock(path: Path) -> int:
    """Two agents on one data folder would both be the same node: the second one is told so."""
    lock_path = beside(path, ".lock")
    try:
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise StoreError(f"{lock_path} cannot be opened: {error.strerror}", _FOLDER_HINT) from error
    if sys.platform == "win32":
        return lock  # SQLite's own exclusive lock keeps the second agent out there
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StoreError(
            f"another agent runs on the data folder {path.parent}",
            "see it with: rain status; a second agent on this PC needs a --data-dir of its own",
        ) from error
    return lock


def _refuse_orphan(path: Path) -> None:
    for suffix in ("-wal", "-journal"):
        if beside(path, suffix).exists():
            raise _damage(path, f"it is gone but its journal {path.name}{suffix} is here")


def make_store(path: Path, rows: Iterable[tuple[str, bytes]]) -> None:
    """A file with these rows, complete and durable before it has that name. Raises StoreError."""
    fresh = beside(path, ".new")
    fresh.unlink(missing_ok=True)  # of a start that was cut short: never held anything
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("BEGIN")
            connection.execute(
                "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
            connection.execute(
                "CREATE TABLE rows (key TEXT PRIMARY KEY, value BLOB NOT NULL, "
                "number INTEGER NOT NULL, sum BLOB NOT NULL) WITHOUT ROWID"
            )
            _set_meta(connection, _put(connection, tuple(rows), 1))
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        hint = f"free some space on the disk of {path.parent}"
        raise StoreError(f"{path} cannot be made: {error}", hint, _kind_of(error)) from error
    fresh.replace(path)
    sync_folder(path.parent)


def _set_meta(connection: sqlite3.Connection, digest: int) -> None:
    meta = {
        "schema_version": str(SCHEMA_VERSION),
        "store": os.urandom(8).hex(),
        "state": _state_text(1, digest),
    }
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())


def _connect(path: Path) -> sqlite3.Connection:
    """Open an existing file after looking at every sign that it is ours and whole."""
    with path.open("rb") as file:
        if file.read(len(_HEADER)) != _HEADER:
            raise StoreError(
                f"{path} is not a store of Rain, or was torn", _hint(path), kind="damaged"
            )
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=1.0, cached_statements=16
    )
    # A damaged key must not hide the sound ones from who reads them all.
    connection.text_factory = lambda content: content.decode("utf-8", "replace")
    try:
        # Exclusive, and before the first read: then there is no shared-memory file, whose pages
        # a full disk could take away beneath us.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = _check(path, connection)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        assert mode == "wal", f"SQLite refused WAL: {mode}"
        connection.execute("PRAGMA synchronous = FULL")
        # What is deleted is gone, and no repair finds it again.
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
        if version < SCHEMA_VERSION:
            _migrate(connection)
    except _SQLITE_ERRORS as error:
        connection.close()
        kind = _kind_of(error)
        hint = _hint(path) if kind == "damaged" else _FOLDER_HINT
        raise StoreError(f"{path} cannot be opened: {error}", hint, kind) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """From version 1, in one transaction: rows get their sums."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = connection.execute("SELECT key, value FROM rows").fetchall()
        connection.execute("ALTER TABLE rows ADD COLUMN number INTEGER NOT NULL DEFAULT 0")
        connection.execute("ALTER TABLE rows ADD COLUMN sum BLOB NOT NULL DEFAULT x''")
        _set_meta(connection, _put(connection, rows, 1))
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    with suppress(sqlite3.Error):  # a journal that holds every row is better not lost
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _check(path: Path, connection: sqlite3.Connection) -> int:
    """The version of a file that is ours and whole."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(
            f"{path} belongs to another program, or its head was torn", _hint(path), kind="damaged"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _damage(path, str(verdict).replace("\n", " "))
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if row is None or not str(row[0]).isdecimal() or int(row[0]) == 0:
        raise _damage(path, "it has lost its version")
    if int(row[0]) > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer Rain (its version {row[0]}, known {SCHEMA_VERSION})",
            "install the newer Rain again, or use another --data-dir",
        )
    return int(row[0])


# --- What went wrong -----------------------------------------------------------------------------


def _hint(path: Path) -> str:
    return _DAMAGE_HINT.format(path=path)


def _damage(path: Path, what: str) -> StoreError:
    return StoreError(f"{path} is damaged: {what}", _hint(path), kind="damaged")


def _unwritten(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{path} could not be written: {error}",
        _FULL_HINT.format(folder=path.parent),
        _kind_of(error),
    )


def _kind_of(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGE_CODES or isinstance(error, UnicodeDecodeError):
        return "damaged"
    if code == sqlite3.SQLITE_FULL:
        return "full"
    return "failing" if code else ""
