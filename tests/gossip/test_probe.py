"""Rounds and relays on their own."""

import random

from rain.gossip.probe import RELAYS_MAX, Probe, Probes, Relay, choose
from rain.model import NodeId

HERE = tuple(NodeId(f"n{index:02d}") for index in range(5))


def test_everybody_is_probed_once_per_pass() -> None:
    probes = Probes(random.Random(1))
    first = [probes.choose_target(HERE) for _ in HERE]
    second = [probes.choose_target(HERE) for _ in HERE]
    assert sorted(filter(None, first)) == sorted(filter(None, second)) == list(HERE)
    assert first != second


def test_who_is_gone_is_skipped_and_nobody_is_probed_alone() -> None:
    probes = Probes(random.Random(1))
    probes.choose_target(HERE)
    assert {probes.choose_target(HERE[:1]) for _ in range(4)} == {HERE[0]}
    assert probes.choose_target(()) is None


def test_a_round_widens_once_and_fails_once() -> None:
    probes = Probes(random.Random(1))
    probe = probes.open(HERE[0], 1_000, round_ms=500, ack_timeout_ms=200)
    assert probes.next_deadline_ms() == 1_200
    assert probes.widening(1_199) == []
    assert probes.widening(1_200) == [probe]
    assert probes.widening(1_201) == []
    assert probes.next_deadline_ms() == 1_500
    assert probes.failed(1_499) == []
    assert probes.failed(1_500) == [probe]
    assert probes.failed(1_500) == []
    assert probes.next_deadline_ms() is None


def test_only_the_target_and_its_helpers_can_acknowledge() -> None:
    probes = Probes(random.Random(1))
    probe = probes.open(HERE[0], 0, 500, 200)
    probe.helpers = (HERE[1], HERE[2])
    assert probes.acked(HERE[3], probe.sequence) is None
    probes.nacked(HERE[3], probe.sequence)
    probes.nacked(HERE[2], probe.sequence)
    probes.nacked(HERE[2], probe.sequence)
    assert probe.nacked == (HERE[2],)
    assert isinstance(probes.acked(HERE[1], probe.sequence), Probe)
    assert probes.acked(HERE[0], probe.sequence) is None, "the round is closed"


def test_a_relay_says_in_time_that_nothing_came_and_still_passes_a_late_answer() -> None:
    probes = Probes(random.Random(1))
    sequence = probes.relay(HERE[0], 77, HERE[1], until_ms=500, nack_at_ms=160)
    assert sequence is not None
    assert probes.nacks_due(159) == []
    assert [(relay.asker, relay.asked_sequence) for relay in probes.nacks_due(160)] == [
        (HERE[0], 77)
    ]
    assert probes.nacks_due(161) == []
    assert probes.acked(HERE[0], sequence) is None
    assert isinstance(probes.acked(HERE[1], sequence), Relay)


def test_relays_are_bounded_and_end() -> None:
    probes = Probes(random.Random(1))
    for number in range(RELAYS_MAX):
        assert probes.relay(HERE[0], number, HERE[1], 500, 160) is not None
    assert probes.relay(HERE[0], 99, HERE[1], 500, 160) is None
    probes.check()
    assert len(probes.nacks_due(500)) == RELAYS_MAX
    assert probes.next_deadline_ms() is None


def test_choosing_is_without_repetition() -> None:
    chosen = choose(HERE, 3, random.Random(4))
    assert len(set(chosen)) == 3
    assert sorted(choose(HERE, 99, random.Random(4))) == list(HERE)
    assert choose((), 3, random.Random(4)) == []


def test_a_forgotten_helper_is_none_that_answered() -> None:
    probes = Probes(random.Random(1))
    probe = probes.open(HERE[0], 1_000, round_ms=500, ack_timeout_ms=200)
    probe.helpers = (HERE[1], HERE[2])
    probes.nacked(HERE[1], probe.sequence)
    probes.forget(HERE[1])
    assert list(probe.helpers) == [HERE[2]]
    assert list(probe.nacked) == []
    probes.check()
