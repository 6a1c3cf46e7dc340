"""What this node believes of all members, and what follows when a claim changes a belief.

Claims come from anywhere: a packet, a full table, an own probe that failed, a suspicion that ran
out. All go through `_learn`, so that the same change always has the same consequences: what is told
on, which notice goes to the siblings, whether a suspicion starts or ends, whether somebody is to
be rung again. Claims about this node itself change nothing but make it refute. Only claims about
the admitted that their subject has signed get so far (proofs.py).
"""

import random
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from rain.effects import (
    Admitted,
    Cast,
    FactsChanged,
    Log,
    MemberDown,
    MemberUp,
    Message,
    Output,
    Post,
    Received,
    Route,
    Send,
)
from rain.gossip.config import GossipConfig
from rain.gossip.health import OwnHealth
from rain.gossip.lives import FormerLives, Lives
from rain.gossip.member import (
    Member,
    are_acceptable_facts,
    claim_order,
    fitted_facts,
    is_acceptable,
)
from rain.gossip.messages import FactsRecord, Join, MemberRecord, Ping, Rumours, Sync
from rain.gossip.proofs import Proofs
from rain.gossip.records import MemberRow
from rain.gossip.retries import Retries
from rain.gossip.roster import Roster
from rain.gossip.suspicion import Suspicion, confirmations_possible
from rain.gossip.updates import Updates
from rain.model import Address, Facts, MemberState, NodeId

RING_SEQUENCE = 0
"""Of pings to the dead: no probe waits for their answer."""


class Beliefs:
    def __init__(
        self,
        own: Member,
        proofs: Proofs,
        config: GossipConfig,
        rng: random.Random,
        now_ms: int,
        rows: Sequence[MemberRow],
        lives: Lives,
    ) -> None:
        self.own = replace(
            own,
            record=proofs.signed(own.record),
            facts_signature=proofs.signed_facts(own.facts_record).signature,
        )
        self.proofs = proofs
        self.roster = Roster(own.record.node_id, rows)
        self.lives = lives
        self.former = FormerLives()
        self.updates = Updates()
        self.health = OwnHealth(config.probe_interval_ms)
        self.out: list[Output] = []
        self.dropped: dict[str, int] = {}
        self._id, self._config, self._rng = own.record.node_id, config, rng
        self._suspicions: dict[NodeId, Suspicion] = {}
        self._retries = Retries(
            config.retry_first_ms, config.retry_interval_ms, config.forget_after_ms
        )
        self._introduce_until_ms = now_ms + config.introduce_for_ms
        self._checked = claim_order(own.record), own.facts.version
        for member in self.roster.all():
            self._retries.add(member.record.node_id, now_ms, not member.confirmed, delay_ms=0)

    def size(self) -> int:
        """Members that are here, this node included."""
        return len(self.roster.here()) + 1

    def is_suspect(self, node_id: NodeId) -> bool:
        return node_id in self._suspicions

    def next_deadline_ms(self) -> int | None:
        soonest_ms = self._retries.next_deadline_ms()
        for suspicion in self._suspicions.values():
            deadline_ms = suspicion.deadline_ms()
            if soonest_ms is None or deadline_ms < soonest_ms:
                soonest_ms = deadline_ms
        return soonest_ms

    def check(self) -> None:
        own = claim_order(self.own.record), self.own.facts.version
        assert own[0] >= self._checked[0], "G1: the own record never falls"
        assert own[1] >= self._checked[1], "G1: the own facts version never falls"
        self._checked = own
        self.roster.check()
        self.proofs.check()
        self.updates.check()
        self.health.check()
        self.lives.check()
        self.former.check()
        members = self.roster.all()
        suspects = [m.record.node_id for m in members if m.record.state is MemberState.SUSPECT]
        assert sorted(self._suspicions) == suspects, "G5: a suspicion for each suspect"
        for suspicion in self._suspicions.values():
            suspicion.check()
        absent = [member.record.node_id for member in members if not member.is_here]
        assert self._retries.absent() == absent, "G7: exactly the absent are retried"

    # --- Saying ----------------------------------------------------------------------------------

    def emit(self, output: Output) -> None:
        self.out.append(output)

    def answer(self, event: Received, message: Message) -> None:
        """The way it came."""
        way = Post if event.by_stream else Send
        self.emit(way(event.sender, message))

    def drop(self, reason: str) -> None:
        """Count what a peer sent in vain."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def log(self, event: str, *fields: tuple[str, str | int]) -> None:
        self.out.append(Log(event, fields))

    def join(self, reply: bool) -> Join:
        return Join(self.own.record, self.own.facts_record, reply)

    def table(self, reply: bool) -> Sync:
        """Everything, for a member whose table differs."""
        confirmed = [member for member in self.roster.all() if member.confirmed]
        members = [self.own, *confirmed]
        return Sync(
            tuple(member.record for member in members),
            tuple(member.facts_record for member in members if member.facts.version),
            reply,
        )

    def reroute(self, node_id: NodeId, address: Address) -> None:
        if self.roster.reroute(node_id, address):
            self.emit(Route(node_id, address))

    def tell_all(self, message: Message, but: NodeId | None = None) -> None:
        """At once to everybody here; larger pools are left to the rumours."""
        if self.size() <= self._config.tell_all_members_max:
            self.cast([node_id for node_id in self.roster.here() if node_id != but], message)

    def cast(self, to: list[NodeId], message: Message) -> None:
        if to:
            self.emit(Cast(tuple(sorted(to)), message))

    def suspect_clone(self, reason: str) -> None:
        """Another process speaks as this node: a copied data folder."""
        if "clone_suspected" not in self.dropped:
            self.log("clone_suspected", ("reason", reason))
        self.drop("clone_suspected")

    # --- Changes of this node itself -------------------------------------------------------------

    def change_address(self, address: Address) -> None:
        record = self.own.record
        if address != record.address:
            self._rewrite(replace(record, address=address, incarnation=record.incarnation + 1))

    def change_facts(self, facts: Facts) -> None:
        """New facts get a new version, if they are others than before."""
        version = self.own.facts.version
        record = FactsRecord(
            self._id, self.own.record.boot_epoch, replace(facts, version=version + 1)
        )
        fitted = fitted_facts(record)
        if replace(fitted.facts, version=version) == self.own.facts:
            return
        signed = self.proofs.signed_facts(fitted)
        self.own = replace(self.own, facts=signed.facts, facts_signature=signed.signature)
        self.updates.tell(signed)
        self.emit(FactsChanged(self._id, signed.facts))
        self.tell_all(Rumours((), (signed,)))

    def leave(self) -> MemberRecord:
        record = self.proofs.signed(replace(self.own.record, state=MemberState.LEFT))
        self.own = replace(self.own, record=record)
        return record

    def _rewrite(self, record: MemberRecord, but: NodeId | None = None) -> None:
        record = self.proofs.signed(record)
        self.own = replace(self.own, record=record)
        self.updates.tell(record)
        self.tell_all(Rumours((record,)), but)

    def _refute(self, claim: MemberRecord, sender: NodeId) -> None:
        own = self.own.record
        is_old = claim_order(claim)[:2] < claim_order(own)[:2]
        is_mine = claim.boot_epoch != own.boot_epoch and self.proofs.is_own_word(claim)
        if is_mine and (reminded := self.lives.remind(claim.boot_epoch)) is not None:
            self.log("disk_old", ("remembered_boot_epoch", claim.boot_epoch))
            self.emit(reminded)
        if not is_old and not self.proofs.is_proven(claim, own):
            self.drop("unsigned")
            return
        if claim.boot_epoch > own.boot_epoch:
            self.suspect_clone("newer_boot_epoch")
            return
        if claim.boot_epoch == own.boot_epoch and claim.state is MemberState.ALIVE:
            if claim.incarnation > own.incarnation:
                self.suspect_clone("foreign_incarnation")
            return
        if claim.boot_epoch == own.boot_epoch and claim.incarnation >= own.incarnation:
            self.health.worsen(1)
            self.log("refuted", ("accuser", claim.accuser), ("incarnation", claim.incarnation + 1))
            self._rewrite(replace(own, incarnation=claim.incarnation + 1), but=sender)
        # Whoever says so may not be among those that this node thinks are here.
        self.emit(Send(sender, Rumours((self.own.record,))))

    # --- Learning --------------------------------------------------------------------------------

    def learn_all(
        self,
        claims: Iterable[MemberRecord],
        facts: Iterable[FactsRecord],
        sender: NodeId,
        now_ms: int,
        from_table: bool = False,
    ) -> None:
        """Claims first, each with the facts that came with it, then facts that came alone."""
        news: dict[NodeId, FactsRecord] = {}
        for record in facts:
            if are_acceptable_facts(record):
                news[record.node_id] = record
            else:
                self.drop("facts_unacceptable")
        for claim in claims:
            if not is_acceptable(claim):
                self.drop("claim_unacceptable")
            elif claim.node_id == self._id:
                self._refute(claim, sender)
            elif self._may_learn(named := _named(claim, sender), sender):
                self._learn(named, sender, now_ms, news.pop(claim.node_id, None), from_table)
        for record in news.values():
            self._learn_facts(record, sender)

    def admit(self, notice: Admitted, now_ms: int) -> None:
        """It may be here: what was said of it before counts now."""
        waiting = self.proofs.admit(notice)
        if waiting is not None:
            claims = () if waiting.claim is None else (waiting.claim,)
            facts = () if waiting.facts is None else (waiting.facts,)
            self.learn_all(claims, facts, waiting.sender, now_ms)

    def bar(self, node_id: NodeId) -> None:
        """It is out: down at once and forgotten. Trust tells everybody, so this is no rumour."""
        self.proofs.bar(node_id)
        held = self.roster.get(node_id)
        if held is None:
            return
        self._suspicions.pop(node_id, None)
        self._forget(node_id)
        if held.is_here:
            self.log("member_barred", ("node_id", node_id), ("name", held.record.name))
            self.emit(MemberDown(node_id, MemberState.LEFT))

    def accuse(self, node_id: NodeId, now_ms: int, was_sound: bool) -> None:
        """An own probe failed in every way; the accused reads of it first."""
        held = self.roster.get(node_id)
        assert held is not None, "only members are probed"
        accusation = replace(held.record, state=MemberState.SUSPECT, accuser=self._id)
        self._learn(accusation, self._id, now_ms, was_sound=was_sound)
        self.emit(Send(node_id, Rumours((accusation,))))

    def end_suspicions(self, now_ms: int) -> None:
        for node_id in sorted(self._suspicions):
            suspicion = self._suspicions[node_id]
            if suspicion.deadline_ms() > now_ms:
                continue
            if not self.health.may_accuse(now_ms):
                suspicion.not_before_ms = self.health.accuse_from_ms()
                continue
            held = self.roster.get(node_id)
            assert held is not None, "G5: a suspicion for each suspect"
            death = replace(held.record, state=MemberState.DEAD, accuser=self._id)
            self._learn(death, self._id, now_ms)
            self.tell_all(Rumours((death,)))

    def retry_absent(self, now_ms: int) -> None:
        """Ring the dead, who then read of their death and refute it; forget the long gone."""
        for node_id in self._retries.due(now_ms):
            held = self.roster.get(node_id)
            assert held is not None, "G7: exactly the absent are retried"
            if held.confirmed:
                self.emit(Send(node_id, Ping(RING_SEQUENCE, (held.record,))))
            else:
                self.reroute(node_id, held.record.address)
                self.emit(Send(node_id, self.join(reply=True)))
        for node_id in self._retries.forgotten(now_ms):
            self._forget(node_id)

    def _may_learn(self, claim: MemberRecord, sender: NodeId) -> bool:
        """Is it about somebody admitted, by somebody admitted, and true as far as it can be?"""
        refusal = self.proofs.refusal(claim.node_id)
        if refusal:
            self.proofs.keep(claim, sender)
        elif claim.accuser:
            refusal = self.proofs.refusal(claim.accuser)
        if not refusal and self.roster.may_change(claim):
            held = self.roster.get(claim.node_id)
            if self.proofs.is_proven(claim, held.record if held else None):
                return True
            refusal = "unsigned"
        if refusal:
            self.drop(refusal)
        return False

    def _learn(
        self,
        claim: MemberRecord,
        sender: NodeId,
        now_ms: int,
        facts: FactsRecord | None = None,
        from_table: bool = False,
        was_sound: bool = True,
    ) -> None:
        held = self.roster.get(claim.node_id)
        is_doubted = from_table and claim.state is MemberState.DEAD and held and held.is_here
        if is_doubted:
            # One confused table must not kill anybody: the accused gets to speak first.
            claim = replace(claim, state=MemberState.SUSPECT)
        if held is None and self.roster.is_full() and not self._make_room():
            self.drop("table_full")
            return
        change = self.roster.merge(claim)
        if facts is not None:
            self._learn_facts(facts, sender, is_newcomer=change is not None and _is_up(*change))
        if change is None:
            self._note_repeated(claim, now_ms)
            return
        self._settle(change[0], claim, sender, now_ms, was_sound)
        if sender == claim.node_id and change[0] is not None:
            self._end_life(change[0].record, claim, now_ms)
        if is_doubted:
            self.emit(Send(claim.node_id, Rumours((claim,))))
        elif sender == claim.node_id and not from_table and _is_up(*change):
            self._welcome(claim.node_id)

    def _learn_facts(self, record: FactsRecord, sender: NodeId, is_newcomer: bool = False) -> None:
        """News about a newcomer are part of its MemberUp."""
        refusal = self.proofs.refusal(record.node_id)
        if refusal:
            self.proofs.keep(record, sender)
            self.drop(refusal)
            return
        newest = (self.own.facts_boot_epoch, self.own.facts.version)
        is_mine = record.node_id == self._id
        if is_mine and (record.boot_epoch, record.facts.version) <= newest:
            return
        if not is_mine and not self.roster.are_newer_facts(record):
            return
        if not self.proofs.are_proven_facts(record):
            self.drop("unsigned")
            return
        if is_mine:
            self.suspect_clone("foreign_facts")
            return
        member = self.roster.merge_facts(record)
        assert member is not None, "these are news"
        self.updates.tell(record)
        if member.is_here and not is_newcomer:
            self.emit(FactsChanged(record.node_id, record.facts))

    def _note_repeated(self, claim: MemberRecord, now_ms: int) -> None:
        """No news, but a further accuser counts, and so does a sign of life of somebody dead."""
        held = self.roster.get(claim.node_id)
        if held is None:
            return
        same_life = claim_order(claim)[:2] == claim_order(held.record)[:2]
        if held.record.state is MemberState.DEAD and same_life and claim.state < MemberState.DEAD:
            self._retries.hasten(claim.node_id, now_ms)
        elif claim_order(claim) == claim_order(held.record) and self.is_suspect(claim.node_id):
            suspicion = self._suspicions[claim.node_id]
            if suspicion.confirm(claim.accuser):
                suspicion.first_hand = self._id in suspicion.accusers
                self.updates.tell(claim)

    def _settle(
        self,
        before: Member | None,
        claim: MemberRecord,
        sender: NodeId,
        now_ms: int,
        was_sound: bool,
    ) -> None:
        """A belief changed: what follows for suspicions, retries, routes, siblings and peers."""
        node_id = claim.node_id
        after = self.roster.get(node_id)
        assert after is not None, "just merged"
        self.updates.tell(after.record)
        held_address = before.record.address if before and before.confirmed else None
        if after.record.address != held_address:
            self.reroute(node_id, after.record.address)
        self._suspicions.pop(node_id, None)
        if after.record.state is MemberState.SUSPECT:
            self._suspicions[node_id] = self._suspicion(after.record, now_ms, was_sound)
            self.log("member_suspected", ("node_id", node_id), ("accuser", claim.accuser))
        if after.is_here:
            self._retries.drop(node_id)
        else:
            is_dead = after.record.state is MemberState.DEAD
            self._retries.add(node_id, now_ms, is_dead, self._config.retry_first_ms)
        if _is_up(before, after):
            name = self.proofs.name_of(after.record)
            self.log("member_up", ("node_id", node_id), ("name", name))
            self.emit(MemberUp(node_id, name, after.record.boot_epoch, after.facts))
            if sender != node_id and now_ms < self._introduce_until_ms:
                self.emit(Send(node_id, self.join(reply=False)))
        elif not after.is_here and _was_otherwise(before, after):
            self.log("member_down", ("node_id", node_id), ("state", after.record.state.name))
            self.emit(MemberDown(node_id, after.record.state))

    def _suspicion(self, record: MemberRecord, now_ms: int, was_sound: bool) -> Suspicion:
        config = self._config
        wanted = confirmations_possible(self.size())
        judges_badly = not wanted and not was_sound
        return Suspicion(
            started_ms=now_ms,
            minimum_ms=config.suspicion_ms_max if judges_badly else config.suspicion_ms_min,
            maximum_ms=config.suspicion_ms_max,
            accusers=(record.accuser,),
            confirmations_wanted=wanted,
            first_hand=record.accuser == self._id,
        )

    def _welcome(self, node_id: NodeId) -> None:
        """It came, or came back, by its own word: a few of those who heard it tell the others."""
        if self._rng.random() * self.size() >= self._config.newcomer_tellers:
            return
        member = self.roster.get(node_id)
        assert member is not None, "just merged"
        self.tell_all(Rumours((member.record,), (member.facts_record,)), but=node_id)
        self.emit(Post(node_id, self.table(reply=True)))

    def _end_life(self, last: MemberRecord, present: MemberRecord, now_ms: int) -> None:
        if last.boot_epoch < present.boot_epoch:
            self.former.end(last, now_ms)

    def remind(self, node_id: NodeId, now_ms: int) -> None:
        """It speaks. Who starts with an old disk cannot know by itself that it was here since."""
        former = self.former.due(node_id, now_ms)
        if former is not None:
            self.emit(Send(node_id, Rumours((former,))))

    def _make_room(self) -> bool:
        absent = self._retries.absent()
        if absent:
            self._forget(absent[0])
        return bool(absent)

    def _forget(self, node_id: NodeId) -> None:
        self.roster.forget(node_id)
        self.former.forget(node_id)
        self.updates.forget(node_id)
        self._retries.drop(node_id)


def _named(claim: MemberRecord, sender: NodeId) -> MemberRecord:
    """Accusations have a name to them; where none is given, that of who brings them."""
    is_accusation = claim.state in (MemberState.SUSPECT, MemberState.DEAD)
    if is_accusation == bool(claim.accuser):
        return claim
    return replace(claim, accuser=sender if is_accusation else NodeId(""))


def _was_otherwise(before: Member | None, after: Member) -> bool:
    """Whoever is remembered from disk only was never up, so it does not go down."""
    return bool(before and before.confirmed and before.record.state is not after.record.state)


def _is_up(before: Member | None, after: Member) -> bool:
    """It is here and was not, or it is another life of it."""
    if before is None or not before.is_here:
        return after.is_here
    return after.is_here and before.record.boot_epoch != after.record.boot_epoch
