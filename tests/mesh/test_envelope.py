"""Who may speak, for whom, once: the envelope against strangers, members, echoes and noise."""

import base64
import hashlib
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.mesh.codec import Rejected
from rain.mesh.envelope import (
    OVERHEAD_BYTES,
    PACKET_BODY_BYTES_MAX,
    PACKET_BYTES_MAX,
    SENDERS_MAX,
    Channel,
    Envelope,
    Opened,
    node_id_of,
)
from rain.mesh.keys import EdSigner, ed_verify
from tests.mesh.rig import POOL_ID, POOL_KEY, CheapSigner, cheap_verify, envelope

FUZZED = 100_000


@given(st.binary(max_size=PACKET_BODY_BYTES_MAX), st.booleans(), st.integers(0, 2**64 - 1))
def test_what_is_sealed_is_opened_once(body: bytes, everybody: bool, boot_epoch: int) -> None:
    a, b = envelope("a", boot_epoch), envelope("b")

    packet = a.seal(body, None if everybody else b.node_id)

    assert len(packet) == len(body) + OVERHEAD_BYTES <= PACKET_BYTES_MAX
    assert b.open(packet) == Opened(a.node_id, boot_epoch, 1, body)
    assert b.open(packet) == Rejected("replayed")


def test_a_thousand_and_twenty_four_bytes_fit_into_a_packet() -> None:
    assert PACKET_BODY_BYTES_MAX == 1_024
    with pytest.raises(AssertionError):
        envelope("a").seal(bytes(PACKET_BODY_BYTES_MAX + 1), None)


def test_a_node_id_is_a_hash_of_the_key() -> None:
    digest = hashlib.sha256(bytes(32)).digest()

    assert node_id_of(bytes(32)) == base64.b32encode(digest).decode().lower()[:26]


def test_real_keys() -> None:
    a = Envelope(POOL_ID, POOL_KEY, EdSigner(b"a" * 32), ed_verify, 7)
    b = Envelope(POOL_ID, POOL_KEY, EdSigner(b"b" * 32), ed_verify, 7)

    assert b.open(a.seal(b"hello", b.node_id)) == Opened(a.node_id, 7, 1, b"hello")


class Impostor:
    """Holds the pool's key and somebody else's name, but not the somebody's key."""

    public_key = EdSigner(b"a" * 32).public_key

    def sign(self, content: bytes) -> bytes:
        return EdSigner(b"x" * 32).sign(content)


def test_a_member_cannot_speak_for_another() -> None:
    impostor = Envelope(POOL_ID, POOL_KEY, Impostor(), ed_verify, 7)
    b = Envelope(POOL_ID, POOL_KEY, EdSigner(b"b" * 32), ed_verify, 7)
    a = Envelope(POOL_ID, POOL_KEY, EdSigner(b"a" * 32), ed_verify, 7)

    for _ in range(2_000):
        forged = impostor.seal(b"resign", b.node_id)
    assert b.open(forged) == Rejected("signature")

    # M2: the number 2,000 is not burnt, and the window has not moved away from 1.
    assert isinstance(b.open(a.seal(b"true", b.node_id)), Opened)


REFUSED = {
    "a stranger": (envelope("a", pool_key=b"x" * 32), "stranger"),
    "another pool": (envelope("a", pool_id=b"x" * 16), "stranger"),
    "another key id": (envelope("a", key_id=3), "key_id"),
    "a later version": (envelope("a", protocol=2), "version"),
}


@pytest.mark.parametrize(("sender", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_before_anything_is_remembered(sender: Envelope, reason: str) -> None:
    b = envelope("b")

    assert b.open(sender.seal(b"x", b.node_id)) == Rejected(reason)
    assert b.dropped == {reason: 1}


def test_the_previous_version_is_understood() -> None:
    newer = envelope("b", protocol=2)

    assert isinstance(newer.open(envelope("a", protocol=1).seal(b"x", None)), Opened)
    assert newer.open(envelope("c", protocol=3).seal(b"x", None)) == Rejected("version")


def test_for_somebody_else() -> None:
    a, b = envelope("a"), envelope("b")

    assert b.open(a.seal(b"x", envelope("c").node_id)) == Rejected("recipient")


def test_own_packets_come_back_from_a_broadcast() -> None:
    a = envelope("a")

    assert a.open(a.seal(b"x", None)) == Rejected("own")


def test_an_older_boot_is_refused_and_a_newer_begins_anew() -> None:
    b, old, new = envelope("b"), envelope("a", 1), envelope("a", 2)

    assert isinstance(b.open(old.seal(b"1", None)), Opened)
    assert isinstance(b.open(new.seal(b"2", None)), Opened)
    assert b.open(old.seal(b"3", None)) == Rejected("old_boot")
    assert b.open(old.seal(b"4", None, Channel.STREAM), Channel.STREAM) == Rejected("old_boot")


def test_a_boot_remembered_from_disk_is_the_oldest_taken() -> None:
    b, old, new = envelope("b"), envelope("a", 4), envelope("a", 5)
    b.expect(old.node_id, 5)
    b.expect(old.node_id, 3)

    assert b.open(old.seal(b"1", None)) == Rejected("old_boot")
    assert isinstance(b.open(new.seal(b"2", None)), Opened)


@pytest.mark.parametrize("channel", list(Channel))
def test_the_window_takes_what_is_late_but_not_too_late(channel: Channel) -> None:
    a, b = envelope("a"), envelope("b")
    packets = [a.seal(b"x", None, channel) for _ in range(channel.window + 1)]

    assert isinstance(b.open(packets[-1], channel), Opened)
    assert isinstance(b.open(packets[1], channel), Opened)
    assert b.open(packets[1], channel) == Rejected("replayed")
    assert b.open(packets[0], channel) == Rejected("replayed")
    b.check()


def test_a_frame_may_be_older_than_a_thousand_packets() -> None:
    a, b = envelope("a"), envelope("b")
    frame = a.seal(b"frame", b.node_id, Channel.STREAM)
    for _ in range(3_000):
        assert isinstance(b.open(a.seal(b"packet", b.node_id)), Opened)

    assert b.open(frame) == Rejected("channel")
    assert isinstance(b.open(frame, Channel.STREAM), Opened)


@given(st.lists(st.integers(0, 40), max_size=60))
def test_every_sequence_is_taken_exactly_once(order: list[int]) -> None:
    a, b = envelope("a"), envelope("b")
    packets = [a.seal(bytes([at]), None) for at in range(41)]

    taken = [opened.body for at in order if isinstance(opened := b.open(packets[at]), Opened)]

    assert taken == [bytes([at]) for at in dict.fromkeys(order)]
    b.check()


def test_equal_numbers_do_not_share_a_nonce() -> None:
    """A copied disk repeats a boot epoch; two plaintexts under one nonce would open the seal."""
    one, clone = envelope("a").seal(b"one", None), envelope("a").seal(b"two", None)

    assert one[4:16] != clone[4:16]


def test_senders_are_bounded() -> None:
    b = envelope("b")
    first = envelope("0").seal(b"x", None)
    assert isinstance(b.open(first), Opened)
    for at in range(1, SENDERS_MAX + 10):
        assert isinstance(b.open(envelope(str(at)).seal(b"x", None)), Opened)

    b.check()
    # Known limit: the one unheard for longest is forgotten, its window with it.
    assert isinstance(b.open(first), Opened)


def hostile_packets(rng: random.Random, genuine: list[bytes], spent: list[bytes]) -> list[bytes]:
    """One of each: noise, noise in our dress, cut, flipped, padded, played again, foreign."""
    packet = rng.choice(genuine)
    flipped = bytearray(packet)
    flipped[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)
    return [
        rng.randbytes(rng.randrange(1_400)),
        b"rn\x01\x00" + rng.randbytes(rng.randrange(1_300)),
        packet[: rng.randrange(len(packet))],
        bytes(flipped),
        packet + rng.randbytes(1 + rng.randrange(8)),
        rng.choice(spent),
    ]


def test_a_flood_of_hostile_packets_changes_nothing() -> None:
    rng = random.Random(7)
    a, b = envelope("a"), envelope("b")
    unsent = [a.seal(rng.randbytes(rng.randrange(300)), b.node_id) for _ in range(50)]
    spent = [a.seal(rng.randbytes(60), b.node_id) for _ in range(50)]
    spent += [envelope("a", pool_id=b"x" * 16).seal(b"x", None) for _ in range(10)]
    spent += [envelope("a", pool_key=b"x" * 32).seal(b"x", None) for _ in range(10)]
    for packet in spent:
        b.open(packet)
    before = dict(b.dropped)

    tracemalloc.start()
    refused = 0
    while refused < FUZZED:
        for packet in hostile_packets(rng, unsent, spent):
            assert isinstance(b.open(packet), Rejected)
            refused += 1
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sum(b.dropped.values()) - sum(before.values()) == refused
    assert len(b.dropped) < 12
    assert kept_bytes < 1024 * 1024
    # Nothing was burnt on the way: what the sender did write is still taken.
    assert all(isinstance(b.open(packet), Opened) for packet in unsent)
    b.check()


def test_hostile_packets_against_real_signatures() -> None:
    rng = random.Random(11)
    a = Envelope(POOL_ID, POOL_KEY, EdSigner(b"a" * 32), ed_verify, 1)
    b = Envelope(POOL_ID, POOL_KEY, EdSigner(b"b" * 32), ed_verify, 1)
    unsent = [a.seal(rng.randbytes(60), b.node_id) for _ in range(20)]
    spent = [a.seal(rng.randbytes(60), b.node_id) for _ in range(20)]
    for packet in spent:
        b.open(packet)

    for _ in range(300):
        for packet in hostile_packets(rng, unsent, spent):
            assert isinstance(b.open(packet), Rejected)

    assert all(isinstance(b.open(packet), Opened) for packet in unsent)


def test_a_key_that_is_no_point_of_the_curve_is_refused() -> None:
    assert not ed_verify(b"\xff" * 32, bytes(64), b"x")
    assert not ed_verify(b"", b"", b"x")


def test_two_pools_with_one_key_stay_apart() -> None:
    signer = CheapSigner("a")
    other = Envelope(b"o" * 16, POOL_KEY, signer, cheap_verify, 1)

    assert envelope("b").open(other.seal(b"x", None)) == Rejected("stranger")
