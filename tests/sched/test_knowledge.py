from rain.model import End, EndState
from rain.sched.knowledge import JobKnowledge, pack_tasks
from rain.sched.messages import NOT_CANCELLED, AttemptEnd, Cell, TaskPatch
from tests.sched.samples import make_attempt, make_cancel, make_job, over, running

JOB = make_job(4)
AGAIN = Cell(generation=2)


def _known() -> JobKnowledge:
    known = JobKnowledge(JOB.job_id)
    assert known.is_empty()
    known.learn_job(JOB)
    return known


def test_ranges_end_where_cells_differ_ends_are_known_or_a_task_is_missing() -> None:
    end = AttemptEnd(make_attempt(JOB, 3), End(EndState.LOST))
    rows = [(0, AGAIN, ()), (1, AGAIN, ()), (2, Cell(), ()), (3, Cell(), (end,)), (4, Cell(), ())]
    assert pack_tasks([*rows, (6, Cell(), ())]) == [
        TaskPatch(0, 1, AGAIN),
        TaskPatch(2, 2, Cell()),
        TaskPatch(3, 3, Cell(), (end,)),
        TaskPatch(4, 4, Cell()),
        TaskPatch(6, 6, Cell()),
    ]


def test_what_is_known_already_is_no_news() -> None:
    known = _known()
    cell, entry = over(make_attempt(JOB)), AttemptEnd(make_attempt(JOB), End(EndState.SUCCEEDED))
    assert known.learn_cell(0, cell)
    assert not known.learn_cell(0, cell)
    assert not known.learn_cell(0, running(make_attempt(JOB))), "smaller"
    assert known.learn_ends(0, (entry,)) == [entry.attempt_id]
    assert known.learn_ends(0, (entry,)) == []
    assert known.learn_cancel(make_cancel(JOB))
    assert not known.learn_cancel(make_cancel(JOB))
    known.check()


def test_of_two_cancels_the_larger_stands() -> None:
    known = _known()
    assert not known.learn_cancel(NOT_CANCELLED)
    assert known.learn_cancel(make_cancel(JOB, 1, 5))
    digest = known.digest
    assert not known.learn_cancel(make_cancel(JOB, 1, 4))
    assert known.learn_cancel(make_cancel(JOB, 1, 6))
    assert known.digest != digest
    assert known.learn_cancel(make_cancel(JOB, 2, 3))
    assert not known.learn_cancel(make_cancel(JOB, 1, 9))
    assert known.cancel() == make_cancel(JOB, 2, 3)
    known.check()


def test_a_failure_that_was_a_success_after_all_is_none() -> None:
    known = _known()
    attempt_id = make_attempt(JOB)
    for state in (EndState.FAILED, EndState.SUCCEEDED):
        known.learn_ends(0, (AttemptEnd(attempt_id, End(state)),))
    assert known.failures(0) == 0
    known.check()


def test_the_end_of_a_job_is_its_last_end() -> None:
    known = _known()
    assert known.finished_unix_ms() == 0
    for task, ended in enumerate((5, 9, 7)):
        entry = AttemptEnd(make_attempt(JOB, task), End(EndState.FAILED, 1, "", 1, ended))
        known.learn_ends(task, (entry,))
    assert known.finished_unix_ms() == 9


def test_equal_attempts_are_kept_once() -> None:
    """Freshly decoded values share nothing; a table of them would be three times as large."""
    known = _known()
    for task in (0, 1):
        known.learn_cell(task, running(make_attempt(make_job(4), task)))
    known.learn_ends(0, (AttemptEnd(make_attempt(make_job(4), 0), End(EndState.LOST)),))
    cells = [known.cell(task).attempt_id for task in (0, 1)]
    assert cells[0] is known.entries(0)[0].attempt_id
    assert cells[0] is not None
    assert cells[1] is not None
    assert cells[0].job_id is cells[1].job_id
    assert cells[0].epoch is cells[1].epoch
