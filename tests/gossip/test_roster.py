"""The table: what is news, what goes to disk, when two tables are equal."""

from msgspec.structs import replace

from rain.effects import Persist
from rain.gossip.member import Member
from rain.gossip.messages import MEMBERS_MAX, FactsRecord
from rain.gossip.records import MemberRow
from rain.gossip.roster import Roster
from rain.model import Address, Facts, MemberState, NodeId
from tests.gossip.pool import address_of, node_id, record_of

ME = node_id(1)
OWN = Member(record_of(1))


def row(index: int, state: MemberState = MemberState.ALIVE) -> MemberRow:
    signature = record_of(index, state).signature
    return MemberRow(node_id(index), f"pc{index}", address_of(index), 1, 0, state, signature)


def test_only_a_higher_claim_is_news() -> None:
    roster = Roster(ME, [])
    assert roster.merge(record_of(2)) == (None, Member(record_of(2)))
    assert roster.merge(record_of(2)) is None
    suspect = record_of(2, MemberState.SUSPECT, accuser=3)
    assert roster.merge(suspect) == (Member(record_of(2)), Member(suspect))
    assert roster.merge(record_of(2)) is None
    assert roster.here() == (node_id(2),)
    roster.check()


def test_equal_claims_settle_to_the_same_in_any_order() -> None:
    claims = [record_of(2, MemberState.SUSPECT, accuser=index) for index in (3, 4, 5)]
    claims += [replace(claims[0], address=Address("10.0.9.9", 7246))]
    forwards, backwards = Roster(ME, []), Roster(ME, [])
    for claim in claims:
        forwards.merge(claim)
    for claim in reversed(claims):
        backwards.merge(claim)
    assert forwards.all() == backwards.all()


def test_the_death_of_a_stranger_is_no_news() -> None:
    roster = Roster(ME, [])
    assert roster.merge(record_of(2, MemberState.DEAD)) is None
    assert roster.merge(record_of(3, MemberState.LEFT)) is None
    assert roster.all() == []


def test_what_cannot_change_anything_is_not_worth_a_look() -> None:
    roster = Roster(ME, [])
    assert roster.may_change(record_of(2))
    assert not roster.may_change(record_of(2, MemberState.DEAD))
    roster.merge(record_of(2, incarnation=3, boot_epoch=2))
    assert not roster.may_change(record_of(2, MemberState.LEFT, incarnation=2, boot_epoch=2))
    assert not roster.may_change(record_of(2, incarnation=9))
    assert roster.may_change(record_of(2, incarnation=3, boot_epoch=2)), "a further accuser counts"
    assert roster.may_change(record_of(2, boot_epoch=3))


def test_the_remembered_keep_their_signatures() -> None:
    roster = Roster(ME, [row(2), row(3, MemberState.LEFT), row(4, MemberState.DEAD)])
    for index, state in ((2, MemberState.ALIVE), (3, MemberState.LEFT), (4, MemberState.ALIVE)):
        known = roster.get(node_id(index))
        assert known is not None
        assert known.record == record_of(index, state)


def test_suspicions_and_incarnations_are_not_written() -> None:
    roster = Roster(ME, [])
    roster.merge(record_of(2))
    assert roster.unwritten() == [Persist((row(2),))]
    assert roster.unwritten() == []
    roster.merge(record_of(2, MemberState.SUSPECT, accuser=3))
    roster.merge(record_of(2, incarnation=1))
    assert roster.unwritten() == []
    roster.merge(record_of(2, MemberState.DEAD, incarnation=1))
    signature = record_of(2, incarnation=1).signature
    died = replace(row(2, MemberState.DEAD), incarnation=1, signature=signature)
    assert roster.unwritten() == [Persist((died,))]
    roster.forget(node_id(2))
    assert roster.unwritten() == [Persist((), ("member/n02",))]


def test_the_remembered_are_not_here_and_any_equal_claim_confirms_them() -> None:
    roster = Roster(ME, [row(2), row(3, MemberState.LEFT), row(1)])
    assert roster.here() == ()
    assert roster.get(ME) is None, "nobody else's word about this node counts"
    assert roster.merge(record_of(2)) is not None
    assert roster.here() == (node_id(2),)
    assert roster.merge(record_of(3)) is None, "a goodbye is still true"


def test_facts_rise_by_version_and_need_a_member() -> None:
    roster = Roster(ME, [])
    facts = FactsRecord(node_id(2), 1, Facts(version=2))
    assert roster.merge_facts(facts) is None
    roster.merge(record_of(2))
    assert roster.merge_facts(facts) == Member(record_of(2), Facts(version=2), 1)
    assert roster.merge_facts(replace(facts, facts=Facts(version=1))) is None
    assert roster.merge_facts(replace(facts, boot_epoch=2, facts=Facts(version=1))) is not None


def test_equal_tables_have_equal_digests_whoever_holds_them() -> None:
    mine, theirs = Roster(ME, []), Roster(node_id(2), [])
    mine.merge(record_of(2))
    theirs.merge(record_of(1))
    other = Member(record_of(2))
    assert mine.digest(OWN) == theirs.digest(other)
    mine.merge(record_of(3))
    assert mine.digest(OWN) != theirs.digest(other)
    mine.merge(record_of(3, MemberState.DEAD))
    assert mine.digest(OWN) == theirs.digest(other), "the dead are retried, not compared"


def test_a_way_is_told_when_it_changes_and_only_for_members() -> None:
    roster = Roster(ME, [])
    assert not roster.reroute(node_id(2), address_of(2))
    roster.merge(record_of(2))
    assert roster.reroute(node_id(2), address_of(2))
    assert not roster.reroute(node_id(2), address_of(2))
    assert not roster.reroute(node_id(2), Address("0.0.0.0", 7246))
    assert roster.reroute(node_id(2), address_of(9))


def test_the_table_is_bounded() -> None:
    rows = [replace(row(2), node_id=NodeId(f"x{index:05}")) for index in range(MEMBERS_MAX + 10)]
    roster = Roster(ME, rows)
    assert roster.is_full()
    roster.check()
