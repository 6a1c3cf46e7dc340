"""Own health: how far this node may trust its own judgement of others (Lifeguard).

A busy PC sees everybody else as slow. The score rises when its own probes go wrong in ways that
point at itself, and slows its probing; a lag of its event loop forbids accusations altogether,
until it has run cleanly for a while.
"""

SCORE_MAX = 8
LAG_NOTED_MS = 50
LAG_FORBIDS_MS = 250
CLEAN_INTERVALS = 3


class OwnHealth:
    def __init__(self, interval_ms: int) -> None:
        self.score = 0
        self._clean_ms = CLEAN_INTERVALS * interval_ms
        self._forbidden_until_ms = 0

    def lagged(self, lag_ms: int, now_ms: int) -> None:
        if lag_ms <= LAG_NOTED_MS:
            return
        self.worsen(1)
        if lag_ms > LAG_FORBIDS_MS or not self.may_accuse(now_ms):
            self._forbidden_until_ms = now_ms + self._clean_ms

    def may_accuse(self, now_ms: int) -> bool:
        return now_ms >= self._forbidden_until_ms

    def accuse_from_ms(self) -> int:
        """From when on it may."""
        return self._forbidden_until_ms

    def worsen(self, by: int) -> None:
        self.score = min(SCORE_MAX, self.score + by)

    def improve(self) -> None:
        self.score = max(0, self.score - 1)

    def check(self) -> None:
        assert 0 <= self.score <= SCORE_MAX, "G6: own health in bounds"
