"""One suspicion: who accuses, and until when the suspect may refute.

A single accuser may itself be the sick one, so its word alone waits long; every further accuser
shortens the time (Lifeguard). Where so few members are left that nobody could confirm, the
accuser's own health decides: a sound one waits the minimum, a doubtful one the maximum.
"""

import math
from dataclasses import dataclass

from rain.model import NodeId

CONFIRMATIONS_WANTED = 2
SECOND_HAND_MS = 100
"""Who only heard of the accusation waits longer, so that the accuser's verdict arrives first."""


@dataclass(slots=True)
class Suspicion:
    started_ms: int
    minimum_ms: int
    maximum_ms: int
    accusers: tuple[NodeId, ...]
    confirmations_wanted: int = CONFIRMATIONS_WANTED
    first_hand: bool = False
    not_before_ms: int = 0
    """Set while this node is too sick to judge."""

    def confirm(self, accuser: NodeId) -> bool:
        """True if that is another accuser, and one more is of use."""
        if accuser in self.accusers or len(self.accusers) > self.confirmations_wanted:
            return False
        self.accusers += (accuser,)
        return True

    def timeout_ms(self) -> int:
        if not self.confirmations_wanted:
            return self.minimum_ms
        confirmations = len(self.accusers) - 1
        share = math.log(confirmations + 1) / math.log(self.confirmations_wanted + 1)
        shortened_ms = int(self.maximum_ms - (self.maximum_ms - self.minimum_ms) * share)
        return max(self.minimum_ms, shortened_ms)

    def deadline_ms(self) -> int:
        extra_ms = 0 if self.first_hand else SECOND_HAND_MS
        return max(self.not_before_ms, self.started_ms + self.timeout_ms() + extra_ms)

    def check(self) -> None:
        assert 1 <= len(self.accusers) <= self.confirmations_wanted + 1, "G5: accusers bounded"
        assert self.minimum_ms <= self.timeout_ms() <= self.maximum_ms, "G5: timeout in bounds"


def confirmations_possible(members: int) -> int:
    """How many to wait for in a pool of so many: none where nobody could give them."""
    return CONFIRMATIONS_WANTED if members - 2 >= CONFIRMATIONS_WANTED else 0
