"""Who signed what, who may be spoken of, and how little of it is checked twice."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rain.gossip.messages import FactsRecord, MemberRecord
from rain.gossip.proofs import (
    VERDICTS_MAX,
    WAITING_MAX,
    Proofs,
    Waiting,
    facts_content,
    member_content,
)
from rain.model import Address, Facts, MemberState, NodeId
from tests.gossip.given import facts_record
from tests.gossip.pool import node_id, record_of
from tests.gossip.signing import admitted, signed, signer_of, verify

ME, OTHER = node_id(1), node_id(2)
ALIVE, SUSPECT, DEAD, LEFT = MemberState


class Counting:
    """Verifies, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, public_key: bytes, signature: bytes, content: bytes) -> bool:
        self.count += 1
        return verify(public_key, signature, content)


def proofs_of(counting: Counting) -> Proofs:
    proofs = Proofs(ME, signer_of(ME), counting)
    for known in (ME, OTHER):
        proofs.admit(admitted(known))
    return proofs


def test_what_was_signed_is_proven_whoever_tells_it_and_from_wherever() -> None:
    proofs = proofs_of(Counting())
    assert proofs.is_proven(record_of(2), None)
    moved = replace(record_of(2), address=Address("10.9.9.9", 1))
    assert proofs.is_proven(moved, None), "who is bound to all interfaces cannot sign where it is"
    for state in (SUSPECT, DEAD):
        accusation = replace(record_of(2), state=state, accuser=ME)
        assert proofs.is_proven(accusation, None), "it quotes the claim that it is about"
    assert proofs.is_proven(record_of(2, LEFT), None)
    assert proofs.are_proven_facts(facts_record(2))


def test_nothing_more_than_was_signed_is_proven() -> None:
    proofs = proofs_of(Counting())
    said = record_of(2)
    for lie in (
        replace(said, name="pc9"),
        replace(said, boot_epoch=2),
        replace(said, incarnation=1),
        replace(said, state=LEFT),
        replace(said, state=SUSPECT, incarnation=1),
        replace(record_of(2, LEFT), state=ALIVE),
        replace(record_of(3), node_id=OTHER),
        replace(said, signature=b""),
    ):
        assert not proofs.is_proven(lie, None)
        assert not proofs.is_proven(lie, said)
    facts = facts_record(2)
    assert not proofs.are_proven_facts(replace(facts, boot_epoch=2))
    assert not proofs.are_proven_facts(replace(facts, facts=Facts(version=9)))
    assert not proofs.are_proven_facts(replace(facts, signature=said.signature))


def test_what_is_held_or_was_checked_is_not_checked_again() -> None:
    counting = Counting()
    proofs = proofs_of(counting)
    held = record_of(2)
    assert proofs.is_proven(replace(held, state=SUSPECT, accuser=ME), held)
    assert counting.count == 0
    forged = replace(held, incarnation=5)
    for _ in range(3):
        assert not proofs.is_proven(forged, held)
        assert proofs.is_proven(record_of(2, incarnation=1), held)
    assert counting.count == 2


def test_verdicts_are_bounded() -> None:
    proofs = proofs_of(Counting())
    for incarnation in range(VERDICTS_MAX + 10):
        proofs.is_proven(replace(record_of(2), incarnation=incarnation), None)
        proofs.check()


def test_nobody_without_a_key_proves_anything() -> None:
    proofs = Proofs(ME, signer_of(ME), verify)
    assert not proofs.is_proven(record_of(2), None)
    proofs.admit(replace(admitted(OTHER), public_key=b""))
    assert not proofs.is_proven(record_of(2), None)


def test_this_node_is_always_admitted_others_until_they_are_barred() -> None:
    proofs = Proofs(ME, signer_of(ME), verify)
    assert (proofs.refusal(ME), proofs.refusal(OTHER)) == ("", "not_admitted")
    proofs.admit(admitted(OTHER))
    assert proofs.refusal(OTHER) == ""
    proofs.bar(OTHER)
    assert proofs.refusal(OTHER) == "barred"
    proofs.check()
    proofs.admit(admitted(OTHER))
    assert proofs.refusal(OTHER) == ""
    proofs.check()


def test_the_last_word_on_a_stranger_waits() -> None:
    proofs = Proofs(ME, signer_of(ME), verify)
    proofs.keep(record_of(2), node_id(3))
    proofs.keep(facts_record(2), node_id(3))
    proofs.keep(record_of(2, incarnation=1), node_id(4))
    waiting = Waiting(node_id(4), record_of(2, incarnation=1), facts_record(2))
    assert proofs.admit(admitted(OTHER)) == waiting
    assert proofs.admit(admitted(OTHER)) is None
    proofs.bar(node_id(5))
    proofs.keep(record_of(5), node_id(3))
    assert proofs.admit(admitted(node_id(5))) is None, "nothing waits for the barred"


def test_the_longest_unheard_of_strangers_give_way() -> None:
    proofs = Proofs(ME, signer_of(ME), verify)
    strangers = [NodeId(f"s{index:03}") for index in range(WAITING_MAX + 1)]
    for stranger in (*strangers[:-1], strangers[0], strangers[-1]):
        proofs.keep(signed(replace(record_of(2), node_id=stranger)), OTHER)
        proofs.check()
    kept = [stranger for stranger in strangers if proofs.admit(admitted(stranger)) is not None]
    assert kept == [strangers[0], *strangers[2:]]


def test_names_are_those_of_certificates() -> None:
    proofs = Proofs(ME, signer_of(ME), verify)
    assert proofs.name_of(record_of(2)) == "pc2"
    proofs.admit(admitted(OTHER, "desk"))
    assert proofs.name_of(record_of(2)) == "desk"


texts = st.text(max_size=4)
counts = st.integers(0, 2)
node_ids = st.sampled_from([ME, OTHER])
records = st.builds(
    MemberRecord,
    node_ids,
    texts,
    st.just(Address("10.0.0.1", 7246)),
    counts,
    counts,
    st.sampled_from(MemberState),
    node_ids,
)
facts_records = st.builds(FactsRecord, node_ids, counts, st.builds(Facts, counts))


@given(records, records, facts_records, facts_records)
def test_different_words_have_different_contents(
    a: MemberRecord, b: MemberRecord, c: FactsRecord, d: FactsRecord
) -> None:
    def word(record: MemberRecord) -> tuple[object, ...]:
        is_goodbye = record.state is LEFT
        return record.node_id, record.name, record.boot_epoch, record.incarnation, is_goodbye

    assert (word(a) == word(b)) == (member_content(a) == member_content(b))
    assert (c == d) == (facts_content(c) == facts_content(d))
    assert member_content(a) != facts_content(c)
