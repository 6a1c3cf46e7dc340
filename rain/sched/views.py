"""Jobs as people and scripts see them: the JSON of `rain job` and `rain jobs`.

Everything is derived from the table (rules: states.py). Two things are added here. An outcome
that is not yet durable on enough disks is *unsettled* and is not told: its task and its attempt
show as RUNNING, because what is told must stay true if this PC is switched off now. And an
attempt that succeeded without being the committed one is SUPERSEDED: its side effects happened
too.

Attempts come in the order of their birth (turn, epoch), which is that of their starts without
trusting the clocks of different PCs.
"""

from collections.abc import Collection, Mapping
from typing import Any

from rain.model import AttemptId, End, EndState, Job, JobId, NodeId, Stage
from rain.sched.cells import is_active
from rain.sched.civil import rfc3339
from rain.sched.states import TaskState, exit_code, job_state
from rain.sched.table import Table

Json = dict[str, Any]
Names = Mapping[NodeId, str]
Unsettled = Collection[tuple[JobId, int]]
"""Tasks of which an outcome is not yet durable on enough disks."""

SUPERSEDED = "SUPERSEDED"


def jobs_view(
    table: Table, names: Names, unsettled: Unsettled = (), include_over: bool = True
) -> list[Json]:
    """All jobs, or those that are not over, oldest first; without their tasks."""
    by_job: dict[JobId, list[tuple[JobId, int]]] = {}
    for job_id, task in unsettled:
        by_job.setdefault(job_id, []).append((job_id, task))
    jobs = [
        job
        for job_id in table.jobs()
        if include_over or not table.is_job_over(job_id) or job_id in by_job
        if (job := table.job(job_id)) is not None
    ]
    jobs.sort(key=lambda job: (job.created_unix_ms, job.job_id))
    return [job_view(table, job.job_id, names, by_job.get(job.job_id, ())) for job in jobs]


def job_view(
    table: Table,
    job_id: JobId,
    names: Names,
    unsettled: Unsettled = (),
    with_tasks: bool = False,
) -> Json:
    """One job whose spec is known; with `task_list` where asked for."""
    job = table.job(job_id)
    assert job is not None, "only known jobs are shown"
    untold = {
        task: _untold(table, job_id, task)
        for task in sorted({task for one_id, task in unsettled if one_id == job_id})
    }
    counts = table.state_counts(job_id)
    for task, attempt_id in untold.items():
        counts[table.state(job_id, task)] -= 1
        counts[_shown_state(table, job_id, task, attempt_id)] += 1
    state = job_state(counts)
    finished_unix_ms = table.finished_unix_ms(job_id) if state.is_end else 0
    view: Json = {
        "id": job_id,
        "name": job.spec.name,
        "state": state.name,
        "exit_code": _job_exit_code(table, job_id) if state.is_end else None,
        "submitted_by": job.submitted_by,
        "tasks_total": job.spec.tasks,
        "tasks": {each.name: counts[each] for each in TaskState if counts[each]},
        "created_at": rfc3339(job.created_unix_ms),
        "finished_at": _time(finished_unix_ms),
    }
    if with_tasks:
        view["task_list"] = [
            _task_view(table, job, task, names, untold.get(task)) for task in range(job.spec.tasks)
        ]
    return view


def _untold(table: Table, job_id: JobId, task: int) -> AttemptId | None:
    """The attempt whose outcome is unsettled: what ended the task, else what ended last."""
    cell = table.cell(job_id, task)
    if (cell.success or cell.final) and cell.attempt_id is not None:
        return cell.attempt_id
    return max(table.ends(job_id, task), key=_birth, default=None)


def _shown_state(table: Table, job_id: JobId, task: int, untold: AttemptId | None) -> TaskState:
    """RUNNING where the true state would tell what became of an attempt."""
    cell, state = table.cell(job_id, task), table.state(job_id, task)
    is_telling = cell.success or cell.final or state is TaskState.PENDING
    return TaskState.RUNNING if untold is not None and is_telling else state


def _job_exit_code(table: Table, job_id: JobId) -> int | None:
    task = table.first_unsuccessful(job_id)
    if task is None:
        return 0
    return exit_code(table.state(job_id, task), _standing_end(table, job_id, task))


def _standing_end(table: Table, job_id: JobId, task: int) -> End | None:
    """The end of the attempt that the cell names."""
    attempt_id = table.cell(job_id, task).attempt_id
    return table.ends(job_id, task).get(attempt_id) if attempt_id is not None else None


def _task_view(table: Table, job: Job, task: int, names: Names, untold: AttemptId | None) -> Json:
    """A current attempt is listed while nothing is known of its end."""
    cell = table.cell(job.job_id, task)
    ends = table.ends(job.job_id, task)
    state = _shown_state(table, job.job_id, task, untold)
    standing = cell.attempt_id
    told: dict[AttemptId, End | None] = {**ends}
    if standing is not None and is_active(cell):
        told.setdefault(standing, None)
    if untold is not None:
        told[untold] = None
    return {
        "index": job.spec.array_index(task),
        "state": state.name,
        "exit_code": exit_code(state, ends.get(standing) if standing is not None else None),
        "node": _name(names, standing.node_id) if standing is not None else None,
        "attempts": [
            _attempt_view(
                each,
                told[each],
                names,
                is_running=each == untold or cell.stage is Stage.RUNNING,
                is_superseded=cell.success and each != standing,
            )
            for each in sorted(told, key=_birth)
        ],
    }


def _attempt_view(
    attempt_id: AttemptId, end: End | None, names: Names, is_running: bool, is_superseded: bool
) -> Json:
    state, code = TaskState.RUNNING.name if is_running else TaskState.STARTING.name, None
    if end is not None:
        is_other = end.state is EndState.SUCCEEDED and is_superseded
        state, code = SUPERSEDED if is_other else end.state.name, _end_code(end)
    return {
        "number": attempt_id.number,
        "node": _name(names, attempt_id.node_id),
        "state": state,
        "exit_code": code,
        "started_at": _time(end.started_unix_ms) if end is not None else None,
        "ended_at": _time(end.ended_unix_ms) if end is not None else None,
        "reason": end.reason if end is not None else "",
    }


def _end_code(end: End) -> int | None:
    """As the same end would give its task, but none where nothing ran to an end."""
    if end.state in (EndState.LOST, EndState.REFUSED):
        return None
    return exit_code(TaskState[end.state.name], end)


def _birth(attempt_id: AttemptId) -> tuple[int, AttemptId]:
    return attempt_id.number, attempt_id


def _time(unix_ms: int) -> str | None:
    """None for 0: not known."""
    return rfc3339(unix_ms) if unix_ms else None


def _name(names: Names, node_id: NodeId) -> str:
    """The id of a node whose name is not known (any more)."""
    return names.get(node_id, node_id)
