"""Two interpreters, two salts, one run."""

import sys

from sim.twice import compare, compare_seed, told


def test_a_seed_is_twice_the_same() -> None:
    compared = compare_seed(4, ["--nodes", "3", "--seconds", "25"])
    assert compared.difference is None
    assert compared.lines > 1_000
    assert "twice the same" in told(4, compared)


def test_the_first_line_that_differs_is_told() -> None:
    leaks = "for line in ('one', 'two', hash('salted'), 'four'): print(line)"
    compared = compare([sys.executable, "-c", leaks], [sys.executable, "-c", leaks])
    assert compared.lines == 3
    assert compared.difference is not None
    assert compared.difference[0] != compared.difference[1]
    assert told(7, compared).startswith("seed 7: line 3 differs\n  ")


def test_a_trace_that_ends_early_differs() -> None:
    longer = [sys.executable, "-c", "print('one'); print('two')"]
    shorter = [sys.executable, "-c", "print('one')"]
    assert compare(longer, shorter).difference == ("two", "(nothing more)")
