"""Somebody records what is on the cable: the beginning of every packet, and a bounded sample."""

import random

from sim.tape import KEPT_MAX, Tape


def packet(number: int) -> bytes:
    return number.to_bytes(18, "big") + b"body"


def test_the_first_time_counts() -> None:
    tape = Tape(random.Random(1))
    tape.record(0, 1, packet(7), 100)
    tape.record(0, 2, packet(7), 200)
    assert tape.first_heard_us(packet(7)) == 100
    assert tape.first_heard_us(packet(8)) is None


def test_the_sample_is_bounded_and_fair() -> None:
    tape, dice = Tape(random.Random(1)), random.Random(2)
    assert tape.draw(dice) is None
    count = 5 * KEPT_MAX
    for number in range(count):
        tape.record(0, 1, packet(number), number)
    drawn = [tape.draw(dice) for _ in range(2_000)]
    numbers = [int.from_bytes(one.packet[:18], "big") for one in drawn if one is not None]
    assert len(numbers) == 2_000
    assert 0.45 < sum(numbers) / len(numbers) / count < 0.55
