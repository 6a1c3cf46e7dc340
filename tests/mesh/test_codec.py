"""Messages and records survive the wire; nothing that comes from the wire survives by luck."""

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.effects import Message, Record
from rain.gossip.messages import Nack, Ping
from rain.mesh.codec import (
    ARRAY_MAX,
    ENCODED_BYTES_MAX,
    Rejected,
    decode,
    decode_record,
    encode,
    encode_record,
    pack,
)
from tests.mesh.rig import MESSAGES, RECORDS, values_of


@pytest.mark.parametrize("kind", [*MESSAGES, *RECORDS], ids=lambda kind: str(kind.__name__))
def test_msgspec_can_check_every_type(kind: type[Message] | type[Record]) -> None:
    """A bound that msgspec cannot express would fail at the first packet, not here."""
    msgspec.msgpack.Decoder(kind)


@given(st.one_of(*(values_of(kind) for kind in MESSAGES)))
def test_what_is_encoded_is_decoded(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.one_of(*(values_of(kind) for kind in [*MESSAGES, *RECORDS])))
def test_both_packers_write_the_same_bytes(value: Message | Record) -> None:
    """What one library packs the other unpacks: neither may have a dialect of its own."""
    assert pack(value) == msgpack.packb(msgspec.to_builtins(value, builtin_types=(bytes,)))


@given(st.one_of(*(values_of(kind) for kind in RECORDS)))
def test_a_record_comes_back_from_disk(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


@given(st.one_of(*(values_of(kind) for kind in MESSAGES)), st.lists(st.integers(0, 9), max_size=3))
def test_fields_of_the_next_version_are_ignored(message: Message, added: list[int]) -> None:
    fields = msgpack.unpackb(encode(message))
    newer = msgpack.packb([*fields, *added, ["unknown"]])

    assert decode(newer) == message


def test_fields_the_last_version_lacked_take_their_defaults() -> None:
    assert decode(msgpack.packb(["gp", 7])) == Ping(7)


@given(st.binary(max_size=200))
def test_garbage_is_rejected(garbage: bytes) -> None:
    decoded = decode(garbage)

    assert isinstance(decoded, Rejected | Message)


@given(st.one_of(*(values_of(kind) for kind in MESSAGES)), st.data())
def test_damage_is_rejected_or_harmless(message: Message, data: st.DataObject) -> None:
    body = bytearray(encode(message))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))

    decoded = decode(bytes(body))

    assert isinstance(decoded, Rejected | Message)
    assert isinstance(decode(encode(message)[:at]), Rejected)


HOSTILE = {
    "nothing": b"",
    "a nest without end": b"\x91" * 100_000,
    "a nest of a known message": b"\x92\xa2gn" + b"\x91" * 5_000,
    "an array said to be huge": b"\xdd\xff\xff\xff\xff",
    "huge arrays in each other": b"\xdd\x00\x01\xff\xff" * 900,
    "text said to be huge": b"\x92\xa2gn\xdb\xff\xff\xff\xff",
    "bytes said to be huge": b"\x92\xa2gn\xc6\xff\xff\xff\xff",
    "a tag that is no text": b"\x92\xa2\xff\xff\x05",
    "a tag that is a list": b"\x92\x91\x01\x05",
    "a tag that nobody has": b"\x92\xa2zz\x05",
    "a map": b"\x81\xa2gn\x05",
    "a map as a field": b"\x92\xa2gn\x81\x01\x02",
    "an extension": b"\x92\xa2gn\xd4\x05\x00",
    "a timestamp": b"\x92\xa2gn\xd6\xff\x00\x00\x00\x00",
    "a number out of bounds": b"\x92\xa2gn\xcf" + b"\xff" * 8,
    "a negative count": b"\x92\xa2gn\xff",
    "a fraction": b"\x92\xa2gn\xcb\x3f\xf8" + b"\x00" * 6,
    "not a number": b"\x92\xa2gn\xcb\x7f\xf8" + b"\x00" * 6,
    "no field at all": b"\x91\xa2gn",
    "an empty array": b"\x90",
    "a bare number": b"\x05",
    "two messages": b"\x92\xa2gn\x05\x92\xa2gn\x05",
    "a byte that msgpack never uses": b"\x92\xa2gn\xc1",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_rejected(body: bytes) -> None:
    assert isinstance(decode(body), Rejected)
    assert isinstance(decode_record(body), Rejected)


def test_too_long_is_rejected_unread() -> None:
    assert decode(bytes(ENCODED_BYTES_MAX + 1)) == Rejected("too_long")


def test_more_updates_than_a_packet_may_carry_are_rejected() -> None:
    assert decode(msgpack.packb(["gp", 1, [None] * (ARRAY_MAX - 1)])) == Rejected("bad_field")


def test_a_record_is_no_message() -> None:
    assert decode_record(encode(Nack(1))) == Rejected("unknown_tag")
