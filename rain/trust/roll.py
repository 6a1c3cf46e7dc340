"""The roll: all certificates and signed claims that were ever merged; it only grows.

A join-semilattice: merging any two rolls in any order gives the same one. What is kept is decided
by the set alone, never by what stood at the time; what follows from the set (who may be here) is
standing.py's matter.

* Of certificates, the newest of each *slot*: (node, generation, admin or not, issuer, issuer's
  generation). So an issuer that turns bad cannot displace what another one issued, and whoever was
  an admin in a generation stays known as such.
* Of claims, each that its author signed and that an admin's certificate of its generation backs
  (a departure: any certificate). Per author, so many of each kind: of removals the first ones, so
  that a thousand new ones cannot drive out an old one; of the others the last ones. Of departures
  in one generation the first one, as what comes after it is void.

What cannot be proven ends a merge: no honest node passes such a thing on, and each costs a
signature's check. What is only of no use here (too late, too old, too many) does not.

A claim without its author's certificate is not taken, as anybody could sign such; so who passes a
claim on sends these certificates with it (`closure`). The bounds on the whole roll (NODES_MAX,
BUNDLES_MAX, ISSUED_MAX, CLAIMS_MAX) turn away what comes too late and can be reached only by an
admin who floods it: each needs certificates from the root.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from rain.claims import (
    Claim,
    Departure,
    Invitation,
    KeyStep,
    Removal,
    Signed,
    Verify,
    Withdrawal,
)
from rain.effects import Record
from rain.model import NodeId, Role, Value
from rain.trust.content import mark_of_bundle, mark_of_claim, signed_content
from rain.trust.credential import Credential, Inspect
from rain.trust.messages import (
    BUNDLE_BYTES_MAX,
    BUNDLES_MAX,
    CLAIMS_MAX,
    DIGEST_BYTES,
    MARK_BYTES,
    NODES_MAX,
)
from rain.trust.records import BundleRow, ClaimRow

ISSUED_MAX = 1_024
"""Slots of one issuer in one generation."""
PER_AUTHOR_MAX: dict[type[Claim], int] = {
    Removal: 1_024,
    Invitation: 1_024,
    Withdrawal: 1_024,
    KeyStep: 16,
    Departure: 4,
}
NODE_ID_CHARS_MAX = 64

T = TypeVar("T")


class Held(Value, frozen=True):
    """A certificate of the roll, as bytes, as what it says, and as its mark."""

    bundle: bytes
    credential: Credential
    mark: bytes


class News(NamedTuple):
    """What a merge added, and the keys of the rows that it made superfluous."""

    bundles: tuple[bytes, ...] = ()
    claims: tuple[Signed, ...] = ()
    deletes: tuple[str, ...] = ()
    is_sound: bool = True
    """False: the merge ended at something that cannot be proven."""

    def __bool__(self) -> bool:
        return bool(self.bundles or self.claims)

    def puts(self) -> tuple[Record, ...]:
        return (
            *(BundleRow(bundle) for bundle in self.bundles),
            *(ClaimRow(signed) for signed in self.claims),
        )


class _Slot(NamedTuple):
    node_id: NodeId
    generation: int
    is_admin: bool
    issuer_id: NodeId
    issuer_generation: int


class _Place(NamedTuple):
    """Where a claim stands among those of its author and kind."""

    generation: int
    number: int
    mark: bytes


class Roll:
    """The set and its join. Everything that comes in is a peer's word and may be anything."""

    def __init__(self, pool_id: bytes, inspect: Inspect, verify: Verify) -> None:
        self.dropped: dict[str, int] = {}
        self._pool_id, self._inspect, self._verify = pool_id, inspect, verify
        self._slots: dict[_Slot, Held] = {}
        self._bundles: set[bytes] = set()
        self._node_of: dict[bytes, NodeId] = {}
        self._issued: dict[tuple[NodeId, int], int] = {}
        self._nodes: set[NodeId] = set()
        self._backing: set[tuple[NodeId, int, bool]] = set()
        self._claims: dict[bytes, Signed] = {}
        self._places: dict[tuple[bytes, type[Claim]], list[_Place]] = {}
        self._digest = 0
        self._deletes: list[str] = []
        self._is_sound = True

    # --- The join --------------------------------------------------------------------------------

    def merge(self, bundles: Iterable[bytes], claims: Iterable[Signed]) -> News:
        """Take what is new, up to the first thing that cannot be proven."""
        self._deletes, self._is_sound = [], True
        new_bundles = self._sound_ones(bundles, self._merge_bundle)
        new_claims = self._sound_ones(claims, self._merge_claim)
        return News(
            tuple(bundle for bundle in new_bundles if bundle in self._bundles),
            tuple(signed for signed in new_claims if mark_of_claim(signed) in self._claims),
            tuple(self._deletes),
            self._is_sound,
        )

    def _sound_ones(self, offered: Iterable[T], is_taken: Callable[[T], bool]) -> list[T]:
        taken: list[T] = []
        for each in offered:
            if not self._is_sound:
                break
            if is_taken(each):
                taken.append(each)
        return taken

    def _merge_bundle(self, bundle: bytes) -> bool:
        if bundle in self._bundles:
            return False
        if len(bundle) > BUNDLE_BYTES_MAX:
            return self._break_off("certificate_too_long")
        credential = self._inspect(bundle)
        if credential is None:
            return self._break_off("certificate_of_no_chain")
        is_admin = credential.role is Role.ADMIN
        slot = _Slot(
            credential.node_id,
            credential.generation,
            is_admin,
            credential.issuer_id,
            credential.issuer_generation,
        )
        held = Held(bundle, credential, mark_of_bundle(bundle))
        before = self._slots.get(slot)
        if before is not None:
            if age(held) <= age(before):
                return False
            self._forget_bundle(before)
        elif not self._has_room(slot):
            return self._drop("roll_full")
        else:
            issuer = (slot.issuer_id, slot.issuer_generation)
            self._issued[issuer] = self._issued.get(issuer, 0) + 1
            self._nodes.add(slot.node_id)
            self._backing.add((slot.node_id, slot.generation, slot.is_admin))
        self._slots[slot] = held
        self._bundles.add(bundle)
        self._node_of[credential.public_key] = credential.node_id
        self._digest ^= _short(held.mark)
        return True

    def _has_room(self, slot: _Slot) -> bool:
        return (
            len(self._slots) < BUNDLES_MAX
            and self._issued.get((slot.issuer_id, slot.issuer_generation), 0) < ISSUED_MAX
            and (slot.node_id in self._nodes or len(self._nodes) < NODES_MAX)
        )

    def _forget_bundle(self, held: Held) -> None:
        self._bundles.discard(held.bundle)
        self._digest ^= _short(held.mark)
        self._deletes.append(BundleRow(held.bundle).key())

    def _merge_claim(self, signed: Signed) -> bool:
        mark = mark_of_claim(signed)
        if mark in self._claims:
            return False
        author = self._node_of.get(signed.author_key)
        if author is None or not self._is_backed(author, signed):
            return self._drop("claim_without_right")
        if signed.number < 1 or not _is_sane(author, signed):
            return self._break_off("claim_senseless")
        if len(self._claims) >= CLAIMS_MAX:
            return self._drop("roll_full")
        content = signed_content(signed, self._pool_id)
        if not self._verify(signed.author_key, signed.signature, content):
            return self._break_off("claim_forged")
        kind = type(signed.claim)
        places = self._places.setdefault((signed.author_key, kind), [])
        self._claims[mark] = signed
        self._digest ^= _short(mark)
        place = _Place(signed.generation, signed.number, mark)
        insort(places, place)
        gone = self._superfluous(kind, places, place)
        if gone is None:
            return True
        places.remove(gone)
        forgotten = self._claims.pop(gone.mark)
        self._digest ^= _short(gone.mark)
        if gone.mark == mark:
            return False
        self._deletes.append(ClaimRow(forgotten).key())
        return True

    def _superfluous(self, kind: type[Claim], places: list[_Place], new: _Place) -> _Place | None:
        """The one of an author's claims of a kind that gives way to a new one."""
        if kind is Departure:
            same = [place for place in places if place.generation == new.generation]
            if len(same) > 1:
                return same[-1]
        if len(places) <= PER_AUTHOR_MAX[kind]:
            return None
        return places[-1 if kind is Removal else 0]

    def _is_backed(self, author: NodeId, signed: Signed) -> bool:
        if (author, signed.generation, True) in self._backing:
            return True
        is_departure = isinstance(signed.claim, Departure)
        return is_departure and (author, signed.generation, False) in self._backing

    def _break_off(self, reason: str) -> bool:
        self._is_sound = False
        return self._drop(reason)

    def _drop(self, reason: str) -> bool:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        return False

    # --- Views -----------------------------------------------------------------------------------

    def held(self) -> Iterator[Held]:
        return iter(self._slots.values())

    def bundles(self) -> list[bytes]:
        """All of them, those of removed nodes too."""
        return sorted(self._bundles)

    def claims(self) -> Mapping[bytes, Signed]:
        """By mark."""
        return self._claims

    def author_of(self, signed: Signed) -> NodeId:
        """Whose claim it is, once it was merged."""
        return self._node_of[signed.author_key]

    def numbers_of(self, author: NodeId) -> list[int]:
        """Of all claims that it made, as far as is known here."""
        return [
            place.number
            for (key, _), places in self._places.items()
            if self._node_of[key] == author
            for place in places
        ]

    def digest(self) -> bytes:
        return self._digest.to_bytes(DIGEST_BYTES, "big")

    def marks(self) -> bytes:
        """The marks of everything, sorted, one after the other: what a RollHave says."""
        return b"".join(sorted([*self._claims, *(held.mark for held in self._slots.values())]))

    def beyond(self, marks: set[bytes]) -> News:
        """What a peer that has these marks lacks."""
        held = [held.bundle for held in self._slots.values() if held.mark not in marks]
        claims = [signed for mark, signed in self._claims.items() if mark not in marks]
        return News(tuple(held), tuple(claims))

    def has_all(self, marks: set[bytes]) -> bool:
        return marks.issubset([*self._claims, *(held.mark for held in self._slots.values())])

    def closure(self, claims: Iterable[Signed]) -> tuple[bytes, ...]:
        """The certificates without which a peer would not take these claims; with the removal of
        an admin also all that its remover issued, among them those that replace the admin's."""
        authors: set[NodeId] = set()
        issuers: set[NodeId] = set()
        for signed in claims:
            authors.add(self.author_of(signed))
            if isinstance(signed.claim, Removal) and self._has_issued(signed.claim.subject):
                issuers.add(self.author_of(signed))
        return tuple(
            held.bundle
            for slot, held in self._slots.items()
            if slot.node_id in authors or slot.issuer_id in issuers
        )

    def _has_issued(self, node_id: NodeId) -> bool:
        return any(slot.issuer_id == node_id for slot in self._slots)

    def check(self) -> None:
        marks = [*self._claims, *(held.mark for held in self._slots.values())]
        digest = 0
        for mark in marks:
            digest ^= _short(mark)
        assert digest == self._digest, "T1: the digest is that of all that is held"
        assert len(self._slots) <= BUNDLES_MAX, "T2: certificates bounded"
        assert len(self._claims) <= CLAIMS_MAX, "T2: claims bounded"
        assert len(self._nodes) <= NODES_MAX, "T2: nodes bounded"
        for (_, kind), places in self._places.items():
            assert len(places) <= PER_AUTHOR_MAX[kind], "T2: claims of one author bounded"
        assert sum(map(len, self._places.values())) == len(self._claims), "T3: each has its place"


def age(held: Held) -> tuple[int, int, int, bytes]:
    """The larger, the newer: the order of two certificates of one node."""
    credential = held.credential
    return (credential.generation, credential.until_unix_s, credential.serial, held.bundle)


def _is_sane(author: NodeId, signed: Signed) -> bool:
    match signed.claim:
        case Removal(subject=subject, generation=generation):
            return subject != author and generation >= 1 and len(subject) <= NODE_ID_CHARS_MAX
        case Departure(generation=generation):
            return generation == signed.generation
        case KeyStep(number=number, mark=mark):
            return number >= 1 and len(mark) == MARK_BYTES
        case Invitation() | Withdrawal():
            return True


def _short(mark: bytes) -> int:
    return int.from_bytes(mark[:DIGEST_BYTES], "big")
