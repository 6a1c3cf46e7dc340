"""Figures that need no engine and no network: the placement pipeline and the simulator."""

import subprocess
import sys
import time

from rain.model import Facts, JobId, JobSpec, NodeId, Resources
from rain.sched.placement import Offer, Wish, place

NODES = 1_000
ROUNDS = 20
SIMULATED = "1:100"


def placements() -> None:
    """Tasks placed a second on 1,000 nodes, in decisions of 100 and of 4,000 tasks."""
    facts = Facts(capacity=Resources(8_000, 32 * 2**30), executors=("docker",), works=True)
    offers = [Offer(NodeId(f"node-{n:04}"), f"pc{n}", facts, facts.capacity) for n in range(NODES)]
    for tasks in (100, 4_000):
        wish = Wish(JobId("job"), JobSpec(("true",), need=Resources(1_000, 2**30)), tasks)
        began = time.perf_counter()
        placed = sum(pick.count for _ in range(ROUNDS) for pick in place((wish,), offers))
        took = time.perf_counter() - began
        assert placed == tasks * ROUNDS
        print(
            f"placements on {NODES} nodes, {tasks} at a time{'':<25} {placed / took:,.0f} a second"
        )


def simulator() -> None:
    """Virtual seconds a real one, by the simulator's own words."""
    done = subprocess.run(
        [sys.executable, "-m", "sim", "--seeds", SIMULATED, "--nodes", "5"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith("speed"):
            print(f"simulator, 5 nodes: {line}")
