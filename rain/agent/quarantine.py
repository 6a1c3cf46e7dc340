"""What is to be seen of the job table as a whole, and of jobs set aside after a long absence."""

from collections.abc import AsyncIterator

from rain.agent.control import End, Item, Json, Verb, VerbError
from rain.agent.driver import Driver
from rain.effects import AbsenceDecided
from rain.sched.calendar import DAY_MS
from rain.sched.civil import rfc3339

DAY_CHARS = len("2026-01-31")


class Quarantine:
    """The verb, its warning, and the table's part of `rain status`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def by_name(self) -> dict[str, Verb]:
        return {"quarantine": self.quarantine}

    def table(self) -> Json:
        """Equal digests mean equal tables: so nodes are compared from outside."""
        sched = self._driver.node.sched
        return {
            "digest": sched.table.digest().hex(),
            "jobs": len(sched.table.jobs()),
            "forgotten": len(sched.table.tombstones),
            "quarantined": len(sched.absence.aside.known_ids()),
        }

    def warnings(self) -> list[str]:
        absence = self._driver.node.sched.absence
        days = absence.days()
        if days is None:
            return []
        count, since = len(absence.aside.known_ids()), _date(days[0])
        return [
            f"this PC was away since {since}, for {days[1] - days[0]} days: {count} job(s) that it "
            "knew are quarantined, shown by rain jobs -a and run by nobody. Give them back to the "
            "pool: rain quarantine release; or forget them: rain quarantine drop"
        ]

    async def quarantine(self, args: Json) -> AsyncIterator[Item | End]:
        """`do`: release, drop, or nothing: just tell."""
        sched, what = self._driver.node.sched, str(args.get("do") or "")
        days, count = sched.absence.days(), len(sched.absence.aside.known_ids())
        if what and days is None:
            hint = "see the pool's jobs: rain jobs -a"
            raise VerbError("not_found", "nothing is quarantined on this PC", hint, 5)
        if what and self._driver.disk_reason:
            reason = f"the disk here keeps nothing: {self._driver.disk_reason}"
            raise VerbError("failed", reason, "free some space on it, then try again", 1)
        if what in ("release", "drop"):
            self._driver.feed(AbsenceDecided(take_back=what == "release"))
        elif what:
            raise VerbError("usage", f"not {what!r}", "rain quarantine release | drop", 2)
        since = None if days is None else _date(days[0])
        yield End({"jobs": count, "since": since, "done": what or None})


def _date(day: int) -> str:
    return rfc3339(day * DAY_MS)[:DAY_CHARS]
