"""`rain restore`: a pool comes back from a backup, into a data folder that has nothing yet.

Everything is made in a folder beside, which gets its name at the end: a restore that was cut short
has changed nothing. With the private keys in the backup this PC *is* that node again, so the old
one must not run any more: of two, each is told so and one ends (doubles.py). Without them, the PC
has the pool's jobs and records but is in no pool: the twelve words of the founding make it an admin
of the pool, or somebody invites it.

Where the pool still lives, it has moved on since. So a restored store says that it is an old disk
(E14), as a repaired one does.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rain.agent.authority import new_authority
from rain.agent.backup import KEY_FILES, BackupError, Opened
from rain.agent.clock import now_unix_ms
from rain.agent.founding import FIRST_GENERATION
from rain.agent.recollection import AGENT_ROWS, DISK_KEY, POOL_KEY, STORE_FILE
from rain.agent.repair import counted
from rain.claims import node_id_of
from rain.config import remember
from rain.election.records import BehindRecord
from rain.mesh import codec, keys
from rain.mesh.certificates import make_inspect, pool_of, recover_root
from rain.mesh.codec import Rejected
from rain.mesh.phrase import entropy_of
from rain.mesh.pool import Pool
from rain.model import Role
from rain.rows import sync_folder
from rain.sched.civil import rfc3339
from rain.store import make_store
from rain.trust.records import BundleRow


@dataclass(frozen=True)
class Restored:
    """What this PC has now."""

    pool: str
    node_id: str
    """Empty: it is in no pool yet."""
    is_admin: bool
    saved: dict[str, int]
    unread: int
    """Rows that this Rain does not know."""


def restore(
    folder: Path, opened: Opened, phrase: str = "", name: str = "", person: str = ""
) -> Restored:
    """Make the data folder. Raises BackupError, MeshError and StoreError; then there is none."""
    refuse_unless_empty(folder)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.restoring")
    shutil.rmtree(aside, ignore_errors=True)  # of a restore that was cut short
    try:
        aside.mkdir(mode=0o700)
        restored = _restore_into(aside, opened, phrase, name, person)
        if folder.exists():
            folder.rmdir()
        aside.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise BackupError(
            f"{folder} cannot be made: {error.strerror}", "give a place with space that is yours"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return restored


def refuse_unless_empty(folder: Path) -> None:
    """What is there is never mixed with what comes."""
    if folder.exists() and any(folder.iterdir()):
        raise BackupError(
            f"the data folder {folder} is not empty",
            "restore into one that is: rain --data-dir DIR restore FILE",
        )


def _restore_into(folder: Path, opened: Opened, phrase: str, name: str, person: str) -> Restored:
    pool = _pool_of(opened)
    rows = {key: value for key, value in opened.rows.items() if _is_of_record(key, value)}
    unread = len(opened.rows) - len(rows)
    now_unix_s = now_unix_ms() // 1_000
    node_id = ""
    if opened.head.has_keys:
        for each in KEY_FILES:
            if each in opened.files:
                _keep(folder / each, opened.files[each])
        node_id, name = _own(folder, pool)
    if phrase:
        node_id, bundle = _made_admin(folder, pool, phrase, name, person, now_unix_s)
        row = BundleRow(bundle)
        rows[row.key()] = codec.encode_record(row)
    mark = BehindRecord()
    told = f"restored at {rfc3339(now_unix_ms())} from a backup made at {opened.head.made_at}"
    own = {
        POOL_KEY: pool.root,
        DISK_KEY: told.encode(),
        mark.key(): codec.encode_record(mark),
    }
    make_store(folder / STORE_FILE, sorted({**rows, **own}.items()))
    if node_id:
        remember(folder, {"name": name})
        keys.keep_pool(folder, pool)
    is_admin = keys.load_authority(folder) is not None
    return Restored(pool.name, node_id, is_admin, counted(rows), unread)


def _pool_of(opened: Opened) -> Pool:
    try:
        told = json.loads(opened.files[keys.POOL_FILE])
        pool = pool_of(bytes.fromhex(told["root"]))
    except (LookupError, ValueError, TypeError):
        pool = None
    if pool is None:
        raise BackupError("the backup does not say which pool it is of", "take another backup")
    return pool


def _is_of_record(key: str, value: bytes) -> bool:
    """Whether a core of this Rain has written that row."""
    record = codec.decode_record(value)
    return (
        not isinstance(record, Rejected) and record.key() == key and not key.startswith(AGENT_ROWS)
    )


def _keep(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _own(folder: Path, pool: Pool) -> tuple[str, str]:
    """Whose keys these are, now that they are at home here: id and name. They belong together."""
    if not (folder / keys.NODE_KEY_FILE).exists():
        raise BackupError("the backup has not the key of its PC", "take another backup")
    signer = keys.load_node_key(folder)
    bundle = keys.load_certificate(folder)
    own = make_inspect(pool)(bundle) if bundle is not None else None
    if own is None or own.public_key != signer.public_key:
        raise BackupError("the keys in the backup are not of its pool", "take another backup")
    return node_id_of(signer.public_key), own.name


def _made_admin(
    folder: Path, pool: Pool, phrase: str, name: str, person: str, now_unix_s: int
) -> tuple[str, bytes]:
    """A new node, and an admin of the pool, since its person knows the words of its founding."""
    root = recover_root(entropy_of(phrase), pool)
    signer = keys.load_node_key(folder)
    node_id = node_id_of(signer.public_key)
    # As old as the root: see Admission.recover.
    authority = new_authority(root, node_id, FIRST_GENERATION, root.since_unix_s)
    bundle = authority.issue(
        signer.public_key,
        name=name,
        role=Role.ADMIN,
        person=person,
        generation=FIRST_GENERATION,
        invite_id="",
        now_unix_s=now_unix_s,
    )
    keys.keep_root(folder, root)
    keys.keep_authority(folder, authority)
    keys.keep_certificate(folder, bundle)
    return node_id, bundle
