"""Nodes that refused a job lately: they are not asked again at once, but ever more rarely.

A refusal costs a job no retry: it is its node's fault, and most of them pass. Those that do not
pass come to an end all the same. What one node refuses while it is left alone counts once (an
array is refused many times in one moment); after IN_A_ROW_MAX times in a row, about eight minutes,
a node is taken at its word. A task that it refuses then, when every other node that could take it
has come as far, is given up. A node that runs one task of the job begins anew, and so does every
new reign: it has heard no refusal yet.
"""

from collections.abc import Iterable

from rain.model import JobId, NodeId, Value

REFUSALS_MAX = 10_000
"""(job, node) pairs remembered; beyond it the oldest is forgotten and may be asked too early."""
IN_A_ROW_MAX = 20


class RefusalsConfig(Value, frozen=True):
    delay_ms: int = 1_000
    delay_ms_max: int = 30_000


class _Row(Value, frozen=True):
    """What one node says to one job."""

    until_ms: int = 0
    delay_ms: int = 0
    times: int = 0
    """In a row, those that pass by themselves not counted."""


class Refusals:
    """How long each node is left alone with a job."""

    def __init__(self, config: RefusalsConfig) -> None:
        self._config = config
        self._rows: dict[tuple[JobId, NodeId], _Row] = {}
        self._wake_ms: int | None = None

    def note(
        self, job_id: JobId, node_id: NodeId, now_ms: int, *, is_passing: bool = False
    ) -> None:
        """It refused: twice as long as the last time."""
        row = self._rows.pop((job_id, node_id), _Row())
        if now_ms >= row.until_ms:
            config = self._config
            delay_ms = min(config.delay_ms_max, max(config.delay_ms, 2 * row.delay_ms))
            times = row.times if is_passing else min(row.times + 1, IN_A_ROW_MAX)
            row = _Row(now_ms + delay_ms, delay_ms, times)
        self._rows[(job_id, node_id)] = row
        if len(self._rows) > REFUSALS_MAX:
            del self._rows[next(iter(self._rows))]
        if self._wake_ms is None or row.until_ms < self._wake_ms:
            self._wake_ms = row.until_ms

    def is_for_good(self, job_id: JobId, node_id: NodeId, able: Iterable[NodeId]) -> bool:
        """It refuses once more: have it and all others that are able refused often enough?"""
        rows = [self._rows.get((job_id, each)) for each in (node_id, *able)]
        return all(row is not None and row.times >= IN_A_ROW_MAX for row in rows)

    def forgive(self, job_id: JobId, node_id: NodeId) -> None:
        """It runs one: it does not refuse any more."""
        self._rows.pop((job_id, node_id), None)

    def backing_off(self, job_id: JobId, now_ms: int) -> tuple[NodeId, ...]:
        """Nodes not to be asked for this job now, sorted."""
        return tuple(
            sorted(
                node_id
                for (refused, node_id), row in self._rows.items()
                if refused == job_id and now_ms < row.until_ms
            )
        )

    def release(self, now_ms: int) -> bool:
        """May somebody be asked again that might not a moment ago?"""
        if self._wake_ms is None or now_ms < self._wake_ms:
            return False
        later = [row.until_ms for row in self._rows.values() if row.until_ms > now_ms]
        self._wake_ms = min(later, default=None)
        return True

    def next_release_ms(self) -> int | None:
        return self._wake_ms

    def clear(self) -> None:
        self._rows.clear()
        self._wake_ms = None
