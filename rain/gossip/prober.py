"""Probing: what this node asks of others to see whether they live, and does with the answers.

The rounds themselves are in probe.py; here they meet the beliefs: whom to ask, what rides along,
whom to accuse when every way has failed, and what the outcome says of this node's own health.
"""

import random

from rain.effects import MemberUnreachable, Post, Received, Send
from rain.gossip.beliefs import Beliefs
from rain.gossip.config import GossipConfig
from rain.gossip.messages import Ack, FactsRecord, MemberRecord, Nack, Ping, PingRequest
from rain.gossip.probe import Probe, Probes, Relay, choose
from rain.model import MemberState, NodeId


class Prober:
    def __init__(self, beliefs: Beliefs, config: GossipConfig, rng: random.Random) -> None:
        self._beliefs, self._config, self._rng = beliefs, config, rng
        self._probes = Probes(rng)

    def next_deadline_ms(self) -> int | None:
        return self._probes.next_deadline_ms()

    def check(self) -> None:
        self._probes.check()

    def forget(self, node_id: NodeId) -> None:
        """It is no member any more."""
        self._probes.forget(node_id)

    # --- Asking ----------------------------------------------------------------------------------

    def probe_next(self, now_ms: int) -> int | None:
        """Open the next member's round and say how long it lasts; None: nobody is here."""
        target = self._probes.choose_target(self._beliefs.roster.here())
        if target is None:
            return None
        round_ms = self._config.probe_interval_ms * (self._beliefs.health.score + 1)
        probe = self._probes.open(target, now_ms, round_ms, self._config.ack_timeout_ms)
        self._ping(target, probe.sequence)
        return round_ms

    def probe_silent(self, node_id: NodeId, now_ms: int) -> None:
        """A sibling hears nothing of it: ask in all ways at once."""
        held = self._beliefs.roster.get(node_id)
        if held is None or not held.confirmed or held.record.state is MemberState.LEFT:
            self._beliefs.emit(MemberUnreachable(node_id))
        elif not self._probes.is_urgent(node_id):
            self._probe_urgently(node_id, now_ms)

    def probe_reset(self, node_id: NodeId, now_ms: int) -> None:
        """A stream to it broke: ask in all ways at once. No answer makes a suspect, as ever."""
        held = self._beliefs.roster.get(node_id)
        if held is None or not held.is_here or self._probes.is_hastened(node_id):
            return
        round_ms, ack_timeout_ms = self._config.probe_interval_ms, self._config.ack_timeout_ms
        probe = self._probes.open(node_id, now_ms, round_ms, ack_timeout_ms)
        probe.hinted = True
        self._ping(node_id, probe.sequence)
        self._widen(probe)

    def pass_deadline(self, now_ms: int) -> None:
        for probe in self._probes.widening(now_ms):
            self._widen(probe)
        for relay in self._probes.nacks_due(now_ms):
            self._beliefs.emit(Send(relay.asker, Nack(relay.asked_sequence)))
        for probe in self._probes.failed(now_ms):
            self._on_failed(probe, now_ms)

    def _ping(self, target: NodeId, sequence: int) -> None:
        self._beliefs.emit(Send(target, Ping(sequence, *self._rumours_for(target))))

    def _rumours_for(
        self, node_id: NodeId
    ) -> tuple[tuple[MemberRecord, ...], tuple[FactsRecord, ...]]:
        """What rides on a packet. A suspect reads of the suspicion first, to refute at once."""
        held = self._beliefs.roster.get(node_id)
        is_accused = held and held.confirmed and held.record.state is not MemberState.ALIVE
        first = held.record if held and is_accused else None
        return self._beliefs.updates.take(self._beliefs.size(), first)

    def _probe_urgently(self, node_id: NodeId, now_ms: int) -> None:
        round_ms, ack_timeout_ms = self._config.probe_interval_ms, self._config.ack_timeout_ms
        self._widen(self._probes.open(node_id, now_ms, round_ms, ack_timeout_ms, urgent=True))

    def _widen(self, probe: Probe) -> None:
        """In every other way: through helpers, and over the stream."""
        if not probe.helpers:
            sound = [
                node_id
                for node_id in self._beliefs.roster.here()
                if node_id != probe.target and not self._beliefs.is_suspect(node_id)
            ]
            probe.helpers = tuple(choose(sound, self._config.helpers_max, self._rng))
        if probe.urgent:
            self._ping(probe.target, probe.sequence)
        for helper in probe.helpers:
            self._beliefs.emit(Send(helper, PingRequest(probe.sequence, probe.target)))
        self._beliefs.emit(Post(probe.target, Ping(probe.sequence)))

    def _on_failed(self, probe: Probe, now_ms: int) -> None:
        health = self._beliefs.health
        was_sound = health.score == 0
        # A helper that kept silent is a sign that it is this node that hears nobody.
        health.worsen(len(probe.helpers) - len(probe.nacked))
        held = self._beliefs.roster.get(probe.target)
        if held is None:
            return
        if not health.may_accuse(now_ms):
            if probe.urgent:
                self._probe_urgently(probe.target, now_ms)
            return
        if probe.urgent:
            self._beliefs.emit(MemberUnreachable(probe.target))
        if held.is_here:
            self._beliefs.accuse(probe.target, now_ms, was_sound)

    # --- Answering -------------------------------------------------------------------------------

    def pinged(self, event: Received, sequence: int) -> None:
        if event.by_stream:
            self._beliefs.answer(event, Ack(sequence))
        else:
            self._beliefs.answer(event, Ack(sequence, *self._rumours_for(event.sender)))

    def acked(self, sender: NodeId, sequence: int) -> None:
        match self._probes.acked(sender, sequence):
            case Probe():
                self._beliefs.health.improve()
            case Relay(asker=asker, asked_sequence=asked_sequence):
                self._beliefs.emit(Send(asker, Ack(asked_sequence)))
            case None:
                pass  # late, or the answer to a ring

    def nacked(self, sender: NodeId, sequence: int) -> None:
        self._probes.nacked(sender, sequence)

    def asked_for(self, sender: NodeId, request: PingRequest, now_ms: int) -> None:
        """Ping the target for another."""
        if self._beliefs.roster.get(request.target) is None:
            self._beliefs.emit(Send(sender, Nack(request.sequence)))
            return
        sequence = self._probes.relay(
            sender,
            request.sequence,
            request.target,
            until_ms=now_ms + self._config.probe_interval_ms,
            nack_at_ms=now_ms + self._config.nack_timeout_ms,
        )
        if sequence is None:
            self._beliefs.drop("relays_full")
            return
        self._ping(request.target, sequence)
