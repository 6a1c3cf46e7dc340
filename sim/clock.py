"""The monotonic clock of one PC: another rate and zero than everybody's, perhaps larger steps."""

import random

from .world import World, draw_int

CLOCK_OFFSET_MS_MAX = 10_000_000


class Clock:
    """Local milliseconds from true microseconds, and back."""

    def __init__(
        self, world: World, dice: random.Random, rate_ppm: int, tick_us: int = 1_000
    ) -> None:
        self._world = world
        self._tick_us = tick_us
        self._rate_ppm = rate_ppm
        self._offset_ms = draw_int(dice, 0, CLOCK_OFFSET_MS_MAX)
        self._asked_ms, self._asked_us = -1, 0

    def local_ms(self) -> int:
        if self._tick_us != 1_000:
            ticks = self._world.now_us * self._rate_ppm // 1_000_000 // self._tick_us
            return self._offset_ms + ticks * self._tick_us // 1_000
        return self._offset_ms + self._world.now_us * self._rate_ppm // 1_000_000_000

    def true_us(self, local_ms: int) -> int:
        """The first instant at which it shows that. Mostly it is the same that is asked for."""
        if local_ms != self._asked_ms:
            self._asked_ms, self._asked_us = local_ms, self._true_us(local_ms)
        return self._asked_us

    def _true_us(self, local_ms: int) -> int:
        if self._tick_us != 1_000:
            ticks = -(-(local_ms - self._offset_ms) * 1_000 // self._tick_us)
            return -(-ticks * self._tick_us * 1_000_000 // self._rate_ppm)
        return -(-(local_ms - self._offset_ms) * 1_000_000_000 // self._rate_ppm)

    def lose(self, span_us: int) -> None:
        """It stood still for that long."""
        self._offset_ms -= span_us // 1_000
        self._asked_ms = -1
