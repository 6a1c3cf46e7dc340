"""Who is here: SWIM with suspicion, refutation, relayed probes and own health, as one machine.

Roles: all members are alike. Each probes one other per interval (probe.py), tells what it learns
on those very packets (updates.py), and keeps a table that only rises (member.py, roster.py).
A probe that fails in every way makes a suspect; a suspect that does not refute in time
(suspicion.py) is dead; `left` is a goodbye, never a failure. A node that is itself in doubt
(health.py) accuses nobody. The dead are rung for long (retries.py), so partitions heal.

Messages: Join (I am here), Ping, Ack, PingRequest and Nack (probes), Rumours (updates that cannot
wait), Sync (full tables over a stream; first a digest in a packet, as equal tables need none).
Only a death told as news is believed; one found in a table makes a suspect that may refute.

Invariants:
G1  the own incarnation and the own facts version never fall; nobody else writes the own record
G2  a member moves only up in (boot epoch, incarnation, state)
G3  every update fits a packet and is told a bounded number of times
G4  table, probes, relays, courtesies: bounded
G5  suspicions belong to exactly the suspects; accusers and timeouts in bounds
G6  own health stays in 0..8
G7  who is absent is being retried or remembered as left, and nobody else is
G8  the deadline told is the soonest of all

It does not decide who coordinates, does not move work, and proves no death: others act on it with
fences of their own. Claims are believed from any member; strangers are the envelope's business.
"""

import random
from collections.abc import Sequence
from typing import ClassVar

from msgspec.structs import replace

from rain.effects import (
    AddressChanged,
    Broadcast,
    DeadlinePassed,
    Event,
    HandedOver,
    HardwareMeasured,
    Lagged,
    MemberSilent,
    MemberUnreachable,
    MemberUp,
    Message,
    Notice,
    Output,
    Post,
    Received,
    Record,
    Route,
    Send,
    SiblingNotice,
    Stopped,
    StopRequested,
)
from rain.gossip.beliefs import Beliefs
from rain.gossip.config import GossipConfig as GossipConfig
from rain.gossip.health import LAG_FORBIDS_MS
from rain.gossip.member import Member, is_unspecified, own_member
from rain.gossip.messages import (
    Ack,
    FactsRecord,
    Join,
    MemberRecord,
    Nack,
    Ping,
    PingRequest,
    Rumours,
    Sync,
)
from rain.gossip.probe import Probe, Probes, Relay, choose
from rain.gossip.records import MemberRow
from rain.model import Address, Facts, Identity, MemberState, NodeId

COURTESIES_MAX = 64
"""Nodes that this one remembers to have introduced itself to, or told of their death."""
COURTESY_INTERVAL_MS = 1_000


class Membership:
    """The core that knows who is in the pool."""

    NOTICES: ClassVar[frozenset[type[SiblingNotice]]] = frozenset({MemberSilent, HandedOver})

    def __init__(
        self,
        identity: Identity,
        address: Address,
        facts: Facts,
        config: GossipConfig,
        rng: random.Random,
        now_ms: int,
        recovered: Sequence[Record] = (),
    ) -> None:
        self._id, self._config, self._rng = identity.node_id, config, rng
        rows = [row for row in recovered if isinstance(row, MemberRow)]
        self._beliefs = Beliefs(own_member(identity, address, facts), config, rng, now_ms, rows)
        self._probes = Probes(rng)
        self._courtesies: dict[NodeId, int] = {}
        self._announced_alone = 0
        self._announce_at_ms = now_ms
        self._probe_at_ms: int | None = None
        self._sync_at_ms: int | None = None
        self._sync_after_ms = config.sync_first_ms
        self._tell_at_ms: int | None = None
        self._handover_until_ms: int | None = None
        self._goodbye_at_ms: int | None = None
        self._is_stopped = False
        self._deadline_ms = self._soonest_ms()

    # --- The core's interface --------------------------------------------------------------------

    def handle(self, event: Event | Notice, now_ms: int) -> list[Output]:
        if self._is_stopped:
            return []
        deadline_ms = self._deadline_ms
        if deadline_ms is not None and now_ms - deadline_ms > LAG_FORBIDS_MS:
            # Whatever the driver says: who wakes up so late has not been listening either.
            self._beliefs.health.lagged(now_ms - deadline_ms, now_ms)
        self._beliefs.out = []
        if self._goodbye_at_ms is None:
            self._take(event, now_ms)
            self._plan(now_ms)
        elif self._goodbye_at_ms <= now_ms:
            self._say_goodbye(now_ms)
        self._deadline_ms = self._soonest_ms()
        return [*self._beliefs.roster.unwritten(), *self._beliefs.out]

    def next_deadline_ms(self) -> int | None:
        return self._deadline_ms

    def _soonest_ms(self) -> int | None:
        """When time alone changes something; asked once per event, as nothing else moves it."""
        if self._is_stopped or self._goodbye_at_ms is not None:
            return self._goodbye_at_ms
        soonest_ms = self._announce_at_ms
        for at_ms in (
            self._probe_at_ms,
            self._sync_at_ms,
            self._tell_at_ms,
            self._handover_until_ms,
            self._probes.next_deadline_ms(),
            self._beliefs.next_deadline_ms(),
        ):
            if at_ms is not None and at_ms < soonest_ms:
                soonest_ms = at_ms
        return soonest_ms

    def check(self) -> None:
        assert self._deadline_ms == self._soonest_ms(), "G8: the deadline told is the soonest"
        self._beliefs.check()
        self._probes.check()
        assert len(self._courtesies) <= COURTESIES_MAX, "G4: courtesies bounded"

    def members(self) -> list[Member]:
        """Everybody this node knows of, itself included, sorted by id."""
        shown = [member.shown() for member in self._beliefs.roster.all()]
        return sorted([self._beliefs.own, *shown], key=lambda member: member.record.node_id)

    @property
    def dropped(self) -> dict[str, int]:
        """What peers sent in vain, by reason."""
        return self._beliefs.dropped

    def _take(self, event: Event | Notice, now_ms: int) -> None:
        match event:
            case Received():
                self._on_received(event, now_ms)
            case DeadlinePassed():
                self._on_deadline(now_ms)
            case Lagged(lag_ms=lag_ms):
                self._beliefs.health.lagged(lag_ms, now_ms)
            case AddressChanged(address=address):
                self._beliefs.change_address(address)
                self._announce(now_ms)
            case HardwareMeasured(facts=facts):
                self._beliefs.change_facts(facts)
            case MemberSilent(node_id=node_id):
                self._on_member_silent(node_id, now_ms)
            case StopRequested():
                if self._handover_until_ms is None:
                    self._handover_until_ms = now_ms + self._config.handover_timeout_ms
            case HandedOver():
                if self._handover_until_ms is not None:
                    self._say_goodbye(now_ms)
            case _:
                pass  # the siblings' business

    def _plan(self, now_ms: int) -> None:
        """Arm the timers that depend on whether anybody is here and anything is to be told."""
        config, is_alone = self._config, not self._beliefs.roster.here()
        if is_alone:
            if self._probe_at_ms is not None:
                self._announce_at_ms = min(self._announce_at_ms, now_ms + config.announce_alone_ms)
            self._probe_at_ms = self._sync_at_ms = self._tell_at_ms = None
            return
        if self._probe_at_ms is None:
            self._announced_alone = 0
            self._probe_at_ms = now_ms + int(self._rng.random() * config.probe_interval_ms)
        if self._sync_at_ms is None or any(isinstance(o, MemberUp) for o in self._beliefs.out):
            self._sync_after_ms = config.sync_first_ms
            self._sync_at_ms = now_ms + self._jittered(config.sync_first_ms)
        if self._tell_at_ms is None and not self._beliefs.updates.is_empty():
            self._tell_at_ms = now_ms + config.tell_interval_ms

    # --- Time ------------------------------------------------------------------------------------

    def _on_deadline(self, now_ms: int) -> None:
        if self._handover_until_ms is not None and self._handover_until_ms <= now_ms:
            self._say_goodbye(now_ms)
            return
        if self._announce_at_ms <= now_ms:
            self._announce(now_ms)
        for probe in self._probes.widening(now_ms):
            self._widen(probe)
        for relay in self._probes.nacks_due(now_ms):
            self._send(relay.asker, Nack(relay.asked_sequence))
        for probe in self._probes.failed(now_ms):
            self._on_probe_failed(probe, now_ms)
        self._beliefs.end_suspicions(now_ms)
        self._beliefs.retry_absent(now_ms)
        self._maybe_probe(now_ms)
        self._maybe_ask_for_sync(now_ms)
        self._maybe_tell(now_ms)

    def _announce(self, now_ms: int) -> None:
        config, is_alone = self._config, not self._beliefs.roster.here()
        self._beliefs.emit(Broadcast(self._beliefs.join(reply=is_alone)))
        if is_alone:
            self._announced_alone += 1
            quickly = self._announced_alone < config.announce_alone_first
            wait_ms = config.announce_alone_ms if quickly else config.announce_alone_later_ms
        else:
            # One announcement reaches a whole pool, so a larger one needs none from each member.
            turns = -(-self._beliefs.size() // config.announcers)
            wait_ms = self._jittered(config.announce_interval_ms * turns)
        self._announce_at_ms = now_ms + wait_ms

    def _maybe_probe(self, now_ms: int) -> None:
        if self._probe_at_ms is None or self._probe_at_ms > now_ms:
            return
        target = self._probes.choose_target(self._beliefs.roster.here())
        if target is None:
            return
        round_ms = self._config.probe_interval_ms * (self._beliefs.health.score + 1)
        self._probe_at_ms = now_ms + round_ms
        probe = self._probes.open(target, now_ms, round_ms, self._config.ack_timeout_ms)
        self._ping(target, probe.sequence)

    def _maybe_ask_for_sync(self, now_ms: int) -> None:
        if self._sync_at_ms is None or self._sync_at_ms > now_ms:
            return
        digest = self._beliefs.roster.digest(self._beliefs.own)
        for peer in choose(self._beliefs.roster.here(), 1, self._rng):
            self._send(peer, Sync((), (), True, digest))
        self._sync_at_ms = now_ms + self._jittered(self._sync_after_ms)
        # 33 members sync half as often as 32, 65 a third: the tables grow as their number does.
        doublings = (-(-self._beliefs.size() // self._config.sync_stretch_members) - 1).bit_length()
        interval_ms = self._config.sync_interval_ms * (1 + doublings)
        self._sync_after_ms = min(2 * self._sync_after_ms, interval_ms)

    def _maybe_tell(self, now_ms: int) -> None:
        """Rumours flow only while there is something to tell: an idle pool is silent."""
        if self._tell_at_ms is None or self._tell_at_ms > now_ms:
            return
        self._tell_at_ms = None
        records, facts = self._beliefs.updates.take(self._beliefs.size())
        if records or facts:
            to = choose(self._beliefs.roster.here(), self._config.tell_members, self._rng)
            self._beliefs.cast(to, Rumours(records, facts))

    def _say_goodbye(self, now_ms: int) -> None:
        """Twice, as packets get lost; who does not hear it is told by those who do."""
        farewell = Rumours((self._beliefs.leave(),))
        here = self._beliefs.roster.here()
        is_last = self._goodbye_at_ms is not None or not here
        self._beliefs.cast(choose(here, self._config.goodbye_members_max, self._rng), farewell)
        self._goodbye_at_ms = None if is_last else now_ms + self._config.goodbye_repeat_ms
        if is_last:
            self._is_stopped = True
            self._beliefs.emit(Stopped())

    # --- Probes ----------------------------------------------------------------------------------

    def _ping(self, target: NodeId, sequence: int) -> None:
        self._send(target, Ping(sequence, *self._rumours_for(target)))

    def _rumours_for(
        self, node_id: NodeId
    ) -> tuple[tuple[MemberRecord, ...], tuple[FactsRecord, ...]]:
        """What rides on a packet. A suspect reads of the suspicion first, to refute at once."""
        held = self._beliefs.roster.get(node_id)
        is_accused = held and held.confirmed and held.record.state is not MemberState.ALIVE
        first = held.record if held and is_accused else None
        return self._beliefs.updates.take(self._beliefs.size(), first)

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
            self._send(helper, PingRequest(probe.sequence, probe.target))
        self._beliefs.emit(Post(probe.target, Ping(probe.sequence)))

    def _on_probe_failed(self, probe: Probe, now_ms: int) -> None:
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

    def _on_member_silent(self, node_id: NodeId, now_ms: int) -> None:
        held = self._beliefs.roster.get(node_id)
        if held is None or not held.confirmed or held.record.state is MemberState.LEFT:
            self._beliefs.emit(MemberUnreachable(node_id))
        elif not self._probes.is_urgent(node_id):
            self._probe_urgently(node_id, now_ms)

    def _probe_urgently(self, node_id: NodeId, now_ms: int) -> None:
        round_ms, ack_timeout_ms = self._config.probe_interval_ms, self._config.ack_timeout_ms
        self._widen(self._probes.open(node_id, now_ms, round_ms, ack_timeout_ms, urgent=True))

    # --- Messages --------------------------------------------------------------------------------

    def _on_received(self, event: Received, now_ms: int) -> None:
        sender = event.sender
        if sender == self._id:
            if event.boot_epoch not in (0, self._beliefs.own.record.boot_epoch):
                self._beliefs.suspect_clone("other_boot_epoch")
            return  # a broadcast comes back to its sender
        held = self._beliefs.roster.get(sender)
        boot_epoch = held.record.boot_epoch if held and held.confirmed else -1
        if 0 < event.boot_epoch < boot_epoch:
            self._beliefs.drop("older_life")
            return
        if not event.by_stream:
            self._beliefs.reroute(sender, event.source)
        message = event.message
        brings_its_record = isinstance(message, Join) or (
            isinstance(message, Sync) and not message.digest
        )
        if not brings_its_record and (boot_epoch < 0 or event.boot_epoch > boot_epoch):
            self._introduce(event, now_ms)
        match message:
            case Join() as join:
                self._on_join(event, join, now_ms)
            case Ping() as ping:
                self._on_ping(event, ping, now_ms)
            case Ack() as ack:
                self._on_ack(event, ack, now_ms)
            case PingRequest() as request:
                self._on_ping_request(event, request, now_ms)
            case Nack(sequence=sequence):
                self._probes.nacked(sender, sequence)
            case Sync() as sync:
                self._on_sync(event, sync, now_ms)
            case Rumours(updates=updates, facts=facts):
                self._learn(event, updates, facts, now_ms)
            case _:
                self._beliefs.drop("not_gossip")
        if held is not None and not held.is_here:
            self._maybe_tell_of_death(event, now_ms)

    def _on_join(self, event: Received, join: Join, now_ms: int) -> None:
        if not event.sender == join.record.node_id == join.facts.node_id:
            self._beliefs.drop("join_of_another")
            return
        self._learn(event, (join.record,), (join.facts,), now_ms)
        if not event.by_stream:
            self._beliefs.reroute(event.sender, event.source)
        if join.reply and self._beliefs.roster.get(event.sender) is not None:
            self._answer(event, self._beliefs.join(reply=False))

    def _on_ping(self, event: Received, ping: Ping, now_ms: int) -> None:
        self._learn(event, ping.updates, ping.facts, now_ms)
        if event.by_stream:
            self._answer(event, Ack(ping.sequence))
        else:
            self._answer(event, Ack(ping.sequence, *self._rumours_for(event.sender)))

    def _on_ack(self, event: Received, ack: Ack, now_ms: int) -> None:
        self._learn(event, ack.updates, ack.facts, now_ms)
        match self._probes.acked(event.sender, ack.sequence):
            case Probe():
                self._beliefs.health.improve()
            case Relay(asker=asker, asked_sequence=asked_sequence):
                self._send(asker, Ack(asked_sequence))
            case None:
                pass  # late, or the answer to a ring

    def _on_ping_request(self, event: Received, request: PingRequest, now_ms: int) -> None:
        self._learn(event, request.updates, (), now_ms)
        if self._beliefs.roster.get(request.target) is None:
            self._send(event.sender, Nack(request.sequence))
            return
        sequence = self._probes.relay(
            event.sender,
            request.sequence,
            request.target,
            until_ms=now_ms + self._config.probe_interval_ms,
            nack_at_ms=now_ms + self._config.nack_timeout_ms,
        )
        if sequence is None:
            self._beliefs.drop("relays_full")
            return
        self._ping(request.target, sequence)

    def _on_sync(self, event: Received, sync: Sync, now_ms: int) -> None:
        beliefs = self._beliefs
        if sync.digest:
            if sync.digest != beliefs.roster.digest(beliefs.own):
                beliefs.emit(Post(event.sender, beliefs.table(reply=True)))
            return
        self._learn(event, sync.records, sync.facts, now_ms, from_table=True)
        if sync.reply:
            beliefs.emit(Post(event.sender, beliefs.table(reply=False)))

    # --- Courtesies ------------------------------------------------------------------------------

    def _introduce(self, event: Received, now_ms: int) -> None:
        """To a sender that this node does not know (any more), or not in this life of it."""
        if not self._may_address(event.sender, now_ms):
            return
        if not event.by_stream:
            self._beliefs.emit(Route(event.sender, event.source))
        self._answer(event, self._beliefs.join(reply=True))

    def _maybe_tell_of_death(self, event: Received, now_ms: int) -> None:
        """Somebody believed dead speaks: it must hear of its death to refute it."""
        held = self._beliefs.roster.get(event.sender)
        if held is None or held.is_here or not held.confirmed:
            return
        if event.boot_epoch > held.record.boot_epoch:
            return  # another life; it was asked for its record
        if self._may_address(event.sender, now_ms):
            self._answer(event, Rumours((held.record,)))

    def _may_address(self, node_id: NodeId, now_ms: int) -> bool:
        last_ms = self._courtesies.pop(node_id, None)
        is_due = last_ms is None or now_ms - last_ms >= COURTESY_INTERVAL_MS
        self._courtesies[node_id] = now_ms if last_ms is None or is_due else last_ms
        if len(self._courtesies) > COURTESIES_MAX:
            del self._courtesies[next(iter(self._courtesies))]
        return is_due

    def _learn(
        self,
        event: Received,
        claims: Sequence[MemberRecord],
        facts: Sequence[FactsRecord],
        now_ms: int,
        from_table: bool = False,
    ) -> None:
        """A sender bound to all interfaces cannot name its address; its packet shows it."""
        placed = [
            replace(claim, address=_seen_at(event, claim.address))
            if claim.node_id == event.sender and is_unspecified(claim.address)
            else claim
            for claim in claims
        ]
        self._beliefs.learn_all(placed, facts, event.sender, now_ms, from_table)

    def _answer(self, event: Received, message: Message) -> None:
        """The way it came."""
        if event.by_stream:
            self._beliefs.emit(Post(event.sender, message))
        else:
            self._send(event.sender, message)

    def _send(self, to: NodeId, message: Message) -> None:
        self._beliefs.emit(Send(to, message))

    def _jittered(self, interval_ms: int) -> int:
        """A tenth more or less, so that members do not act in step."""
        return interval_ms * 9 // 10 + int(self._rng.random() * interval_ms / 5)


def _seen_at(event: Received, claimed: Address) -> Address:
    """A stream comes from a port of its own; the claimed one is right."""
    if event.by_stream and claimed.port:
        return Address(event.source.host, claimed.port)
    return event.source
