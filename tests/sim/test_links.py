"""What may be wrong with one direction of one pair."""

import random

from sim.links import HELD_MAX, Links


def test_a_sound_link_passes_everything_and_costs_no_draw() -> None:
    links = Links(random.Random(1))
    assert not links.rough
    assert links.passes(0, 1, b"x" * 1_200)
    assert not links.stops_streams(0, 1)


def test_loss_is_of_one_direction() -> None:
    links = Links(random.Random(1))
    links.spoil(0, 1, loss_permille=300)
    passed = sum(links.passes(0, 1, b"packet") for _ in range(1_000))
    assert 600 < passed < 800
    assert all(links.passes(1, 0, b"packet") for _ in range(100))


def test_a_clogged_link_holds_what_it_can_and_lets_it_go_in_order() -> None:
    links = Links(random.Random(1))
    links.spoil(0, 1, is_clogged=True)
    assert links.stops_streams(0, 1)
    for number in range(HELD_MAX + 10):
        assert not links.passes(0, 1, number.to_bytes(2, "big"))
    held = list(links.release(0, 1))
    assert held == [number.to_bytes(2, "big") for number in range(HELD_MAX)]
    assert not links.rough
    assert links.passes(0, 1, b"packet")


def test_a_black_hole_takes_what_is_large() -> None:
    links = Links(random.Random(1))
    links.spoil(0, 1, bytes_max=1_000)
    assert links.passes(0, 1, bytes(1_000))
    assert not links.passes(0, 1, bytes(1_001))
    assert links.swallows(0, 1, 1_001)
    assert not links.swallows(0, 1, 1_000)
    assert not links.stops_streams(0, 1)


def test_packets_may_be_blocked_alone_and_streams_too() -> None:
    links = Links(random.Random(1))
    links.spoil(0, 1, packets_blocked=True)
    assert not links.passes(0, 1, b"packet")
    assert not links.stops_streams(0, 1)
    links.spoil(0, 1, streams_blocked=True)
    links.restore(0, 1, "packets_blocked")
    assert links.passes(0, 1, b"packet")
    assert links.stops_streams(0, 1)
    links.restore(0, 1, "streams_blocked")
    assert not links.rough


def test_the_healing_tells_what_was_held() -> None:
    links = Links(random.Random(1))
    links.spoil(0, 1, is_clogged=True)
    links.mute.add(2)
    links.passes(0, 1, b"packet")
    assert links.heal() == [((0, 1), [b"packet"])]
    assert not links.rough
    assert not links.mute
