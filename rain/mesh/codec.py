"""Messages and records as bytes: msgpack arrays, the tag first, then the fields by position.

Past this file there is no dict, no list and no bytes of unknown shape. `decode` never raises,
whatever a peer wrote: bad msgpack, bad text, wrong types, numbers out of bounds and nests without
end all come back as Rejected. Two neighbouring versions understand each other because unknown
fields at the end are ignored and missing ones take their defaults.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, get_args

import msgpack
import msgspec

from rain.effects import Message, Record
from rain.election.messages import ElectionMessage
from rain.election.records import ElectionRecord
from rain.gossip.messages import GossipMessage
from rain.gossip.records import GossipRecord
from rain.model import Value
from rain.sched.messages import SchedMessage
from rain.sched.records import SchedRecord

ENCODED_BYTES_MAX = 16 * 1024 * 1024
"""Of one message or record. What fits into a packet or a frame is the envelope's to say."""

ARRAY_MAX = 131_072
"""Elements of one array. msgpack makes room for what a header claims before it reads on."""

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
    _kinds_in(GossipMessage, ElectionMessage, SchedMessage)
)
_RECORDS: dict[str, type[Record]] = by_tag(_kinds_in(GossipRecord, ElectionRecord, SchedRecord))


def pack(value: Value) -> bytes:
    """A value of our own as bytes."""
    packed = _encoder.encode(value)
    assert len(packed) <= ENCODED_BYTES_MAX, f"a {type(value).__name__} of {len(packed)} bytes"
    return packed


def unpack(body: bytes, kinds: dict[str, type[T]]) -> T | Rejected:
    """One value of these types, or why there is none. Never raises, whatever the bytes."""
    if len(body) > ENCODED_BYTES_MAX:
        return Rejected("too_long")
    try:
        fields = _unpack_fields(body)
    # All that unpacking strange bytes may raise; msgpack's own errors are ValueErrors.
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError):
        return Rejected("msgpack")
    tag = fields[0] if isinstance(fields, list) and fields else None
    kind = kinds.get(tag) if isinstance(tag, str) else None
    if kind is None:
        return Rejected("unknown_tag")
    try:
        return msgspec.convert(fields, kind, builtin_types=(bytes,))
    except msgspec.ValidationError:
        return Rejected("bad_field")


def _unpack_fields(body: bytes) -> Any:
    return msgpack.unpackb(
        body,
        max_str_len=len(body),
        max_bin_len=len(body),
        max_array_len=min(len(body), ARRAY_MAX),
        max_map_len=0,
        max_ext_len=0,
    )
