"""What must not cost anything costs nothing, and what must cost one reign costs one.

A busy machine, lost packets, a stall of a second, a worker's cable: nobody is declared dead, no
reign begins. A death costs exactly one reign, a return none. After a heal all tables are the same.
What happened inside is read from each agent's diary, so that nothing between two looks is missed.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.integration.conftest import SHARE, require, show_ends
from tests.testbed import faults
from tests.testbed.engine import IMAGE, Engine
from tests.testbed.lan import (
    Json,
    Pc,
    coordinator_of,
    found_pool,
    lan,
    missing,
    wait_agreed,
    wait_until,
)
from tests.testbed.witness import Witness

pytestmark = [pytest.mark.engine, pytest.mark.lan]

BUSY_SECONDS = int(os.environ.get("RAIN_BUSY_SECONDS", "60"))
"""`make night` makes it ten minutes."""
BUSY_SECONDS_MAX = 1_800
LOSS_SHARE = 0.05
STALL_S = 1.0
OUT_S = 5.0
"""A cable is out for so long: long enough for its PC to be given up."""
SPLIT_S = 12.0
"""For 15 s after a loss a half waits for copies at those that are gone; a submit waits for 10."""
QUIET_S = 3.0
SETTLE_WAIT_S = 30.0
LONG_S = 300


@pytest.fixture(scope="module")
def pcs(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Pc]]:
    """Four PCs in one pool for all of these: what hurts it must leave it as it was."""
    require(missing())
    with lan(tmp_path_factory.mktemp("resilience"), 4, {"DOCKER_HOST": engine.host}) as one:
        found_pool(one.pcs, *SHARE)
        yield one.pcs
        show_ends(one)


class Diaries:
    """What the agents tell from now on."""

    def __init__(self, pcs: Sequence[Pc]) -> None:
        self._from = {pc.name: _size(pc) for pc in pcs}
        self._pcs = list(pcs)

    def lines(self, event: str) -> list[Json]:
        """All of that event, each with the name of the PC that tells it."""
        return [
            {**line, "pc": pc.name}
            for pc in self._pcs
            for line in _lines(pc, self._from[pc.name])
            if line.get("event") == event
        ]

    def reigns(self) -> list[tuple[str, int]]:
        """The reigns that began: on which PC, and their number."""
        return [(line["pc"], line["number"]) for line in self.lines("reign_began")]

    def declared_dead(self) -> list[tuple[str, str]]:
        """Who declared whom dead."""
        downs = self.lines("member_down")
        return [(line["pc"], line["node_id"]) for line in downs if line["state"] == "DEAD"]


def _log(pc: Pc) -> Path:
    return pc.data_dir / "agent.log"


def _size(pc: Pc) -> int:
    return _log(pc).stat().st_size


def _lines(pc: Pc, from_byte: int) -> list[Json]:
    if _size(pc) < from_byte:
        from_byte = 0  # a new file was begun
    with _log(pc).open("rb") as file:
        file.seek(from_byte)
        return [json.loads(line) for line in file.read().splitlines() if line.endswith(b"}")]


@contextlib.contextmanager
def busy_loops(seconds: int) -> Iterator[None]:
    """One on every core, at normal priority; they end by themselves too."""
    script = (
        f"import time\nends = time.monotonic() + {seconds}\nwhile time.monotonic() < ends: pass"
    )
    count = os.cpu_count() or 1
    loops = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def reign_of(pcs: Sequence[Pc]) -> tuple[str, int]:
    """Who reigns, and by which number, as all say."""
    status = wait_agreed(pcs)
    return status["coordinator"]["name"], status["epoch"]["number"]


def submit(pc: Pc, *words: str) -> str:
    done = pc.rain("submit", "--image", IMAGE, "--memory", "16m", "-d", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_same_tables(pcs: Sequence[Pc]) -> None:
    """Byte for byte, by the digest that each tells of its own."""

    def are_same() -> bool:
        told = [pc.try_ask("status") for pc in pcs]
        return all(told) and len({one["table"]["digest"] for one in told if one is not None}) == 1

    wait_until(are_same, SETTLE_WAIT_S, "all tables are the same")


def test_a_busy_machine_accuses_nobody(pcs: list[Pc]) -> None:
    """100 % CPU on all cores and 5 % loss: no reign, no death, and work is still done."""
    assert BUSY_SECONDS <= BUSY_SECONDS_MAX
    before = reign_of(pcs)
    diaries = Diaries(pcs)
    loss = faults.lose(pcs, LOSS_SHARE)
    with busy_loops(BUSY_SECONDS + 30):
        ends = time.monotonic() + BUSY_SECONDS
        while time.monotonic() < ends:
            done = pcs[1].rain("run", "--image", IMAGE, "--memory", "16m", "--", "echo", "fine")
            assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
            time.sleep(2)
    loss.lift()

    assert diaries.reigns() == []
    assert diaries.declared_dead() == []
    assert reign_of(pcs) == before


def test_a_stall_of_a_second_changes_nothing(pcs: list[Pc], witness: Witness) -> None:
    """kill -STOP of any PC that does not coordinate; its task goes on."""
    chief = coordinator_of(pcs)
    before = reign_of(pcs)
    job = submit(chief, "--array", "0-7", "--", "sleep", str(LONG_S))
    wait_until(lambda: len(witness.running_tasks(job)) == 8, SETTLE_WAIT_S, "all run")
    diaries = Diaries(pcs)
    for pc in pcs:
        if pc is not chief:
            pc.kill(signal.SIGSTOP)
            time.sleep(STALL_S)
            pc.kill(signal.SIGCONT)
            time.sleep(QUIET_S)

    assert diaries.reigns() == []
    assert diaries.declared_dead() == []
    assert reign_of(pcs) == before
    assert len(witness.starts(job)) == 8
    assert chief.rain("cancel", job).returncode == 0


def test_a_death_costs_one_reign_and_a_return_none(pcs: list[Pc]) -> None:
    for _ in range(2):
        dying = coordinator_of(pcs)
        others = [pc for pc in pcs if pc is not dying]
        diaries = Diaries(pcs)
        dying.kill()
        wait_agreed(others)
        after_death = diaries.reigns()
        assert len(after_death) == 1, after_death
        assert after_death[0][0] in {pc.name for pc in others}

        dying.up()
        dying.wait_ready()
        reign = reign_of(pcs)
        time.sleep(QUIET_S)
        assert diaries.reigns() == after_death
        assert reign_of(pcs) == reign


def test_a_workers_cable_costs_no_reign_of_the_others(pcs: list[Pc]) -> None:
    """Alone it may have reigned over itself; when it is back it follows, and nothing changed."""
    chief = coordinator_of(pcs)
    before = reign_of(pcs)
    cut = next(pc for pc in pcs if pc is not chief)
    others = [pc for pc in pcs if pc is not cut]
    diaries = Diaries(others)
    cut.cut_cable()
    time.sleep(OUT_S)
    assert reign_of(others) == before

    cut.mend_cable()
    name, _ = reign_of(pcs)
    time.sleep(QUIET_S)
    assert diaries.reigns() == []
    assert name == reign_of(pcs)[0] == chief.name


def is_well_ended(pc: Pc, job: str) -> bool:
    return pc.rain("wait", job).returncode == 0


def test_after_a_heal_all_tables_are_the_same(pcs: list[Pc], witness: Witness) -> None:
    """Both halves took jobs and cancels; every one that was acknowledged holds everywhere."""
    first = submit(pcs[0], "--", "sleep", str(LONG_S))
    second = submit(pcs[3], "--", "sleep", str(LONG_S))
    wait_until(lambda: len(witness.running_tasks(first)) == 1, SETTLE_WAIT_S, "it runs")
    split = faults.split(pcs[:2], pcs[2:])
    time.sleep(SPLIT_S)
    kept = [submit(pc, "--", "true") for pc in (pcs[0], pcs[3])]
    given_up = [submit(pc, "--", "sleep", str(LONG_S)) for pc in (pcs[0], pcs[3])]
    for pc, jobs in ((pcs[1], (first, given_up[0])), (pcs[2], (second, given_up[1]))):
        for job in jobs:
            done = pc.rain("cancel", job)
            assert done.returncode == 0, done.stderr
    split.lift()
    wait_agreed(pcs)
    for job in kept:
        # What the other half took is told within seconds of the heal, not in the same moment.
        wait_until(partial(is_well_ended, pcs[0], job), SETTLE_WAIT_S, "it ends")
    expected = {
        **dict.fromkeys(kept, "SUCCEEDED"),
        **dict.fromkeys([first, second, *given_up], "CANCELLED"),
    }
    # Other tests have used this pool, and other pools this engine.
    wait_until(lambda: not any(map(witness.now, expected)), 60, "no container is left")
    wait_same_tables(pcs)
    for pc in pcs:
        states = {job["id"]: job["state"] for job in pc.ask("jobs", "-a")["jobs"]}
        assert {job: states.get(job) for job in expected} == expected
