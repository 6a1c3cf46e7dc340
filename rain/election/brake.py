"""The brake: who loses most of the world at once assumes that it is itself the one cut off."""

from collections.abc import Sequence

from rain.effects import BrakeChanged, Output
from rain.election.config import ElectionConfig
from rain.model import NodeId


def is_world_lost(me: NodeId, world: Sequence[NodeId], gone: Sequence[NodeId]) -> bool:
    """More than half of the world is gone, or exactly half with its smallest id; never of two."""
    if len(world) <= 2 or me in gone:
        return False
    if 2 * len(gone) == len(world):
        return min(world) in gone
    return 2 * len(gone) > len(world)


class Brake:
    """Of one reign. Braked for fifteen seconds at most; then the smaller world is accepted."""

    def __init__(self, node_id: NodeId, config: ElectionConfig) -> None:
        self._node_id = node_id
        self._config = config
        self._until_ms: int | None = None
        self._vanished: tuple[NodeId, ...] = ()
        self._accepted: dict[NodeId, None] = {}

    def is_braked(self) -> bool:
        return self._until_ms is not None

    def feel(self, view: Sequence[NodeId], vanished: Sequence[NodeId], now_ms: int) -> list[Output]:
        """Compare what vanished with the view; tell what changed. Workers that vanished weigh
        nothing, and are told of as well: they may be on the other side and at work."""
        self._accepted = {node: None for node in self._accepted if node in vanished}
        if self._until_ms is not None and now_ms >= self._until_ms:
            self._accepted.update(dict.fromkeys(vanished))
        world = [node for node in view if node not in self._accepted]
        lost = tuple(node for node in world if node in vanished)
        if not is_world_lost(self._node_id, world, lost):
            return self.release()
        gone = tuple(node for node in vanished if node not in self._accepted)
        if self._until_ms is None:
            self._until_ms = now_ms + self._config.brake_ms
        elif gone == self._vanished:
            return []
        self._vanished = gone
        return [BrakeChanged(braked=True, vanished=gone)]

    def release(self) -> list[Output]:
        if self._until_ms is None:
            return []
        self._until_ms = None
        self._vanished = ()
        return [BrakeChanged(braked=False, vanished=())]
