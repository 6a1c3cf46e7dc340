"""Who takes part: members that come and go, and the right to elect and to reign.

A word that counted may cease to: its node is made a worker, or barred. Then whatever hung on it
ends at once: its reign is silent for those who follow it, its grants and objections are void. The
node itself hands over if it reigns; one that is barred says nothing more at all.
"""

from rain.effects import (
    FactsChanged,
    HandedOver,
    MemberDown,
    MemberUp,
    Message,
    Output,
    Received,
)
from rain.election.messages import AskHeard, HeartbeatAck, Objection, Stale, epoch_of
from rain.election.reign import Reign
from rain.election.roles import Roles
from rain.election.strength import NO_STRENGTH
from rain.model import MemberState, NodeId, Role


class Franchise(Roles):
    """The roles, and whose word counts in them."""

    # --- gossip ---

    def _on_member(self, event: MemberUp | MemberDown | FactsChanged, now_ms: int) -> list[Output]:
        node_id = event.node_id
        if node_id == self._me:
            return []
        match event:
            case MemberUp(facts=facts):
                if not self._electors.is_admitted(node_id):
                    return self._drop("not_admitted")
                if not self._view.rise(node_id, facts.rank, now_ms):
                    return self._drop("view_full")
                if self._reign is not None:
                    self._reign.expect(node_id, now_ms)
            case FactsChanged(facts=facts):
                self._view.set_rank(node_id, facts.rank)
            case MemberDown(state=state):
                left = state is MemberState.LEFT
                self._view.fall(node_id, now_ms, left=left)
                if left and self._reign is not None:
                    self._reign.forget(node_id)
                hearing = self._hearing
                if left and hearing is not None and hearing.epoch.node_id == node_id:
                    hearing.resign(now_ms)
        return []

    # --- trust ---

    def _on_admitted(self, node_id: NodeId, role: Role, now_ms: int) -> list[Output]:
        if not self._electors.admit(node_id, role):
            return []
        outputs = self._view.recount(now_ms)
        if self._electors.is_elector(node_id):
            return outputs
        return outputs + self._disfranchise(node_id, now_ms)

    def _on_barred(self, node_id: NodeId, now_ms: int) -> list[Output]:
        self._electors.bar(node_id)
        if node_id == self._me:
            return self._fall_silent(now_ms)
        self._view.fall(node_id, now_ms, left=True)
        if self._reign is not None:
            self._reign.forget(node_id)
        return self._view.recount(now_ms) + self._disfranchise(node_id, now_ms)

    def _disfranchise(self, node_id: NodeId, now_ms: int) -> list[Output]:
        """Its word counts no more, and did not."""
        if node_id == self._me:
            return self._abdicate(now_ms)
        if self._granted is not None and self._granted[0] == node_id:
            self._granted = None
        outputs: list[Output] = []
        if self._hearing is not None and self._hearing.epoch.node_id == node_id:
            self._hearing = None
            outputs += self._lose()
        campaign = self._campaign
        if campaign is not None and not campaign.is_claiming():
            campaign.strike(node_id)
            if campaign.has_majority():
                outputs += self._win(campaign, now_ms)
        return outputs

    def _abdicate(self, now_ms: int) -> list[Output]:
        """This node is a worker from now on."""
        if self._campaign is not None:
            return self._give_up("no elector", 0, now_ms)
        return [] if self._reign is None else self._hand_over(self._reign, "no elector", now_ms)

    def _hand_over(self, reign: Reign, reason: str, now_ms: int) -> list[Output]:
        """To the best there is, if there is anybody."""
        successors = reign.successors(self._view, self._digest, now_ms)
        if successors:
            return self._resign(reign, successors[0], reason, now_ms)
        outputs = self._step_down(reign, reason, now_ms)
        return [*outputs, HandedOver()] if self._is_stopping else outputs

    def _fall_silent(self, now_ms: int) -> list[Output]:
        """This node itself is barred. Nobody would take its goodbye."""
        self._is_barred = True
        self._campaign = self._parting = self._hearing = None
        outputs = self._view.recount(now_ms)
        if self._reign is not None:
            return outputs + self._step_down(self._reign, "barred", now_ms)
        return outputs + self._lose()

    # --- messages ---

    def _refusal(self, event: Received, now_ms: int) -> str:
        """Why it is not for that sender to say this, or not so; empty if it is."""
        sender, message = event.sender, event.message
        epoch = epoch_of(message)
        if sender == self._me:
            return "own_echo"
        if epoch is None:
            return "not_of_the_election"
        if event.by_stream:
            # Streams wait and repeat: what comes by one may be true no more, and age unseen.
            return "by_stream"
        if not self._electors.is_admitted(sender):
            return "not_admitted"
        if not self._electors.is_elector(sender):
            # What a worker names is remembered only by a coordinator that must outnumber it.
            return "" if isinstance(message, HeartbeatAck | AskHeard) else "not_an_elector"
        if not self._may_say(sender, message):
            return "not_an_elector"
        is_believed = self._sees(epoch, now_ms)
        # That somebody objects counts, however far ahead the reign is that it speaks of.
        return "" if is_believed or isinstance(message, Objection) else "epoch_out_of_range"

    def _may_say(self, sender: NodeId, message: Message) -> bool:
        speaks_for = sender
        if isinstance(message, Objection):
            speaks_for = message.epoch.node_id
        elif isinstance(message, Stale) and message.strength != NO_STRENGTH:
            # Without strength it is no living reign, only a number that somebody has followed.
            speaks_for = message.coordinator
        return self._electors.is_elector(speaks_for)
