"""Jobs as people and scripts see them: the JSON of `rain job` and `rain jobs`.

Everything is derived from the table (rules: states.py). Two things are added here. An outcome
that is not yet durable on enough disks is *unsettled* and is not told: its task and its attempt
show as RUNNING, because what is told must stay true if this PC is switched off now. And an
attempt that succeeded without being the committed one is SUPERSEDED: its side effects happened
too.

Attempts come in the order of their birth (turn, epoch), which is that of their starts without
trusting the clocks of different PCs.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from rain.model import AttemptId, End, EndState, Job, JobId, NodeId, Stage
from rain.sched.cells import crashes, is_active
from rain.sched.civil import rfc3339
from rain.sched.decisions import is_at_crash_limit
from rain.sched.states import TaskState, exit_code, job_state
from rain.sched.table import Table

Json = dict[str, Any]
Names = Mapping[NodeId, str]
Unsettled = Collection[AttemptId]
"""Attempts whose outcome is not yet durable on enough disks."""
Starts = Mapping[AttemptId, int]
"""When what runs was started, in ms since 1970 by the clock of the PC that runs it."""
NO_STARTS: Starts = {}

SUPERSEDED = "SUPERSEDED"
REFUSALS_TOLD_MAX = 8
"""Nodes; more reasons than that nobody reads."""
REFUSALS_TASKS_MAX = 1_000
"""Tasks looked at for refusals: the first of an array are the first to be refused."""


def jobs_view(
    table: Table, names: Names, unsettled: Unsettled = (), include_over: bool = True
) -> list[Json]:
    """All jobs, or those that are not over, oldest first; without their tasks."""
    listed = jobs_listed(table, unsettled, include_over)
    return some_jobs(table, listed, names, unsettled, include_over)


def jobs_listed(table: Table, unsettled: Unsettled, include_over: bool) -> list[JobId]:
    """Which ones that are, and perhaps some that are over in truth and may not be told of yet."""
    untold = {attempt_id.job_id for attempt_id in unsettled}
    jobs = [
        job
        for job_id in table.jobs()
        if include_over or not table.is_job_over(job_id) or job_id in untold
        if (job := table.job(job_id)) is not None
    ]
    jobs.sort(key=lambda job: (job.created_unix_ms, job.job_id))
    return [job.job_id for job in jobs]


def some_jobs(
    table: Table, job_ids: Sequence[JobId], names: Names, unsettled: Unsettled, include_over: bool
) -> list[Json]:
    """A slice of the jobs that are listed."""
    by_job: dict[JobId, list[AttemptId]] = {}
    for attempt_id in sorted(unsettled):
        by_job.setdefault(attempt_id.job_id, []).append(attempt_id)
    views = [job_view(table, job_id, names, by_job.get(job_id, ())) for job_id in job_ids]
    return [view for view in views if include_over or not TaskState[view["state"]].is_end]


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
    counts = table.state_counts(job_id)
    for task, untold in _by_task(job_id, unsettled).items():
        counts[table.state(job_id, task)] -= 1
        counts[_shown_state(table, job_id, task, untold)] += 1
    state = job_state(counts)
    view: Json = {
        "id": job_id,
        "name": job.spec.name,
        "state": state.name,
        "exit_code": _job_exit_code(table, job_id) if state.is_end else None,
        "submitted_by": job.submitted_by,
        "person": job.person,
        "need": {
            "cpus": job.spec.need.cpus_milli / 1_000,
            "memory_bytes": job.spec.need.memory_bytes,
        },
        "only_on": job.spec.node_name or None,
        "tasks_total": job.spec.tasks,
        "tasks": {each.name: counts[each] for each in TaskState if counts[each]},
        "created_at": rfc3339(job.created_unix_ms),
        "finished_at": _finished_at(table, job, counts) if state.is_end else None,
    }
    if with_tasks:
        view["task_list"] = task_list(table, job_id, names, unsettled, 0, job.spec.tasks - 1)
    return view


def task_list(
    table: Table,
    job_id: JobId,
    names: Names,
    unsettled: Unsettled,
    first: int,
    last: int,
    starts: Starts = NO_STARTS,
) -> list[Json]:
    """Tasks `first` to `last` of a job whose spec is known, as in its `task_list`."""
    job = table.job(job_id)
    assert job is not None, "only known jobs are shown"
    untold = _by_task(job_id, unsettled)
    return [
        _task_view(table, job, task, names, untold.get(task, ()), starts)
        for task in range(first, last + 1)
    ]


def refusals(table: Table, job_id: JobId, names: Names) -> dict[str, str]:
    """By name of node, why it refused a task that waits still: the last that each has said.

    Those that refused last, if there are too many.
    """
    last: dict[NodeId, tuple[int, int, str]] = {}
    decided = (task for task in table.decided_tasks(job_id) if _waits(table, job_id, task))
    for task in islice(decided, REFUSALS_TASKS_MAX):
        for attempt_id, end in table.ends(job_id, task).items():
            if end.state is EndState.REFUSED:
                said = (end.ended_unix_ms, attempt_id.number, end.reason)
                node_id = attempt_id.node_id
                last[node_id] = max(said, last.get(node_id, said))
    newest = sorted(last, key=lambda node_id: (last[node_id], node_id))[-REFUSALS_TOLD_MAX:]
    told = {_name(names, node_id): last[node_id][-1] for node_id in newest}
    return dict(sorted(told.items()))


def _waits(table: Table, job_id: JobId, task: int) -> bool:
    """Not over, and not running either."""
    return table.state(job_id, task) in (TaskState.PENDING, TaskState.STARTING)


def _by_task(job_id: JobId, unsettled: Unsettled) -> dict[int, list[AttemptId]]:
    """The unsettled attempts of one job, in order of task."""
    found: dict[int, list[AttemptId]] = {}
    for attempt_id in sorted(each for each in unsettled if each.job_id == job_id):
        found.setdefault(attempt_id.task, []).append(attempt_id)
    return found


def _shown_state(
    table: Table, job_id: JobId, task: int, untold: Collection[AttemptId]
) -> TaskState:
    """RUNNING where the true state would tell what became of an untold attempt.

    Not so once the job was cancelled: then CANCELLED has been told before.
    """
    cell, state = table.cell(job_id, task), table.state(job_id, task)
    is_telling = cell.attempt_id in untold if cell.success or cell.final else untold
    is_told = state is TaskState.CANCELLED or not (state.is_end or state is TaskState.PENDING)
    if is_told or not is_telling:
        return state
    return TaskState.CANCELLED if table.cancelled(job_id) else TaskState.RUNNING


def _finished_at(table: Table, job: Job, counts: Sequence[int]) -> str:
    """When its last attempt ended, or when it was cancelled: whatever was the last to end a task.

    No clock was read where its node was lost: then at least it is not earlier than its beginning.
    """
    ended_unix_ms = table.finished_unix_ms(job.job_id)
    cancel = table.cancel_of(job.job_id)
    if cancel is not None and (counts[TaskState.CANCELLED] or not ended_unix_ms):
        ended_unix_ms = max(ended_unix_ms, cancel.cancelled_unix_ms)
    return rfc3339(ended_unix_ms or job.created_unix_ms)


def _job_exit_code(table: Table, job_id: JobId) -> int | None:
    task = table.first_unsuccessful(job_id)
    if task is None:
        return 0
    return exit_code(table.state(job_id, task), _standing_end(table, job_id, task))


def _standing_end(table: Table, job_id: JobId, task: int) -> End | None:
    """The end of the attempt that the cell names."""
    attempt_id = table.cell(job_id, task).attempt_id
    return table.ends(job_id, task).get(attempt_id) if attempt_id is not None else None


def _task_view(
    table: Table,
    job: Job,
    task: int,
    names: Names,
    untold: Collection[AttemptId],
    starts: Starts,
) -> Json:
    """A current attempt is listed while nothing is known of its end."""
    cell = table.cell(job.job_id, task)
    ends = table.ends(job.job_id, task)
    state = _shown_state(table, job.job_id, task, untold)
    standing = cell.attempt_id
    started = {**starts, **{each: end.started_unix_ms for each, end in ends.items()}}
    told: dict[AttemptId, End | None] = {**ends}
    if standing is not None and is_active(cell):
        told.setdefault(standing, None)
    told.update(dict.fromkeys(untold))
    return {
        "index": job.spec.array_index(task),
        "state": state.name,
        "exit_code": exit_code(state, ends.get(standing) if standing is not None else None),
        "node": _name(names, standing.node_id) if standing is not None else None,
        "reason": _why_aborted(job, ends, standing) if state is TaskState.ABORTED else "",
        "attempts": [
            _attempt_view(
                each,
                told[each],
                names,
                started.get(each, 0),
                is_running=each in untold or cell.stage is Stage.RUNNING,
                is_superseded=cell.success and each != standing,
            )
            for each in sorted(told, key=_birth)
        ],
    }


def _attempt_view(
    attempt_id: AttemptId,
    end: End | None,
    names: Names,
    started_unix_ms: int,
    is_running: bool,
    is_superseded: bool,
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
        "started_at": _time(started_unix_ms),
        "ended_at": _time(end.ended_unix_ms) if end is not None else None,
        "reason": end.reason if end is not None else "",
    }


def _why_aborted(job: Job, ends: Mapping[AttemptId, End], standing: AttemptId | None) -> str:
    """Why Rain gave it up, in words: nothing of what it printed tells that."""
    if is_at_crash_limit(job, ends):
        times = crashes(ends.values())
        return f"PCs went down under it {times} times, its crash limit is {job.spec.crash_limit}"
    end = ends.get(standing) if standing is not None else None
    if end is not None and end.state is EndState.REFUSED:
        return f"refused by every PC that could take it, last: {end.reason}"
    return end.reason if end is not None else ""


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
