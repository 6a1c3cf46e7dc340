"""`make bench`: figures of this machine, absolute and as ratios measured in one run.

    python -m tests.bench [PART...] [--rounds N]

Parts: core election mesh submit idle failover cable deaths worker handover join code swarm.
Without one: all of them. What is quoted of Docker Swarm and serf is said to be so; with `swarm`
among the parts the ratios are of this very run.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable

import psutil

from tests.bench import (
    core_figures,
    election_figures,
    failover_figures,
    join_figures,
    lan_figures,
    mesh_figures,
    swarm_figures,
    table_figures,
)
from tests.bench.rounds import ROUNDS, Json, column, machine_load, say
from tests.testbed.engine import Engine, running_engine, why_impossible
from tests.testbed.lan import missing

# Measured once on a machine of this kind (2 cores, no load), for runs without the part `swarm`.
SWARM_CHIEF_S = 12.7
SWARM_WORKER_S = 19.8
SERF_SEEN_S = 6.7

ROUNDED: dict[str, Callable[[Engine, int], list[Json]]] = {
    "failover": failover_figures.coordinator_killed,
    "cable": failover_figures.coordinator_cut,
    "deaths": failover_figures.two_deaths,
    "worker": failover_figures.worker_cut,
    "handover": failover_figures.handover,
    "join": join_figures.returns,
    "code": join_figures.enters,
}
PARTS = ("core", "election", "mesh", "submit", "idle", *ROUNDED, "swarm")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(words)
    parts = given.parts or list(PARTS)
    memory = psutil.virtual_memory().total / 2**30
    print(
        f"{platform.platform()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}; {machine_load()}\n"
    )
    if "core" in parts:
        core_figures.placements()
        core_figures.simulator()
    if "election" in parts:
        election_figures.figures(given.rounds)
        table_figures.year()
    if "mesh" in parts:
        mesh_figures.packets()
        mesh_figures.streams()
    if {*parts} <= {"core", "election", "mesh"}:
        return 0
    reason = why_impossible() or missing()
    if reason:
        print(f"no figures of a real pool: {reason}")
        return 0
    _real(parts, given.rounds)
    return 0


def _real(parts: list[str], rounds: int) -> None:
    """What needs an engine and a LAN."""
    figures: dict[str, list[Json]] = {}
    with running_engine() as engine, tempfile.TemporaryDirectory(prefix="rain-bench-") as compiled:
        # An installed Rain has its bytecode. Whatever this shell says of that: so have the agents.
        os.environ |= {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        if "submit" in parts:
            lan_figures.submit_to_started(engine)
        if "idle" in parts:
            lan_figures.idle(engine, 4)
            lan_figures.idle(engine, 32)
        for part, measure in ROUNDED.items():
            if part in parts:
                figures[part] = measure(engine, rounds)
    swarm = swarm_figures.swarm() if "swarm" in parts else {}
    _ratios(figures, swarm)


def _ratios(figures: dict[str, list[Json]], swarm: dict[str, list[float]]) -> None:
    """Rain's medians beside others': Swarm's of this run, or as quoted."""
    word = "of this run" if swarm else "quoted, not of this run"
    chief_s = statistics.median(swarm.get("chief") or [SWARM_CHIEF_S])
    worker_s = statistics.median(swarm.get("worker") or [SWARM_WORKER_S])
    for part, name, other_s, other in (
        ("cable", "acknowledged", chief_s, "Docker Swarm, leader's cable cut"),
        ("worker", "last task", worker_s, "Docker Swarm, worker's cable cut"),
        ("failover", "order", SERF_SEEN_S, "serf, kill -9 to seen by all, quoted"),
    ):
        own = column(figures.get(part, []), name)
        if own:
            ratio = statistics.median(own) / other_s
            say(f"{part}: {name} / {other} ({other_s:.1f} s, {word})", f"{ratio:.3f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
