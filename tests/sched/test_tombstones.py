"""Jobs that were forgotten: what absorbs what, what is deleted, and tables that soon agree."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rain.effects import Record
from rain.model import JobId
from rain.sched import tombstones as tombstones_module
from rain.sched.messages import HORIZON, JobPatch, TaskPatch
from rain.sched.records import HorizonRow, JobRow, TombstoneRow, keys_of
from rain.sched.table import Table
from rain.sched.tombstones import Tombstones, day_id
from tests.sched.samples import (
    ANNA,
    JOBS,
    cancelled,
    forgotten,
    make_attempt,
    make_job,
    make_table,
    patches,
    running,
    task_patch,
)
from tests.sched.test_table import ALL, contents, decided, job_patch, table_of

LAWS = settings(max_examples=40, deadline=None)
TABLES, ROUNDS_MAX = 3, 4
DAYS = st.integers(1, 6)
STONES = st.builds(forgotten, st.sampled_from(JOBS), DAYS)
HORIZONS = st.builds(forgotten, st.just(HORIZON), DAYS)
HEARD = st.lists(st.one_of(patches(), STONES, HORIZONS), max_size=8)


# --- Laws ----------------------------------------------------------------------------------------


@LAWS
@given(st.lists(st.lists(st.one_of(patches(), STONES), max_size=6), min_size=2, max_size=2), DAYS)
def test_under_one_horizon_tables_are_joined_as_ever(heard: list[list[JobPatch]], day: int) -> None:
    a, b = heard
    horizon = forgotten(HORIZON, day)
    one, other = table_of(horizon, *a, *b), table_of(horizon, *b, *a, *b)

    assert contents(one) == contents(other)
    assert one.digest() == other.digest()
    assert one.merge(contents(other)) == ()


@LAWS
@given(st.lists(HEARD, min_size=TABLES, max_size=TABLES), st.data())
def test_tables_that_tell_each_other_soon_agree_whatever_each_believed_of_the_day(
    heard: list[list[JobPatch]], data: st.DataObject
) -> None:
    """A stone behind one node's horizon and before another's is not told to and fro for ever."""
    tables = [table_of(*each) for each in heard]
    for _ in range(ROUNDS_MAX):
        for teller, hearer in data.draw(st.permutations(_pairs())):
            tables[hearer].merge(_told(tables[teller], tables[hearer]))
            tables[hearer].check()

    assert len({table.digest() for table in tables}) == 1
    assert all(contents(table) == contents(tables[0]) for table in tables)


@LAWS
@given(st.permutations([day for day in range(1, 7)]), st.lists(DAYS, max_size=3))
def test_the_later_day_stands_and_the_horizon_drops_what_lies_before_it(
    days: list[int], horizons: list[int]
) -> None:
    stones = Tombstones()
    for day in days:
        if not stones.refusal(JOBS[0].job_id, day):
            stones.bury(JOBS[0].job_id, day)
        for horizon in horizons:
            stones.raise_horizon(horizon)
        stones.check()

    assert stones.day(JOBS[0].job_id) == 6
    assert stones.horizon == max(horizons, default=0)


def _pairs() -> list[tuple[int, int]]:
    return [(a, b) for a in range(TABLES) for b in range(TABLES) if a != b]


def _told(teller: Table, hearer: Table) -> Iterable[JobPatch]:
    """As an exchange has it: what differs, by digest."""
    return [
        patch
        for entry in teller.digests(ALL, 1_000)
        if hearer.job_digest(entry.job_id) != entry.digest
        for patch in teller.patches(entry.job_id)
    ]


# --- What a tombstone does -----------------------------------------------------------------------


def test_a_tombstone_absorbs_spec_cells_ends_and_cancel_before_and_after_it() -> None:
    job = make_job(2)
    everything = (job_patch(job), decided(job, 0), cancelled(job))
    table = table_of(*everything)

    assert table.merge((forgotten(job, 7),)) == (forgotten(job, 7),)
    assert table.merge((*everything, forgotten(job, 7), forgotten(job, 3))) == ()

    table.check()
    assert contents(table) == [forgotten(job, 7)]
    assert table.job(job.job_id) is None
    assert table.jobs() == table.known_ids() == ()
    assert table.is_forgotten(job.job_id)
    assert table.dropped == {}


def test_what_is_active_of_a_forgotten_job_is_active_no_more() -> None:
    job = make_job(1)
    attempt_id = make_attempt(job)
    table = table_of(job_patch(job), task_patch(job, 0, running(attempt_id)))
    assert table.attempts_on(ANNA) == (attempt_id,)

    table.merge((forgotten(job, 7),))

    table.check()
    assert table.attempts_on(ANNA) == ()


def test_with_the_tombstone_s_row_go_all_rows_of_its_job() -> None:
    job = make_job(2)
    table = table_of(job_patch(job), decided(job, 0), decided(job, 1), cancelled(job))

    news = table.merge((forgotten(job, 7),))

    assert table.records(news) == (TombstoneRow(job.job_id, 7),)
    assert sorted(table.take_buried(9)) == [
        f"cancel/{job.job_id}",
        f"job/{job.job_id}",
        f"task/{job.job_id}/0",
        f"task/{job.job_id}/1",
    ]
    assert table.take_buried(9) == ()


def test_rows_that_a_power_cut_left_of_a_forgotten_job_are_found_at_the_start() -> None:
    job = make_job(1)
    patch = JobPatch(job.job_id, job, tasks=(TaskPatch(0, 0, running(make_attempt(job))),))
    rows: list[Record] = [TombstoneRow(job.job_id, 7), HorizonRow(3)]
    rows += [*table_of(patch).records((patch,)), TombstoneRow(JobId("aged"), 2)]

    table = make_table(rows)

    assert contents(table) == [forgotten(HORIZON, 3), forgotten(job, 7)]
    assert sorted(table.take_buried(9)) == sorted(["forgotten/aged", *keys_of(patch)])


def test_a_row_that_is_written_anew_is_not_deleted_after_all() -> None:
    """Its tombstone fell at once, and the job came back with somebody."""
    job = make_job(1)
    table = table_of(job_patch(job), forgotten(job, 7), forgotten(HORIZON, 9))
    news = table.merge((job_patch(job),))

    assert table.records(news) == (JobRow(job),)
    assert table.take_buried(9) == (f"forgotten/{job.job_id}",)


def test_tombstones_are_compared_by_day() -> None:
    stones = [forgotten(job, day) for job, day in zip(JOBS, (7, 7, 9), strict=True)]
    table = table_of(*stones, forgotten(HORIZON, 2))

    assert [each.job_id for each in table.digests(ALL, 9)] == [HORIZON, day_id(7), day_id(9)]
    assert [each.job_id for each in table.digests(day_id(8), 9)] == [day_id(9)]
    assert [each.job_id for each in table.digests(ALL, 2)] == [HORIZON, day_id(7)]
    assert sorted(p.job_id for p in table.patches(day_id(7))) == sorted(
        job.job_id for job in JOBS[:2]
    )
    assert table.patches(day_id(8)) == []
    assert table.patch(JOBS[2].job_id) == forgotten(JOBS[2], 9)


def test_what_lies_behind_the_horizon_is_not_taken() -> None:
    a, b, c = JOBS
    table = table_of(forgotten(a, 3), forgotten(b, 5))

    assert table.merge((forgotten(HORIZON, 5),)) == (forgotten(HORIZON, 5),)
    assert table.merge((forgotten(HORIZON, 4), forgotten(c, 4))) == ()

    assert contents(table) == [forgotten(HORIZON, 5), forgotten(b, 5)]
    assert table.dropped == {"tombstone_behind_the_horizon": 1}
    assert table.take_buried(9) == (f"forgotten/{a.job_id}",)


@pytest.mark.parametrize("job_id", [JobId("~00007"), JobId("~x"), JobId("x" * 17), JobId("é")])
def test_what_no_job_can_be_called_has_neither_cells_nor_a_tombstone(job_id: JobId) -> None:
    table = make_table()

    assert table.merge((forgotten(job_id, 7), cancelled(job_id))) == ()

    assert table.dropped == {"tombstone_not_sound": 1, "job_not_authentic": 1}
    assert table.patches(job_id) == []


def test_tombstones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombstones_module, "TOMBSTONES_MAX", 2)
    table = table_of(*(forgotten(job, 7) for job in JOBS), job_patch(JOBS[2]))

    assert table.dropped == {"tombstones_max": 1}
    assert table.jobs() == (JOBS[2].job_id,)
    assert table.merge((forgotten(JOBS[0], 8),)) == (forgotten(JOBS[0], 8),), "it is known"
