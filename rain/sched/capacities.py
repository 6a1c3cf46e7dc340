"""J3: what one reign places on a node never exceeds the most that the node has offered in it."""

from collections.abc import Collection

from rain.model import Epoch, NodeId, Resources
from rain.sched.board import Board
from rain.sched.pool import Pool
from rain.sched.table import Table


class Capacities:
    """The most that each node has offered in this reign."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._most: dict[NodeId, Resources] = {}

    def clear(self) -> None:
        self._most.clear()

    def note(self) -> None:
        """Somebody came, or offers something else."""
        for node_id, peer in self._pool.peers.items():
            known = self._most.get(node_id, Resources())
            offered = peer.facts.capacity
            self._most[node_id] = Resources(
                max(known.cpus_milli, offered.cpus_milli),
                max(known.memory_bytes, offered.memory_bytes),
            )

    def check(self, board: Board, table: Table, epochs: Collection[Epoch]) -> None:
        """By what that reign has placed."""
        for node_id, capacity in self._most.items():
            used = Resources()
            for attempt_id in board.attempts_on(node_id):
                job = table.job(attempt_id.job_id)
                if attempt_id.epoch in epochs and job is not None:
                    used = used.plus(job.spec.need)
            assert capacity.covers(used), f"J3: overbooked: {node_id}"
