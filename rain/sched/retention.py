"""Jobs that are over are forgotten in time, so that a year of jobs stays small.

The coordinator decides it. A job that is over, of which nothing runs and nothing waits to be made
safe, is forgotten when it is too old (`kept_ms`), or when there are too many newer ones
(`jobs_kept`) or too large ones (`tasks_kept`; the one that crosses this bound stays, so that no job
is too large to be seen when it is over): the number bounds what a table costs whatever the clocks
say, and if none is believed. Its tombstone remains, for `tombstone_days`, and of tombstones no more
than `tombstones_kept`; beyond that the horizon rises (tombstones.py).

Clocks. The age counts by the calendar (calendar.py), and no further than the newest job in the
table has come: a coordinator whose clock is ahead forgets nothing that the pool's own jobs have
not aged. The newest `jobs_spared` are never too old. Where no clock is believed nothing is too old.
No further goes the day of a tombstone, nor the day from which the horizon is counted: tombstones
of a pool without new jobs last longer. Where no clock is believed a tombstone carries the day on
which its job was over. It never carries a day before the horizon, or it would be void.

One round looks at all jobs, some at a time, every `round_ms`; then what is doomed goes, some at a
time. Nobody waits for it.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable

from rain.effects import Output
from rain.model import JobId, Value
from rain.sched.calendar import DAY_MS, Calendar, CalendarConfig
from rain.sched.ledger import Ledger
from rain.sched.messages import HORIZON, JobPatch

SCANNED_MAX = 500
"""Jobs looked at after one event: two milliseconds."""
FORGOTTEN_MAX = 100
"""Jobs forgotten after one event."""
PAUSE_MS = 20


class RetentionConfig(Value, frozen=True):
    jobs_kept: int = 10_000
    """Jobs that are over; those that are not are always kept."""
    tasks_kept: int = 50_000
    """Tasks of these jobs, all together, without the oldest: some 0.8 kB of memory each."""
    kept_ms: int = 30 * DAY_MS
    jobs_spared: int = 100
    """The newest ones are forgotten for their number at most, never for their age."""
    tombstone_days: int = 365
    tombstones_kept: int = 100_000
    round_ms: int = 60_000
    calendar: CalendarConfig = CalendarConfig()


class Retention:
    """The coordinator's part; idle while another one reigns."""

    def __init__(
        self,
        config: RetentionConfig,
        ledger: Ledger,
        calendar: Calendar,
        concerned: Callable[[], set[JobId]],
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._table = ledger.table
        self._calendar = calendar
        self._concerned = concerned
        """Jobs of which this reign still waits for something."""
        self._due_ms: int | None = None
        self._next_id = JobId("")
        self._found: list[tuple[int, JobId, int]] = []
        """Of this round: when it was over, which job, how many tasks."""
        self._newest_ms = 0
        self._doomed: deque[tuple[JobId, int]] = deque()
        """And the day for its tombstone."""

    def begin(self, now_ms: int) -> None:
        """This node reigns. Others' clocks need as long as its own to be believed."""
        self.end()
        self._due_ms = now_ms + self._config.calendar.steady_ms + self._config.round_ms

    def end(self) -> None:
        self._due_ms = None
        self._start_over()

    def next_deadline_ms(self) -> int | None:
        return self._due_ms

    def advance(self, now_ms: int) -> list[Output]:
        """Look at some more, or forget some more, if it is time."""
        if self._due_ms is None or now_ms < self._due_ms:
            return []
        unix_ms = self._calendar.believed_unix_ms(now_ms)
        outputs: list[Output] = []
        if self._doomed:
            outputs = self._forget_some()
        elif self._scan():
            today_ms = None if unix_ms is None else min(unix_ms, self._newest_ms)
            self._doomed.extend(self._choose(today_ms))
            self._start_over(keep_doomed=True)
            outputs = self._raise_horizon((today_ms or 0) // DAY_MS)
        is_done = not self._doomed and not self._next_id
        self._due_ms = now_ms + (self._config.round_ms if is_done else PAUSE_MS)
        return outputs

    # --- Inside ----------------------------------------------------------------------------------

    def _start_over(self, *, keep_doomed: bool = False) -> None:
        self._next_id = JobId("")
        self._found.clear()
        self._newest_ms = 0
        if not keep_doomed:
            self._doomed.clear()

    def _scan(self) -> bool:
        """Look at some of the jobs. Is this round through?"""
        ids = self._table.jobs()
        start = bisect_left(ids, self._next_id)
        some = ids[start : start + SCANNED_MAX]
        for job_id in some:
            job = self._table.job(job_id)
            assert job is not None, "these are jobs"
            cancel = self._table.cancel_of(job_id)
            when_ms = max(
                job.created_unix_ms,
                self._table.finished_unix_ms(job_id),
                cancel.cancelled_unix_ms if cancel is not None else 0,
            )
            self._newest_ms = max(self._newest_ms, when_ms)
            if self._table.is_job_over(job_id):
                self._found.append((when_ms, job_id, job.spec.tasks))
        if len(some) < SCANNED_MAX:
            return True
        self._next_id = JobId(some[-1] + "\0")
        return False

    def _choose(self, today_ms: int | None) -> list[tuple[JobId, int]]:
        """Of those that are over, whose time has come; the oldest first. None: no clock counts."""
        config, newer_tasks = self._config, 0
        doomed: list[tuple[JobId, int]] = []
        for index, (when_ms, job_id, count) in enumerate(sorted(self._found, reverse=True)):
            day_ms = when_ms if today_ms is None else today_ms
            is_old = index >= config.jobs_spared and day_ms - when_ms > config.kept_ms
            is_too_much = index >= config.jobs_kept or newer_tasks >= config.tasks_kept
            newer_tasks += count
            if is_old or is_too_much:
                doomed.append((job_id, day_ms // DAY_MS))
        return doomed[::-1]

    def _forget_some(self) -> list[Output]:
        """Those of them that nothing waits for any more; the others in a later round."""
        some = [self._doomed.popleft() for _ in range(min(FORGOTTEN_MAX, len(self._doomed)))]
        first_day = max(1, self._table.tombstones.horizon)
        concerned = self._concerned()
        patches = tuple(
            JobPatch(job_id, forgotten=max(first_day, day))
            for job_id, day in some
            if self._table.is_job_over(job_id) and job_id not in concerned
        )
        return [*self._ledger.persist(self._ledger.merge(patches))]

    def _raise_horizon(self, day: int) -> list[Output]:
        """By age; and by number, but never past the day of the newest tombstones.

        Not for its own sake: something is to fall behind it.
        """
        stones, horizon = self._table.tombstones, day - self._config.tombstone_days
        days, left = stones.days(), len(stones)
        for each in days[:-1]:
            if left <= self._config.tombstones_kept:
                break
            left -= stones.count_of(each)
            horizon = max(horizon, each + 1)
        if not days or horizon <= days[0]:
            return []
        patch = JobPatch(HORIZON, forgotten=horizon)
        return [*self._ledger.persist(self._ledger.merge((patch,)))]
