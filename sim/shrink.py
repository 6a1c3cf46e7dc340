"""Which faults of a seed that breaks a law matter: the seed is played again with fewer and fewer.

A fault has dice of its own, so leaving one out moves no other. First halves are left out, then
quarters, at last single ones; what still breaks the same law stays left out.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .simulation import Outcome

RUNS_MAX = 100
"""Runs of the seed, altogether."""

Play = Callable[[frozenset[int] | None], "Outcome"]
"""Plays the seed with these faults only; None: with all."""


class Shrunk(NamedTuple):
    """What is left of a seed."""

    outcome: "Outcome"
    """Of the run with nothing but what matters."""
    numbers: tuple[int, ...]
    struck_at_first: int
    runs: int


def shrink(play: Play, runs_max: int = RUNS_MAX) -> Shrunk | None:
    """None: that seed breaks no law."""
    whole = play(None)
    if not whole.law:
        return None
    kept = [one.number for one in whole.struck]
    best, runs = whole, 1
    size = len(kept)
    while size and runs < runs_max:
        at = 0
        while at < len(kept) and runs < runs_max:
            fewer = kept[:at] + kept[at + size :]
            outcome = play(frozenset(fewer))
            runs += 1
            if outcome.law == whole.law:
                kept, best = fewer, outcome
            else:
                at += size
        size = size // 2
    return Shrunk(best, tuple(sorted(kept)), len(whole.struck), runs)


def told(shrunk: Shrunk, command: str) -> list[str]:
    """As it is printed."""
    outcome = shrunk.outcome
    lines = [
        f"seed {outcome.seed}: {outcome.violation}",
        f"  {len(shrunk.numbers)} of {shrunk.struck_at_first} faults matter ({shrunk.runs} runs):",
    ]
    lines += [
        f"  {one.at_us / 1_000_000:11.6f} fault {one.number}: {one.kind}"
        for one in outcome.struck
        if one.number in shrunk.numbers
    ]
    only = ",".join(str(number) for number in shrunk.numbers) or "none"
    return [*lines, f"  replay it: {command} --only {only}"]
