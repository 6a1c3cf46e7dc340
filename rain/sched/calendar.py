"""What day it is, as far as it can be believed: for what is kept for days, and nothing else.

Clocks of walls are wrong at times: a PC says 2099 for a minute after its battery was changed, or
1970 for as long as it is up. So no clock is believed alone, nor at once. Members tell theirs to
the coordinator (ClockReading); each counts once it has gone on for `steady_ms` without a jump,
and of those that count the middle one is believed, of two middle ones the earlier: whoever is
wrong by himself, or with less than half of the others, changes nothing. Being late costs nothing
but patience.

Who is cut off from the others is alone with its own clock, and the view forgets those that it lost
within seconds. So more than half of all that may be here and keep copies, up or not, must have told
a clock that counts; else no day is believed, and nothing grows old.
"""

from collections.abc import Callable, Collection

from rain.model import NodeId, Value

DAY_MS = 86_400_000
DRIFT_MS = 300_000
"""A clock that is off by more than this from what it said before has jumped: it begins anew."""
READINGS_MAX = 1_000


class CalendarConfig(Value, frozen=True):
    steady_ms: int = 1_800_000


class _Reading(Value, frozen=True):
    offset_ms: int
    """Of that clock to the monotonic one here."""
    since_ms: int


class Calendar:
    """The clocks that were told of here, by node."""

    def __init__(
        self, config: CalendarConfig, node_id: NodeId, voters: Callable[[], Collection[NodeId]]
    ) -> None:
        self._config = config
        self._node_id = node_id
        self._voters = voters
        """All whose clocks are asked for, whether they are up or not."""
        self._readings: dict[NodeId, _Reading] = {}

    def tell(self, node_id: NodeId, unix_ms: int, now_ms: int) -> None:
        offset_ms = unix_ms - now_ms
        known = self._readings.pop(node_id, None)
        has_jumped = known is None or abs(offset_ms - known.offset_ms) > DRIFT_MS
        since_ms = now_ms if known is None or has_jumped else known.since_ms
        self._readings[node_id] = _Reading(offset_ms, since_ms)
        if len(self._readings) > READINGS_MAX:
            del self._readings[next(iter(self._readings))]

    def forget(self, node_id: NodeId) -> None:
        """It went: its clock counts no longer."""
        if node_id != self._node_id:
            self._readings.pop(node_id, None)

    def own_unix_ms(self, now_ms: int) -> int | None:
        """By the clock of this wall, believed or not; None: it was never told."""
        own = self._readings.get(self._node_id)
        return None if own is None else max(0, own.offset_ms + now_ms)

    def believed_unix_ms(self, now_ms: int) -> int | None:
        """None: too few clocks have been steady for long enough."""
        voters = self._voters()
        steady = sorted(
            self._readings[node_id].offset_ms
            for node_id in voters
            if self._is_steady(node_id, now_ms)
        )
        if 2 * len(steady) <= len(voters):
            return None
        return max(0, steady[(len(steady) - 1) // 2] + now_ms)

    def is_own_steady(self, now_ms: int) -> bool:
        """Has the clock of this wall gone on for long enough, in this life?"""
        return self._is_steady(self._node_id, now_ms)

    def _is_steady(self, node_id: NodeId, now_ms: int) -> bool:
        reading = self._readings.get(node_id)
        return reading is not None and now_ms - reading.since_ms >= self._config.steady_ms
