"""Hints that a node may be gone: its connection ended without a goodbye, or it refused one.

Whoever hears a hint should look at once, and believe nothing: an agent that is killed hangs up, but
so does one that starts anew, and whoever can cut a connection can make a hint.
"""

import errno
from collections.abc import Callable

from rain.mesh.frames import BrokenConnection
from rain.model import NodeId

RESETS_TOLD = 2
"""About one node in a second; more of them say nothing new."""
NODES_MAX = 1_024
"""Told of within a second; hints are lost beyond it."""

HUNG_UP = ("closed", "lost")
"""How an end without a goodbye is called."""

Gone = Callable[[NodeId], object]


class Hints:
    """Tells of each node a few times a second at most."""

    def __init__(self, tell: Gone, clock_s: Callable[[], float]) -> None:
        self._tell = tell
        self._clock_s = clock_s
        self._second = 0
        self._told: dict[NodeId, int] = {}

    def give(self, node_id: NodeId) -> None:
        """Something says that this node may be gone."""
        second = int(self._clock_s())
        if second != self._second:
            self._second = second
            self._told.clear()
        told = self._told.get(node_id, 0)
        if told >= RESETS_TOLD or len(self._told) >= NODES_MAX:
            return
        self._told[node_id] = told + 1
        self._tell(node_id)


def is_refused(error: BrokenConnection) -> bool:
    """Was a dial refused: the PC is there, but nobody listens?"""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED
