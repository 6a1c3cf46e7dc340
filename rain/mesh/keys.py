"""The two secrets of a node on disk: its own key, and the pool it is in.

Both are JSON files that only their owner may read, written aside, synced and renamed into place:
a power cut leaves the old file or the new one. Who can read them can be this node or join this
pool, so a file that others may read is refused, not repaired.
"""

import json
import os
import secrets
import stat
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from rain.mesh.envelope import POOL_ID_BYTES, POOL_KEY_BYTES, SENDERS_MAX, node_id_of
from rain.mesh.errors import MeshError
from rain.mesh.token import Pool

NODE_KEY_FILE = "node-key.json"
POOL_FILE = "pool.json"
FILE_BYTES_MAX = 4_096


class EdSigner:
    """Signs with an Ed25519 key; see envelope.Signer."""

    def __init__(self, private_key: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private_key)
        self._public_key = self._key.public_key().public_bytes_raw()

    @property
    def public_key(self) -> bytes:
        return self._public_key

    def sign(self, content: bytes) -> bytes:
        return self._key.sign(content)


def ed_verify(public_key: bytes, signature: bytes, content: bytes) -> bool:
    try:
        _parsed(public_key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=SENDERS_MAX)
def _parsed(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)


def load_node_key(folder: Path) -> EdSigner:
    """This node's key, drawn and kept at the first call."""
    path = folder / NODE_KEY_FILE
    if not path.exists():
        private_key = secrets.token_bytes(32)
        node_id = node_id_of(EdSigner(private_key).public_key)
        _write_secret(path, {"private_key": private_key.hex(), "node_id": node_id})
    content = _read_secret(path)
    try:
        signer = EdSigner(bytes.fromhex(content["private_key"]))
        # The id is there to notice a torn or edited file, not to be believed.
        intact = node_id_of(signer.public_key) == content["node_id"]
    except (KeyError, ValueError):
        intact = False
    if not intact:
        raise _torn(path, f"move {path} away: the node comes back under a new id")
    return signer


def new_pool(name: str) -> Pool:
    pool = Pool(secrets.token_bytes(POOL_ID_BYTES), name, secrets.token_bytes(POOL_KEY_BYTES))
    reason = pool.reason_unusable()
    if reason:
        raise MeshError(f"no pool can be called {name!r}: {reason}", "choose another --pool NAME")
    return pool


def load_pool(folder: Path) -> Pool | None:
    """The pool this node is in, if it is in one."""
    path = folder / POOL_FILE
    if not path.exists():
        return None
    content = _read_secret(path)
    hint = f"remove {path} and join again with a token of the pool"
    try:
        pool = Pool(
            bytes.fromhex(content["pool_id"]), content["name"], bytes.fromhex(content["key"])
        )
    except (KeyError, ValueError):
        raise _torn(path, hint) from None
    if pool.reason_unusable():
        raise _torn(path, hint)
    return pool


def keep_pool(folder: Path, pool: Pool) -> None:
    assert not pool.reason_unusable(), pool.reason_unusable()
    content = {"pool_id": pool.pool_id.hex(), "name": pool.name, "key": pool.key.hex()}
    _write_secret(folder / POOL_FILE, content)


def forget_pool(folder: Path) -> None:
    try:
        (folder / POOL_FILE).unlink(missing_ok=True)
        _sync_folder(folder)
    except OSError as error:
        raise _unusable(folder / POOL_FILE, error) from None


def _read_secret(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _unusable(path, error) from None
    # Windows has no such bits; there the folder of the user keeps others out.
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise MeshError(
            f"{path} is a secret, but other users may read it (mode {stat.S_IMODE(mode):o})",
            f"if nobody has read it: chmod 600 {path}",
        )
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _torn(path, "restore it from a copy, or move it away to begin anew")
    return {key: value for key, value in content.items() if isinstance(value, str)}


def _write_secret(path: Path, content: dict[str, str]) -> None:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(content, indent=1).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unusable(path, error) from None


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows can open no folders and needs none of this."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError) -> MeshError:
    return MeshError(
        f"cannot use {path}: {error.strerror or error}",
        "the folder must exist, be yours and have space left",
    )


def _torn(path: Path, hint: str) -> MeshError:
    return MeshError(f"{path} is damaged", hint)
