"""What follows from a roll: who may be here, and which claims count. A pure function of the set.

1. A claim has *authority* if its author has an admin's certificate of the claim's generation that
   it issued itself, or whose issuer is not removed. (A departure: any certificate.)
2. Removals are judged one after the other, in the order of their authors' *seniority*: since when
   the root has made the author an admin, then its id. So when two admins remove each other, the
   senior one's word holds. An admin that never issued its own certificate is junior to all others.
   So who was removed by a junior one may still have the last word, and is heard (`overruled`).
3. A removal that has authority and is not void counts: it ends the certificates of its subject up
   to a generation, all certificates that the subject issued in those generations, and makes void
   what the subject said in them beyond number `through`.
4. Invitations and steps of pool keys count only while their author is not removed at all: what an
   evicted admin left open is closed.
   A departure is an author's last word: what it said later in that generation is void, removals
   too, and so are all its invitations. (Whoever still has its key could date a departure back and
   so take back the author's own words; it can say nothing new.) What it issued stays: see
   docs/security.md.
5. Of a node, the newest certificate counts whose issuer is not removed, if its generation is
   neither removed nor departed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rain.claims import Departure, Invitation, KeyStep, Removal, Signed
from rain.model import NodeId, Role
from rain.trust.credential import Credential
from rain.trust.roll import Held, age

_JUNIOR_UNIX_S = 2**62
"""Later than any certificate."""


@dataclass(slots=True)
class Standing:
    """The answer, for one set."""

    credentials: dict[NodeId, Held] = field(default_factory=dict)
    """Of the nodes that may be here now."""
    known: dict[NodeId, Held] = field(default_factory=dict)
    """Of all nodes ever seen, the newest; one that counts before one that does not."""
    removals: dict[NodeId, tuple[Removal, NodeId, Signed]] = field(default_factory=dict)
    """Who is removed: the removal that reaches furthest, and who made it."""
    overruled: set[NodeId] = field(default_factory=set)
    """Those among them that are senior to whoever removed them."""
    departed: dict[NodeId, int] = field(default_factory=dict)
    claims: dict[bytes, Signed] = field(default_factory=dict)
    """Those that count, by mark."""

    def removed_through(self, node_id: NodeId) -> int:
        """Its highest generation that is removed; 0: none."""
        found = self.removals.get(node_id)
        return found[0].generation if found else 0

    def refusal(self, credential: Credential) -> str:
        """Why this certificate would not be let in, in one word; empty: it would."""
        node_id, generation = credential.node_id, credential.generation
        if generation <= self.removed_through(node_id):
            return "removed"
        if generation <= self.departed.get(node_id, 0):
            return "left"
        if credential.issuer_generation > self.removed_through(credential.issuer_id):
            return ""
        # Somebody else has vouched for the node anew; the certificate only proves who it is.
        here = self.credentials.get(node_id)
        is_vouched = here is not None and here.credential.generation == generation
        return "" if is_vouched else "issuer_removed"


def standing(held: Iterable[Held], claims: Mapping[bytes, Signed]) -> Standing:
    """Judge a roll."""
    return _Judgement(tuple(held), claims).judge()


class _Judgement:
    """One run over one set."""

    def __init__(self, held: tuple[Held, ...], claims: Mapping[bytes, Signed]) -> None:
        self._held, self._claims = held, claims
        self._result = Standing()
        self._voided: dict[NodeId, list[tuple[int, int]]] = {}
        self._node_of = {h.credential.public_key: h.credential.node_id for h in held}
        self._issuers: dict[tuple[NodeId, int], list[tuple[NodeId, int]]] = {}
        self._since: dict[tuple[NodeId, int], int] = {}
        for credential in (h.credential for h in held):
            issuer = (credential.issuer_id, credential.issuer_generation)
            if credential.role is Role.ADMIN:
                admin = (credential.node_id, credential.generation)
                self._issuers.setdefault(admin, []).append(issuer)
            if credential.issuer_id == credential.node_id:
                since = min(self._since.get(issuer, _JUNIOR_UNIX_S), credential.issuer_since_unix_s)
                self._since[issuer] = since

    def judge(self) -> Standing:
        for signed in self._claims.values():
            if isinstance(signed.claim, Departure):
                author = self._node_of[signed.author_key]
                self._voided.setdefault(author, []).append((signed.generation, signed.number))
                before = self._result.departed.get(author, 0)
                self._result.departed[author] = max(signed.generation, before)
        for removal in sorted(self._removals()):
            self._judge_removal(*removal)
        for mark, signed in self._claims.items():
            self._judge_claim(mark, signed)
        self._judge_certificates()
        return self._result

    def _removals(self) -> Iterable[tuple[int, NodeId, int, int, bytes]]:
        for mark, signed in self._claims.items():
            if isinstance(signed.claim, Removal):
                author = self._node_of[signed.author_key]
                since = self._since.get((author, signed.generation), _JUNIOR_UNIX_S)
                yield since, author, signed.generation, signed.number, mark

    def _judge_removal(
        self, since: int, author: NodeId, generation: int, number: int, mark: bytes
    ) -> None:
        signed = self._claims[mark]
        assert isinstance(signed.claim, Removal)
        if not self._has_authority(author, generation) or self._is_void(author, signed):
            return
        removal, result = signed.claim, self._result
        result.claims[mark] = signed
        self._voided.setdefault(removal.subject, []).append((removal.generation, removal.through))
        # Those who are senior to the subject were judged before: theirs is the last word, as far
        # as it reaches.
        is_reached = removal.generation <= result.removed_through(removal.subject)
        is_open = not is_reached or removal.subject in result.overruled
        if is_open and self._seniority(removal.subject, removal.generation) < (since, author):
            result.overruled.add(removal.subject)
        if removal.generation > result.removed_through(removal.subject):
            result.removals[removal.subject] = (removal, author, signed)

    def _judge_claim(self, mark: bytes, signed: Signed) -> None:
        author, result = self._node_of[signed.author_key], self._result
        match signed.claim:
            case Removal():
                return
            case Departure():
                result.claims[mark] = signed
                return
            case Invitation():
                departed = result.departed.get(author, 0)
                is_closed = signed.generation <= max(result.removed_through(author), departed)
            case KeyStep():
                is_closed = signed.generation <= result.removed_through(author)
            case _:
                is_closed = False
        is_void = is_closed or self._is_void(author, signed)
        if not is_void and self._has_authority(author, signed.generation):
            result.claims[mark] = signed

    def _judge_certificates(self) -> None:
        result = self._result
        fallen: dict[NodeId, Held] = {}
        for held in self._held:
            credential = held.credential
            removed = result.removed_through(credential.issuer_id)
            found = result.known if credential.issuer_generation > removed else fallen
            before = found.get(credential.node_id)
            if before is None or age(held) > age(before):
                found[credential.node_id] = held
        for node_id, held in result.known.items():
            over = max(result.removed_through(node_id), result.departed.get(node_id, 0))
            if held.credential.generation > over:
                result.credentials[node_id] = held
        for node_id, held in fallen.items():
            result.known.setdefault(node_id, held)

    def _seniority(self, node_id: NodeId, generation: int) -> tuple[int, NodeId]:
        """Of an admin in that generation or, if it has none there, in earlier ones."""
        since = [
            since
            for (admin, when), since in self._since.items()
            if admin == node_id and when <= generation
        ]
        return min(since, default=_JUNIOR_UNIX_S), node_id

    def _has_authority(self, author: NodeId, generation: int) -> bool:
        return any(
            issuer == author or issuer_generation > self._result.removed_through(issuer)
            for issuer, issuer_generation in self._issuers.get((author, generation), ())
        )

    def _is_void(self, author: NodeId, signed: Signed) -> bool:
        return any(
            signed.generation <= generation and signed.number > through
            for generation, through in self._voided.get(author, ())
        )
