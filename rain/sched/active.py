"""Which attempts are placed, starting or running on which node, by the cells of the table."""

from collections.abc import Iterator

from rain.model import AttemptId, NodeId
from rain.sched.cells import is_active
from rain.sched.messages import Cell


class ActiveAttempts:
    """Kept in step with the cells: whoever changes one says so."""

    def __init__(self) -> None:
        self._on_node: dict[NodeId, dict[AttemptId, None]] = {}

    def __contains__(self, attempt_id: AttemptId) -> bool:
        return attempt_id in self._on_node.get(attempt_id.node_id, {})

    def on(self, node_id: NodeId) -> tuple[AttemptId, ...]:
        """Sorted."""
        return tuple(sorted(self._on_node.get(node_id, {})))

    def all(self) -> Iterator[AttemptId]:
        for attempts in self._on_node.values():
            yield from attempts

    def move(self, before: Cell, after: Cell) -> None:
        """The cell of one task was that one and is this one."""
        if is_active(before) and before.attempt_id is not None:
            there = self._on_node[before.attempt_id.node_id]
            del there[before.attempt_id]
            if not there:
                del self._on_node[before.attempt_id.node_id]
        if is_active(after) and after.attempt_id is not None:
            self._on_node.setdefault(after.attempt_id.node_id, {})[after.attempt_id] = None
