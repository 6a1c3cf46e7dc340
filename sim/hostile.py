"""When enemies strike and when admins act: beside the weather, from dice of its own."""

from collections.abc import Callable

from .attacks import Attacks
from .kicks import Kicks
from .options import Options
from .stage import Stage
from .world import World, draw_int, exponential_us, pick

FIRST_US = 4_000_000
SPAN_US_MIN = 200_000
SPAN_US_MAX = 8_000_000
AFTER_HEAL_US = 1_500_000
"""So long after the healing the last recordings are played and the last lies are told."""


class Hostile:
    """Draws strikes from the kinds that the seed plays."""

    def __init__(
        self, world: World, stage: Stage, kicks: Kicks, attacks: Attacks, options: Options
    ) -> None:
        self._stage = stage
        self._world = world
        self._options = options
        self._kicks = kicks
        self._attacks = attacks
        self._dice = world.dice("hostile")
        self._kinds: dict[str, Callable[[int], None]] = {
            "kick": self._kick,
            "rotate": self._rotate,
            "forge": attacks.forge,
            "replay": attacks.replay,
            "liar": attacks.lie,
        }

    def plan(self) -> None:
        """Over the active time, and once more when everything is mended: no attack has an end."""
        end_us = self._options.active_ms * 1_000
        for _ in range(self._options.hostile):
            at_us = draw_int(self._dice, min(FIRST_US, end_us), end_us)
            self._plan(at_us, pick(self._dice, self._played()))
        for kind in self._played():
            if kind in ("forge", "replay", "liar"):
                self._plan(end_us + AFTER_HEAL_US, kind)

    def _plan(self, at_us: int, kind: str) -> None:
        self._world.at(at_us, self._strike, self._stage.number(), kind)

    def _played(self) -> list[str]:
        return list(self._options.hostile_kinds)

    def _strike(self, number: int, kind: str) -> None:
        if not self._stage.is_played(number):
            return
        self._stage.note(number, kind, "hostile")
        mean_us = self._options.fault_ms_mean * 1_000
        self._kinds[kind](SPAN_US_MIN + exponential_us(self._dice, mean_us, SPAN_US_MAX))

    def _kick(self, span_us: int) -> None:
        stolen = self._kicks.kick()
        if stolen is not None:
            self._attacks.steal(stolen)

    def _rotate(self, span_us: int) -> None:
        self._kicks.rotate()
