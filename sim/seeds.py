"""Many seeds, in as many processes as there are cores.

The processes are started afresh and nothing here imports the product before a seed is played,
because a plant must be sown first.
"""

import gc
import multiprocessing
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from .planting import sow
from .plants import plant_of

if TYPE_CHECKING:
    from .simulation import Outcome


class Task(NamedTuple):
    """One seed to play, in whatever process."""

    seed: int
    nodes: int | None
    seconds: int
    plant: str


class Played(NamedTuple):
    outcome: "Outcome"
    real_seconds: float


def sow_named(name: str) -> None:
    plant = plant_of(name)
    if plant is not None:
        sow(plant)


def play(task: Task) -> Played:
    sow_named(task.plant)
    from .simulation import run_seed

    begun = perf_counter()
    gc.freeze()  # what is there before a run is there after it, and need not be looked through
    # A run leaves no garbage worth looking for, and the looking costs a sixth of its time.
    gc.disable()
    outcome = run_seed(task.seed, task.nodes, task.seconds)
    gc.enable()
    gc.collect()
    return Played(outcome, perf_counter() - begun)


def play_all(tasks: list[Task], jobs: int) -> Iterator[Played]:
    """In the order of the tasks."""
    if jobs <= 1 or len(tasks) == 1:
        yield from map(play, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(jobs, len(tasks))) as pool:
        yield from pool.imap(play, tasks)
