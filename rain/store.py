"""The disk of one node: rows of key and bytes in one SQLite file. No other file opens SQLite.

A write is acknowledged when it is durable (WAL, synchronous=FULL) and not before. One thread
writes; what queues up while it waits for the disk goes into its next transaction together, so
the cost of an fsync is shared. A file that is not ours, torn, or of a newer Rain is refused with
an error and stays untouched: nothing here ever deletes what it cannot read.

The file is made under another name and renamed when it is complete, so an empty or headless file
under the real name is always damage, never a start that was cut short.
"""

import asyncio
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import fcntl

SCHEMA_VERSION = 1
APPLICATION_ID = 0x5241494E
"""`RAIN` in ASCII: tells our file from anybody else's SQLite file."""
WRITES_QUEUED_MAX = 4_096
"""Writes that wait for the disk; the next ones wait in line before the queue."""
GROUP_WRITES_MAX = 1_024
"""Writes in one transaction."""
WAL_PAGES_MAX = 2_000
CLOSE_TIMEOUT_S = 10

_HEADER = b"SQLite format 3\x00"
_KEEP = (
    "keep it for a repair and start without it: mv {path} {path}.bad "
    "(the pool's other PCs have copies)"
)

Rows = Sequence[tuple[str, bytes]]


class StoreError(Exception):
    """The disk said no. `hint` says what a person can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class _Write:
    puts: Rows
    deletes: Sequence[str]
    done: "asyncio.Future[None]"


class Store:
    """Opened with `Store.open`; used from one event loop."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(WRITES_QUEUED_MAX)
        self._thread = threading.Thread(target=self._run, name="rain-store", daemon=True)
        self._is_closed = False
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the file, or make it where there is none. Raises StoreError."""
        lock = _take_lock(path)
        try:
            if not path.exists():
                _create(path)
            return cls(path, _connect(path), lock)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, OSError):
                raise StoreError(
                    f"{path} cannot be opened: {error.strerror}",
                    "check the folder's owner and the space on its disk, or use another --data-dir",
                ) from error
            raise

    def read_all(self) -> list[tuple[str, bytes]]:
        """Every row, sorted by key. For the start: nothing else is read from disk later."""
        try:
            rows = self._connection.execute("SELECT key, value FROM rows ORDER BY key").fetchall()
        except sqlite3.Error as error:
            raise StoreError(
                f"{self.path} cannot be read: {error}", _KEEP.format(path=self.path)
            ) from error
        return [(str(key), bytes(value)) for key, value in rows]

    async def write(self, puts: Rows, deletes: Sequence[str]) -> None:
        """Put and delete in one transaction; durable on return. Raises StoreError: then nothing."""
        await self._room.acquire()
        if self._is_closed:
            self._room.release()
            raise StoreError(f"{self.path} is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writes.put(_Write(puts, deletes, done))
        await done

    async def close(self) -> None:
        """Finish what is queued, then let the file go. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._writes.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)

    # --- the writing thread ---

    def _run(self) -> None:
        is_open = True
        while is_open:
            group: list[_Write] = []
            item = self._writes.get()
            while item is not None:
                group.append(item)
                if len(group) >= GROUP_WRITES_MAX:
                    break
                try:
                    item = self._writes.get_nowait()
                except queue.Empty:
                    break
            is_open = item is not None
            self._commit(group)
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        os.close(self._lock)

    def _commit(self, group: list[_Write]) -> None:
        error = self._try_commit(group)
        if error is not None and len(group) > 1:
            # One write that cannot be stored must not take its neighbours with it.
            for write in group:
                self._settle(write, self._try_commit([write]))
            return
        for write in group:
            self._settle(write, error)

    def _try_commit(self, group: list[_Write]) -> StoreError | None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in group:
                self._connection.executemany(
                    "INSERT INTO rows VALUES (?, ?) "
                    "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    write.puts,
                )
                self._connection.executemany(
                    "DELETE FROM rows WHERE key = ?", [(key,) for key in write.deletes]
                )
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            return StoreError(
                f"{self.path} could not be written: {error}",
                f"free some space on the disk of {self.path.parent}; Rain goes on by itself then",
            )
        return None

    def _settle(self, write: _Write, error: StoreError | None) -> None:
        # The loop may be gone: then nobody waits for the word.
        with suppress(RuntimeError):
            write.done.get_loop().call_soon_threadsafe(self._tell, write, error)

    def _tell(self, write: _Write, error: StoreError | None) -> None:
        self._room.release()
        if write.done.done():
            return
        if error is None:
            write.done.set_result(None)
        else:
            write.done.set_exception(error)


def _take_lock(path: Path) -> int:
    """Two agents on one data folder would both be the same node: the second one is told so."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise StoreError(
            f"{lock_path} cannot be opened: {error.strerror}",
            "check the folder's owner and the space on its disk, or use another --data-dir",
        ) from error
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


def _create(path: Path) -> None:
    for suffix in ("-wal", "-journal"):
        journal = path.with_name(path.name + suffix)
        if journal.exists():
            raise StoreError(
                f"{path} is gone but its journal {journal.name} is here",
                f"put the file back, or start without it: mv {journal} {journal}.bad",
            )
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)  # of a start that was cut short: never held anything
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        connection = sqlite3.connect(fresh, isolation_level=None)
        try:
            connection.executescript(
                f"""
                PRAGMA synchronous = FULL;
                PRAGMA application_id = {APPLICATION_ID};
                BEGIN;
                CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
                CREATE TABLE rows (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
                INSERT INTO meta VALUES ('schema_version', '{SCHEMA_VERSION}');
                COMMIT;
                """
            )
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(
            f"{path} cannot be made: {error}", f"free some space on the disk of {path.parent}"
        ) from error
    fresh.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A rename is durable only when its folder is."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(path: Path) -> sqlite3.Connection:
    """Open an existing file after looking at every sign that it is ours and whole."""
    with path.open("rb") as file:
        if file.read(len(_HEADER)) != _HEADER:
            raise StoreError(f"{path} is not a store of Rain, or was torn", _KEEP.format(path=path))
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=1.0, cached_statements=16
    )
    try:
        # Exclusive, and before the first read: then there is no shared-memory file, whose pages
        # a full disk could take away beneath us.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _check(path, connection)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        assert mode == "wal", f"SQLite refused WAL: {mode}"
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{path} cannot be opened: {error}", _KEEP.format(path=path)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path} belongs to another program", _KEEP.format(path=path))
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise StoreError(f"{path} is damaged: {verdict}", _KEEP.format(path=path))
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if row is None or not str(row[0]).isdigit():
        raise StoreError(f"{path} has lost its version", _KEEP.format(path=path))
    if int(row[0]) > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer Rain (its version {row[0]}, known {SCHEMA_VERSION})",
            "install the newer Rain again, or use another --data-dir",
        )
    assert int(row[0]) == SCHEMA_VERSION, "there was no version before the first"
