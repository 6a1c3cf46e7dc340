"""How the disk of this PC does, in one word and a reason: ok, slow, full, failing or repaired.

A disk that refuses is told by the writer. A slow one is told here, once: when half of the last
writes, or one of them, took longer than people wait; and that it is well again when they are far
below that. Between the two nothing is said, so that a disk at the border does not fill the log.
"""

from collections import deque
from enum import StrEnum

SAMPLES = 32
"""The last writes, by which a disk is judged."""
SAMPLES_MIN = 8
"""For the median; one that is far too slow tells by itself."""
SLOW_MEDIAN_MS = 200
SLOW_WORST_MS = 2_000
WELL_MEDIAN_MS = 100
WELL_WORST_MS = 1_000


class DiskState(StrEnum):
    """What people and scripts are told."""

    OK = "ok"
    SLOW = "slow"
    FULL = "full"
    FAILING = "failing"
    REPAIRED = "repaired"


class Pace:
    """How long the last writes took."""

    def __init__(self) -> None:
        self.is_slow = False
        self._took_ms: deque[int] = deque(maxlen=SAMPLES)

    def took(self, ms: int) -> bool:
        """One more write. True where the judgement changed."""
        self._took_ms.append(ms)
        median, worst = self.median_ms, self.worst_ms
        if self.is_slow:
            is_slow = median > WELL_MEDIAN_MS or worst > WELL_WORST_MS
        else:
            is_enough = len(self._took_ms) >= SAMPLES_MIN
            is_slow = (is_enough and median > SLOW_MEDIAN_MS) or worst > SLOW_WORST_MS
        is_changed = is_slow != self.is_slow
        self.is_slow = is_slow
        return is_changed

    @property
    def median_ms(self) -> int:
        ordered = sorted(self._took_ms)
        return ordered[len(ordered) // 2] if ordered else 0

    @property
    def worst_ms(self) -> int:
        return max(self._took_ms, default=0)


class DiskHealth:
    """All that is known of one disk; the worst of it is told."""

    def __init__(self, damage: str = "", repair: str = "") -> None:
        """`damage`: what of the store could not be read, though the agent goes on without it;
        `repair`: what became of the store before this start."""
        self.refusal = ""
        """Why it takes no writes; empty: it does."""
        self.pace = Pace()
        self._refusal_kind = ""
        self._damage = damage
        self._repair = repair

    def refused(self, reason: str, kind: str) -> None:
        self.refusal, self._refusal_kind = reason, kind

    def works(self) -> None:
        self.refusal = ""

    def told(self) -> tuple[DiskState, str]:
        """State and reason."""
        if self.refusal:
            is_full = self._refusal_kind == "full"
            return DiskState.FULL if is_full else DiskState.FAILING, self.refusal
        if self._damage:
            return DiskState.FAILING, self._damage
        if self.pace.is_slow:
            median, worst = self.pace.median_ms, self.pace.worst_ms
            return DiskState.SLOW, f"writes take {median} ms, the slowest {worst} ms"
        if self._repair:
            return DiskState.REPAIRED, self._repair
        return DiskState.OK, ""
