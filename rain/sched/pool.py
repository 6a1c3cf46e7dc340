"""Who is here, as far as work is concerned: kept by every node from the notices of its siblings.

Trust says who may be here and in which role, gossip who is up and what each offers, election
which membership was last stable, who is braked away, and that a follower was heard. Up is who is
both admitted and seen; gossip may be ahead of the roll or behind it. This node is always up.

Keepers are those of them that keep copies of the job table: all but workers.
"""

from msgspec.structs import replace

from rain.effects import Admitted, BrakeChanged, FactsChanged, MemberDown, MemberUp, ViewChanged
from rain.model import Facts, Identity, MemberState, NodeId, Role, Value
from rain.sched.people import People

DOWN_MAX = 1_000
"""Members remembered as down, newest first; only to explain why nothing is placed there."""
STRANGERS_MAX = 1_000
"""Nodes that are seen and not admitted, newest first."""


class Peer(Value, frozen=True):
    """One member that is up."""

    node_id: NodeId
    name: str
    boot_epoch: int
    facts: Facts


class Pool:
    """The members that are up, those that went, the view, and the brake."""

    def __init__(self, identity: Identity, facts: Facts, grace_ms: int, people: People) -> None:
        self.node_id = identity.node_id
        self.people = people
        self.peers: dict[NodeId, Peer] = {
            identity.node_id: Peer(identity.node_id, identity.name, identity.boot_epoch, facts)
        }
        self.down: dict[NodeId, Peer] = {}
        self._up: list[NodeId] = [identity.node_id]
        self._other_keepers: list[NodeId] = []
        self._strangers: dict[NodeId, Peer] = {}
        self.view: tuple[NodeId, ...] = (identity.node_id,)
        self.is_braked = False
        self.vanished: tuple[NodeId, ...] = ()
        self._left: dict[NodeId, None] = {}
        self._grace_ms = grace_ms
        self._grace_until_ms: int | None = None

    def up(self) -> list[NodeId]:
        """Sorted, this node included."""
        return self._up

    def other_keepers(self) -> list[NodeId]:
        """Sorted, without this node."""
        return self._other_keepers

    def entitled_keepers(self) -> list[NodeId]:
        """This node and all others that may be here and keep copies, up or not."""
        return list(dict.fromkeys((self.node_id, *self.people.keepers())))

    def life(self, node_id: NodeId) -> int:
        """The boot epoch of a member that is up; 0 of one that is not."""
        peer = self.peers.get(node_id)
        return peer.boot_epoch if peer is not None else 0

    def is_up(self, node_id: NodeId) -> bool:
        return node_id in self.peers

    def is_keeper(self, node_id: NodeId) -> bool:
        """Is it up, and not a mere worker? This node keeps at least its own copy."""
        if node_id not in self.peers:
            return False
        return node_id == self.node_id or self.people.is_at_least(node_id, Role.MEMBER)

    def is_gone(self, node_id: NodeId) -> bool:
        """Not merely not seen yet: it was here and went, or was removed."""
        return node_id in self.down or self.people.is_barred(node_id)

    def is_behind_the_brake(self, node_id: NodeId) -> bool:
        """Vanished to the other side of what may be a partition: leave what it has alone.

        Not so who was removed: on whichever side it is, it does not come back.
        """
        return self.is_braked and node_id in self.vanished and not self.people.is_barred(node_id)

    def on_admitted(self, notice: Admitted) -> bool:
        """Is it up with this, and was not before?"""
        self.people.admit(notice)
        peer = self._strangers.pop(notice.node_id, None)
        if peer is not None:
            return self._enter(peer)
        self._count()
        return False

    def on_barred(self, node_id: NodeId, now_ms: int) -> None:
        """It has left for good, whatever gossip sees of it."""
        peer = self.peers.get(node_id)
        self.people.bar(node_id)
        self.on_down(MemberDown(node_id, MemberState.LEFT), now_ms)
        self.down.pop(node_id, None)
        if peer is not None and node_id != self.node_id:
            self._see(peer)

    def on_up(self, notice: MemberUp) -> bool:
        """Is it new here, or restarted?"""
        peer = Peer(notice.node_id, notice.name, notice.boot_epoch, notice.facts)
        if notice.node_id == self.node_id or self.people.role(notice.node_id) is not None:
            return self._enter(peer)
        self._see(peer)
        return False

    def on_down(self, notice: MemberDown, now_ms: int) -> None:
        if notice.node_id == self.node_id:
            return
        self._strangers.pop(notice.node_id, None)
        peer = self.peers.pop(notice.node_id, None)
        self._count()
        if peer is not None:
            self.down[notice.node_id] = peer
            while len(self.down) > DOWN_MAX:
                del self.down[next(iter(self.down))]
        if notice.state is MemberState.LEFT:
            self._left[notice.node_id] = None
        elif peer is not None:
            self.note_loss(now_ms)

    def on_facts(self, notice: FactsChanged) -> None:
        for seen in (self.peers, self._strangers):
            peer = seen.get(notice.node_id)
            if peer is not None:
                seen[notice.node_id] = replace(peer, facts=notice.facts)

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
        keepers = dict.fromkeys((self.node_id, *self._other_keepers))
        if self._grace_until_ms is not None:
            keepers.update(dict.fromkeys(m for m in self.view if self._may_return(m)))
        return min(replicas, len(keepers))

    def _may_return(self, node_id: NodeId) -> bool:
        """A keeper that is up, or went without saying that it left."""
        return node_id not in self._left and self.people.role(node_id) is not Role.WORKER

    def _enter(self, peer: Peer) -> bool:
        known = self.peers.get(peer.node_id)
        self.peers[peer.node_id] = peer
        self.down.pop(peer.node_id, None)
        self._left.pop(peer.node_id, None)
        self._count()
        return known is None or known.boot_epoch < peer.boot_epoch

    def _see(self, peer: Peer) -> None:
        self._strangers.pop(peer.node_id, None)
        self._strangers[peer.node_id] = peer
        while len(self._strangers) > STRANGERS_MAX:
            del self._strangers[next(iter(self._strangers))]

    def _count(self) -> None:
        self._up = sorted(self.peers)
        self._other_keepers = [
            node_id for node_id in self._up if node_id != self.node_id and self.is_keeper(node_id)
        ]
