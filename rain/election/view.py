"""Who counts: the members gossip speaks of, and the last stable, persisted view of them.

The stable membership holds workers too: heartbeats have a bit for each of its members, so that a
worker that is not heard notices like anybody else (E2), and its hash says which bit is whose. The
view proper is the electors among them: it is what is told, what majorities and the brake are
counted against. Roles are not written here: they come from trust, at every start too, and take
effect at once.

`present` follows gossip at once; the view follows `present` when that has not changed for a second
(ten at most, under flapping), and is told only when durable. A change that would lose most of the
view waits until the brake's fifteen seconds are over: half a partition must remember how large the
world was, across a restart too. Who left by its own word leaves at once.
"""

import hashlib
from collections.abc import Sequence

from rain.effects import Output, Persist, Record, ViewChanged
from rain.election.brake import is_world_lost
from rain.election.config import ElectionConfig
from rain.election.electors import Electors
from rain.election.messages import HEARD_MAX
from rain.election.records import ViewRecord
from rain.model import NodeId

HASH_BYTES = 8


class View:
    """Membership as the election counts it."""

    def __init__(
        self,
        node_id: NodeId,
        rank: int,
        electors: Electors,
        config: ElectionConfig,
        now_ms: int,
        recovered: Sequence[Record],
    ) -> None:
        self._node_id = node_id
        self._roll = electors
        self._config = config
        self._ranks: dict[NodeId, int] = {node_id: rank}
        self._alive: dict[NodeId, bool] = {node_id: True}
        self._left: dict[NodeId, None] = {}
        # Asked for at every heartbeat, other ones only when a member comes, goes or is renamed
        # in rank: see _changed.
        self._present: tuple[NodeId, ...] | None = None
        self._others: tuple[NodeId, ...] | None = None
        self._before_mine: tuple[NodeId, ...] | None = None
        self._staying: tuple[NodeId, ...] | None = None
        self._electors: tuple[NodeId, ...] | None = None
        self.members: tuple[NodeId, ...] = (node_id,)
        self._is_recovered = False
        for record in recovered:
            if isinstance(record, ViewRecord):
                self.members = tuple(sorted({*record.members, node_id}))[:HEARD_MAX]
                self._is_recovered = True
        self.hash = _hash(self.members)
        self._is_told = False
        self._told: tuple[NodeId, ...] | None = None
        self._is_disk_well = True
        self._writing: tuple[int, tuple[NodeId, ...]] | None = None
        self._pending: tuple[NodeId, ...] = (node_id,)
        self._pending_since_ms = now_ms
        self._unstable_since_ms = now_ms
        self.changed_ms = now_ms

    # --- what is known ---

    def present(self) -> tuple[NodeId, ...]:
        """Alive by gossip, this node included, sorted."""
        if self._present is None:
            self._present = tuple(sorted(node for node, alive in self._alive.items() if alive))
        return self._present

    def electors(self) -> tuple[NodeId, ...]:
        """The view: those of the stable membership whose word counts."""
        if self._electors is None:
            self._electors = self._roll.among(self.members)
        return self._electors

    def electors_among(self, node_ids: Sequence[NodeId]) -> tuple[NodeId, ...]:
        return self._roll.among(node_ids)

    def electorate(self) -> tuple[NodeId, ...]:
        """The electors of the view and whoever is here beyond it; not who left. Sorted."""
        return self._roll.among(self.everybody())

    def everybody(self) -> tuple[NodeId, ...]:
        """The stable membership and whoever is here beyond it; not who left. Sorted."""
        known = {*self.members, *self.present()}
        return tuple(sorted(node for node in known if node not in self._left))

    def is_present(self, node_id: NodeId) -> bool:
        return self._alive.get(node_id, False)

    def others(self, *, dead: bool) -> tuple[NodeId, ...]:
        """Members that are here, or (`dead`) that were and have not said goodbye."""
        if not dead:
            if self._others is None:
                self._others = tuple(node for node in self.present() if node != self._node_id)
            return self._others
        known = {*self._alive, *self.members}
        return tuple(
            sorted(n for n in known if not self._alive.get(n, False) and n not in self._left)
        )

    def rank_of(self, node_id: NodeId) -> tuple[int, NodeId]:
        """Smaller stands earlier: higher configured rank, then smaller id."""
        return (-self._ranks.get(node_id, 0), node_id)

    def configured_rank(self, node_id: NodeId) -> int:
        return self._ranks.get(node_id, 0)

    def position_without(self, silent: NodeId | None) -> int:
        """This node's place by rank among the electors here, the silent coordinator left out."""
        if self._before_mine is None:
            mine = self.rank_of(self._node_id)
            here = self._roll.among(self.present())
            self._before_mine = tuple(n for n in here if self.rank_of(n) < mine)
        return len(self._before_mine) - (silent in self._before_mine)

    # --- what gossip tells ---

    def rise(self, node_id: NodeId, rank: int, now_ms: int) -> bool:
        """A member is here; False: no room for it."""
        if node_id not in self._alive and not self._make_room():
            return False
        self._left.pop(node_id, None)
        self._alive[node_id] = True
        self._ranks[node_id] = rank
        self._changed()
        self._note(now_ms)
        return True

    def fall(self, node_id: NodeId, now_ms: int, *, left: bool) -> None:
        """A member is dead, or left."""
        if node_id == self._node_id:
            return
        if left:
            self._alive.pop(node_id, None)
            self._left[node_id] = None
            if len(self._left) > HEARD_MAX:
                del self._left[next(iter(self._left))]
        elif node_id in self._alive:
            self._alive[node_id] = False
        self._changed()
        self._note(now_ms)

    def set_rank(self, node_id: NodeId, rank: int) -> None:
        if node_id in self._alive:
            self._ranks[node_id] = rank
            self._changed()

    def _changed(self) -> None:
        """Forget what was read off the members and their roles."""
        self._present = self._others = self._before_mine = None
        self._staying = self._electors = None

    def _make_room(self) -> bool:
        if len(self._alive) < HEARD_MAX:
            return True
        dead = next((node for node, alive in self._alive.items() if not alive), None)
        if dead is None:
            return False
        del self._alive[dead]
        self._ranks.pop(dead, None)
        return True

    # --- the stable view ---

    def _note(self, now_ms: int) -> None:
        present = self.present()
        if present == self._pending:
            return
        if self._pending == self.members:
            self._unstable_since_ms = now_ms
        self._pending = present
        self._pending_since_ms = now_ms

    def next_deadline_ms(self) -> int | None:
        """When the view has to be written next; None: it stands, or a write is under way."""
        if self._writing is not None or not self._is_disk_well:
            return None
        if not self._is_told or self._without_left() != self.members:
            return self._pending_since_ms
        if self._pending == self.members:
            return None
        gone = tuple(node for node in self.electors() if node not in self._pending)
        if is_world_lost(self._node_id, self.electors(), gone):
            return self._pending_since_ms + self._config.view_lost_ms
        return min(
            self._pending_since_ms + self._config.view_stable_ms,
            self._unstable_since_ms + self._config.view_unstable_ms_max,
        )

    def pass_deadline(self, now_ms: int, token: int) -> list[Output]:
        """Write what has become stable. `token` is used if a write is asked for."""
        deadline_ms = self.next_deadline_ms()
        if deadline_ms is None or now_ms < deadline_ms:
            return []
        if not self._is_told and self._is_recovered:
            self._is_told = True
            return self._tell(now_ms)
        wanted = self._pending
        if not self._is_told:
            wanted = self.members
        elif self._without_left() != self.members:
            wanted = self._without_left()
        self._writing = (token, wanted)
        return [Persist(puts=(ViewRecord(wanted),), token=token)]

    def persisted(self, token: int, now_ms: int) -> list[Output] | None:
        """The view is durable; None: not this write."""
        if self._writing is None or self._writing[0] != token:
            return None
        self.members = self._writing[1]
        self.hash = _hash(self.members)
        self._changed()
        self._writing = None
        self._is_told = True
        self._unstable_since_ms = now_ms
        return self._tell(now_ms)

    def recount(self, now_ms: int) -> list[Output]:
        """Somebody's role is another one."""
        self._changed()
        return self._tell(now_ms) if self._is_told else []

    def _tell(self, now_ms: int) -> list[Output]:
        """A worker more or less is no other view."""
        if self.electors() == self._told:
            return []
        self._told = self.electors()
        self.changed_ms = now_ms
        return [ViewChanged(self._told)]

    def set_disk(self, *, well: bool) -> None:
        """A failed write is asked for again when the disk is well."""
        self._is_disk_well = well
        if not well:
            self._writing = None

    def _without_left(self) -> tuple[NodeId, ...]:
        if self._staying is None:
            self._staying = tuple(node for node in self.members if node not in self._left)
        return self._staying

    # --- bits ---

    def bits(self, heard: Sequence[NodeId]) -> bytes:
        """A bit per position in the stable membership: set for the members heard."""
        positions = {node: index for index, node in enumerate(self.members)}
        packed = bytearray((len(self.members) + 7) // 8)
        for node in heard:
            index = positions.get(node)
            if index is not None:
                packed[index // 8] |= 1 << (index % 8)
        return bytes(packed)

    def is_listed(self, bits: bytes) -> bool:
        """Whether these bits, of a heartbeat under the same view, name this node."""
        index = self.members.index(self._node_id)
        return index // 8 < len(bits) and bool(bits[index // 8] >> (index % 8) & 1)

    def index(self) -> int:
        return self.members.index(self._node_id)

    def check(self) -> None:
        assert self._node_id in self.members, "V1: a view without its owner"
        assert list(self.members) == sorted(set(self.members)), "V1: a view out of order"
        assert len(self._alive) <= HEARD_MAX, "V2: too many members known"
        kept = self.present(), self.others(dead=False), self._without_left()
        before, electors = self.position_without(None), self.electors()
        self._changed()
        assert kept == (self.present(), self.others(dead=False), self._without_left()), "V3: stale"
        assert before == self.position_without(None), "V3: a stale place by rank"
        assert electors == self.electors(), "V3: stale roles"


def _hash(members: tuple[NodeId, ...]) -> bytes:
    return hashlib.blake2b("\n".join(members).encode(), digest_size=HASH_BYTES).digest()
