"""Anti-entropy: who holds something else, whom to ask, and whom to answer.

Every node tells a random member its digest every 10 s, every newcomer at once, and all when its
pool keys move. A digest that differs for 300 ms is worth a RollHave (the marks of all that is
held); the answer is what is missing, and a RollHave in return if the asker has something.

An admin that has removed another one tells so, as often as its digest, one of those who never say
theirs: on the other's side of a partition they may have barred it meanwhile, and would neither ask
nor answer.

From who has told what cannot be proven nothing is taken for a second, and for twice as long each
time, up to a minute.

A node that meets a pool key it lacks, or has none at all, asks the members it knows from the roll,
one after the other, SEEK_TRIES_MAX of them: packets cannot be read then, streams can.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rain.model import NodeId
from rain.trust.config import TrustConfig
from rain.trust.messages import NODES_MAX, RollDigest

SEEK_TRIES_MAX = 16


@dataclass(slots=True)
class Peer:
    """What a member that is up last said."""

    told: RollDigest | None = None
    differs_since_ms: int | None = None

    def has(self, number: int, mark: bytes) -> bool:
        return self.told is not None and (self.told.newest, self.told.mark) == (number, mark)

    def uses(self, number: int) -> bool:
        return self.told is not None and self.told.use == number


@dataclass(slots=True)
class Distrust:
    """Of one sender."""

    until_ms: int
    pause_ms: int


class Exchange:
    """Timers and bounds of asking and answering; what is said is the core's matter."""

    def __init__(self, config: TrustConfig, rng: random.Random, now_ms: int) -> None:
        self._config, self._rng = config, rng
        self.peers: dict[NodeId, Peer] = {}
        self._tell_ms = now_ms + int(rng.random() * config.digest_interval_ms)
        self._asked_ms: int | None = None
        self._answered: dict[NodeId, int] = {}
        self._distrusted: dict[NodeId, Distrust] = {}
        self._seek_ms: int | None = None
        self._sought = 0
        self._seek_not_before_ms = now_ms
        self._seek_pause_ms = config.ask_interval_ms

    def rise(self, node_id: NodeId) -> None:
        self.peers[node_id] = Peer()

    def fall(self, node_id: NodeId) -> None:
        self.peers.pop(node_id, None)

    def hear(self, sender: NodeId, told: RollDigest, own: RollDigest, now_ms: int) -> None:
        """A member says what it holds."""
        peer = self.peers.get(sender)
        if peer is None:
            return
        peer.told = told
        if _is_same(told, own):
            peer.differs_since_ms = None
        elif peer.differs_since_ms is None:
            peer.differs_since_ms = now_ms

    def compare(self, own: RollDigest) -> None:
        """This node changed: whoever said what it holds now differs no more."""
        for peer in self.peers.values():
            if peer.told is not None and _is_same(peer.told, own):
                peer.differs_since_ms = None

    def whom_to_tell(
        self,
        others: Callable[[], Sequence[NodeId]],
        estranged: Callable[[], Sequence[NodeId]],
        now_ms: int,
    ) -> tuple[NodeId | None, NodeId | None]:
        """The member, drawn from the others, whose turn it is to hear the digest; and the one,
        drawn from those who may have barred this node, that is told why they should not."""
        if now_ms < self._tell_ms:
            return None, None
        interval_ms = self._config.digest_interval_ms
        self._tell_ms = now_ms + interval_ms * 9 // 10 + int(self._rng.random() * interval_ms / 5)
        there, apart = others(), estranged()
        return (
            self._rng.choice(there) if there else None,
            self._rng.choice(apart) if apart else None,
        )

    def is_silent(self, node_id: NodeId) -> bool:
        """It is not up, or never says what it holds."""
        peer = self.peers.get(node_id)
        return peer is None or peer.told is None

    def whom_to_ask(self, now_ms: int) -> NodeId | None:
        """A member that has differed for long enough."""
        due_ms = self._ask_due_ms()
        if due_ms is None or now_ms < due_ms:
            return None
        ripe_ms = now_ms - self._config.settle_ms
        ripe = [
            node_id
            for node_id, peer in sorted(self.peers.items())
            if peer.differs_since_ms is not None and peer.differs_since_ms <= ripe_ms
        ]
        chosen = self._rng.choice(ripe)
        self.peers[chosen].differs_since_ms = None
        self._asked_ms = now_ms
        return chosen

    def may_answer(self, node_id: NodeId, now_ms: int) -> bool:
        """An answer may be large: not more often than so."""
        last_ms = self._answered.pop(node_id, None)
        if last_ms is not None and now_ms - last_ms < self._config.answer_interval_ms:
            self._answered[node_id] = last_ms
            return False
        self._answered[node_id] = now_ms
        if len(self._answered) > NODES_MAX:
            del self._answered[next(iter(self._answered))]
        return True

    def distrust(self, node_id: NodeId, now_ms: int) -> None:
        """It has told what cannot be proven."""
        config, before = self._config, self._distrusted.pop(node_id, None)
        pause_ms = config.distrust_ms
        if before is not None and now_ms < before.until_ms + config.distrust_max_ms:
            pause_ms = min(2 * before.pause_ms, config.distrust_max_ms)
        self._distrusted[node_id] = Distrust(now_ms + pause_ms, pause_ms)
        if len(self._distrusted) > NODES_MAX:
            del self._distrusted[next(iter(self._distrusted))]

    def is_distrusted(self, node_id: NodeId, now_ms: int) -> bool:
        found = self._distrusted.get(node_id)
        return found is not None and now_ms < found.until_ms

    # --- A key that is missing -------------------------------------------------------------------

    def seek(self, now_ms: int) -> None:
        """Begin to ask around, unless that is under way or was in vain just now."""
        if self._seek_ms is None:
            self._seek_ms = max(now_ms, self._seek_not_before_ms)
            self._sought = 0

    def end_seek(self, now_ms: int) -> None:
        """What was sought is found."""
        self._seek_ms = None
        self._seek_pause_ms = self._config.ask_interval_ms
        self._seek_not_before_ms = min(self._seek_not_before_ms, now_ms + self._seek_pause_ms)

    def whom_to_seek_from(
        self, candidates: Callable[[], Sequence[NodeId]], now_ms: int
    ) -> NodeId | None:
        """The next one; those that are up come first. After a round in vain there is a pause,
        twice as long each time: a stranger's packets may look like such a key too."""
        if self._seek_ms is None or now_ms < self._seek_ms:
            return None
        known = sorted(candidates(), key=lambda node_id: (node_id not in self.peers, node_id))
        if self._sought >= min(len(known), SEEK_TRIES_MAX):
            self._seek_ms = None
            self._seek_not_before_ms = now_ms + self._seek_pause_ms
            self._seek_pause_ms = min(2 * self._seek_pause_ms, self._config.seek_pause_max_ms)
            return None
        chosen = known[self._sought]
        self._sought += 1
        self._seek_ms = self._seek_not_before_ms = now_ms + self._config.ask_interval_ms
        self._asked_ms = now_ms
        return chosen

    # --- Time ------------------------------------------------------------------------------------

    def next_deadline_ms(self) -> int:
        due_ms = [self._tell_ms]
        for at_ms in (self._ask_due_ms(), self._seek_ms):
            if at_ms is not None:
                due_ms.append(at_ms)
        return min(due_ms)

    def _ask_due_ms(self) -> int | None:
        since = [p.differs_since_ms for p in self.peers.values() if p.differs_since_ms is not None]
        if not since:
            return None
        due_ms = min(since) + self._config.settle_ms
        if self._asked_ms is None:
            return due_ms
        return max(due_ms, self._asked_ms + self._config.ask_interval_ms)

    def check(self) -> None:
        assert len(self.peers) <= NODES_MAX, "T6: peers bounded"
        assert len(self._answered) <= NODES_MAX, "T6: answered bounded"
        assert len(self._distrusted) <= NODES_MAX, "T6: distrusted bounded"


def _is_same(told: RollDigest, own: RollDigest) -> bool:
    """The number in use follows from the rest."""
    return (told.digest, told.newest, told.mark) == (own.digest, own.newest, own.mark)
