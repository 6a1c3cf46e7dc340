"""Who may be in the pool, which keys its packets are sealed with, and what its admins have said.

Roles. All nodes are alike in keeping and spreading; admins also make claims (removals,
invitations, steps of pool keys), each signed by its author. What is kept is the roll (roll.py), a
set that only grows; what follows from it (standing.py) is a function of the set, so that everybody
comes to the same conclusion in whatever order news arrives. Pool keys (ring.py) travel with the
roll, to members only, over streams only; rotation.py says when a key takes its next step.

Messages. RollNews, over a stream: certificates, claims, keys. One's own news goes to all members
that are up; what was news to a receiver it passes on to FORWARD_MAX others; what was no news is
not passed on. RollDigest, in a packet: what I hold; over a stream: I have taken your news.
RollHave, over a stream: tell me what I lack (exchange.py).

Invariants, asserted by `check`. T1 the digest is that of the set. T2 the set is bounded, as a
whole and by author. T3 every claim has its place. T4 pool keys are bounded. T5 the key in use is
held. T6 peers, T7 waiting persons are bounded. T8 what siblings were told is what stands. T9 the
deadline told is the soonest. And by construction: what a peer is told is on disk first; no key is
in a message to a node without a credential; nothing a peer sends raises.

What it does not do: it reads no certificate (`inspect` does) and knows no clock of the wall; that
a certificate has expired, or an invitation, is for those to say who let in. It hangs up on nobody
(`Expel` asks for it), and whether a sender may speak at all is the node's to check; it is checked
here once more where keys are given.
"""

import random
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import ClassVar

from msgspec.structs import replace

from rain.claims import Claim, Departure, KeyPhase, KeyStep, Removal, Sign, Signed, Verify
from rain.effects import (
    Admitted,
    Answer,
    Barred,
    Cast,
    CertificateShown,
    ClaimMade,
    DeadlinePassed,
    DiskFailed,
    DiskRecovered,
    Effect,
    Event,
    Expel,
    KeyMissing,
    Log,
    MemberDown,
    MemberUp,
    Notice,
    Output,
    Persist,
    Persisted,
    Post,
    Received,
    Record,
    Rekey,
    Send,
    SiblingNotice,
)
from rain.model import Identity, NodeId
from rain.trust.book import Book, Learnt
from rain.trust.config import TrustConfig as TrustConfig
from rain.trust.content import mark_of_key, signed_content
from rain.trust.credential import Inspect
from rain.trust.exchange import Exchange
from rain.trust.frames import frames, posts
from rain.trust.messages import MARK_BYTES, RingKey, RollDigest, RollHave, RollNews
from rain.trust.records import RingRow
from rain.trust.ring import KEY_NUMBER_MAX
from rain.trust.roll import News
from rain.trust.rotation import Move, Rotation
from rain.trust.tellings import Tellings
from rain.trust.turn import Gathered, Turn
from rain.trust.views import Views

FORWARD_MAX = 4
"""Others that news which came from a peer is passed on to."""
DIGESTS_CAST_MAX = 64
"""Members that hear at once that this node's pool keys have moved, admins first."""
DELIVERIES_MAX = 64
"""Writes under way after which keys are given to others."""
STEPS_MAX = 8
"""Of rotations, in answer to one event."""
KEY_BYTES = 32
DISK_ERROR = "the disk of this PC takes no writes"


class Trust(Views):
    """The entrance: every event and notice, and what it means for the roll and the keys."""

    NOTICES: ClassVar[frozenset[type[SiblingNotice]]] = frozenset({MemberUp, MemberDown})

    def __init__(
        self,
        identity: Identity,
        config: TrustConfig,
        inspect: Inspect,
        sign: Sign,
        verify: Verify,
        rng: random.Random,
        now_ms: int,
        recovered: Sequence[Record] = (),
    ) -> None:
        book = Book(identity.node_id, config.pool_id, inspect, verify, recovered)
        exchange = Exchange(config, rng, now_ms)
        super().__init__(identity.node_id, book, exchange)
        self.dropped = book.roll.dropped
        self._config, self._sign, self._rng = config, sign, rng
        self._rotation = Rotation(self._me, config, now_ms)
        self._rotation.watch(book.ring.newest(), now_ms)
        self._tellings = Tellings(config.told_ms)
        self._admitted = self._admissions()
        self._barred = book.barred()
        self._rekeyed: Rekey | None = None
        self._deliveries: dict[int, list[tuple[list[NodeId], Gathered, int]]] = {}
        self._is_disk_failed = False
        self._is_unwritten = False
        if not book.ring.kept() or book.lacks_key():
            self._seek(now_ms)
        self._is_started = False
        self._deadline_ms = now_ms

    # --- The core's interface --------------------------------------------------------------------

    def initial_notices(self) -> list[Admitted | Barred]:
        """What siblings must know of before their first event."""
        barred = [notice for node_id in sorted(self._barred) for notice in self._barring(node_id)]
        return [*self._admitted.values(), *barred]

    def handle(self, event: Event | Notice, now_ms: int) -> list[Output]:
        """The only way to change this core."""
        turn = Turn()
        before = self._book.digest(), self._book.ring.row()
        match event:
            case Received():
                self._on_received(event, turn, now_ms)
            case DeadlinePassed():
                if now_ms < self._deadline_ms:
                    return []  # a sibling's
            case CertificateShown(bundle=bundle):
                self._merge_own(turn, now_ms, bundles=(bundle,))
            case ClaimMade():
                self._on_claim_made(event, turn, now_ms)
            case KeyMissing():
                self._seek(now_ms)
            case MemberUp(node_id=node_id) if node_id != self._me:
                self._exchange.rise(node_id)
                if self._book.credential(node_id):
                    turn.outputs.append(Send(node_id, self._book.digest()))
            case MemberDown(node_id=node_id):
                self._exchange.fall(node_id)
                turn.outputs += self._tellings.gone(node_id)
            case Persisted(token=token):
                turn.outputs += self._give_keys(token)
                turn.outputs += self._tellings.written(token)
            case DiskFailed():
                self._is_disk_failed = self._is_unwritten = True
                self._deliveries.clear()
                turn.outputs += self._tellings.fail(DISK_ERROR)
            case DiskRecovered():
                self._is_disk_failed = False
            case _:
                return []
        self._see_to_what_is_due(turn, now_ms)
        self._rotate(turn, now_ms)
        outputs = self._conclude(turn, *before, now_ms)
        self._is_started = True
        self._deadline_ms = self._soonest_ms()
        return outputs

    def next_deadline_ms(self) -> int:
        return self._deadline_ms

    def check(self) -> None:
        self._book.check()
        self._exchange.check()
        self._tellings.check()
        assert len(self._deliveries) <= DELIVERIES_MAX, "T7: deliveries bounded"
        assert self._admitted == self._admissions(), "T8: siblings know who is here"
        assert self._barred == self._book.barred(), "T8: siblings know who is not"
        due_ms = self._soonest_ms() if self._is_started else self._deadline_ms
        assert self._deadline_ms == due_ms, "T9: the deadline told is the soonest"

    # --- Time ------------------------------------------------------------------------------------

    def _see_to_what_is_due(self, turn: Turn, now_ms: int) -> None:
        book, exchange = self._book, self._exchange
        turn.outputs += self._tellings.expire(now_ms)
        told, won = exchange.whom_to_tell(self._others, self._estranged, now_ms)
        if told is not None:
            turn.outputs.append(Send(told, book.digest()))
        if won is not None:
            turn.outputs += posts(book.roll, (won,), Gathered(claims=[*book.defence]))
        asked = exchange.whom_to_ask(now_ms)
        if asked is None:
            asked = exchange.whom_to_seek_from(self._known_others, now_ms)
        if asked is not None and book.credential(asked):
            turn.outputs.append(Post(asked, book.have()))

    def _seek(self, now_ms: int) -> None:
        if self._me not in self._barred:
            self._exchange.seek(now_ms)

    def _soonest_ms(self) -> int:
        due_ms = [self._exchange.next_deadline_ms()]
        told_ms = self._tellings.next_deadline_ms()
        if told_ms is not None:
            due_ms.append(told_ms)
        course = self._book.ring.newest()
        if course is not None and self._may_step():
            step_ms = self._rotation.due_ms(course, self._scene())
            if step_ms is not None:
                due_ms.append(step_ms)
        return min(due_ms)

    # --- Claims of this node ---------------------------------------------------------------------

    def _on_claim_made(self, event: ClaimMade, turn: Turn, now_ms: int) -> None:
        error = self._claim(event, turn, now_ms)
        if event.request and error:
            turn.outputs.append(Answer(event.request, 0, error))
        elif event.request:
            turn.request = event.request

    def _claim(self, event: ClaimMade, turn: Turn, now_ms: int) -> str:
        """'' if it is made; else why not, for a person."""
        claim, at_unix_ms = event.claim, event.at_unix_ms
        if self._is_disk_failed:
            return DISK_ERROR
        if event.request and self._tellings.is_full():
            return "too many requests are waiting on this PC"
        if event.fresh_key and len(event.fresh_key) != KEY_BYTES:
            return f"a pool key has {KEY_BYTES} bytes"
        if isinstance(claim, Departure):
            own = self._book.credential(self._me)
            if own is None:
                return "this PC is not in the pool"
            return self._state(claim, own.generation, at_unix_ms, turn, now_ms)
        generation = self._book.admin_generation
        if not generation and isinstance(claim, Removal):
            generation, turn.is_defence = self._book.defence_generation, True
        if not generation:
            return "this PC is no admin of the pool"
        if isinstance(claim, KeyStep):
            if claim.phase is not KeyPhase.INSTALL:
                return "a key takes its later steps by itself"
            return self._install(event.fresh_key, at_unix_ms, turn, now_ms)
        if not isinstance(claim, Removal):
            return self._state(claim, generation, at_unix_ms, turn, now_ms)
        removal = self._book.as_known(claim)
        if removal is None:
            return "no member of that id is known"
        if removal.subject == self._me:
            return "a PC does not remove itself: it leaves"
        error = self._state(removal, generation, at_unix_ms, turn, now_ms)
        if error or not self._book.admin_generation:
            return error  # of several who removed this node it has undone one
        return self._install(event.fresh_key, at_unix_ms, turn, now_ms)

    def _state(
        self, claim: Claim, generation: int, at_unix_ms: int, turn: Turn, now_ms: int
    ) -> str:
        """Sign a claim and take it into the roll."""
        own = self._book.known(self._me)
        assert own is not None, "who claims has a certificate"
        number = self._book.next_number()
        unsigned = Signed(own.public_key, number, at_unix_ms, claim, generation=generation)
        content = signed_content(unsigned, self._config.pool_id)
        signed = replace(unsigned, signature=self._sign(content))
        learnt = self._merge_own(turn, now_ms, claims=(signed,))
        return "" if learnt.news.claims else "the roll of the pool takes no more claims of this PC"

    def _install(self, fresh_key: bytes, at_unix_ms: int, turn: Turn, now_ms: int) -> str:
        """The next pool key begins its course."""
        number = self._book.ring.next_number()
        if number > KEY_NUMBER_MAX:
            return "the numbers of pool keys are used up: remove the admin who did it"
        key = RingKey(number, fresh_key or self._derive_key(number))
        step = KeyStep(number, KeyPhase.INSTALL, mark_of_key(key.key))
        generation = self._book.admin_generation
        error = self._state(step, generation, at_unix_ms, turn, now_ms)
        if not error:
            self._merge_own(turn, now_ms, keys=(key,))
        return error

    def _derive_key(self, number: int) -> bytes:
        """A key nobody else can know, without a source of secret chance: a signature that is shown
        to nobody, of words that are signed for nothing else."""
        salt = self._rng.getrandbits(8 * KEY_BYTES).to_bytes(KEY_BYTES, "big")
        digest = self._book.roll.digest()
        secret = self._sign(b"rain fresh pool key\0" + number.to_bytes(8, "big") + digest + salt)
        return blake2b(secret, digest_size=KEY_BYTES, person=b"rain pool key").digest()

    # --- Rotation --------------------------------------------------------------------------------

    def _may_step(self) -> bool:
        return self._book.admin_generation > 0 and not self._is_disk_failed

    def _rotate(self, turn: Turn, now_ms: int) -> None:
        """Let the newest key take the steps that are due; alone it takes them all at once."""
        for _ in range(STEPS_MAX):
            course = self._book.ring.newest()
            if course is None or not self._may_step():
                return
            move = self._rotation.decide(course, self._scene(), now_ms)
            if move is None:
                return
            at_unix_ms = course.at_unix_ms + now_ms - self._rotation.moved_ms
            if move is Move.FRESH:
                error = self._install(b"", at_unix_ms, turn, now_ms)
            else:
                step = KeyStep(course.number, KeyPhase(move.value), course.mark)
                generation = self._book.admin_generation
                error = self._state(step, generation, at_unix_ms, turn, now_ms)
            if error:
                self._rotation.moved_ms = now_ms
                return

    # --- Messages --------------------------------------------------------------------------------

    def _on_received(self, event: Received, turn: Turn, now_ms: int) -> None:
        sender, message = event.sender, event.message
        if sender == self._me:
            self._drop("own_echo")
        elif self._book.credential(sender) is None:
            if isinstance(message, RollNews) and event.by_stream and self.hears(sender):
                # What it says is signed by its authors; keys it has none to give.
                self._on_news(sender, replace(message, keys=()), turn, now_ms)
            else:
                self._drop("sender_without_credential")
        elif isinstance(message, RollDigest):
            self._exchange.hear(sender, message, self._book.digest(), now_ms)
            if message.taken and event.by_stream:
                turn.outputs += self._tellings.taken(sender, message.taken)
        elif not event.by_stream:
            self._drop("not_by_stream")
        elif isinstance(message, RollHave):
            self._on_have(sender, message, turn, now_ms)
        elif isinstance(message, RollNews):
            self._on_news(sender, message, turn, now_ms)
        else:
            self._drop("not_of_the_roll")

    def _on_have(self, sender: NodeId, have: RollHave, turn: Turn, now_ms: int) -> None:
        if len(have.held) % MARK_BYTES:
            return self._drop("marks_cut")
        if not self._exchange.may_answer(sender, now_ms):
            return self._drop("asked_too_often")
        book = self._book
        marks = {have.held[at : at + MARK_BYTES] for at in range(0, len(have.held), MARK_BYTES)}
        news, keys = book.roll.beyond(marks), book.ring.beyond(have.keys)
        if news or keys:
            turn.outputs += [Post(sender, frame) for frame in frames(news, keys)]
        has_more = not book.roll.has_all(marks) or not set(have.keys).issubset(book.ring.marks())
        if has_more and not have.is_reply:
            turn.outputs.append(Post(sender, book.have(is_reply=True)))
        return None

    def _on_news(self, sender: NodeId, message: RollNews, turn: Turn, now_ms: int) -> None:
        if self._exchange.is_distrusted(sender, now_ms):
            return self._drop("sender_distrusted")
        learnt = self._book.merge(message.bundles, message.claims, message.keys)
        if not learnt.news.is_sound:
            self._exchange.distrust(sender, now_ms)
        turn.heard.add(learnt)
        turn.sender, turn.serial = sender, message.serial
        self._rotation.watch(self._book.ring.newest(), now_ms)
        return None

    def _merge_own(
        self,
        turn: Turn,
        now_ms: int,
        bundles: Iterable[bytes] = (),
        claims: Iterable[Signed] = (),
        keys: Iterable[RingKey] = (),
    ) -> Learnt:
        learnt = self._book.merge(bundles, claims, keys)
        turn.own.add(learnt)
        self._rotation.watch(self._book.ring.newest(), now_ms)
        return learnt

    def _drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    # --- What follows ----------------------------------------------------------------------------

    def _conclude(
        self, turn: Turn, before: RollDigest, row_before: RingRow, now_ms: int
    ) -> list[Output]:
        """The write, and inside it all that others are told; then what siblings and driver are."""
        book = self._book
        after, row = book.digest(), book.ring.row()
        notices: list[Output] = []
        if turn.own or turn.heard:
            self._exchange.compare(after)
            notices = self._tell_siblings(turn)
            if book.lacks_key():
                self._seek(now_ms)
            elif turn.own.keys or turn.heard.keys:
                self._exchange.end_seek(now_ms)
        then = self._tell_others(turn, now_ms)
        if (after.newest, after.mark, after.use) != (before.newest, before.mark, before.use):
            then += self._cast_digest(after)
        outputs = self._write(turn, then, () if row == row_before else (row,))
        outputs += turn.outputs
        rekey = Rekey(tuple((key.number, key.key) for key in book.ring.kept()), book.ring.use)
        if rekey != self._rekeyed and rekey.keys:
            self._rekeyed = rekey
            outputs += [rekey, Log("pool_key", (("use", rekey.use), ("kept", len(rekey.keys))))]
        return outputs + notices

    def _write(self, turn: Turn, then: list[Effect], ring_rows: tuple[Record, ...]) -> list[Output]:
        own, heard = turn.own.news(), turn.heard.news()
        puts = (*own.puts(), *heard.puts(), *ring_rows)
        if self._is_disk_failed:
            self._is_unwritten = self._is_unwritten or bool(puts)
            return []
        if self._is_unwritten:
            self._is_unwritten = False
            puts = self._book.rows()
        if not puts:
            return [*then]
        deletes = (*own.deletes, *heard.deletes)
        return [Persist(puts, deletes, tuple(then), turn.token)]

    def _tell_others(self, turn: Turn, now_ms: int) -> list[Effect]:
        """One's own news to all, heard news to some, and a word to who brought it."""
        if self._is_disk_failed:
            return []
        others, then = self._others(), list[Effect]()
        if turn.is_defence:
            others = sorted({*others, *self._known_others()})
        if turn.request:
            turn.token = self._tellings.begin(turn.request, others, now_ms)
        told = [(others, turn.own, turn.token)]
        if turn.heard and self._me not in self._barred:
            rest = [node_id for node_id in others if node_id != turn.sender]
            told.append((self._rng.sample(rest, min(FORWARD_MAX, len(rest))), turn.heard, 0))
        for to, gathered, serial in told:
            if not gathered.keys:
                then += posts(self._book.roll, to, gathered, serial) if gathered else ()
            elif to and len(self._deliveries) < DELIVERIES_MAX:
                turn.token = turn.token or self._tellings.next_serial()
                self._deliveries.setdefault(turn.token, []).append((to, gathered, serial))
        if turn.serial and turn.sender is not None and not self.is_overruled(turn.sender):
            then.append(Post(turn.sender, self._book.digest(turn.serial)))
        return then

    def _give_keys(self, token: int) -> list[Output]:
        """The write is done. Whoever was removed meanwhile gets no key: so these are not told
        inside the write, where nobody would ask again."""
        outputs: list[Output] = []
        for to, gathered, serial in self._deliveries.pop(token, ()):
            here = [node_id for node_id in to if self._book.credential(node_id)]
            # Who passes a key on must know who is not to have it.
            removals = [signed for _, _, signed in self._book.standing.removals.values()]
            gathered.claims = list(dict.fromkeys((*removals, *gathered.claims)))
            outputs += posts(self._book.roll, here, gathered, serial)
        return outputs

    def _cast_digest(self, digest: RollDigest) -> list[Effect]:
        """This node's keys have moved: who drives the rotation waits for it."""
        others = sorted(self._others(), key=lambda node_id: not self._book.is_admin(node_id))
        return [Cast(tuple(others[:DIGESTS_CAST_MAX]), digest)] if others else []

    def _tell_siblings(self, turn: Turn) -> list[Output]:
        """Who may be here now and might not before, and the other way round."""
        book = self._book
        before, self._admitted = self._admitted, self._admissions()
        barred_before, self._barred = self._barred, book.barred()
        outputs: list[Output] = []
        for node_id, admitted in self._admitted.items():
            if before.get(node_id) != admitted:
                outputs.append(admitted)
            if node_id not in before and node_id in self._exchange.peers:
                turn.outputs.append(Send(node_id, book.digest()))
        for node_id in sorted(self._barred - barred_before):
            outputs.append(Log("barred", (("node", node_id), ("why", book.why_barred(node_id)))))
            is_known = node_id in before
            outputs += [Barred(node_id)] if is_known else self._barring(node_id)
            if node_id != self._me:
                turn.outputs += self._part_from(node_id, turn)
        return outputs

    def _part_from(self, node_id: NodeId, turn: Turn) -> list[Output]:
        """It may hear why, but no key; then hang up, whatever the disk says."""
        outputs = self._tellings.gone(node_id)
        claims = (*turn.own.claims, *turn.heard.claims)
        if node_id in self._exchange.peers and claims:
            news = News(self._book.roll.closure(claims), claims)
            outputs += [Post(node_id, part) for part in frames(news)]
        # Who left by its own will waits for a word that this was heard, and then hangs up itself.
        has_left = self._book.why_barred(node_id) == "left"
        return outputs if has_left else [*outputs, Expel(node_id)]
