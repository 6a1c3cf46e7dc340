"""Golden histories: each rule of the election told by one node of a small pool."""

import pytest

from rain.effects import (
    Beat,
    Cast,
    CoordinatorHeard,
    DeadlinePassed,
    DiskFailed,
    DiskRecovered,
    EpochSeen,
    FollowerHeard,
    Lagged,
    Persist,
    Persisted,
    TableChanged,
)
from rain.election.messages import (
    AskHeard,
    Challenge,
    Heartbeat,
    HeartbeatAck,
    Objection,
    Resign,
    Stale,
    Strength,
    Vouch,
)
from rain.election.records import EpochRecord
from rain.model import Epoch, MemberState, NodeId
from tests.election.story import (
    FIRST,
    TRIO,
    Story,
    assert_told,
    down,
    epoch,
    following,
    reigning,
    up,
)


def test_a_lone_node_elects_itself_after_the_quiet_second() -> None:
    story = Story("n1", ("n1",))
    story.until(2_000)
    assert_told(
        story,
        """
        0 ViewChanged n1
        1000 Persist newest 1.n1 floor 1.n1
        1005 Log reign_began number=1 grants=0
        1005 ReignChanged 1.n1 True True
        """,
    )
    assert story.election.role() == "coordinator"


def test_a_followed_epoch_is_durable_before_it_is_told() -> None:
    story = Story("n2", TRIO)
    story.disk_ms = 40
    assert not any(isinstance(o, CoordinatorHeard) for o in story.beat(FIRST))
    story.until(100)
    assert_told(
        story,
        """
        0 Persist newest 1.n1 floor 1.n1
        0 ViewChanged n1 n2 n3
        40 ReignChanged 1.n1 False False
        """,
    )
    assert CoordinatorHeard(FIRST, 2, b"t") in story.beat(FIRST)


def test_failover() -> None:
    story = following()
    story.until(2_600)
    story.grant("n3", epoch(4, "n3"))
    story.until(2_900)
    assert_told(
        story,
        """
        2350 -> n1 n3: AskHeard 1.n1
        2500 ReignChanged None False False
        2500 -> n1 n3: Challenge newest 1.n1
        2600 Persist newest 5.n2 floor 5.n2
        2605 Log reign_began number=5 grants=1
        2605 ReignChanged 5.n2 True True
        2605 -> n1 n3: Heartbeat 5.n2
        """,
    )


def test_the_lower_ranked_waits_its_turn_grants_and_holds_back() -> None:
    story = following("n3")
    story.until(2_520)
    story.hear("n2", Challenge(7, FIRST, 500))
    story.until(2_990)
    assert_told(
        story,
        """
        2350 -> n1 n2: AskHeard 1.n1
        2500 ReignChanged None False False
        2520 -> n2: Grant newest 1.n1
        2970 -> n1 n2: Challenge newest 1.n1
        """,
    )


def test_no_second_grant_while_the_first_may_still_win() -> None:
    story = following("n4", ("n1", "n2", "n3", "n4", "n5"))
    story.until(2_510)
    assert story.hear("n3", Challenge(7, FIRST, 500))
    assert story.hear("n2", Challenge(8, FIRST, 500)) == []
    assert story.election.dropped == {"granted_to_another": 1}


def test_of_two_candidates_the_lower_ranked_yields() -> None:
    story = following("n3")
    story.until(2_560)
    assert story.election.role() == "candidate"
    story.hear("n2", Challenge(7, FIRST, 500))
    assert story.election.role() == "follower"
    other = following("n2")
    other.until(2_560)
    assert other.hear("n3", Challenge(7, FIRST, 500)) == []
    assert other.election.role() == "candidate"


def test_a_vouch_counts_from_the_heartbeat_it_speaks_of() -> None:
    story = following()
    story.until(2_360)
    story.hear("n3", Vouch(FIRST, 1, 50))
    story.until(2_810)
    # The helper heard a beat at 2,300, so silence is over at 2,800 and not at 2,860.
    assert_told(
        story,
        """
        2350 -> n1 n3: AskHeard 1.n1
        2650 -> n1 n3: AskHeard 1.n1
        2800 ReignChanged None False False
        2800 -> n1 n3: Challenge newest 1.n1
        """,
    )


def test_nobody_vouches_for_what_it_did_not_hear_itself() -> None:
    story = following()
    story.until(2_350)
    assert story.hear("n3", AskHeard(FIRST, 9)) == []
    story.hear("n3", Vouch(FIRST, 1, 10))
    assert story.hear("n3", AskHeard(FIRST, 10)) == []


def test_an_objection_of_a_hearing_follower_ends_the_campaign_at_its_deadline() -> None:
    story = following()
    for at_ms in (2_510, 2_660, 2_810, 2_960):
        story.until(at_ms)
        story.hear("n3", Objection(story.campaign(), FIRST, 40, Strength(2, 9_000)))
    story.until(3_001)
    text = story.told()
    assert text.count("Challenge") == 4
    assert text.endswith("3000 Log campaign_lost reason=objection")


def test_an_objection_that_grew_old_does_not_count() -> None:
    story = following()
    story.until(2_510)
    story.hear("n3", Objection(story.campaign(), FIRST, 290, Strength(2, 9_000)))
    story.until(3_010)
    assert story.election.role() == "coordinator"


def test_sticky_a_weaker_reign_is_refused_whatever_its_number_and_both_are_told() -> None:
    story = following()
    story.beat(epoch(9, "n3"), followers=0, age_ms=500)
    story.until(2_001)
    story.beat(epoch(9, "n3"), followers=0, age_ms=500)
    assert_told(
        story,
        """
        2000 -> n3: Stale 1.n1 followers 2
        2000 -> n1: Stale 9.n3 followers 0
        """,
    )
    assert story.election.reign() == FIRST


def test_a_follower_never_goes_below_what_it_followed() -> None:
    story = following()
    story.beat(epoch(6, "n3"), followers=9)
    story.until(2_300)
    assert story.election.reign() == epoch(6, "n3")
    story.told()
    story.beat(FIRST, followers=20)
    story.until(2_301)
    assert_told(story, "2300 -> n1: Stale 6.n3 followers 0")
    assert story.election.reign() == epoch(6, "n3")
    story.beat(epoch(7, "n1"), followers=20)
    story.until(2_310)
    assert story.election.reign() == epoch(7, "n1")


def test_two_reigns_meet_the_stronger_lifts_its_number_without_a_takeover() -> None:
    story = reigning()
    story.beat(epoch(5, "n1"), followers=0, age_ms=100)
    story.until(3_050)
    assert_told(
        story,
        """
        3000 -> n1: Stale 2.n2 followers 1
        3000 Persist newest 6.n2 floor 6.n2
        3005 ReignChanged 6.n2 True False
        """,
    )


def test_two_reigns_meet_the_weaker_steps_down() -> None:
    story = reigning()
    story.beat(epoch(5, "n1"), followers=2, age_ms=100)
    story.until(3_050)
    assert_told(
        story,
        """
        3000 Log reign_ended number=2 reason=weaker
        3000 ReignChanged None False False
        3000 Persist newest 5.n1 floor 5.n1
        3005 ReignChanged 5.n1 False False
        """,
    )


def test_the_weaker_asks_a_stronger_of_lower_number_to_lift_it() -> None:
    story = reigning()
    story.beat(FIRST, followers=2, age_ms=90_000)
    story.until(3_001)
    assert_told(
        story,
        """
        3000 Log reign_ended number=2 reason=weaker
        3000 ReignChanged None False False
        3000 -> n1: Stale 2.n2 followers 0
        """,
    )


def test_hearsay_unseats_only_if_it_lasts() -> None:
    story = reigning()
    hearsay = Stale(epoch(8, "n1"), Strength(5, 9_000), NodeId("n1"))
    story.hear("n3", hearsay)
    story.acks(3_500, "n3")
    story.hear("n3", hearsay)
    assert story.election.role() == "coordinator"
    story.acks(3_700, "n3")
    story.hear("n3", hearsay)
    assert story.election.role() == "follower"


def test_two_that_both_feel_stronger_do_not_raise_for_ever() -> None:
    story = reigning()
    for number in range(4, 20, 2):
        reign = story.election.reign()
        if story.election.role() != "coordinator":
            break
        assert reign is not None
        story.beat(Epoch(reign.number + 1, NodeId("n1"), 0), followers=0, age_ms=100)
        story.until(3_000 + number * 10)
        story.ack("n3") if story.election.role() == "coordinator" else None
    assert story.election.role() == "follower"


def test_a_deaf_coordinator_is_given_a_second() -> None:
    story = following()
    story.until(2_100)
    story.beats(FIRST, 3_500, listed=False)
    assert_told(
        story,
        """
        3100 ReignChanged None False False
        3100 -> n1 n3: Challenge newest 1.n1
        3250 -> n1 n3: Challenge newest 1.n1
        3400 -> n1 n3: Challenge newest 1.n1
        """,
    )
    assert story.hear("n3", Challenge(9, FIRST, 1_000)) == []
    assert story.election.role() == "candidate"


def test_a_full_disk_neither_stands_nor_objects() -> None:
    story = following()
    story.feed(DiskFailed("full"))
    story.until(2_100)
    assert story.hear("n3", Challenge(7, FIRST, 600)) == []
    story.until(4_000)
    story.feed(DiskRecovered())
    story.until(4_001)
    assert_told(
        story,
        """
        2350 -> n1 n3: AskHeard 1.n1
        2500 ReignChanged None False False
        4000 -> n1 n3: Challenge newest 1.n1
        """,
    )


@pytest.mark.parametrize(("took_ms", "role"), [(300, "coordinator"), (301, "follower")])
def test_a_slow_disk_unseats_nobody(took_ms: int, role: str) -> None:
    story = following()
    story.disk_ms = took_ms
    story.until(2_510)
    story.grant("n3", FIRST)
    story.until(2_850)
    assert story.election.role() == role
    assert ("ReignChanged 2.n2 True True" in story.told()) == (role == "coordinator")


def test_a_newer_reign_that_appears_before_the_write_ends_wins() -> None:
    story = following()
    story.disk_ms = 200
    story.until(2_510)
    story.grant("n3", FIRST)
    story.until(2_600)
    story.beat(epoch(2, "n3"), followers=0, age_ms=0)
    story.until(2_900)
    assert "True" not in story.told()
    assert story.election.reign() == epoch(2, "n3")


def test_fencing_numbers_rise_across_a_crash_between_write_and_announcement() -> None:
    story = following()
    story.disk_ms = -1
    story.until(2_510)
    written = next(o for o in story.grant("n3", FIRST) if isinstance(o, Persist)).puts[0]
    assert isinstance(written, EpochRecord)
    again = Story("n2", ("n1", "n2"), newest=written.newest, present=())
    again.until(3_000)
    reign = again.election.reign()
    assert reign is not None
    assert reign.number == written.newest.number + 1


def test_the_brake_at_start_holds_fifteen_seconds_then_the_world_is_smaller() -> None:
    five = ("n1", "n2", "n3", "n4", "n5")
    story = Story("n1", five, newest=epoch(7, "n4"), present=())
    story.until(20_000)
    text = [line for line in story.told().splitlines() if "Challenge" not in line]
    assert text == [
        "0 ViewChanged n1 n2 n3 n4 n5",
        "1500 Persist newest 8.n1 floor 8.n1",
        "1505 Log reign_began number=8 grants=0",
        "1505 ReignChanged 8.n1 True True",
        "1505 -> n2 n3 n4 n5: Heartbeat 8.n1",
        "1505 BrakeChanged True n2 n3 n4 n5",
        "16505 BrakeChanged False",
        "18000 Persist view n1",
        "18005 ViewChanged n1",
    ]


def test_a_view_of_two_is_never_braked() -> None:
    story = Story("n2", ("n1", "n2"), present=())
    story.until(5_000)
    assert story.election.role() == "coordinator"
    assert "Brake" not in story.told()


def test_the_brake_is_released_when_they_are_back() -> None:
    story = reigning()
    story.until(3_000 + 1_500 + 100)
    assert "BrakeChanged True n1 n3" in story.told()
    assert story.election.is_braked()
    story.ack("n3")
    story.until(4_800)
    assert "BrakeChanged False" in story.told()
    assert not story.election.is_braked()


def test_the_coordinator_names_the_silent_again_and_again() -> None:
    story = reigning()
    story.acks(7_000, "n3")
    lines = [line for line in story.told().splitlines() if "MemberSilent" in line]
    assert [line.split()[1:] for line in lines] == [["MemberSilent", "n1"]] * 2
    story.feed(down("n1"))
    story.acks(10_000, "n3")
    assert "MemberSilent" not in story.told()


def test_who_left_leaves_the_view_at_once_and_the_dead_after_a_second() -> None:
    story = following()
    story.feed(down("n3", MemberState.LEFT))
    story.until(2_010)
    assert story.election.view() == ("n1", "n2")
    pool = following("n2", ("n1", "n2", "n3", "n4"))
    pool.feed(down("n4"))
    pool.beats(FIRST, 2_900)
    assert pool.election.view() == ("n1", "n2", "n3", "n4")
    pool.beats(FIRST, 3_100)
    assert pool.election.view() == ("n1", "n2", "n3")


def test_a_coordinator_that_lagged_lays_its_reign_down_until_confirmed() -> None:
    story = reigning()
    reign = story.election.reign()
    assert reign is not None
    story.feed(Lagged(2_000))
    assert story.election.reign() is None
    assert story.hear("n3", Challenge(1, reign, 600)) == []
    assert not any(isinstance(o, Beat) for o in story.feed(TableChanged(b"new")))
    outputs = story.hear("n3", HeartbeatAck(reign, 9, b"", b""))
    assert outputs[-1] == FollowerHeard(NodeId("n3"), b"")
    assert_told(
        story,
        """
        3000 ReignChanged None False False
        3000 ReignChanged 2.n2 True True
        """,
    )


def test_a_follower_that_lagged_does_not_stand_for_a_second() -> None:
    story = following()
    story.until(2_400)
    story.feed(Lagged(1_500))
    story.until(3_399)
    assert story.election.campaigns == 0
    story.until(3_401)
    assert story.election.campaigns == 1


def test_large_pools_acknowledge_in_turns() -> None:
    members = tuple(f"n{i:02}" for i in range(32))
    story = Story("n05", members)
    reign = epoch(1, "n00")
    acknowledged = [
        beat
        for beat in range(1, 41)
        if any(isinstance(getattr(o, "message", None), HeartbeatAck) for o in story.beat(reign))
    ]
    assert acknowledged == [1, *range(3, 41, 4)]


def test_lies_are_dropped() -> None:
    story = following()
    story.hear("n3", Heartbeat(epoch(5, "n1"), 1, Strength(9, 9), b"", b"", b""))
    story.hear("n3", Challenge(1, epoch(2**61, "n3"), 0))
    story.hear("n2", Challenge(1, FIRST, 0))
    story.hear("n3", Resign(FIRST, NodeId("n3")))
    assert story.told() == ""
    assert story.election.dropped == {
        "borrowed_epoch": 1,
        "epoch_out_of_range": 1,
        "own_echo": 1,
        "not_its_reign": 1,
    }
    assert story.feed(Persisted(999, 1)) == []


def test_a_member_that_appears_gets_a_beat_soon() -> None:
    story = reigning()
    story.until(3_030)
    story.feed(up("n4"))
    deadline_ms = story.election.next_deadline_ms()
    assert deadline_ms is not None
    assert deadline_ms <= 3_050
    story.now_ms = deadline_ms
    beat = next(o for o in story.feed(DeadlinePassed()) if isinstance(o, Cast))
    assert "n4" in beat.to


def test_a_reign_that_the_job_table_remembers_is_outnumbered() -> None:
    story = reigning()

    story.feed(EpochSeen(epoch(9, "n3")))
    story.feed(EpochSeen(epoch(9, "n3")))
    story.until(3_010)

    assert_told(
        story,
        """
        3000 Persist newest 10.n2 floor 10.n2
        3005 ReignChanged 10.n2 True False
        """,
    )
    story.feed(EpochSeen(epoch(9, "n3")))
    story.feed(EpochSeen(epoch(2**61, "n3")))
    assert_told(story, "")
    assert story.election.dropped["epoch_out_of_range"] == 1


def test_a_follower_keeps_a_later_reign_in_mind() -> None:
    story = following()
    assert story.feed(EpochSeen(epoch(9, "n3"))) == []
    story.until(2_510)
    assert "Challenge newest 9.n3" in story.told()
