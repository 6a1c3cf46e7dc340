"""The table of the other members: merged claims, merged facts, routes, and rows for the disk.

It only rises (see member.py). What a change means for others is the business of membership.py.
"""

import hashlib
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from rain.effects import Persist
from rain.gossip.member import (
    Member,
    claim_order,
    is_acceptable,
    is_unspecified,
    newer,
    newer_facts,
)
from rain.gossip.messages import MEMBERS_MAX, FactsRecord, MemberRecord
from rain.gossip.records import MemberRow
from rain.model import Address, MemberState, NodeId

DIGEST_BYTES = 8


class Roster:
    def __init__(self, node_id: NodeId, rows: Sequence[MemberRow]) -> None:
        self._node_id = node_id
        self._members: dict[NodeId, Member] = {}
        self._routes: dict[NodeId, Address] = {}
        self._rows: dict[NodeId, MemberRow] = {}
        self._unwritten: dict[NodeId, None] = {}
        self._here: tuple[NodeId, ...] | None = None
        self._checked: dict[NodeId, tuple[int, int, int]] = {}
        for row in sorted(rows, key=MemberRow.key)[: MEMBERS_MAX - 1]:
            if row.node_id != node_id and is_acceptable(_record_of(row)):
                has_left = row.state is MemberState.LEFT
                self._members[row.node_id] = Member(_record_of(row), confirmed=has_left)
                self._rows[row.node_id] = row

    def get(self, node_id: NodeId) -> Member | None:
        return self._members.get(node_id)

    def all(self) -> list[Member]:
        return [self._members[node_id] for node_id in sorted(self._members)]

    def here(self) -> tuple[NodeId, ...]:
        """The others that are alive or suspect, sorted."""
        if self._here is None:
            self._here = tuple(member.record.node_id for member in self.all() if member.is_here)
        return self._here

    def is_full(self) -> bool:
        return len(self._members) >= MEMBERS_MAX - 1

    def may_change(self, claim: MemberRecord) -> bool:
        """Whether a claim like this, if it is true, is worth a look: not the death of a stranger,
        nor what was said of an earlier life or incarnation."""
        held = self._members.get(claim.node_id)
        if held is None:
            return claim.state < MemberState.DEAD
        return claim_order(claim)[:2] >= claim_order(held.record)[:2]

    def are_newer_facts(self, claim: FactsRecord) -> bool:
        held = self._members.get(claim.node_id)
        return held is not None and newer_facts(held.facts_record, claim) != held.facts_record

    def merge(self, claim: MemberRecord) -> tuple[Member | None, Member] | None:
        """Before and after, if the claim is news; it must be acceptable, and there must be room."""
        held = self._members.get(claim.node_id)
        if held is None:
            if claim.state >= MemberState.DEAD:
                return None  # nobody misses it, and forgotten members must not come back for ever
            after = Member(claim)
        else:
            if is_unspecified(claim.address):
                claim = replace(claim, address=held.record.address)
            known, claimed = claim_order(held.record), claim_order(claim)
            if claimed < known:
                return None
            if claimed == known and held.confirmed:
                settled = newer(held.record, claim)
                if settled != held.record:
                    self._put(replace(held, record=settled))
                return None
            after = replace(held, record=claim, confirmed=True)
        self._put(after)
        return held, after

    def merge_facts(self, claim: FactsRecord) -> Member | None:
        """The member with its new facts, if they are news."""
        held = self._members.get(claim.node_id)
        if held is None or not self.are_newer_facts(claim):
            return None
        after = replace(
            held,
            facts=claim.facts,
            facts_boot_epoch=claim.boot_epoch,
            facts_signature=claim.signature,
        )
        self._members[claim.node_id] = after
        return after

    def forget(self, node_id: NodeId) -> None:
        del self._members[node_id]
        self._routes.pop(node_id, None)
        self._checked.pop(node_id, None)
        self._unwritten[node_id] = None
        self._here = None

    def reroute(self, node_id: NodeId, address: Address) -> bool:
        """True if that is another way than before. Unknown nodes have no route of ours."""
        unchanged = self._routes.get(node_id) == address
        if node_id not in self._members or unchanged or is_unspecified(address):
            return False
        self._routes[node_id] = address
        return True

    def unwritten(self) -> list[Persist]:
        """The write that brings the disk up to date, once; empty when it is."""
        puts: list[MemberRow] = []
        deletes: list[str] = []
        for node_id in self._unwritten:
            member = self._members.get(node_id)
            if member is not None:
                self._rows[node_id] = _row_of(member.record)
                puts.append(self._rows[node_id])
            elif node_id in self._rows:
                deletes.append(self._rows.pop(node_id).key())
        self._unwritten.clear()
        return [Persist(tuple(puts), tuple(deletes))] if puts or deletes else []

    def digest(self, own: Member) -> bytes:
        """Of who is here and which facts are known; equal tables need no sync."""
        lines = [
            (
                member.record.node_id,
                member.record.boot_epoch,
                member.record.incarnation,
                member.facts_boot_epoch,
                member.facts.version,
            )
            for member in [own, *self._members.values()]
            if member.is_here
        ]
        packed = msgspec.msgpack.encode(sorted(lines))
        return hashlib.blake2b(packed, digest_size=DIGEST_BYTES).digest()

    def check(self) -> None:
        assert len(self._members) < MEMBERS_MAX, "G4: the table is bounded"
        assert self._node_id not in self._members, "G1: nobody else writes this node's record"
        for node_id, member in self._members.items():
            assert is_acceptable(member.record), "G3: every record can be told on"
            if member.confirmed:
                order = claim_order(member.record)
                assert order >= self._checked.get(node_id, order), "G2: a member moves only up"
                self._checked[node_id] = order

    def _put(self, member: Member) -> None:
        node_id = member.record.node_id
        self._members[node_id] = member
        self._here = None
        row, written = _row_of(member.record), self._rows.get(node_id)
        # The incarnation alone is not worth a write: a restart asks everybody anyway.
        if written is None or _as_written(row, written) != written:
            self._unwritten[node_id] = None


def _row_of(record: MemberRecord) -> MemberRow:
    state = MemberState.ALIVE if record.state is MemberState.SUSPECT else record.state
    return MemberRow(
        record.node_id,
        record.name,
        record.address,
        record.boot_epoch,
        record.incarnation,
        state,
        record.signature,
    )


def _as_written(row: MemberRow, written: MemberRow) -> MemberRow:
    """With the incarnation of the other, and the signature that belongs to it."""
    return replace(row, incarnation=written.incarnation, signature=written.signature)


def _record_of(row: MemberRow) -> MemberRecord:
    """Whether it lives is to be seen; only a goodbye is still true after a restart."""
    state = MemberState.LEFT if row.state is MemberState.LEFT else MemberState.ALIVE
    return MemberRecord(
        row.node_id,
        row.name,
        row.address,
        row.boot_epoch,
        row.incarnation,
        state,
        signature=row.signature,
    )
