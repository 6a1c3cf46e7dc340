"""A pool as one line of text that a person can copy: `rain1-` and base32.

Inside: version 1 | pool id 16 | pool key 32 | name, UTF-8 | checksum 4. No address: a pool moves.
Whoever has the line is in, so it is a secret like a password. Typing errors and lost ends are told
apart from lines that never were a token; lost blanks, line breaks and capitals do no harm.
"""

import base64
import binascii
from hashlib import blake2b

from rain.mesh.envelope import POOL_ID_BYTES, POOL_KEY_BYTES
from rain.mesh.errors import MeshError
from rain.model import Value

PREFIX = "rain1-"
NAME_BYTES_MAX = 64

_VERSION = b"\x01"
_CHECKSUM_BYTES = 4
_NAME_AT = len(_VERSION) + POOL_ID_BYTES + POOL_KEY_BYTES
_TEXT_CHARS_MAX = len(PREFIX) + -(-8 * (_NAME_AT + NAME_BYTES_MAX + _CHECKSUM_BYTES) // 5)
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")


class Pool(Value, frozen=True):
    """What makes a node part of a pool."""

    pool_id: bytes
    name: str
    key: bytes

    def __repr__(self) -> str:
        """Without the key, so that no log or traceback tells it."""
        return f"Pool({self.pool_id.hex()}, {self.name!r})"

    def reason_unusable(self) -> str:
        """'' when it can be used, or what is wrong with it."""
        if len(self.pool_id) != POOL_ID_BYTES or len(self.key) != POOL_KEY_BYTES:
            return "its id or its key is too short or too long"
        if not self.name or not self.name.isprintable():
            return "its name is empty or has characters that cannot be shown"
        if len(self.name.encode()) > NAME_BYTES_MAX:
            return f"its name is longer than {NAME_BYTES_MAX} bytes"
        return ""


def encode_token(pool: Pool) -> str:
    assert not pool.reason_unusable(), pool.reason_unusable()
    content = _VERSION + pool.pool_id + pool.key + pool.name.encode()
    text = base64.b32encode(content + _checksum(content)).decode()
    return PREFIX + text.rstrip("=").lower()


def decode_token(text: str) -> Pool:
    """The pool in that line; MeshError says what is wrong with the line."""
    line = "".join(text.split()).lower()
    if not line.startswith(PREFIX):
        raise _error_of_prefix(line)
    if len(line) > _TEXT_CHARS_MAX:
        raise MeshError("the token is too long", "copy one token, from rain1- to its end")
    coded = line.removeprefix(PREFIX)
    for at, char in enumerate(coded, start=len(PREFIX) + 1):
        if char not in _ALPHABET:
            raise MeshError(
                f"the token is damaged: character {at} is {char!r}, which no token has",
                "tokens have the letters a to z and the digits 2 to 7; copy it once more",
            )
    try:
        content = base64.b32decode(coded.upper() + "=" * (-len(coded) % 8))
    except binascii.Error:
        content = b""
    if len(content) <= _NAME_AT + _CHECKSUM_BYTES:
        raise MeshError("the token is cut short", "copy it from rain1- to its end")
    return _pool_in(content)


def _pool_in(content: bytes) -> Pool:
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if _checksum(body) != checksum:
        raise MeshError(
            "the token is damaged: a character is wrong, or its end is missing",
            "copy it once more, or make another with: rain invite --token",
        )
    if body[:1] != _VERSION:
        raise _newer()
    ids_end = len(_VERSION) + POOL_ID_BYTES
    pool = Pool(
        pool_id=body[len(_VERSION) : ids_end],
        name=body[_NAME_AT:].decode(errors="replace"),
        key=body[ids_end:_NAME_AT],
    )
    reason = pool.reason_unusable()
    if reason:
        raise MeshError(f"the token names a pool that cannot be: {reason}", "ask for another one")
    return pool


def _error_of_prefix(line: str) -> MeshError:
    if line.startswith("rain") and line[4:5].isdigit():
        return _newer()
    return MeshError("that is not a Rain token", "a token begins with rain1-; see: rain invite")


def _newer() -> MeshError:
    return MeshError("the token was made by a newer Rain", "upgrade Rain on this PC")


def _checksum(content: bytes) -> bytes:
    return blake2b(content, digest_size=_CHECKSUM_BYTES, person=b"rain token").digest()
