"""Four PCs on a real LAN find each other, agree, and run containers for one another."""

import re
import time

import pytest

from tests.integration.conftest import SHARE
from tests.testbed.engine import IMAGE
from tests.testbed.lan import Lan, Pc, coordinator_of, wait_agreed, wait_until
from tests.testbed.witness import Witness, nodes_of

pytestmark = [pytest.mark.engine, pytest.mark.lan]

GOAL_S = 5.0


def test_four_pcs_agree_after_the_founder_moved(empty_lan: Lan) -> None:
    first, *others = pcs = empty_lan.add(4)
    first.up("--new", *SHARE)
    first.wait_ready()
    token = first.folder / "token"
    token.write_text(first.rain("invite", "--token", "-q").stdout)
    assert "198.18" not in token.read_text(), "a token holds no address"

    first.set_address("198.18.7.77")
    began = time.monotonic()
    for pc in others:
        pc.up("--join-file", str(token), *SHARE)
    status = wait_agreed(pcs, deadline_s=10 * GOAL_S)
    print(f"agreed after {time.monotonic() - began:.1f} s")

    assert status["members"] == {"alive": 4, "suspect": 0, "dead": 0, "left": 0}
    listings = [pc.ask("nodes")["nodes"] for pc in pcs]
    for rows in listings:
        assert {row["name"] for row in rows if row["state"] == "alive"} == {p.name for p in pcs}
        assert sum(row["is_coordinator"] for row in rows) == 1
    by_name = {row["name"]: row["address"] for row in listings[1]}
    assert by_name["pc1"].startswith("198.18.7.77")


def test_output_is_followed_live_and_the_exit_code_comes_back(pcs: list[Pc]) -> None:
    other = next(pc for pc in pcs if pc is not coordinator_of(pcs))
    script = "echo first; sleep 3; echo second >&2; exit 7"
    with other.open("run", "--image", IMAGE, "--", "sh", "-c", script) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
        seen_at = time.monotonic()
        rest = running.stdout.read()
        lag = time.monotonic() - seen_at

    assert first == b"first\n"
    assert b"second\n" in rest
    assert running.returncode == 7
    assert lag > 1.5, "the first line came only when the task was over"


def test_an_array_spreads_and_overbooks_nobody(pcs: list[Pc], witness: Witness) -> None:
    other = next(pc for pc in pcs if pc is not coordinator_of(pcs))
    done = other.rain(
        "submit", "--image", IMAGE, "--cpus", "1", "--memory", "32m", "--array", "0-39",
        "--wait", "--", "sh", "-c", "sleep 1", timeout_s=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = other.ask("job", "last", "--tasks")

    assert job["state"] == "SUCCEEDED"
    assert job["tasks"] == {"SUCCEEDED": 40}
    starts = witness.starts(job["id"])
    assert sorted(one.task for one in starts) == list(range(40))
    assert len(nodes_of(starts)) >= 3
    for pc in pcs:
        assert witness.running_at_most(job["id"], pc.name) <= 2


def test_cancel_from_another_pc_ends_the_container(pcs: list[Pc], witness: Witness) -> None:
    here, there = pcs[1], pcs[2]
    stubborn = "trap 'echo got TERM' TERM; while true; do sleep 0.2; done"
    done = here.rain("submit", "--image", IMAGE, "-d", "--", "sh", "-c", stubborn)
    job_id = done.stdout.strip()
    assert re.fullmatch(r"[a-z2-7]{16}", job_id), done
    wait_until(lambda: witness.running_tasks(job_id), 30, "the container runs")

    assert there.rain("cancel", job_id).returncode == 0
    wait_until(lambda: not witness.running_tasks(job_id), 60, "TERM, grace, KILL")

    job = wait_until(lambda: _over(there, job_id), 30, "the job is over")
    assert job["state"] == "CANCELLED"
    assert "got TERM" in there.rain("logs", job_id).stdout
    assert here.rain("wait", job_id).returncode == 137


def _over(pc: Pc, job_id: str) -> dict[str, object] | None:
    job = pc.try_ask("job", job_id)
    return job if job is not None and job["finished_at"] is not None else None
