"""A candidacy: whom it asked, who granted, who objected, when it ends, and the epoch it claims.

The deadline is set once: a candidate whose deadline moved with every packet would never come to an
end. Answers may be lost, so the challenge is repeated to those that
have not granted; an objection counts only while the heartbeat it speaks of is within the silence.
"""

from rain.election.config import ElectionConfig
from rain.election.messages import Challenge
from rain.model import Epoch, NodeId

CHALLENGES_MAX = 4
"""How often one campaign asks: at 0, 150, 300 and 450 ms; for a handover at 0, 20, 40 and 60."""


class Campaign:
    """From the first challenge until victory, defeat, or somebody else's heartbeat."""

    def __init__(
        self,
        number: int,
        node_id: NodeId,
        electorate: tuple[NodeId, ...],
        config: ElectionConfig,
        now_ms: int,
        *,
        handover: bool,
    ) -> None:
        self.number = number
        self.electorate = electorate
        self.is_handover = handover
        self.started_ms = now_ms
        self._voters = tuple(node for node in electorate if node != node_id)
        self._config = config
        self.length_ms = config.campaign_ms
        self._interval_ms = config.challenge_interval_ms
        if handover:
            self.length_ms = config.campaign_handover_ms
            self._interval_ms = config.challenge_handover_ms
        elif len(electorate) == 2:
            self.length_ms = config.campaign_pair_ms
        self.deadline_ms = now_ms + self.length_ms
        self.granted_ms: dict[NodeId, int] = {}
        self.objections: dict[NodeId, int] = {}
        self._challenges = 0
        self._challenged_ms = now_ms
        self.claim: Epoch | None = None
        self.claim_token = 0
        self.claim_patience_ms = 0
        self._claim_deadline_ms = 0

    def challenge(
        self, newest: Epoch, silence_ms: int, now_ms: int
    ) -> tuple[tuple[NodeId, ...], Challenge]:
        """Whom to challenge now, and with what."""
        self._challenges += 1
        self._challenged_ms = now_ms
        voters = tuple(node for node in self._voters if node not in self.granted_ms)
        return voters, Challenge(self.number, newest, max(0, silence_ms))

    def grant(self, sender: NodeId, now_ms: int) -> None:
        """Only members that were asked count."""
        if sender in self._voters:
            self.granted_ms[sender] = now_ms
            self.objections.pop(sender, None)

    def object(self, sender: NodeId, age_ms: int) -> None:
        if sender in self._voters and sender not in self.granted_ms:
            self.objections[sender] = self._challenged_ms - age_ms

    def strike(self, node_id: NodeId) -> None:
        """Its word counts no more, neither for nor against."""
        self.electorate = tuple(node for node in self.electorate if node != node_id)
        self._voters = tuple(node for node in self._voters if node != node_id)
        self.granted_ms.pop(node_id, None)
        self.objections.pop(node_id, None)

    def has_majority(self) -> bool:
        """More than half of those that count, this node included."""
        return 2 * (len(self.granted_ms) + 1) > len(self.electorate)

    def standing_objection_ms(self, now_ms: int) -> int | None:
        """The newest heartbeat that an objector received, if it is within the silence."""
        newest_ms = max(self.objections.values(), default=None)
        if newest_ms is None or now_ms - newest_ms >= self._config.silence_ms:
            return None
        return newest_ms

    def is_claiming(self) -> bool:
        return self.claim is not None

    def start_claim(self, epoch: Epoch, token: int, now_ms: int, patience_ms: int) -> None:
        """Won; the epoch is on its way to the disk, which has so long."""
        self.claim = epoch
        self.claim_token = token
        self.claim_patience_ms = patience_ms
        self._claim_deadline_ms = now_ms + patience_ms + 1

    def next_deadline_ms(self) -> int:
        if self.claim is not None:
            return self._claim_deadline_ms
        if self._challenges >= CHALLENGES_MAX:
            return self.deadline_ms
        return min(self.deadline_ms, self._challenged_ms + self._interval_ms)

    def unanswered(self) -> tuple[NodeId, ...]:
        return tuple(
            node
            for node in self._voters
            if node not in self.granted_ms and node not in self.objections
        )

    def check(self) -> None:
        assert self.deadline_ms == self.started_ms + self.length_ms, "C1: the deadline moved"
        assert self._challenges <= CHALLENGES_MAX, "C2: too many challenges"
        assert self.claim is None or self.claim_token, "C3: a claim without a write"
