"""What rides on packets: order, quota, and never more than a packet holds."""

import msgpack
import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rain.effects import Message
from rain.gossip.member import FACTS_BYTES_MAX, fitted_facts, is_acceptable, packed_bytes
from rain.gossip.messages import (
    SIGNATURE_BYTES,
    Ack,
    FactsRecord,
    Join,
    MemberRecord,
    Ping,
    Rumours,
    Sync,
)
from rain.gossip.updates import Updates, transmissions_max
from rain.model import Address, Facts, MemberState, NodeId, Resources
from tests.gossip.pool import PACKET_BODY_BYTES_MAX, record_of
from tests.gossip.signing import signed_facts

LONGEST_RECORD = MemberRecord(
    NodeId("a" * 26),
    "名" * 64,
    Address("f" * 39, 65_535),
    2**62,
    2**40,
    MemberState.SUSPECT,
    NodeId("b" * 26),
    b"s" * SIGNATURE_BYTES,
)
LONGEST_FACTS = replace(
    fitted_facts(
        FactsRecord(
            NodeId("a" * 26),
            2**62,
            Facts(2**62, Resources(2**62, 2**62), ("e" * 50,) * 40, True, "", -(2**62), "s", "p"),
        )
    ),
    signature=b"s" * SIGNATURE_BYTES,
)


def wire_bytes(message: Message) -> int:
    return len(msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,))))


def test_the_worst_messages_fit_a_packet() -> None:
    assert is_acceptable(LONGEST_RECORD)
    assert packed_bytes(LONGEST_FACTS) > FACTS_BYTES_MAX - 60
    updates = Updates()
    for index in range(40):
        node_id = NodeId(f"{index:026}")
        updates.tell(replace(LONGEST_RECORD, node_id=node_id))
        updates.tell(replace(LONGEST_FACTS, node_id=node_id))
        updates.tell(record_of(index))
    for message in (
        Join(LONGEST_RECORD, LONGEST_FACTS, True),
        Rumours((LONGEST_RECORD,), (LONGEST_FACTS,)),
        Ping(2**62, *updates.take(512, first=LONGEST_RECORD)),
        Ack(2**62, *updates.take(512)),
        Rumours(*updates.take(512)),
        Sync((), (), True, b"12345678"),
    ):
        assert wire_bytes(message) <= PACKET_BODY_BYTES_MAX


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 64)), max_size=60), st.booleans())
def test_no_packet_is_ever_too_large(told: list[tuple[int, int]], accused: bool) -> None:
    updates = Updates()
    for index, letters in told:
        updates.tell(replace(record_of(index), name="名" * letters))
        facts = FactsRecord(record_of(index).node_id, 1, Facts(1, idle_reason="r" * letters))
        updates.tell(signed_facts(facts))
    first = LONGEST_RECORD if accused else None
    for _ in range(500):
        updates.check()
        message = Ping(2**62, *updates.take(32, first))
        assert wire_bytes(message) <= PACKET_BODY_BYTES_MAX
        if updates.is_empty():
            break
    assert updates.is_empty(), "everything is told in the end"


def test_least_told_first_then_newest() -> None:
    updates = Updates()
    updates.tell(record_of(1))
    assert updates.take(5) == ((record_of(1),), ())
    updates.tell(record_of(2))
    updates.tell(record_of(3))
    assert updates.take(5) == ((record_of(3), record_of(2), record_of(1)), ())


def test_an_update_is_told_its_quota_and_no_more() -> None:
    updates = Updates()
    updates.tell(record_of(1))
    told = [updates.take(9) for _ in range(transmissions_max(9) + 1)]
    assert told == [((record_of(1),), ())] * 4 + [((), ())]
    assert updates.is_empty()


def test_the_quota_grows_with_the_digits_of_the_pool() -> None:
    assert [transmissions_max(n) for n in (0, 1, 9, 10, 99, 100)] == [4, 4, 4, 8, 8, 12]


def test_a_newer_claim_replaces_the_older_one_and_starts_afresh() -> None:
    updates = Updates()
    updates.tell(record_of(1, MemberState.SUSPECT, accuser=2))
    updates.take(5)
    updates.tell(record_of(1, incarnation=1))
    assert [updates.take(5)[0] for _ in range(5)] == [(record_of(1, incarnation=1),)] * 4 + [()]


def test_what_goes_first_is_not_told_twice_in_one_packet() -> None:
    updates = Updates()
    suspect = record_of(1, MemberState.SUSPECT, accuser=2)
    updates.tell(suspect)
    assert updates.take(5, first=suspect) == ((suspect,), ())
    updates.forget(suspect.node_id)
    assert updates.take(5) == ((), ())
