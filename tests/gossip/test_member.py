"""The precedence law, and what fits into a packet."""

from functools import reduce
from itertools import permutations

import msgpack
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rain.gossip.member import (
    FACTS_BYTES_MAX,
    INCARNATION_MAX,
    RECORD_BYTES_MAX,
    Member,
    are_acceptable_facts,
    claim_order,
    fitted_facts,
    fitted_record,
    is_acceptable,
    newer,
    newer_facts,
    packed_bytes,
)
from rain.gossip.messages import FactsRecord, MemberRecord
from rain.model import Address, Facts, MemberState, NodeId, Resources
from tests.gossip.pool import record_of

records = st.builds(
    MemberRecord,
    node_id=st.just(NodeId("n01")),
    name=st.sampled_from(["a", "b"]),
    address=st.builds(Address, st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.just(7246)),
    boot_epoch=st.integers(1, 3),
    incarnation=st.integers(0, 2),
    state=st.sampled_from(MemberState),
    accuser=st.sampled_from([NodeId(""), NodeId("n02"), NodeId("n03")]),
    signature=st.sampled_from([b"", b"x", b"y"]),
)
facts_records = st.builds(
    FactsRecord,
    node_id=st.just(NodeId("n01")),
    boot_epoch=st.integers(1, 2),
    facts=st.builds(Facts, version=st.integers(1, 2), rank=st.integers(0, 2)),
    signature=st.sampled_from([b"", b"x", b"y"]),
)


@given(records, records, records)
def test_merging_claims_is_commutative_associative_idempotent(
    a: MemberRecord, b: MemberRecord, c: MemberRecord
) -> None:
    assert newer(a, b) == newer(b, a)
    assert newer(newer(a, b), c) == newer(a, newer(b, c))
    assert newer(a, a) == a
    assert len({reduce(newer, order) for order in permutations((a, b, c))}) == 1


@given(records, records)
def test_a_merge_never_falls(a: MemberRecord, b: MemberRecord) -> None:
    assert claim_order(newer(a, b)) == max(claim_order(a), claim_order(b))


@given(facts_records, facts_records, facts_records)
def test_merging_facts_is_commutative_associative_idempotent(
    a: FactsRecord, b: FactsRecord, c: FactsRecord
) -> None:
    assert newer_facts(a, b) == newer_facts(b, a)
    assert newer_facts(newer_facts(a, b), c) == newer_facts(a, newer_facts(b, c))
    assert newer_facts(a, a) == a


def test_a_graver_claim_wins_an_incarnation_and_a_refutation_wins_over_it() -> None:
    alive, suspect = record_of(1), record_of(1, MemberState.SUSPECT, accuser=2)
    dead, left = record_of(1, MemberState.DEAD), record_of(1, MemberState.LEFT)
    assert newer(alive, suspect) == suspect
    assert newer(suspect, dead) == dead
    assert newer(dead, left) == left
    assert newer(left, record_of(1, incarnation=1)) == record_of(1, incarnation=1)


def test_a_restart_needs_no_refuting() -> None:
    dead = record_of(1, MemberState.DEAD, incarnation=7)
    reborn = record_of(1, boot_epoch=2)
    assert newer(dead, reborn) == reborn


def test_a_remembered_member_is_shown_dead_until_it_is_heard_of() -> None:
    remembered = Member(record_of(1), confirmed=False)
    assert not remembered.is_here
    assert remembered.shown("pc1").record.state is MemberState.DEAD
    assert Member(record_of(1)).shown("pc1").record.state is MemberState.ALIVE


@given(st.text(max_size=128), st.text(max_size=128), st.integers(0, 2**62))
def test_own_records_are_cut_until_they_fit(name: str, host: str, boot_epoch: int) -> None:
    record = MemberRecord(
        NodeId("a" * 26), name, Address(host[:40], 7246), boot_epoch, 0, MemberState.ALIVE
    )
    fitted = fitted_record(record)
    assert is_acceptable(fitted)
    assert name.startswith(fitted.name)


def test_longest_names_still_fit_when_they_keep_to_64_characters() -> None:
    record = MemberRecord(
        NodeId("a" * 26), "名" * 64, Address("f" * 39, 65_535), 2**62, 0, MemberState.ALIVE
    )
    assert fitted_record(record) == record


def test_own_facts_are_cut_where_it_hurts_least() -> None:
    facts = Facts(
        3,
        Resources(64_000, 2**40),
        ("docker", "process"),
        True,
        "because " * 50,
        5,
        "0.1.0",
        "linux",
        ("NVIDIA H100 80GB HBM3",) * 16,
    )
    fitted = fitted_facts(FactsRecord(NodeId("a" * 26), 2**40, facts))
    assert are_acceptable_facts(fitted)
    kept = fitted.facts
    assert (kept.capacity, kept.executors, kept.works) == (facts.capacity, facts.executors, True)
    assert facts.idle_reason.startswith(kept.idle_reason)
    assert len(kept.accelerators) > 8
    hopeless = Facts(1, executors=("x" * 128,) * 100, software="y" * 128, platform="z" * 128)
    cut = fitted_facts(FactsRecord(NodeId("a" * 26), 1, hopeless))
    assert are_acceptable_facts(cut)
    assert cut.facts.executors


def test_what_cannot_be_told_on_or_refuted_is_not_acceptable() -> None:
    assert is_acceptable(record_of(1))
    assert not is_acceptable(msgspec.structs.replace(record_of(1), name="🌧" * 128))
    assert not is_acceptable(msgspec.structs.replace(record_of(1), node_id=NodeId("")))
    assert not is_acceptable(msgspec.structs.replace(record_of(1), accuser=NodeId("x" * 33)))
    assert not is_acceptable(record_of(1, incarnation=INCARNATION_MAX + 1))
    oversized = Facts(1, executors=("e" * 100,) * 10)
    assert not are_acceptable_facts(FactsRecord(NodeId("n01"), 1, oversized))


@given(records, facts_records)
def test_sizes_are_those_of_the_wire(record: MemberRecord, facts: FactsRecord) -> None:
    for value in (record, facts):
        wire = msgpack.packb(msgspec.to_builtins(value, builtin_types=(bytes,)))
        assert packed_bytes(value) == len(wire)
    assert RECORD_BYTES_MAX + FACTS_BYTES_MAX <= 960
