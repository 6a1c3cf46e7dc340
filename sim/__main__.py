"""`python -m sim`: runs seeds, replays one, or shows that a planted bug is found.

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

if TYPE_CHECKING:
    from .simulation import Outcome

SECONDS_DEFAULT = 60
REGRESSIONS = Path(__file__).with_name("regressions.txt")


def main(words: list[str] | None = None) -> int:
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
        return _replay(options.replay, options.nodes, options.seconds)
    return _run(options)


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sim", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=_seeds, help="A:B, both ends included")
    parser.add_argument("--nodes", type=_nodes, help="3 to 9; without: each seed draws its own")
    parser.add_argument("--seconds", type=_seconds, default=SECONDS_DEFAULT, help="virtual ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--replay", type=int, metavar="SEED", help="print the trace of one seed")
    parser.add_argument("--plants", action="store_true", help="list the planted bugs")
    parser.add_argument("--plant", default="", metavar="NAME", help="run with that bug")
    parser.add_argument("--keep-going", action="store_true", help="play all seeds in any case")
    options = parser.parse_args(words)
    if options.seeds is None and options.replay is None and not options.plants:
        parser.error("one of --seeds, --replay and --plants is needed")
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
    if text.isdigit() and 3 <= int(text) <= 9:
        return int(text)
    raise argparse.ArgumentTypeError("3 to 9 nodes")


def _seconds(text: str) -> int:
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError("a number of seconds")


# --- one seed -----------------------------------------------------------------------------------


def _replay(seed: int, nodes: int | None, seconds: int) -> int:
    from .simulation import Simulation

    outcome = Simulation(seed, nodes, seconds, print).run()
    print(json.dumps(outcome._asdict()))
    return 1 if outcome.violation else 0


# --- many ---------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    begun = perf_counter()
    seeds = list(options.seeds)
    if not options.plant:
        seeds = list(dict.fromkeys([*kept_seeds(), *seeds]))
    tasks = [Task(seed, options.nodes, options.seconds, options.plant) for seed in seeds]
    played: list[Played] = []
    for one in play_all(tasks, options.jobs):
        played.append(one)
        if one.outcome.violation:
            _tell(one.outcome, options)
            if not options.keep_going:
                break
    _speeds(played)
    print(json.dumps(_sum(played, perf_counter() - begun)))
    return 1 if any(one.outcome.violation for one in played) else 0


def kept_seeds() -> Iterator[int]:
    """Seeds that once found a bug."""
    for line in REGRESSIONS.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield int(line.split()[0])


def _tell(outcome: "Outcome", options: argparse.Namespace) -> None:
    words = [f"--replay {outcome.seed}"]
    words += [f"--nodes {options.nodes}"] if options.nodes is not None else []
    words += [f"--seconds {options.seconds}"] if options.seconds != SECONDS_DEFAULT else []
    words += [f"--plant {options.plant}"] if options.plant else []
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
