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
G10 the own lives are ordered: what outlived this one is later (lives.py)
G9  what is said of a node counts while trust admits it; the barred are down, and unknown here

Nobody speaks for another: what a member is, or that it left, it has signed itself, and accusations
quote what it signed (proofs.py). Names are those of certificates. Dropped is what is `unsigned`,
about nodes `not_admitted` or `barred`, or from them; a node that is barred itself falls silent.

It does not decide who coordinates, does not move work, and proves no death: others act on it with
fences of their own. Any admitted member may accuse any other, whatever its role; strangers are
the envelope's business.
"""

import random
from collections.abc import Sequence
from typing import ClassVar

from msgspec.structs import replace

from rain.claims import Sign, Verify
from rain.effects import (
    AddressChanged,
    Admitted,
    Barred,
    Broadcast,
    DeadlinePassed,
    Event,
    HandedOver,
    HardwareMeasured,
    Lagged,
    MemberSilent,
    MemberUp,
    Notice,
    Output,
    PeerReset,
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
from rain.gossip.courtesies import Courtesies
from rain.gossip.health import LAG_FORBIDS_MS
from rain.gossip.lives import Lives
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
from rain.gossip.probe import choose
from rain.gossip.prober import Prober
from rain.gossip.proofs import Proofs
from rain.gossip.records import LifeRow, MemberRow
from rain.model import Address, Facts, Identity, NodeId


class Membership:
    """The core that knows who is in the pool."""

    NOTICES: ClassVar[frozenset[type[SiblingNotice]]] = frozenset(
        {Admitted, Barred, MemberSilent, HandedOver}
    )

    def __init__(
        self,
        identity: Identity,
        address: Address,
        facts: Facts,
        config: GossipConfig,
        rng: random.Random,
        now_ms: int,
        recovered: Sequence[Record] = (),
        *,
        sign: Sign,
        verify: Verify,
    ) -> None:
        self._id, self._config, self._rng = identity.node_id, config, rng
        rows = [row for row in recovered if isinstance(row, MemberRow)]
        own = own_member(identity, address, facts)
        self._proofs = Proofs(identity.node_id, sign, verify)
        lives = [row for row in recovered if isinstance(row, LifeRow)]
        self._lives = Lives(identity.boot_epoch, lives)
        self._beliefs = Beliefs(own, self._proofs, config, rng, now_ms, rows, self._lives)
        self._prober = Prober(self._beliefs, config, rng)
        self._courtesies = Courtesies()
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
        written = self._lives.unwritten() + self._beliefs.roster.unwritten()
        return [*written, *self._beliefs.out]

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
            self._prober.next_deadline_ms(),
            self._beliefs.next_deadline_ms(),
        ):
            if at_ms is not None and at_ms < soonest_ms:
                soonest_ms = at_ms
        return soonest_ms

    def check(self) -> None:
        assert self._deadline_ms == self._soonest_ms(), "G8: the deadline told is the soonest"
        self._beliefs.check()
        self._prober.check()
        self._courtesies.check()

    def members(self) -> list[Member]:
        """Everybody this node knows of, itself included, sorted by id."""
        shown = [
            member.shown(self._proofs.name_of(member.record))
            for member in self._beliefs.roster.all()
        ]
        return sorted([self._beliefs.own, *shown], key=lambda member: member.record.node_id)

    def outlived_by(self) -> int:
        """A later life of this node that peers remember; 0: there is none. Then it starts anew."""
        return self._lives.outlived_by

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
            case Admitted():
                self._beliefs.admit(event, now_ms)
            case Barred(node_id=node_id):
                self._on_barred(node_id)
            case MemberSilent(node_id=node_id):
                self._prober.probe_silent(node_id, now_ms)
            case PeerReset(node_id=node_id):
                self._prober.probe_reset(node_id, now_ms)
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
        self._prober.pass_deadline(now_ms)
        self._beliefs.end_suspicions(now_ms)
        self._beliefs.retry_absent(now_ms)
        self._maybe_probe(now_ms)
        self._maybe_ask_for_sync(now_ms)
        self._maybe_tell(now_ms)

    def _announce(self, now_ms: int) -> None:
        config, is_alone = self._config, not self._beliefs.roster.here()
        self._lives.begin()
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
        round_ms = self._prober.probe_next(now_ms)
        if round_ms is not None:
            self._probe_at_ms = now_ms + round_ms

    def _maybe_ask_for_sync(self, now_ms: int) -> None:
        if self._sync_at_ms is None or self._sync_at_ms > now_ms:
            return
        digest = self._beliefs.roster.digest(self._beliefs.own)
        for peer in choose(self._beliefs.roster.here(), 1, self._rng):
            self._beliefs.emit(Send(peer, Sync((), (), True, digest)))
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

    # --- Messages --------------------------------------------------------------------------------

    def _on_received(self, event: Received, now_ms: int) -> None:
        sender = event.sender
        if self._proofs.refusal(sender):
            self._on_stranger(event, now_ms)
            return
        if sender == self._id:
            if event.boot_epoch not in (0, self._beliefs.own.record.boot_epoch):
                self._beliefs.suspect_clone("other_boot_epoch")
            return  # a broadcast comes back to its sender
        held = self._beliefs.roster.get(sender)
        boot_epoch = held.record.boot_epoch if held and held.confirmed else -1
        if held is not None and 0 < event.boot_epoch < held.record.boot_epoch:
            self._beliefs.drop("older_life")
            if self._courtesies.is_due(sender, now_ms):
                self._beliefs.answer(event, Rumours((held.record,)))
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
            case Ping(sequence=sequence, updates=updates, facts=facts):
                self._learn(event, updates, facts, now_ms)
                self._prober.pinged(event, sequence)
            case Ack(sequence=sequence, updates=updates, facts=facts):
                self._learn(event, updates, facts, now_ms)
                self._prober.acked(sender, sequence)
            case PingRequest(updates=updates):
                self._learn(event, updates, (), now_ms)
                self._prober.asked_for(sender, message, now_ms)
            case Nack(sequence=sequence):
                self._prober.nacked(sender, sequence)
            case Sync() as sync:
                self._on_sync(event, sync, now_ms)
            case Rumours(updates=updates, facts=facts):
                self._learn(event, updates, facts, now_ms)
            case _:
                self._beliefs.drop("not_gossip")
        self._beliefs.remind(sender, now_ms)
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
            self._beliefs.answer(event, self._beliefs.join(reply=False))

    def _on_sync(self, event: Received, sync: Sync, now_ms: int) -> None:
        beliefs = self._beliefs
        if sync.digest:
            if sync.digest != beliefs.roster.digest(beliefs.own):
                beliefs.emit(Post(event.sender, beliefs.table(reply=True)))
            return
        self._learn(event, sync.records, sync.facts, now_ms, from_table=True)
        if sync.reply:
            beliefs.emit(Post(event.sender, beliefs.table(reply=False)))

    # --- Admission -------------------------------------------------------------------------------

    def _on_stranger(self, event: Received, now_ms: int) -> None:
        """Nobody here: what it says of itself waits until it is."""
        self._beliefs.drop(self._proofs.refusal(event.sender))
        join = event.message
        if isinstance(join, Join) and event.sender == join.record.node_id == join.facts.node_id:
            self._learn(event, (join.record,), (join.facts,), now_ms)

    def _on_barred(self, node_id: NodeId) -> None:
        if node_id == self._id:
            self._is_stopped = True
            self._beliefs.emit(Stopped())
            return
        self._beliefs.bar(node_id)
        self._prober.forget(node_id)
        self._courtesies.forget(node_id)

    # --- Courtesies ------------------------------------------------------------------------------

    def _introduce(self, event: Received, now_ms: int) -> None:
        """To a sender that this node does not know (any more), or not in this life of it."""
        if not self._courtesies.is_due(event.sender, now_ms):
            return
        if not event.by_stream:
            self._beliefs.emit(Route(event.sender, event.source))
        self._beliefs.answer(event, self._beliefs.join(reply=True))

    def _maybe_tell_of_death(self, event: Received, now_ms: int) -> None:
        """Somebody believed dead speaks: it must hear of its death to refute it."""
        held = self._beliefs.roster.get(event.sender)
        if held is None or held.is_here or not held.confirmed:
            return
        if event.boot_epoch > held.record.boot_epoch:
            return  # another life; it was asked for its record
        if self._courtesies.is_due(event.sender, now_ms):
            self._beliefs.answer(event, Rumours((held.record,)))

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

    def _jittered(self, interval_ms: int) -> int:
        """A tenth more or less, so that members do not act in step."""
        return interval_ms * 9 // 10 + int(self._rng.random() * interval_ms / 5)


def _seen_at(event: Received, claimed: Address) -> Address:
    """A stream comes from a port of its own; the claimed one is right."""
    if event.by_stream and claimed.port:
        return Address(event.source.host, claimed.port)
    return event.source
