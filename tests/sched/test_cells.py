"""The orders of cells and ends: total, and a join also with the cap."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rain.model import (
    CRASH_LIMIT_MAX,
    ENDS_PER_TASK_MAX,
    RETRIES_MAX,
    AttemptId,
    End,
    EndState,
    Stage,
)
from rain.sched.cells import (
    UNDECIDED,
    cell_key,
    crashes,
    end_key,
    entry_key,
    is_active,
    is_conclusion,
    is_crash,
    is_sound,
    join_cells,
    join_ends,
)
from rain.sched.messages import AttemptEnd, Cell
from tests.sched.samples import (
    BERT,
    FIRST,
    JOBS,
    RIVAL,
    SECOND,
    cells,
    ends,
    make_attempt,
    over,
    running,
)

JOB = JOBS[0]
CELLS = cells(JOB.job_id, 0)
CRASHED = End(EndState.LOST, crashed=True)

Entries = tuple[AttemptEnd, ...]


def _entry(index: int, state: EndState, code: int = 0) -> AttemptEnd:
    crashed = state is EndState.LOST and code == 1
    return AttemptEnd(make_attempt(JOB, 0, index), End(state, code, crashed=crashed))


@st.composite
def crowds(draw: st.DrawFn) -> Entries:
    """Ends of up to 60 attempts, so that two crowds together exceed the cap."""
    states = list(EndState)
    drawn = draw(st.dictionaries(st.integers(1, 60), st.integers(0, 13), min_size=15))
    return tuple(_entry(index, states[code % 7], code // 7) for index, code in drawn.items())


def test_the_order_of_cells_goes_field_by_field() -> None:
    """Each line beats the one before by a more significant field, whatever the others say."""
    attempt_id = make_attempt(JOB)
    ladder = [
        UNDECIDED,
        Cell(turn=9, stage=Stage.ENDED),
        Cell(epoch=FIRST, turn=1, stage=Stage.PENDING),
        running(attempt_id, Stage.PLACED),
        running(attempt_id, Stage.STARTING),
        running(attempt_id, Stage.RUNNING),
        Cell(epoch=FIRST, turn=2),
        Cell(epoch=RIVAL, turn=1),
        Cell(epoch=SECOND, turn=0),
        Cell(final=True, epoch=FIRST, turn=1, stage=Stage.ENDED, attempt_id=attempt_id),
        Cell(generation=2),
        over(attempt_id),
        replace(over(attempt_id), epoch=SECOND),
        replace(over(attempt_id), generation=2),
    ]
    for smaller, larger in pairwise(ladder):
        assert cell_key(smaller) < cell_key(larger), (smaller, larger)
        assert join_cells(smaller, larger) == join_cells(larger, smaller) == larger


@given(CELLS, CELLS)
def test_the_order_of_cells_is_total(one: Cell, other: Cell) -> None:
    assert (cell_key(one) == cell_key(other)) == (one == other)


@given(CELLS, CELLS, CELLS)
def test_joining_cells_is_a_join(a: Cell, b: Cell, c: Cell) -> None:
    assert join_cells(a, a) == a
    assert join_cells(a, b) == join_cells(b, a)
    assert join_cells(join_cells(a, b), c) == join_cells(a, join_cells(b, c))


@given(CELLS, CELLS)
def test_only_a_success_is_larger_than_a_success(one: Cell, other: Cell) -> None:
    assert join_cells(one, other).success == (one.success or other.success)


def test_what_a_cell_must_name() -> None:
    attempt_id = make_attempt(JOB, 2)
    assert is_sound(UNDECIDED, JOB.job_id, 0, 9)
    assert is_sound(running(attempt_id), JOB.job_id, 2, 2)
    assert not is_sound(running(attempt_id), JOB.job_id, 1, 1), "the attempt of another task"
    assert not is_sound(running(attempt_id), JOB.job_id, 2, 3), "one attempt for two tasks"
    assert not is_sound(running(attempt_id), JOBS[1].job_id, 2, 2), "the attempt of another job"
    assert not is_sound(Cell(generation=0), JOB.job_id, 0, 0), "generations count from 1"
    assert not is_sound(Cell(success=True), JOB.job_id, 0, 0), "a success of nobody"
    assert not is_sound(Cell(stage=Stage.RUNNING), JOB.job_id, 0, 0), "nobody runs it"


@pytest.mark.parametrize("stage", list(Stage))
def test_an_attempt_is_active_from_its_placement_to_its_end(stage: Stage) -> None:
    cell = running(make_attempt(JOB), stage)
    assert is_active(cell) == (stage in {Stage.PLACED, Stage.STARTING, Stage.RUNNING})
    assert not is_active(replace(cell, final=True))


def test_the_worker_s_word_beats_a_conclusion_and_success_beats_all() -> None:
    below, above = ["LOST", "REFUSED", "CANCELLED"], ["TIMEOUT", "OUT_OF_MEMORY", "FAILED"]
    ladder = [End(EndState(state)) for state in below]
    ladder += [CRASHED, *(End(EndState(state)) for state in (*above, "SUCCEEDED"))]
    keys = [end_key(end) for end in ladder]
    assert keys == sorted(keys)
    assert sorted(EndState) == sorted({end.state for end in ladder})


def test_a_crash_is_the_word_of_a_worker_and_a_loss_alone_is_none() -> None:
    assert [is_crash(CRASHED), is_conclusion(CRASHED)] == [True, False]
    lost, failed = End(EndState.LOST), End(EndState.FAILED, 3, crashed=True)
    assert [is_crash(lost), is_conclusion(lost)] == [False, True]
    assert [is_crash(failed), is_conclusion(failed)] == [False, False]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 99), st.booleans()), max_size=99), st.integers(1, 98))
def test_the_cap_never_hides_what_a_task_is_given_up_for(
    drawn: list[tuple[int, bool]], cut: int
) -> None:
    """E17: whoever has joined what, of failures and crashes enough are left to reach the limits."""
    told = {
        number: CRASHED if is_crashed else End(EndState.FAILED, 3) for number, is_crashed in drawn
    }
    entries = [AttemptEnd(make_attempt(JOB, 0, number), end) for number, end in told.items()]
    lost = [
        AttemptEnd(make_attempt(JOB, 0, number), End(EndState.REFUSED))
        for number in range(100, 150)
    ]
    kept = [entry.end for entry in join_ends(join_ends(entries[:cut], lost), entries[cut:])]

    def failures(ends: Iterable[End]) -> int:
        return sum(end.state is EndState.FAILED for end in ends)

    is_given_up = crashes(kept) >= CRASH_LIMIT_MAX or failures(kept) > RETRIES_MAX
    if not is_given_up:
        assert crashes(kept) == crashes(told.values())
        assert failures(kept) == failures(told.values())


@given(ends(), ends())
def test_the_order_of_ends_is_total_and_that_of_entries_agrees(one: End, other: End) -> None:
    attempt_id = make_attempt(JOB)
    keys = [entry_key(AttemptEnd(attempt_id, end)) for end in (one, other)]
    assert (end_key(one) == end_key(other)) == (one == other)
    assert (keys[0] < keys[1]) == (end_key(one) < end_key(other))


@settings(max_examples=40, deadline=None)
@given(crowds(), crowds(), crowds())
def test_joining_ends_is_a_join_with_the_cap(a: Entries, b: Entries, c: Entries) -> None:
    a, b, c = join_ends((), a), join_ends((), b), join_ends((), c)
    assert join_ends(a, a) == a
    assert join_ends(a, b) == join_ends(b, a)
    assert join_ends(join_ends(a, b), c) == join_ends(a, join_ends(b, c))
    assert len(join_ends(join_ends(a, b), c)) <= ENDS_PER_TASK_MAX


@settings(max_examples=40, deadline=None)
@given(st.lists(crowds(), min_size=1, max_size=4))
def test_capping_early_or_late_keeps_the_same(all_crowds: list[Entries]) -> None:
    """Given the largest end of each attempt, those that stay are the largest of these."""
    largest: dict[AttemptId, End] = {}
    kept: Entries = ()
    for crowd in all_crowds:
        kept = join_ends(kept, crowd)
        for attempt_id, end in ((entry.attempt_id, entry.end) for entry in crowd):
            known = largest.get(attempt_id, end)
            largest[attempt_id] = max(known, end, key=end_key)
    entries = [AttemptEnd(attempt_id, end) for attempt_id, end in largest.items()]
    expected = sorted(entries, key=entry_key)[-ENDS_PER_TASK_MAX:]
    assert sorted(kept, key=entry_key) == expected


def test_the_cap_keeps_failures_and_the_newest() -> None:
    failures = tuple(_entry(number, EndState.FAILED, 1) for number in range(1, 22))
    losses = tuple(_entry(number, EndState.LOST) for number in range(22, 100))
    kept = join_ends(failures, losses)
    assert [entry.attempt_id.number for entry in kept] == [*range(1, 22), *range(89, 100)]


def test_ends_are_in_order_of_attempt() -> None:
    one = _entry(1, EndState.LOST)
    other = AttemptEnd(make_attempt(JOB, 0, 1, node=BERT), End(EndState.FAILED))
    assert join_ends((other,), (one,)) == (one, other) == join_ends((one,), (other,))
