"""What was refused at this node's edges, told to the log: packets, streams, the door, people.

Whoever is refused there is counted, by reason; nothing else happens, or a stranger could make this
node busy by being refused. Here somebody looks at the counters now and then, and writes a line for
every reason whose count has passed a power of two: the 1st, 2nd, 4th, 8th … time. So whoever floods
a node does not flood its log, and a single wrong code is there to be read all the same.

Only the edges: what the cores refuse of members they log themselves, with who it was.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import NoReturn

from rain.log import Logger
from rain.model import Value

LOOK_INTERVAL_S = 0.5
EDGES = ("packets", "streams", "door", "invites", "control")
WEATHER = frozenset(("own", "closed"))
"""Counted, but nothing was refused: a broadcast that came back, a connection that ended."""
REASONS_MAX = 1_000
"""Remembered; what a stranger says is never a reason, so there are not nearly as many."""

Counters = Mapping[str, Mapping[str, int]]
"""By place, then by reason."""


class Refusal(Value, frozen=True):
    """So many times by now, and worth a line."""

    place: str
    reason: str
    times: int


class RefusalLog:
    """Reads counters that others keep."""

    def __init__(self, counters: Callable[[], Counters], log: Logger) -> None:
        self._counters = counters
        self._log = log
        self._known: dict[tuple[str, str], int] = {}

    async def run(self) -> NoReturn:
        """Until cancelled."""
        while True:
            for refusal in self.news():
                self._log.warning(
                    "refused", place=refusal.place, reason=refusal.reason, times=refusal.times
                )
            await asyncio.sleep(LOOK_INTERVAL_S)

    def news(self) -> list[Refusal]:
        """What has become worth a line since the last call."""
        told = []
        counters = self._counters()
        for place in EDGES:
            for reason, times in counters.get(place, {}).items():
                if reason in WEATHER:
                    continue
                before = self._known.get((place, reason), 0)
                if times.bit_length() > before.bit_length():
                    told.append(Refusal(place, reason, times))
                if before or len(self._known) < REASONS_MAX:
                    self._known[place, reason] = times
        return told
