"""A coordinator that goes of its own will names its successor, and why it goes."""

from rain.effects import Cast, Output
from rain.election.config import ElectionConfig
from rain.election.messages import Resign
from rain.election.reign import Reign
from rain.election.view import View
from rain.model import Epoch, NodeId

RESIGNS_MAX = 5
"""How often one resignation is said, for packets get lost: at 0, 25, 75, 175 and 375 ms."""


def higher_ranked(
    reign: Reign, view: View, rank: int, digest: bytes, config: ElectionConfig, now_ms: int
) -> NodeId | None:
    """To whom a settled reign passes itself on: only to a higher *configured* rank, with an equal
    table, after two minutes in which neither the reign nor the view changed (no flapping)."""
    if now_ms - max(reign.started_ms, view.changed_ms) < config.handover_after_ms:
        return None
    for node in reign.successors(view, digest, now_ms):
        is_higher = view.configured_rank(node) > rank
        if is_higher and reign.has_equal_table(node, digest) and reign.is_calm(node, now_ms):
            return node
    return None


def calmer(
    reign: Reign, view: View, digest: bytes, config: ElectionConfig, now_ms: int
) -> NodeId | None:
    """To whom a lame reign passes itself on: only to a follower that has long been calm."""
    if now_ms - reign.started_ms < config.lame_reign_ms:
        return None
    for node in reign.successors(view, digest, now_ms):
        if reign.is_calm(node, now_ms):
            return node
    return None


class Parting:
    """A reign given up, until its successor is heard or half a second is over."""

    def __init__(
        self, epoch: Epoch, successor: NodeId, config: ElectionConfig, now_ms: int
    ) -> None:
        self.epoch = epoch
        self.successor = successor
        self.until_ms = now_ms + config.resign_ms
        self._next_ms = now_ms
        self._said = 0
        self._interval_ms = config.resign_again_ms

    def next_deadline_ms(self) -> int:
        return self.until_ms if self._said >= RESIGNS_MAX else min(self.until_ms, self._next_ms)

    def say(self, view: View, now_ms: int) -> list[Output]:
        """Say it (again), when it is time."""
        if self._said >= RESIGNS_MAX or now_ms < self._next_ms:
            return []
        self._said += 1
        self._next_ms = now_ms + self._interval_ms
        self._interval_ms *= 2
        return [Cast(view.others(dead=False), Resign(self.epoch, self.successor))]
