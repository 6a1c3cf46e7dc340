"""Two ways to sign a packet: the real one, and a stand-in that costs a hundredth of it.

Whoever forges in a run signs with keys that he has and no others, so a keyed hash of the same
length serves; one seed in fifty uses Ed25519 as production does.
"""

import hashlib
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from rain.claims import Verify

ED25519_EVERY = 50
TAGS_KEPT_MAX = 1_024
"""Whoever gets a packet asks for the tag that its sender has just made."""


class TagSigner:
    """A keyed BLAKE2b tag of 64 bytes. The public key is the key: it detects damage, not lies."""

    def __init__(self, origin: str) -> None:
        self.public_key = hashlib.blake2b(origin.encode(), digest_size=32).digest()

    def sign(self, message: bytes) -> bytes:
        return _tag(self.public_key, message)


def verify_tag(public_key: bytes, signature: bytes, message: bytes) -> bool:
    return _tag(public_key, message) == signature


@lru_cache(maxsize=TAGS_KEPT_MAX)
def _tag(public_key: bytes, message: bytes) -> bytes:
    return hashlib.blake2b(message, key=public_key, digest_size=64).digest()


class Ed25519Signer:
    """The signature of production, from a key that the seed derives."""

    def __init__(self, origin: str) -> None:
        private = hashlib.blake2b(origin.encode(), digest_size=32).digest()
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_ed25519(seed: int) -> bool:
    """Which seeds pay for the real signature."""
    return seed % ED25519_EVERY == 0


def signer_of(seed: int, purpose: str) -> TagSigner | Ed25519Signer:
    """The key that this seed has for that purpose."""
    origin = f"{seed}/{purpose}"
    return Ed25519Signer(origin) if is_ed25519(seed) else TagSigner(origin)


def verify_of(seed: int) -> Verify:
    return verify_ed25519 if is_ed25519(seed) else verify_tag
