"""What gossip keeps on disk: whom it knew, to ring them after a restart, and its own lives."""

from rain.effects import Record
from rain.gossip.messages import Signature
from rain.model import Address, Count, MemberState, NodeId, ShortText

LIFE_KEY = "gossip/life"


class MemberRow(Record, frozen=True, tag="gm"):
    """One other member as it was last known."""

    node_id: NodeId
    name: ShortText
    address: Address
    boot_epoch: Count
    incarnation: Count
    state: MemberState
    signature: Signature = b""

    def key(self) -> str:
        return f"member/{self.node_id}"


class LifeRow(Record, frozen=True, tag="gl"):
    """The latest life of this node that it knows of: the boot epoch of a run of its agent."""

    boot_epoch: Count

    def key(self) -> str:
        return LIFE_KEY


GossipRecord = MemberRow | LifeRow
