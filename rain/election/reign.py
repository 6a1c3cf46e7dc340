"""One reign, seen by its coordinator: beats out, acknowledgements in, and what they prove.

Three instants are kept of each member. Heard: it sent anything at all; makes its bit in the
heartbeats. Acknowledged: it follows; makes the strength. Proven: from when its silence counts;
like heard, but a member that only just appeared, or that had no chance to answer, has the benefit
of the doubt. A winner without a majority gives that to no elector: who did not answer has vanished.

Workers are heard, acknowledge and fall silent like all; they add nothing to the strength.
"""

from collections.abc import Sequence

from rain.effects import Beat, Cast, MemberSilent, Output
from rain.election.brake import Brake
from rain.election.config import ElectionConfig
from rain.election.messages import LOAD_UNFIT, Heartbeat, HeartbeatAck, Strength
from rain.election.view import View
from rain.model import Epoch, NodeId

ACKED_EACH_BEAT_MAX = 8
"""Up to so many members acknowledge every beat; beyond, each every n/8-th, so that the
coordinator verifies about eight acknowledgements per beat however large the pool is."""
CONTESTS_MAX = 3
"""How often a reign lifts its number above a living one's within ten seconds: when two both feel
stronger, the one that has used this up gives way."""
HASTE_MS = 20
"""Two beats are never closer than this."""
RIVALS_MAX = 16
"""Stronger reigns known only through third parties, remembered at once."""


def ack_beats(members: int) -> int:
    """Every how many beats a member of a view of that size acknowledges."""
    return max(1, -(-members // ACKED_EACH_BEAT_MAX))


class Reign:
    """A coordinator's knowledge of its members."""

    def __init__(
        self,
        epoch: Epoch,
        config: ElectionConfig,
        now_ms: int,
        *,
        view: View,
        granted_ms: dict[NodeId, int],
        vanished: Sequence[NodeId],
        handover: bool,
    ) -> None:
        self._config = config
        self.epoch = epoch
        self.first_epoch = epoch
        self.started_ms = now_ms
        self.is_handover = handover
        self.beat_number = 0
        self.next_beat_ms = now_ms
        self.doubt_until_ms: int | None = None
        self.raising: Epoch | None = None
        self.raising_token = 0
        self.brake = Brake(epoch.node_id, config)
        self._raised_ms = now_ms - config.raise_interval_ms
        self._contested_ms: list[int] = []
        self._rivals: dict[NodeId, int] = {}
        self._heard_ms = dict(granted_ms)
        self._acked_ms: dict[NodeId, int] = {}
        self._digests: dict[NodeId, bytes] = {}
        self._loads: dict[NodeId, int] = {}
        self._calm_since_ms: dict[NodeId, int] = {}
        self._reported_ms: dict[NodeId, int] = {}
        self._proven_ms = {
            node: granted_ms.get(node, now_ms) for node in view.everybody() if node != epoch.node_id
        }
        for node in vanished:
            self._proven_ms[node] = now_ms - config.vanish_ms

    # --- evidence ---

    def hear(self, node_id: NodeId, now_ms: int) -> None:
        """Any message of the election: it lives and reaches this node."""
        if node_id in self._proven_ms:
            self._heard_ms[node_id] = now_ms
            self._proven_ms[node_id] = now_ms

    def acknowledge(self, sender: NodeId, ack: HeartbeatAck, now_ms: int) -> bool:
        """It follows this reign; False: it speaks of another one."""
        if not self.first_epoch <= ack.epoch <= self.epoch or sender not in self._proven_ms:
            return False
        self._acked_ms[sender] = now_ms
        self._digests[sender] = ack.digest
        self._loads[sender] = ack.load
        if ack.load > self._config.lag_doubt_ms:
            self._calm_since_ms.pop(sender, None)
        else:
            self._calm_since_ms.setdefault(sender, now_ms)
        return True

    def expect(self, node_id: NodeId, now_ms: int) -> None:
        """It is here (again): its silence counts from now, and it hears a beat at once."""
        self._proven_ms[node_id] = now_ms
        self._reported_ms.pop(node_id, None)
        self.hasten(now_ms)

    def forget(self, node_id: NodeId) -> None:
        """It left."""
        for known in (self._proven_ms, self._heard_ms, self._acked_ms, self._reported_ms):
            known.pop(node_id, None)
        for told in (self._loads, self._calm_since_ms):
            told.pop(node_id, None)
        self._digests.pop(node_id, None)

    def _window_ms(self, members: int) -> int:
        """An acknowledgement is due that often; five may be lost."""
        interval_ms = ack_beats(members) * self._config.heartbeat_interval_ms
        return max(self._config.heard_ms, 5 * interval_ms)

    def _patience_ms(self, members: int) -> int:
        interval_ms = ack_beats(members) * self._config.heartbeat_interval_ms
        return max(self._config.vanish_ms, 3 * interval_ms)

    def followers(self, view: View, now_ms: int) -> tuple[NodeId, ...]:
        """Electors that acknowledged lately, sorted."""
        window_ms = self._window_ms(len(view.members))
        lately = [node for node, acked in self._acked_ms.items() if now_ms - acked < window_ms]
        return view.electors_among(sorted(lately))

    def strength(self, view: View, now_ms: int) -> Strength:
        """Of no age while it doubts itself."""
        age_ms = now_ms - self.started_ms if self.doubt_until_ms is None else 0
        return Strength(len(self.followers(view, now_ms)), age_ms)

    def vanished(self, view: View, now_ms: int) -> tuple[NodeId, ...]:
        """Members, workers too, unheard for too long."""
        patience_ms = self._patience_ms(len(view.members))
        return tuple(
            node
            for node in view.members
            if node != self.epoch.node_id
            and now_ms - self._proven_ms.get(node, self.started_ms) >= patience_ms
        )

    def _silent(self, view: View, now_ms: int) -> list[Output]:
        """Members that should acknowledge and do not; named again at the same interval."""
        patience_ms = self._patience_ms(len(view.members))
        found: list[Output] = []
        for node in view.others(dead=False):
            proven_ms = max(
                self._proven_ms.get(node, self.started_ms), self._reported_ms.get(node, -(10**12))
            )
            if now_ms - proven_ms >= patience_ms:
                self._reported_ms[node] = now_ms
                found.append(MemberSilent(node))
        return found

    def successors(self, view: View, digest: bytes, now_ms: int) -> tuple[NodeId, ...]:
        """Followers that could take over: none that is unfit, those last that lag, those first
        whose table is equal, then by rank."""
        lag_ms = self._config.lag_doubt_ms
        return tuple(
            sorted(
                (
                    node
                    for node in self.followers(view, now_ms)
                    if view.is_present(node) and self._loads.get(node, 0) < LOAD_UNFIT
                ),
                key=lambda node: (
                    self._loads.get(node, 0) > lag_ms,
                    self._digests.get(node) != digest,
                    view.rank_of(node),
                ),
            )
        )

    def is_calm(self, node_id: NodeId, now_ms: int) -> bool:
        """Whether it has not lagged for as long as a lame coordinator must have."""
        since_ms = self._calm_since_ms.get(node_id)
        return since_ms is not None and now_ms - since_ms >= self._config.lame_ms

    def has_equal_table(self, node_id: NodeId, digest: bytes) -> bool:
        return self._digests.get(node_id) == digest

    # --- beats ---

    def hasten(self, now_ms: int) -> None:
        """Beat soon: somebody waits for it. A crowd that arrives at once waits for one beat."""
        last_ms = self.next_beat_ms - self._config.heartbeat_interval_ms
        self.next_beat_ms = min(self.next_beat_ms, max(now_ms, last_ms + HASTE_MS))

    def beat(self, view: View, digest: bytes, load: int, now_ms: int) -> list[Output]:
        """One heartbeat to everybody, and what a beat's worth of silence has shown."""
        self.beat_number += 1
        self.next_beat_ms = now_ms + self._config.heartbeat_interval_ms
        window_ms = self._window_ms(len(view.members))
        heard = [node for node, heard in self._heard_ms.items() if now_ms - heard < window_ms]
        to = view.others(dead=False)
        if self.beat_number % self._config.dead_interval_beats == 1:
            to = tuple(sorted(to + view.others(dead=True)))
        heartbeat = Heartbeat(
            epoch=self.epoch,
            beat=self.beat_number,
            strength=self.strength(view, now_ms),
            digest=digest,
            view=view.hash,
            heard=view.bits([*heard, self.epoch.node_id]),
            handover=self.is_handover and now_ms - self.started_ms < self._config.heard_ms,
            load=load,
        )
        outputs: list[Output] = []
        if self.doubt_until_ms is None:
            outputs.append(Beat(self.epoch, self.beat_number))
        if to:
            outputs.append(Cast(to, heartbeat))
        outputs += self._silent(view, now_ms)
        return outputs + self.brake.feel(view.electors(), self.vanished(view, now_ms), now_ms)

    # --- rivals and raising ---

    def may_raise(self, now_ms: int, *, contest: bool) -> bool:
        """Whether the number may be lifted now. A contest is with a reign that lives and may lift
        its own in turn: few in a row. For epochs that are only remembered: twice a second."""
        if not contest:
            return now_ms - self._raised_ms >= self._config.raise_interval_ms
        window_ms = self._config.contest_window_ms
        self._contested_ms = [at for at in self._contested_ms if now_ms - at < window_ms]
        return len(self._contested_ms) < CONTESTS_MAX

    def start_raise(self, epoch: Epoch, token: int, now_ms: int, *, contest: bool) -> None:
        self._raised_ms = now_ms
        if contest:
            self._contested_ms.append(now_ms)
        self.raising = epoch
        self.raising_token = token

    def finish_raise(self, now_ms: int) -> None:
        """The higher number is durable: the same reign goes on under it."""
        assert self.raising is not None, "K2: nothing to raise to"
        self.epoch = self.raising
        self.raising = None
        self.hasten(now_ms)

    def is_rival_proven(self, rival: NodeId, now_ms: int) -> bool:
        """Third parties have named this stronger reign for a while, so it lives: a dead one's
        ghost is gone sooner, because only who hears it freshly names it."""
        meeting_ms = self._config.meeting_ms
        self._rivals = {
            node: since for node, since in self._rivals.items() if now_ms - since < 5 * meeting_ms
        }
        since_ms = self._rivals.get(rival)
        if since_ms is None:
            if len(self._rivals) < RIVALS_MAX:
                self._rivals[rival] = now_ms
            return False
        return now_ms - since_ms >= meeting_ms

    def check(self) -> None:
        assert self.first_epoch <= self.epoch, "K1: a reign's epoch fell"
        assert self.raising is None or self.raising > self.epoch, "K2: raised to a lower epoch"
        assert self.epoch.node_id == self.first_epoch.node_id, "K3: another's reign"
        assert len(self._contested_ms) <= CONTESTS_MAX, "K4: a contest without end"
