"""The file of `rain backup`: what of a pool one PC can keep, sealed, and told to be whole.

A line of magic, a line of JSON that says how the rest is sealed, then chunks: four bytes of length,
then entries as msgpack, sealed with ChaCha20-Poly1305 under a key that scrypt makes of the
passphrase. A chunk's number is its nonce, and number, first lines and whether it is the last are
sealed along, so that chunks can be neither changed, nor swapped, nor left out at the end. With
`--plain` a hash stands in place of the seal: then the file tells of damage, not of forgery.

What counts as secret: the keys of the pool, variables and files that jobs were given in private,
and the private keys of this PC. A plain file has none of them: jobs that were given something
private are left out as a whole, since a job without its secrets is another job. The private keys
of this PC, of its authority and of the root are in the file with `--with-keys` only.
"""

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Meta

from rain.agent.recollection import AGENT_ROWS
from rain.mesh import codec, keys
from rain.model import Value
from rain.rows import sync_folder
from rain.sched.records import JobRow

MAGIC = b"RAIN BACKUP\n"
FORMAT = 1
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**17, 8, 1
"""128 MiB and some 0.4 s for each guess at a passphrase."""
SCRYPT_N_MAX, SCRYPT_R_MAX, SCRYPT_P_MAX = 2**19, 8, 4
"""Of a file that somebody else may have written: more would only hold up this PC."""
SALT_BYTES = 16
PASSPHRASE_CHARS_MIN = 8
PASSPHRASE_CHARS_MAX = 1_024
HEAD_BYTES_MAX = 4_096
CHUNK_BYTES = 256 * 1024
"""A chunk is full when it has so many."""
CHUNK_BYTES_MAX = 32 * 1024 * 1024
"""A row may be as long as a record (codec.ENCODED_BYTES_MAX)."""
HASH_BYTES = 16
KEY_FILES = (keys.NODE_KEY_FILE, keys.CERTIFICATE_FILE, keys.AUTHORITY_FILE, keys.ROOT_FILE)
"""With --with-keys; on PCs that are no admins the last two are not there."""
FILES = (keys.POOL_FILE, *KEY_FILES)
"""The first says which pool it is, and is in every backup."""
OWN_ROWS = (AGENT_ROWS, "attempt/")
"""Of this agent's life on this PC; a restored one begins another."""
_JOB_ROWS = ("job/", "task/", "cancel/")
PLAIN_ROWS = (*_JOB_ROWS, "forgotten/", "horizon", "trust/bundle/", "trust/claim/", "member/")
"""All that a plain backup has. What is not named here may be secret."""

_LENGTH = Struct(">I")

Rows = Mapping[str, bytes]


class BackupError(Exception):
    """The file cannot be written or read; `hint` says what a person can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Head(msgspec.Struct, frozen=True):
    """What everybody can read of a backup."""

    format: int
    made_at: str
    pool: str
    pool_id: str
    node: str
    is_encrypted: bool
    has_keys: bool
    salt: str = ""
    scrypt_n: Annotated[int, Meta(ge=0, le=SCRYPT_N_MAX)] = 0
    scrypt_r: Annotated[int, Meta(ge=0, le=SCRYPT_R_MAX)] = 0
    scrypt_p: Annotated[int, Meta(ge=0, le=SCRYPT_P_MAX)] = 0


class Entry(Value, frozen=True):
    """One row of the store, or one file of the data folder."""

    is_file: bool
    name: str
    content: bytes


class Opened(msgspec.Struct, frozen=True):
    """All of a backup that was found whole."""

    head: Head
    rows: dict[str, bytes]
    files: dict[str, bytes]


# --- What goes in --------------------------------------------------------------------------------


def chosen(rows: Rows, *, is_plain: bool) -> tuple[dict[str, bytes], int]:
    """The rows that a backup has, and how many jobs were left out for their secrets."""
    kept = {key: value for key, value in rows.items() if not key.startswith(OWN_ROWS)}
    if not is_plain:
        return kept, 0
    private = {key.removeprefix("job/") for key in kept if _is_private(kept[key])}
    plain = {
        key: value
        for key, value in kept.items()
        if key.startswith(PLAIN_ROWS)
        and not (key.startswith(_JOB_ROWS) and key.split("/")[1] in private)
    }
    return plain, len(private)


def _is_private(row: bytes) -> bool:
    record = codec.decode_record(row)
    if not isinstance(record, JobRow):
        return False
    return bool(record.job.spec.private_environment or record.job.spec.secrets)


def files_of(folder: Path, *, has_keys: bool) -> dict[str, bytes]:
    """Of the data folder: which pool it is; and the private keys of this PC, if they are wanted."""
    names = FILES if has_keys else FILES[:1]
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def entries(rows: Rows, files: Mapping[str, bytes]) -> list[Entry]:
    """Files first: who may use the rest."""
    found = [Entry(True, name, content) for name, content in sorted(files.items())]
    return found + [Entry(False, key, value) for key, value in sorted(rows.items())]


# --- Writing -------------------------------------------------------------------------------------


def _sealed_head(head: Head, passphrase: str) -> tuple[Head, "_Seal"]:
    """With the parameters of a fresh key, and what seals with it."""
    if not head.is_encrypted:
        return head, _Seal(b"", _head_bytes(head))
    salt = secrets.token_bytes(SALT_BYTES)
    head = msgspec.structs.replace(
        head, salt=salt.hex(), scrypt_n=SCRYPT_N, scrypt_r=SCRYPT_R, scrypt_p=SCRYPT_P
    )
    return head, _Seal(_key_of(head, passphrase), _head_bytes(head))


def pieces(head: Head, passphrase: str, content: Iterable[Entry]) -> Iterator[bytes]:
    """The bytes of the file, in pieces."""
    head, seal = _sealed_head(head, passphrase)
    yield _head_bytes(head)
    number, waiting = 0, bytearray()
    for entry in content:
        if len(waiting) >= CHUNK_BYTES:
            yield _framed(seal.close(number, False, bytes(waiting)))
            number, waiting = number + 1, bytearray()
        packed = codec.pack(entry)
        waiting += _LENGTH.pack(len(packed)) + packed
    yield _framed(seal.close(number, True, bytes(waiting)))


def write_file(path: Path, content: Iterable[bytes], *, is_forced: bool) -> int:
    """Beside the place, synced, then renamed; 0600 from its first moment. Answers its length."""
    if path.exists() and not is_forced:
        raise BackupError(f"{path} is there already", "choose another name, or say --force")
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    length = 0
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in content:
                    length += file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise BackupError(
            f"{path} cannot be written: {error.strerror}", "give a place with space that is yours"
        ) from error
    return length


# --- Reading -------------------------------------------------------------------------------------


def read_head(path: Path) -> Head:
    """Raises BackupError where it is no backup, or one of a newer Rain."""
    try:
        with path.open("rb") as file:
            return _head_in(path, file.read(HEAD_BYTES_MAX))
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}", "look at its name") from error


def read_file(path: Path, passphrase: str) -> Opened:
    """All of it, or BackupError: a backup of which anything is missing is not used."""
    head = read_head(path)
    if passphrase and not head.is_encrypted:
        raise plain_where_sealed(path)
    content = path.read_bytes()
    start = len(MAGIC) + content[len(MAGIC) :].index(b"\n") + 1
    seal = _Seal(_key_of(head, passphrase) if head.is_encrypted else b"", content[:start])
    rows: dict[str, bytes] = {}
    files: dict[str, bytes] = {}
    for entry in _entries_in(path, content, start, seal):
        if entry.is_file and entry.name in FILES:
            files[entry.name] = entry.content
        elif not entry.is_file:
            rows[entry.name] = entry.content
    return Opened(head, rows, files)


def _head_in(path: Path, beginning: bytes) -> Head:
    line, newline, _ = beginning.removeprefix(MAGIC).partition(b"\n")
    if not beginning.startswith(MAGIC) or not newline:
        raise BackupError(f"{path} is no backup of Rain", "look at its name")
    try:
        told = json.loads(line)
        version = told["format"]
        if isinstance(version, int) and version > FORMAT:
            raise BackupError(
                f"{path} was written by a newer Rain (its format {version}, known {FORMAT})",
                "restore it with that Rain",
            )
        head = msgspec.convert(told, Head)
        bytes.fromhex(head.salt)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _damaged(path) from None
    is_power = head.scrypt_n > 1 and not head.scrypt_n & (head.scrypt_n - 1)
    if head.is_encrypted and not (is_power and head.scrypt_r and head.scrypt_p):
        raise _damaged(path)
    if head.has_keys and not head.is_encrypted:
        raise _damaged(path)  # `backup` never writes that
    return head


def plain_where_sealed(path: Path) -> BackupError:
    """Anybody can write a plain file: it must not pass for one that a passphrase seals."""
    return BackupError(
        f"{path} is not encrypted: anybody may have written it",
        "take the file that you sealed; if it was made with --plain: rain restore FILE --plain",
    )


def _entries_in(path: Path, content: bytes, at: int, seal: "_Seal") -> Iterator[Entry]:
    number, is_last = 0, False
    while not is_last:
        chunk = _chunk_at(path, content, at)
        at += _LENGTH.size + len(chunk)
        is_last = at >= len(content)
        opened = seal.open(number, is_last, chunk)
        if opened is None and number == 0 and seal.is_encrypted:
            raise BackupError(
                "the passphrase is wrong, or the file was changed",
                "type the passphrase of that backup; if it is right, take another copy of the file",
            )
        if opened is None:
            raise _damaged(path)
        number += 1
        yield from _unpacked(path, opened)


def _chunk_at(path: Path, content: bytes, at: int) -> bytes:
    if at + _LENGTH.size > len(content):
        raise _damaged(path)
    (length,) = _LENGTH.unpack_from(content, at)
    chunk = content[at + _LENGTH.size : at + _LENGTH.size + length]
    if length > CHUNK_BYTES_MAX or len(chunk) != length:
        raise _damaged(path)
    return chunk


def _unpacked(path: Path, opened: bytes) -> Iterator[Entry]:
    at = 0
    while at < len(opened):
        packed = _chunk_at(path, opened, at)
        at += _LENGTH.size + len(packed)
        try:
            yield msgspec.msgpack.decode(packed, type=Entry)
        except msgspec.DecodeError:
            raise _damaged(path) from None


def _damaged(path: Path) -> BackupError:
    return BackupError(
        f"{path} is cut short, damaged or was changed", "nothing of it is used: take another copy"
    )


# --- Seals ---------------------------------------------------------------------------------------


class _Seal:
    """Chunk number and whether it is the last are part of what is sealed."""

    def __init__(self, key: bytes, head: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key) if key else None
        self._head = head

    @property
    def is_encrypted(self) -> bool:
        return self._cipher is not None

    def close(self, number: int, is_last: bool, content: bytes) -> bytes:
        beside = self._beside(is_last)
        if self._cipher is None:
            return _hash(number, beside, content) + content
        return self._cipher.encrypt(_nonce(number), content, beside)

    def open(self, number: int, is_last: bool, chunk: bytes) -> bytes | None:
        """None where it was not closed so."""
        beside = self._beside(is_last)
        if self._cipher is None:
            content = chunk[HASH_BYTES:]
            return content if chunk[:HASH_BYTES] == _hash(number, beside, content) else None
        try:
            return self._cipher.decrypt(_nonce(number), chunk, beside)
        except InvalidTag:
            return None

    def _beside(self, is_last: bool) -> bytes:
        return self._head + (b"last" if is_last else b"more")


def _hash(number: int, beside: bytes, content: bytes) -> bytes:
    told = _nonce(number) + blake2b(beside).digest() + content
    return blake2b(told, digest_size=HASH_BYTES, person=b"rain backup").digest()


def _nonce(number: int) -> bytes:
    # The key is of this file alone, so its chunks may be counted from 0.
    return number.to_bytes(12, "big")


def _key_of(head: Head, passphrase: str) -> bytes:
    kdf = Scrypt(
        salt=bytes.fromhex(head.salt), length=32, n=head.scrypt_n, r=head.scrypt_r, p=head.scrypt_p
    )
    return kdf.derive(passphrase.encode())


def _head_bytes(head: Head) -> bytes:
    return MAGIC + json.dumps(msgspec.to_builtins(head)).encode() + b"\n"


def _framed(chunk: bytes) -> bytes:
    return _LENGTH.pack(len(chunk)) + chunk
