"""One member's record and facts, and the law that says which of two claims stands.

The law, in one line: the larger (boot epoch, incarnation, state) wins. A restart raises the boot
epoch, so it never needs refuting; only its owner raises an incarnation, which is how a suspicion
is refuted; and among claims about the same life and incarnation the graver one wins. Equal claims
are settled by their remaining fields, so that any two copies merge to the same, in any order.
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from rain.gossip.messages import SIGNATURE_BYTES, FactsRecord, MemberRecord
from rain.model import Address, Facts, Identity, MemberState, NodeId, Value

NODE_ID_CHARS_MAX = 32
RECORD_BYTES_MAX = 440
"""A record with the longest accuser; with FACTS_BYTES_MAX so small that a Join fits a packet."""
FACTS_BYTES_MAX = 520
INCARNATION_MAX = 2**40
"""Nobody refutes so often; a larger claim could never be refuted."""
UNSPECIFIED_HOSTS = ("", "0.0.0.0", "::")


class Member(Value, frozen=True):
    """What this node believes about another (or says about itself)."""

    record: MemberRecord
    facts: Facts = Facts()
    facts_boot_epoch: int = 0
    confirmed: bool = True
    """False: remembered from disk and not heard of since."""
    facts_signature: bytes = b""

    @property
    def is_here(self) -> bool:
        """Alive as far as anybody knows; a suspect still counts."""
        return self.confirmed and self.record.state <= MemberState.SUSPECT

    @property
    def facts_record(self) -> FactsRecord:
        node_id, signature = self.record.node_id, self.facts_signature
        return FactsRecord(node_id, self.facts_boot_epoch, self.facts, signature)

    def shown(self, name: str) -> "Member":
        """As people and other cores see it: who was not heard of since the start is not alive."""
        is_known = self.confirmed or self.record.state is MemberState.LEFT
        state = self.record.state if is_known else MemberState.DEAD
        return replace(self, record=replace(self.record, name=name, state=state))


def claim_order(record: MemberRecord) -> tuple[int, int, int]:
    """What decides between two claims about one member."""
    return record.boot_epoch, record.incarnation, int(record.state)


def newer(held: MemberRecord, claim: MemberRecord) -> MemberRecord:
    """The precedence law: commutative, associative, idempotent."""
    assert held.node_id == claim.node_id, "only claims about one member can be compared"
    return max(held, claim, key=_precedence)


def newer_facts(held: FactsRecord, claim: FactsRecord) -> FactsRecord:
    """The same law for facts, which only their owner numbers."""
    assert held.node_id == claim.node_id, "only facts of one member can be compared"
    return max(held, claim, key=_facts_precedence)


def is_unspecified(address: Address) -> bool:
    """Bound to every interface: others must see for themselves where it is."""
    return address.host in UNSPECIFIED_HOSTS


def packed_bytes(value: Any) -> int:
    """Exactly how long a value is in a packet: messages travel as msgpack."""
    return len(msgspec.msgpack.encode(value))


def is_acceptable(record: MemberRecord) -> bool:
    """Can it be told on in a packet, and refuted? A hostile member may send anything."""
    return (
        0 < len(record.node_id) <= NODE_ID_CHARS_MAX
        and len(record.accuser) <= NODE_ID_CHARS_MAX
        and record.incarnation <= INCARNATION_MAX
        and (
            # The longest accuser adds that much at most, so most records need no copy to be sure.
            packed_bytes(record) + len(_LONGEST_ID) + 1 <= RECORD_BYTES_MAX
            or packed_bytes(replace(record, accuser=_LONGEST_ID)) <= RECORD_BYTES_MAX
        )
    )


def are_acceptable_facts(facts: FactsRecord) -> bool:
    return 0 < len(facts.node_id) <= NODE_ID_CHARS_MAX and packed_bytes(facts) <= FACTS_BYTES_MAX


def own_member(identity: Identity, address: Address, facts: Facts) -> Member:
    """This node at its start, as it tells of itself; still to be signed."""
    node_id, boot_epoch = identity.node_id, identity.boot_epoch
    record = MemberRecord(node_id, identity.name, address, boot_epoch, 0, MemberState.ALIVE)
    own_facts = fitted_facts(FactsRecord(node_id, boot_epoch, replace(facts, version=1)))
    return Member(fitted_record(record), own_facts.facts, boot_epoch)


def fitted_record(record: MemberRecord) -> MemberRecord:
    """This node's own record, its name cut until it fits together with its signature."""
    while not is_acceptable(replace(record, signature=_ANY_SIGNATURE)):
        assert record.name, "an own record fits when its name is cut"
        record = replace(record, name=record.name[:-1])
    return record


def fitted_facts(record: FactsRecord) -> FactsRecord:
    """This node's own facts, cut where it hurts least until they fit with their signature."""
    facts = record.facts
    while not are_acceptable_facts(replace(record, facts=facts, signature=_ANY_SIGNATURE)):
        if len(facts.idle_reason) > 80:
            facts = replace(facts, idle_reason=facts.idle_reason[: len(facts.idle_reason) // 2])
        elif facts.accelerators:
            facts = replace(facts, accelerators=facts.accelerators[:-1])
        elif facts.idle_reason or facts.platform or facts.software:
            facts = replace(facts, idle_reason="", platform="", software="")
        else:
            assert facts.executors, "own facts fit when their texts are cut"
            facts = replace(facts, executors=facts.executors[:-1])
    return replace(record, facts=facts)


_LONGEST_ID = NodeId("x" * NODE_ID_CHARS_MAX)
_ANY_SIGNATURE = bytes(SIGNATURE_BYTES)


def _precedence(record: MemberRecord) -> tuple[tuple[int, int, int], Address, str, str, bytes]:
    return claim_order(record), record.address, record.name, record.accuser, record.signature


def _facts_precedence(record: FactsRecord) -> tuple[int, int, bytes, bytes]:
    packed = msgspec.msgpack.encode(record.facts)
    return record.boot_epoch, record.facts.version, packed, record.signature
