"""What a node keeps secret on disk: its own key, the pool it is in, and what it may issue.

Files that only their owner may read, written aside, synced and renamed into place: a power cut
leaves the old file or the new one. Who can read them can be this node, so a file that others may
read is refused, not repaired. `node-key.pem` and `certificate.pem` are PEM because TLS takes its
key and certificates from files; the rest is JSON.

Beside the key stands where it was drawn: on which machine, in which folder. A folder that was
copied would make two nodes of one id, so a key that finds itself elsewhere while its old place
may still be in use is refused, in words that say the way out.
"""

import json
import os
import secrets
import stat
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from rain.mesh.certificates import Authority, Bundle, Root, decode_bundle, pool_of
from rain.mesh.envelope import node_id_of
from rain.mesh.errors import MeshError
from rain.mesh.pool import Pool

NODE_KEY_FILE = "node-key.pem"
HOME_FILE = "node-key.home"
POOL_FILE = "pool.json"
CERTIFICATE_FILE = "certificate.pem"
AUTHORITY_FILE = "authority.json"
ROOT_FILE = "root.json"
FILE_BYTES_MAX = 8_192
ASIDE_CHARS = 8
"""In the name of a file that is being written."""
PARSED_KEYS_MAX = 1_024
"""Public keys of peers, kept ready for the next signature."""

_MACHINE_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_JOIN_AGAIN = "move it away and join the pool again: rain up"

T = TypeVar("T")


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

    def pem(self) -> bytes:
        """The private key, as TLS takes it from a file."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def ed_verify(public_key: bytes, signature: bytes, content: bytes) -> bool:
    try:
        _parsed(public_key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=PARSED_KEYS_MAX)
def _parsed(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)


def load_node_key(folder: Path) -> EdSigner:
    """This node's key, drawn and kept at the first call. MeshError when it is another's copy."""
    _forget_unfinished(folder)
    path = folder / NODE_KEY_FILE
    if not path.exists():
        keep_node_key(folder, EdSigner(secrets.token_bytes(32)))
    raw = _read_secret(path)
    try:
        parsed = load_pem_private_key(raw, None)
    except (ValueError, TypeError):
        parsed = None
    if not isinstance(parsed, Ed25519PrivateKey):
        raise _torn(path, f"move {path} away: the node comes back under a new id")
    signer = EdSigner(parsed.private_bytes_raw())
    _require_home(folder, signer, raw)
    return signer


def keep_node_key(folder: Path, signer: EdSigner) -> None:
    """From now on this folder is the home of this key."""
    _write_home(folder, signer)
    # The key comes last: it never stands without its home beside it, whatever breaks off.
    _write(folder / NODE_KEY_FILE, signer.pem())


def load_pool(folder: Path) -> Pool | None:
    """The pool this node is in, if it is in one."""
    path = folder / POOL_FILE
    if not path.exists():
        return None
    pool = pool_of(_hex(_read_json(path), "root"))
    if pool is None:
        raise _torn(path, _JOIN_AGAIN)
    return pool


def keep_pool(folder: Path, pool: Pool) -> None:
    assert pool_of(pool.root) == pool, "the root is another pool's"
    _write_json(folder / POOL_FILE, {"name": pool.name, "root": pool.root.hex()})


def load_certificate(folder: Path) -> bytes | None:
    """This node's bundle, encoded."""
    path = folder / CERTIFICATE_FILE
    if not path.exists():
        return None
    try:
        chain = x509.load_pem_x509_certificates(_read_secret(path))
        leaf, authority = (each.public_bytes(Encoding.DER) for each in chain)
    except ValueError:
        raise _torn(path, _JOIN_AGAIN) from None
    return Bundle(leaf, authority).encode()


def keep_certificate(folder: Path, bundle: bytes) -> None:
    decoded = decode_bundle(bundle)
    assert decoded is not None, "only a bundle that was inspected is kept"
    chain = map(x509.load_der_x509_certificate, (decoded.leaf, decoded.authority))
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
    _write(folder / CERTIFICATE_FILE, pem)


def load_authority(folder: Path) -> Authority | None:
    """What this admin issues certificates with."""
    return _load_issuer(folder / AUTHORITY_FILE, Authority)


def keep_authority(folder: Path, authority: Authority) -> None:
    _keep_issuer(folder / AUTHORITY_FILE, authority)


def load_root(folder: Path) -> Root | None:
    """The root of the pool, where this node keeps it."""
    return _load_issuer(folder / ROOT_FILE, Root)


def keep_root(folder: Path, root: Root) -> None:
    _keep_issuer(folder / ROOT_FILE, root)


def forget_authority(folder: Path) -> None:
    """This node issues no more certificates."""
    _forget(folder, AUTHORITY_FILE, ROOT_FILE)


def forget_pool(folder: Path) -> None:
    """Out of the pool for good: all but the node's own key goes."""
    _forget_unfinished(folder)
    # The pool comes last: what broke off halfway is begun again by the next `rain leave`.
    _forget(folder, ROOT_FILE, AUTHORITY_FILE, CERTIFICATE_FILE, POOL_FILE)


def _forget(folder: Path, *names: str) -> None:
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
            _sync_folder(folder)
        except OSError as error:
            raise _unusable(folder / name, error) from None


def _forget_unfinished(folder: Path) -> None:
    """What a crash has left of writes that came to no end: secrets that nobody would ever remove.

    One agent at a time has this folder, so nobody is writing now.
    """
    names = (NODE_KEY_FILE, HOME_FILE, POOL_FILE, CERTIFICATE_FILE, AUTHORITY_FILE, ROOT_FILE)
    for name in names:
        _forget(folder, *(path.name for path in folder.glob(f".{name}.{'[0-9a-f]' * ASIDE_CHARS}")))


def _load_issuer(path: Path, make: Callable[[bytes, bytes], T]) -> T | None:
    if not path.exists():
        return None
    content = _read_json(path)
    try:
        return make(_hex(content, "private_key"), _hex(content, "certificate"))
    except ValueError:
        raise _torn(path, "restore it from a copy, or make this PC an admin again") from None


def _keep_issuer(path: Path, issuer: Authority | Root) -> None:
    key, certificate = issuer.private_key.hex(), issuer.certificate.hex()
    _write_json(path, {"private_key": key, "certificate": certificate})


# --- Where the key is at home --------------------------------------------------------------------


def _require_home(folder: Path, signer: EdSigner, raw: bytes) -> None:
    path = folder / HOME_FILE
    if not path.exists():  # a person removed it, as the hint below says
        return _write_home(folder, signer)
    home = _read_json(path)
    machine = _machine()
    hint = (
        f"if that one will never run again: rm {path}\n"
        f"otherwise this PC needs an id of its own: empty {folder}, then rain up joins anew"
    )
    if machine and home.get("machine") and home["machine"] != machine:
        raise MeshError(
            f"{folder} is a copy from another PC: two PCs cannot be one node of a pool", hint
        )
    old = Path(home.get("folder", ""))
    if old == folder.resolve():
        return None
    if _holds_copy(old, folder, raw):
        raise MeshError(f"{folder} is a copy of {old}: two agents cannot be one node", hint)
    return _write_home(folder, signer)


def _holds_copy(old: Path, folder: Path, raw: bytes) -> bool:
    """Whether the old place still has the key, and is not this very place by another name."""
    try:
        if (old / NODE_KEY_FILE).samefile(folder / NODE_KEY_FILE):
            return False
        with (old / NODE_KEY_FILE).open("rb") as file:
            return file.read(FILE_BYTES_MAX) == raw
    except (OSError, ValueError):
        return False


def _write_home(folder: Path, signer: EdSigner) -> None:
    content = {
        "node_id": node_id_of(signer.public_key),
        "machine": _machine(),
        "folder": str(folder.resolve()),
    }
    _write_json(folder / HOME_FILE, content)


def _machine() -> str:
    """The same as long as the system is not installed anew; '' where there is no telling."""
    for path in _MACHINE_FILES:
        try:
            text = path.read_text("ascii").strip()
        except (OSError, ValueError):
            continue
        if text and text != "uninitialized":
            # systemd asks that the id itself be kept from others.
            return sha256(b"rain home" + text.encode()).hexdigest()[:32]
    return ""


# --- Files ---------------------------------------------------------------------------------------


def _read_secret(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise _unusable(path, error) from None
    # Windows has no such bits; there the folder of the user keeps others out.
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise MeshError(
            f"{path} is a secret, but other users may read it (mode {stat.S_IMODE(mode):o})",
            f"if nobody has read it: chmod 600 {path}",
        )
    return raw


def _read_json(path: Path) -> dict[str, str]:
    try:
        content = json.loads(_read_secret(path))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _torn(path, "restore it from a copy, or move it away to begin anew")
    return {key: value for key, value in content.items() if isinstance(value, str)}


def _hex(content: dict[str, str], key: str) -> bytes:
    """What the file says under that key; empty when it says nothing of use."""
    try:
        return bytes.fromhex(content.get(key, ""))
    except ValueError:
        return b""


def _write_json(path: Path, content: dict[str, str]) -> None:
    _write(path, json.dumps(content, indent=1).encode() + b"\n")


def _write(path: Path, content: bytes) -> None:
    assert len(content) <= FILE_BYTES_MAX, f"{path} of {len(content)} bytes"
    aside = path.with_name(f".{path.name}.{secrets.token_hex(ASIDE_CHARS // 2)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
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
