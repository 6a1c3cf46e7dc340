"""Time counts against a pool only while it could do more than it does."""

import pytest

from rain.model import AttemptId, Epoch, Job, JobId, JobSpec, NodeId, Resources
from rain.sched.identity import attempt_key
from sim.backlog import GRACE_MS, Pc, is_full, work_us
from sim.executor import START_US_MAX, Container
from sim.workload import HANG_MS

NODE = NodeId("n1")
SMALL = Resources(500, 1)
LARGE = Resources(2_000, 1)
PC = Resources(3_000, 64)


def job(
    name: str = "a",
    need: Resources = LARGE,
    run_ms: int = 700,
    tasks: int = 1,
    retries: int = 0,
    timeout_ms: int = 0,
    running_max: int = 0,
) -> Job:
    spec = JobSpec(
        command=("work", str(run_ms), "0"),
        need=need,
        tasks=tasks,
        retries=retries,
        timeout_ms=timeout_ms,
        running_max=running_max,
    )
    return Job(JobId(name), spec, "n1", NODE, 0, b"")


def container(of: Job, task: int = 0, exit_code: int | None = None) -> Container:
    attempt_id = AttemptId(of.job_id, task, 1, Epoch(1, NODE, 7), NODE)
    key = attempt_key(attempt_id)
    return Container(attempt_id, key, of.spec.need, 700_000, 0, exit_code=exit_code)


def pc(*containers: Container) -> Pc:
    return PC, containers


def test_a_pool_is_full_where_nothing_that_waits_fits_beside_what_runs() -> None:
    runs, waits = job("a"), job("b")
    assert is_full([(runs, 0), (waits, 0)], [pc(container(runs))])


def test_it_is_full_when_everything_runs() -> None:
    assert is_full([(job(), 0)], [pc(container(job())), pc()])


@pytest.mark.parametrize(
    ("waits", "pcs"),
    [
        (job("b", SMALL), [pc(container(job("a")))]),
        (job("b"), [pc(container(job("a"))), pc()]),
        (job("b"), [pc(container(job("a")), container(job("c"), exit_code=0)), pc()]),
    ],
    ids=["beside it", "on another pc", "where something has ended"],
)
def test_a_task_that_waits_beside_room_is_no_excuse(waits: Job, pcs: list[Pc]) -> None:
    assert not is_full([(job("a"), 0), (waits, 0)], pcs)


def test_an_end_that_nobody_believes_is_no_excuse() -> None:
    assert not is_full([(job(), 0)], [pc(container(job(), exit_code=0))])


def test_nothing_that_runs_for_anybody_is_no_excuse() -> None:
    waits, orphan = job("b"), job("over")
    assert not is_full([(waits, 0)], [pc(container(orphan))])
    assert not is_full([], [pc(container(orphan))])


def test_a_need_that_no_pc_has_is_no_excuse_once_nothing_else_runs() -> None:
    huge = job("b", Resources(9_000, 1))
    assert is_full([(job("a"), 0), (huge, 0)], [pc(container(job("a")))])
    assert not is_full([(huge, 0)], [pc()])


def test_what_hangs_is_no_excuse() -> None:
    hangs = job(run_ms=HANG_MS)
    assert not is_full([(hangs, 0)], [pc(container(hangs))])


def test_a_job_that_runs_as_many_tasks_as_it_may_leaves_its_others_waiting() -> None:
    one, two = job("a", SMALL, tasks=3, running_max=1), job("a", SMALL, tasks=3, running_max=2)
    assert is_full([(one, 1), (one, 2)], [pc(container(one, 1))])
    assert not is_full([(two, 1), (two, 2)], [pc(container(two, 1))])


def test_the_work_is_every_attempt_that_may_fail_to_the_end_of_its_grace() -> None:
    start_us = START_US_MAX
    assert work_us([job(run_ms=700)]) == 700_000 + start_us
    assert work_us([job(tasks=2, retries=3)]) == 8 * (700_000 + start_us)
    assert work_us([job(timeout_ms=300)]) == (300 + GRACE_MS) * 1_000 + start_us
    assert work_us([job(run_ms=HANG_MS), job(run_ms=HANG_MS, timeout_ms=300)]) == 0
