"""A forecast starts from the pool's own JSON, also from what an older Rain has saved."""

from typing import Any

import pytest

from rain.model import Resources, Role
from sim.premises import TASKS_MAX, OpenTask, Unfit, premises_of

GIB = 2**30
NOW_MS = 1_800_000_000_000
TASK_MS = 600_000
STARTED = "2027-01-15T08:00:00Z"  # NOW_MS


def node(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": "alive",
        "is_coordinator": False,
        "capacity": {"cpus": 4.0, "memory_bytes": 8 * GIB, "gpus": []},
        "takes_work": True,
        "role": "member",
        "person": "ann",
        "rank": 0,
        **changed,
    }


def task(index: int, state: str, at: str | None = None, **attempt: Any) -> dict[str, Any]:
    tried = [{"state": state, "started_at": STARTED, "ended_at": None, **attempt}] if at else []
    return {"index": index, "state": state, "node": at, "attempts": tried}


def job(*tasks: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "id": "aaaa",
        "name": "render",
        "need": {"cpus": 0.5, "memory_bytes": GIB},
        "only_on": None,
        "tasks": {},
        "task_list": list(tasks),
        **changed,
    }


def test_pcs_that_are_up_with_roles_and_amounts() -> None:
    nodes = [
        node("nas", role="admin", rank=2, is_coordinator=True),
        node("gone", state="dead"),
        node("idle", role="worker", takes_work=False),
    ]
    nas, idle = premises_of(nodes, [], TASK_MS, NOW_MS).pcs
    assert (nas.name, nas.role, nas.rank, nas.is_coordinator) == ("nas", Role.ADMIN, 2, True)
    assert nas.capacity == Resources(4_000, 8 * GIB)
    assert (idle.role, idle.capacity) == (Role.WORKER, Resources())


def test_what_runs_goes_on_where_it_is_for_the_rest_of_its_time() -> None:
    told = job(task(3, "RUNNING", "nas"), task(4, "RUNNING", "gone"), task(5, "PENDING"))
    [played] = premises_of([node("nas")], [told], TASK_MS, NOW_MS + 200_000).jobs
    assert played.need == Resources(500, GIB)
    assert played.tasks == (OpenTask(3, "nas", 400_000), OpenTask(4), OpenTask(5))


def test_a_task_that_is_overdue_ends_soon() -> None:
    [played] = premises_of([node("nas")], [job(task(0, "RUNNING", "nas"))], 5, NOW_MS * 2).jobs
    assert played.tasks == (OpenTask(0, "nas", 1_000),)


def test_a_task_takes_what_those_took_that_have_ended() -> None:
    ended = task(0, "SUCCEEDED", "nas", ended_at="2027-01-15T08:00:30Z")
    told = premises_of([node("nas")], [job(ended, task(1, "PENDING"))], TASK_MS, NOW_MS)
    assert told.jobs[0].task_ms == 30_000
    assert told.assumed == ("a task of aaaa takes 30 s, as those that ended did",)


def test_of_an_older_rain_it_is_said_what_is_assumed() -> None:
    older = {
        key: value for key, value in node("nas").items() if key not in ("role", "person", "rank")
    }
    saved = {"id": "aaaa", "tasks": {"RUNNING": 2, "PENDING": 1, "SUCCEEDED": 4}}
    told = premises_of([older], [saved], TASK_MS, NOW_MS)
    assert told.pcs[0].role is Role.ADMIN  # somebody must be
    assert told.jobs[0].tasks == (OpenTask(0), OpenTask(1), OpenTask(2))
    assert told.assumed == (
        "every PC is a member: the saved nodes do not tell roles",
        "a task takes 600 s where none of its job has ended yet",
        "a task needs what a job needs that says nothing: 1 CPU, 256 MiB",
    )


def test_a_job_that_is_over_plays_no_part() -> None:
    assert premises_of([node("nas")], [job(task(0, "FAILED"))], TASK_MS, NOW_MS).jobs == ()


def test_more_tasks_than_can_be_played_are_left_out_and_told() -> None:
    many = {"id": "many", "tasks": {"PENDING": TASKS_MAX + 5}}
    told = premises_of([node("nas")], [many, job(task(0, "PENDING"))], TASK_MS, NOW_MS)
    assert [len(one.tasks) for one in told.jobs] == [TASKS_MAX]
    assert f"only the first {TASKS_MAX} open tasks are played" in told.assumed


@pytest.mark.parametrize(
    ("nodes", "jobs", "words"),
    [
        ([], [], "no PC of that pool is up"),
        ([node("nas", state="dead")], [], "no PC of that pool is up"),
        ([{"name": "nas"}], [], "no answer of `rain nodes --json`"),
        ([node("nas", role="king")], [], "no answer of `rain nodes --json`"),
        ([node("nas", capacity=None)], [], "no answer of `rain nodes --json`"),
        ([node("nas")], [{"id": "aaaa"}], "no answer of `rain nodes --json`"),
        ([node("nas"), node("nas")], [], "two PCs have one name"),
        ([node("nas", role="worker")], [], "only workers are up"),
    ],
)
def test_what_is_no_pool_is_refused(nodes: list[Any], jobs: list[Any], words: str) -> None:
    with pytest.raises(Unfit) as refused:
        premises_of(nodes, jobs, TASK_MS, NOW_MS)
    assert words in refused.value.message
