"""What is signed, and the short marks by which bundles, claims and keys are compared."""

from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from rain.claims import Signed
from rain.trust.messages import MARK_BYTES

_encoder = msgspec.msgpack.Encoder()


def signed_content(signed: Signed, pool_id: bytes) -> bytes:
    """The bytes that the author of a claim signs. A node key may outlive its pool: the pool is
    part of them, so that nobody repeats in one what was said in another."""
    return b"rain claim\0" + pool_id + _encoder.encode(replace(signed, signature=b""))


def mark_of_bundle(bundle: bytes) -> bytes:
    return _mark(b"bundle", bundle)


def mark_of_claim(signed: Signed) -> bytes:
    return _mark(b"claim", _encoder.encode(signed))


def mark_of_key(key: bytes) -> bytes:
    """What `KeyStep.mark` says of a key: it names it and gives nothing away of 32 random bytes."""
    return _mark(b"key", key)


def _mark(kind: bytes, content: bytes) -> bytes:
    return blake2b(content, digest_size=MARK_BYTES, person=kind).digest()
