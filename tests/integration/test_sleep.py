"""Sleep, lost networks and new addresses on a real LAN: each ends as docs/sleep.md says."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.testbed.lan import Json, Pc, found_pool, lan, missing, wait_agreed, wait_until

pytestmark = [pytest.mark.lan]

SHARE = ("--executor", "process", "--cpus", "1", "--memory", "512m", "--rank")
NOTICED_S = 4.0
"""A look every second, and the time that typing a command takes here."""
BACK_S = 6.0
"""Two seconds, by a clock that types commands."""
WIFI_GONE_S = 30.0
ASLEEP_S = 20.0


@pytest.fixture(scope="module")
def pcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Pc]]:
    """Five PCs; the first coordinates. No engine is needed."""
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with lan(tmp_path_factory.mktemp("sleep"), 5) as one:
        found_pool(one.pcs, *SHARE, "0")
        yield one.pcs


def reign(pc: Pc) -> tuple[int, str]:
    status = pc.ask("status")
    return status["epoch"]["number"], status["coordinator"]["name"]


def row(asked: Pc, of: Pc) -> Json:
    """What one PC says of another."""
    found: Json = next(node for node in asked.ask("nodes")["nodes"] if node["name"] == of.name)
    return found


def wait_told(asked: Pc, of: Pc, column: str, value: str, deadline_s: float) -> None:
    """Until one PC says this of another."""
    what = f"{asked.name} says that {of.name} is {value}"
    wait_until(lambda: row(asked, of)[column] == value, deadline_s, what)


def pid_of(pc: Pc) -> int:
    assert pc.agent is not None
    assert pc.agent.poll() is None, f"{pc.name} has ended"
    return pc.agent.pid


def submit(pc: Pc, *words: str) -> str:
    done = pc.rain("submit", "--executor", "process", "--cpus", "1", "-d", "--", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def running_on(pc: Pc, job_id: str) -> str:
    job = pc.try_ask("job", job_id, "--tasks")
    task = job["task_list"][0] if job else {"state": "", "node": ""}
    return str(task["node"]) if task["state"] == "RUNNING" else ""


def test_a_new_address_is_known_to_all_at_once(pcs: list[Pc]) -> None:
    chief = next(pc for pc in pcs if pc.name == reign(pcs[0])[1])
    moving = next(pc for pc in pcs if pc is not chief)
    watching = next(pc for pc in pcs if pc not in (chief, moving))
    before, pid = reign(watching), pid_of(moving)

    for who, address in ((moving, "198.18.1.7"), (chief, "198.18.1.8")):
        began = time.monotonic()
        who.set_address(address)
        wait_told(watching, who, "address", f"{address}:7246", NOTICED_S)
        print(f"{who.name} at {address} after {time.monotonic() - began:.1f} s")
        assert row(watching, who)["state"] == "alive"
    done = moving.rain("run", "--executor", "process", "--cpus", "1", "--", "echo", "fine")
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    wait_agreed(pcs)
    assert (reign(watching), pid_of(moving)) == (before, pid)


def test_an_agent_that_starts_before_its_network_joins_later(pcs: list[Pc]) -> None:
    late = pcs[4]
    watching = next(pc for pc in pcs[:4] if pc.name != reign(pcs[0])[1])
    before = reign(watching)
    late.kill(signal.SIGTERM)
    late.run("ip", "addr", "flush", "dev", "eth0")
    late.up(*SHARE, "0")
    wait_until(lambda: late.try_ask("status"), 15, "it runs, alone")
    assert row(watching, late)["state"] == "left"
    late.set_address(late.address)
    began = time.monotonic()
    wait_told(watching, late, "state", "alive", 15)
    print(f"here after {time.monotonic() - began:.1f} s")
    wait_agreed(pcs, 15)
    assert reign(watching)[1] == before[1]


def test_wifi_gone_for_half_a_minute_and_a_pc_asleep(pcs: list[Pc]) -> None:
    """Both at once, to save time: three of five are here throughout."""
    chief = next(pc for pc in pcs if pc.name == reign(pcs[0])[1])
    cut, asleep, *here = [pc for pc in pcs if pc is not chief]
    before = reign(here[0])
    pids = [pid_of(pc) for pc in pcs]
    jobs = [submit(here[0], "sh", "-c", "sleep 600") for _ in range(5)]
    wait_until(lambda: all(running_on(here[0], job) for job in jobs), 20, "one runs on each PC")
    where = {running_on(here[0], job): job for job in jobs}

    cut.cut_cable()
    asleep.kill(signal.SIGSTOP)
    slept = time.monotonic()
    for gone in (cut, asleep):
        wait_told(here[0], gone, "state", "dead", 15)
    assert reign(here[0]) == before
    for stays in (chief, *here):
        assert running_on(here[0], where[stays.name]) == stays.name

    time.sleep(max(0.0, ASLEEP_S - (time.monotonic() - slept)))
    asleep.kill(signal.SIGCONT)
    _wait_back(here[0], asleep)
    time.sleep(max(0.0, WIFI_GONE_S - (time.monotonic() - slept)))
    assert cut.ask("status")["members"]["alive"] == 1
    cut.mend_cable()
    _wait_back(here[0], cut)
    wait_agreed(pcs, 15)

    assert reign(here[0])[1] == before[1]
    assert [pid_of(pc) for pc in pcs] == pids, "no agent was restarted"
    wait_until(lambda: all(running_on(here[0], job) for job in jobs), 20, "all run")
    told = [here[0].ask("job", job, "--tasks")["task_list"][0]["attempts"] for job in jobs]
    for job, attempts in zip(jobs, told, strict=True):
        stayed = where.get(cut.name) != job and where.get(asleep.name) != job
        assert not stayed or len(attempts) == 1, f"needlessly started again: {attempts}"
    here[0].rain("cancel", *jobs)


def _wait_back(asked: Pc, who: Pc) -> None:
    began = time.monotonic()
    wait_told(asked, who, "state", "alive", BACK_S)
    print(f"{who.name} back after {time.monotonic() - began:.1f} s")
