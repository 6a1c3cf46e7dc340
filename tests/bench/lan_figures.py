"""Figures of a real pool: four agents on a LAN of namespaces, one real engine."""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import docker
import psutil

from tests.testbed.engine import IMAGE, Engine
from tests.testbed.lan import Lan, Pc, coordinator_of, found_pool, lan, wait_agreed, wait_until
from tests.testbed.witness import Witness

FAILOVER_ROUNDS = 5
IDLE_SECONDS = 20
IDLE_SETTLE_SECONDS = 60
"""Introductions and the first syncs after a change of membership are over by then."""
START_ROUNDS = 10
WORKER_ROUNDS = 3
SHARE = ("--cpus", "2", "--memory", "1g")

# Measured on a machine of the same kind (2 cores, no load); quoted to make ratios, not run here.
SWARM_LEADER_IDLE_S = 12.7
SWARM_WORKER_S = 19.8
SERF_SEEN_S = 6.7


def with_pool(engine: Engine, count: int, measure: Callable[[Lan, list[Pc]], None]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rain-bench-"))
    with lan(folder, count, {"DOCKER_HOST": engine.host}) as one:
        found_pool(one.pcs, *SHARE)
        measure(one, one.pcs)


def say(what: str, figure: str) -> None:
    print(f"{what:<66} {figure}", flush=True)


def spread(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s"


def failover(engine: Engine, fault: str) -> None:
    """Coordinator gone -> first container started under a newer epoch, by the engine's events."""
    figures: list[float] = []

    def measure(_: Lan, pcs: list[Pc]) -> None:
        witness = Witness(engine.host)
        for _round in range(FAILOVER_ROUNDS):
            figures.append(_fail_once(pcs, witness, fault))
        witness.close()

    with_pool(engine, 4, measure)
    median = statistics.median(figures)
    say(f"failover, {fault}: to the first container of the next reign", spread(figures))
    say(
        "  of a Docker Swarm leader's (12.7 s, idle, cable cut)",
        f"1/{SWARM_LEADER_IDLE_S / median:.0f}",
    )
    say(
        "  of serf's kill -9 to seen-by-all alone (6.7 s, 5 nodes)", f"1/{SERF_SEEN_S / median:.0f}"
    )


def _fail_once(pcs: list[Pc], witness: Witness, fault: str) -> float:
    status = wait_agreed(pcs)
    dying = coordinator_of(pcs)
    other = next(pc for pc in pcs if pc is not dying)
    # More tasks than places: the next reign has something to place at once.
    done = other.rain(
        "submit", "--image", IMAGE, "--cpus", "1", "--memory", "16m", "--array", "0-199", "-d",
        "--", "sh", "-c", "sleep 1",
    )  # fmt: skip
    job_id = done.stdout.strip()
    wait_until(lambda: len(witness.starts(job_id)) >= 6, 60, "the array runs")
    before = int(status["epoch"]["number"])
    died_ns = time.time_ns()
    if fault == "process killed":
        dying.kill()
    else:
        dying.cut_cable()

    def first() -> int:
        later = [s for s in witness.starts(job_id) if s.epoch > before and s.node != dying.name]
        return later[0].at_ns if later else 0

    started_ns = wait_until(first, 60, "a container of the next reign")
    if fault == "process killed":
        dying.up()
    else:
        dying.mend_cable()
    other.rain("cancel", job_id)
    wait_agreed(pcs)
    wait_until(lambda: not witness.running_tasks(job_id), 60, "the array is gone")
    return float(started_ns - died_ns) / 1e9


def worker_lost(engine: Engine) -> None:
    """A worker's cable cut -> its task started elsewhere, by the engine's events."""
    figures: list[float] = []

    def measure(_: Lan, pcs: list[Pc]) -> None:
        witness = Witness(engine.host)
        figures.extend(_lose_once(pcs, witness) for _ in range(WORKER_ROUNDS))
        witness.close()

    with_pool(engine, 4, measure)
    say("worker's cable cut: to its task running elsewhere", spread(figures))
    ratio = SWARM_WORKER_S / statistics.median(figures)
    say("  of Docker Swarm's replacement (19.8 s)", f"1/{ratio:.0f}")


def _lose_once(pcs: list[Pc], witness: Witness) -> float:
    chief = coordinator_of(pcs)
    cut = next(pc for pc in pcs if pc is not chief)
    done = chief.rain(
        "submit", "--image", IMAGE, "--cpus", "1", "--memory", "16m", "--array", "0-5", "-d",
        "--", "sh", "-c", "sleep 30",
    )  # fmt: skip
    job_id = done.stdout.strip()
    wait_until(lambda: len(witness.starts(job_id)) == 6, 60, "all run")
    theirs = {seen.task for seen in witness.starts(job_id) if seen.node == cut.name}
    assert theirs, "the worker that is cut off has work"
    cut_ns = time.time_ns()
    cut.cut_cable()

    def again() -> int:
        starts = [s for s in witness.starts(job_id) if s.task in theirs and s.node != cut.name]
        return starts[0].at_ns if starts else 0

    again_ns = wait_until(again, 60, "its task runs elsewhere")
    cut.mend_cable()
    chief.rain("cancel", job_id)
    wait_agreed(pcs)
    wait_until(lambda: not witness.running_tasks(job_id), 60, "the array is gone")
    return float(again_ns - cut_ns) / 1e9


def idle(engine: Engine, count: int) -> None:
    """What leaving it on costs."""

    def measure(_: Lan, pcs: list[Pc]) -> None:
        wait_agreed(pcs)
        time.sleep(IDLE_SETTLE_SECONDS)
        chief = coordinator_of(pcs)
        agents = {pc.name: psutil.Process(pc.agent.pid) for pc in pcs if pc.agent is not None}
        cpu = {name: agent.cpu_times() for name, agent in agents.items()}
        traffic = {pc.name: pc.counters() for pc in pcs}
        time.sleep(IDLE_SECONDS)
        for kind, chosen in (
            ("coordinator", [chief]),
            ("others", [p for p in pcs if p is not chief]),
        ):
            used, moved, resident = [], [], []
            for pc in chosen:
                now, then = agents[pc.name].cpu_times(), cpu[pc.name]
                used.append((now.user + now.system - then.user - then.system) / IDLE_SECONDS)
                both = (sum(pc.counters()) - sum(traffic[pc.name])) / IDLE_SECONDS
                moved.append(both / 1_000)
                resident.append(agents[pc.name].memory_info().rss / 1e6)
            figures = (
                f"cpu {100 * statistics.mean(used):.1f} % of a core, "
                f"{statistics.mean(moved):.1f} kB/s both ways, "
                f"{statistics.mean(resident):.0f} MB resident"
            )
            say(f"idle, {count} nodes, {kind}", figures)

    with_pool(engine, count, measure)


def submit_to_started(engine: Engine) -> None:
    """Acknowledged submit -> started, beside the engine's own create + start."""
    client = docker.APIClient(base_url=engine.host)
    own: list[float] = []
    for _ in range(START_ROUNDS):
        began = time.perf_counter()
        made = client.create_container(IMAGE, ["true"], network_disabled=True)
        client.start(made["Id"])
        own.append(time.perf_counter() - began)
        client.wait(made["Id"])
        client.remove_container(made["Id"], force=True)
    client.close()
    figures: list[float] = []

    def measure(_: Lan, pcs: list[Pc]) -> None:
        witness = Witness(engine.host)
        chief = coordinator_of(pcs)
        other = next(pc for pc in pcs if pc is not chief)
        for _round in range(START_ROUNDS):
            done = other.rain("submit", "--image", IMAGE, "--memory", "16m", "-d", "--", "true")
            acknowledged_ns = time.time_ns()
            job_id = done.stdout.strip()
            starts = wait_until(partial(witness.starts, job_id), 30, "it starts")
            figures.append((starts[0].at_ns - acknowledged_ns) / 1e9)
            other.rain("wait", job_id)
        witness.close()

    with_pool(engine, 4, measure)
    say("acknowledged submit (command back) to container started", spread(figures))
    say("  the engine's own create + start", spread(own))
    ratio = statistics.median(figures) / statistics.median(own)
    say("  ratio (below 1: it started before the command was back)", f"{ratio:.2f}")
