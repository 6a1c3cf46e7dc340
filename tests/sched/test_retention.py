"""What is forgotten, when, and what is not; and forgotten jobs that come back with a node."""

import pytest

from rain.effects import Persist, Received, ReignChanged
from rain.model import AttemptId, Epoch, Job, JobId, JobSpec, Role, Stage
from rain.sched import retention as module
from rain.sched.calendar import DAY_MS, Calendar, CalendarConfig
from rain.sched.coordinator import CoordinatorConfig
from rain.sched.identity import signed_job
from rain.sched.ledger import Ledger
from rain.sched.messages import (
    HORIZON,
    Assign,
    AttemptReport,
    ClockReading,
    JobPatch,
    Replicate,
    Report,
)
from rain.sched.records import HorizonRow, TombstoneRow
from rain.sched.retention import Retention, RetentionConfig
from rain.sched.scheduler import SchedConfig
from tests.sched.samples import ANNA, OWNER, forgotten, id_of, job_with, key_of, make_ledger
from tests.sched.test_table import decided, job_patch
from tests.sched.wire import ADDRESS, Wire, job_of

A, B, C = id_of("a"), id_of("b"), id_of("c")
TODAY = 20_000
CALENDAR = CalendarConfig(steady_ms=0)
NONE_SPARED = RetentionConfig(jobs_spared=0, calendar=CALENDAR)


def job_of_day(day: int, tasks: int = 1) -> Job:
    spec = JobSpec(("true",), name=str(day), tasks=tasks, is_array=tasks > 1)
    return job_with(spec, day * DAY_MS)


def over(job: Job) -> list[JobPatch]:
    return [job_patch(job), *(decided(job, task) for task in range(job.spec.tasks))]


def parts(
    config: RetentionConfig, jobs: list[Job], day: int = TODAY, concerned: set[JobId] | None = None
) -> tuple[Retention, Ledger]:
    """A reign that begins at once, over jobs that are over; it is noon of that day."""
    ledger = make_ledger()
    ledger.merge(patch for job in jobs for patch in over(job))
    calendar = Calendar(config.calendar, ANNA, lambda: (ANNA,))
    calendar.tell(ANNA, day * DAY_MS + DAY_MS // 2, 0)
    retention = Retention(config, ledger, calendar, lambda: concerned or set())
    retention.begin(0)
    return retention, ledger


def after_a_round(retention: Retention) -> list[Persist]:
    """All writes of one round and what follows from it."""
    writes: list[Persist] = []
    for _ in range(100):
        now_ms = retention.next_deadline_ms()
        assert now_ms is not None
        fresh = retention.advance(now_ms)
        writes += [write for write in fresh if isinstance(write, Persist)]
        due_ms = retention.next_deadline_ms()
        assert due_ms is not None
        if due_ms - now_ms > module.PAUSE_MS:
            return writes
    raise AssertionError("a round ends")


def kept(ledger: Ledger) -> list[str]:
    jobs = [ledger.table.job(job_id) for job_id in ledger.table.jobs()]
    return sorted(job.spec.name for job in jobs if job is not None)


def test_what_is_older_than_thirty_days_is_forgotten_with_all_its_rows() -> None:
    old, new = job_of_day(TODAY - 31), job_of_day(TODAY)
    retention, ledger = parts(NONE_SPARED, [old, new])

    (write,) = after_a_round(retention)

    rows = (f"job/{old.job_id}", f"task/{old.job_id}/0")
    assert write == Persist((TombstoneRow(old.job_id, TODAY),), rows)
    assert kept(ledger) == [str(TODAY)]
    assert after_a_round(retention) == []


def test_of_too_many_the_newest_are_kept() -> None:
    config = RetentionConfig(jobs_kept=2, jobs_spared=9, calendar=CALENDAR)
    retention, ledger = parts(config, [job_of_day(TODAY - ago) for ago in (0, 3, 1, 2)])

    after_a_round(retention)

    assert kept(ledger) == [str(TODAY - 1), str(TODAY)]


def test_tasks_are_counted_too_and_the_newest_job_is_kept_however_large() -> None:
    config = RetentionConfig(tasks_kept=10, jobs_spared=9, calendar=CALENDAR)
    jobs = [job_of_day(TODAY - ago, tasks) for ago, tasks in ((2, 1), (1, 4), (0, 12))]
    retention, ledger = parts(config, jobs)

    after_a_round(retention)

    assert kept(ledger) == [str(TODAY)]


def test_the_job_that_crosses_the_bound_of_tasks_stays_and_what_is_older_goes() -> None:
    """A large array that is just over does not go because a small job was over after it."""
    config = RetentionConfig(tasks_kept=10, jobs_spared=9, calendar=CALENDAR)
    jobs = [job_of_day(TODAY - ago, tasks) for ago, tasks in ((2, 1), (1, 12), (0, 1))]
    retention, ledger = parts(config, jobs)

    after_a_round(retention)

    assert kept(ledger) == [str(TODAY - 1), str(TODAY)]


def test_the_newest_are_spared_whatever_their_age() -> None:
    config = RetentionConfig(jobs_spared=2, calendar=CALENDAR)
    jobs = [job_of_day(TODAY - ago) for ago in (0, 40, 50)]
    retention, ledger = parts(config, jobs)

    after_a_round(retention)

    assert kept(ledger) == [str(TODAY - 40), str(TODAY)]


def test_what_is_not_over_or_still_concerns_this_reign_is_kept() -> None:
    waiting, unsafe, new = (job_of_day(TODAY - ago) for ago in (99, 98, 0))
    retention, ledger = parts(NONE_SPARED, [unsafe, new], concerned={unsafe.job_id})
    ledger.merge((job_patch(waiting),))

    after_a_round(retention)

    assert len(kept(ledger)) == 3


def test_a_clock_that_is_ahead_of_all_jobs_forgets_nothing_that_they_have_not_aged() -> None:
    jobs = [job_of_day(TODAY - ago) for ago in (0, 29, 31)]
    retention, ledger = parts(NONE_SPARED, jobs, day=47_200)

    after_a_round(retention)

    assert kept(ledger) == [str(TODAY - 29), str(TODAY)]


def test_a_clock_that_is_behind_forgets_nothing() -> None:
    jobs = [job_of_day(TODAY - ago) for ago in (0, 99)]
    retention, ledger = parts(NONE_SPARED, jobs, day=1)

    after_a_round(retention)

    assert len(kept(ledger)) == 2


def test_without_a_clock_that_is_believed_nothing_is_too_old_but_too_much_goes() -> None:
    config = RetentionConfig(jobs_kept=1, jobs_spared=0)
    old = job_of_day(TODAY - 99)
    ledger = make_ledger()
    calendar = Calendar(config.calendar, ANNA, lambda: (ANNA, A))
    calendar.tell(ANNA, 47_200 * DAY_MS, 0)
    retention = Retention(config, ledger, calendar, lambda: set())
    retention.begin(0)
    ledger.merge((*over(old), forgotten(job_of_day(1), 1)))

    assert after_a_round(retention) == []
    ledger.merge(over(job_of_day(TODAY)))
    after_a_round(retention)

    assert kept(ledger) == [str(TODAY)]
    assert ledger.table.tombstones.day(old.job_id) == TODAY - 99
    assert ledger.table.tombstones.horizon == 0


def test_a_clock_that_is_ahead_of_all_jobs_moves_no_tombstone_and_no_horizon() -> None:
    old = job_of_day(TODAY - 31)
    retention, ledger = parts(NONE_SPARED, [old, job_of_day(TODAY)], day=47_200)
    ledger.merge((forgotten(job_of_day(1), TODAY - 365),))

    after_a_round(retention)

    assert ledger.table.tombstones.horizon == 0
    assert ledger.table.tombstones.days() == [TODAY - 365, TODAY]


def test_tombstones_are_forgotten_after_a_year_by_a_horizon_that_all_share() -> None:
    retention, ledger = parts(NONE_SPARED, [job_of_day(TODAY)])
    old, new = job_of_day(1), job_of_day(2)
    ledger.merge((forgotten(old, TODAY - 366), forgotten(new, TODAY - 365)))

    (write,) = after_a_round(retention)

    assert write == Persist((HorizonRow(TODAY - 365),), (f"forgotten/{old.job_id}",))
    assert ledger.table.is_forgotten(new.job_id)
    assert not ledger.table.is_forgotten(old.job_id)


def test_of_too_many_tombstones_the_oldest_days_go_but_never_the_newest() -> None:
    config = RetentionConfig(tombstones_kept=1, calendar=CALENDAR)
    retention, ledger = parts(config, [])
    days = (TODAY - 3, TODAY - 1, TODAY - 1)
    ledger.merge(forgotten(job_of_day(n), day) for n, day in enumerate(days))

    after_a_round(retention)

    assert ledger.table.tombstones.days() == [TODAY - 1]
    assert ledger.table.tombstones.horizon == TODAY - 2


def test_no_tombstone_lies_behind_the_horizon_that_another_clock_has_raised() -> None:
    old = job_of_day(TODAY - 31)
    retention, ledger = parts(NONE_SPARED, [old, job_of_day(TODAY)])
    ledger.merge((forgotten(HORIZON, TODAY + 9),))

    after_a_round(retention)

    assert ledger.table.tombstones.day(old.job_id) == TODAY + 9


def test_a_large_table_is_looked_at_and_forgotten_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCANNED_MAX", 2)
    monkeypatch.setattr(module, "FORGOTTEN_MAX", 2)
    config = RetentionConfig(jobs_kept=1, calendar=CALENDAR)
    retention, ledger = parts(config, [job_of_day(TODAY - ago) for ago in range(6)])

    writes = after_a_round(retention)

    assert [len(w.puts) for w in writes if isinstance(w.puts[0], TombstoneRow)] == [2, 2, 1]
    assert kept(ledger) == [str(TODAY)]


# --- Golden histories ----------------------------------------------------------------------------


def wire_that_keeps(jobs_kept: int) -> tuple[Wire, Epoch]:
    """Three PCs; `a` coordinates; jobs that are over are forgotten within some seconds."""
    retention = RetentionConfig(jobs_kept=jobs_kept, round_ms=1_000, calendar=CALENDAR)
    wire = Wire(
        "a", "b", "c", config=SchedConfig(coordinator=CoordinatorConfig(retention=retention))
    )
    epoch = wire.reign("a", 1)
    wire.tell_clock(TODAY * DAY_MS)
    wire.run(500)
    return wire, epoch


def signed_on(name: str, day: int) -> Job:
    """What that node submits by a clock that says so."""
    spec, key = JobSpec(("true",), "image"), key_of(name)
    return signed_job(spec, name, day * DAY_MS, b"n", OWNER, key.public_key, key.sign)


def finished(wire: Wire, job: Job) -> None:
    wire.submit("b", job)
    wire.run(300)
    for name in "abc":
        wire.exit(name, 0, 9)
    wire.run(500)


def test_a_forgotten_job_is_forgotten_everywhere_and_on_every_disk() -> None:
    wire, _ = wire_that_keeps(0)
    job = job_of("b", 3)
    finished(wire, job)

    wire.run(3_000)

    assert wire.are_equal()
    for host in wire.hosts.values():
        assert host.core.table.is_forgotten(job.job_id)
        assert [key for key in host.disk if job.job_id in key] == [f"forgotten/{job.job_id}"]


def test_the_job_that_came_back_with_a_node() -> None:
    """A returning node's old copy, on which a task still waited, brings no forgotten job back."""
    wire, _ = wire_that_keeps(0)
    job = job_of("b")
    wire.submit("b", job)
    wire.run(300)
    wire.kill("c")
    wire.bury("c")
    for name in "ab":
        wire.exit(name, 0, 9)
    wire.run(10_000)
    for name in "ab":
        wire.exit(name, 0, 9)
    wire.run(20_000)
    assert wire.hosts[A].core.table.is_forgotten(job.job_id)
    assert f"job/{job.job_id}" in wire.hosts[C].disk
    wire.hosts[C].containers.clear()
    wire.told()

    wire.restart("c", unix_ms=TODAY * DAY_MS)
    wire.run(3_000)

    assert wire.are_equal()
    assert wire.hosts[C].core.table.is_forgotten(job.job_id)
    assert not [key for key in wire.hosts[C].disk if key.startswith(("job/", "task/"))]
    assert not [line for line in wire.told() if "starts" in line]


def test_a_coordinator_that_comes_back_with_it_does_not_bring_it_back_either() -> None:
    wire, _ = wire_that_keeps(0)
    job = job_of("b")
    wire.submit("b", job)
    wire.run(300)
    wire.kill("c")
    wire.bury("c")
    wire.run(300)
    for name in "ab":
        wire.exit(name, 0, 9)
    wire.run(20_000)
    for name in "ab":
        wire.exit(name, 0, 9)
    wire.run(20_000)
    wire.hosts[C].containers.clear()
    wire.restart("c", unix_ms=TODAY * DAY_MS)
    wire.told()

    wire.reign("c", 2)
    wire.run(3_000)

    assert wire.are_equal()
    assert wire.hosts[C].core.table.is_forgotten(job.job_id)
    assert not [line for line in wire.told() if "starts" in line]


def test_only_a_decision_or_a_tombstone_stops_a_container() -> None:
    """What still runs of a forgotten job is stopped by the word of the coordinator, then let go."""
    wire, _ = wire_that_keeps(9)
    job = job_of("b")
    wire.submit("b", job)
    wire.run(300)
    runner = next(name for name, count in wire.running().items() if count)
    wire.told()

    knowing = next(name for name in "bc" if name != runner)
    stone = TombstoneRow(job.job_id, TODAY)
    wire.hosts[id_of(knowing)].disk[stone.key()] = stone
    wire.restart(knowing)
    wire.run(3_000)

    assert f"{runner} stops 0.1" in wire.told()
    assert sum(wire.running().values()) == 0
    assert wire.are_equal()
    for host in wire.hosts.values():
        assert not host.core.active_attempts()
        assert not [key for key in host.disk if key.startswith("attempt/")]


def test_an_outcome_of_a_forgotten_job_need_not_be_kept_by_its_worker() -> None:
    wire, epoch = wire_that_keeps(0)
    job = job_of("b")
    finished(wire, job)
    wire.run(3_000)
    late = AttemptId(job.job_id, 0, 9, epoch, C)
    wire.told()

    said = Report(epoch, (AttemptReport(late, Stage.RUNNING, 5),))
    wire.feed(A, Received(C, said, ADDRESS, by_stream=True))

    assert wire.told() == ["a>c Stop"]
    wire.settle()
    assert wire.told() == ["c>a Report", "a>c ReportAck"]


def test_a_holder_that_has_forgotten_a_job_answers_for_its_tombstone() -> None:
    wire, epoch = wire_that_keeps(0)
    job = job_of("b")
    finished(wire, job)
    wire.run(3_000)
    wire.told()
    wire.hosts[C].disk.clear()

    wire.feed(C, Received(A, Replicate(epoch, 99, (job_patch(job),)), ADDRESS, by_stream=True))

    assert wire.told() == ["c>a Replicated"]
    assert list(wire.hosts[C].disk) == [f"forgotten/{job.job_id}"]


def test_who_asks_again_for_a_forgotten_job_is_told_that_it_was_taken() -> None:
    wire, _ = wire_that_keeps(0)
    job = job_of("b")
    finished(wire, job)
    wire.run(3_000)
    wire.told()

    wire.submit("b", job)
    wire.run(1_000)

    assert "b answers 3" in wire.told()
    assert sum(wire.running().values()) == 0


def test_the_pc_whose_clock_said_2099() -> None:
    """The coordinator believes the middle one of the clocks that members tell, not its own."""
    retention = RetentionConfig(jobs_kept=0, round_ms=1_000, calendar=CALENDAR)
    config = SchedConfig(coordinator=CoordinatorConfig(retention=retention))
    wire = Wire("a", "b", "c", config=config)
    wire.tell_clock(47_200 * DAY_MS, "a")
    wire.tell_clock(TODAY * DAY_MS, "bc")
    wire.reign("a", 1)
    job = signed_on("b", 47_200)
    finished(wire, job)

    wire.run(3_000)

    assert wire.hosts[C].core.table.tombstones.day(job.job_id) == TODAY


def test_the_pc_with_a_wrong_clock_that_reigned_alone() -> None:
    """Cut off, with a clock of 2099 and a job of its own of that day, it forgets nothing."""
    retention = RetentionConfig(jobs_spared=0, round_ms=1_000, calendar=CALENDAR)
    config = SchedConfig(coordinator=CoordinatorConfig(retention=retention))
    wire = Wire("a", "b", "c", config=config)
    epoch = wire.reign("b", 1)
    stone, today, own = job_of("b"), signed_on("a", TODAY), signed_on("a", 47_200)
    patches = (forgotten(stone, TODAY - 9), *over(today), *over(own))
    wire.feed(A, Received(B, Replicate(epoch, 9, patches), ADDRESS, by_stream=True))
    for name in "bc":
        wire.kill(name)
        wire.bury(name)
    wire.tell_clock(47_200 * DAY_MS)

    wire.reign("a", 2)
    wire.run(5_000)

    table = wire.hosts[A].core.table
    assert table.tombstones.day(stone.job_id) == TODAY - 9
    assert table.tombstones.horizon == 0
    assert table.jobs() == tuple(sorted((today.job_id, own.job_id)))


def test_a_mere_worker_has_no_say_in_what_is_forgotten() -> None:
    wire = Wire("a", "b", "w", roles={"w": Role.WORKER})
    epoch = wire.reign("a", 1)
    wire.told()

    wire.tell_clock(TODAY * DAY_MS)

    assert wire.told() == ["b>a ClockReading"]
    forged = Received(id_of("w"), ClockReading(epoch, 1), ADDRESS, by_stream=True)
    wire.feed(A, forged)
    assert wire.hosts[A].core.dropped_by_reason()["beyond_its_role"] == 1


def test_a_clock_told_to_another_reign_counts_for_nothing() -> None:
    wire, epoch = wire_that_keeps(9)

    wire.feed(B, Received(C, ClockReading(epoch, 1), ADDRESS, by_stream=True))

    assert wire.hosts[B].core.dropped_by_reason()["clock_told_to_another_reign"] == 1


def test_a_worker_starts_nothing_of_a_job_that_it_knows_to_be_forgotten() -> None:
    """Its coordinator does not know yet; it hears of it as tables are compared."""
    wire, epoch = wire_that_keeps(9)
    job = job_of("b")
    stone = TombstoneRow(job.job_id, TODAY)
    wire.hosts[C].disk[stone.key()] = stone
    wire.hosts[C].core = wire.hosts[C].fresh(wire.now_ms)
    wire.feed(C, ReignChanged(epoch))
    for notice in wire.roll.values():
        wire.feed(C, notice)
    attempt_id = AttemptId(job.job_id, 0, 1, epoch, C)
    wire.told()

    order = Assign(epoch, wire.beat, job, (attempt_id,))
    wire.feed(C, Received(A, order, ADDRESS, by_stream=True))

    assert wire.told() == []
    assert wire.hosts[C].core.dropped_by_reason()["order_not_sound"] == 1
    assert not [key for key in wire.hosts[C].disk if key.startswith("attempt/")]
