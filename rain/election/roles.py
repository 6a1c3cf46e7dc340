"""The state of one node in the election, and the ways from role to role.

core.py decides which way to go; here is what going there means. Each transition changes first and
returns what is to be told.
"""

import random
from collections.abc import Sequence

from rain.effects import (
    Beat,
    Cast,
    HandedOver,
    Log,
    MaySleep,
    Output,
    Persist,
    Record,
    ReignChanged,
    Send,
)
from rain.election.campaign import Campaign
from rain.election.config import ElectionConfig
from rain.election.electors import Electors
from rain.election.epochs import Epochs
from rain.election.handover import Parting
from rain.election.lateness import Lateness
from rain.election.messages import (
    LOAD_UNFIT,
    AskHeard,
    Heartbeat,
    HeartbeatAck,
    Stale,
    Strength,
)
from rain.election.records import BehindRecord
from rain.election.reign import Reign
from rain.election.silence import Hearing
from rain.election.strength import NO_STRENGTH, is_stronger
from rain.election.view import View
from rain.model import Epoch, Identity, NodeId

HELPERS_MAX = 3
TOLD_MAX = 64
"""Members told of another reign within the last moment; more wait for the next."""
PATIENCE_DOUBLINGS_MAX = 4
LONE_PATIENCE_MS = 60_000
"""For the write of a candidate that unseats nobody, because nobody else is known."""


class Roles:
    """Follower, candidate, coordinator, or resigning."""

    def __init__(
        self,
        identity: Identity,
        rank: int,
        config: ElectionConfig,
        rng: random.Random,
        now_ms: int,
        recovered: Sequence[Record] = (),
    ) -> None:
        self._me = identity.node_id
        self._rank = rank
        self._config = config
        self._rng = rng
        self._epochs = Epochs(identity.node_id, recovered)
        self._electors = Electors()
        self._view = View(identity.node_id, rank, self._electors, config, now_ms, recovered)
        self._hearing: Hearing | None = None
        self._followed: Epoch | None = None
        self._adopting: tuple[Epoch, int] | None = None
        self._campaign: Campaign | None = None
        self._reign: Reign | None = None
        self._parting: Parting | None = None
        self._granted: tuple[NodeId, int] | None = None
        self._digest = b""
        self._disk_failed_ms: int | None = None
        self._is_stopping = False
        self._is_barred = False
        self._lateness = Lateness(config)
        self._dozing_until_ms: int | None = None
        self._sleep_waits = False
        self._is_behind = any(isinstance(record, BehindRecord) for record in recovered)
        self._heard_load_ms = 0
        self._quiet_until_ms = now_ms + config.start_quiet_ms
        self._hold_until_ms = now_ms
        self._slow_writes = 0
        self._last_token = 0
        self._told_ms: dict[NodeId, int] = {}
        self._resigned: Epoch | None = None  # the last whose coordinator said that it ends
        self.campaigns = 0
        """How often this node stood."""
        self.reigns = 0
        """How often it became coordinator."""
        self.dropped: dict[str, int] = {}
        """Peers' messages that were not believed, by reason."""

    # --- views for the agent ---

    def reign(self) -> Epoch | None:
        """The reign this node follows, or its own."""
        return self._followed

    def role(self) -> str:
        if self._reign is not None:
            return "coordinator"
        if self._parting is not None:
            return "resigning"
        return "candidate" if self._campaign is not None else "follower"

    def is_braked(self) -> bool:
        return self._reign is not None and self._reign.brake.is_braked()

    def view(self) -> tuple[NodeId, ...]:
        """The electors of the last stable, persisted membership, sorted."""
        return self._view.electors()

    def load_ms(self, now_ms: int) -> int:
        """This node's own worst lateness within the last second."""
        return self._lateness.worst_ms(now_ms)

    def coordinator_load_ms(self, now_ms: int) -> int | None:
        """The coordinator's, by its last heartbeat; None: nobody is followed."""
        if self._followed is None:
            return None
        return self.load_ms(now_ms) if self._reign is not None else self._heard_load_ms

    def is_behind(self) -> bool:
        """Whether this disk is older than what the pool has seen of this node (E14)."""
        return self._is_behind

    # --- deadlines ---

    def next_deadline_ms(self) -> int | None:
        """When this core next wants DeadlinePassed."""
        if self._is_barred:
            return None
        soonest_ms = self._view.next_deadline_ms()
        own_ms: tuple[int | None, ...]
        if self._reign is not None:
            own_ms = (self._reign.next_beat_ms,)
        elif self._parting is not None:
            own_ms = (self._parting.next_deadline_ms(),)
        elif self._campaign is not None:
            own_ms = (self._campaign.next_deadline_ms(),)
        else:
            own_ms = (self._ask_at_ms(), self._stand_at_ms())
        if self._hearing is not None and self._followed is not None:
            own_ms += (self._hearing.silent_at_ms(),)
        for at_ms in own_ms:
            if at_ms is not None and (soonest_ms is None or at_ms < soonest_ms):
                soonest_ms = at_ms
        return soonest_ms

    def _ask_at_ms(self) -> int | None:
        hearing = self._hearing
        if hearing is None or self._followed is None:
            return None
        return hearing.ask_at_ms()

    def _stand_at_ms(self) -> int | None:
        """When this follower stands; None: it may not."""
        if self._is_stopping or self._disk_failed_ms is not None:
            return None
        if not self._electors.is_elector(self._me):
            return None
        start_ms = max(self._quiet_until_ms, self._hold_until_ms)
        silent: NodeId | None = None
        if self._hearing is not None:
            silent = self._hearing.epoch.node_id
            start_ms = max(start_ms, self._hearing.silent_at_ms())
        if self._dozing_until_ms is not None:
            start_ms = max(start_ms, self._dozing_until_ms)
        if self._is_behind:
            start_ms += self._config.behind_ms
        return start_ms + self._view.position_without(silent) * self._config.rank_step_ms

    def _hold(self, until_ms: int) -> None:
        self._hold_until_ms = max(self._hold_until_ms, until_ms)

    def _token(self) -> int:
        self._last_token += 1
        return self._last_token

    def _drop(self, reason: str) -> list[Output]:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        return []

    # --- follower ---

    def _acknowledgement(self, heartbeat: Heartbeat, now_ms: int) -> HeartbeatAck:
        is_unfit = self._is_behind or self._is_dozing(now_ms) or self._disk_failed_ms is not None
        load = LOAD_UNFIT if is_unfit else self.load_ms(now_ms)
        return HeartbeatAck(heartbeat.epoch, heartbeat.beat, self._digest, self._view.hash, load)

    def _compare(self, heartbeat: Heartbeat) -> list[Output]:
        """A table like the coordinator's is a whole one (E14)."""
        self._heard_load_ms = heartbeat.load
        if self._followed != heartbeat.epoch or heartbeat.digest != self._digest:
            return []
        return self._know_best()

    def _is_dozing(self, now_ms: int) -> bool:
        return self._dozing_until_ms is not None and now_ms < self._dozing_until_ms

    def _follow(self, epoch: Epoch) -> list[Output]:
        """Tell of this reign as soon as it is durable; rule 4."""
        if self._followed == epoch:
            return []
        if self._epochs.durable >= epoch:
            self._adopting = None
            self._followed = epoch
            self._epochs.mark_followed(epoch)
            return [ReignChanged(epoch)]
        is_under_way = self._adopting is not None and self._adopting[0] == epoch
        if is_under_way or self._disk_failed_ms is not None:
            return []
        token = self._token()
        self._adopting = (epoch, token)
        return [Persist(puts=(self._epochs.record(epoch),), token=token)]

    def _adopted(self) -> list[Output]:
        """The followed epoch is durable: tell of it, if that reign is still heard."""
        assert self._adopting is not None
        epoch = self._adopting[0]
        self._adopting = None
        self._epochs.mark_durable(epoch)
        if self._hearing is None or self._hearing.epoch != epoch or self._campaign is not None:
            return []
        return self._follow(epoch)

    def _lose(self) -> list[Output]:
        """The followed reign has fallen silent."""
        if self._followed is None:
            return []
        self._followed = None
        return [ReignChanged(None)]

    def _ask(self, hearing: Hearing, now_ms: int) -> list[Output]:
        """Ask the coordinator itself and three others, so that one bad link unseats nobody."""
        coordinator = hearing.epoch.node_id
        drawn = sorted(
            (self._rng.random(), node)
            for node in self._view.electors_among(self._view.others(dead=False))
            if node != coordinator
        )
        helpers = tuple(node for _, node in drawn[:HELPERS_MAX])
        question = hearing.ask(now_ms)
        return [Cast((coordinator, *helpers), AskHeard(hearing.epoch, question))]

    def _tell(self, to: NodeId, stale: Stale | HeartbeatAck, now_ms: int) -> list[Output]:
        """Name another reign to a node, a few times a second at most."""
        interval_ms = self._config.tell_interval_ms
        self._told_ms = {
            node: at for node, at in self._told_ms.items() if now_ms - at < interval_ms
        }
        if to in self._told_ms or len(self._told_ms) >= TOLD_MAX:
            return []
        self._told_ms[to] = now_ms
        return [Send(to, stale)]

    def _tell_both(
        self, hearing: Hearing, sender: NodeId, heartbeat: Heartbeat, now_ms: int
    ) -> list[Output]:
        """Name the stronger to the weaker, the weaker to the stronger; only on fresh evidence.
        A worker's word would not count."""
        if not self._electors.is_elector(self._me) or not hearing.is_fresh(now_ms):
            return []
        coordinator = hearing.epoch.node_id
        stronger = Stale(hearing.epoch, hearing.strength, coordinator)
        weaker = Stale(heartbeat.epoch, heartbeat.strength, sender)
        return self._tell(sender, stronger, now_ms) + self._tell(coordinator, weaker, now_ms)

    def _tell_floor(self, to: NodeId, now_ms: int) -> list[Output]:
        """Ask a reign to raise its number above what this node has followed; rule 4."""
        floor = self._epochs.floor
        if not self._electors.is_elector(self._me):
            # Somebody must say so, and a worker may only acknowledge: that it follows another one.
            return self._tell(to, HeartbeatAck(floor, 0, self._digest, self._view.hash), now_ms)
        return self._tell(to, Stale(floor, NO_STRENGTH, floor.node_id), now_ms)

    # --- candidate ---

    def _stand(self, now_ms: int, *, handover: bool) -> list[Output]:
        """Challenge every member; rule 2."""
        outputs = self._lose()
        self.campaigns += 1
        campaign = Campaign(
            self._rng.getrandbits(48),
            self._me,
            self._view.electorate(),
            self._config,
            now_ms,
            handover=handover,
        )
        self._campaign = campaign
        outputs += self._challenge(campaign, now_ms)
        if campaign.has_majority():
            outputs += self._win(campaign, now_ms)
        return outputs

    def _challenge(self, campaign: Campaign, now_ms: int) -> list[Output]:
        silence_ms = now_ms - self._hearing.heard_ms if self._hearing is not None else 0
        voters, challenge = campaign.challenge(self._epochs.newest, silence_ms, now_ms)
        return [Cast(voters, challenge)] if voters else []

    def _win(self, campaign: Campaign, now_ms: int) -> list[Output]:
        """Make the new epoch durable; rule 3. The announcement waits for that."""
        patience_ms = self._config.persist_ms_max << self._slow_writes
        if len(campaign.electorate) == 1:
            patience_ms = LONE_PATIENCE_MS
        epoch = self._epochs.draw(self._rng, is_behind=self._is_behind)
        token = self._token()
        campaign.start_claim(epoch, token, now_ms, patience_ms)
        return [Persist(puts=(self._epochs.record(epoch),), token=token)]

    def _give_up(self, reason: str, hold_ms: int, now_ms: int) -> list[Output]:
        """Defeat. The pause is drawn, so that two candidates do not meet again and again."""
        self._campaign = None
        self._hold(now_ms + hold_ms + int(self._rng.random() * self._config.grant_hold_ms))
        return [Log("campaign_lost", (("reason", reason),))]

    def _give_up_slow(self, now_ms: int) -> list[Output]:
        self._slow_writes = min(PATIENCE_DOUBLINGS_MAX, self._slow_writes + 1)
        return self._give_up("slow disk", self._config.slow_disk_hold_ms, now_ms)

    # --- coordinator ---

    def _become_coordinator(self, campaign: Campaign, now_ms: int) -> list[Output]:
        """The claimed epoch is durable and nothing newer appeared: announce it."""
        epoch = campaign.claim
        assert epoch is not None, "C3: victory without a claim"
        self._epochs.mark_durable(epoch)
        self._epochs.mark_followed(epoch)
        self._reign = Reign(
            epoch,
            self._config,
            now_ms,
            view=self._view,
            granted_ms=campaign.granted_ms,
            vanished=() if campaign.has_majority() else campaign.unanswered(),
            handover=campaign.is_handover,
        )
        self._campaign = None
        self._hearing = None
        self._adopting = None
        self._followed = epoch
        self._slow_writes = 0
        self.reigns += 1
        outputs: list[Output] = [
            Log("reign_began", (("number", epoch.number), ("grants", len(campaign.granted_ms)))),
            ReignChanged(epoch, mine=True, takeover=True),
        ]
        return outputs + self._know_best() + self._beat(self._reign, now_ms)

    def _beat(self, reign: Reign, now_ms: int) -> list[Output]:
        return reign.beat(self._view, self._digest, self.load_ms(now_ms), now_ms)

    def _know_best(self) -> list[Output]:
        """Nobody had more to tell, or this table has become as whole as the coordinator's."""
        if not self._is_behind:
            return []
        self._is_behind = False
        return [Persist(deletes=(BehindRecord().key(),)), Log("disk_caught_up")]

    def _raise(self, reign: Reign, now_ms: int, *, contest: bool) -> list[Output]:
        """Lift the number above every one seen; rule 5."""
        if reign.raising is not None or self._disk_failed_ms is not None:
            return []
        if not reign.may_raise(now_ms, contest=contest):
            return []
        epoch = self._epochs.draw(self._rng)
        token = self._token()
        reign.start_raise(epoch, token, now_ms, contest=contest)
        return [Persist(puts=(self._epochs.record(epoch),), token=token)]

    def _sees(self, epoch: Epoch, now_ms: int) -> bool:
        """Whether it is believed, and remembered, that there is this epoch."""
        return self._epochs.see(epoch, now_ms, is_settled=self._followed is not None)

    def _outnumber(self, epoch: Epoch, now_ms: int) -> list[Output]:
        """The job table remembers a later reign, whose decisions would stand for ever otherwise;
        or a worker does, which would follow no other."""
        if not self._sees(epoch, now_ms):
            return self._drop("epoch_out_of_range")
        if self._reign is None or epoch < self._reign.epoch:
            return []
        return self._raise(self._reign, now_ms, contest=False)

    def _raised(self, reign: Reign, now_ms: int) -> list[Output]:
        reign.finish_raise(now_ms)
        self._epochs.mark_durable(reign.epoch)
        self._epochs.mark_followed(reign.epoch)
        if reign.doubt_until_ms is not None:
            return []
        self._followed = reign.epoch
        return [ReignChanged(reign.epoch, mine=True)]

    def _meet(
        self,
        reign: Reign,
        sender: NodeId,
        rival: NodeId,
        epoch: Epoch,
        strength: Strength,
        now_ms: int,
        *,
        hears_me: bool,
    ) -> list[Output]:
        """Another reign exists, says the rival itself or somebody else; rule 5.

        Age alone is no strength of a rival that may be deaf (E2): it first has to show that it
        hears this node, by listing it or by an answer to what it is told here.
        """
        mine = self._strength(reign, now_ms)
        is_first_hand = sender == rival and strength != NO_STRENGTH
        tolerance_ms = self._config.age_tolerance_ms
        if rival != self._me and not is_stronger(mine, self._me, strength, rival, tolerance_ms):
            is_sure = is_first_hand and (hears_me or strength.followers > mine.followers)
            if is_sure or reign.is_rival_proven(rival, now_ms):
                return self._step_down(reign, "weaker", now_ms)
            stale = Stale(reign.epoch, mine, self._me)
            return self._tell(sender, stale, now_ms) if is_first_hand else []
        outputs: list[Output] = []
        if is_first_hand:
            outputs += self._tell(sender, Stale(reign.epoch, mine, self._me), now_ms)
        if epoch <= reign.epoch:
            return outputs
        if is_first_hand and not reign.may_raise(now_ms, contest=True):
            return self._step_down(reign, "cannot settle", now_ms)
        return outputs + self._raise(reign, now_ms, contest=is_first_hand)

    def _doubt(self, reign: Reign, now_ms: int) -> list[Output]:
        """The own clock had a gap: others may have chosen again meanwhile; rule 6."""
        reign.doubt_until_ms = now_ms + self._config.doubt_ms
        reign.hasten(now_ms)
        return self._lose()

    def _resume(self, reign: Reign) -> list[Output]:
        """Confirmed, or denied by nobody. What was missed is a reason for a new inventory."""
        reign.doubt_until_ms = None
        self._followed = reign.epoch
        # Under a number that was lifted meanwhile none of its heartbeats is known to the orders.
        beat = Beat(reign.epoch, reign.beat_number)
        return [beat, ReignChanged(reign.epoch, mine=True, takeover=True)]

    def _step_down(self, reign: Reign, reason: str, now_ms: int) -> list[Output]:
        """Give way to a stronger reign; it has half a second to be heard."""
        self._reign = None
        self._followed = None
        self._hold(now_ms + self._config.silence_ms)
        outputs: list[Output] = [
            Log("reign_ended", (("number", reign.epoch.number), ("reason", reason))),
            ReignChanged(None),
        ]
        return outputs + reign.brake.release()

    def _resign(self, reign: Reign, successor: NodeId, reason: str, now_ms: int) -> list[Output]:
        """Hand over to `successor`: the reign ends here, said a few times."""
        outputs = self._step_down(reign, reason, now_ms)
        self._parting = Parting(reign.epoch, successor, self._config, now_ms)
        return outputs + self._parting.say(self._view, now_ms)

    def _part(self) -> list[Output]:
        """The successor is heard, or did not come."""
        if self._parting is None:
            return []
        self._parting = None
        outputs: list[Output] = [HandedOver()] if self._is_stopping else []
        if self._sleep_waits:
            self._sleep_waits = False
            outputs.append(MaySleep())
        return outputs

    def _strength(self, reign: Reign, now_ms: int) -> Strength:
        return reign.strength(self._view, now_ms)

    def check(self) -> None:
        """Assert every invariant of the election."""
        self._epochs.check()
        self._view.check()
        roles = (self._reign, self._campaign, self._parting)
        assert sum(role is not None for role in roles) <= 1, "R3: two roles at once"
        stands_or_reigns = self._campaign is not None or self._reign is not None
        is_elector = self._electors.is_elector(self._me)
        assert is_elector or not stands_or_reigns, "R5: a worker stands or reigns"
        if self._followed is not None:
            assert self._followed <= self._epochs.durable, "R1: told before it was durable"
        if self._campaign is not None:
            self._campaign.check()
            assert self._disk_failed_ms is None, "R4: a candidate that cannot write"
            assert not self._is_stopping, "R4: a candidate that is about to stop"
        if self._reign is not None:
            self._reign.check()
            assert self._reign.epoch == self._epochs.floor, "R2: an epoch below one's own floor"
            assert self._reign.epoch.node_id == self._me, "R2: another's epoch"
            assert self._hearing is None, "R2: a coordinator that follows"
            in_doubt = self._reign.doubt_until_ms is not None
            assert (self._followed is None) == in_doubt, "R2: a reign half laid down"
