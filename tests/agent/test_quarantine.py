"""The job table as a whole, seen from outside; and jobs set aside after a long absence."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rain.agent.quarantine import Quarantine
from rain.agent.reads import Reads
from rain.agent.wall_clock import WallClock
from rain.effects import ClockTold, Record
from rain.model import JobSpec
from rain.sched.calendar import DAY_MS
from rain.sched.messages import JobPatch
from rain.sched.records import JobRow, SeenRow
from tests.agent.asking import asked, refused
from tests.agent.desk import Nowhere, OneNode

GONE, BACK = 20_000, 20_200
SPEC = JobSpec(("true",), name="old")


def left_behind(node: OneNode) -> Sequence[Record]:
    return (SeenRow(GONE), JobRow(node.job(SPEC)))


@contextlib.asynccontextmanager
async def came_back(folder: Path, day: int = BACK) -> AsyncIterator[tuple[Quarantine, OneNode]]:
    """A PC that went with one job, on that day."""
    node = OneNode(folder, on_disk=left_behind)
    node.driver.connect(Nowhere(), Nowhere())
    node.driver.feed(ClockTold(day * DAY_MS))
    yield Quarantine(node.driver), node
    await node.store.close()


async def test_it_is_warned_of_with_what_to_type(tmp_path: Path) -> None:
    async with came_back(tmp_path) as (quarantine, _):
        table, warnings = quarantine.table(), quarantine.warnings()
        told = await asked(quarantine.by_name(), "quarantine")

    assert table == {"digest": "0" * 16, "jobs": 0, "forgotten": 0, "quarantined": 1}
    assert warnings == [
        "this PC was away since 2024-10-04, for 200 days: 1 job(s) that it knew are quarantined, "
        "shown by rain jobs -a and run by nobody. Give them back to the pool: rain quarantine "
        "release; or forget them: rain quarantine drop"
    ]
    assert told == {"jobs": 1, "since": "2024-10-04", "done": None}


async def test_released_it_counts_again(tmp_path: Path) -> None:
    async with came_back(tmp_path) as (quarantine, node):
        told = await asked(quarantine.by_name(), "quarantine", do="release")
        table = node.driver.node.sched.table

        assert told["done"] == "release"
        assert table.jobs() == (node.job(SPEC).job_id,)
        assert quarantine.table()["digest"] == table.digest().hex()
        assert quarantine.warnings() == []


async def test_dropped_it_is_gone(tmp_path: Path) -> None:
    async with came_back(tmp_path) as (quarantine, node):
        await asked(quarantine.by_name(), "quarantine", do="drop")
        again = await refused(quarantine.by_name(), "quarantine", do="drop")

        assert node.driver.node.sched.table.jobs() == ()
        assert (again.code, again.exit_code) == ("not_found", 5)


async def test_it_is_listed_with_all_jobs_and_marked(tmp_path: Path) -> None:
    async with came_back(tmp_path) as (_, node):
        reads = Reads(node.driver, node.streams(), node.identity)
        (listed,) = reads._quarantined([])
        known = reads._quarantined([listed])

    assert (listed["name"], listed["state"], listed["quarantined"]) == ("old", "PENDING", True)
    assert known == [], "the pool tells of it anyway"


async def test_who_was_away_for_a_week_has_nothing_aside(tmp_path: Path) -> None:
    async with came_back(tmp_path, GONE + 7) as (quarantine, _):
        assert quarantine.table()["jobs"] == 1
        assert quarantine.warnings() == []
        assert (await refused(quarantine.by_name(), "quarantine", do="release")).exit_code == 5


async def test_a_forgotten_job_is_not_merely_unknown(tmp_path: Path) -> None:
    async with came_back(tmp_path, GONE + 7) as (_, node):
        job = node.job(SPEC)
        node.driver.node.sched.table.merge((JobPatch(job.job_id, forgotten=GONE),))
        reads = Reads(node.driver, node.streams(), node.identity)
        told = await reads._answer({"what": "job", "id": job.job_id})
        other = await reads._answer({"what": "job", "id": "nothing"})

    assert told == {"forgotten": True}
    assert other == {"error": []}


async def test_the_clock_on_the_wall_is_told(tmp_path: Path) -> None:
    async with came_back(tmp_path, GONE) as (_, node):
        WallClock(node.driver).tell()

        unix_ms = node.driver.node.sched._calendar.own_unix_ms(node.driver._last_ms)

    assert unix_ms is not None
    assert unix_ms > BACK * DAY_MS
