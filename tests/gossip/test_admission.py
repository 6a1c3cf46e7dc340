"""Who may be here, and who may speak for whom; told as histories."""

from msgspec.structs import replace

from rain.effects import (
    Barred,
    DeadlinePassed,
    Log,
    MemberSilent,
    Stopped,
    StopRequested,
)
from rain.gossip.messages import Ack, Ping, PingRequest, Rumours, Sync
from rain.gossip.records import MemberRow
from rain.model import Address, MemberState, NodeId
from tests.gossip.given import believed, facts_record, join_of, member_among, run_until_told
from tests.gossip.pool import Pool, address_of, member, node_id, received, record_of
from tests.gossip.signing import admitted, signed, signed_facts
from tests.gossip.telling import lines, told

ALIVE, SUSPECT, DEAD, LEFT = MemberState
STRANGER = 50
"""Beyond those that the rig admits."""


# --- Not admitted --------------------------------------------------------------------------------


def test_a_claim_about_a_stranger_changes_nothing_until_it_is_admitted() -> None:
    core = member_among(2)
    before = core.members()
    hearsay = Rumours((record_of(STRANGER),), (facts_record(STRANGER),))
    assert core.handle(received(2, hearsay), 20_000) == []
    assert core.members() == before
    assert core.dropped == {"not_admitted": 2}
    assert told(core.handle(admitted(node_id(STRANGER), "pc50"), 20_010)) == lines(
        """
        persist n50=ALIVE
        route n50 10.0.0.50
        up n50 life 1 facts 1
        """
    )
    core.check()


def test_what_waited_unsigned_counts_for_nothing_then() -> None:
    core = member_among(2)
    forged = replace(record_of(STRANGER), incarnation=3)
    core.handle(received(2, Rumours((forged,))), 10)
    assert core.handle(admitted(node_id(STRANGER)), 20) == []
    assert core.dropped == {"not_admitted": 1, "unsigned": 1}


def test_who_is_not_admitted_is_not_answered_and_its_join_waits() -> None:
    core = member_among(2)
    assert core.handle(received(STRANGER, Ping(4)), 10) == []
    assert core.handle(received(STRANGER, join_of(STRANGER, reply=True)), 20) == []
    assert len(core.members()) == 2
    said = told(core.handle(admitted(node_id(STRANGER)), 30))
    assert "up n50 life 1 facts 1" in said
    assert "cast n02 Rumours n50/1.0:ALIVE facts:n50/1" in said
    assert "post n50 Sync" in said


def test_who_is_bound_to_all_interfaces_is_found_though_it_had_to_wait() -> None:
    core = member_among(2)
    unspecified = replace(record_of(STRANGER), address=Address("0.0.0.0", 7246))
    core.handle(received(STRANGER, join_of(STRANGER, unspecified)), 20)
    assert "route n50 10.0.0.50" in told(core.handle(admitted(node_id(STRANGER)), 30))


def test_an_accuser_must_be_somebody() -> None:
    core = member_among(2, 3)
    accusation = replace(record_of(2), state=SUSPECT, accuser=node_id(STRANGER))
    assert core.handle(received(3, Rumours((accusation,))), 10) == []
    assert believed(core, 2) is ALIVE
    nameless = replace(accusation, accuser=NodeId(""))
    core.handle(received(3, Rumours((nameless,))), 20)
    assert {m.record.accuser for m in core.members()} == {"", "n03"}
    assert core.dropped == {"not_admitted": 1}


def test_names_are_those_of_certificates() -> None:
    core = member(1)
    borrowed = signed(replace(record_of(2), name="pc3"))
    core.handle(received(2, join_of(2, borrowed)), 10)
    assert [m.record.name for m in core.members()] == ["pc1", "pc2"]


# --- Nobody speaks for another -------------------------------------------------------------------


def test_nobody_speaks_for_another() -> None:
    core = member_among(2, 3)
    before = core.members()
    lies = (
        replace(record_of(2), incarnation=7),
        replace(record_of(2), boot_epoch=7),
        replace(record_of(2), state=LEFT),
        replace(record_of(2, SUSPECT, accuser=3), incarnation=7),
        replace(record_of(2, DEAD, accuser=3), boot_epoch=7),
        replace(record_of(2), name="pc3"),
        replace(record_of(4), signature=record_of(3).signature),
    )
    facts = (replace(facts_record(2), facts=facts_record(3, version=9).facts),)
    assert core.handle(received(3, Rumours(lies, facts)), 10) == []
    assert core.handle(received(3, Sync(lies, facts), by_stream=True), 20) == []
    assert core.members() == before
    assert core.dropped == {"unsigned": 16}


def test_nobody_makes_this_node_refute_what_it_never_said() -> None:
    core = member_among(2)
    accusation = replace(record_of(1, SUSPECT, accuser=2), incarnation=6)
    assert core.handle(received(2, Rumours((accusation,))), 10) == []
    clone = replace(record_of(1), boot_epoch=9)
    foreign = replace(facts_record(1, version=9), signature=b"")
    assert core.handle(received(2, Rumours((clone,), (foreign,))), 20) == []
    assert core.dropped == {"unsigned": 3}


def test_a_clone_betrays_itself_by_its_own_signature() -> None:
    core = member_among(2)
    foreign = signed_facts(facts_record(1, version=9))
    outputs = core.handle(received(2, Rumours((), (foreign,))), 10)
    assert outputs == [Log("clone_suspected", (("reason", "foreign_facts"),))]
    core.handle(received(2, Rumours((record_of(1, boot_epoch=9),))), 20)
    assert core.dropped == {"clone_suspected": 2}


def test_who_hears_of_a_member_by_an_accusation_first_knows_it_for_true() -> None:
    core = member_among(2)
    said = told(core.handle(received(2, Rumours((record_of(3, SUSPECT, accuser=2),))), 10))
    assert "up n03 life 1" in said
    assert believed(core, 3) is SUSPECT
    core.check()


def test_an_accusation_by_an_own_probe_is_believed_elsewhere() -> None:
    core, other = member_among(2), member(3)
    _, said = run_until_told(core, "SUSPECT", 20_000)
    assert "send n02 Rumours n02/1.0:SUSPECT<n01" in said
    other.handle(received(1, Rumours((core.members()[1].record,))), 20_000)
    assert believed(other, 2) is SUSPECT
    assert other.dropped == {}


def test_a_remembered_member_is_told_on_with_its_signature_after_a_restart() -> None:
    written = [
        row
        for output in member(1).handle(received(2, join_of(2)), 0)
        for row in getattr(output, "puts", ())
    ]
    core = member(1, recovered=tuple(written), boot_epoch=2)
    forged = replace(record_of(2), incarnation=9)
    core.handle(received(3, Rumours((forged,))), 10)
    assert believed(core, 2) is DEAD, "not heard of"
    core.handle(received(3, Rumours((record_of(2, SUSPECT, accuser=3),))), 20)
    assert believed(core, 2) is SUSPECT
    assert core.dropped == {"unsigned": 1}


# --- Barred --------------------------------------------------------------------------------------


def test_the_barred_leave_at_once_are_forgotten_and_no_rumour() -> None:
    core = member_among(2, 3)
    assert told(core.handle(Barred(node_id(2)), 10)) == lines(
        """
        persist -member/n02
        down n02 LEFT
        """
    )
    assert [m.record.node_id for m in core.members()] == ["n01", "n03"]
    core.check()
    for at_ms in range(500, 120_000, 500):
        said = told(core.handle(DeadlinePassed(), at_ms))
        core.check()
        assert "n02" not in said


def test_a_suspect_a_probe_and_a_relay_end_with_the_barred() -> None:
    core = member_among(2, 3)
    core.handle(received(3, Rumours((record_of(2, SUSPECT, accuser=3),))), 10)
    core.handle(MemberSilent(node_id(2)), 20)
    relayed = told(core.handle(received(3, PingRequest(40, node_id(2))), 30))
    core.handle(Barred(node_id(2)), 40)
    core.check()
    sequence = int(relayed.split()[3])
    assert core.handle(received(2, Ack(sequence)), 50) == []
    assert core.dropped == {"barred": 1}
    for at_ms in range(500, 20_000, 500):
        said = told(core.handle(DeadlinePassed(), at_ms))
        assert "n02" not in said
        assert "Nack" not in said


def test_what_the_barred_say_and_what_is_said_of_them_counts_for_nothing() -> None:
    core = member_among(2, 3)
    core.handle(Barred(node_id(2)), 10)
    claims = (record_of(2, boot_epoch=9), replace(record_of(3), state=DEAD, accuser=node_id(2)))
    assert core.handle(received(3, Rumours(claims, (facts_record(2, version=7),))), 20) == []
    assert core.handle(received(2, join_of(2, reply=True)), 30) == []
    assert core.handle(received(2, Rumours((record_of(3, DEAD, accuser=2),))), 40) == []
    assert believed(core, 3) is ALIVE
    assert core.dropped == {"barred": 7}


def test_the_dead_and_the_remembered_are_forgotten_without_a_word() -> None:
    rows = tuple(
        MemberRow(node_id(index), f"pc{index}", address_of(index), 1, 0, state)
        for index, state in ((2, ALIVE), (3, LEFT))
    )
    core = member(1, recovered=rows, boot_epoch=2)
    assert told(core.handle(Barred(node_id(2)), 0)) == "persist -member/n02"
    assert told(core.handle(Barred(node_id(3)), 0)) == "persist -member/n03"
    assert core.handle(Barred(node_id(9)), 0) == []
    assert told(core.handle(DeadlinePassed(), 0)) == lines(
        """
        persist life=2
        broadcast Join n01/2.0:ALIVE reply
        """
    )
    core.check()


def test_who_is_let_in_again_comes_back_in_another_life() -> None:
    core = member_among(2)
    core.handle(Barred(node_id(2)), 10)
    assert core.handle(admitted(node_id(2), "pc2"), 20) == []
    said = told(core.handle(received(2, join_of(2, record_of(2, boot_epoch=2)), 2), 30))
    assert "up n02 life 2 facts 1" in said
    core.check()


def test_who_is_barred_itself_stops_and_says_nothing_more() -> None:
    core = member_among(2, 3)
    assert core.handle(Barred(node_id(1)), 10) == [Stopped()]
    assert core.next_deadline_ms() is None
    assert core.handle(received(2, Ping(5)), 20) == []
    assert core.handle(StopRequested(), 30) == []
    core.check()


# --- Whole pools ---------------------------------------------------------------------------------


def test_a_pool_goes_on_without_the_barred_who_keeps_talking() -> None:
    pool = Pool(seed=21)
    indexes = [1, 2, 3, 4, 5]
    for index in indexes:
        pool.start(index)
    pool.run(5_000)
    rest = [1, 2, 3, 5]
    for index in rest:
        pool.feed(index, Barred(node_id(4)))
    pool.run(60_000)
    assert pool.agree(rest)
    downs = [down for down in pool.downs() if down[0] in rest]
    assert downs == [(index, node_id(4), LEFT) for index in rest]


def test_one_that_learns_late_who_is_admitted_agrees_in_the_end() -> None:
    pool = Pool(seed=22)
    for index in (1, 2, 3):
        pool.start(index)
    pool.members[3] = member(3, boot_epoch=1, host="0.0.0.0", seed=22, admitted_up_to=1)
    pool.run(5_000)
    assert pool.states(3) == {1: ALIVE, 3: ALIVE}
    pool.feed(3, admitted(node_id(2), "pc2"))
    pool.run(1_000)
    assert pool.agree([1, 2, 3])
    assert pool.downs() == []


def test_an_idle_pool_verifies_nothing() -> None:
    checked: list[bytes] = []
    pool = Pool(seed=23, verified=checked)
    for index in (1, 2, 3, 4, 5):
        pool.start(index)
    pool.run(10_000)
    assert checked
    checked.clear()
    pool.run(120_000)
    assert checked == []
