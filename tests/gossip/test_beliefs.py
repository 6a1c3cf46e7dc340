"""Leaving, dying and coming back; facts, addresses, clones; told as histories."""

from msgspec.structs import replace

from rain.effects import (
    AddressChanged,
    Beat,
    DeadlinePassed,
    HandedOver,
    HardwareMeasured,
    Log,
    Stopped,
    StopRequested,
)
from rain.gossip.messages import (
    FactsRecord,
    Ping,
    Rumours,
    Sync,
)
from rain.model import NO_EPOCH, Address, MemberState, NodeId
from tests.gossip.given import believed, facts_record, join_of, member_among, run_until_told
from tests.gossip.pool import facts_of, member, node_id, received, record_of
from tests.gossip.telling import lines, told

ALIVE, SUSPECT, DEAD, LEFT = MemberState


# --- Leaving, dying, coming back -----------------------------------------------------------------


def test_a_goodbye_waits_for_the_handover_and_is_said_twice() -> None:
    core = member_among(2, 3)
    assert told(core.handle(StopRequested(), 1_000)) == ""
    assert told(core.handle(HandedOver(), 1_020)).startswith("cast n02,n03 Rumours n01/1.0:LEFT")
    assert core.handle(received(2, Ping(5)), 1_030) == []
    assert core.next_deadline_ms() == 1_070
    last = core.handle(DeadlinePassed(), 1_070)
    assert told(last) == lines("cast n02,n03 Rumours n01/1.0:LEFT\nstopped")
    assert core.next_deadline_ms() is None
    assert core.handle(received(2, Ping(5)), 1_080) == []


def test_a_goodbye_does_not_wait_for_ever() -> None:
    core = member_among(2)
    core.handle(StopRequested(), 1_000)
    at_ms, _ = run_until_told(core, "LEFT", 5_000)
    assert at_ms == 2_000


def test_a_lonely_node_stops_at_once_and_an_unasked_handover_stops_nobody() -> None:
    core = member(1)
    assert core.handle(HandedOver(), 0) == []
    core.handle(StopRequested(), 10)
    assert core.handle(HandedOver(), 20) == [Stopped()]


def test_who_left_is_down_but_not_dead_and_is_not_rung() -> None:
    core = member_among(2, 3)
    assert told(core.handle(received(2, Rumours((record_of(2, LEFT),))), 10)) == lines(
        """
        persist n02=LEFT
        down n02 LEFT
        """
    )
    assert believed(core, 2) is LEFT
    for deadline_ms in range(20, 120_000, 50):
        said = told(core.handle(DeadlinePassed(), deadline_ms))
        assert "send n02" not in said


def test_the_dead_are_rung_and_read_of_their_death() -> None:
    core = member_among(2, 3)
    core.handle(received(3, Rumours((record_of(2, DEAD, accuser=3),))), 1_000)
    at_ms, said = run_until_told(core, "send n02", 60_000)
    assert at_ms == 3_000
    assert "send n02 Ping 0 n02/1.0:DEAD<n03" in said


def test_a_dead_member_that_others_see_alive_is_rung_at_once() -> None:
    core = member_among(2, 3)
    core.handle(received(3, Rumours((record_of(2, DEAD, accuser=3),))), 1_000)
    for ring_ms in (3_000, 5_000, 9_000, 17_000):
        at_ms, _ = run_until_told(core, "send n02 Ping 0", 60_000)
        assert at_ms == ring_ms
    # n03 still answers nothing here, so only what it says by itself counts.
    core.handle(received(3, Sync((record_of(3), record_of(2)), ()), by_stream=True), 18_000)
    at_ms, _ = run_until_told(core, "send n02 Ping 0", 60_000)
    assert at_ms == 18_000, "not at 33,000"


def test_a_dead_member_that_speaks_hears_of_its_death_and_returns_by_refuting() -> None:
    core = member_among(2, 3)
    core.handle(received(3, Rumours((record_of(2, DEAD, accuser=3),))), 1_000)
    heard = told(core.handle(received(2, Ping(70)), 1_500))
    assert "send n02 Ack 70" in heard
    assert "send n02 Rumours n02/1.0:DEAD<n03" in heard
    assert "Rumours" not in told(core.handle(received(2, Ping(71)), 1_600)), "once a second"
    back = told(core.handle(received(2, Rumours((record_of(2, incarnation=1),))), 1_700))
    assert "up n02 life 1 facts 1" in back
    assert "cast n03 Rumours n02/1.1:ALIVE" in back
    assert "post n02 Sync" in back
    core.check()


def test_the_long_gone_are_forgotten_and_hearsay_does_not_bring_them_back() -> None:
    core = member_among(2)
    core.handle(received(2, Rumours((record_of(2, LEFT),))), 10)
    week_ms = 7 * 24 * 3_600_000
    assert "persist -member/n02" in told(core.handle(DeadlinePassed(), week_ms + 10))
    assert len(core.members()) == 1
    core.handle(received(3, join_of(3)), week_ms + 20)
    core.handle(received(3, Rumours((record_of(2, DEAD),))), week_ms + 30)
    assert len(core.members()) == 2
    core.check()


# --- Facts, addresses, clones --------------------------------------------------------------------


def test_new_facts_get_a_new_version_and_are_told_to_all() -> None:
    core = member_among(2, 3)
    assert core.handle(HardwareMeasured(facts_of(1)), 10) == [], "nothing changed"
    assert told(core.handle(HardwareMeasured(facts_of(5)), 20)) == lines(
        """
        facts n01 2
        cast n02,n03 Rumours facts:n01/2
        """
    )
    assert core.members()[0].facts == replace(facts_of(5), version=2)


def test_facts_of_others_are_taken_by_version() -> None:
    core = member_among(2, 3)
    newer = Rumours((), (facts_record(2, version=3),))
    assert told(core.handle(received(3, newer), 10)) == "facts n02 3"
    assert core.handle(received(3, newer), 20) == []
    older = Rumours((), (facts_record(2, version=2),))
    assert core.handle(received(3, older), 30) == []


def test_a_changed_address_is_a_new_incarnation() -> None:
    core = member_among(2)
    assert told(core.handle(AddressChanged(Address("10.9.9.9", 7246)), 10)) == lines(
        """
        cast n02 Rumours n01/1.1:ALIVE
        broadcast Join n01/1.1:ALIVE
        """
    )
    moved = replace(record_of(2, incarnation=1), address=Address("10.8.8.8", 7246))
    said = told(core.handle(received(3, Rumours((moved,))), 20))
    assert "route n02 10.8.8.8" in said
    assert "persist n02=ALIVE" in said


def test_a_clone_is_noticed_and_not_obeyed() -> None:
    core = member_among(2)
    foreign = Rumours((record_of(1, incarnation=5),))
    outputs = core.handle(received(2, foreign), 10)
    assert outputs == [Log("clone_suspected", (("reason", "foreign_incarnation"),))]
    assert core.handle(received(2, foreign), 20) == [], "said once, counted on"
    assert core.handle(received(1, Ping(3), boot_epoch=4), 30) == []
    assert core.handle(received(1, Ping(3), boot_epoch=1), 40) == [], "the own echo"
    assert core.dropped == {"clone_suspected": 3}
    assert core.members()[0].record.incarnation == 0


def test_the_business_of_siblings_and_hostile_claims_change_nothing() -> None:
    core = member_among(2)
    before = core.members()
    assert core.handle(Beat(NO_EPOCH, 1), 10) == []
    hostile = Rumours(
        (
            replace(record_of(3), name="🌧" * 128),
            replace(record_of(4), node_id=NodeId("x" * 200)),
            record_of(1, SUSPECT, incarnation=2**61),
        ),
        (FactsRecord(node_id(2), 1, replace(facts_of(2), executors=("e" * 128,) * 50, version=9)),),
    )
    assert core.handle(received(2, hostile), 20) == []
    assert core.dropped == {"claim_unacceptable": 3, "facts_unacceptable": 1}
    assert core.members() == before
