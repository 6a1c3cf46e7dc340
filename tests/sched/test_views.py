"""The JSON of `rain job` and `rain jobs`, word for word."""

import json
from typing import Any

import pytest

from rain.model import AttemptId, End, EndState, Job, JobSpec, NodeId, Stage
from rain.sched.messages import Cell, JobPatch
from rain.sched.table import Table
from rain.sched.views import REFUSALS_TOLD_MAX, job_view, jobs_view, refusals, task_list
from tests.sched.samples import (
    ANNA,
    BERT,
    FIRST,
    RIVAL,
    cancelled,
    job_with,
    make_attempt,
    make_job,
    make_table,
    over,
    running,
    task_patch,
)

NAMES = {ANNA: "desk", BERT: "attic"}
CREATED_MS = 1_741_536_300_250


def _job(tasks: int = 1, created_unix_ms: int = CREATED_MS) -> Job:
    return make_job(tasks, "hash", created_unix_ms)


def _end(state: str, code: int = -1, reason: str = "") -> End:
    return End(EndState(state), code, reason, CREATED_MS + 1_000, CREATED_MS + 2_000)


def _table(job: Job, *patches: JobPatch) -> Table:
    table = make_table()
    table.merge((JobPatch(job.job_id, job), *patches))
    return table


def _ended(attempt_id: AttemptId, end: End, job: Job) -> JobPatch:
    cell = over(attempt_id, success=end.state is EndState.SUCCEEDED)
    return task_patch(job, attempt_id.task, cell, (attempt_id, end))


def _task(table: Table, job: Job, task: int = 0, **rest: Any) -> dict[str, Any]:
    view = job_view(table, job.job_id, NAMES, with_tasks=True, **rest)
    found: dict[str, Any] = view["task_list"][task]
    return found


def test_a_job_that_nobody_has_started() -> None:
    job = _job(3)
    assert job_view(_table(job), job.job_id, NAMES, with_tasks=True) == {
        "id": job.job_id,
        "name": "hash",
        "state": "PENDING",
        "exit_code": None,
        "submitted_by": "pc1",
        "person": "anna",
        "need": {"cpus": 1.0, "memory_bytes": 256 * 2**20},
        "only_on": None,
        "tasks_total": 3,
        "tasks": {"PENDING": 3},
        "created_at": "2025-03-09T16:05:00.250Z",
        "finished_at": None,
        "task_list": [
            {
                "index": i,
                "state": "PENDING",
                "exit_code": None,
                "node": None,
                "reason": "",
                "attempts": [],
            }
            for i in range(3)
        ],
    }


def test_a_task_that_was_lost_once_and_then_succeeded() -> None:
    job = _job()
    first, second = make_attempt(job), make_attempt(job, 0, 3, node=BERT)
    table = _table(
        job,
        task_patch(job, 0, Cell(), (first, End(EndState.LOST, -1, "its node is gone"))),
        _ended(second, _end("SUCCEEDED", 0), job),
    )
    view = job_view(table, job.job_id, NAMES, with_tasks=True)
    assert (view["state"], view["exit_code"]) == ("SUCCEEDED", 0)
    assert view["tasks"] == {"SUCCEEDED": 1}
    assert view["finished_at"] == "2025-03-09T16:05:02.250Z"
    assert view["task_list"] == [
        {
            "index": 0,
            "state": "SUCCEEDED",
            "exit_code": 0,
            "node": "attic",
            "reason": "",
            "attempts": [
                {
                    "number": 1,
                    "node": "desk",
                    "state": "LOST",
                    "exit_code": None,
                    "started_at": None,
                    "ended_at": None,
                    "reason": "its node is gone",
                },
                {
                    "number": 3,
                    "node": "attic",
                    "state": "SUCCEEDED",
                    "exit_code": 0,
                    "started_at": "2025-03-09T16:05:01.250Z",
                    "ended_at": "2025-03-09T16:05:02.250Z",
                    "reason": "",
                },
            ],
        }
    ]
    assert json.loads(json.dumps(view)) == view


@pytest.mark.parametrize(
    ("stage", "state"),
    [(Stage.PLACED, "STARTING"), (Stage.STARTING, "STARTING"), (Stage.RUNNING, "RUNNING")],
)
def test_the_current_attempt_is_listed(stage: Stage, state: str) -> None:
    job = _job(2)
    table = _table(job, task_patch(job, 1, running(make_attempt(job, 1), stage)))
    view = job_view(table, job.job_id, NAMES, with_tasks=True)
    assert (view["state"], view["tasks"]) == (state, {"PENDING": 1, state: 1})
    task = view["task_list"][1]
    assert (task["state"], task["node"]) == (state, "desk")
    assert [(each["number"], each["state"]) for each in task["attempts"]] == [(1, state)]
    assert task["attempts"][0]["ended_at"] is None


def test_a_failed_attempt_that_is_tried_again_leaves_the_task_pending() -> None:
    job = _job()
    attempt_id = make_attempt(job)
    table = _table(
        job, task_patch(job, 0, Cell(epoch=FIRST, turn=2), (attempt_id, _end("FAILED", 3)))
    )
    task = _task(table, job)
    assert (task["state"], task["exit_code"]) == ("PENDING", None)
    assert [(each["state"], each["exit_code"]) for each in task["attempts"]] == [("FAILED", 3)]


def test_an_unsettled_outcome_is_not_told() -> None:
    job = _job()
    unsettled = {make_attempt(job)}
    for end in (_end("SUCCEEDED", 0), _end("FAILED", 3)):
        table = _table(job, _ended(make_attempt(job), end, job))
        view = job_view(table, job.job_id, NAMES, unsettled)
        assert (view["state"], view["tasks"]) == ("RUNNING", {"RUNNING": 1})
        assert (view["exit_code"], view["finished_at"]) == (None, None)
        task = _task(table, job, unsettled=unsettled)
        assert (task["state"], task["exit_code"]) == ("RUNNING", None)
        assert [(each["state"], each["ended_at"]) for each in task["attempts"]] == [
            ("RUNNING", None)
        ]


def test_an_unsettled_failure_that_is_tried_again_is_not_told() -> None:
    job = _job()
    first, second = make_attempt(job), make_attempt(job, 0, 3)
    failed = task_patch(job, 0, Cell(epoch=FIRST, turn=2), (first, _end("FAILED", 3)))
    again = task_patch(job, 0, running(second, Stage.PLACED))
    unsettled = [first]
    task = _task(_table(job, failed), job, unsettled=unsettled)
    assert (task["state"], [each["state"] for each in task["attempts"]]) == ("RUNNING", ["RUNNING"])
    task = _task(_table(job, failed, again), job, unsettled=unsettled)
    assert task["state"] == "STARTING"
    assert [each["state"] for each in task["attempts"]] == ["RUNNING", "STARTING"]


def test_a_second_success_is_superseded() -> None:
    job = _job()
    one, other = make_attempt(job, 0, 2), make_attempt(job, 0, 2, RIVAL, BERT)
    table = _table(
        job, _ended(one, _end("SUCCEEDED", 0), job), _ended(other, _end("SUCCEEDED", 0), job)
    )
    attempts = _task(table, job)["attempts"]
    assert [(each["node"], each["state"]) for each in attempts] == [
        ("desk", "SUPERSEDED"),
        ("attic", "SUCCEEDED"),
    ]


def test_a_cancelled_job() -> None:
    job = _job(3)
    attempt_id = make_attempt(job, 1)
    table = _table(
        job,
        _ended(make_attempt(job, 0), _end("SUCCEEDED", 0), job),
        task_patch(job, 1, running(attempt_id)),
        cancelled(job),
    )
    view = job_view(table, job.job_id, NAMES)
    assert (view["state"], view["exit_code"]) == ("CANCELLED", 137)
    assert view["tasks"] == {"SUCCEEDED": 1, "CANCELLED": 2}
    task = _task(table, job, 1)
    assert (task["state"], task["attempts"][0]["state"]) == ("CANCELLED", "RUNNING")


@pytest.mark.parametrize(
    ("ends", "state", "code"),
    [
        (("SUCCEEDED", "SUCCEEDED", "SUCCEEDED"), "SUCCEEDED", 0),
        (("SUCCEEDED", "TIMEOUT", "FAILED"), "FAILED", 124),
        (("OUT_OF_MEMORY", "FAILED", "SUCCEEDED"), "FAILED", 137),
        (("LOST", "TIMEOUT", "OUT_OF_MEMORY"), "TIMEOUT", 125),
        (("SUCCEEDED", "SUCCEEDED", "FAILED"), "FAILED", 3),
    ],
)
def test_the_exit_code_is_the_first_that_is_not_zero(
    ends: tuple[str, ...], state: str, code: int
) -> None:
    job = _job(3)
    codes = {"SUCCEEDED": 0, "FAILED": 3, "LOST": -1}
    patches = [
        _ended(make_attempt(job, task), _end(end, codes.get(end, 137)), job)
        for task, end in enumerate(ends)
    ]
    view = job_view(_table(job, *patches), job.job_id, NAMES)
    assert (view["state"], view["exit_code"]) == (state, code)


def test_indexes_are_those_of_the_array_and_unknown_nodes_go_by_id() -> None:
    job = job_with(JobSpec(("true",), tasks=3, array_start=5, array_step=2, is_array=True))
    table = _table(job, task_patch(job, 2, running(make_attempt(job, 2))))
    tasks = job_view(table, job.job_id, {}, with_tasks=True)["task_list"]
    assert [task["index"] for task in tasks] == [5, 7, 9]
    assert tasks[2]["node"] == ANNA


def test_jobs_come_oldest_first_and_without_those_that_are_over_if_so_asked() -> None:
    jobs = [_job(1, created) for created in (3_000, 1_000, 2_000)]
    table = make_table()
    table.merge(JobPatch(job.job_id, job) for job in jobs)
    table.merge((_ended(make_attempt(jobs[1]), _end("SUCCEEDED", 0), jobs[1]),))
    table.merge((task_patch(make_job(7), 0, Cell(generation=2)),))
    views = jobs_view(table, NAMES)
    assert [view["id"] for view in views] == [jobs[i].job_id for i in (1, 2, 0)]
    assert all("task_list" not in view for view in views)
    still_open = jobs_view(table, NAMES, include_over=False)
    assert [view["id"] for view in still_open] == [jobs[2].job_id, jobs[0].job_id]
    unsettled = {make_attempt(jobs[1])}
    assert len(jobs_view(table, NAMES, unsettled, include_over=False)) == 3


def test_a_late_end_of_another_attempt_changes_nothing_that_was_told() -> None:
    job = _job()
    won, late = make_attempt(job), make_attempt(job, 0, 3, node=BERT)
    table = _table(job, _ended(won, _end("SUCCEEDED", 0), job))
    before = job_view(table, job.job_id, NAMES)
    table.merge((task_patch(job, 0, Cell(), (late, _end("SUCCEEDED", 0))),))
    assert job_view(table, job.job_id, NAMES, {late}) == before
    attempts = _task(table, job, unsettled={late})["attempts"]
    assert [each["state"] for each in attempts] == ["SUCCEEDED", "RUNNING"]
    assert jobs_view(table, NAMES, {late}, include_over=False) == []


def test_a_cancelled_job_stays_cancelled_while_what_it_ran_ends() -> None:
    job = _job()
    attempt_id = make_attempt(job)
    cancel = cancelled(job, 1, CREATED_MS + 1_500)
    table = _table(job, task_patch(job, 0, running(attempt_id)), cancel)
    assert job_view(table, job.job_id, NAMES)["state"] == "CANCELLED"
    for state in ("CANCELLED", "FAILED"):
        table.merge((_ended(attempt_id, _end(state, 3), job),))
        assert job_view(table, job.job_id, NAMES, {attempt_id})["state"] == "CANCELLED"


def test_whatever_is_over_has_finished_at_some_time() -> None:
    job = _job(2)
    cancel = cancelled(job, 1, CREATED_MS + 5_000)
    ended = _ended(make_attempt(job), _end("SUCCEEDED", 0), job)
    other = _ended(make_attempt(job, 1), _end("SUCCEEDED", 0), job)
    lost = _ended(make_attempt(job, 1), End(EndState.LOST), job)

    def finished(*patches: JobPatch) -> str:
        return str(job_view(_table(job, *patches), job.job_id, NAMES)["finished_at"])[-10:]

    assert finished(cancel) == "05:05.250Z", "before anything ran"
    assert finished(ended, cancel) == "05:05.250Z", "half-way"
    assert finished(ended, other, cancel) == "05:02.250Z", "too late to matter"
    assert finished(ended, lost) == "05:02.250Z"
    assert finished(lost, cancel) == "05:05.250Z"
    nobody_knows = cancelled(job)
    assert finished(nobody_knows) == "05:00.250Z"


def test_tasks_in_slices_are_the_same_tasks() -> None:
    job = _job(5)
    table = _table(job, task_patch(job, 3, running(make_attempt(job, 3))))
    whole = job_view(table, job.job_id, NAMES, with_tasks=True)["task_list"]
    sliced = [
        each
        for first, last in ((0, 1), (2, 3), (4, 4))
        for each in task_list(table, job.job_id, NAMES, (), first, last)
    ]
    assert sliced == whole


def test_what_is_private_is_shown_to_nobody() -> None:
    private = JobSpec(
        ("true",),
        environment=(("SHOWN_TO_NOBODY_EITHER", "open-sesame"),),
        private_environment=(("TOKEN", "hidden-token"),),
        secrets=(("key.pem", b"hidden-key"),),
    )
    job = job_with(private)
    table = _table(job, _ended(make_attempt(job), _end("FAILED", 1, "why"), job))
    told = json.dumps(job_view(table, job.job_id, NAMES, with_tasks=True))
    for word in ("open-sesame", "SHOWN_TO", "TOKEN", "hidden", "key.pem"):
        assert word not in told
    assert '"person": "anna"' in told


# --- Refusals ------------------------------------------------------------------------------------


def _refused(job: Job, task: int, number: int, node: NodeId, reason: str) -> JobPatch:
    attempt = make_attempt(job, task, number, node=node)
    return task_patch(job, task, Cell(), (attempt, _end("REFUSED", reason=reason)))


def test_each_node_is_told_with_the_last_it_said() -> None:
    job = _job(2)
    table = _table(
        job,
        _refused(job, 0, 1, ANNA, "the disk is full"),
        _refused(job, 0, 3, ANNA, "the owner forbids it"),
        _refused(job, 1, 2, BERT, "the agent is stopping"),
    )
    assert refusals(table, job.job_id, NAMES) == {
        "attic": "the agent is stopping",
        "desk": "the owner forbids it",
    }


def test_of_tasks_that_run_or_are_over_no_refusals_are_told() -> None:
    job = _job(2)
    first, second = make_attempt(job, 0, 2, node=BERT), make_attempt(job, 1, 2, node=BERT)
    table = _table(
        job,
        _refused(job, 0, 1, ANNA, "not here"),
        _refused(job, 1, 1, ANNA, "not here"),
        task_patch(job, 0, running(first)),
        _ended(second, _end("SUCCEEDED", 0), job),
    )
    assert refusals(table, job.job_id, NAMES) == {}


def test_no_more_refusals_are_told_than_a_person_reads() -> None:
    job = _job()
    nodes = [NodeId(f"n{number:02}") for number in range(REFUSALS_TOLD_MAX + 3)]
    patches = [_refused(job, 0, number, node, "no") for number, node in enumerate(nodes, 1)]
    assert list(refusals(_table(job, *patches), job.job_id, {})) == nodes[3:]
