"""What is left when everything that does not matter is left out."""

import subprocess
import sys

from sim.shrink import shrink, told
from sim.simulation import Outcome
from sim.stage import Struck

LAW = "L1 one coordinator"


def outcome(numbers: frozenset[int], law: str) -> Outcome:
    fields = dict.fromkeys(Outcome._fields, 0)
    struck = tuple(Struck(number, number * 1_000_000, "crash") for number in sorted(numbers))
    told = f"{law}: nobody does" if law else ""
    return Outcome(**{**fields, "seed": 9, "violation": told, "law": law, "struck": struck})  # type: ignore[arg-type]


class Seed:
    """Breaks the law when all of these faults strike, and another one when only some do."""

    def __init__(self, *guilty: int) -> None:
        self.guilty = frozenset(guilty)
        self.played: list[frozenset[int]] = []

    def play(self, only: frozenset[int] | None) -> Outcome:
        numbers = frozenset(range(20)) if only is None else only
        self.played.append(numbers)
        if self.guilty <= numbers:
            return outcome(numbers, LAW)
        return outcome(numbers, "S8 another one" if self.guilty & numbers else "")


def test_only_what_matters_for_the_same_law_is_kept() -> None:
    shrunk = shrink(Seed(3, 11, 12).play)
    assert shrunk is not None
    assert shrunk.numbers == (3, 11, 12)
    assert [one.number for one in shrunk.outcome.struck] == [3, 11, 12]
    lines = told(shrunk, "python -m sim --replay 9")
    assert lines[1] == f"  3 of 20 faults matter ({shrunk.runs} runs):"
    assert lines[-1] == "  replay it: python -m sim --replay 9 --only 3,11,12"


def test_where_no_fault_matters_none_is_kept() -> None:
    seed = Seed()
    shrunk = shrink(seed.play)
    assert shrunk is not None
    assert (shrunk.numbers, shrunk.runs) == ((), 2)
    assert told(shrunk, "x")[-1] == "  replay it: x --only none"


def test_the_number_of_runs_is_bounded() -> None:
    seed = Seed(*range(20))
    shrunk = shrink(seed.play, runs_max=7)
    assert shrunk is not None
    assert shrunk.runs == len(seed.played) == 7
    assert len(shrunk.numbers) == 20


def test_a_seed_that_breaks_nothing_is_not_shrunk() -> None:
    assert shrink(lambda only: outcome(frozenset(), "")) is None


def test_a_planted_bug_is_shrunk_to_what_reveals_it() -> None:
    words = ["--plant", "two-reigns-stay", "--nodes", "4", "--seconds", "30"]
    found = sim("--seeds", "1:9", "--jobs", "1", *words)
    assert found.returncode == 1
    seed = found.stdout.split("--replay ")[1].split()[0]
    shrunk = sim("--shrink", seed, *words)
    assert shrunk.returncode == 1
    command = shrunk.stdout.splitlines()[-1].split("python -m sim ")[1].split()
    assert len(command[command.index("--only") + 1].split(",")) <= 4
    again = sim(*command)
    assert again.returncode == 1
    assert LAW in again.stdout


def sim(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "sim", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
