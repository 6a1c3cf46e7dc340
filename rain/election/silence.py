"""A follower's ear: the reign whose heartbeats it accepts, and whether that has fallen silent.

Life is a heartbeat received oneself, or one that a helper received itself and vouches for; a vouch
counts from the moment of that heartbeat, never from the moment of the vouch, and nobody vouches
for a vouch (E4: second-hand signs of life echo for ever). Counted from the question's sending, so
that a vouch which was long on its way makes nobody younger. Heartbeats that do not list this node
for a second are no life (E2): their sender cannot hear.

A reset of the coordinator's streams is a hint: it is asked for, three times in a row, together with
the helpers. A sign of life younger than the reset ends that; if there is none for 200 ms, two beats
and three answers are missing, and that is silence. It proves nothing: the hint of a liar costs a
few questions, and silence only ever gives the right to stand.
"""

from rain.election.config import ElectionConfig
from rain.election.messages import Heartbeat, Strength
from rain.model import Epoch

RESET_ASKS_MAX = 3
"""How often is asked after a reset."""
OPEN_MAX = RESET_ASKS_MAX + 1
"""Questions that an answer may still come to, each counted from its own sending."""


class Hearing:
    """One reign as one follower hears it."""

    def __init__(self, epoch: Epoch, config: ElectionConfig, now_ms: int) -> None:
        self._config = config
        self.epoch = epoch
        self.strength = Strength(0, 0)
        self.beat = 0
        self.heard_ms = now_ms
        self._vouched_ms = now_ms
        self._unlisted_since_ms: int | None = None
        self._unreadable_since_ms: int | None = None
        self._resigned_ms: int | None = None
        self._question = 0
        self._open: dict[int, int] = {}
        """When each open question was asked."""
        self._asked_ms: int | None = None
        self._reset_ms: int | None = None
        self._reset_asks = 0

    def take(self, heartbeat: Heartbeat, listed: bool | None, now_ms: int) -> None:
        """A heartbeat of this reign. `listed` None: its view is another, its bits say nothing."""
        self.epoch = heartbeat.epoch
        self.strength = heartbeat.strength
        self.beat = heartbeat.beat
        self.heard_ms = now_ms
        self._asked_ms = self._reset_ms = None
        if listed is None:
            if self._unreadable_since_ms is None:
                self._unreadable_since_ms = now_ms
            listed = now_ms - self._unreadable_since_ms <= self._config.unreadable_ms
        else:
            self._unreadable_since_ms = None
        if listed:
            self._unlisted_since_ms = None
        elif self._unlisted_since_ms is None:
            self._unlisted_since_ms = now_ms

    def is_deaf(self, now_ms: int) -> bool:
        """Its sender has not listed this node for a second (E2)."""
        since_ms = self._unlisted_since_ms
        return since_ms is not None and now_ms - since_ms >= self._config.unlisted_ms

    def is_resigned(self) -> bool:
        return self._resigned_ms is not None

    def resign(self, now_ms: int) -> None:
        """It stops of its own will: no more life, and time for its successor. Said repeatedly."""
        if self._resigned_ms is None:
            self._resigned_ms = now_ms

    def reset(self, now_ms: int) -> None:
        """Its streams broke: perhaps its process is gone. Told again and again, it counts once."""
        if self._reset_ms is None and self._resigned_ms is None:
            self._reset_ms = now_ms
            self._reset_asks = 0
            self._asked_ms = None

    def _is_reset_for(self, ms: int, now_ms: int) -> bool:
        return self._reset_ms is not None and now_ms - self._reset_ms >= ms

    def is_healthy(self, now_ms: int) -> bool:
        """Heard oneself within the silence, and it hears this node."""
        return (
            self._resigned_ms is None
            and now_ms - self.heard_ms < self._config.silence_ms
            and not self._is_reset_for(self._config.reset_silence_ms, now_ms)
            and not self.is_deaf(now_ms)
        )

    def is_fresh(self, now_ms: int) -> bool:
        """Healthy beyond doubt: worth an objection."""
        return (
            self.is_healthy(now_ms)
            and now_ms - self.heard_ms < self._config.fresh_ms
            and not self._is_reset_for(self._config.reset_grace_ms, now_ms)
        )

    def silent_at_ms(self) -> int:
        """The instant from which this reign counts as silent."""
        if self._resigned_ms is not None:
            return self._resigned_ms + self._config.grant_hold_ms
        silent_ms = max(self.heard_ms, self._vouched_ms) + self._config.silence_ms
        if self._reset_ms is not None:
            silent_ms = min(silent_ms, self._reset_ms + self._config.reset_silence_ms)
        if self._unlisted_since_ms is None:
            return silent_ms
        return min(silent_ms, self._unlisted_since_ms + self._config.unlisted_ms)

    def ask_at_ms(self) -> int | None:
        """When to ask helpers; None: asked since the last sign of life, or nothing to ask."""
        if self._resigned_ms is not None:
            return None
        if self._reset_ms is not None and self._reset_asks < RESET_ASKS_MAX:
            return self._reset_ms + self._reset_asks * self._config.reset_ask_ms
        if self._asked_ms is not None:
            return None
        return max(self.heard_ms, self._vouched_ms) + self._config.ask_after_ms

    def ask(self, now_ms: int) -> int:
        """The number of a new question; after a reset several are open at a time."""
        self._reset_asks += self._reset_ms is not None
        if self._asked_ms is None:
            self._open.clear()
            self._asked_ms = now_ms
        self._question += 1
        self._open[self._question] = now_ms
        if len(self._open) > OPEN_MAX:
            del self._open[min(self._open)]
        return self._question

    def vouch(self, question: int, age_ms: int) -> bool:
        """A helper heard it so long ago itself; False: no answer to the open question."""
        if self._asked_ms is None or question not in self._open:
            return False
        self.believe(self._open[question] - age_ms)
        return True

    def believe(self, moment_ms: int) -> None:
        """Somebody received a heartbeat itself at that moment. Later asks are due again."""
        if self._reset_ms is not None and moment_ms >= self._reset_ms:
            self._reset_ms = None
        if moment_ms > self._vouched_ms:
            self._vouched_ms = moment_ms
            if moment_ms > self.heard_ms and self._reset_ms is None:
                self._asked_ms = None

    def excuse(self) -> None:
        """Others hear a coordinator that does not list this node: it has another second."""
        self._unlisted_since_ms = None
