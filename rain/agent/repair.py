"""`rain repair`: a store that is torn is put aside whole, and a fresh one holds what is left of it.

The order is the point. First the fresh store is made, complete and durable, under a name of its
own; from then on the repair can only go forward, however often it is cut short: the journal is
moved aside, then the file, then the fresh one takes its place. Nothing is ever deleted.

What was lost by then is unknown, so the fresh store says that this is an old disk (E14): the pool's
other PCs bring the rest, and until they have, this one takes no part in what only whole disks may.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rain.agent.clock import now_unix_ms
from rain.agent.recollection import AGENT_ROWS, DAMAGED, DISK_KEY, STORE_FILE
from rain.agent.salvage import Salvaged, salvage
from rain.election.records import BehindRecord
from rain.mesh import codec
from rain.mesh.codec import Rejected
from rain.rows import beside, sync_folder
from rain.sched.civil import rfc3339
from rain.store import Store, StoreError, make_store, take_lock

ASIDE_MAX = 1_000
"""Damaged stores beside a new one."""
KINDS = (
    ("job/", "jobs"),
    ("task/", "tasks"),
    ("cancel/", "cancels"),
    ("attempt/", "attempts of this PC"),
    ("trust/", "certificates, claims and keys"),
    ("member/", "addresses of PCs"),
    ("forgotten/", "jobs that are long over"),
)
"""What rows are called for people, by how their keys begin."""


@dataclass(frozen=True)
class Repaired:
    """What became of a store."""

    why: str = ""
    """What was wrong with it; empty: nothing was."""
    kept_as: Path | None = None
    saved: Mapping[str, int] = field(default_factory=dict)
    """Rows, by what they are called."""
    pages_lost: int = 0


async def repair(folder: Path) -> Repaired:
    """Make the store of this folder usable, whatever became of it. Raises StoreError where it is
    in use, of a newer Rain, or on a disk that takes no more."""
    path = folder / STORE_FILE
    if not path.exists() and not beside(path, "-wal").exists() and not _is_begun(path):
        raise StoreError(f"there is no store in {folder}", "begin one: rain up")
    why = await _trouble(path)
    if not why:
        return Repaired()
    lock = take_lock(path)
    try:
        return _repair(path, why)
    except OSError as error:
        message = f"{path} cannot be repaired: {error.strerror}"
        raise StoreError(message, f"free some space on the disk of {folder}", "full") from error
    finally:
        os.close(lock)


def _is_begun(path: Path) -> bool:
    return beside(path, ".repaired").exists()


async def _trouble(path: Path) -> str:
    """What is wrong with the store; empty: nothing. Raises StoreError where a repair is no help."""
    try:
        store = Store.open(path)
    except StoreError as error:
        if error.kind != "damaged":
            raise
        return error.message
    try:
        store.read_all()
        changed = len(store.damaged)
        return f"{changed} rows of {path} have changed" if changed else ""
    except StoreError as error:
        return error.message
    finally:
        await store.close()


def _repair(path: Path, why: str) -> Repaired:
    found = Salvaged()
    rows: dict[str, bytes] = {}
    if not _is_begun(path):
        found = salvage(path)
        rows = _rows_of(found, path)
        make_store(beside(path, ".repaired"), sorted(rows.items()))
    kept_as = _swap(path)
    return Repaired(why, kept_as, counted(rows), found.pages_lost)


def _swap(path: Path) -> Path:
    """The fresh store takes the place of the damaged one. Every step may be the last for a while:
    the next repair goes on from there."""
    number = next(n for n in range(1, ASIDE_MAX) if not beside(path, f"{DAMAGED}{n}").exists())
    kept_as = beside(path, f"{DAMAGED}{number}")
    # The journal first: beside the fresh store it would be taken for that one's.
    for suffix in ("-wal", "-journal"):
        if beside(path, suffix).exists():
            beside(path, suffix).rename(beside(kept_as, suffix))
    sync_folder(path.parent)
    if path.exists():
        path.rename(kept_as)
        sync_folder(path.parent)
    beside(path, ".repaired").rename(path)
    sync_folder(path.parent)
    return kept_as


def _rows_of(found: Salvaged, path: Path) -> dict[str, bytes]:
    """What goes into the fresh store."""
    # Where the taking over of version 1 was torn, some rows have their sums and others have not.
    unsummed = {key: value for key, value in found.unsummed.items() if is_record(key, value)}
    rows = {**unsummed, **found.rows}
    mark = BehindRecord()
    told = f"{path} was repaired at {rfc3339(now_unix_ms())}: {len(rows)} rows saved"
    own = {
        DISK_KEY: told.encode(),
        mark.key(): codec.encode_record(mark),
    }
    return {**rows, **own}


def is_record(key: str, value: bytes) -> bool:
    """Whether that is a row that a core or the agent has written."""
    if key.startswith(AGENT_ROWS):
        return True
    record = codec.decode_record(value)
    return not isinstance(record, Rejected) and record.key() == key


def counted(rows: Mapping[str, bytes]) -> dict[str, int]:
    """How many rows there are of what."""
    counts: dict[str, int] = {}
    for key in rows:
        for beginning, words in KINDS:
            if key.startswith(beginning):
                counts[words] = counts.get(words, 0) + 1
    return counts
