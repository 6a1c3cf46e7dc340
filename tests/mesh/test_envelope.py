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
    CONTROL_BYTES,
    KEY_IDS,
    OLD_KEYS,
    OVERHEAD_BYTES,
    PACKET_BODY_BYTES_MAX,
    PACKET_BYTES_MAX,
    Envelope,
    Opened,
    Reply,
    node_id_of,
)
from rain.mesh.freshness import CHALLENGE_EVERY, SENDERS_MAX
from rain.mesh.keys import EdSigner, ed_verify
from rain.model import NodeId
from tests.mesh.rig import POOL_ID, POOL_KEY, CheapSigner, cheap_verify
from tests.mesh.sealing import dice, envelope, everybody, prove

FUZZED = 30_000


def real(name: bytes, boot_epoch: int = 7) -> Envelope:
    signer = EdSigner(name * 32)
    nonce = dice(name.decode())
    made = Envelope(POOL_ID, signer, ed_verify, boot_epoch, everybody, nonce)
    made.set_ring([(1, POOL_KEY)], 1)
    return made


def pair(boot_epoch: int = 1) -> tuple[Envelope, Envelope]:
    """Two that have come to terms."""
    a, b = envelope("a", boot_epoch), envelope("b")
    prove(a, b)
    return a, b


def taken(opened: Opened | Rejected | Reply) -> bytes | None:
    return opened.body if isinstance(opened, Opened) else None


@given(st.binary(max_size=PACKET_BODY_BYTES_MAX), st.booleans(), st.integers(0, 2**64 - 1))
def test_what_is_sealed_is_opened_once(body: bytes, everybody: bool, boot_epoch: int) -> None:
    a, b = pair(boot_epoch)

    packet = a.seal(body, None if everybody else b.node_id)

    assert len(packet) == len(body) + OVERHEAD_BYTES <= PACKET_BYTES_MAX
    assert b.open(packet) == Opened(a.node_id, boot_epoch, 3, body)
    assert b.open(packet) == Rejected("replayed")


def test_a_thousand_and_twenty_four_bytes_fit_into_a_packet() -> None:
    assert PACKET_BODY_BYTES_MAX == 1_024
    with pytest.raises(AssertionError):
        envelope("a").seal(bytes(PACKET_BODY_BYTES_MAX + 1), None)


def test_a_node_id_is_a_hash_of_the_key() -> None:
    digest = hashlib.sha256(bytes(32)).digest()

    assert node_id_of(bytes(32)) == base64.b32encode(digest).decode().lower()[:26]


def test_real_keys() -> None:
    a, b = real(b"a"), real(b"b")
    prove(a, b)

    assert taken(b.open(a.seal(b"hello", b.node_id))) == b"hello"
    assert taken(a.open(b.seal(b"hello", a.node_id))) == b"hello"


class Impostor:
    """Holds the pool's key and somebody else's name, but not the somebody's key."""

    public_key = EdSigner(b"a" * 32).public_key

    def sign(self, content: bytes) -> bytes:
        return EdSigner(b"x" * 32).sign(content)


def test_a_member_cannot_speak_for_another() -> None:
    a, b = real(b"a"), real(b"b")
    impostor = Envelope(POOL_ID, Impostor(), ed_verify, 7, everybody, dice("x"))
    impostor.set_ring([(1, POOL_KEY)], 1)
    prove(a, b)

    for _ in range(2_000):
        forged = impostor.seal(b"resign", b.node_id)
    assert b.open(forged) == Rejected("signature")

    # M2: the number 2,000 is not burnt, and the window has not moved away from 3.
    assert taken(b.open(a.seal(b"true", b.node_id))) == b"true"


def test_a_member_cannot_prove_that_another_is_alive() -> None:
    a, b = real(b"a"), real(b"b")
    challenge = b.open(a.seal(b"first", b.node_id))
    impostor = Envelope(POOL_ID, Impostor(), ed_verify, 7, everybody, dice("x"))
    impostor.set_ring([(1, POOL_KEY)], 1)
    impostor.seal(b"number 1 was heard", None)
    assert isinstance(challenge, Reply)
    proof = impostor.open(challenge.packet)
    assert isinstance(proof, Reply)

    assert b.open(proof.packet) == Rejected("signature")
    assert b.controls == {}


REFUSED = {
    "a stranger": (envelope("a", pool_key=b"x" * 32), "stranger"),
    "another pool": (envelope("a", pool_id=b"x" * 16), "other_pool"),
    "another pool that looks alike": (envelope("a", pool_id=b"pp" + b"x" * 14), "stranger"),
    "a key that is still to come": (envelope("a", number=2), "unknown_key"),
    "a key long to come": (envelope("a", number=KEY_IDS - OLD_KEYS), "unknown_key"),
    "a key that is gone": (envelope("a", number=0), "old_key"),
    "a key long gone": (envelope("a", number=1 + KEY_IDS - OLD_KEYS), "old_key"),
    "a later version": (envelope("a", protocol=2), "version"),
}


@pytest.mark.parametrize(("sender", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_before_anything_is_remembered(sender: Envelope, reason: str) -> None:
    b = envelope("b")

    assert b.open(sender.seal(b"x", b.node_id)) == Rejected(reason)
    assert (b.dropped, b.controls) == ({reason: 1}, {})


def test_the_previous_version_is_understood() -> None:
    newer = envelope("b", protocol=2)

    assert isinstance(newer.open(envelope("a", protocol=1).seal(b"x", None)), Reply)
    assert newer.open(envelope("c", protocol=3).seal(b"x", None)) == Rejected("version")


def test_whoever_is_not_admitted_is_neither_heard_nor_answered() -> None:
    removed: set[NodeId] = set()

    def admits(node_id: NodeId) -> str:
        return "removed" if node_id in removed else ""

    a, b, c = envelope("a"), envelope("b", admits=admits), envelope("c")
    prove(a, b)
    challenge = a.open(c.seal(b"x", a.node_id))
    assert isinstance(challenge, Reply)
    removed.update((a.node_id, c.node_id))

    assert b.open(a.seal(b"proven before", None)) == Rejected("removed")
    assert b.open(c.seal(b"never proven", None)) == Rejected("removed")
    asking = envelope("a", 2).open(b.seal(b"x", a.node_id))
    assert isinstance(asking, Reply)
    assert b.open(asking.packet) == Rejected("removed")
    assert b.dropped == {"unproven": 1, "removed": 3}

    removed.clear()
    assert taken(b.open(a.seal(b"let in again", None))) == b"let in again"


def test_for_somebody_else() -> None:
    a, b = pair()

    assert b.open(a.seal(b"x", envelope("c").node_id)) == Rejected("recipient")


def test_a_proof_is_for_who_asked() -> None:
    a, b, c = envelope("a"), envelope("b"), envelope("c")
    challenge = b.open(a.seal(b"x", None))
    c.open(a.seal(b"x", None))
    assert isinstance(challenge, Reply)
    proof = a.open(challenge.packet)
    assert isinstance(proof, Reply)

    assert c.open(challenge.packet) == Rejected("recipient")
    assert c.open(proof.packet) == Rejected("recipient")
    assert isinstance(b.open(proof.packet), Reply | Rejected)
    assert b.controls == {"proof": 1, "challenge": 1}


def test_own_packets_come_back_from_a_broadcast() -> None:
    a = envelope("a")

    assert a.open(a.seal(b"x", None)) == Rejected("own")


def test_equal_numbers_do_not_share_a_nonce() -> None:
    """A copied disk repeats a boot epoch; two plaintexts under one nonce would open the seal."""
    one, clone = envelope("a").seal(b"one", None), envelope("a").seal(b"two", None)

    assert one[6:18] != clone[6:18]


def test_the_key_in_use_seals_and_any_of_the_ring_opens() -> None:
    a, b = pair()
    old, new = (1, POOL_KEY), (2, b"n" * 32)
    before = [a.seal(b"old", None) for _ in range(2)]

    b.set_ring([old, new], 1)
    a.set_ring([old, new], 2)
    assert taken(b.open(a.seal(b"new", None))) == b"new"
    assert taken(b.open(before[0])) == b"old"
    assert taken(a.open(b.seal(b"old", None))) == b"old"

    b.set_ring([new], 2)
    assert b.open(before[1]) == Rejected("old_key")
    assert taken(b.open(a.seal(b"new", None))) == b"new"
    assert a.seal(b"", None)[3] == 2


def test_key_numbers_go_on_past_what_the_header_holds() -> None:
    keys = [(number, bytes([number % 251]) * 32) for number in range(126, 131)]
    a, b = pair()
    a.set_ring(keys, 129)
    b.set_ring(keys, 126)

    assert taken(b.open(a.seal(b"x", None))) == b"x"
    assert taken(a.open(b.seal(b"x", None))) == b"x"
    b.set_ring(keys[1:2], 127)
    assert b.open(a.seal(b"x", None)) == Rejected("unknown_key")


def test_no_key_no_word() -> None:
    a = Envelope(POOL_ID, CheapSigner("a"), cheap_verify, 1, everybody, dice("a"))

    assert a.open(envelope("b").seal(b"x", None)) == Rejected("unknown_key")
    with pytest.raises(AssertionError, match="set_ring"):
        a.seal(b"x", None)
    with pytest.raises(AssertionError, match="in use"):
        a.set_ring([(1, POOL_KEY)], 2)


def test_senders_are_bounded_and_who_is_forgotten_proves_again() -> None:
    a, b = pair()
    spent = a.seal(b"x", None)
    assert taken(b.open(spent)) == b"x"
    for at in range(SENDERS_MAX + 10):
        prove(envelope(str(at)), b)

    b.check()
    assert isinstance(b.open(spent), Reply)
    assert b.open(spent) == Rejected("replayed")


def test_noise_under_the_pools_own_key_is_no_control() -> None:
    """What a member of a later version, or a mad one, might seal."""
    a, b = pair()
    to_b = hashlib.sha256(b.node_id.encode()).digest()[:30]

    for body in (b"", b"\1", bytes(24)):
        assert b.open(a._seal(body, to_b, True)) == Rejected("bad_control")
    assert b.open(a._seal(bytes(25), bytes(30), True)) == Rejected("recipient")
    assert b.open(a._seal(bytes(25), to_b, True)) == Rejected("control")
    assert b.open(a._seal(b"\xf8" + bytes(40), to_b, True)) == Rejected("control")
    longer = b.open(a._seal(b"\1" + b"n" * 30, to_b, True))
    assert isinstance(longer, Reply)
    assert len(longer.packet) == CONTROL_BYTES


def test_answers_to_a_recording_are_few() -> None:
    """A receiver that has just started, and all that was ever said to its former self."""
    a, b = pair()
    recorded = [a.seal(b"x" * at, b.node_id) for at in range(800)]
    restarted = envelope("b", 2)

    replies = [
        reply
        for _ in range(3)
        for packet in recorded
        if isinstance(reply := restarted.open(packet), Reply)
    ]

    assert len(replies) == 3 + 800 // CHALLENGE_EVERY + 1
    assert {len(reply.packet) for reply in replies} == {CONTROL_BYTES}
    assert taken(restarted.open(recorded[0])) is None


def hostile_packets(rng: random.Random, genuine: list[bytes], spent: list[bytes]) -> list[bytes]:
    """One of each: noise, noise in our dress, cut, flipped, padded, played again, foreign."""
    packet = rng.choice(genuine)
    flipped = bytearray(packet)
    flipped[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)
    return [
        rng.randbytes(rng.randrange(1_400)),
        packet[:6] + rng.randbytes(rng.randrange(1_300)),
        packet[: rng.randrange(len(packet))],
        bytes(flipped),
        packet + rng.randbytes(1 + rng.randrange(8)),
        rng.choice(spent),
    ]


def test_a_flood_of_hostile_packets_changes_nothing() -> None:
    rng = random.Random(7)
    a, b = pair()
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
    assert len(b.dropped) < 14
    assert kept_bytes < 1024 * 1024
    # Nothing was burnt on the way: what the sender did write is still taken.
    assert all(isinstance(b.open(packet), Opened) for packet in unsent)
    b.check()


def test_hostile_packets_against_real_signatures() -> None:
    rng = random.Random(11)
    a, b = real(b"a"), real(b"b")
    prove(a, b)
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
    other = envelope("a", pool_id=b"pp" + b"o" * 14)

    assert envelope("b").open(other.seal(b"x", None)) == Rejected("stranger")
