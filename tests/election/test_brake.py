"""Who is braked when the world falls apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.effects import BrakeChanged
from rain.election.brake import Brake, is_world_lost
from rain.election.config import ElectionConfig
from rain.model import NodeId
from tests.election.story import ids

FOUR = ids("n1", "n2", "n3", "n4")


@pytest.mark.parametrize(
    ("me", "world", "gone", "lost"),
    [
        ("n2", ids("n1", "n2"), ids("n1"), False),
        ("n1", ids("n1", "n2", "n3"), ids("n2", "n3"), True),
        ("n1", ids("n1", "n2", "n3"), ids("n2"), False),
        ("n1", FOUR, ids("n2", "n3"), False),
        ("n4", FOUR, ids("n1", "n3"), True),
        ("n4", FOUR, (), False),
    ],
)
def test_who_is_braked(
    me: str, world: tuple[NodeId, ...], gone: tuple[NodeId, ...], lost: bool
) -> None:
    assert is_world_lost(NodeId(me), world, gone) is lost


@given(st.sets(st.integers(1, 12), min_size=3), st.data())
def test_of_two_sides_at_most_one_goes_on_unbraked(world: set[int], data: st.DataObject) -> None:
    side = data.draw(st.sets(st.sampled_from(sorted(world)), min_size=1, max_size=len(world) - 1))
    names = {i: NodeId(f"n{i:02}") for i in world}
    here = [names[i] for i in sorted(side)]
    there = [names[i] for i in sorted(world - side)]
    everybody = sorted(names.values())
    assert is_world_lost(here[0], everybody, there) != is_world_lost(there[0], everybody, here)


def test_after_fifteen_seconds_the_smaller_world_is_accepted_until_they_return() -> None:
    brake = Brake(NodeId("n4"), ElectionConfig())
    gone = ids("n1", "n2", "n3")
    assert brake.feel(FOUR, gone, 0) == [BrakeChanged(braked=True, vanished=gone)]
    assert brake.feel(FOUR, gone, 14_999) == []
    assert brake.feel(FOUR, gone, 15_000) == [BrakeChanged(braked=False, vanished=())]
    assert brake.feel(FOUR, gone, 60_000) == []
    assert brake.feel(FOUR, (), 61_000) == []
    assert brake.feel(FOUR, gone, 62_000) == [BrakeChanged(braked=True, vanished=gone)]


def test_workers_weigh_nothing_but_are_told_of() -> None:
    brake = Brake(NodeId("n1"), ElectionConfig())
    workers = ids("n6", "n7", "n8", "n9")
    assert brake.feel(FOUR, (*ids("n4"), *workers), 0) == []
    gone = (*ids("n2", "n3", "n4"), *workers)
    assert brake.feel(FOUR, gone, 100) == [BrakeChanged(braked=True, vanished=gone)]
    assert brake.feel(ids("n1"), workers, 200) == [BrakeChanged(braked=False, vanished=())]
