"""What is left of jobs that are over and were forgotten: an id, and the day of the forgetting.

Roles. Coordinators forget (retention.py), and a tombstone keeps the job from coming back with a
node that was away. It is knowledge like all other: two of one job are joined by the later day.

The horizon. Tombstones are forgotten as well, after a year. If every node did that by its own
clock, two with different clocks would tell each other of the same stone for ever. So the horizon,
the first day whose tombstones are kept, is knowledge too: a day that only rises. Coordinators
raise it, and everybody drops what lies before it, and takes in nothing from before it, whatever
their own clocks say. With the same horizon tables are joined as ever; and since it only rises,
tables that keep telling each other are soon equal (`test_tombstones.py`).

What still comes back: knowledge of a job whose tombstone lies before the horizon. Who has not
heard of a tombstone for a year was away for longer than absence.py lets in.

Digests. Not one for each: one for each day, under an id that no job can have (`day_id`), and one
for the horizon (HORIZON). So a year of them costs 366 digests in an exchange.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable

from rain.model import JobId
from rain.sched.identity import JOB_ID_CHARS
from rain.sched.knowledge import DIGEST_BYTES, element
from rain.sched.messages import DAYS_MAX, HORIZON, NOT_A_JOB, JobDigest, JobPatch
from rain.sched.records import HorizonRow, TombstoneRow

TOMBSTONES_MAX = 200_000
"""In one table; others are dropped and counted. Coordinators keep far below that."""


def day_id(day: int) -> JobId:
    """Under which the tombstones of a day are compared and asked for."""
    return JobId(f"{NOT_A_JOB}{day:05d}")


def is_job_id(entry_id: JobId) -> bool:
    """Can a job be called so?"""
    return len(entry_id) <= JOB_ID_CHARS and entry_id < NOT_A_JOB


class Tombstones:
    """All that one node knows of, and the horizon."""

    def __init__(self) -> None:
        self.horizon = 0
        """The first day whose tombstones are kept."""
        self.digest = 0
        self._days: dict[JobId, int] = {}
        self._of_day: dict[int, dict[JobId, None]] = {}
        self._digests: dict[int, int] = {}
        self._sorted: list[int] = []
        """The days that there are any of."""

    def __len__(self) -> int:
        return len(self._days)

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._days

    def day(self, job_id: JobId) -> int:
        """When that job was forgotten; 0: it was not."""
        return self._days.get(job_id, 0)

    def count_of(self, day: int) -> int:
        return len(self._of_day.get(day, ()))

    def days(self) -> list[int]:
        """That there are any of, sorted."""
        return list(self._sorted)

    def refusal(self, job_id: JobId, day: int) -> str:
        """Why that tombstone is not taken; '' if it is."""
        if not is_job_id(job_id) or not 0 < day <= DAYS_MAX:
            return "tombstone_not_sound"
        if day < self.horizon:
            return "tombstone_behind_the_horizon"
        if job_id not in self._days and len(self._days) >= TOMBSTONES_MAX:
            return "tombstones_max"
        return ""

    def bury(self, job_id: JobId, day: int) -> bool:
        """Join one that is sound. Was it news?"""
        before = self._days.get(job_id, 0)
        if day <= before:
            return False
        if before:
            self._remove(job_id, before)
        self._days[job_id] = day
        if day not in self._of_day:
            self._of_day[day] = {}
            insort(self._sorted, day)
        self._of_day[day][job_id] = None
        self._toggle(job_id, day)
        return True

    def raise_horizon(self, day: int) -> list[JobId] | None:
        """Returns whose tombstones fell behind it; None if it was no news."""
        if not self.horizon < day <= DAYS_MAX:
            return None
        if self.horizon:
            self.digest ^= element("horizon", HORIZON, self.horizon)
        self.horizon = day
        self.digest ^= element("horizon", HORIZON, day)
        fallen = [job_id for each in self._sorted if each < day for job_id in self._of_day[each]]
        for job_id in fallen:
            self._remove(job_id, self._days.pop(job_id))
        return fallen

    def patches(self, entry_id: JobId, first: int = 0, limit: int | None = None) -> list[JobPatch]:
        """What is compared under that id, some of it if there is a limit; [] if it is nothing."""
        if entry_id == HORIZON:
            return [JobPatch(HORIZON, forgotten=self.horizon)] if self.horizon else []
        text = entry_id.removeprefix(NOT_A_JOB)
        day = int(text) if text.isascii() and text.isdecimal() else 0
        last = None if limit is None else first + limit
        return [
            JobPatch(job_id, forgotten=day)
            for job_id in sorted(self._of_day.get(day, ()))[first:last]
        ]

    def rows(self, job_id: JobId) -> list[TombstoneRow | HorizonRow]:
        """For the disk; [] where there is none, or none any more."""
        if job_id == HORIZON:
            return [HorizonRow(self.horizon)] if self.horizon else []
        day = self._days.get(job_id, 0)
        return [TombstoneRow(job_id, day)] if day else []

    def entry_digest(self, entry_id: JobId) -> int:
        if entry_id == HORIZON:
            return element("horizon", HORIZON, self.horizon) if self.horizon else 0
        text = entry_id.removeprefix(NOT_A_JOB)
        return self._digests.get(int(text), 0) if text.isascii() and text.isdecimal() else 0

    def digests(self, first: JobId, limit: int) -> list[JobDigest]:
        """Of up to `limit` entries from `first` on, sorted by their ids."""
        ids = [HORIZON] if self.horizon and first <= HORIZON else []
        start = bisect_left(self._sorted, first, key=day_id)
        ids += [day_id(day) for day in self._sorted[start : start + limit]]
        return [
            JobDigest(entry_id, self.entry_digest(entry_id).to_bytes(DIGEST_BYTES, "big"))
            for entry_id in ids[:limit]
        ]

    def forget_some(self, limit: int) -> list[JobId]:
        """As if never heard of: for who keeps no copies. [] when there are none."""
        some = list(self._days)[:limit]
        for job_id in some:
            self._remove(job_id, self._days.pop(job_id))
        return some

    def check(self) -> None:
        """Cheap: what is kept along with the days, not the digests themselves."""
        assert len(self._days) <= TOMBSTONES_MAX
        assert len(self._days) == sum(len(ids) for ids in self._of_day.values())
        assert self._sorted == sorted(self._of_day)
        assert not self._sorted or self._sorted[0] >= self.horizon
        digest = element("horizon", HORIZON, self.horizon) if self.horizon else 0
        assert self.digest == digest ^ _joined(self._digests.values())

    def _remove(self, job_id: JobId, day: int) -> None:
        """From the day; the caller sees to the job."""
        self._toggle(job_id, day)
        del self._of_day[day][job_id]
        if not self._of_day[day]:
            del self._of_day[day], self._digests[day]
            self._sorted.remove(day)

    def _toggle(self, job_id: JobId, day: int) -> None:
        digest = element("forgotten", job_id, day)
        self.digest ^= digest
        self._digests[day] = self._digests.get(day, 0) ^ digest


def _joined(digests: Iterable[int]) -> int:
    joined = 0
    for digest in digests:
        joined ^= digest
    return joined
