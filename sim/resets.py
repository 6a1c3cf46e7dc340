"""Streams of a living agent that break: a box between the PCs ends them, for no good reason.

To the others it looks as if that agent were gone: `PeerReset`, a hint that must cost nobody a
reign.
"""

from .host import Host
from .stage import Stage, Strike
from .world import draw_int

RESETS_MAX = 4
"""So often the streams of one host break in a row."""


class Resets:
    """Draws and carries out this one fault."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.kinds: dict[str, Strike] = {"reset": self._strike}

    def _strike(self, span_us: int) -> None:
        """Everything that one host has open is ended, a few times in a row."""
        stage, host = self._stage, self._stage.victim()
        if host is None:
            return
        for _ in range(draw_int(stage.dice, 1, RESETS_MAX)):
            stage.later(draw_int(stage.dice, 0, span_us), self._break, host)

    def _break(self, host: Host) -> None:
        if host.is_up:
            self._stage.disturb(host.index)
            self._stage.network.break_streams(host.index, is_told=True)
