"""The epochs that a node has seen, has followed and has on disk.

A new epoch lies above every one seen, so whoever is believed about epochs moves the numbers of the
whole pool, for good. An honest pool uses up a few numbers a second at most, so no more than these
are believed, whoever names them: LEAP_MAX at once, which comes back slowly while a reign is
followed, since whoever follows is not behind, and quickly while none is: this node may have been
away while others elected very often. What is named beyond that is approached, not believed; named
again and again, it is reached.

It is one allowance for all senders. Whatever somebody uses up of it has lifted `newest` by as much,
so what is believable next depends on nobody; and as nodes that follow one reign have it alike, the
numbers of a pool rise no faster than those of one node, however many lie and whoever repeats it.
To use up the numbers takes millennia; what was lifted in a year is caught up with in hours.
"""

import random
from collections.abc import Sequence

from rain.effects import Record
from rain.election.records import EpochRecord
from rain.model import NO_EPOCH, Epoch, NodeId

NUMBER_MAX = 2**60
"""Higher numbers are never believed, so that there is always a next one to draw."""
LEAP_MAX = 1_000_000
"""How far `newest` is lifted at once."""
FORGOTTEN_MAX = 1_000
"""So many numbers an old disk may have forgotten; far less than is believed at once."""
CATCH_UP_PER_MS = LEAP_MAX // 250
"""What comes back of that while nobody is followed: four leaps a second."""
SETTLED_PER_MS = 1
"""The same while a reign is followed."""


class Epochs:
    """Three marks: newest seen, floor (highest followed or announced), durable (floor on disk)."""

    def __init__(self, node_id: NodeId, recovered: Sequence[Record]) -> None:
        self._node_id = node_id
        self.newest = NO_EPOCH
        self.floor = NO_EPOCH
        self._leap_left = LEAP_MAX
        self._leap_left_ms = 0
        for record in recovered:
            if isinstance(record, EpochRecord):
                self.newest = max(self.newest, record.newest, record.floor)
                self.floor = max(self.floor, record.floor)
        self.durable = self.floor

    def see(self, epoch: Epoch, now_ms: int, *, is_settled: bool) -> bool:
        """Remember that this epoch exists. False: it is not believed, or not yet."""
        pace = SETTLED_PER_MS if is_settled else CATCH_UP_PER_MS
        regained = max(0, now_ms - self._leap_left_ms) * pace
        self._leap_left = min(LEAP_MAX, self._leap_left + regained)
        self._leap_left_ms = now_ms
        rise = epoch.number - self.newest.number
        if rise <= 0:
            self.newest = max(self.newest, epoch)
            return True
        lifted = min(rise, self._leap_left, max(0, NUMBER_MAX - self.newest.number))
        self._leap_left -= lifted
        if lifted == rise:
            self.newest = epoch
        elif lifted:
            self.newest = Epoch(self.newest.number + lifted, NodeId(""), 0)
        return lifted == rise

    def draw(self, rng: random.Random, *, is_behind: bool = False) -> Epoch:
        """A new epoch above every one seen. Seen at once: no number is drawn twice.

        Whose disk is old has forgotten some that it saw; it leaves room for them (E14).
        """
        step = 1 + FORGOTTEN_MAX * is_behind
        epoch = Epoch(self.newest.number + step, self._node_id, rng.getrandbits(64))
        self.newest = epoch
        return epoch

    def record(self, epoch: Epoch) -> EpochRecord:
        """The record to write before `epoch` may be followed or announced."""
        return EpochRecord(max(self.newest, epoch), max(self.floor, epoch))

    def mark_durable(self, epoch: Epoch) -> None:
        self.durable = max(self.durable, epoch)

    def mark_followed(self, epoch: Epoch) -> None:
        """From now on nothing below this one is followed."""
        self.floor = max(self.floor, epoch)

    def check(self) -> None:
        assert self.floor <= self.durable, "R1: an epoch was followed before it was durable"
        assert self.durable <= self.newest, "R1: durable, yet never seen"
