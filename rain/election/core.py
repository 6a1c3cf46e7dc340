"""Who coordinates: a bully election with the flaws of the classic removed.

Roles. *Electors* are members and admins, by their certificates; a worker hears, acknowledges and
follows like all, and that is all. A *follower* hears a reign or waits; a *candidate* has challenged
all electors; a *coordinator* beats. A reign is named by its epoch (number, node id, random bits).
Rank staggers who stands first and decides nothing else; a living coordinator is unseated by nobody
who returns (sticky).

Messages. Heartbeat, every 100 ms, and HeartbeatAck carry life, strength and table digests. Its
bits name who is heard, workers too, so that a worker that is not heard lets go as well (E2).
AskHeard and Vouch: did a helper hear the coordinator itself? Challenge, Grant, Objection: one
campaign. Stale: another reign exists, this strong. Resign: a planned handover.

Rules.
 1. Silence is 500 ms without a heartbeat received oneself or vouched for by who did (E4), or 1 s of
    heartbeats that do not list this node (E2). Broken streams are a hint that is asked about at
    once, and 200 ms without an answer are silence too: silence.py.
 2. A candidate challenges every elector (E1), those beyond its view too. Grants from more than half
    win at once, silence of all objectors wins at the deadline. Its deadline never moves; a
    heartbeat it accepts ends it. Who grants holds back, and grants nobody else meanwhile.
 3. An epoch above every one seen is on disk before it is announced. Slower than 300 ms: given up
    (E20); patience doubles with each such defeat, so that slow disks everywhere still elect. A
    candidate with nobody to unseat has all the patience. Who cannot write neither stands nor
    objects (E12), and as a coordinator hands over.
 4. A followed epoch is on disk before it is told, and the epochs that a node follows never fall,
    across crashes either: it asks a reign below its floor to raise its number instead. Nobody is
    believed to be a million numbers ahead, so that no member can use them up (epochs.py).
 5. Two reigns that meet compare strength (strength.py). The weaker goes; the stronger lifts its
    number above both and goes on. Who hears a healthy coordinator refuses a weaker reign whatever
    its number, and tells both (E3). Hearsay unseats a coordinator only if it lasts 600 ms.
 6. No candidacy in the first second after a start or a gap in one's own clock; a coordinator after
    such a gap lays its reign down until somebody confirms it, or nobody denies it for 300 ms.
 7. The view is stable and persisted (view.py); who loses most of it is braked (brake.py).
 8. Only electors stand, are in the view, count in strengths, majorities and brakes, object, vouch,
    tell of reigns, or succeed. Who ceases to be one, or is barred, is silent at once for those who
    follow it, and hands over if it is made a worker. A worker that has followed a later reign
    than it hears of acknowledges that one, and the coordinator lifts its number above it.
 9. Who lags, will sleep, or has an old disk (E14) is unfit: fitness.py.

Invariants, asserted by `check`: R1 what is followed or announced is durable, and was seen. R2 a
coordinator's epoch is the highest it has followed or announced; higher ones that it has heard of
are weaker or not yet met. R3 nobody is two of candidate, coordinator and resigning. R4 who cannot
write is no candidate. R5 no worker stands or reigns. C1 a candidate's deadline never moves. V1 the
stable membership is sorted and holds its owner. K1 a reign's epoch never falls.

What it does not do: majorities are no condition here (policy `available`), so two sides of a
partition have two reigns, and "at most one coordinator" is no invariant but what holds after the
heal. Safety is the worker's: it obeys only the reign it follows. Who is alive is gossip's matter.
"""

from typing import ClassVar

from rain.effects import (
    Admitted,
    Barred,
    CoordinatorHeard,
    DeadlinePassed,
    DiskFailed,
    DiskOld,
    DiskRecovered,
    EpochSeen,
    Event,
    FactsChanged,
    FollowerHeard,
    HandedOver,
    Lagged,
    MemberDown,
    MemberUp,
    Notice,
    Output,
    PeerReset,
    Persisted,
    Received,
    Send,
    SiblingNotice,
    SleepComing,
    StopRequested,
    TableChanged,
)
from rain.election.campaign import Campaign
from rain.election.config import ElectionConfig
from rain.election.fitness import Fitness
from rain.election.messages import (
    AskHeard,
    Challenge,
    Grant,
    Heartbeat,
    HeartbeatAck,
    Objection,
    Resign,
    Stale,
    Vouch,
)
from rain.election.reign import Reign, ack_beats
from rain.election.silence import Hearing
from rain.election.strength import NO_STRENGTH, is_stronger
from rain.model import NodeId

__all__ = ["Election", "ElectionConfig"]


class Election(Fitness):
    """The entrance: every event and notice, and what it means in the present role."""

    NOTICES: ClassVar[frozenset[type[SiblingNotice]]] = frozenset(
        {Admitted, Barred, DiskOld, MemberUp, MemberDown, FactsChanged, TableChanged, EpochSeen}
    )

    def handle(self, event: Event | Notice, now_ms: int) -> list[Output]:
        """The only way to change this core."""
        if self._is_barred:
            return []
        match event:
            case Received():
                return self._on_received(event, now_ms)
            case DeadlinePassed():
                return self._on_deadline_passed(now_ms)
            case Persisted():
                return self._on_persisted(event, now_ms)
            case MemberUp() | MemberDown() | FactsChanged():
                return self._on_member(event, now_ms)
            case Admitted(node_id=node_id, role=role):
                return self._on_admitted(node_id, role, now_ms)
            case Barred(node_id=node_id):
                return self._on_barred(node_id, now_ms)
            case TableChanged(digest=digest):
                self._digest = digest
                return []
            case EpochSeen(epoch=epoch):
                return self._outnumber(epoch, now_ms)
            case Lagged(lag_ms=lag_ms):
                return self._on_lagged(lag_ms, now_ms)
            case PeerReset(node_id=node_id):
                return self._on_reset(node_id, now_ms)
            case SleepComing():
                return self._on_sleep_coming(now_ms)
            case DiskOld():
                return self._on_disk_old(now_ms)
            case DiskFailed() | DiskRecovered():
                return self._on_disk(now_ms, well=isinstance(event, DiskRecovered))
            case StopRequested():
                return self._on_stop_requested(now_ms)
            case _:
                return []

    # --- time ---

    def _on_deadline_passed(self, now_ms: int) -> list[Output]:
        outputs: list[Output] = []
        view_ms = self._view.next_deadline_ms()
        if view_ms is not None and now_ms >= view_ms:
            outputs += self._view.pass_deadline(now_ms, self._token())
        if self._reign is not None:
            if now_ms >= self._reign.next_beat_ms:
                outputs += self._on_beat_due(self._reign, now_ms)
        elif self._parting is not None:
            outputs += self._on_parting_due(now_ms)
        elif self._campaign is not None:
            if now_ms >= self._campaign.next_deadline_ms():
                outputs += self._on_campaign_due(self._campaign, now_ms)
        else:
            outputs += self._on_follower_due(now_ms)
        return outputs

    def _on_beat_due(self, reign: Reign, now_ms: int) -> list[Output]:
        successor, reason = self._choose_successor(reign, now_ms)
        if successor is not None:
            return self._resign(reign, successor, reason, now_ms)
        outputs: list[Output] = []
        if reign.doubt_until_ms is not None and now_ms >= reign.doubt_until_ms:
            outputs += self._resume(reign)
        return outputs + self._beat(reign, now_ms)

    def _on_parting_due(self, now_ms: int) -> list[Output]:
        assert self._parting is not None
        if now_ms >= self._parting.until_ms:
            return self._part()
        return self._parting.say(self._view, now_ms)

    def _on_campaign_due(self, campaign: Campaign, now_ms: int) -> list[Output]:
        if campaign.is_claiming():
            return self._give_up_slow(now_ms)
        if now_ms < campaign.deadline_ms:
            return self._challenge(campaign, now_ms)
        heard_ms = campaign.standing_objection_ms(now_ms)
        if heard_ms is None or campaign.is_handover:
            return self._win(campaign, now_ms)
        if self._hearing is None:
            return self._give_up("objection", self._config.objected_hold_ms, now_ms)
        self._hearing.believe(heard_ms)
        self._hearing.excuse()
        return self._give_up("objection", self._config.defeat_hold_ms, now_ms)

    def _on_follower_due(self, now_ms: int) -> list[Output]:
        outputs: list[Output] = []
        hearing = self._hearing
        if hearing is not None and now_ms >= hearing.silent_at_ms():
            outputs += self._lose()
        ask_ms = self._ask_at_ms()
        if hearing is not None and ask_ms is not None and now_ms >= ask_ms:
            outputs += self._ask(hearing, now_ms)
        stand_ms = self._stand_at_ms()
        if stand_ms is not None and now_ms >= stand_ms:
            outputs += self._stand(now_ms, handover=False)
        return outputs

    # --- this machine ---

    def _on_persisted(self, event: Persisted, now_ms: int) -> list[Output]:
        told = self._view.persisted(event.token, now_ms)
        if told is not None:
            return told
        campaign = self._campaign
        if campaign is not None and campaign.claim_token == event.token:
            if event.took_ms > campaign.claim_patience_ms:
                return self._give_up_slow(now_ms)
            return self._become_coordinator(campaign, now_ms)
        if self._adopting is not None and self._adopting[1] == event.token:
            return self._adopted()
        reign = self._reign
        if reign is not None and reign.raising is not None and reign.raising_token == event.token:
            return self._raised(reign, now_ms)
        return []

    def _on_stop_requested(self, now_ms: int) -> list[Output]:
        if self._is_stopping:
            return []
        self._is_stopping = True
        self._campaign = None
        if self._parting is not None:
            return []
        if self._reign is None:
            return [HandedOver()]
        return self._hand_over(self._reign, "stopping", now_ms)

    # --- messages ---

    def _on_received(self, event: Received, now_ms: int) -> list[Output]:
        sender, message = event.sender, event.message
        refusal = self._refusal(event, now_ms)
        if refusal:
            return self._drop(refusal)
        if self._reign is not None:
            self._reign.hear(sender, now_ms)
        match message:
            case Heartbeat():
                return self._on_heartbeat(sender, message, now_ms)
            case HeartbeatAck():
                return self._on_heartbeat_ack(sender, message, now_ms)
            case Challenge():
                return self._on_challenge(sender, message, now_ms)
            case Grant() | Objection():
                return self._on_answer(sender, message, now_ms)
            case AskHeard():
                return self._on_ask_heard(sender, message, now_ms)
            case Vouch():
                return self._on_vouch(message)
            case Stale():
                return self._on_stale(sender, message, now_ms)
            case Resign():
                return self._on_resign(sender, message, now_ms)
            case _:
                raise AssertionError("every message of the election has its case")

    def _on_heartbeat(self, sender: NodeId, heartbeat: Heartbeat, now_ms: int) -> list[Output]:
        if heartbeat.epoch.node_id != sender:
            return self._drop("borrowed_epoch")
        if heartbeat.epoch == self._resigned:  # a late one: its word that it goes overtook it
            return self._drop("resigned")
        if self._reign is not None:
            outputs = self._meet(
                self._reign,
                sender,
                sender,
                heartbeat.epoch,
                heartbeat.strength,
                now_ms,
                hears_me=bool(self._lists_me(heartbeat)),
            )
            if self._reign is not None:
                return outputs
            return outputs + self._on_heartbeat(sender, heartbeat, now_ms)
        hearing = self._hearing
        if hearing is not None and hearing.epoch.node_id == sender:
            if (heartbeat.epoch, heartbeat.beat) <= (hearing.epoch, hearing.beat):
                return self._drop("old_heartbeat")
        elif hearing is not None and self._refuses(hearing, sender, heartbeat, now_ms):
            self._drop("weaker_reign")
            return self._tell_both(hearing, sender, heartbeat, now_ms)
        if heartbeat.epoch < self._epochs.floor:
            self._drop("below_floor")
            return self._tell_floor(sender, now_ms)
        return self._accept(sender, heartbeat, now_ms)

    def _refuses(self, hearing: Hearing, sender: NodeId, heartbeat: Heartbeat, now_ms: int) -> bool:
        """Sticky: a healthy coordinator is left only for a stronger one, or at its own word."""
        if not hearing.is_healthy(now_ms):
            return False
        if heartbeat.handover and heartbeat.epoch > hearing.epoch:
            return False
        if self._granted is not None:
            granted_to, granted_ms = self._granted
            if granted_to == sender and now_ms - granted_ms < self._config.heard_ms:
                return False
        is_larger = heartbeat.strength.followers > hearing.strength.followers
        if not is_larger and not self._lists_me(heartbeat):
            return True
        return is_stronger(
            hearing.strength,
            hearing.epoch.node_id,
            heartbeat.strength,
            sender,
            self._config.age_tolerance_ms,
        )

    def _lists_me(self, heartbeat: Heartbeat) -> bool | None:
        """Has its sender heard this node? None: its view is another, so its bits say nothing."""
        if heartbeat.view != self._view.hash:
            return None
        return self._view.is_listed(heartbeat.heard)

    def _accept(self, sender: NodeId, heartbeat: Heartbeat, now_ms: int) -> list[Output]:
        outputs = self._part()
        is_first = self._hearing is None or self._hearing.epoch != heartbeat.epoch
        if (
            self._hearing is None
            or self._hearing.epoch.node_id != sender
            or (self._hearing.is_resigned())
        ):
            self._hearing = Hearing(heartbeat.epoch, self._config, now_ms)
        self._hearing.take(heartbeat, self._lists_me(heartbeat), now_ms)
        turn = (heartbeat.beat + self._view.index()) % ack_beats(len(self._view.members))
        if is_first or turn == 0:
            outputs.append(Send(sender, self._acknowledgement(heartbeat, now_ms)))
        if self._hearing.is_deaf(now_ms):
            return outputs
        self._campaign = None
        self._slow_writes = 0
        outputs += self._follow(heartbeat.epoch) + self._compare(heartbeat)
        if self._followed == heartbeat.epoch:
            outputs.append(CoordinatorHeard(heartbeat.epoch, heartbeat.beat, heartbeat.digest))
        return outputs

    def _on_heartbeat_ack(self, sender: NodeId, ack: HeartbeatAck, now_ms: int) -> list[Output]:
        reign, is_elector = self._reign, self._electors.is_elector(sender)
        # A worker has followed a later reign, of which perhaps nobody else is left to tell.
        if reign is not None and not is_elector and ack.epoch > reign.epoch:
            return self._outnumber(ack.epoch, now_ms)
        if reign is None or not reign.acknowledge(sender, ack, now_ms):
            return self._drop("ack_of_another_reign")
        outputs: list[Output] = []
        if reign.doubt_until_ms is not None:
            if not is_elector:
                return self._drop("not_sure_enough")
            outputs = self._resume(reign)
        return [*outputs, FollowerHeard(sender, ack.digest)]

    def _on_challenge(self, sender: NodeId, challenge: Challenge, now_ms: int) -> list[Output]:
        if not self._electors.is_elector(self._me):
            return self._drop("not_an_elector")
        if self._reign is not None:
            return self._on_challenged(self._reign, sender, challenge, now_ms)
        campaign = self._campaign
        if campaign is not None and (
            campaign.is_claiming()
            or campaign.is_handover
            or self._view.rank_of(self._me) < self._view.rank_of(sender)
        ):
            return self._drop("outranked_challenge")
        hearing = self._hearing
        if hearing is not None and hearing.is_fresh(now_ms):
            if self._disk_failed_ms is not None:
                return self._drop("disk_failed")
            age_ms = now_ms - hearing.heard_ms
            outputs: list[Output] = [
                Send(
                    sender,
                    Objection(challenge.campaign, hearing.epoch, age_ms, hearing.strength),
                )
            ]
            if challenge.newest > hearing.epoch:
                unknown = Stale(challenge.newest, NO_STRENGTH, challenge.newest.node_id)
                outputs += self._tell(hearing.epoch.node_id, unknown, now_ms)
            return outputs
        if self._granted is not None:
            granted_to, granted_ms = self._granted
            if granted_to != sender and now_ms - granted_ms < self._config.grant_hold_ms:
                return self._drop("granted_to_another")
        self._campaign = None
        self._granted = (sender, now_ms)
        self._hold(now_ms + self._config.grant_hold_ms)
        return [Send(sender, Grant(challenge.campaign, self._epochs.newest))]

    def _on_challenged(
        self, reign: Reign, sender: NodeId, challenge: Challenge, now_ms: int
    ) -> list[Output]:
        """A coordinator that is sure of itself and can write objects."""
        if self._disk_failed_ms is not None or reign.doubt_until_ms is not None:
            return self._drop("not_sure_enough")
        strength = self._strength(reign, now_ms)
        outputs: list[Output] = [
            Send(sender, Objection(challenge.campaign, reign.epoch, 0, strength))
        ]
        if challenge.newest > reign.epoch:
            outputs += self._raise(reign, now_ms, contest=False)
        reign.hasten(now_ms)
        return outputs

    def _on_answer(self, sender: NodeId, answer: Grant | Objection, now_ms: int) -> list[Output]:
        campaign = self._campaign
        if campaign is None or campaign.number != answer.campaign or campaign.is_claiming():
            return self._drop("late_answer")
        if isinstance(answer, Objection):
            campaign.object(sender, answer.heartbeat_age_ms)
            return []
        campaign.grant(sender, now_ms)
        return self._win(campaign, now_ms) if campaign.has_majority() else []

    def _on_ask_heard(self, sender: NodeId, ask: AskHeard, now_ms: int) -> list[Output]:
        reign, hearing = self._reign, self._hearing
        if not self._electors.is_elector(self._me):
            return self._drop("not_an_elector")
        if reign is not None:
            if reign.first_epoch <= ask.epoch <= reign.epoch and reign.doubt_until_ms is None:
                return [Send(sender, Vouch(ask.epoch, ask.sequence, 0))]
        elif hearing is not None and hearing.epoch == ask.epoch and hearing.is_fresh(now_ms):
            age_ms = now_ms - hearing.heard_ms
            return [Send(sender, Vouch(ask.epoch, ask.sequence, age_ms))]
        return []

    def _on_vouch(self, vouch: Vouch) -> list[Output]:
        hearing = self._hearing
        if hearing is None or hearing.epoch != vouch.epoch:
            return self._drop("late_vouch")
        if not hearing.vouch(vouch.sequence, vouch.heartbeat_age_ms):
            return self._drop("late_vouch")
        return []

    def _on_stale(self, sender: NodeId, stale: Stale, now_ms: int) -> list[Output]:
        if self._reign is None:
            return []
        return self._meet(
            self._reign,
            sender,
            stale.coordinator,
            stale.epoch,
            stale.strength,
            now_ms,
            hears_me=True,
        )

    def _on_resign(self, sender: NodeId, resign: Resign, now_ms: int) -> list[Output]:
        hearing = self._hearing
        if resign.epoch.node_id != sender:
            return self._drop("not_its_reign")
        if self._resigned is None or self._resigned < resign.epoch:
            self._resigned = resign.epoch
        if self._reign is not None:
            return self._drop("not_its_reign")
        if hearing is not None:
            if hearing.epoch.node_id != sender or resign.epoch < hearing.epoch:
                return self._drop("not_its_reign")
            hearing.resign(now_ms)
        if resign.successor != self._me or self._campaign is not None:
            return []
        cannot_write = self._disk_failed_ms is not None
        is_going = self._is_stopping or self._parting is not None or self._is_dozing(now_ms)
        if cannot_write or is_going or self._is_behind or not self._electors.is_elector(self._me):
            return self._drop("cannot_succeed")
        return self._stand(now_ms, handover=True)
