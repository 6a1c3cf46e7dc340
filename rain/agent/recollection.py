"""What a node remembers of itself over a restart, and how it comes to keep a pool and forgets it.

What makes a PC one of a pool is kept in three places, in this order: its certificate, what it was
given of the roll and the keys (the store), and last the name and the root of the pool. Whatever
breaks off between, the next start goes on from there: with the first two it is in, since its code
may be used up by now. The store says whose it is, so that keys and jobs of one pool are never taken
into another.

A pool is forgotten the other way round: what must not be met again goes first.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from rain.agent.clock import now_unix_ms
from rain.agent.disk import DiskHealth
from rain.agent.joining import Entered
from rain.config import ENDED_FILE
from rain.effects import Record
from rain.election.records import BehindRecord
from rain.gossip.records import LIFE_KEY, LifeRow
from rain.log import Logger
from rain.mesh import codec, keys
from rain.mesh.certificates import make_inspect, pool_of
from rain.mesh.codec import Rejected
from rain.mesh.keys import EdSigner
from rain.rows import SIDE_FILES, beside
from rain.store import Store, StoreError
from rain.trust.records import RingRow, rows_of

STORE_FILE = "rain.db"
DAMAGED = ".damaged-"
"""What a repair has put aside: the name of the store, this, and a number."""
AGENT_ROWS = "agent/"
"""Rows of the agent's own, under the keys that begin so."""
BOOT_KEY = "agent/boot"
"""How often it has started."""
POOL_KEY = "agent/pool"
"""The root of the pool whose rows these are."""

DISK_KEY = "agent/disk"
"""What a repair or a restore did to this store, in words; gone when it was told."""
SPARED = ("job/", "task/", "cancel/", "forgotten/", "aside/", "attempt/", "member/")
"""Rows that the agent can do without: other PCs have copies, or a task runs once more. All else
says who this PC is and what it promised."""

Rows = dict[str, bytes]


async def begin(folder: Path, store: Store, log: Logger) -> tuple[Rows, int, DiskHealth]:
    """What is kept, the boot epoch of this start, already on disk, and how the disk does.

    A store that lost something, or is itself new while this PC is not, is marked as an old disk.
    Raises StoreError where what was lost cannot be done without.
    """
    rows = dict(store.read_all())
    vital = [key for key in store.damaged if not key.startswith(SPARED)]
    if vital:
        raise store.damage(f"{len(vital)} of its rows have changed ({vital[0]!r})")
    damage, repair = "", rows.pop(DISK_KEY, b"").decode("utf-8", "replace")
    if store.damaged:
        damage = (
            f"{len(store.damaged)} rows of {store.path} have changed; rain goes on without them"
        )
        damage += " (rain down, then rain repair)"
    if store.is_new and keys.load_pool(folder) is not None:
        repair = f"{store.path} was gone: what it held comes back from the pool's other PCs"
    boot_epoch = max(next_boot_epoch(rows.get(BOOT_KEY, b"")), _latest_life(rows) + 1)
    puts = [(BOOT_KEY, boot_epoch.to_bytes(8, "big"))]
    if BOOT_KEY in rows and LIFE_KEY not in rows:
        # As the last release left it: its boot was this node's latest life.
        rows[LIFE_KEY] = codec.encode_record(LifeRow(int.from_bytes(rows[BOOT_KEY], "big")))
    if damage or repair:
        log.warning("disk_damaged" if damage else "disk_repaired", reason=damage or repair)
        mark = BehindRecord()
        rows[mark.key()] = codec.encode_record(mark)
        puts.append((mark.key(), rows[mark.key()]))
    await store.write(puts, (DISK_KEY,))
    return rows, boot_epoch, DiskHealth(damage, repair)


def complete(folder: Path, signer: EdSigner, rows: Rows) -> None:
    """Be in the pool that this PC had been let into when it broke off, if there is one."""
    if keys.load_pool(folder) is not None:
        return
    pool, bundle = pool_of(rows.get(POOL_KEY, b"")), keys.load_certificate(folder)
    if pool is None or bundle is None:
        return
    own = make_inspect(pool)(bundle)
    if own is not None and own.public_key == signer.public_key:
        keys.keep_pool(folder, pool)


def has_keys(rows: Rows) -> bool:
    """Whether keys of the pool are kept: without one nobody is understood."""
    row = rows.get(RingRow(()).key())
    ring = codec.decode_record(row) if row is not None else None
    return isinstance(ring, RingRow) and bool(ring.keys)


async def settle(
    folder: Path, store: Store, rows: Rows, entered: Entered, say: Callable[[str], None]
) -> tuple[Record, ...]:
    """Keep what was given on entering, then the pool itself. Answers all that is remembered."""
    root = entered.pool.root
    is_resumed = keys.load_pool(folder) is not None
    # A PC that is in a pool has had no other one since its store was begun.
    is_foreign = rows.get(POOL_KEY, root if is_resumed else b"") != root
    if is_foreign and is_resumed:
        raise StoreError(
            f"{store.path} is of another pool than {entered.pool.name!r}",
            "rain leave, then join again with a new invitation",
        )
    fresh: tuple[Record, ...] = ()
    if entered.is_newcomer:
        ring = [(each.number, each.key) for each in entered.ring]
        fresh = rows_of(entered.bundles, entered.claims, ring)
    puts = {POOL_KEY: root, **{row.key(): codec.encode_record(row) for row in fresh}}
    stale = [key for key in rows if is_foreign and not key.startswith(AGENT_ROWS)]
    if stale:
        say("What was still kept here of another pool is cleared away.")
    await store.write(list(puts.items()), [key for key in stale if key not in puts])
    if not is_resumed:
        keys.keep_pool(folder, entered.pool)
    kept = {key: content for key, content in rows.items() if key not in stale}
    return (*records_in(kept), *fresh)


def next_boot_epoch(kept: bytes) -> int:
    """Above the last start's, and above those of a data folder that was moved away.

    Peers take nothing from an older boot, so counting from one again would lock this PC out.
    """
    return max(int.from_bytes(kept, "big") + 1, now_unix_ms() // 1_000)


def _latest_life(rows: Rows) -> int:
    """Of this node, as far as it knows; members may have told it of a later one than its own."""
    row = rows.get(LIFE_KEY)
    life = codec.decode_record(row) if row is not None else None
    return life.boot_epoch if isinstance(life, LifeRow) else 0


def records_in(rows: Rows) -> tuple[Record, ...]:
    """What the cores kept. A row that cannot be read is damage, and never silently left out."""
    records = []
    for key, value in sorted(rows.items()):
        if key.startswith(AGENT_ROWS):
            continue
        record = codec.decode_record(value)
        if isinstance(record, Rejected):
            raise StoreError(
                f"a row of the store cannot be read ({key}: {record.reason})",
                "it was written by a newer Rain, or the file is damaged: upgrade, or move it away",
            )
        records.append(record)
    return tuple(records)


def forget(data_dir: Path) -> None:
    """`rain leave`: the pool's key and everything kept for it go; this PC's own key stays."""
    store = data_dir / STORE_FILE
    asides = sorted(data_dir.glob(f"{STORE_FILE}{DAMAGED}*"))
    for path in (
        store,
        *(beside(store, end) for end in SIDE_FILES),
        *asides,
        data_dir / ENDED_FILE,
    ):
        path.unlink(missing_ok=True)
    shutil.rmtree(data_dir / "exec", ignore_errors=True)
    # The pool comes last: what broke off halfway is begun again by the next `rain leave`.
    keys.forget_pool(data_dir)
