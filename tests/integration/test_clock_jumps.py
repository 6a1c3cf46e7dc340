"""The clock on a PC's wall is set an hour forward and two back: nobody but people notices."""

import time
from pathlib import Path

from rain.client import Json
from tests.testbed.loopback import Node, loopback_pool, wait_for

JUMPING = """
import time
_began, _time_ns = time.monotonic(), time.time_ns
def _jumped_ns():
    since_s = time.monotonic() - _began
    hours = 0 if since_s < 6 else 1 if since_s < 9 else -1
    return _time_ns() + hours * 3_600 * 10**9
time.time_ns = _jumped_ns
time.time = lambda: _jumped_ns() / 1e9
"""
JUMPED_S = 10.0
"""After so long the coordinator's clock has been set twice."""


def reign(node: Node) -> tuple[int, str]:
    """Number and coordinator; 0 and nobody where nobody coordinates now."""
    status = node.ask("status")
    if status["epoch"] is None:
        return 0, ""
    return status["epoch"]["number"], status["coordinator"]["name"]


def task(node: Node, job_id: str) -> Json:
    found: Json = node.ask("job", id=job_id, tasks=True)["task_list"][0]
    return found


def test_a_clock_that_is_set_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    began = time.monotonic()
    with loopback_pool(tmp_path, 3, {"PYTHONPATH": str(tmp_path)}) as (jumping, second, third):
        before = reign(second)
        assert before[1] == jumping.name
        jobs = [second.run("sh", "-c", "sleep 600") for _ in range(4)]
        wait_for(lambda: all(task(second, job)["state"] == "RUNNING" for job in jobs), "they run")
        where = [task(second, job)["node"] for job in jobs]
        time.sleep(max(0.0, JUMPED_S - (time.monotonic() - began)))

        assert [reign(node) for node in (jumping, second, third)] == [before] * 3
        assert second.ask("status")["members"]["alive"] == 3
        for job, node in zip(jobs, where, strict=True):
            assert (task(third, job)["node"], len(task(third, job)["attempts"])) == (node, 1)
        done = jumping.run("true")
        assert jumping.ask("wait", ids=[done])["exit_code"] == 0

        # An agent that starts anew takes up its tasks as young as they are.
        jumping.end()
        wait_for(lambda: reign(second)[1] not in ("", jumping.name), "somebody else coordinates")
        jumping.up([], "", {"PYTHONPATH": str(tmp_path)})
        wait_for(lambda: second.ask("status")["members"]["alive"] == 3, "it is back")
        for job in jobs:
            assert task(second, job)["state"] == "RUNNING"
        second.ask("cancel", ids=jobs)
