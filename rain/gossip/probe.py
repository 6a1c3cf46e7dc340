"""One probe round: ask a member whether it lives, first directly, then in every other way.

A round opens with a ping. Unanswered for the ack timeout, it widens: helpers are asked to ping the
target, and the target is pinged over its stream. Any acknowledgement until the end of the round is
success; a helper that did not reach the target says so (Nack), which tells a dead target from a
sick prober. An urgent round is wide from the start and widens once more; so does a hinted
one, that a broken stream gave rise to. The other end of a
relayed probe is a relay: whose question it is, and when to say that nothing came back.
"""

import random
from dataclasses import dataclass
from typing import TypeVar

from rain.gossip.messages import MEMBERS_MAX
from rain.model import NodeId

PROBES_MAX = 2 * MEMBERS_MAX
RELAYS_MAX = 64

_Item = TypeVar("_Item")


@dataclass(slots=True)
class Probe:
    target: NodeId
    sequence: int
    until_ms: int
    widen_at_ms: int | None
    urgent: bool = False
    hinted: bool = False
    helpers: tuple[NodeId, ...] = ()
    nacked: tuple[NodeId, ...] = ()


@dataclass(slots=True)
class Relay:
    asker: NodeId
    asked_sequence: int
    target: NodeId
    until_ms: int
    nack_at_ms: int | None


class Probes:
    """The rounds under way and the relays for others; whose turn it is next."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._turns: list[NodeId] = []
        self._probes: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        self._last_sequence = 0

    def next_sequence(self) -> int:
        self._last_sequence += 1
        return self._last_sequence

    def choose_target(self, here: tuple[NodeId, ...]) -> NodeId | None:
        """Everybody once in random order, then again: no member waits longer than two passes."""
        present = set(here)
        for _ in range(2):
            while self._turns:
                target = self._turns.pop()
                if target in present:
                    return target
            self._turns = choose(here, len(here), self._rng)
        return None

    def open(
        self, target: NodeId, now_ms: int, round_ms: int, ack_timeout_ms: int, urgent: bool = False
    ) -> Probe:
        widen_at_ms = now_ms + ack_timeout_ms
        probe = Probe(target, self.next_sequence(), now_ms + round_ms, widen_at_ms, urgent)
        self._probes[probe.sequence] = probe
        return probe

    def is_urgent(self, target: NodeId) -> bool:
        return any(probe.urgent and probe.target == target for probe in self._probes.values())

    def is_hastened(self, target: NodeId) -> bool:
        """Is it being asked in all ways already?"""
        return any(
            (probe.urgent or probe.hinted) and probe.target == target
            for probe in self._probes.values()
        )

    def widening(self, now_ms: int) -> list[Probe]:
        """Rounds whose direct ping stayed unanswered; each is named once."""
        due = [
            probe
            for probe in self._probes.values()
            if probe.widen_at_ms is not None and probe.widen_at_ms <= now_ms
        ]
        for probe in due:
            probe.widen_at_ms = None
        return due

    def failed(self, now_ms: int) -> list[Probe]:
        """Rounds that ended without an answer; they are closed."""
        due = [probe for probe in self._probes.values() if probe.until_ms <= now_ms]
        for probe in due:
            del self._probes[probe.sequence]
        return due

    def relay(
        self, asker: NodeId, asked_sequence: int, target: NodeId, until_ms: int, nack_at_ms: int
    ) -> int | None:
        """The sequence to ping the target with; None if too many relays are open."""
        if len(self._relays) >= RELAYS_MAX:
            return None
        sequence = self.next_sequence()
        self._relays[sequence] = Relay(asker, asked_sequence, target, until_ms, nack_at_ms)
        return sequence

    def nacks_due(self, now_ms: int) -> list[Relay]:
        """Relays to answer with a Nack now; they stay open for a late answer until their end."""
        expired = [number for number, relay in self._relays.items() if relay.until_ms <= now_ms]
        due = [
            relay
            for relay in self._relays.values()
            if relay.nack_at_ms is not None and relay.nack_at_ms <= now_ms
        ]
        for relay in due:
            relay.nack_at_ms = None
        for number in expired:
            del self._relays[number]
        return due

    def acked(self, sender: NodeId, sequence: int) -> Probe | Relay | None:
        """What this acknowledgement closes; None: nothing, or not theirs to acknowledge."""
        probe = self._probes.get(sequence)
        if probe is not None and sender in (probe.target, *probe.helpers):
            return self._probes.pop(sequence)
        relay = self._relays.get(sequence)
        if relay is not None and sender == relay.target:
            return self._relays.pop(sequence)
        return None

    def nacked(self, sender: NodeId, sequence: int) -> None:
        probe = self._probes.get(sequence)
        if probe is not None and sender in probe.helpers and sender not in probe.nacked:
            probe.nacked += (sender,)

    def forget(self, node_id: NodeId) -> None:
        """It is no member any more: nobody asks for it, and nobody waits for its answer."""
        for probe in self._probes.values():
            probe.helpers = tuple(helper for helper in probe.helpers if helper != node_id)
            probe.nacked = tuple(helper for helper in probe.nacked if helper != node_id)
        self._probes = {n: probe for n, probe in self._probes.items() if probe.target != node_id}
        self._relays = {
            number: relay
            for number, relay in self._relays.items()
            if node_id not in (relay.asker, relay.target)
        }

    def next_deadline_ms(self) -> int | None:
        if not self._probes and not self._relays:
            return None
        deadlines = [
            probe.until_ms if probe.widen_at_ms is None else min(probe.until_ms, probe.widen_at_ms)
            for probe in self._probes.values()
        ]
        deadlines += [
            relay.until_ms if relay.nack_at_ms is None else min(relay.until_ms, relay.nack_at_ms)
            for relay in self._relays.values()
        ]
        return min(deadlines)

    def check(self) -> None:
        assert len(self._probes) <= PROBES_MAX, "G4: probes bounded"
        assert len(self._relays) <= RELAYS_MAX, "G4: relays bounded"
        urgent = [probe.target for probe in self._probes.values() if probe.urgent]
        assert len(urgent) == len(set(urgent)), "G4: one urgent round per member"
        hinted = [probe.target for probe in self._probes.values() if probe.hinted]
        assert len(hinted) == len(set(hinted)), "G4: one hinted round per member"


def choose(items: tuple[_Item, ...] | list[_Item], count: int, rng: random.Random) -> list[_Item]:
    """So many of them in random order. Only `random()` is stable across versions of Python."""
    pool = list(items)
    chosen: list[_Item] = []
    for _ in range(min(count, len(pool))):
        index = int(rng.random() * len(pool))
        pool[index], pool[-1] = pool[-1], pool[index]
        chosen.append(pool.pop())
    return chosen
