"""Beacons: what is called is heard, nobody is answered more than was called, nothing raises."""

import re

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.config import NAME_PATTERN
from rain.mesh.beacon import (
    BEACON_BYTES,
    BEACON_MAGIC,
    DOORS_MAX,
    Beacon,
    Here,
    Seek,
    decode_beacon,
    encode_beacon,
)
from rain.mesh.codec import Rejected
from rain.model import Address, NodeId

NODE_ID = NodeId("a" * 26)
SEEK = Seek(NODE_ID, b"12345678", "482", "laptop", is_deciding=True)
HERE = Here(
    b"12345678",
    b"p" * 16,
    "home",
    NODE_ID,
    "attic",
    7_246,
    3,
    (Address("10.0.0.1", 7_246),),
    is_sponsor=True,
)
names = st.from_regex(NAME_PATTERN, fullmatch=True)
seeks = st.builds(Seek, st.just(NODE_ID), st.binary(min_size=8, max_size=8), st.just(""), names)


@given(st.one_of(seeks, st.just(HERE), st.just(SEEK)))
def test_what_is_called_is_heard(beacon: Beacon) -> None:
    assert decode_beacon(encode_beacon(beacon)) == beacon


def test_the_longest_answer_is_no_longer_than_any_question() -> None:
    doors = (Address("255.255.255.255", 65_535),) * DOORS_MAX
    longest = Here(
        b"n" * 8, b"p" * 16, "p" * 63, NODE_ID, "n" * 63, 65_535, 2**62, doors, is_sponsor=True
    )
    shortest = Seek(NODE_ID, b"n" * 8, "", "a")

    assert len(encode_beacon(longest)) <= BEACON_BYTES == len(encode_beacon(shortest))


def dressed(*fields: object) -> bytes:
    body: bytes = msgpack.packb(fields)
    return BEACON_MAGIC + b"\1" + len(body).to_bytes(2, "big") + body


def here_with(at: int, value: object) -> bytes:
    fields: list[object] = ["h", b"n" * 8, b"p" * 16, "home", NODE_ID, "attic", 1, 1, [], False]
    fields[at] = value
    return dressed(*fields)


HOSTILE = {
    "nothing": (b"", "too_short"),
    "a head": (BEACON_MAGIC + b"\1\0\0", "msgpack"),
    "another kind of packet": (b"rn\1\0\0" + bytes(100), "magic"),
    "a later version": (BEACON_MAGIC + b"\2\0\0", "version"),
    "too long": (encode_beacon(SEEK) + b"\0", "too_long"),
    "a question that was not padded": (encode_beacon(SEEK).rstrip(b"\0"), "too_short"),
    "a body that is not there": (BEACON_MAGIC + b"\1\1\0" + b"\x90", "length"),
    "something behind it": (encode_beacon(HERE) + b"x", "length"),
    "a tag that nobody has": (dressed("x", 1), "unknown_tag"),
    "a name that moves the cursor": (here_with(3, "\x1b[2J"), "bad_field"),
    "a name with a line's end": (here_with(3, "home\n"), "bad_field"),
    "a name without letters": (here_with(3, ""), "bad_field"),
    "a name without end": (here_with(5, "a" * 64), "bad_field"),
    "a node id that is none": (here_with(4, "../../etc"), "bad_field"),
    "a pool id that is too short": (here_with(2, b"p"), "bad_field"),
    "a nonce that is too long": (here_with(1, b"n" * 9), "bad_field"),
    "port 0": (here_with(6, 0), "bad_field"),
    "less than no members": (here_with(7, -1), "bad_field"),
    "more doors than a house has": (here_with(8, [["10.0.0.1", 1]] * 5), "bad_field"),
    "a door that is a name": (here_with(8, [["evil.example", 1]]), "bad_field"),
    "a nest": (BEACON_MAGIC + b"\1\2\0" + b"\x91" * 512, "unknown_tag"),
}


@pytest.mark.parametrize(("packet", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_beacons_are_rejected(packet: bytes, reason: str) -> None:
    assert decode_beacon(packet) == Rejected(reason)


@given(st.binary(max_size=BEACON_BYTES + 10))
def test_garbage_is_rejected(garbage: bytes) -> None:
    assert isinstance(decode_beacon(garbage), Rejected)
    assert isinstance(decode_beacon(BEACON_MAGIC + b"\1" + garbage), Rejected | Seek | Here)


def test_fields_of_the_next_version_are_ignored() -> None:
    body = msgpack.unpackb(encode_beacon(HERE)[5:])

    assert decode_beacon(dressed(*body, "more")) == HERE


def test_names_are_those_that_people_may_give() -> None:
    assert re.fullmatch(NAME_PATTERN, "a" * 63)
    assert not re.fullmatch(NAME_PATTERN, "a" * 64)
