"""An invitation as one line of text that a script can carry: `rain1-` and base32.

Inside: version 2 | hash of the pool's root key 32 | seed 16 | checksum 4. The hash pins the pool:
whoever uses the token checks the other end against it before it proves anything. The seed makes a
key; its public half is what the pool knows of the token, so that members cannot use it themselves.
No address and no name: a pool moves. Whoever has the line may join, so it is a secret like a
password. Typing errors and lost ends are told apart from lines that never were a token; lost
blanks, line breaks and capitals do no harm.
"""

import base64
import binascii
from hashlib import blake2b, sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rain.mesh.errors import MeshError
from rain.model import Value

PREFIX = "rain1-"
ROOT_HASH_BYTES = 32
SEED_BYTES = 16
INVITE_ID_CHARS = 10

_OLD_VERSION = b"\x01"
_VERSION = b"\x02"
_CHECKSUM_BYTES = 4
_BODY_BYTES = len(_VERSION) + ROOT_HASH_BYTES + SEED_BYTES
_OLD_TEXT_CHARS_MAX = 196
"""Tokens of version 1 had the pool's name in them."""
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")


class Token(Value, frozen=True):
    """Which pool, and the secret that lets in."""

    root_hash: bytes
    seed: bytes

    def __repr__(self) -> str:
        """Without the seed, so that no log or traceback tells it."""
        return f"Token({self.invite_id})"

    @property
    def public_key(self) -> bytes:
        """What the pool's invitation says of it."""
        return self._key().public_key().public_bytes_raw()

    @property
    def invite_id(self) -> str:
        return invite_id_of(self.public_key)

    def sign(self, content: bytes) -> bytes:
        """Prove to have the token, for this content only."""
        return self._key().sign(content)

    def pins(self, root_key: bytes) -> bool:
        """Whether that is the root of the pool that the token is for."""
        return sha256(root_key).digest() == self.root_hash

    def _key(self) -> Ed25519PrivateKey:
        stretched = blake2b(self.seed, digest_size=32, person=b"rain token key").digest()
        return Ed25519PrivateKey.from_private_bytes(stretched)


def invite_id_of(public_key: bytes) -> str:
    """The name of the invitation whose token has that public key."""
    digest = sha256(b"rain invite" + public_key).digest()
    return base64.b32encode(digest).decode().lower()[:INVITE_ID_CHARS]


def new_token(root_key: bytes, seed: bytes) -> Token:
    """A token for the pool of that root; the seed must be fresh and unguessable."""
    assert len(seed) == SEED_BYTES, f"a seed of {len(seed)} bytes"
    return Token(sha256(root_key).digest(), seed)


def encode_token(token: Token) -> str:
    content = _VERSION + token.root_hash + token.seed
    assert len(content) == _BODY_BYTES, f"a token of {len(content)} bytes"
    text = base64.b32encode(content + _checksum(content)).decode()
    return PREFIX + text.rstrip("=").lower()


def decode_token(text: str) -> Token:
    """The token in that line; MeshError says what is wrong with the line, never the line."""
    line = "".join(text.split()).lower()
    if not line.startswith(PREFIX):
        raise _error_of_prefix(line)
    if len(line) > _OLD_TEXT_CHARS_MAX:
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
    if len(content) < _BODY_BYTES + _CHECKSUM_BYTES:
        raise MeshError(
            "the token is cut short",
            "copy it from rain1- to its end, or make another: rain invite --token",
        )
    return _token_in(content)


def _token_in(content: bytes) -> Token:
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if _checksum(body) != checksum:
        raise MeshError(
            "the token is damaged: a character is wrong, or its end is missing",
            "copy it once more, or make another with: rain invite --token",
        )
    if body[:1] == _OLD_VERSION:
        raise MeshError(
            "the token was made by an older Rain, whose pools let nobody in any more",
            "upgrade Rain on the PC that made it, then make another: rain invite --token",
        )
    if body[:1] != _VERSION or len(body) != _BODY_BYTES:
        raise _newer()
    hash_end = len(_VERSION) + ROOT_HASH_BYTES
    return Token(body[len(_VERSION) : hash_end], body[hash_end:])


def _error_of_prefix(line: str) -> MeshError:
    if line.startswith("rain") and line[4:5].isdigit():
        return _newer()
    return MeshError("that is not a Rain token", "a token begins with rain1-; see: rain invite")


def _newer() -> MeshError:
    return MeshError("the token was made by a newer Rain", "upgrade Rain on this PC")


def _checksum(content: bytes) -> bytes:
    return blake2b(content, digest_size=_CHECKSUM_BYTES, person=b"rain token").digest()
