"""Messages and records survive the wire; nothing that comes from the wire survives by luck."""

import time
import tracemalloc
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.effects import Message, Record
from rain.election.messages import ElectionMessage
from rain.gossip.messages import Nack, Ping
from rain.mesh import door, frames
from rain.mesh.codec import (
    ENCODED_BYTES_MAX,
    PATCHES_BYTES_MAX,
    Rejected,
    by_tag,
    decode,
    decode_record,
    encode,
    encode_record,
    pack,
    unpack,
)
from rain.mesh.envelope import PACKET_BODY_BYTES_MAX
from rain.model import ID_CHARS_MAX, Epoch, NodeId
from rain.sched.messages import Patch, Propose, Replicate, Replicated
from rain.trust.messages import TrustMessage
from tests.mesh.rig import MESSAGES, RECORDS, kinds_of, values_of
from tests.mesh.stuffing import largest, stuffed, with_id

EVERY_MESSAGE: list[type[Message]] = [*kinds_of(TrustMessage), *MESSAGES]
FRAMES = by_tag(frames.Frame.__subclasses__())
SAID = by_tag(door.Said.__subclasses__())
SECONDS_MAX = 1.0
"""Of this thread, for the worst body; a tenth of it is usual."""


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
    assert decode(msgpack.packb(["gp", 1, [None] * 33])) == Rejected("bad_field")


def test_a_record_is_no_message() -> None:
    assert decode_record(encode(Nack(1))) == Rejected("unknown_tag")


# --- What would take too much ---------------------------------------------------------------------


def test_no_union_of_messages_is_left_out_here() -> None:
    assert {kind for kind in Message.__subclasses__() if kind.__module__.startswith("rain.")} == {
        *EVERY_MESSAGE
    }


@pytest.mark.parametrize("kind", EVERY_MESSAGE, ids=lambda kind: str(kind.__name__))
def test_an_id_that_is_too_long_is_rejected_wherever_it_stands(kind: type[Message]) -> None:
    for where, body in with_id(kind, ID_CHARS_MAX):
        assert isinstance(decode(body), kind), where
    for chars in (ID_CHARS_MAX + 1, 3_000):
        for where, body in with_id(kind, chars):
            assert decode(body) == Rejected("bad_field"), where


def test_most_messages_name_somebody() -> None:
    naming = [kind for kind in EVERY_MESSAGE if any(with_id(kind, 1))]

    assert len(naming) > len(EVERY_MESSAGE) // 2


@pytest.mark.parametrize("kind", kinds_of(ElectionMessage), ids=lambda kind: str(kind.__name__))
def test_the_longest_of_the_election_fits_a_packet(kind: type[Message]) -> None:
    """Peers name the epochs that a node sends on, so they must not be able to burst it."""
    assert len(encode(largest(kind))) <= PACKET_BODY_BYTES_MAX


def test_an_epoch_has_no_more_bits_than_it_is_given() -> None:
    """msgpack has no larger numbers than these, so nobody can send any."""
    epoch = Epoch(2**62, NodeId("a"), 2**64 - 1)
    assert decode(pack(Replicated(epoch, 1))) == Replicated(epoch, 1)
    with pytest.raises(OverflowError):
        pack(Replicated(msgspec.structs.replace(epoch, salt=2**64), 1))


MANY_EMPTY = b"\xdd\x00\x02\x00\x00" + b"\x90" * 131_072
NESTED = {
    "arrays for certificates": b"\x92\xa2tn\xdc\x00\x7f" + MANY_EMPTY * 127,
    "arrays for records": b"\x93\xa2gs\xdc\x00\x7f" + MANY_EMPTY * 127 + b"\x90",
    "arrays for a number": b"\x92\xa2gn" + MANY_EMPTY,
    "a nest for a number": b"\x92\xa2gn" + b"\x91" * (ENCODED_BYTES_MAX - 4),
    "maps for a number": b"\x92\xa2gn\xdd\x00\xff\xff\x00" + b"\x80" * 0xFFFF00,
}


@pytest.mark.parametrize("body", NESTED.values(), ids=NESTED.keys())
def test_what_does_not_belong_ends_the_reading(body: bytes) -> None:
    assert len(body) <= ENCODED_BYTES_MAX
    tracemalloc.start()
    began_s = time.thread_time()
    decoded = decode(body)
    took_s = time.thread_time() - began_s
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert isinstance(decoded, Rejected)
    assert peak_bytes < 64 * 1024
    assert took_s < SECONDS_MAX / 10


@pytest.mark.parametrize(
    "kinds",
    [by_tag(EVERY_MESSAGE), FRAMES, SAID],
    ids=("messages", "frames", "door"),
)
def test_the_most_small_elements_that_are_legal_are_taken_soon(kinds: dict[str, Any]) -> None:
    for kind in kinds.values():
        with_patches = kind in (Propose, Replicate, Patch)
        room_bytes = PATCHES_BYTES_MAX if with_patches else ENCODED_BYTES_MAX
        for where, body in stuffed(kind, room_bytes - 64):
            began_s = time.thread_time()
            decoded = unpack(body, kinds)
            took_s = time.thread_time() - began_s

            assert isinstance(decoded, kind), f"{kind.__name__}{where}"
            assert took_s < SECONDS_MAX, f"{kind.__name__}{where}"


def test_the_most_small_values_take_a_bounded_room() -> None:
    places = dict(stuffed(Propose, PATCHES_BYTES_MAX - 64))
    body = places[".patches[].tasks[]"]
    tracemalloc.start()
    decoded = decode(body)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert isinstance(decoded, Propose)
    assert peak_bytes < 64 * PATCHES_BYTES_MAX


def test_patches_are_bounded_before_they_are_read() -> None:
    places = dict(stuffed(Propose, ENCODED_BYTES_MAX - 64))

    assert decode(places[".patches[].tasks[]"]) == Rejected("too_long")


def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    for added in (b"\x90", b"\x80", b"\xc0", b"\xa1x"):
        body = b"\xdd\x00\xff\xff\x02\xa2gn\x07" + added * (0xFFFF00 // len(added))
        began_s = time.thread_time()
        decoded = decode(body)

        assert isinstance(decoded, Nack | Rejected)
        assert time.thread_time() - began_s < SECONDS_MAX
