"""`python -m tests.torn [CASES] [SEED]`: stores torn in every way, and disks that are full at every
byte.

Deterministic: a seed and the number of a case are the case. A real store is written to, and copied
after each acknowledged write as a power cut would leave it. Each case tears one copy. Then the
store either holds exactly what was acknowledged, or says that it is damaged; and after a repair it
holds no value that was never written. What a repair could not save is counted.
"""

import asyncio
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rain.agent.recollection import AGENT_ROWS, STORE_FILE
from rain.agent.repair import repair
from rain.election.records import BehindRecord
from rain.store import Store, StoreError

CASES = 20_000
WRITES = 60
KEYS = 120
WRITES_UNTIL_FULL = 40
FULL_STEP_BYTES = 1_000
FULL_BYTES_MAX = 400 * 1_024
PAGE_BYTES = 4_096
FRAME_BYTES = 24 + PAGE_BYTES
WAL_HEAD_BYTES = 32
SECTOR_BYTES = 512
JOURNAL = f"{STORE_FILE}-wal"
MARK = f"{STORE_FILE}.mark"
MARK_LOST = 0.2
IN_FLIGHT = 0.2
"""Of the cases."""

Rows = dict[str, bytes]


@dataclass
class Copy:
    """What a power cut after the n-th write leaves, and what was acknowledged by then."""

    files: dict[str, bytes]
    rows: Rows


@dataclass
class History:
    """One store's life."""

    copies: list[Copy] = field(default_factory=list)
    ever: dict[str, set[bytes]] = field(default_factory=dict)
    """Every value that a key has ever had."""


async def lived(folder: Path, rng: random.Random, writes: int) -> History:
    """A store that is written to, reopened now and then, and copied after each write."""
    path, history, rows = folder / STORE_FILE, History(), Rows()
    store = Store.open(path)
    for _ in range(writes):
        puts = [(f"task/{rng.randrange(KEYS):03}", _value(rng)) for _ in range(rng.randrange(6))]
        deletes = [f"task/{rng.randrange(KEYS):03}" for _ in range(rng.randrange(3))]
        await store.write(puts, deletes)
        rows.update(puts)
        for key in deletes:
            rows.pop(key, None)
        for key, value in puts:
            history.ever.setdefault(key, set()).add(value)
        if rng.random() < 0.1:
            await store.close()
            store = Store.open(path)
        history.copies.append(Copy(_files_in(folder), dict(rows)))
    await store.close()
    return history


def _files_in(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def _value(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 3, 60, 300, 1_500, 9_000)))


# --- How a copy is torn --------------------------------------------------------------------------


def torn(files: dict[str, bytes], earlier: dict[str, bytes], rng: random.Random) -> str:
    """Tear these files; says how. `earlier` is what the same store was before."""
    names = [name for name in (STORE_FILE, JOURNAL) if files.get(name)]
    name = rng.choice(names)
    content = bytearray(files[name])
    match rng.randrange(9):
        case 0:
            how, content = "cut at a page", content[: _boundary(name, len(content), rng)]
        case 1:
            how, content = "cut anywhere", content[: rng.randrange(len(content))]
        case 2:
            how, at = "a bit flipped", rng.randrange(len(content))
            content[at] ^= 1 << rng.randrange(8)
        case 3:
            how, at = "a sector zeroed", rng.randrange(len(content)) // SECTOR_BYTES * SECTOR_BYTES
            content[at : at + SECTOR_BYTES] = bytes(len(content[at : at + SECTOR_BYTES]))
        case 4:
            how, at = "a page scrambled", _boundary(name, len(content), rng)
            content[at : at + PAGE_BYTES] = rng.randbytes(len(content[at : at + PAGE_BYTES]))
        case 5:
            how, at = "a page of earlier", _boundary(name, len(content), rng)
            old = earlier.get(name, b"")[at : at + PAGE_BYTES]
            content[at : at + len(old)] = old
        case 6:
            how, content = "an earlier file", bytearray(earlier.get(name, b""))
        case 7:
            how = "many bits flipped"
            for _ in range(20):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case _:
            del files[name]
            return f"{name} gone"
    files[name] = bytes(content)
    return f"{name}: {how}"


def _boundary(name: str, length: int, rng: random.Random) -> int:
    if name == STORE_FILE:
        return rng.randrange(max(1, length // PAGE_BYTES)) * PAGE_BYTES
    frames = max(1, (length - WAL_HEAD_BYTES) // FRAME_BYTES)
    return WAL_HEAD_BYTES + rng.randrange(frames) * FRAME_BYTES


def in_flight(
    files: dict[str, bytes], later: list[Copy], right: list[Rows], rng: random.Random
) -> str:
    """Sometimes: the next write had begun, and nobody was told yet. Says how; empty: not now."""
    acknowledged = files.get(JOURNAL, b"")
    following = later[0].files.get(JOURNAL, b"") if later else b""
    is_longer = len(following) > len(acknowledged) and following.startswith(acknowledged)
    if rng.random() >= IN_FLIGHT or not acknowledged or not is_longer:
        return ""
    begun = bytearray(following[: rng.randrange(len(acknowledged), len(following) + 1)])
    if len(begun) > len(acknowledged) and rng.random() < 0.5:
        begun[rng.randrange(len(acknowledged), len(begun))] ^= 1 << rng.randrange(8)
    files[JOURNAL] = bytes(begun)
    right.append(later[0].rows)
    return "the next write had begun"


# --- What must hold ------------------------------------------------------------------------------


async def judged(folder: Path, copy: Copy, history: History, right: list[Rows]) -> tuple[str, int]:
    """What became of a torn copy, and how many rows are lost. Asserts what must hold: what opens
    without a word is one of `right`."""
    path = folder / STORE_FILE
    try:
        store = Store.open(path)
    except StoreError as error:
        _require(error, "damaged")
        return await _repaired(folder, copy, history)
    try:
        rows = dict(store.read_all())
    except StoreError as error:
        _require(error, "damaged")
        await store.close()
        return await _repaired(folder, copy, history)
    is_new, damaged = store.is_new, store.damaged
    await store.close()
    if is_new:
        assert not rows, "a new store is empty"
        return "gone", len(copy.rows)
    if damaged:
        whole = [{key: one[key] for key in one if key in rows} for one in right]
        assert rows in whole, "what has its sum is what was written"
        return await _repaired(folder, copy, history)
    assert rows in right, "what opens without a word is what was acknowledged"
    return "whole", sum(rows.get(key) != value for key, value in copy.rows.items())


def _require(error: StoreError, *kinds: str) -> None:
    assert error.kind in kinds, error
    assert error.hint, error


async def _repaired(folder: Path, copy: Copy, history: History) -> tuple[str, int]:
    done = await repair(folder)
    assert done.why, "there was something to repair"
    assert done.kept_as is not None
    store = Store.open(folder / STORE_FILE)
    rows = dict(store.read_all())
    await store.close()
    assert not store.damaged
    assert rows.pop(BehindRecord().key(), None), "a repaired disk is an old one"
    rows = {key: value for key, value in rows.items() if not key.startswith(AGENT_ROWS)}
    for key, value in rows.items():
        assert value in history.ever[key], f"{key} has a value that it never had"
    again = await repair(folder)
    assert not again.why, "once is enough"
    lost = sum(rows.get(key) != value for key, value in copy.rows.items())
    return "repaired", lost


async def tear(cases: int, seed: int, writes: int = WRITES) -> Counter[str]:
    """So many cases. Answers what became of them."""
    told: Counter[str] = Counter()
    history = History()
    for case in range(cases):
        rng = random.Random(f"{seed} {case}")
        if case % 1_000 == 0:
            with tempfile.TemporaryDirectory() as name:
                history = await lived(Path(name), random.Random(f"{seed} life {case}"), writes)
        at = rng.randrange(len(history.copies))
        copy, earlier = history.copies[at], history.copies[rng.randrange(at + 1)]
        files, right = dict(copy.files), [copy.rows]
        how = in_flight(files, history.copies[at + 1 :], right, rng)
        is_in_flight = bool(how)
        if not is_in_flight:
            how = torn(files, earlier.files, rng)
            if rng.random() < MARK_LOST:
                # As a power cut leaves it: what came after the last sync of all files is a guess.
                del files[MARK]
                right = [each.rows for each in history.copies[: at + 1]] + [{}]
        with tempfile.TemporaryDirectory() as name:
            for each, content in files.items():
                (Path(name) / each).write_bytes(content)
            try:
                what, lost = await judged(Path(name), copy, history, right)
                assert what == "whole" or not is_in_flight, "no power cut is damage"
            except Exception as error:
                error.add_note(f"case {case} of seed {seed}: after write {at}, {how}")
                raise
        told[what] += 1
        told["rows lost"] += lost
        told["rows"] += len(copy.rows)
    return told


# --- A disk that is full at every byte -----------------------------------------------------------


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process may grow beyond this: what a full disk looks like to SQLite."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def filled(folder: Path, size: int, rng: random.Random) -> tuple[int, int]:
    """Write while no file may be larger than `size`; then there is room again. Answers how many
    writes were acknowledged, and how many were not."""
    path, kept, refused = folder / STORE_FILE, Rows(), 0
    with files_end_at(size):
        try:
            store = Store.open(path)
        except StoreError as error:
            _require(error, "full", "failing")
            store, refused = None, 1
        for number in range(WRITES_UNTIL_FULL if store is not None else 0):
            assert store is not None
            key, value = f"task/{number:03}", rng.randbytes(rng.choice((20, 3_000, 20_000)))
            try:
                await store.write([(key, value)], [])
                kept[key] = value
            except StoreError as error:
                _require(error, "full", "failing")
                refused += 1
    if store is None:
        store = Store.open(path)
    await store.write([("after", b"room")], [])
    await store.close()
    again = Store.open(path)
    assert dict(again.read_all()) == {**kept, "after": b"room"}
    await again.close()
    return len(kept), refused


async def fill(step: int, seed: int) -> Counter[str]:
    told: Counter[str] = Counter()
    for size in range(0, FULL_BYTES_MAX, step):
        folder = Path(tempfile.mkdtemp())
        try:
            kept, refused = await filled(folder, size, random.Random(f"{seed} {size}"))
        except Exception as error:
            error.add_note(f"files end at {size}, seed {seed}")
            raise
        finally:
            shutil.rmtree(folder)
        told["acknowledged"] += kept
        told["refused"] += refused
    return told


async def main() -> None:
    words = [int(word) for word in sys.argv[1:]]
    cases, seed = (*words, *(CASES, 1)[len(words) :])
    print(f"{cases} cases of seed {seed}", flush=True)
    print("torn:", dict(await tear(cases, seed)), flush=True)
    print("full:", dict(await fill(FULL_STEP_BYTES, seed)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
