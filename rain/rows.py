"""The sum of a row, the mark beside a store, and the files around it: all but SQLite itself.

A row of the store is a key, a value, the number of the write that put it, and a sum over these
three. Who finds a row anywhere, in a torn file too, can tell whether it is one.
"""

import os
import shutil
import sys
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from struct import Struct

SUM_BYTES = 8
SIDE_FILES = ("-wal", "-wal.kept", "-shm", "-journal", ".mark", ".new", ".repaired")
"""What may stand beside a store and belongs to it."""

_MARK = Struct(f">8sQ{SUM_BYTES}s")


def row_sum(key: str, value: bytes, number: int) -> bytes:
    """What stands beside a row, so that a changed bit is noticed."""
    name = key.encode("utf-8", "replace")
    told = b"%d %d " % (number, len(name))
    return blake2b(told + name + value, digest_size=SUM_BYTES, person=b"rain row").digest()


def is_sound(key: object, value: object, number: object, own_sum: object) -> bool:
    """Whether these are of the kinds that a row has, and belong together."""
    if not (isinstance(key, str) and isinstance(value, bytes) and isinstance(number, int)):
        return False
    return own_sum == row_sum(key, value, number)


class Mark:
    """The number of the last acknowledged write, in a file of its own that is never synced."""

    def __init__(self, path: Path, store_id: bytes) -> None:
        self._store_id = store_id
        self._file = -1
        self.number = 0
        """What an earlier agent has left; 0 where nothing of this store is there."""
        with suppress(OSError):
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._file = os.open(beside(path, ".mark"), flags, 0o600)
            self.number = mark_in(os.read(self._file, _MARK.size), store_id)

    def write(self, number: int) -> None:
        # A mark that cannot be written stays behind, and then tells less.
        with suppress(OSError):
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, _marked(self._store_id, number))

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._file)


def _marked(store_id: bytes, number: int) -> bytes:
    own_sum = row_sum("mark", store_id, number)
    return _MARK.pack(store_id, number, own_sum)


def mark_in(content: bytes, store_id: bytes) -> int:
    """The number in a mark; 0 where it is torn or of another store."""
    if len(content) != _MARK.size:
        return 0
    marked, number, own_sum = _MARK.unpack(content)
    is_own = marked == store_id and own_sum == row_sum("mark", marked, number)
    return int(number) if is_own else 0


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def keep_journal(path: Path) -> None:
    """A second name for the journal: SQLite deletes it as soon as it has looked at it, also where
    it has understood the half of it only."""
    journal, kept = beside(path, "-wal"), beside(path, "-wal.kept")
    if kept.exists() and not journal.exists():
        kept.rename(journal)  # of a look that was cut short
    kept.unlink(missing_ok=True)
    if not journal.exists():
        return
    try:
        os.link(journal, kept)
    except OSError:  # not every file system has second names
        shutil.copyfile(journal, kept)


def put_journal_back(path: Path) -> None:
    """As it was before the look."""
    kept = beside(path, "-wal.kept")
    if kept.exists():
        kept.replace(beside(path, "-wal"))
        kept.unlink(missing_ok=True)  # two names of one file are not renamed


def sync_folder(folder: Path) -> None:
    """A rename is durable only when its folder is."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
