"""What this node knows of the pool: the roll, what follows from it, and the pool keys.

Everything that is merged goes through `merge`: certificates, then claims, then keys, so that a
removal counts before the key that it caused is taken. What follows (standing, the course of the
keys) is computed anew when the set has grown, and only then. The answers to others' questions are
here too; when to ask, to tell and to decide is the core's.
"""

from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

from rain.claims import Invitation, KeyStep, Removal, Signed, Verify, Withdrawal
from rain.effects import Record
from rain.model import NodeId, Role
from rain.trust.content import mark_of_claim
from rain.trust.credential import Credential, Inspect
from rain.trust.messages import RingKey, RollDigest, RollHave
from rain.trust.records import BundleRow, ClaimRow, RingRow
from rain.trust.ring import Ring, Step
from rain.trust.roll import News, Roll
from rain.trust.standing import Standing, standing

DEFENCE_MAX = 64
"""Of this node's removals of admins, the last ones."""


class Learnt(NamedTuple):
    """What one merge added."""

    news: News = News()
    keys: tuple[RingKey, ...] = ()


class Book:
    """Grows by `merge`; all else are views."""

    def __init__(
        self,
        me: NodeId,
        pool_id: bytes,
        inspect: Inspect,
        verify: Verify,
        recovered: Sequence[Record],
    ) -> None:
        self._me = me
        self.roll = Roll(pool_id, inspect, verify)
        rings = [row for row in recovered if isinstance(row, RingRow)]
        self.ring = Ring(rings[-1] if rings else None)
        self.standing = Standing()
        self._is_checked = False
        self.admin_generation = 0
        """That this node may make claims under; 0: it is no admin."""
        self.defence_generation = 0
        """The same for removals alone: an admin whom a junior one has removed may undo it."""
        self.defence: tuple[Signed, ...] = ()
        """By which this node has removed admins: who was on their side has barred it, perhaps."""
        self._invitations: dict[str, list[Signed]] = {}
        self._withdrawn: frozenset[str] = frozenset()
        self._uses: dict[str, int] = {}
        for row in recovered:
            # One by one: a row that means nothing any more keeps no other one out.
            if isinstance(row, BundleRow):
                self.roll.merge((row.bundle,), ())
        for row in recovered:
            if isinstance(row, ClaimRow):
                self.roll.merge((), (row.signed,))
        self._judge()

    # --- Growing ---------------------------------------------------------------------------------

    def merge(
        self,
        bundles: Iterable[bytes] = (),
        claims: Iterable[Signed] = (),
        keys: Iterable[RingKey] = (),
    ) -> Learnt:
        """Take what is new and can be proven."""
        news = self.roll.merge(bundles, claims)
        if news:
            self._judge()
        taken: list[RingKey] = []
        for key in keys:
            refusal = self.ring.take(key)
            if not refusal:
                taken.append(key)
            elif refusal == "unbacked_key":
                # The other refusals are the talk of nodes that were away, nobody's fault.
                self.roll.dropped[refusal] = self.roll.dropped.get(refusal, 0) + 1
        return Learnt(news, tuple(taken))

    def _judge(self) -> None:
        self.standing = standing(self.roll.held(), self.roll.claims())
        self._is_checked = False
        over = self.standing.departed.get(self._me, 0)
        removed = self.standing.removed_through(self._me)
        self.admin_generation = self._admin_generation(max(over, removed))
        self.defence_generation = self.admin_generation
        if not self.admin_generation and self.is_overruled(self._me):
            self.defence_generation = self._admin_generation(over)
        self.defence = self._defence() if self.admin_generation else ()
        self._index()
        self.ring.follow(
            Step(
                signed.claim.number,
                signed.claim.mark,
                signed.claim.phase,
                self.roll.author_of(signed),
                signed.at_unix_ms,
            )
            for signed in self.standing.claims.values()
            if isinstance(signed.claim, KeyStep)
        )

    def _admin_generation(self, over: int) -> int:
        """Not only by the newest certificate: another admin may have made it a lesser one."""
        judged, me = self.standing, self._me
        return max(
            (
                credential.generation
                for credential in (held.credential for held in self.roll.held())
                if credential.node_id == me
                and credential.role is Role.ADMIN
                and credential.generation > over
                and (
                    credential.issuer_id == me
                    or credential.issuer_generation > judged.removed_through(credential.issuer_id)
                )
            ),
            default=0,
        )

    def _defence(self) -> tuple[Signed, ...]:
        admins = {
            held.credential.node_id
            for held in self.roll.held()
            if held.credential.role is Role.ADMIN
        }
        own = [
            signed
            for signed in self.standing.claims.values()
            if isinstance(signed.claim, Removal)
            and signed.claim.subject in admins
            and self.roll.author_of(signed) == self._me
        ]
        return tuple(sorted(own, key=lambda signed: signed.number)[-DEFENCE_MAX:])

    def _index(self) -> None:
        """What strangers' questions touch is looked up, not searched for."""
        self._invitations, self._uses = {}, {}
        for signed in self.roll.claims().values():
            if isinstance(signed.claim, Invitation):
                self._invitations.setdefault(signed.claim.invite_id, []).append(signed)
        for invitations in self._invitations.values():
            invitations.sort(key=self._place_in_time)
        self._withdrawn = frozenset(
            signed.claim.invite_id
            for signed in self.standing.claims.values()
            if isinstance(signed.claim, Withdrawal)
        )
        credentials = (held.credential for held in self.roll.held())
        for invite_id, _, _ in {(c.invite_id, c.node_id, c.generation) for c in credentials}:
            self._uses[invite_id] = self._uses.get(invite_id, 0) + 1

    def rows(self) -> tuple[Record, ...]:
        """Everything, for a disk that has missed something."""
        everything = News(tuple(self.roll.bundles()), tuple(self.roll.claims().values()))
        return (*everything.puts(), self.ring.row())

    # --- What is said of it ----------------------------------------------------------------------

    def digest(self, taken: int = 0) -> RollDigest:
        newest, mark = self.ring.held()
        return RollDigest(self.roll.digest(), newest, mark, self.ring.use, taken)

    def have(self, *, is_reply: bool = False) -> RollHave:
        return RollHave(self.roll.marks(), self.ring.marks(), is_reply)

    def lacks_key(self) -> bool:
        """Is there a pool key that this node should have and has not?"""
        course = self.ring.newest()
        return course is not None and not self.ring.has(course)

    # --- Who is here -----------------------------------------------------------------------------

    def credential(self, node_id: NodeId) -> Credential | None:
        held = self.standing.credentials.get(node_id)
        return held.credential if held else None

    def known(self, node_id: NodeId) -> Credential | None:
        held = self.standing.known.get(node_id)
        return held.credential if held else None

    def is_overruled(self, node_id: NodeId) -> bool:
        """An admin who may not be here by the word of a junior one: it may have the last word."""
        return node_id in self.standing.overruled and node_id not in self.standing.credentials

    def is_admin(self, node_id: NodeId) -> bool:
        if node_id == self._me:
            return self.admin_generation > 0
        held = self.standing.credentials.get(node_id)
        return held is not None and held.credential.role is Role.ADMIN

    def barred(self) -> set[NodeId]:
        """Nodes that were known, or are spoken of, and may not be here."""
        judged = self.standing
        spoken_of = {*judged.known, *judged.removals, *judged.departed}
        return spoken_of - judged.credentials.keys()

    def why_barred(self, node_id: NodeId) -> str:
        known = self.known(node_id)
        return self.standing.refusal(known) if known else "removed"

    def next_generation(self, node_id: NodeId) -> int:
        judged, known = self.standing, self.known(node_id)
        over = max(judged.removed_through(node_id), judged.departed.get(node_id, 0))
        return max(over + 1, known.generation if known else 1)

    def issued_by(self, issuer_id: NodeId) -> list[Credential]:
        judged = self.standing
        authors = {self.roll.author_of(signed) for signed in judged.claims.values()}
        kept: set[tuple[NodeId, int, bool]] = set()
        for credential in (held.credential for held in self.roll.held()):
            is_good = credential.issuer_generation > judged.removed_through(credential.issuer_id)
            if is_good and credential.issuer_id != issuer_id:
                is_admin = credential.role is Role.ADMIN
                kept.add((credential.node_id, credential.generation, is_admin))
        return [
            credential
            for node_id, credential in sorted((n, h.credential) for n, h in judged.known.items())
            if node_id != issuer_id
            and credential.issuer_id == issuer_id
            and (node_id in judged.credentials or node_id in authors)
            and (node_id, credential.generation, credential.role is Role.ADMIN) not in kept
        ]

    def inviter(self, credential: Credential) -> NodeId:
        """Who made the invitation; of the founder, and where that is not known, who issued it."""
        invitations = self._invitations.get(credential.invite_id)
        return self.roll.author_of(invitations[0]) if invitations else credential.issuer_id

    def let_in_by(self, admins: Set[NodeId]) -> list[Credential]:
        """Those here that came by an invitation of these admins, or whom nobody else has vouched
        for. That an admin vouches for itself is no word of another's."""
        vouchers: dict[tuple[NodeId, int], set[NodeId]] = {}
        for credential in (held.credential for held in self.roll.held()):
            if credential.issuer_id != credential.node_id:
                node = (credential.node_id, credential.generation)
                vouchers.setdefault(node, set()).add(credential.issuer_id)
        here = sorted((n, held.credential) for n, held in self.standing.credentials.items())
        return [
            each
            for node_id, each in here
            if node_id not in admins
            and (
                self.inviter(each) in admins
                or vouchers.get((node_id, each.generation), {node_id}) <= admins
            )
        ]

    def check(self) -> None:
        """Judging anew is worth it only for a set that has grown since."""
        self.roll.check()
        self.ring.check()
        if not self._is_checked:
            again = standing(self.roll.held(), self.roll.claims())
            assert again == self.standing, "T8: what stands follows from the set"
            self._is_checked = True

    # --- What was claimed ------------------------------------------------------------------------

    def claims(self) -> list[Signed]:
        return sorted(self.roll.claims().values(), key=self._place_in_time)

    def _place_in_time(self, signed: Signed) -> tuple[int, NodeId, int, bytes]:
        author = self.roll.author_of(signed)
        return signed.at_unix_ms, author, signed.number, signed.signature

    def invitation(self, invite_id: str) -> Signed | None:
        return next(filter(self.counts, self._invitations.get(invite_id, ())), None)

    def withdrawn(self, invite_id: str) -> bool:
        return invite_id in self._withdrawn

    def uses(self, invite_id: str) -> int:
        return self._uses.get(invite_id, 0)

    def counts(self, signed: Signed) -> bool:
        return mark_of_claim(signed) in self.standing.claims

    def next_number(self) -> int:
        return 1 + max(self.roll.numbers_of(self._me), default=0)

    def as_known(self, removal: Removal) -> Removal | None:
        """Whom and how much of his word a removal without a generation means; None: nobody."""
        known = self.known(removal.subject)
        if removal.generation:
            return removal
        if known is None:
            return None
        through = max(self.roll.numbers_of(removal.subject), default=0)
        if self.is_overruled(self._me):
            # What it said from its removal of this node on is void: that is what this undoes.
            strikes = [
                signed.number
                for signed in self.standing.claims.values()
                if isinstance(signed.claim, Removal)
                and signed.claim.subject == self._me
                and self.roll.author_of(signed) == removal.subject
            ]
            through = min([through, *(number - 1 for number in strikes)])
        return Removal(removal.subject, known.generation, through, removal.reason)
