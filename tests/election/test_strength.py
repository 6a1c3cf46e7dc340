"""Of two reigns exactly one stands, from whichever side it is looked at."""

from hypothesis import given
from hypothesis import strategies as st

from rain.election.messages import Strength
from rain.election.strength import NO_STRENGTH, is_stronger
from rain.model import NodeId

strengths = st.builds(Strength, st.integers(0, 5), st.integers(1, 10_000))
ONE, OTHER = NodeId("n1"), NodeId("n2")


@given(strengths, strengths)
def test_one_yields(mine: Strength, theirs: Strength) -> None:
    from_here = is_stronger(mine, ONE, theirs, OTHER, 1_000)
    from_there = is_stronger(theirs, OTHER, mine, ONE, 1_000)
    assert from_here != from_there


@given(strengths)
def test_no_living_reign_yields_to_a_remembered_one(mine: Strength) -> None:
    assert is_stronger(mine, OTHER, NO_STRENGTH, ONE, 1_000)


def test_followers_before_age_before_id() -> None:
    assert is_stronger(Strength(2, 1), OTHER, Strength(1, 9_000), ONE, 1_000)
    assert is_stronger(Strength(1, 9_000), OTHER, Strength(1, 1), ONE, 1_000)
    assert not is_stronger(Strength(1, 9_000), OTHER, Strength(1, 8_500), ONE, 1_000)
