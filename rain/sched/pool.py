"""Who is here, as far as work is concerned: kept by every node from the notices of its siblings.

Gossip says who is up and what each offers, election which membership was last stable, who is
braked away, and that a follower was heard. This node is always up.
"""

from msgspec.structs import replace

from rain.effects import BrakeChanged, FactsChanged, MemberDown, MemberUp, ViewChanged
from rain.model import Facts, Identity, MemberState, NodeId, Value

DOWN_MAX = 1_000
"""Members remembered as down, newest first; only to explain why nothing is placed there."""


class Peer(Value, frozen=True):
    """One member that is up."""

    node_id: NodeId
    name: str
    boot_epoch: int
    facts: Facts


class Pool:
    """The members that are up, those that went, the view, and the brake."""

    def __init__(self, identity: Identity, facts: Facts, grace_ms: int) -> None:
        self.node_id = identity.node_id
        self.peers: dict[NodeId, Peer] = {
            identity.node_id: Peer(identity.node_id, identity.name, identity.boot_epoch, facts)
        }
        self.down: dict[NodeId, Peer] = {}
        self._up: list[NodeId] = [identity.node_id]
        self.view: tuple[NodeId, ...] = (identity.node_id,)
        self.is_braked = False
        self.vanished: tuple[NodeId, ...] = ()
        self._left: dict[NodeId, None] = {}
        self._grace_ms = grace_ms
        self._grace_until_ms: int | None = None

    def up(self) -> list[NodeId]:
        """Sorted, this node included."""
        return self._up

    def others(self) -> list[NodeId]:
        return [node_id for node_id in self.up() if node_id != self.node_id]

    def is_up(self, node_id: NodeId) -> bool:
        return node_id in self.peers

    def is_behind_the_brake(self, node_id: NodeId) -> bool:
        """Vanished to the other side of what may be a partition: leave what it has alone."""
        return self.is_braked and node_id in self.vanished

    def on_up(self, notice: MemberUp) -> bool:
        """Is it new here, or restarted?"""
        known = self.peers.get(notice.node_id)
        self.peers[notice.node_id] = Peer(
            notice.node_id, notice.name, notice.boot_epoch, notice.facts
        )
        self._up = sorted(self.peers)
        self.down.pop(notice.node_id, None)
        self._left.pop(notice.node_id, None)
        return known is None or known.boot_epoch < notice.boot_epoch

    def on_down(self, notice: MemberDown, now_ms: int) -> None:
        if notice.node_id == self.node_id:
            return
        peer = self.peers.pop(notice.node_id, None)
        self._up = sorted(self.peers)
        if peer is not None:
            self.down[notice.node_id] = peer
            while len(self.down) > DOWN_MAX:
                del self.down[next(iter(self.down))]
        if notice.state is MemberState.LEFT:
            self._left[notice.node_id] = None
        elif peer is not None:
            self.note_loss(now_ms)

    def on_facts(self, notice: FactsChanged) -> None:
        peer = self.peers.get(notice.node_id)
        if peer is not None:
            self.peers[notice.node_id] = replace(peer, facts=notice.facts)

    def on_view(self, notice: ViewChanged) -> None:
        self.view = notice.members

    def on_brake(self, notice: BrakeChanged) -> None:
        self.is_braked = notice.braked
        self.vanished = notice.vanished

    def note_loss(self, now_ms: int) -> None:
        """Somebody is gone, perhaps not for long: copies are counted against the view for now."""
        self._grace_until_ms = now_ms + self._grace_ms

    def grace_until_ms(self) -> int | None:
        """When the smaller pool is accepted; None: it is."""
        return self._grace_until_ms

    def end_grace(self, now_ms: int) -> bool:
        """Has the grace ended just now?"""
        if self._grace_until_ms is None or now_ms < self._grace_until_ms:
            return False
        self._grace_until_ms = None
        return True

    def copies_needed(self, replicas: int) -> int:
        """On how many disks a thing must be before it is acknowledged (E7)."""
        members = dict.fromkeys(self.up())
        if self._grace_until_ms is not None:
            members.update(dict.fromkeys(m for m in self.view if m not in self._left))
        return min(replicas, len(members))
