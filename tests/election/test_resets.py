"""Golden histories of broken streams: a hint that is looked into at once, and never a proof."""

from rain.effects import PeerReset
from rain.election.messages import Challenge, Objection, Vouch
from rain.model import NodeId
from tests.election.story import FIRST, Story, assert_told, following

FIVE = ("n1", "n2", "n3", "n4", "n5")
RESET = PeerReset(NodeId("n1"))


def broken() -> Story:
    """The streams of the coordinator broke 40 ms after its last heartbeat."""
    story = following()
    story.until(2_040)
    story.feed(RESET)
    return story


def test_a_killed_process_is_succeeded_after_two_hundred_milliseconds() -> None:
    story = broken()
    story.until(2_245)
    story.grant("n3", FIRST)
    story.until(2_260)
    assert_told(
        story,
        """
        2040 -> n1 n3: AskHeard 1.n1
        2100 -> n1 n3: AskHeard 1.n1
        2160 -> n1 n3: AskHeard 1.n1
        2240 ReignChanged None False False
        2240 -> n1 n3: Challenge newest 1.n1
        2245 Persist newest 2.n2 floor 2.n2
        2250 Log reign_began number=2 grants=1
        2250 ReignChanged 2.n2 True True
        2250 -> n1 n3: Heartbeat 2.n2
        """,
    )


def test_a_coordinator_that_answers_is_alive() -> None:
    story = broken()
    story.hear("n1", Vouch(FIRST, 1, 0))
    story.until(2_499)
    # Silence counts from the answer: three questions became one, and one more when it is due.
    assert_told(
        story,
        """
        2040 -> n1 n3: AskHeard 1.n1
        2390 -> n1 n3: AskHeard 1.n1
        """,
    )
    assert story.election.campaigns == 0


def test_a_heartbeat_after_the_reset_ends_the_doubt() -> None:
    story = broken()
    story.until(2_100)
    story.beats(FIRST, 3_000)
    assert story.election.reign() == FIRST
    assert story.told().count("AskHeard") == 2


def test_a_helper_that_heard_it_before_the_reset_proves_nothing() -> None:
    story = broken()
    story.until(2_050)
    story.hear("n3", Vouch(FIRST, 1, 30))
    story.until(2_241)
    assert story.election.campaigns == 1


def test_an_answer_counts_from_the_sending_of_its_own_question() -> None:
    """The third question went out 120 ms after the reset: 50 ms before it is after the reset."""
    story = broken()
    story.until(2_170)
    story.hear("n3", Vouch(FIRST, 3, 50))
    story.until(2_300)
    assert story.election.campaigns == 0


def test_a_helper_that_heard_it_after_the_reset_does() -> None:
    story = broken()
    story.until(2_150)
    story.hear("n3", Vouch(FIRST, 1, 0))
    story.until(2_400)
    assert story.election.campaigns == 0
    assert story.election.reign() == FIRST


def test_an_old_vouch_does_not_shut_the_ear_for_the_coordinator_itself() -> None:
    story = broken()
    story.hear("n3", Vouch(FIRST, 1, 30))
    story.until(2_080)
    story.hear("n1", Vouch(FIRST, 1, 0))
    story.until(2_400)
    assert story.election.campaigns == 0


def test_resets_without_end_cost_three_questions_to_each_sign_of_life() -> None:
    story = following()
    for at_ms in range(2_000, 2_100, 5):
        story.until(at_ms)
        story.feed(RESET)
    assert story.told().count("AskHeard") == 2
    story.until(2_100)
    story.beat(FIRST)
    assert story.election.reign() == FIRST


def test_who_lost_its_stream_too_does_not_object() -> None:
    story = following("n3", FIVE)
    story.until(2_010)
    story.feed(RESET)
    story.until(2_050)
    # A moment ago it was heard: a reset alone takes nothing from that.
    objected = story.hear("n2", Challenge(7, FIRST, 200))
    assert isinstance(getattr(objected[0], "message", None), Objection)
    story.until(2_061)
    story.told()
    story.hear("n2", Challenge(8, FIRST, 200))
    assert_told(story, "2061 -> n2: Grant newest 1.n1")


def test_a_reset_of_anybody_else_is_not_the_elections_business() -> None:
    story = following()
    story.feed(PeerReset(NodeId("n3")))
    story.until(2_300)
    assert story.told() == ""
