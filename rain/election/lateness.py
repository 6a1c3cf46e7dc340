"""How late this node's own clockwork was: the load that heartbeats and acknowledgements carry.

The shell tells every gap of its event loop that is worth a word (`Lagged`). A node that lags is
not asked to coordinate, and a coordinator that lags in every second of a long while passes its
reign on, to somebody who did not: late beats cost everybody a little, a handover costs once.
"""

from rain.election.config import ElectionConfig

LOAD_MAX_MS = 60_000
"""What is told at most; somebody who slept for a day is no worse a choice than for a minute."""


class Lateness:
    """This node's own, over the last second."""

    def __init__(self, config: ElectionConfig) -> None:
        self._config = config
        self._worst: list[tuple[int, int]] = []
        self._lame_since_ms: int | None = None
        self._lame_ms = 0

    def note(self, lag_ms: int, now_ms: int) -> None:
        """A gap of that length has just ended. Only gaps that a later one does not exceed stay."""
        lag_ms = min(lag_ms, LOAD_MAX_MS)
        self._worst = [(at, lag) for at, lag in self._worst if lag > lag_ms]
        self._worst.append((now_ms, lag_ms))
        if lag_ms <= self._config.lag_doubt_ms:
            return
        if not self._is_lame(now_ms):
            self._lame_since_ms = now_ms
        self._lame_ms = now_ms

    def worst_ms(self, now_ms: int) -> int:
        """The longest gap that ended within the last second."""
        window_ms = self._config.load_window_ms
        self._worst = [(at, lag) for at, lag in self._worst if now_ms - at < window_ms]
        return self._worst[0][1] if self._worst else 0

    def is_lame(self, now_ms: int) -> bool:
        """It has lagged badly for long, without a second's rest."""
        since_ms = self._lame_since_ms
        if since_ms is None or not self._is_lame(now_ms):
            return False
        return now_ms - since_ms >= self._config.lame_ms

    def _is_lame(self, now_ms: int) -> bool:
        is_recent = now_ms - self._lame_ms < self._config.load_window_ms
        return self._lame_since_ms is not None and is_recent
