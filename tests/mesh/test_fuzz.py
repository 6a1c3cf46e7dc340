"""Fifty thousand cases of what `python -m tests.fuzz` does with a million."""

import random

from tests.fuzz import Fuzz, mutated

CASES = 50_000


def test_nothing_is_raised_and_nothing_grows() -> None:
    fuzz = Fuzz(seed=7)

    fuzz.run(CASES)

    # It gets past every lock, or it would say nothing about what is behind.
    outcomes = {word: set(counts) for word, counts in fuzz.outcomes.items()}
    assert {"taken", "replied", "replayed", "stranger", "magic"} <= outcomes["replayed"]
    assert {"taken", "unanswered", "control", "clone"} <= outcomes["spoken"]
    assert {"replied", "old_boot", "bad_control", "signature", "own"} <= outcomes["forged"]
    for word in ("nonsense", "message", "record", "beacon", "door", "stuffed"):
        assert {"taken", "msgpack", "unknown_tag", "bad_field"} <= outcomes[word], word
    assert {"closed", "frame_length", "msgpack", "bad_field"} <= outcomes["frame"]
    assert "refused" in outcomes["certificate"]
    assert len(fuzz.receiver.dropped) < 20


def test_a_case_is_its_number() -> None:
    first, second = (mutated(random.Random("7/9"), b"sample", b"other") for _ in range(2))

    assert first == second
