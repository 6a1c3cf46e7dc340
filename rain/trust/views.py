"""What agent, envelope and rights may ask the trust core; nothing here changes anything."""

from collections.abc import Set

from rain.claims import Removal, Signed
from rain.effects import Admitted, Barred
from rain.model import NodeId, Role
from rain.trust.book import Book
from rain.trust.credential import Credential
from rain.trust.exchange import Exchange
from rain.trust.messages import RollNews
from rain.trust.ring import RingView
from rain.trust.rotation import Scene


class Views:
    """The readable side of the core."""

    def __init__(self, me: NodeId, book: Book, exchange: Exchange) -> None:
        self._me, self._book, self._exchange = me, book, exchange

    def credential(self, node_id: NodeId) -> Credential | None:
        """Of a node that may be here now; None: it never might, was removed, has left, or the
        admin who let it in was removed. Asked for with every packet, so by the shortest way."""
        held = self._book.standing.credentials.get(node_id)
        return held.credential if held else None

    def known(self, node_id: NodeId) -> Credential | None:
        """The newest ever seen of that node, whether it may be here or not."""
        return self._book.known(node_id)

    def bundle(self, node_id: NodeId) -> bytes | None:
        """The certificate behind `credential`."""
        held = self._book.standing.credentials.get(node_id)
        return held.bundle if held else None

    def role(self, node_id: NodeId) -> Role | None:
        held = self._book.standing.credentials.get(node_id)
        return held.credential.role if held else None

    def refusal(self, credential: Credential) -> str:
        """'' or `removed`, `left`, `issuer_removed`: would this certificate be let in?"""
        return self._book.standing.refusal(credential)

    def hears(self, node_id: NodeId) -> bool:
        """Whether its RollNews is read: of who may be here, and of an admin whom a junior one has
        removed, as the last word may be its own. Nothing else of such a node counts."""
        return self._book.credential(node_id) is not None or self._book.is_overruled(node_id)

    def is_overruled(self, node_id: NodeId) -> bool:
        """Whether it is an admin who may not be here by the word of a junior one only."""
        return self._book.is_overruled(node_id)

    def credentials(self) -> list[Credential]:
        """Of all that may be here, sorted by id."""
        held = self._book.standing.credentials
        return [held[node_id].credential for node_id in sorted(held)]

    def ever_known(self) -> list[Credential]:
        """The newest of every node that was ever let in, sorted by id."""
        known = self._book.standing.known
        return [known[node_id].credential for node_id in sorted(known)]

    def inviter(self, credential: Credential) -> NodeId:
        """Who made the invitation that it came by; of the founder, and where that is not known,
        who issued it."""
        return self._book.inviter(credential)

    def let_in_by(self, admins: Set[NodeId]) -> list[Credential]:
        """Those here that came by these admins: by their invitations, or by their word alone."""
        return self._book.let_in_by(admins)

    def removals(self) -> dict[NodeId, tuple[Removal, NodeId, int]]:
        """Who is removed: by what, by whom, when."""
        return {
            node_id: (removal, author, signed.at_unix_ms)
            for node_id, (removal, author, signed) in sorted(self._book.standing.removals.items())
        }

    def evidence_against(self, node_id: NodeId) -> RollNews | None:
        """The claim that removed it, with the certificates that prove its author's right."""
        held = self._book.standing.removals.get(node_id)
        if held is None or self._book.credential(node_id) is not None:
            return None
        signed = held[2]
        return RollNews(self._book.roll.closure((signed,)), (signed,))

    def claims(self) -> list[Signed]:
        """All that were ever made, sorted by (instant, author)."""
        return self._book.claims()

    def author_of(self, signed: Signed) -> NodeId:
        """Whose claim of `claims()` that is."""
        return self._book.roll.author_of(signed)

    def counts(self, signed: Signed) -> bool:
        """Whether that claim is worth anything: its author had the right, and it is not void."""
        return self._book.counts(signed)

    def bundles(self) -> list[bytes]:
        """All certificates of the roll: with `claims()`, what a newcomer is given."""
        return self._book.roll.bundles()

    def invitation(self, invite_id: str) -> Signed | None:
        """If it counts; that it is withdrawn, used up or out of date is asked elsewhere."""
        return self._book.invitation(invite_id)

    def withdrawn(self, invite_id: str) -> bool:
        return self._book.withdrawn(invite_id)

    def uses(self, invite_id: str) -> int:
        """How many certificates were ever issued for it."""
        return self._book.uses(invite_id)

    def issued_by(self, issuer_id: NodeId) -> list[Credential]:
        """What would fall with that admin: to be issued anew before it is removed, those of
        removed and departed admins too, as their claims stand on them."""
        return self._book.issued_by(issuer_id)

    def next_generation(self, node_id: NodeId) -> int:
        """For the next certificate of that node: higher than all that are removed."""
        return self._book.next_generation(node_id)

    def next_key_number(self) -> int:
        return self._book.ring.next_number()

    def ring(self) -> RingView:
        """The pool keys, and how far the newest one has come."""
        ring, others = self._book.ring, self._others()
        course = ring.newest()
        newest, mark = (course.number, course.mark) if course else ring.held()
        peers = self._exchange.peers
        return RingView(
            {ring_key.number: ring_key.key for ring_key in ring.kept()},
            ring.use,
            newest,
            course.phase if course else None,
            int(ring.held() == (newest, mark))
            + sum(peers[node_id].has(newest, mark) for node_id in others),
            1 + len(others),
        )

    # --- For the core itself ---------------------------------------------------------------------

    def _others(self) -> list[NodeId]:
        """Members that are up and may be here."""
        return [n for n in sorted(self._exchange.peers) if self._book.credential(n)]

    def _known_others(self) -> list[NodeId]:
        """Members that may be here, up or not."""
        return [node_id for node_id in self._book.standing.credentials if node_id != self._me]

    def _scene(self) -> Scene:
        ring, peers = self._book.ring, self._exchange.peers
        course = ring.newest()
        others = self._others()
        assert course is not None, "there is a key to look at"
        # Nobody is up just after a start; only who knows of nobody has nobody to wait for.
        is_answered = bool(others) or not self._known_others()
        return Scene(
            ring.has(course),
            tuple(sorted(n for n in (*others, self._me) if self._book.is_admin(n))),
            is_answered
            and all(peers[node_id].has(course.number, course.mark) for node_id in others),
            is_answered and all(peers[node_id].uses(course.number) for node_id in others),
        )

    def _estranged(self) -> list[NodeId]:
        """Who may have barred this node, for the word of an admin that it has removed."""
        if not self._book.defence:
            return []
        return [n for n in sorted(self._known_others()) if self._exchange.is_silent(n)]

    def _admissions(self) -> dict[NodeId, Admitted]:
        """What siblings are told of each."""
        return {each.node_id: _admitted(each) for each in self.credentials()}

    def _barring(self, node_id: NodeId) -> list[Admitted | Barred]:
        """Who it was, as what it signed still counts; and that it may not be here."""
        known = self._book.known(node_id)
        who = [] if known is None else [_admitted(known)]
        return [*who, Barred(node_id)]


def _admitted(known: Credential) -> Admitted:
    return Admitted(known.node_id, known.name, known.role, known.person, known.public_key)
