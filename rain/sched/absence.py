"""Who was away for very long brings nothing back unasked (E15).

A tombstone is kept for a year, then nobody remembers that a job was forgotten. A node that was
away for longer than AWAY_DAYS_MAX, by its own note of the last day on which it was up, may hold
such jobs, half done as they were then: they would be run once more. So at its start all that it
knows of jobs is set aside: shown, never run, in no digest, told to nobody, until the person of
this PC decides: taken back, or dropped. Meanwhile the node is a member like any other and learns
the pool's jobs anew. What a person may take for an absence may have been a clock that was wrong
when the PC was switched on: when it says otherwise later, all is taken back without asking.

The note is a row, written at most once a day. An earlier day is noted only of a clock that has gone
on for a while: a PC whose battery is dead says 2000 when it is switched on. A clock is told first
of all, before this node has heard of anybody; one that jumps later sets nothing aside.

What it does not do: stop anything. What a container here came to is reported as ever.
"""

from collections.abc import Iterable, Iterator, Sequence

from rain.effects import Log, Output, Persist, Record
from rain.model import JobId
from rain.sched.calendar import DAY_MS, Calendar
from rain.sched.ledger import Ledger, pieces_of
from rain.sched.records import AbsenceRow, SeenRow, SetAsideRow, keys_of
from rain.sched.table import Table

AWAY_DAYS_MAX = 180
JOBS_PER_WRITE = 100


class Absence:
    """The note of the last day, and what was set aside."""

    def __init__(self, recovered: Sequence[Record], ledger: Ledger, calendar: Calendar) -> None:
        seen = [record.day for record in recovered if isinstance(record, SeenRow)]
        self._ledger = ledger
        self._calendar = calendar
        self._seen_day = max(seen, default=0)
        self._is_told = False
        self._row = next((r for r in recovered if isinstance(r, AbsenceRow)), None)
        self.aside = Table((), ledger.warrants)
        """What was set aside: nothing decides on it."""
        self.aside.take_back(r.patch for r in recovered if isinstance(r, SetAsideRow))

    def days(self) -> tuple[int, int] | None:
        """From and to, in days since 1970, how long this node was away; None: nothing is aside."""
        return None if self._row is None else (self._row.from_day, self._row.to_day)

    def on_clock(self, unix_ms: int, now_ms: int, *, is_alone: bool) -> list[Output]:
        """`is_alone`: this node has not heard of anybody yet. The calendar was told before."""
        day = unix_ms // DAY_MS
        is_first, self._is_told = not self._is_told, True
        outputs: list[Output] = []
        has_jobs = bool(self._ledger.table.known_ids())
        was_away = bool(self._seen_day) and day - self._seen_day > AWAY_DAYS_MAX
        if is_first and is_alone and was_away and has_jobs:
            outputs += self._set_aside(AbsenceRow(self._seen_day, day))
        elif self._row is not None and 0 <= day - self._row.from_day <= AWAY_DAYS_MAX:
            outputs += [Log("absence", (("said", "the clock was wrong"),)), *self.take_back()]
        is_earlier = 0 < day < self._seen_day
        if day > self._seen_day or (is_earlier and self._calendar.is_own_steady(now_ms)):
            self._seen_day = day
            outputs.append(Persist((SeenRow(day),)))
        return outputs

    def take_back(self) -> list[Output]:
        """It counts again: joined with all that was learnt meanwhile."""
        outputs: list[Output] = []
        for ids in self._parts():
            news = self._ledger.take_back(self.aside.patch(job_id) for job_id in ids)
            outputs += [*self._ledger.persist(news), Persist(deletes=self._keys(ids))]
        return outputs + self._end()

    def drop(self) -> list[Output]:
        """It is gone for good, here."""
        outputs: list[Output] = [Persist(deletes=self._keys(ids)) for ids in self._parts()]
        return outputs + self._end()

    # --- Inside ----------------------------------------------------------------------------------

    def _set_aside(self, row: AbsenceRow) -> list[Output]:
        # After an earlier absence that nobody has decided on, that one goes on.
        since = row if self._row is None else AbsenceRow(self._row.from_day, row.to_day)
        self._row = since
        outputs: list[Output] = [Persist((since,))]
        ids = self._ledger.table.known_ids()
        for start in range(0, len(ids), JOBS_PER_WRITE):
            some = ids[start : start + JOBS_PER_WRITE]
            patches = [self._ledger.table.patch(job_id) for job_id in some]
            self.aside.take_back(patches)
            for job_id in some:
                self._ledger.forget(job_id)
            deletes = tuple(key for patch in patches for key in keys_of(patch))
            outputs.append(Persist(tuple(self._rows(some)), deletes))
        days = row.to_day - row.from_day
        outputs.append(Log("absence", (("days", days), ("jobs_set_aside", len(ids)))))
        return outputs

    def _end(self) -> list[Output]:
        if self._row is None:
            return []
        key, self._row = self._row.key(), None
        self.aside = Table((), self._ledger.warrants)
        return [Persist(deletes=(key,))]

    def _parts(self) -> Iterator[tuple[JobId, ...]]:
        ids = self.aside.known_ids()
        for start in range(0, len(ids), JOBS_PER_WRITE):
            yield ids[start : start + JOBS_PER_WRITE]

    def _rows(self, ids: Iterable[JobId]) -> Iterator[SetAsideRow]:
        for job_id in ids:
            for number, piece in enumerate(pieces_of(self.aside.patch(job_id))):
                yield SetAsideRow(number, piece)

    def _keys(self, ids: Iterable[JobId]) -> tuple[str, ...]:
        return tuple(row.key() for row in self._rows(ids))
