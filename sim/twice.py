"""Is a run a function of its seed alone? Each seed is played by two interpreters at once.

They hash strings and sets by different salts. Their traces are compared line by line as they come;
the first line that differs shows where something leaked in that is not the seed's.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import blake2b
from itertools import zip_longest
from typing import NamedTuple

HASH_SEEDS = ("1", "777")
LINE_CHARS_TOLD = 200


class Compared(NamedTuple):
    """Two traces of one seed."""

    lines: int
    digest: str
    """Of all the lines that were equal."""
    difference: tuple[str, str] | None
    """The first two that were not."""


def compare(one: Sequence[str], other: Sequence[str]) -> Compared:
    """What two commands print. Neither reads anything."""
    first, second = _begin(one, HASH_SEEDS[0]), _begin(other, HASH_SEEDS[1])
    assert first.stdout is not None, "its output is piped"
    assert second.stdout is not None, "its output is piped"
    digest, lines, difference = blake2b(digest_size=8), 0, None
    for mine, yours in zip_longest(first.stdout, second.stdout, fillvalue="(nothing more)"):
        lines += 1
        if mine != yours:
            difference = mine.rstrip(), yours.rstrip()
            break
        digest.update(mine.encode())
    for child in (first, second):
        if difference is not None:
            child.kill()
        child.communicate()
    return Compared(lines, digest.hexdigest(), difference)


def compare_seed(seed: int, words: Sequence[str]) -> Compared:
    """Its trace, printed twice."""
    command = [sys.executable, "-m", "sim", "--replay", str(seed), *words]
    return compare(command, command)


def told(seed: int, compared: Compared) -> str:
    if compared.difference is None:
        return f"seed {seed}: {compared.lines} lines, twice the same, hash {compared.digest}"
    mine, yours = (line[:LINE_CHARS_TOLD] for line in compared.difference)
    return f"seed {seed}: line {compared.lines} differs\n  {mine}\n  {yours}"


def _begin(command: Sequence[str], hash_seed: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
