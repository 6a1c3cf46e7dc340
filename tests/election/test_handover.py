"""Golden histories: a coordinator that goes of its own will."""

from rain.effects import HandedOver, StopRequested
from rain.election.messages import Challenge, Objection, Resign, Strength
from rain.model import NodeId
from tests.election.story import FIRST, Story, assert_told, epoch, following, reigning


def test_a_stopping_coordinator_hands_over_to_the_best_ranked_equal_follower() -> None:
    story = reigning()
    story.ack("n1", digest=b"other")
    story.feed(StopRequested())
    story.until(3_020)
    story.hear("n3", Challenge(3, epoch(2, "n2"), 0))
    story.beat(epoch(3, "n3"), followers=0, age_ms=0, handover=True)
    story.until(3_200)
    assert_told(
        story,
        """
        3000 Log reign_ended number=2 reason=stopping
        3000 ReignChanged None False False
        3000 -> n1 n3: Resign 2.n2 to n3
        3020 -> n3: Grant newest 2.n2
        3020 HandedOver
        3020 Persist newest 3.n3 floor 3.n3
        3025 ReignChanged 3.n3 False False
        """,
    )


def test_a_successor_that_never_comes_is_waited_for_half_a_second() -> None:
    story = reigning()
    story.feed(StopRequested())
    story.until(5_000)
    lines = story.told().splitlines()
    assert sum("Resign" in line for line in lines) == 5
    assert lines[-1] == "3500 HandedOver"


def test_a_stopping_follower_or_lone_coordinator_goes_at_once() -> None:
    assert following().feed(StopRequested()) == [HandedOver()]
    lone = Story("n1", ("n1",))
    lone.until(2_000)
    assert lone.feed(StopRequested())[-1] == HandedOver()
    lone.until(9_000)
    assert lone.election.campaigns == 1


def test_the_successor_stands_at_once() -> None:
    story = following()
    story.hear("n1", Resign(FIRST, NodeId("n2")))
    story.until(2_002)
    story.grant("n3", FIRST)
    story.until(2_050)
    assert_told(
        story,
        """
        2000 ReignChanged None False False
        2000 -> n1 n3: Challenge newest 1.n1
        2002 Persist newest 2.n2 floor 2.n2
        2007 Log reign_began number=2 grants=1
        2007 ReignChanged 2.n2 True True
        2007 -> n1 n3: Heartbeat 2.n2 handover
        """,
    )


def test_a_heartbeat_that_the_resignation_overtook_does_not_unseat_the_successor() -> None:
    story = following()
    story.hear("n1", Resign(FIRST, NodeId("n2")))
    story.grant("n3", FIRST)
    story.until(2_020)
    story.beat(FIRST, followers=2, age_ms=60_000)
    assert story.election.role() == "coordinator"
    assert story.election.dropped == {"resigned": 1}


def test_the_others_grant_at_once_and_go_from_reign_to_reign() -> None:
    story = following()
    story.hear("n1", Resign(FIRST, NodeId("n3")))
    story.hear("n3", Challenge(3, FIRST, 0))
    story.beat(epoch(2, "n3"), followers=0, age_ms=0, handover=True)
    story.until(2_050)
    assert_told(
        story,
        """
        2000 -> n3: Grant newest 1.n1
        2000 Persist newest 2.n3 floor 2.n3
        2005 ReignChanged 2.n3 False False
        """,
    )


def test_a_successor_asks_again_soon_where_a_challenge_or_a_grant_was_lost() -> None:
    story = following()
    story.hear("n1", Resign(FIRST, NodeId("n2")))
    story.until(2_022)
    story.grant("n3", FIRST)
    story.until(2_050)
    assert_told(
        story,
        """
        2000 ReignChanged None False False
        2000 -> n1 n3: Challenge newest 1.n1
        2020 -> n1 n3: Challenge newest 1.n1
        2022 Persist newest 2.n2 floor 2.n2
        2027 Log reign_began number=2 grants=1
        2027 ReignChanged 2.n2 True True
        2027 -> n1 n3: Heartbeat 2.n2 handover
        """,
    )


def test_who_objected_because_the_challenge_overtook_the_resignation_is_asked_again_soon() -> None:
    story = following(members=("n1", "n2", "n3", "n4", "n5"))
    story.hear("n1", Resign(FIRST, NodeId("n2")))
    story.until(2_002)
    story.grant("n1", FIRST)
    for node in ("n3", "n4", "n5"):
        story.hear(node, Objection(story.campaign(), FIRST, 10, Strength(4, 60_000)))
    story.until(2_022)
    story.grant("n4", FIRST)
    story.until(2_050)
    assert_told(
        story,
        """
        2000 ReignChanged None False False
        2000 -> n1 n3 n4 n5: Challenge newest 1.n1
        2020 -> n3 n4 n5: Challenge newest 1.n1
        2022 Persist newest 2.n2 floor 2.n2
        2027 Log reign_began number=2 grants=2
        2027 ReignChanged 2.n2 True True
        2027 -> n1 n3 n4 n5: Heartbeat 2.n2 handover
        """,
    )


def test_a_successor_that_nobody_answers_asks_four_times_and_reigns_within_a_tenth() -> None:
    story = following()
    story.hear("n1", Resign(FIRST, NodeId("n2")))
    story.until(2_090)
    assert_told(
        story,
        """
        2000 ReignChanged None False False
        2000 -> n1 n3: Challenge newest 1.n1
        2020 -> n1 n3: Challenge newest 1.n1
        2040 -> n1 n3: Challenge newest 1.n1
        2060 -> n1 n3: Challenge newest 1.n1
        2080 Persist newest 2.n2 floor 2.n2
        2085 Log reign_began number=2 grants=0
        2085 ReignChanged 2.n2 True True
        2085 -> n1 n3: Heartbeat 2.n2 handover
        2085 MemberSilent n1
        2085 MemberSilent n3
        2085 BrakeChanged True n1 n3
        """,
    )


def test_a_resignation_is_said_again_soon_at_first_and_rarely_later() -> None:
    story = reigning()
    story.feed(StopRequested())
    story.until(4_000)
    resigned = [line.split()[0] for line in story.told().splitlines() if "Resign" in line]
    assert resigned == ["3000", "3025", "3075", "3175", "3375"]
