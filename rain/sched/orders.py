"""Orders under way: what was assigned or stopped, repeated until the worker has said so.

An order carries the epoch of the reign and quotes its newest heartbeat, anew each time it is
sent: a worker drops what has waited too long on its way.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rain.effects import Post
from rain.model import AttemptId, End, Epoch, JobId, NodeId, Value
from rain.sched.messages import ORDERS_MAX, Assign, Cell, ReportAck, Stop
from rain.sched.pool import Pool
from rain.sched.table import Table

BLOCKED_MAX = 100_000
"""Tasks remembered that wait for a higher number; others are met again by and by."""

FORGOTTEN = "its job is over and forgotten"


class OrdersConfig(Value, frozen=True):
    assign_resend_ms: int = 1_000
    assign_ask_ms: int = 5_000
    """An attempt that is starting is asked about so often: the word that it runs may be lost."""
    stop_resend_ms: int = 1_000


@dataclass(slots=True)
class Reign:
    """This node's reign, if it has one. `epochs` are all its numbers; `epoch` is the newest."""

    epoch: Epoch | None = None
    epochs: dict[Epoch, None] = field(default_factory=dict)
    _beat: tuple[Epoch, int] | None = None
    _blocked: dict[tuple[JobId, int], None] = field(default_factory=dict)
    _later: Epoch | None = None

    def current(self) -> Epoch:
        assert self.epoch is not None, "only a coordinator decides"
        return self.epoch

    @property
    def beat(self) -> int:
        """The newest heartbeat of this reign; 0 before its first."""
        return self._beat[1] if self._beat is not None and self._beat[0] in self.epochs else 0

    def note_beat(self, epoch: Epoch, beat: int) -> None:
        # Kept past `end`: a reign that was laid down for a moment goes on with its count.
        self._beat = (epoch, beat)

    def end(self) -> None:
        self.epoch = None
        self.epochs.clear()
        self._blocked.clear()
        self._later = None

    def block(self, job_id: JobId, task: int, cell: Cell) -> None:
        """A reign of a higher number has decided on this task: it waits for a higher one still."""
        if cell.epoch is None or cell.epoch <= self.current():
            return
        self._later = cell.epoch if self._later is None else max(self._later, cell.epoch)
        if len(self._blocked) < BLOCKED_MAX:
            self._blocked[(job_id, task)] = None

    def take_later(self) -> Epoch | None:
        """The highest such reign met since this was last asked."""
        later, self._later = self._later, None
        return later

    def take_blocked(self) -> list[tuple[JobId, int]]:
        """The tasks to look at again under a higher number."""
        blocked = list(self._blocked)
        self._blocked.clear()
        return blocked


@dataclass(slots=True)
class _Assigned:
    sent_ms: int
    life: int
    """Of its worker, when it was first ordered."""
    is_heard: bool = False


class Orders:
    """At most one entry per attempt in the table that this reign placed or stops."""

    def __init__(self, config: OrdersConfig, table: Table, reign: Reign, pool: Pool) -> None:
        self._config = config
        self._table = table
        self._reign = reign
        self._pool = pool
        self._assigned: dict[AttemptId, _Assigned] = {}
        self._stopping: dict[AttemptId, tuple[int, str]] = {}
        self._due_ms: int | None = None
        """Nothing is due before: kept, not computed, since thousands may be under way."""

    def clear(self) -> None:
        self._due_ms = None
        self._assigned.clear()
        self._stopping.clear()

    def is_assigned(self, attempt_id: AttemptId) -> bool:
        """Placed by this reign, and not yet known to run."""
        return attempt_id in self._assigned

    def is_unheard(self, attempt_id: AttemptId) -> bool:
        """Placed by this reign, and its worker has not said a word about it in this life."""
        assigned = self._assigned.get(attempt_id)
        if assigned is None or assigned.is_heard:
            return False
        return assigned.life == self._pool.life(attempt_id.node_id)

    def is_stopping(self, attempt_id: AttemptId) -> bool:
        return attempt_id in self._stopping

    def assign(self, attempts: Iterable[AttemptId], now_ms: int) -> list[Post]:
        """Order these to be run, one message per job and node."""
        grouped: dict[tuple[JobId, NodeId, int], list[AttemptId]] = {}
        for attempt_id in attempts:
            job_id, node_id = attempt_id.job_id, attempt_id.node_id
            fresh = _Assigned(now_ms, self._pool.life(node_id))
            assigned = self._assigned.setdefault(attempt_id, fresh)
            assigned.sent_ms = now_ms
            self._wake(now_ms + self._config.assign_resend_ms)
            grouped.setdefault((job_id, node_id, assigned.life), []).append(attempt_id)
        posts: list[Post] = []
        for (job_id, node_id, life), batch in grouped.items():
            job = self._table.job(job_id)
            assert job is not None, "only known jobs are placed"
            for start in range(0, len(batch), ORDERS_MAX):
                piece = tuple(batch[start : start + ORDERS_MAX])
                order = Assign(self._reign.current(), self._reign.beat, job, piece, life)
                posts.append(Post(node_id, order))
        return posts

    def stop(self, attempts: Iterable[AttemptId], reason: str, now_ms: int) -> list[Post]:
        """Order these to end; such as are ending already are left at that."""
        fresh = [a for a in attempts if a not in self._stopping]
        if fresh:
            self._wake(now_ms + self._config.stop_resend_ms)
        for attempt_id in fresh:
            self._assigned.pop(attempt_id, None)
            self._stopping[attempt_id] = (now_ms, reason)
        return self._stops(fresh, reason)

    def dismiss(self, attempt_id: AttemptId, end: End | None, now_ms: int) -> list[Post]:
        """Of a job that was forgotten: what has ended need not be kept, what runs is to end."""
        if end is None:
            return self.stop([attempt_id], FORGOTTEN, now_ms)
        self.let_go(attempt_id)
        return [Post(attempt_id.node_id, ReportAck(self._reign.current(), (attempt_id,)))]

    def bury(self, job_id: JobId, live: Iterable[AttemptId], now_ms: int) -> list[Post]:
        """That job was forgotten: what runs of it, or was ordered, is to end."""
        assigned = [a for a in self._assigned if a.job_id == job_id]
        return self.stop(sorted({*live, *assigned}), FORGOTTEN, now_ms)

    def jobs(self) -> set[JobId]:
        """Of which something is being started or stopped."""
        return {attempt_id.job_id for attempt_id in (*self._assigned, *self._stopping)}

    def heard(self, attempt_id: AttemptId, *, is_running: bool) -> None:
        assigned = self._assigned.get(attempt_id)
        if assigned is None:
            return
        assigned.is_heard = True
        if is_running:
            del self._assigned[attempt_id]

    def let_go(self, attempt_id: AttemptId) -> None:
        """It has ended, or is concluded to be lost."""
        self._assigned.pop(attempt_id, None)
        self._stopping.pop(attempt_id, None)

    def let_go_of(self, node_id: NodeId, listed: Iterable[AttemptId] = ()) -> None:
        """A node is gone, or runs only what is listed: nothing else there can be stopped."""
        kept = dict.fromkeys(listed)
        for attempt_id in [a for a in self._stopping if a.node_id == node_id and a not in kept]:
            del self._stopping[attempt_id]

    def on_deadline(self, now_ms: int) -> list[Post]:
        if self._due_ms is None or now_ms < self._due_ms:
            return []
        due = [a for a, assigned in self._assigned.items() if now_ms >= self._asks_ms(assigned)]
        posts = self.assign(due, now_ms)
        again: dict[str, list[AttemptId]] = {}
        for attempt_id, (sent_ms, reason) in self._stopping.items():
            if now_ms >= sent_ms + self._config.stop_resend_ms:
                again.setdefault(reason, []).append(attempt_id)
        for reason, attempts in again.items():
            self._stopping.update(dict.fromkeys(attempts, (now_ms, reason)))
            posts += self._stops(attempts, reason)
        deadlines = [self._asks_ms(assigned) for assigned in self._assigned.values()]
        resend_ms = self._config.stop_resend_ms
        deadlines += [sent_ms + resend_ms for sent_ms, _ in self._stopping.values()]
        self._due_ms = min(deadlines, default=None)
        return posts

    def next_deadline_ms(self) -> int | None:
        return self._due_ms

    def _wake(self, due_ms: int) -> None:
        self._due_ms = due_ms if self._due_ms is None else min(self._due_ms, due_ms)

    def _asks_ms(self, assigned: _Assigned) -> int:
        config = self._config
        return assigned.sent_ms + (
            config.assign_ask_ms if assigned.is_heard else config.assign_resend_ms
        )

    def _stops(self, attempts: Iterable[AttemptId], reason: str) -> list[Post]:
        grouped: dict[NodeId, list[AttemptId]] = {}
        for attempt_id in attempts:
            grouped.setdefault(attempt_id.node_id, []).append(attempt_id)
        return [
            Post(
                node_id,
                Stop(
                    self._reign.current(),
                    self._reign.beat,
                    tuple(batch[start : start + ORDERS_MAX]),
                    reason,
                ),
            )
            for node_id, batch in grouped.items()
            for start in range(0, len(batch), ORDERS_MAX)
        ]
