"""Rounds on a real pool: hurt it, measure, mend it, wait until it is quiet, go on with the next.

One pool serves all rounds of a part. Quiet means: all see all, follow one coordinator, and no
container is left; then SETTLE_S more, so that no round profits or suffers from the one before.
"""

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from rain.client import Client, ControlError
from tests.testbed.engine import IMAGE, Engine
from tests.testbed.lan import Lan, Pc, found_pool, lan, wait_agreed, wait_until
from tests.testbed.witness import Witness

ROUNDS = 20
SETTLE_S = 1.5
QUIET_WAIT_S = 90.0
FIGURE_WAIT_S = 60.0
LOAD_S = 1.0
QUIET_PERCENT = 15.0
"""An idle pool and its engine alone use less."""
SHARE = ("--cpus", "2", "--memory", "1g")
MILLI_CPUS = 250
MEMORY_BYTES = 16 * 2**20

Json = dict[str, Any]


@contextmanager
def pool(engine: Engine, count: int) -> Iterator[tuple[Lan, Witness]]:
    """A pool of so many PCs, ready and agreed, and the engine's word on what starts."""
    engine.remove_containers()  # of agents that ended with the pool before
    environment = {"DOCKER_HOST": engine.host}
    with (
        tempfile.TemporaryDirectory(prefix="rain-bench-", ignore_cleanup_errors=True) as folder,
        lan(Path(folder), count, environment) as one,
    ):
        found_pool(one.pcs, *SHARE)
        witness = Witness(engine.host)
        try:
            yield one, witness
        finally:
            witness.close()


def measured(what: str, rounds: int, once: Callable[[], Json]) -> list[Json]:
    """So many rounds with a line each, so that nobody waits before a silent screen."""
    print(f"{what}: {rounds} rounds; {machine_load()}", flush=True)
    figures = []
    for number in range(1, rounds + 1):
        found = once()
        figures.append(found)
        told = ", ".join(f"{name} {value:.3f} s" for name, value in found.items())
        print(f"  {number}/{rounds}: {told}", flush=True)
    return figures


def machine_load() -> str:
    """What others do on this machine right now: figures under load are of that load."""
    busy = psutil.cpu_percent(LOAD_S)
    word = "quiet" if busy < QUIET_PERCENT else "busy"
    return f"machine {word}: {busy:.0f} % of all cores, load {psutil.getloadavg()[0]:.1f}"


def say(what: str, figure: str) -> None:
    print(f"{what:<72} {figure}", flush=True)


def spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "no figure"
    median, worst = statistics.median(seconds), max(seconds)
    return f"median {median:.3f} s, worst {worst:.3f} s ({len(seconds)} rounds)"


def column(figures: Sequence[Json], name: str) -> list[float]:
    return [each[name] for each in figures if name in each]


def quiet(pcs: Sequence[Pc], witness: Witness) -> Json:
    """Until nothing moves any more; returns one status."""
    wait_agreed(pcs, QUIET_WAIT_S)
    wait_until(lambda: not witness.now(), QUIET_WAIT_S, "no container is left")
    time.sleep(SETTLE_S)
    return wait_agreed(pcs, QUIET_WAIT_S)


# --- what agents tell ----------------------------------------------------------------------------


def now_unix_s() -> float:
    """The clock that diaries and engine events are told by."""
    return time.time_ns() / 1e9


def client(pc: Pc) -> Client:
    """The control socket itself: a new Python for each question would be half of the figure."""
    return Client(pc.data_dir)


def told(pc: Pc, event: str, since_s: float) -> list[Json]:
    """Lines of a PC's diary of that event and not older, each with `at_s` (Unix time)."""
    found = []
    for text in (pc.data_dir / "agent.log").read_text(encoding="utf-8").splitlines():
        if event not in text:
            continue
        line = json.loads(text)
        at_s = datetime.fromisoformat(line["timestamp"]).timestamp()
        if line["event"] == event and at_s >= since_s:
            found.append({**line, "at_s": at_s})
    return found


def first_order(pcs: Sequence[Pc], above: int, since_s: float) -> float:
    """When a reign above that number first had work done by one of these; 0: not yet."""
    orders = [
        line["at_s"]
        for pc in pcs
        for line in told(pc, "first_order", since_s)
        if line["number"] > above
    ]
    return min(orders, default=0.0)


def spec(command: Sequence[str], tasks: int = 1, node: str = "") -> Json:
    """A small job, as the control socket takes it."""
    return {
        "command": list(command),
        "image": IMAGE,
        "need": {"cpus_milli": MILLI_CPUS, "memory_bytes": MEMORY_BYTES},
        "tasks": tasks,
        "is_array": tasks > 1,
        "node_name": node,
    }


class Asking:
    """A job typed at one PC at this very moment, and when it was acknowledged."""

    def __init__(self, pc: Pc) -> None:
        self.job = ""
        self.acknowledged_s = 0.0
        self._pc = pc
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        ends = time.monotonic() + FIGURE_WAIT_S
        while not self.job and time.monotonic() < ends:
            try:
                answer = client(self._pc).call("submit", spec=spec(["true"]))
            except ControlError:
                time.sleep(0.01)
                continue
            self.acknowledged_s = now_unix_s()
            self.job = answer["job_id"]

    def wait(self) -> str:
        self._thread.join(FIGURE_WAIT_S)
        assert self.job, f"{self._pc.name} never had its job acknowledged"
        return self.job
