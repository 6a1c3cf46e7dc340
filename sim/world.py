"""Virtual time: one clock, one heap of what happens next. Nothing here waits.

True time is counted in microseconds from the beginning of a run. Two things planned for the same
instant happen in the order in which they were planned, so a run is a function of its seed alone.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any

EVENTS_PER_INSTANT_MAX = 100_000
"""More than this without the clock moving on means that the pool talks to itself for ever."""


class Violation(Exception):
    """A promise was broken. The run ends here; the seed replays it."""

    def __init__(self, law: str, story: str) -> None:
        super().__init__(f"{law}: {story}")
        self.law = law
        self.story = story


class World:
    """The clock and the heap. `at` plans a call, `run` makes time pass."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_us = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def dice(self, purpose: str) -> random.Random:
        """Dice of their own for every purpose, so that one more draw here moves nothing there."""
        return random.Random(f"{self.seed}/{purpose}")

    def at(self, at_us: int, call: Callable[..., None], *arguments: Any) -> None:
        assert at_us >= self.now_us, "nothing is planned in the past"
        self._planned += 1
        heapq.heappush(self._heap, (at_us, self._planned, call, arguments))

    def after(self, delay_us: int, call: Callable[..., None], *arguments: Any) -> None:
        self._planned += 1
        at_us = self.now_us + delay_us if delay_us > 0 else self.now_us
        heapq.heappush(self._heap, (at_us, self._planned, call, arguments))

    def run(self, until_us: int) -> None:
        """Let everything happen that is planned up to and including that instant."""
        heap = self._heap
        same_instant = 0
        while heap and heap[0][0] <= until_us:
            at_us, _, call, arguments = heapq.heappop(heap)
            if at_us > self.now_us:
                self.now_us = at_us
                same_instant = 0
            same_instant += 1
            if same_instant > EVENTS_PER_INSTANT_MAX:
                raise Violation("L8 time advances", f"{same_instant} events at {at_us} us")
            call(*arguments)
        self.now_us = until_us


def exponential_us(dice: random.Random, mean_us: int, max_us: int) -> int:
    """A waiting time without memory, bounded. Only `random()` is stable across Python versions."""
    draw = 1.0 - dice.random()
    halvings = 0
    while draw < 0.5 and halvings < 40:
        draw *= 2.0
        halvings += 1
    # -ln(x) by halvings and a line: exact enough for weather, and the same on every platform.
    return min(max_us, int(mean_us * (halvings * 0.693147 + (1.0 - draw) * 1.386294)))


def draw_int(dice: random.Random, low: int, high: int) -> int:
    """One of low..high, both included."""
    return low + int(dice.random() * (high - low + 1))


def pick(dice: random.Random, choices: list[Any]) -> Any:
    return choices[int(dice.random() * len(choices))]


def pick_some(dice: random.Random, choices: list[Any], count: int) -> list[Any]:
    """That many different ones, in the order of the draw."""
    left = list(choices)
    return [left.pop(int(dice.random() * len(left))) for _ in range(min(count, len(left)))]
