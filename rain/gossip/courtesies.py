"""Words to nodes that are no members here: an introduction, or the news of their own death.

Who speaks and is not known would be answered at each of its packets; once a second is enough.
"""

from rain.model import NodeId

COURTESIES_MAX = 64
"""Nodes that this one remembers to have introduced itself to, or told of their death."""
COURTESY_INTERVAL_MS = 1_000


class Courtesies:
    def __init__(self) -> None:
        self._said_ms: dict[NodeId, int] = {}

    def is_due(self, node_id: NodeId, now_ms: int) -> bool:
        """Whether to address it now; if so, not again for a while."""
        last_ms = self._said_ms.pop(node_id, None)
        is_due = last_ms is None or now_ms - last_ms >= COURTESY_INTERVAL_MS
        self._said_ms[node_id] = now_ms if last_ms is None or is_due else last_ms
        if len(self._said_ms) > COURTESIES_MAX:
            del self._said_ms[next(iter(self._said_ms))]
        return is_due

    def forget(self, node_id: NodeId) -> None:
        self._said_ms.pop(node_id, None)

    def check(self) -> None:
        assert len(self._said_ms) <= COURTESIES_MAX, "G4: courtesies bounded"
