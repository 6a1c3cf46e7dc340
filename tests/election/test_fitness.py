"""Golden histories of who is fit to coordinate: on time, awake, with a disk of its own."""

from rain.effects import (
    DiskFailed,
    DiskOld,
    Lagged,
    MaySleep,
    SleepComing,
    StopRequested,
    TableChanged,
)
from rain.election.messages import LOAD_UNFIT, HeartbeatAck, Resign
from rain.model import NodeId
from tests.election.story import (
    FIRST,
    TRIO,
    Story,
    assert_told,
    describe,
    epoch,
    following,
    reigning,
)

TABLE_WHOLE = TableChanged(b"t")
FIVE = ("n1", "n2", "n3", "n4", "n5")


def ruling(members: tuple[str, ...] = FIVE) -> Story:
    """n2 after the death of n1, acknowledged by all others at 3,000."""
    story = Story("n2", members)
    story.beats(FIRST, 2_000)
    story.until(2_510)
    for voter in members[2:]:
        story.grant(voter, FIRST)
    story.until(2_520)
    story.acks(3_000, *members[2:])
    story.told()
    return story


def load_told(story: Story) -> int:
    """What the next acknowledgement says."""
    acks = [getattr(output, "message", None) for output in story.beat(FIRST)]
    return next(ack.load for ack in acks if isinstance(ack, HeartbeatAck))


# --- Load ----------------------------------------------------------------------------------------


def test_a_follower_tells_its_lateness_and_forgets_it_after_a_second() -> None:
    story = following()
    assert load_told(story) == 0
    story.feed(Lagged(180))
    story.until(2_100)
    assert load_told(story) == 180
    story.until(2_200)
    story.beats(FIRST, 2_900)
    story.until(3_000)
    assert load_told(story) == 0
    assert story.election.coordinator_load_ms(story.now_ms) == 0


def test_who_cannot_write_says_that_it_is_no_successor() -> None:
    story = following()
    story.feed(DiskFailed("full"))
    story.until(2_100)
    assert load_told(story) == LOAD_UNFIT


def test_a_lagging_follower_is_a_successor_only_where_there_is_no_other() -> None:
    story = ruling()
    for sender, load in (("n3", 251), ("n4", LOAD_UNFIT), ("n5", 250)):
        story.ack(sender, load=load)
    story.feed(StopRequested())
    assert "Resign 2.n2 to n5" in story.told()

    story = ruling()
    for sender, load in (("n3", 900), ("n4", LOAD_UNFIT), ("n5", LOAD_UNFIT)):
        story.ack(sender, load=load)
    story.feed(StopRequested())
    assert "Resign 2.n2 to n3" in story.told()

    story = ruling()
    for sender in ("n3", "n4", "n5"):
        story.ack(sender, load=LOAD_UNFIT)
    story.feed(StopRequested())
    assert "Resign" not in story.told()


def lag_on(story: Story, until_ms: int, *, load: int = 0) -> None:
    """It lags badly twice a second, while its followers acknowledge."""
    while story.now_ms < until_ms and story.election.reign() is not None:
        story.feed(Lagged(400))
        for _ in range(5):
            if story.election.reign() is not None:
                story.acks(min(story.now_ms + 100, until_ms), "n3", load=load)


def test_a_lame_coordinator_hands_over_to_a_calm_follower() -> None:
    story = reigning()
    story.acks(40_000, "n3")
    lag_on(story, 49_900)
    assert story.election.role() == "coordinator"
    story.feed(Lagged(400))
    story.until(50_100)
    assert "Log reign_ended number=2 reason=lame" in story.told()
    assert story.election.role() == "resigning"


def test_a_lame_coordinator_stays_where_all_are_lame() -> None:
    story = reigning()
    story.acks(40_000, "n3")
    lag_on(story, 70_000, load=300)
    assert story.election.role() == "coordinator"


def test_a_young_reign_is_not_passed_on_however_lame() -> None:
    story = reigning()
    lag_on(story, 32_000)
    assert story.election.role() == "coordinator"
    lag_on(story, 34_000)
    assert "reason=lame" in story.told()


# --- Sleep ---------------------------------------------------------------------------------------


def test_a_follower_may_sleep_at_once_and_does_not_stand_for_ten_seconds() -> None:
    story = following()
    assert story.feed(SleepComing()) == [MaySleep()]
    assert load_told(story) == LOAD_UNFIT
    assert story.hear("n1", Resign(FIRST, NodeId("n2"))) == []
    assert story.election.dropped["cannot_succeed"] == 1
    story.until(11_999)
    assert story.election.campaigns == 0
    story.until(12_001)
    assert story.election.campaigns == 1


def test_who_woke_stands_again_after_a_second() -> None:
    story = following()
    story.feed(SleepComing())
    story.until(4_000)
    story.feed(Lagged(2_000))
    story.until(5_001)
    assert story.election.campaigns == 1


def test_a_coordinator_hands_over_before_it_sleeps() -> None:
    story = reigning()
    story.feed(SleepComing())
    story.until(3_010)
    story.beat(epoch(3, "n3"), handover=True)
    story.until(3_020)
    assert_told(
        story,
        """
        3000 Log reign_ended number=2 reason=sleep
        3000 ReignChanged None False False
        3000 -> n1 n3: Resign 2.n2 to n3
        3010 MaySleep
        3010 Persist newest 3.n3 floor 3.n3
        3015 ReignChanged 3.n3 False False
        """,
    )


def test_a_coordinator_whose_successor_does_not_come_may_sleep_after_half_a_second() -> None:
    story = reigning()
    story.feed(SleepComing())
    # Told twice, as two sessions end: it is one sleep.
    assert story.feed(SleepComing()) == []
    story.until(3_600)
    lines = [line for line in story.told().splitlines() if "MaySleep" in line]
    assert lines == ["3500 MaySleep"]


def test_a_coordinator_without_followers_keeps_its_reign_and_sleeps() -> None:
    story = Story("n1", ("n1",))
    story.until(2_000)
    assert [describe(output) for output in story.feed(SleepComing())] == ["MaySleep"]
    assert story.election.role() == "coordinator"


def test_a_candidate_gives_up_before_it_sleeps() -> None:
    story = following()
    story.until(2_510)
    story.told()
    story.feed(SleepComing())
    assert_told(story, "2510 Log campaign_lost reason=sleep\n2510 MaySleep")


# --- Old disks (E14) -----------------------------------------------------------------------------


def test_an_old_disk_leaves_it_to_all_others_to_stand() -> None:
    story = Story("n2", TRIO, is_old=True)
    story.beats(FIRST, 2_000)
    story.told()
    story.until(12_499)
    assert story.election.campaigns == 0
    # Nobody else is there, or all have old disks: somebody has to.
    story.until(12_501)
    assert story.election.campaigns == 1
    story.grant("n3", FIRST)
    story.until(12_510)
    text = story.told()
    assert "12501 Persist newest 1002.n2 floor 1002.n2" in text
    assert "12506 Persist no election/behind" in text
    assert not story.election.is_behind()


def test_an_old_disk_is_like_any_other_once_its_table_is_whole() -> None:
    story = Story("n2", TRIO, is_old=True)
    story.beat(FIRST)
    story.until(100)
    assert load_told(story) == LOAD_UNFIT
    assert story.election.is_behind()
    story.told()
    story.feed(TABLE_WHOLE)
    story.beat(FIRST)
    assert story.told() == "100 Persist no election/behind\n100 Log disk_caught_up"
    story.until(200)
    assert load_told(story) == 0


def test_peers_that_remember_more_make_a_disk_old() -> None:
    story = following()
    story.feed(DiskOld(7))
    story.feed(DiskOld(8))
    assert_told(story, "2000 Persist behind")
    assert story.hear("n1", Resign(FIRST, NodeId("n2"))) == []
    assert story.election.dropped == {"cannot_succeed": 1}


def test_a_candidate_whose_disk_is_old_gives_up() -> None:
    story = following()
    story.until(2_510)
    story.told()
    story.feed(DiskOld(7))
    assert_told(story, "2510 Persist behind\n2510 Log campaign_lost reason=old disk")


def test_a_coordinator_whose_disk_is_old_hands_over() -> None:
    story = reigning()
    story.feed(DiskOld(7))
    story.until(3_100)
    text = story.told()
    assert "Log reign_ended number=2 reason=old disk" in text
    assert "Resign 2.n2 to n3" in text


def test_a_coordinator_whose_disk_is_old_stays_where_nobody_could_succeed() -> None:
    story = reigning()
    story.ack("n3", load=LOAD_UNFIT)
    story.feed(DiskOld(7))
    story.until(3_500)
    assert story.election.role() == "coordinator"
