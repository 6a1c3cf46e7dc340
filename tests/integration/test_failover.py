"""PCs die in mid-array. Nothing accepted is lost, nothing finished runs again."""

import signal
import time
from collections.abc import Iterable

import pytest

from tests.testbed.engine import IMAGE
from tests.testbed.lan import Json, Pc, coordinator_of, wait_agreed, wait_until
from tests.testbed.witness import Witness

pytestmark = [pytest.mark.engine, pytest.mark.lan]

TASKS = 40
DEADLINE_S = 200


def start_array(pc: Pc, seconds: int = 2) -> str:
    done = pc.rain(
        "submit", "--image", IMAGE, "--cpus", "1", "--memory", "32m",
        "--array", f"0-{TASKS - 1}", "-d", "--", "sh", "-c", f"sleep {seconds}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_succeeded(pc: Pc, job_id: str, at_least: int) -> set[int]:
    """Until so many tasks have succeeded; their indexes."""

    def succeeded() -> set[int]:
        job = pc.try_ask("job", job_id, "--tasks")
        tasks = job["task_list"] if job else []
        return {task["index"] for task in tasks if task["state"] == "SUCCEEDED"}

    wait_until(lambda: len(succeeded()) >= at_least, DEADLINE_S, f"{at_least} tasks succeeded")
    return succeeded()


def assert_each_committed_once(job: Json) -> None:
    assert job["state"] == "SUCCEEDED", job
    assert job["tasks"] == {"SUCCEEDED": TASKS}
    for task in job["task_list"]:
        committed = [a for a in task["attempts"] if a["state"] == "SUCCEEDED"]
        assert len(committed) == 1, task


def assert_not_run_again(witness: Witness, job_id: str, tasks: Iterable[int]) -> None:
    starts = witness.starts_per_task(job_id)
    again = {task: starts[task] for task in tasks if starts[task] != 1}
    assert not again, f"started more than once: {again}"


def test_kill_of_the_coordinators_agent(pcs: list[Pc], witness: Witness) -> None:
    dying = coordinator_of(pcs)
    others = [pc for pc in pcs if pc is not dying]
    epoch = wait_agreed(pcs)["epoch"]["number"]
    job_id = start_array(others[0])
    done = wait_succeeded(others[0], job_id, 10)
    running = witness.running_tasks(job_id)

    dying.kill()
    wait_agreed(others)
    wait_succeeded(others[1], job_id, TASKS - 2 * len(others))
    dying.up()
    wait_succeeded(others[1], job_id, TASKS)

    job = others[1].ask("job", job_id, "--tasks")
    assert_each_committed_once(job)
    assert_not_run_again(witness, job_id, done)
    elsewhere = {
        task
        for task, attempt in running.items()
        for seen in witness.starts(job_id)
        if seen.attempt == attempt and seen.node != dying.name
    }
    assert_not_run_again(witness, job_id, elsewhere)
    assert wait_agreed(pcs)["epoch"]["number"] > epoch


def test_running_tasks_of_a_killed_agent_are_adopted(pcs: list[Pc], witness: Witness) -> None:
    dying = coordinator_of(pcs)
    other = next(pc for pc in pcs if pc is not dying)
    job_id = start_array(other, seconds=20)
    wait_until(lambda: len(witness.running_tasks(job_id)) == 8, 60, "all places are taken")

    dying.kill()
    dying.up()
    dying.wait_ready()
    wait_agreed(pcs)
    other.rain("cancel", job_id)

    first = [one.task for one in witness.starts(job_id)][:8]
    assert_not_run_again(witness, job_id, first)


@pytest.mark.parametrize("who", ["coordinator", "worker"])
def test_a_cable_is_cut_and_mended(pcs: list[Pc], witness: Witness, who: str) -> None:
    chief = coordinator_of(pcs)
    cut = chief if who == "coordinator" else next(pc for pc in pcs if pc is not chief)
    others = [pc for pc in pcs if pc is not cut]
    epoch = wait_agreed(pcs)["epoch"]["number"]
    job_id = start_array(others[0])
    done = wait_succeeded(others[0], job_id, 10)

    cut.cut_cable()
    wait_succeeded(others[1], job_id, TASKS)
    job = others[1].ask("job", job_id, "--tasks")
    assert_each_committed_once(job)
    assert_not_run_again(witness, job_id, done)

    cut.mend_cable()
    status = wait_agreed(pcs)
    if who == "coordinator":
        assert status["epoch"]["number"] > epoch
    wait_until(lambda: not witness.now(job_id), 60, "stale containers are gone")
    after = [pc.ask("job", job_id, "--tasks") for pc in pcs]
    for one in after:
        assert_each_committed_once(one)


def test_the_whole_pool_is_killed_and_started_again(pcs: list[Pc], witness: Witness) -> None:
    job_id = start_array(pcs[0])
    done = wait_succeeded(pcs[0], job_id, 10)
    for pc in pcs:
        pc.kill()
    time.sleep(3)
    for pc in pcs:
        pc.up()
    for pc in pcs:
        pc.wait_ready()
    wait_succeeded(pcs[3], job_id, TASKS)

    assert_each_committed_once(pcs[3].ask("job", job_id, "--tasks"))
    assert_not_run_again(witness, job_id, done)


def test_a_planned_stop_hands_over(pcs: list[Pc], witness: Witness) -> None:
    leaving = coordinator_of(pcs)
    others = [pc for pc in pcs if pc is not leaving]
    job_id = start_array(others[0])
    wait_succeeded(others[0], job_id, 5)

    leaving.kill(signal.SIGTERM)
    wait_agreed(others)
    rows = others[0].ask("nodes")["nodes"]
    assert {row["name"]: row["state"] for row in rows}[leaving.name] == "left"
    wait_succeeded(others[0], job_id, TASKS)
    assert_each_committed_once(others[0].ask("job", job_id, "--tasks"))
