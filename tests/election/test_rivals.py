"""Golden histories of reigns that meet, or go on, in doubt."""

from rain.effects import Beat, Lagged, ReignChanged
from rain.election.messages import HeartbeatAck, Stale, Strength
from rain.model import NodeId
from tests.election.story import TRIO, epoch, following, reigning, view_of


def test_age_alone_unseats_only_for_a_rival_that_hears() -> None:
    """E2: the deaf one speaks to all for ever, and grows older than whoever replaces it."""
    story = reigning()
    story.beat(epoch(5, "n1"), followers=1, listed=False)
    story.until(3_050)
    assert story.election.role() == "coordinator"
    assert "3000 -> n1: Stale 2.n2 followers 1" in story.told()

    story.hear("n1", Stale(epoch(5, "n1"), Strength(1, 60_000), NodeId("n1")))

    assert story.election.role() == "follower"


def test_a_follower_keeps_its_coordinator_against_an_older_one_that_does_not_hear_it() -> None:
    story = following()
    before = story.election.reign()
    story.beat(epoch(9, "n3"), followers=2, age_ms=900_000, listed=False)
    story.until(story.now_ms + 50)
    assert story.election.reign() == before


def test_a_reign_that_goes_on_after_a_doubt_says_its_beat_before_it_says_that_it_reigns() -> None:
    """Its number may have been lifted meanwhile: orders would quote no heartbeat at all."""
    story = reigning()
    mine = story.election.reign()
    assert mine is not None
    story.feed(Lagged(1_500))
    outputs = story.hear("n3", HeartbeatAck(mine, 1, b"", view_of(*TRIO).hash))

    kinds = [type(output) for output in outputs if isinstance(output, Beat | ReignChanged)]
    assert kinds == [Beat, ReignChanged]
