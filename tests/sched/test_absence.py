"""E15: a node that was away for too long sets aside what it knows, until a person decides."""

import pytest

from rain.effects import AbsenceDecided, ClockTold, Log, Output, Persist, ReignChanged
from rain.model import Role
from rain.sched.absence import AWAY_DAYS_MAX
from rain.sched.calendar import DAY_MS, CalendarConfig
from rain.sched.messages import JobPatch
from rain.sched.records import AbsenceRow, JobRow, SeenRow, SetAsideRow
from tests.sched.samples import id_of
from tests.sched.wire import Wire, job_of

A, B, C = id_of("a"), id_of("b"), id_of("c")
GONE, BACK = 20_000, 20_000 + AWAY_DAYS_MAX + 1
IN_2000 = 10_957
STEADY_MS = CalendarConfig().steady_ms
JOB = job_of("c")


def away(from_day: int = GONE) -> Wire:
    """`c` went with a job that waited still; the pool of `a` and `b` has never heard of it."""
    wire = Wire("a", "b", "c")
    wire.reign("a", 1)
    wire.tell_clock(from_day * DAY_MS)
    wire.run(500)
    wire.kill("c")
    wire.bury("c")
    row = JobRow(JOB)
    wire.hosts[C].disk[row.key()] = row
    wire.run(500)
    wire.told()
    return wire


def back(wire: Wire, day: int = BACK) -> None:
    wire.restart("c", unix_ms=day * DAY_MS)
    wire.run(2_000)


def decided(wire: Wire, *, take_back: bool) -> list[Output]:
    outputs = wire.feed(C, AbsenceDecided(take_back))
    wire.run(2_000)
    return outputs


def test_the_node_that_came_back_after_half_a_year() -> None:
    """E15: what it knew is shown on it, runs nowhere and is told to nobody."""
    wire = away()

    back(wire)

    core = wire.hosts[C].core
    assert core.table.jobs() == ()
    assert core.absence.aside.jobs() == (JOB.job_id,)
    assert core.absence.days() == (GONE, BACK)
    assert wire.are_equal()
    assert wire.hosts[A].core.table.jobs() == ()
    assert not [line for line in wire.told() if "starts" in line]
    rows = {key for key in wire.hosts[C].disk if JOB.job_id in key}
    assert rows == {f"aside/{JOB.job_id}/0"}


def test_who_was_away_for_less_brings_everything_back() -> None:
    wire = away()

    back(wire, GONE + AWAY_DAYS_MAX)

    assert wire.hosts[C].core.absence.days() is None
    assert sum(wire.running().values()) == 1


def test_it_is_aside_at_every_start_until_somebody_decides() -> None:
    wire = away()
    back(wire)

    wire.kill("c")
    wire.bury("c")
    back(wire, BACK + 1)

    assert wire.hosts[C].core.table.jobs() == ()
    assert wire.hosts[C].core.absence.aside.jobs() == (JOB.job_id,)


def test_what_is_taken_back_runs_and_is_everybody_s() -> None:
    wire = away()
    back(wire)

    decided(wire, take_back=True)

    assert sum(wire.running().values()) == 1
    assert wire.are_equal()
    assert wire.hosts[C].core.absence.days() is None
    keys = {key for key in wire.hosts[C].disk if key.startswith(("aside", "absence"))}
    assert keys == set()
    assert f"job/{JOB.job_id}" in wire.hosts[C].disk


def test_what_is_dropped_is_gone() -> None:
    wire = away()
    back(wire)

    outputs = decided(wire, take_back=False)

    deletes = [key for write in outputs if isinstance(write, Persist) for key in write.deletes]
    assert deletes == [f"aside/{JOB.job_id}/0", "absence"]
    wire.kill("c")
    wire.bury("c")
    back(wire, BACK)
    assert wire.hosts[C].core.absence.days() is None
    assert wire.hosts[C].core.absence.aside.jobs() == ()
    assert sum(wire.running().values()) == 0


def test_a_clock_that_was_wrong_at_the_start_is_no_absence_after_all() -> None:
    wire = away()
    back(wire, 47_200)
    assert wire.hosts[C].core.table.jobs() == ()

    outputs = wire.feed(C, _clock(GONE + 1))
    wire.run(2_000)

    assert Log("absence", (("said", "the clock was wrong"),)) in outputs
    assert wire.hosts[C].core.absence.days() is None
    assert sum(wire.running().values()) == 1


def test_a_clock_that_jumps_on_a_running_node_sets_nothing_aside() -> None:
    wire = away()
    back(wire, GONE + 1)

    wire.feed(C, _clock(47_200))

    assert wire.hosts[C].core.absence.days() is None
    assert wire.hosts[C].core.table.jobs() == (JOB.job_id,)


def test_one_that_jumps_while_nobody_else_is_here_does_not_either() -> None:
    wire = Wire("c")
    row = JobRow(JOB)
    wire.hosts[C].disk[row.key()] = row
    wire.hosts[C].core = wire.hosts[C].fresh(0)
    wire.feed(C, _clock(GONE))

    wire.feed(C, _clock(47_200))

    assert wire.hosts[C].core.absence.days() is None


def test_who_has_heard_of_somebody_before_its_clock_was_told_sets_nothing_aside() -> None:
    """It has told of what it knows already."""
    wire = away()
    host = wire.hosts[C]
    host.core = host.fresh(wire.now_ms)
    wire.feed(C, ReignChanged(wire.follows[A]))

    wire.feed(C, _clock(BACK))

    assert host.core.absence.days() is None


def test_the_note_is_written_once_a_day() -> None:
    wire = Wire("a")

    def noted(unix_ms: int) -> list[Output]:
        return [o for o in wire.feed(A, _clock_of(unix_ms)) if isinstance(o, Persist)]

    assert noted(GONE * DAY_MS) == [Persist((SeenRow(GONE),))]
    assert noted(GONE * DAY_MS + 9) == []
    assert noted((GONE + 1) * DAY_MS) == [Persist((SeenRow(GONE + 1),))]


def test_the_pc_whose_battery_was_dead_for_one_start() -> None:
    """Its clock said 2000, it was switched off again, and the clock was right the next time."""
    wire = away()
    back(wire, IN_2000)
    wire.kill("c")
    wire.bury("c")

    back(wire, GONE + 1)

    assert wire.hosts[C].core.absence.days() is None
    assert wire.hosts[C].core.table.jobs() == (JOB.job_id,)


def test_an_earlier_day_is_noted_once_the_clock_has_gone_on_for_a_while() -> None:
    wire = Wire("a")
    wire.feed(A, _clock(47_200))
    early = [o for o in wire.feed(A, _clock(GONE)) if isinstance(o, Persist)]
    wire.run(STEADY_MS)

    late = wire.feed(A, _clock_of(GONE * DAY_MS + STEADY_MS))

    assert early == []
    assert [o for o in late if isinstance(o, Persist)] == [Persist((SeenRow(GONE),))]


def test_a_second_absence_adds_to_the_first() -> None:
    wire = away()
    back(wire)
    other = job_of("c", nonce=b"2")
    wire.kill("c")
    wire.bury("c")
    row = JobRow(other)
    wire.hosts[C].disk[row.key()] = row

    back(wire, BACK + AWAY_DAYS_MAX + 1)

    absence = wire.hosts[C].core.absence
    assert absence.days() == (GONE, BACK + AWAY_DAYS_MAX + 1)
    assert absence.aside.jobs() == tuple(sorted((JOB.job_id, other.job_id)))


@pytest.mark.parametrize("take_back", [True, False])
def test_to_decide_on_nothing_does_nothing(take_back: bool) -> None:
    wire = Wire("a", roles={"a": Role.ADMIN})

    assert wire.feed(A, AbsenceDecided(take_back)) == []


def test_a_power_cut_in_the_middle_leaves_each_job_in_one_place() -> None:
    """Rows go aside job by job, each in one write; the day is noted last."""
    wire = away()
    host = wire.hosts[C]
    core = host.fresh(wire.now_ms)

    writes = [o for o in core.handle(_clock(BACK), wire.now_ms) if isinstance(o, Persist)]

    moved = Persist((SetAsideRow(0, JobPatch(JOB.job_id, JOB)),), (f"job/{JOB.job_id}",))
    assert writes == [Persist((AbsenceRow(GONE, BACK),)), moved, Persist((SeenRow(BACK),))]


def _clock(day: int) -> ClockTold:
    return _clock_of(day * DAY_MS)


def _clock_of(unix_ms: int) -> ClockTold:
    return ClockTold(unix_ms)
