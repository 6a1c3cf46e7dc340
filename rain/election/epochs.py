"""The epochs that a node has seen, has followed and has on disk."""

import random
from collections.abc import Sequence

from rain.effects import Record
from rain.election.records import EpochRecord
from rain.model import NO_EPOCH, Epoch, NodeId

NUMBER_MAX = 2**60
"""Higher numbers are not believed: a peer must not be able to use the numbers up."""


class Epochs:
    """Three marks: newest seen, floor (highest followed or announced), durable (floor on disk)."""

    def __init__(self, node_id: NodeId, recovered: Sequence[Record]) -> None:
        self._node_id = node_id
        self.newest = NO_EPOCH
        self.floor = NO_EPOCH
        for record in recovered:
            if isinstance(record, EpochRecord):
                self.newest = max(self.newest, record.newest, record.floor)
                self.floor = max(self.floor, record.floor)
        self.durable = self.floor

    def see(self, epoch: Epoch) -> bool:
        """Remember that this epoch exists; False: no honest node can have such a number."""
        if epoch.number > NUMBER_MAX:
            return False
        self.newest = max(self.newest, epoch)
        return True

    def draw(self, rng: random.Random) -> Epoch:
        """A new epoch above every one seen. Seen at once: no number is drawn twice."""
        epoch = Epoch(self.newest.number + 1, self._node_id, rng.getrandbits(64))
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
