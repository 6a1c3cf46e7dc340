"""`python -m sim`: runs seeds, replays or shrinks one, or shows that a planted bug is found.

Exit 0 when every seed holds, 1 when one does not, 2 for a wrong command. The last line is JSON.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from .planting import Misfit
from .plants import PLANTS, plant_of
from .seeds import Played, Task, play_all, sow_named
from .shrink import shrink
from .shrink import told as shrunk_told
from .twice import compare_seed
from .twice import told as compared_told

if TYPE_CHECKING:
    from .simulation import Outcome

SECONDS_DEFAULT = 60
NODES_MIN, NODES_MAX = 3, 200
REGRESSIONS = Path(__file__).with_name("regressions.txt")
BROKEN_PIPE = 141
FOUND = Path(__file__).with_name("found.txt")


def main(words: list[str] | None = None) -> int:
    try:
        code = _main(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read us has gone (`… | head`); the interpreter's own last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _main(words: list[str] | None) -> int:
    options = _parse(words)
    if options.plants:
        for plant in PLANTS:
            print(f"{plant.name:<28} {plant.breaks}")
        return 0
    if options.plant and plant_of(options.plant) is None:
        print(f"there is no plant {options.plant}; --plants lists them", file=sys.stderr)
        return 2
    try:
        sow_named(options.plant)
    except Misfit as misfit:
        print(misfit, file=sys.stderr)
        return 2
    if options.replay is not None:
        return _replay(options)
    if options.shrink is not None:
        return _shrink(options)
    return _twice(options) if options.twice else _run(options)


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sim", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=_seeds, help="A:B, both ends included")
    parser.add_argument("--nodes", type=_nodes, help="3 to 200; without: each seed draws its own")
    parser.add_argument("--seconds", type=_seconds, default=SECONDS_DEFAULT, help="virtual ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--replay", type=int, metavar="SEED", help="print the trace of one seed")
    parser.add_argument("--only", type=_numbers, help="with --replay: faults by number, or none")
    parser.add_argument("--shrink", type=int, metavar="SEED", help="find the faults that matter")
    parser.add_argument("--twice", action="store_true", help="is each seed twice the same run?")
    parser.add_argument("--coverage", action="store_true", help="print what was hit how often")
    parser.add_argument("--plants", action="store_true", help="list the planted bugs")
    parser.add_argument("--plant", default="", metavar="NAME", help="run with that bug")
    parser.add_argument("--keep-going", action="store_true", help="play all seeds in any case")
    options = parser.parse_args(words)
    if not options.plants and options.seeds is options.replay is options.shrink is None:
        parser.error("one of --seeds, --replay, --shrink and --plants is needed")
    if options.only is not None and options.replay is None:
        parser.error("--only goes with --replay")
    if options.twice and options.seeds is None:
        parser.error("--twice goes with --seeds")
    return options


def _seeds(text: str) -> range:
    first, _, last = text.partition(":")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not A:B") from None
    if not seeds or seeds[0] < 0:
        raise argparse.ArgumentTypeError(f"{text} holds no seed")
    return seeds


def _nodes(text: str) -> int:
    if text.isdigit() and NODES_MIN <= int(text) <= NODES_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"{NODES_MIN} to {NODES_MAX} nodes")


def _numbers(text: str) -> frozenset[int]:
    if text == "none":
        return frozenset()
    try:
        return frozenset(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers") from None


def _seconds(text: str) -> int:
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError("a number of seconds")


# --- one seed -----------------------------------------------------------------------------------


def _replay(options: argparse.Namespace) -> int:
    from .simulation import Simulation

    if options.only:
        faults = Simulation(options.replay, options.nodes, options.seconds).count_faults()
        unknown = sorted(number for number in options.only if not 0 <= number < faults)
        if unknown:
            named = ", ".join(str(number) for number in unknown)
            known = f"it has 0 to {faults - 1}" if faults else "it has none"
            words = (
                f"seed {options.replay} has no fault {named}; {known} (--only none: none of them)"
            )
            print(words, file=sys.stderr)
            return 2
    outcome = Simulation(
        options.replay, options.nodes, options.seconds, print, only=options.only
    ).run()
    print(json.dumps(outcome._asdict()))
    return 1 if outcome.violation else 0


def _shrink(options: argparse.Namespace) -> int:
    from .simulation import run_seed

    seed = options.shrink
    shrunk = shrink(lambda only: run_seed(seed, options.nodes, options.seconds, only))
    if shrunk is None:
        print(f"seed {seed} breaks no law")
        return 0
    command = f"python -m sim --replay {seed} {' '.join(_words(options))}".rstrip()
    print("\n".join(shrunk_told(shrunk, command)))
    return 1


def _twice(options: argparse.Namespace) -> int:
    differs = False
    for seed in options.seeds:
        compared = compare_seed(seed, _words(options))
        differs = differs or compared.difference is not None
        print(compared_told(seed, compared), flush=True)
    return 1 if differs else 0


def _words(options: argparse.Namespace | Task) -> list[str]:
    """What must be said again for the same seed to be the same run."""
    words = ["--nodes", str(options.nodes)] if options.nodes is not None else []
    words += ["--seconds", str(options.seconds)] if options.seconds != SECONDS_DEFAULT else []
    return words + (["--plant", options.plant] if options.plant else [])


# --- many ---------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    begun = perf_counter()
    asked = [Task(seed, options.nodes, options.seconds, options.plant) for seed in options.seeds]
    kept = found_at(options.plant, asked) if options.plant else kept_seeds()
    tasks = list(dict.fromkeys([*kept, *asked]))
    played: list[Played] = []
    for task, one in zip(tasks, play_all(tasks, options.jobs), strict=False):
        played.append(one)
        if one.outcome.violation:
            _tell(task, one.outcome)
            if not options.keep_going:
                break
    missing = _cover(played) if options.coverage else []
    _speeds(played)
    print(json.dumps(_sum(played, perf_counter() - begun)))
    return 1 if missing or any(one.outcome.violation for one in played) else 0


def _cover(played: list[Played]) -> list[str]:
    """Print what was hit how often. What should have been, and was not, by now."""
    from .coverage import SEEDS_ENOUGH, lines, missing, total

    counts = total(one.outcome.hits for one in played)
    print("\n".join(lines(counts)))
    never = missing(counts)
    if never:
        print(f"never hit in {len(played)} seeds: {', '.join(never)}")
    return never if len(played) >= SEEDS_ENOUGH else []


def found_at(plant: str, asked: Iterable[Task]) -> list[Task]:
    """Of what was asked, the seed that found this bug the last time: it is played first."""
    lines = FOUND.read_text(encoding="utf-8").splitlines()
    seeds = dict(line.split() for line in lines if line and not line.startswith("#"))
    return [task for task in asked if str(task.seed) == seeds.get(plant)]


def kept_seeds() -> Iterator[Task]:
    """Seeds that once found a bug: `SEED` or `SEED/NODES`, then the story."""
    for line in REGRESSIONS.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            seed, _, nodes = line.split()[0].partition("/")
            yield Task(int(seed), int(nodes) if nodes else None, SECONDS_DEFAULT, "")


def _tell(task: Task, outcome: "Outcome") -> None:
    words = ["--replay", str(task.seed), *_words(task)]
    print(f"seed {outcome.seed}: {outcome.violation}")
    print(f"  replay it: python -m sim {' '.join(words)}", flush=True)


def _speeds(played: Iterable[Played]) -> None:
    """Virtual seconds to a real one, on one core, for each of the two signatures."""
    spent: dict[str, tuple[int, float]] = {}
    for outcome, real_seconds in played:
        name = "Ed25519" if outcome.is_ed25519 else "keyed BLAKE2b"
        virtual_ms, real = spent.get(name, (0, 0.0))
        spent[name] = (virtual_ms + outcome.virtual_ms, real + real_seconds)
    for name, (virtual_ms, real) in sorted(spent.items()):
        print(f"speed with {name}: {virtual_ms / 1_000 / max(real, 1e-9):.0f} x real time a core")


def _sum(played: list[Played], real_seconds: float) -> dict[str, int | float]:
    outcomes = [one.outcome for one in played]
    return {
        "seeds": len(outcomes),
        "virtual_seconds": sum(one.virtual_ms for one in outcomes) // 1_000,
        "real_seconds": round(real_seconds, 1),
        "crashes": sum(one.crashes for one in outcomes),
        "partitions": sum(one.partitions for one in outcomes),
        "elections": sum(one.elections for one in outcomes),
        "jobs_acknowledged": sum(one.jobs_acknowledged for one in outcomes),
        "results_committed": sum(one.results_committed for one in outcomes),
        "violations": sum(1 for one in outcomes if one.violation),
        "faults": sum(one.faults for one in outcomes),
        "jobs_submitted": sum(one.jobs_submitted for one in outcomes),
        "packets": sum(one.packets for one in outcomes),
    }


if __name__ == "__main__":
    sys.exit(main())
