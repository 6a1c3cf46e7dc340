"""Nodes that refused a job lately: they are not asked again at once, but ever more rarely."""

from rain.model import JobId, NodeId, Value

REFUSALS_MAX = 10_000
"""(job, node) pairs remembered; beyond it the oldest is forgotten and may be asked too early."""


class RefusalsConfig(Value, frozen=True):
    delay_ms: int = 1_000
    delay_ms_max: int = 30_000


class Refusals:
    """How long each node is left alone with a job."""

    def __init__(self, config: RefusalsConfig) -> None:
        self._config = config
        self._until: dict[tuple[JobId, NodeId], tuple[int, int]] = {}
        """(until when, how long that was)."""
        self._wake_ms: int | None = None

    def note(self, job_id: JobId, node_id: NodeId, now_ms: int) -> None:
        """It refused: twice as long as the last time."""
        _, last_ms = self._until.pop((job_id, node_id), (0, 0))
        delay_ms = min(self._config.delay_ms_max, max(self._config.delay_ms, 2 * last_ms))
        until_ms = now_ms + delay_ms
        self._until[(job_id, node_id)] = (until_ms, delay_ms)
        if len(self._until) > REFUSALS_MAX:
            del self._until[next(iter(self._until))]
        self._wake_ms = until_ms if self._wake_ms is None else min(self._wake_ms, until_ms)

    def forgive(self, job_id: JobId, node_id: NodeId) -> None:
        """It runs one: it does not refuse any more."""
        self._until.pop((job_id, node_id), None)

    def backing_off(self, job_id: JobId, now_ms: int) -> tuple[NodeId, ...]:
        """Nodes not to be asked for this job now, sorted."""
        return tuple(
            sorted(
                node_id
                for (refused, node_id), (until_ms, _) in self._until.items()
                if refused == job_id and now_ms < until_ms
            )
        )

    def release(self, now_ms: int) -> bool:
        """May somebody be asked again that might not a moment ago?"""
        if self._wake_ms is None or now_ms < self._wake_ms:
            return False
        later = [until_ms for until_ms, _ in self._until.values() if until_ms > now_ms]
        self._wake_ms = min(later, default=None)
        return True

    def next_release_ms(self) -> int | None:
        return self._wake_ms

    def clear(self) -> None:
        self._until.clear()
        self._wake_ms = None
