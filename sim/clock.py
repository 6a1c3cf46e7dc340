"""The monotonic clock of one PC: another rate and another zero than everybody's."""

import random

from .world import World, draw_int

CLOCK_OFFSET_MS_MAX = 10_000_000


class Clock:
    """Local milliseconds from true microseconds, and back."""

    def __init__(self, world: World, dice: random.Random, rate_ppm: int) -> None:
        self._world = world
        self._rate_ppm = rate_ppm
        self._offset_ms = draw_int(dice, 0, CLOCK_OFFSET_MS_MAX)

    def local_ms(self) -> int:
        return self._offset_ms + self._world.now_us * self._rate_ppm // 1_000_000_000

    def true_us(self, local_ms: int) -> int:
        """The first instant at which it shows that."""
        return -(-(local_ms - self._offset_ms) * 1_000_000_000 // self._rate_ppm)

    def lose(self, span_us: int) -> None:
        """It stood still for that long."""
        self._offset_ms -= span_us // 1_000
