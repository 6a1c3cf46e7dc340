"""E14: a disk that does not know a life of its node is an old one; peers remember for it."""

from rain.effects import DeadlinePassed, DiskOld, PeerReset
from rain.gossip.membership import Membership
from rain.gossip.messages import MemberRecord, Ping, Rumours
from rain.gossip.records import LifeRow
from rain.model import MemberState
from tests.gossip.given import join_of, member_among
from tests.gossip.pool import address_of, member, node_id, received, record_of
from tests.gossip.telling import lines, told


def restarted(boot_epoch: int, known: int) -> Membership:
    """n01 in this life, with a disk that knows of lives up to another."""
    rows = (LifeRow(known),) if known else ()
    core = member(1, recovered=rows, boot_epoch=boot_epoch)
    core.handle(DeadlinePassed(), 0)
    core.handle(received(2, join_of(2)), 0)
    return core


def of_n01(boot_epoch: int, signed_by: int = 1) -> MemberRecord:
    record = record_of(1, boot_epoch=boot_epoch)
    if signed_by == 1:
        return record
    forged = record_of(signed_by, boot_epoch=boot_epoch)
    return MemberRecord(
        record.node_id,
        record.name,
        address_of(1),
        boot_epoch,
        0,
        MemberState.ALIVE,
        signature=forged.signature,
    )


def test_who_meets_a_new_life_tells_it_of_the_last_one() -> None:
    core = member_among(2, 3)
    said = told(core.handle(received(2, join_of(2, record_of(2, boot_epoch=4)), 4), 900))
    assert "send n02 Rumours n02/1.0:ALIVE" in said
    # Three times, whenever it speaks: it takes nothing from us before we have proven ourselves.
    answers = [
        told(core.handle(received(2, Ping(7), boot_epoch=4), at_ms))
        for at_ms in (1_899, 1_900, 2_899, 2_900, 3_900, 5_000)
    ]
    reminded = ["send n02 Rumours n02/1.0:ALIVE" in words for words in answers]
    assert reminded == [False, True, False, True, False, False]
    # Told by another, it is nobody's first word: those who meet it tell.
    said = told(core.handle(received(2, Rumours((record_of(3, boot_epoch=4),))), 950))
    assert "send n03 Rumours" not in said


def test_a_life_that_the_disk_knows_is_no_news() -> None:
    core = restarted(7, known=6)
    said = told(core.handle(received(2, Rumours((of_n01(6),))), 100))
    assert said == "send n02 Rumours n01/7.0:ALIVE"


def test_a_life_that_the_disk_does_not_know_makes_it_an_old_one() -> None:
    core = restarted(7, known=3)
    outputs = core.handle(received(2, Rumours((of_n01(5),))), 100)
    assert told(outputs) == lines(
        """
        old disk, life 5 forgotten
        send n02 Rumours n01/7.0:ALIVE
        """
    )
    # Said once: by the time of a second word the table may be whole again.
    assert "old disk" not in told(core.handle(received(2, Rumours((of_n01(6),))), 200))
    assert "old disk" not in told(core.handle(received(2, Rumours((of_n01(4),))), 300))
    assert core.outlived_by() == 0


def test_a_life_later_than_this_one_is_written_down_for_the_next_start() -> None:
    core = restarted(4, known=3)
    outputs = core.handle(received(2, Rumours((of_n01(9),))), 100)
    assert told(outputs).splitlines()[:2] == ["persist life=9", "old disk, life 9 forgotten"]
    assert core.outlived_by() == 9
    core.check()


def test_nobody_else_can_make_a_disk_old() -> None:
    core = restarted(7, known=3)
    outputs = core.handle(received(2, Rumours((of_n01(6, signed_by=2),))), 100)
    assert not any(isinstance(output, DiskOld) for output in outputs)


def test_this_life_is_written_before_it_is_announced() -> None:
    core = member(1, boot_epoch=5)
    assert told(core.handle(DeadlinePassed(), 0)) == lines(
        """
        persist life=5
        broadcast Join n01/5.0:ALIVE reply
        """
    )


# --- A broken stream is a hint ----------------------------------------------------------------


def test_a_broken_stream_is_probed_in_all_ways_at_once() -> None:
    core = member_among(2, 3)
    said = told(core.handle(PeerReset(node_id(2)), 900))
    assert said == lines(
        """
        send n02 Ping 1
        send n03 PingRequest 1 n02
        post n02 Ping 1
        """
    )
    # However many streams break: one round at a time.
    assert core.handle(PeerReset(node_id(2)), 901) == []


def test_a_broken_stream_of_somebody_unknown_or_dead_is_nobodys_business() -> None:
    core = member_among(2)
    assert core.handle(PeerReset(node_id(3)), 900) == []
    assert core.handle(PeerReset(node_id(1)), 900) == []


def test_no_answer_after_a_broken_stream_makes_a_suspect_and_no_more() -> None:
    core = member_among(2)
    core.handle(PeerReset(node_id(2)), 10)
    said = ""
    while "SUSPECT" not in said:
        deadline_ms = core.next_deadline_ms()
        assert deadline_ms is not None
        assert deadline_ms <= 510
        said += told(core.handle(DeadlinePassed(), deadline_ms))
    assert "unreachable" not in said
    assert "down" not in said
