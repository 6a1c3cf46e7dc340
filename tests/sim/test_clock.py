"""A clock of another rate, and one that moves in steps."""

import random

import pytest

from sim.clock import Clock
from sim.world import World


@pytest.mark.parametrize("rate_ppm", [900_000, 1_000_000, 1_003_000, 1_100_000])
@pytest.mark.parametrize("tick_us", [1_000, 15_625])
def test_the_first_instant_at_which_it_shows_something(rate_ppm: int, tick_us: int) -> None:
    world = World(1)
    clock = Clock(world, random.Random(1), rate_ppm, tick_us)
    start_ms = clock.local_ms()
    for ahead_ms in (1, 7, 16, 500, 12_345):
        at_us = clock.true_us(start_ms + ahead_ms)
        world.now_us = at_us - 1
        assert clock.local_ms() < start_ms + ahead_ms
        world.now_us = at_us
        assert start_ms + ahead_ms <= clock.local_ms() <= start_ms + ahead_ms + tick_us // 1_000


def test_a_coarse_clock_moves_in_steps() -> None:
    world = World(1)
    clock = Clock(world, random.Random(1), 1_000_000, 15_625)
    shown = set()
    for now_us in range(0, 1_000_000, 1_000):
        world.now_us = now_us
        shown.add(clock.local_ms())
    assert len(shown) == 64
