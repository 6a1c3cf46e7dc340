"""What members tell each other about who is here. All but Sync travel in packets.

A MemberRecord is one claim about one member: (boot_epoch, incarnation, state) orders the claims.
Facts ride beside it, ordered by (boot_epoch, facts.version); only their owner writes them. Both
carry their owner's signature (proofs.py), also where others tell them on.
"""

from typing import Annotated

from msgspec import Meta

from rain.effects import Message
from rain.model import Address, Count, Facts, MemberState, NodeId, ShortText, Value

UPDATES_PER_PACKET_MAX = 32
MEMBERS_MAX = 512
SIGNATURE_BYTES = 64

Signature = Annotated[bytes, Meta(max_length=SIGNATURE_BYTES)]


class MemberRecord(Value, frozen=True):
    node_id: NodeId
    name: ShortText
    address: Address
    boot_epoch: Count
    incarnation: Count
    state: MemberState
    accuser: NodeId = NodeId("")
    """For SUSPECT and DEAD: who says so. Distinct accusers shorten a suspicion."""
    signature: Signature = b""
    """Of the subject. Of an accusation: that of the ALIVE claim which it is about."""


class FactsRecord(Value, frozen=True):
    node_id: NodeId
    boot_epoch: Count
    facts: Facts
    signature: Signature = b""


Updates = Annotated[tuple[MemberRecord, ...], Meta(max_length=UPDATES_PER_PACKET_MAX)]
FactUpdates = Annotated[tuple[FactsRecord, ...], Meta(max_length=UPDATES_PER_PACKET_MAX)]


class Join(Message, frozen=True, tag="gj"):
    """Broadcast: I am in this pool, at the address you see this come from."""

    record: MemberRecord
    facts: FactsRecord
    reply: bool = False
    """Answer with your own Join: I do not know you."""


class Ping(Message, frozen=True, tag="gp"):
    sequence: Count
    updates: Updates = ()
    facts: FactUpdates = ()


class Ack(Message, frozen=True, tag="ga"):
    sequence: Count
    updates: Updates = ()
    facts: FactUpdates = ()


class PingRequest(Message, frozen=True, tag="gr"):
    """Probe `target` for me; Ack to me with my sequence if it answers, else Nack."""

    sequence: Count
    target: NodeId
    updates: Updates = ()


class Nack(Message, frozen=True, tag="gn"):
    """I live, but the target did not answer me."""

    sequence: Count


class Sync(Message, frozen=True, tag="gs"):
    """A full table, over the stream. `reply`: answer with yours.

    With a digest and no records, in a packet: this is what I hold; do we differ?
    """

    records: Annotated[tuple[MemberRecord, ...], Meta(max_length=MEMBERS_MAX)]
    facts: Annotated[tuple[FactsRecord, ...], Meta(max_length=MEMBERS_MAX)]
    reply: bool = False
    digest: Annotated[bytes, Meta(max_length=16)] = b""


class Rumours(Message, frozen=True, tag="gu"):
    """Updates that cannot wait for the next probe (a refutation, a leave, a death)."""

    updates: Updates
    facts: FactUpdates = ()


GossipMessage = Join | Ping | Ack | PingRequest | Nack | Sync | Rumours
