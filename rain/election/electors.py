"""Whose word counts: members and admins, by their certificates.

A worker follows and nothing else. So does who is not admitted, as far as this node knows. Roles
come with the notices of trust, which keeps them on disk and tells them all at every start.
"""

from collections.abc import Iterable

from rain.model import NodeId, Role


class Electors:
    """The roles of the admitted: as many as the roll names, which trust bounds."""

    def __init__(self) -> None:
        self._roles: dict[NodeId, Role] = {}

    def admit(self, node_id: NodeId, role: Role) -> bool:
        """True if its word counts from now on, or counts no more."""
        counted = self.is_elector(node_id)
        self._roles[node_id] = role
        return counted != self.is_elector(node_id)

    def bar(self, node_id: NodeId) -> None:
        self._roles.pop(node_id, None)

    def is_admitted(self, node_id: NodeId) -> bool:
        return node_id in self._roles

    def is_elector(self, node_id: NodeId) -> bool:
        return self._roles.get(node_id, Role.WORKER) >= Role.MEMBER

    def among(self, node_ids: Iterable[NodeId]) -> tuple[NodeId, ...]:
        """Those whose word counts, in the same order."""
        return tuple(node_id for node_id in node_ids if self.is_elector(node_id))
