"""What becomes of a task: the rules by which a coordinator moves from one cell to the next.

A decision (place, adopt, give up, finish) raises the turn under the epoch of the reign, so that
(epoch, turn) names it. That an attempt has got further is no decision: the stage rises alone.

Rules. Success is final. A failure (the task's own doing) is tried again while failures do not
exceed `retries`. LOST and REFUSED are nobody's failure and are tried again; but not a task that
every node which could take it has refused for long (`is_refused_for_good`: the caller knows).
Nothing of a cancelled job is tried again. The end of an attempt that the cell does not name is
written beside it and changes nothing, unless it is the first success. A task under which PCs went
down `crash_limit` times is given up whatever its cell names: who runs it by then is spared that.
"""

from collections.abc import Mapping

from rain.model import AttemptId, End, EndState, Epoch, Job, JobId, NodeId, Stage
from rain.sched.cells import FAILURES, crashes, is_crash
from rain.sched.messages import Cell
from rain.sched.table import Table


def may_decide(cell: Cell, epoch: Epoch) -> bool:
    """Not on what is over, nor against a reign of a higher number that the table remembers."""
    return not cell.success and not cell.final and (cell.epoch is None or cell.epoch <= epoch)


def placed(cell: Cell, epoch: Epoch, attempt_id: AttemptId) -> Cell:
    return _next(cell, epoch, Stage.PLACED, attempt_id)


def adopted(cell: Cell, epoch: Epoch, attempt_id: AttemptId, stage: Stage) -> Cell:
    """It runs already: the decision is that it may. It keeps its id."""
    return _next(cell, epoch, stage, attempt_id)


def waiting(cell: Cell, epoch: Epoch) -> Cell:
    return _next(cell, epoch, Stage.PENDING, None)


def finished(cell: Cell, epoch: Epoch, attempt_id: AttemptId, *, success: bool) -> Cell:
    return Cell(success, cell.generation, True, epoch, cell.turn + 1, Stage.ENDED, attempt_id)


def birth(cell: Cell, epoch: Epoch, job_id: JobId, task: int, node_id: NodeId) -> AttemptId:
    """The attempt that is born by placing: its number is the turn of that decision."""
    return AttemptId(job_id, task, cell.turn + 1, epoch, node_id)


def after_end(
    table: Table,
    job: Job,
    attempt_id: AttemptId,
    end: End,
    epoch: Epoch,
    *,
    is_refused_for_good: bool = False,
) -> Cell | None:
    """The decision that an end calls for; None: it is only noted."""
    task = attempt_id.task
    cell = table.cell(job.job_id, task)
    assert may_decide(cell, epoch), "the caller has looked"
    if end.state is EndState.SUCCEEDED:
        return finished(cell, epoch, attempt_id, success=True)
    if cell.attempt_id != attempt_id:
        return None
    failures = table.failures(job.job_id, task)
    known = table.ends(job.job_id, task).get(attempt_id)
    if end.state in FAILURES and (known is None or known.state not in FAILURES):
        failures += 1
    is_used_up = end.state in FAILURES and failures > job.spec.retries
    if is_used_up or is_refused_for_good or table.cancelled(job.job_id):
        return finished(cell, epoch, attempt_id, success=False)
    return waiting(cell, epoch)


def given_up(cell: Cell, epoch: Epoch, ends: Mapping[AttemptId, End]) -> Cell:
    """PCs went down under it too often: the newest of those attempts is what it came to."""
    crashed = [attempt_id for attempt_id, end in ends.items() if is_crash(end)]
    newest = max(crashed, key=lambda attempt_id: (attempt_id.number, attempt_id))
    return finished(cell, epoch, newest, success=False)


def is_at_crash_limit(job: Job, ends: Mapping[AttemptId, End]) -> bool:
    """Did PCs go down under this task as often as its job lets them?"""
    limit = job.spec.crash_limit
    return 0 < limit <= crashes(ends.values())


def _next(cell: Cell, epoch: Epoch, stage: Stage, attempt_id: AttemptId | None) -> Cell:
    return Cell(False, cell.generation, False, epoch, cell.turn + 1, stage, attempt_id)
