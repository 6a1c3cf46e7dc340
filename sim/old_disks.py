"""A disk of some seconds ago: a PC that is set up again from a copy of itself (E14).

Between the copy and the return the PC had a life, or two, that its disk knows nothing of. Its boot
epoch is above them all the same, since its clock is right.

One to a run: a promise is kept on several disks, and this takes what one of them had. It is owed
no more by who has forgotten it; the others owe it still.
"""

from collections.abc import Callable

from .host import Host
from .stage import Stage, Strike
from .world import draw_int

LIVES_MAX = 2
LIFE_US_MIN = 1_500_000
LIFE_US_MAX = 6_000_000
AWAY_US_MAX = 2_500_000


class OldDisks:
    """Draws and carries out this one fault."""

    def __init__(self, stage: Stage, note_forgetful: Callable[[Host], None]) -> None:
        self._stage = stage
        self._note_forgetful = note_forgetful
        self._has_struck = False
        self.kinds: dict[str, Strike] = {"old_disk": self._strike}

    def _strike(self, span_us: int) -> None:
        """A copy now, some lives, and then the copy is all there is."""
        stage, host = self._stage, self._stage.victim()
        if host is None or self._has_struck:
            return
        self._has_struck = True
        rows = dict(host.disk.rows)
        stage.say(f"{host.name}: its disk is copied")
        at_us = 0
        for _ in range(draw_int(stage.dice, 1, LIVES_MAX)):
            stage.later(at_us, self._switch_off, host)
            at_us += draw_int(stage.dice, 1, AWAY_US_MAX)
            stage.later(at_us, stage.start, host)
            at_us += draw_int(stage.dice, LIFE_US_MIN, LIFE_US_MAX)
        stage.later(at_us, self._restore, host, rows)

    def _switch_off(self, host: Host) -> None:
        if host.is_up:
            self._stage.power_off(host)

    def _restore(self, host: Host, rows: dict[str, bytes]) -> None:
        self._switch_off(host)
        self._stage.say(f"{host.name}: has the disk of then")
        self._note_forgetful(host)
        host.disk.rows = dict(rows)
        host.executor.is_disk_old = True
        self._stage.later(draw_int(self._stage.dice, 1, AWAY_US_MAX), self._stage.start, host)
