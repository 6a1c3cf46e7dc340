"""How long a pool is without a coordinator: in the simulator, where nothing else takes time.

    python -m tests.bench.election_figures [--rounds N]

The network is a LAN's (0.1 to a few ms), disks write in 1 to 5 ms, and every PC is starved now and
then: its agent has gaps of 22 to 160 ms, about one a second. What is measured begins with the
death: until somebody coordinates, and until a worker has taken its first order of the new reign.
"""

import argparse
import statistics
import sys
from collections.abc import Callable

from msgspec.structs import replace

from rain.model import Role
from sim.host import Host
from sim.options import Options, draw_options
from sim.simulation import Simulation
from sim.world import World, draw_int

ROUNDS = 40
SIZES = (3, 5, 9)
SETTLED_US = 6_000_000
SPREAD_US = 1_000_000
BOUND_US = 6_000_000
STEP_US = 1_000
LAG_EVERY_US = 1_000_000
LAG_US_MIN = 22_000
LAG_US_MAX = 160_000
SUBMIT_FIRST_US = 10_000
SUBMIT_EVERY_US = 200_000
SUBMITS = 4
CORES_MILLI = 64_000


def options_of(seed: int, nodes: int) -> Options:
    """A pool in fine weather, with work to do and nothing that goes wrong by itself."""
    drawn = draw_options(World(seed).dice("options"), nodes, 60)
    return replace(
        drawn,
        faults=0,
        delay_us_min=100,
        delay_us_mean=400,
        loss_permille=0,
        duplicate_permille=0,
        replay_permille=0,
        corrupt_permille=0,
        truncate_permille=0,
        heavy_tail_permille=0,
        clock_rates_ppm=(1_000_000,) * nodes,
        clock_ticks_us=(),
        timer_late_us_max=2_000,
        stall_permille=0,
        start_failure_permille=0,
        jobs=0,
        burst_tasks=0,
        hangs=0,
        cores_milli=(CORES_MILLI,) * nodes,
        ranks=(0,) * nodes,
        roles=(Role.ADMIN,) + (Role.MEMBER,) * (nodes - 1),
        hostile_kinds=(),
        hostile=0,
        trouble_kinds=(),
        troubles=0,
    )


class Round:
    """One pool, one death, and what follows."""

    def __init__(self, seed: int, nodes: int, *, lags: bool) -> None:
        self._sim = Simulation(seed, nodes, 60, options=options_of(seed, nodes))
        self._dice = self._sim.world.dice("bench")
        self._sim.faults.plan()
        for host in self._sim.hosts if lags else ():
            self._plan_lag(host)
        self._sim.world.run(SETTLED_US + draw_int(self._dice, 0, SPREAD_US))
        self.coordinator = next(host for host in self._sim.hosts if host.is_coordinator)
        others = [host for host in self._sim.hosts if host is not self.coordinator]
        for number in range(SUBMITS):
            delay_us = number * SUBMIT_EVERY_US + SUBMIT_FIRST_US
            self._sim.world.after(delay_us, self._submit, others[number % len(others)])

    def _submit(self, host: Host) -> None:
        self._sim.workload.submit_long(host)

    def _plan_lag(self, host: Host) -> None:
        self._sim.world.after(draw_int(self._dice, 0, 2 * LAG_EVERY_US), self._lag, host)

    def _lag(self, host: Host) -> None:
        self._plan_lag(host)
        if host.is_awake:
            host.pause()
            lag_us = draw_int(self._dice, LAG_US_MIN, LAG_US_MAX)
            self._sim.world.after(lag_us, self._sim.stage.resume, host, host.boot_epoch)

    def after(self, death: Callable[[Host], None]) -> tuple[int, int]:
        """Milliseconds until somebody else coordinates, and until the first of its orders."""
        world, began_us = self._sim.world, self._sim.world.now_us
        death(self.coordinator)
        reigning_ms = 0
        while world.now_us - began_us < BOUND_US:
            world.run(world.now_us + STEP_US)
            passed_ms = (world.now_us - began_us) // 1_000
            if not reigning_ms and self._has_successor():
                reigning_ms = passed_ms
            if reigning_ms and self._has_ordered():
                return reigning_ms, passed_ms
        raise AssertionError(f"no order within {BOUND_US // 1_000} ms: seed {self._sim.seed}")

    def gap_ms(self) -> int:
        """Milliseconds without a coordinator around a planned handover."""
        world, began_us = self._sim.world, self._sim.world.now_us
        self.coordinator.request_stop()
        without_ms = 0
        while not self._has_successor():
            world.run(world.now_us + STEP_US)
            without_ms += not any(host.is_coordinator for host in self._sim.hosts)
            assert world.now_us - began_us < BOUND_US, f"no successor: seed {self._sim.seed}"
        return without_ms

    def _others(self) -> list[Host]:
        return [host for host in self._sim.hosts if host is not self.coordinator and host.is_up]

    def _has_successor(self) -> bool:
        return any(host.is_coordinator for host in self._others())

    def _has_ordered(self) -> bool:
        reigning = next((host for host in self._others() if host.is_coordinator), None)
        if reigning is None:
            return False
        return any(
            attempt.epoch.node_id == reigning.node_id
            for host in self._others()
            if host.node is not None
            for attempt in host.node.sched.active_attempts()
        )


def figures(rounds: int) -> None:
    deaths: tuple[tuple[str, Callable[[Host], None]], ...] = (
        ("power lost, or its cable cut", Host.power_off),
        ("process killed", Host.kill),
    )
    for nodes in SIZES:
        for name, death in deaths:
            spans = [Round(seed, nodes, lags=True).after(death) for seed in range(1, rounds + 1)]
            _tell(f"{nodes} nodes, {name}: next reign", [reign for reign, _ in spans])
            _tell(f"{nodes} nodes, {name}: first order taken", [order for _, order in spans])
        gaps = [Round(seed, nodes, lags=True).gap_ms() for seed in range(1, rounds + 1)]
        _tell(f"{nodes} nodes, handover: nobody coordinates for", gaps)


def _tell(name: str, spans_ms: list[int]) -> None:
    median = statistics.median(spans_ms)
    print(f"{name:<58} median {median:5.0f} ms   worst {max(spans_ms):5d} ms", flush=True)


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.election_figures")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    figures(parser.parse_args(words).rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
