"""Figures of a real pool: four agents on a LAN of namespaces, one real engine."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import docker
import psutil

from tests.bench.rounds import pool, say, spread
from tests.testbed.engine import IMAGE, Engine
from tests.testbed.lan import Lan, Pc, coordinator_of, wait_agreed, wait_until
from tests.testbed.witness import Witness

IDLE_SECONDS = 20
IDLE_SETTLE_SECONDS = 60
"""Introductions and the first syncs after a change of membership are over by then."""
START_ROUNDS = 10


def with_pool(engine: Engine, count: int, measure: Callable[[Lan, list[Pc]], None]) -> None:
    with pool(engine, count) as (one, _):
        measure(one, one.pcs)


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
