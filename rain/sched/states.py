"""What people are told a task is: derived from its cell, its ends and the cancel, never stored.

States of a job follow from those of its tasks by the order of `TaskState`: while any task is
open, the furthest open state; after that the gravest end. So a job with one running task is
RUNNING; an array that was cancelled half-way is CANCELLED even if a task had failed before; a
job is SUCCEEDED only if all of it is.

Exit codes: a task's own; 124 time limit, 137 out of memory or cancelled (both were killed), 125
when there is none because Rain itself could not run it. Of an array: that of the first task by
index that did not succeed, else 0.
"""

from collections.abc import Sequence
from enum import IntEnum

from rain.model import End, EndState, Stage
from rain.sched.messages import Cell

EXIT_TIMEOUT = 124
EXIT_RAIN_FAILED = 125
EXIT_KILLED = 137


class TaskState(IntEnum):
    """Open states by how far they are, then ends by gravity; names as in the interface."""

    PENDING = 0
    STARTING = 1
    RUNNING = 2
    SUCCEEDED = 3
    ABORTED = 4
    """Given up without an end of its own: its node was lost or refused too often."""
    OUT_OF_MEMORY = 5
    TIMEOUT = 6
    FAILED = 7
    CANCELLED = 8

    @property
    def is_end(self) -> bool:
        return self >= TaskState.SUCCEEDED


_STATE_OF_STAGE = {
    Stage.PENDING: TaskState.PENDING,
    Stage.PLACED: TaskState.STARTING,
    Stage.STARTING: TaskState.STARTING,
    Stage.RUNNING: TaskState.RUNNING,
    Stage.ENDED: TaskState.PENDING,
}
_STATE_OF_END = {
    EndState.FAILED: TaskState.FAILED,
    EndState.TIMEOUT: TaskState.TIMEOUT,
    EndState.OUT_OF_MEMORY: TaskState.OUT_OF_MEMORY,
    EndState.CANCELLED: TaskState.CANCELLED,
}


def is_over(cell: Cell, cancelled_through: int) -> bool:
    """Succeeded, final or cancelled: nothing more is started for such a task."""
    return cell.success or cell.final or cell.generation <= cancelled_through


def task_state(cell: Cell, end: End | None, cancelled_through: int) -> TaskState:
    """`end` is that of the cell's attempt. An end that is not final leaves the task PENDING."""
    if cell.success:
        return TaskState.SUCCEEDED
    if cell.final:
        state = end.state if end is not None else EndState.LOST
        return _STATE_OF_END.get(state, TaskState.ABORTED)
    if cell.generation <= cancelled_through:
        return TaskState.CANCELLED
    return _STATE_OF_STAGE[cell.stage]


def job_state(counts: Sequence[int]) -> TaskState:
    """From how many tasks are in each state, in the order of `TaskState`."""
    present = [state for state in TaskState if counts[state]]
    still_open = [state for state in present if not state.is_end]
    return max(still_open or present)


def exit_code(state: TaskState, end: End | None) -> int | None:
    """None while the task is open."""
    match state:
        case TaskState.PENDING | TaskState.STARTING | TaskState.RUNNING:
            return None
        case TaskState.SUCCEEDED:
            return 0
        case TaskState.TIMEOUT:
            return EXIT_TIMEOUT
        case TaskState.OUT_OF_MEMORY | TaskState.CANCELLED:
            return EXIT_KILLED
        case TaskState.ABORTED:
            return EXIT_RAIN_FAILED
        case TaskState.FAILED:
            return end.exit_code if end is not None and end.exit_code > 0 else EXIT_RAIN_FAILED
