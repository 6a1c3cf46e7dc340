"""The clock and the heap, and dice that do not depend on the platform."""

import random

import pytest

from sim.world import EVENTS_PER_INSTANT_MAX, Violation, World, draw_int, exponential_us, pick_some


def test_things_happen_in_order_of_time_then_of_planning() -> None:
    world, story = World(1), list[str]()
    world.at(20, story.append, "later")
    world.at(10, story.append, "first")
    world.at(10, story.append, "second")
    world.run(10)
    assert (story, world.now_us) == (["first", "second"], 10)
    world.run(30)
    assert (story, world.now_us) == (["first", "second", "later"], 30)


def test_what_never_lets_time_pass_is_a_violation() -> None:
    world = World(1)

    def again() -> None:
        world.after(0, again)

    again()
    with pytest.raises(Violation, match="L8"):
        world.run(1)
    assert EVENTS_PER_INSTANT_MAX < 1_000_000


def test_every_purpose_has_dice_of_its_own() -> None:
    one, other = World(7), World(7)
    one.dice("faults").random()
    assert one.dice("network").random() == other.dice("network").random()
    assert World(7).dice("network").random() != World(8).dice("network").random()


def test_draws_stay_within_their_bounds() -> None:
    dice = random.Random(1)
    assert {draw_int(dice, 2, 4) for _ in range(200)} == {2, 3, 4}
    waits = [exponential_us(dice, 1_000, 5_000) for _ in range(20_000)]
    assert min(waits) >= 0
    assert max(waits) == 5_000
    assert 900 < sum(waits) / len(waits) < 1_100
    assert sorted(pick_some(dice, [1, 2, 3], 9)) == [1, 2, 3]
