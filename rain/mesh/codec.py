"""Messages and records as bytes: msgpack arrays, the tag first, then the fields by position.

Past this file there is no dict, no list and no bytes of unknown shape. `decode` never raises,
whatever a peer wrote: bad msgpack, bad text, wrong types, numbers out of bounds and nests without
end all come back as Rejected. Two neighbouring versions understand each other because unknown
fields at the end are ignored and missing ones take their defaults.

Bytes are read straight into the type that their tag names, so the first thing that does not belong
ends the reading: nothing is ever built that the type has no room for (docs/adr/0003).
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, TypeVar, get_args

import msgspec

from rain.effects import Message, Record
from rain.election.messages import ElectionMessage
from rain.election.records import ElectionRecord
from rain.gossip.messages import GossipMessage
from rain.gossip.records import GossipRecord
from rain.model import Value
from rain.sched.messages import Patch, Propose, Replicate, SchedMessage
from rain.sched.records import SchedRecord
from rain.trust.messages import TrustMessage
from rain.trust.records import TrustRecord

ENCODED_BYTES_MAX = 16 * 1024 * 1024
"""Of one message or record. What fits into a packet or a frame is the envelope's to say."""

PATCHES_BYTES_MAX = 2 * 1024 * 1024
"""Of a message with job patches: they are cut at half of it, and the smallest values that patches
are made of take fifty times their bytes."""
TAG_BYTES_MAX = 31

# Of msgpack: where the first element begins behind the header of an array, by the header's first
# byte, and the header of text of no length.
_TAG_AT = {**dict.fromkeys(range(0x90, 0xA0), 1), 0xDC: 3, 0xDD: 5}
_SHORT_TEXT = 0xA0

_WITH_PATCHES = (Propose, Replicate, Patch)

_encoder = msgspec.msgpack.Encoder()

T = TypeVar("T", bound=Value)


class Rejected(Value, frozen=True):
    """Bytes that nobody may act upon, and in one word why; counted, never answered."""

    reason: str


def encode(message: Message) -> bytes:
    return pack(message)


def decode(body: bytes) -> Message | Rejected:
    """The message in these bytes, or why there is none."""
    return unpack(body, _MESSAGES)


def encode_record(record: Record) -> bytes:
    return pack(record)


def decode_record(row: bytes) -> Record | Rejected:
    """The record in a row of the store, or why there is none (damaged, or of a newer Rain)."""
    return unpack(row, _RECORDS)


def by_tag(kinds: Iterable[type[T]]) -> dict[str, type[T]]:
    """Which type a tag stands for."""
    found: dict[str, type[T]] = {}
    for kind in kinds:
        tag = kind.__struct_config__.tag
        assert isinstance(tag, str), f"{kind.__name__} has no tag"
        assert tag not in found, f"{kind.__name__} and {found[tag].__name__} share a tag"
        found[tag] = kind
    return found


def _kinds_in(*unions: Any) -> Iterator[Any]:
    """The types in these unions; a single type is a union of its own."""
    for union in unions:
        yield from get_args(union) or (union,)


_MESSAGES: dict[str, type[Message]] = by_tag(
    _kinds_in(TrustMessage, GossipMessage, ElectionMessage, SchedMessage)
)
_RECORDS: dict[str, type[Record]] = by_tag(
    _kinds_in(TrustRecord, GossipRecord, ElectionRecord, SchedRecord)
)


def pack(value: Value) -> bytes:
    """A value of our own as bytes."""
    packed = _encoder.encode(value)
    assert len(packed) <= ENCODED_BYTES_MAX, f"a {type(value).__name__} of {len(packed)} bytes"
    return packed


def unpack(body: bytes, kinds: dict[str, type[T]]) -> T | Rejected:
    """One value of these types, or why there is none. Never raises, whatever the bytes."""
    if len(body) > ENCODED_BYTES_MAX:
        return Rejected("too_long")
    if not body or body[0] not in _TAG_AT:
        return Rejected("msgpack")  # whatever it is, it is no array
    kind = kinds.get(_tag_of(body))
    if kind is None:
        return Rejected("unknown_tag")
    if len(body) > PATCHES_BYTES_MAX and issubclass(kind, _WITH_PATCHES):
        return Rejected("too_long")
    decoder: msgspec.msgpack.Decoder[T] = _decoder(kind)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        return Rejected("bad_field")
    # All else that reading strange bytes may raise: cut off, no msgpack, no UTF-8, too deep.
    except (msgspec.DecodeError, ValueError, RecursionError, MemoryError):
        return Rejected("msgpack")


def _tag_of(body: bytes) -> str:
    """What the first element of an array says, where that is short text; else nothing."""
    at = _TAG_AT[body[0]]
    length = body[at] - _SHORT_TEXT if at < len(body) else -1
    if not 0 <= length <= TAG_BYTES_MAX:
        return ""
    return body[at + 1 : at + 1 + length].decode("ascii", "replace")


@cache
def _decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    return msgspec.msgpack.Decoder(kind)
