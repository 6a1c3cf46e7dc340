import pytest

from rain.model import End, EndState, Stage
from rain.sched.messages import Cell
from rain.sched.states import TaskState, exit_code, job_state, task_state
from tests.sched.samples import make_attempt, make_job, over, running

ATTEMPT = make_attempt(make_job())


def _counts(**tasks: int) -> list[int]:
    return [tasks.get(state.name, 0) for state in TaskState]


@pytest.mark.parametrize(
    ("stage", "state"),
    [
        (Stage.PLACED, TaskState.STARTING),
        (Stage.STARTING, TaskState.STARTING),
        (Stage.RUNNING, TaskState.RUNNING),
        (Stage.ENDED, TaskState.PENDING),
    ],
)
def test_an_open_task_is_as_far_as_its_attempt(stage: Stage, state: TaskState) -> None:
    assert task_state(Cell(), None, 0) is TaskState.PENDING
    assert task_state(running(ATTEMPT, stage), None, 0) is state
    assert task_state(running(ATTEMPT, stage), None, 1) is TaskState.CANCELLED


@pytest.mark.parametrize(
    ("end", "state", "code"),
    [
        (End(EndState.FAILED, 3), TaskState.FAILED, 3),
        (End(EndState.FAILED, -1, "no such image"), TaskState.FAILED, 125),
        (End(EndState.TIMEOUT, 137), TaskState.TIMEOUT, 124),
        (End(EndState.OUT_OF_MEMORY, 1), TaskState.OUT_OF_MEMORY, 137),
        (End(EndState.CANCELLED, 143), TaskState.CANCELLED, 137),
        (End(EndState.LOST), TaskState.ABORTED, 125),
        (End(EndState.REFUSED), TaskState.ABORTED, 125),
        (None, TaskState.ABORTED, 125),
    ],
)
def test_a_final_task_is_what_its_attempt_came_to(
    end: End | None, state: TaskState, code: int
) -> None:
    cell = over(ATTEMPT, success=False)
    assert task_state(cell, end, 0) is state
    assert task_state(cell, end, 1) is state, "what was over is not cancelled"
    assert exit_code(state, end) == code


def test_a_success_is_a_success_whatever_else() -> None:
    assert task_state(over(ATTEMPT), None, 9) is TaskState.SUCCEEDED
    assert exit_code(TaskState.SUCCEEDED, None) == 0
    assert exit_code(TaskState.RUNNING, None) is None


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        (_counts(PENDING=9, STARTING=1, RUNNING=1, FAILED=1), "RUNNING"),
        (_counts(PENDING=9, STARTING=1, CANCELLED=1), "STARTING"),
        (_counts(PENDING=1, SUCCEEDED=9), "PENDING"),
        (_counts(SUCCEEDED=9), "SUCCEEDED"),
        (_counts(SUCCEEDED=9, ABORTED=1), "ABORTED"),
        (_counts(ABORTED=1, OUT_OF_MEMORY=1), "OUT_OF_MEMORY"),
        (_counts(OUT_OF_MEMORY=1, TIMEOUT=1), "TIMEOUT"),
        (_counts(SUCCEEDED=9, TIMEOUT=8, FAILED=1), "FAILED"),
        (_counts(SUCCEEDED=9, FAILED=8, CANCELLED=1), "CANCELLED"),
    ],
)
def test_a_job_is_the_furthest_that_is_open_or_the_gravest_end(
    counts: list[int], state: str
) -> None:
    assert job_state(counts).name == state
