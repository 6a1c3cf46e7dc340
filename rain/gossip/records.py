"""What gossip keeps on disk: whom it knew, so that a restarted node can ring them."""

from rain.effects import Record
from rain.gossip.messages import Signature
from rain.model import Address, Count, MemberState, NodeId, ShortText


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


GossipRecord = MemberRow
