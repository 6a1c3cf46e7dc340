"""The pool that a node is in: its name, its root, and the id that follows from the root."""

from hashlib import sha256

from rain.model import Value

POOL_ID_BYTES = 16
NAME_BYTES_MAX = 64


class Pool(Value, frozen=True):
    """What every member knows of its pool. Nothing here is secret."""

    name: str
    root: bytes
    """The root certificate, DER."""
    root_key: bytes
    """The root's public key, 32 bytes."""

    @property
    def pool_id(self) -> bytes:
        return pool_id_of(self.root_key)


def pool_id_of(root_key: bytes) -> bytes:
    """16 bytes that nobody but the holder of the root can have a pool under."""
    return sha256(b"rain pool" + root_key).digest()[:POOL_ID_BYTES]
