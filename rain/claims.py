"""What admins and leaving members state for the whole pool to know, and how it is signed.

A claim is signed by the node key of its author, who numbers its own claims 1, 2, 3 …; so whoever
removes an admin can say how far that admin's word still counts (`through`).
"""

from base64 import b32encode
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Protocol

from msgspec import Meta
from msgspec.structs import fields

from rain.model import Count, NodeId, Reason, Role, ShortText, Value

Key = Annotated[bytes, Meta(max_length=32)]
InviteId = ShortText


class KeyPhase(IntEnum):
    """How far a pool key is: everybody keeps it, everybody seals with it, older ones are gone."""

    INSTALL = 1
    USE = 2
    REMOVE = 3


class Removal(Value, frozen=True, tag="r"):
    """`rain kick`: certificates of `subject` up to `generation` count no more."""

    subject: NodeId
    generation: Count
    through: Count = 0
    """The highest number of a claim by `subject` that its remover knew: later ones are void."""
    reason: Reason = ""


class Departure(Value, frozen=True, tag="d"):
    """`rain leave`: the author itself is gone for good."""

    generation: Count


class Invitation(Value, frozen=True, tag="i"):
    """`rain invite`. With a token, `token_key` is the public key that the token's secret seeds."""

    invite_id: InviteId
    role: Role
    person: ShortText
    uses: Count
    until_unix_s: Count
    token_key: Key = b""
    nameplate: ShortText = ""
    """Of a short code: the digits before its words. No secret."""


class Withdrawal(Value, frozen=True, tag="w"):
    """An invitation is over before its time: burnt by wrong tries, or taken back."""

    invite_id: InviteId
    reason: Reason = ""


class KeyStep(Value, frozen=True, tag="k"):
    """Pool key `number` has come so far."""

    number: Count
    phase: KeyPhase
    mark: Annotated[bytes, Meta(max_length=16)] = b""
    """Which key: a hash of it, so that nobody but the author can give a key this number."""


Claim = Removal | Departure | Invitation | Withdrawal | KeyStep


class Signed(Value, frozen=True):
    """A claim with who made it and when. `signature` is over all the rest (trust/content.py)."""

    author_key: Key
    number: Count
    at_unix_ms: Count
    claim: Claim
    signature: Annotated[bytes, Meta(max_length=64)] = b""
    generation: Count = 1
    """Of the author's certificate: a removed admin speaks anew once it is let in anew."""


class Signer(Protocol):
    """The key of one node."""

    @property
    def public_key(self) -> bytes:
        """32 bytes."""

    def sign(self, content: bytes) -> bytes:
        """64 bytes."""


Sign = Callable[[bytes], bytes]
"""Content -> 64 bytes, by this node's own key."""
Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, content): did the holder of that key sign this?"""

NODE_ID_CHARS = 26
NODE_IDS_KEPT = 1_024
KINDS_KEPT = 64
"""Types of values whose defaults are known: all that are hashed or signed, and room to spare."""


@lru_cache(maxsize=NODE_IDS_KEPT)
def node_id_of(public_key: bytes) -> NodeId:
    """130 bits of the key's hash in base32, lower case: who signed is known by the key alone."""
    digest = sha256(public_key).digest()
    return NodeId(b32encode(digest).decode("ascii").lower()[:NODE_ID_CHARS])


def lasting_fields(value: Value, first_fields: int) -> tuple[object, ...]:
    """What of a value is hashed or signed: its first fields, a later one only if it says something.

    So what an older Rain made keeps its name and its signature when a field has been added, and an
    older Rain understands what a newer one makes without using that field.
    """
    defaults = _defaults_of(type(value))
    content = [getattr(value, name) for name in value.__struct_fields__]
    while len(content) > first_fields and content[-1] == defaults[len(content) - 1]:
        content.pop()
    return tuple(content)


@lru_cache(maxsize=KINDS_KEPT)
def _defaults_of(kind: type[Value]) -> tuple[object, ...]:
    return tuple(field.default for field in fields(kind))
