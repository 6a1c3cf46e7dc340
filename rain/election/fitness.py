"""Whether this node is fit to coordinate: awake, on time, with a disk that works and is its own.

Who is not, does not stand, is not chosen as a successor (its acknowledgements say so), and hands
over if it reigns:

* It lags. A gap of more than a second in its own clock costs a second of standing, and makes a
  coordinator doubt its reign. One that lags in every second of ten passes it on to a follower that
  did not lag at all, half a minute after its reign began at the earliest.
* Its PC is about to sleep (`SleepComing`): it hands over at once, says `MaySleep` when the
  successor is heard or half a second is over, and does not stand until it woke or 10 s are over.
* Its disk cannot be written (E12).
* Its disk is old (E14): restored, repaired, or known by peers to have forgotten a life of this
  node. It may have forgotten epochs, orders and jobs. It stands only where nobody else has for
  ten seconds, then with a number that leaves room for those forgotten; and it is like the others
  again once its table has been like that of the coordinator that it follows.
"""

from rain.effects import MaySleep, Output, Persist
from rain.election.franchise import Franchise
from rain.election.handover import calmer, higher_ranked
from rain.election.records import BehindRecord
from rain.election.reign import Reign
from rain.model import NodeId


class Fitness(Franchise):
    """The roles, and what of this machine forbids them."""

    # --- the clock ---

    def _on_lagged(self, lag_ms: int, now_ms: int) -> list[Output]:
        config = self._config
        self._lateness.note(lag_ms, now_ms)
        if lag_ms > config.lag_gap_ms:
            self._dozing_until_ms = None
            self._quiet_until_ms = max(self._quiet_until_ms, now_ms + config.start_quiet_ms)
            alone = not self._view.electors_among(self._view.others(dead=False))
            if self._reign is not None and self._reign.doubt_until_ms is None and not alone:
                return self._doubt(self._reign, now_ms)
        elif lag_ms > config.lag_doubt_ms:
            self._quiet_until_ms = max(self._quiet_until_ms, now_ms + config.doubt_ms)
        return []

    def _on_sleep_coming(self, now_ms: int) -> list[Output]:
        self._dozing_until_ms = now_ms + self._config.doze_ms
        outputs: list[Output] = []
        if self._campaign is not None:
            outputs = self._give_up("sleep", 0, now_ms)
        reign = self._reign
        if reign is not None and reign.successors(self._view, self._digest, now_ms):
            outputs += self._hand_over(reign, "sleep", now_ms)
        if self._parting is None:
            return [*outputs, MaySleep()]
        self._sleep_waits = True
        return outputs

    # --- the disk ---

    def _on_disk(self, now_ms: int, *, well: bool) -> list[Output]:
        self._view.set_disk(well=well)
        if well:
            self._disk_failed_ms = None
            return []
        if self._disk_failed_ms is None:
            self._disk_failed_ms = now_ms
        self._adopting = None
        if self._reign is not None:
            self._reign.raising = None
        if self._campaign is not None:
            return self._give_up("disk failed", 0, now_ms)
        return []

    def _on_disk_old(self, now_ms: int) -> list[Output]:
        """Peers remember a life of this node that its disk does not (E14)."""
        if self._is_behind:
            return []
        self._is_behind = True
        outputs: list[Output] = [Persist(puts=(BehindRecord(),))]
        if self._campaign is not None:
            outputs += self._give_up("old disk", 0, now_ms)
        return outputs

    # --- the coordinator's own will ---

    def _choose_successor(self, reign: Reign, now_ms: int) -> tuple[NodeId | None, str]:
        """Whether to go of one's own will, to whom and why."""
        view, digest, config = self._view, self._digest, self._config
        failed_ms = self._disk_failed_ms
        has_failed = failed_ms is not None and now_ms - failed_ms >= config.disk_patience_ms
        if has_failed or self._is_behind:
            successors = reign.successors(view, digest, now_ms)
            reason = "disk failed" if has_failed else "old disk"
            return (successors[0] if successors else None), reason
        if failed_ms is not None:
            return None, ""
        if self._lateness.is_lame(now_ms):
            return calmer(reign, view, digest, config, now_ms), "lame"
        return higher_ranked(reign, view, self._rank, digest, config, now_ms), "higher rank"

    # --- hints ---

    def _on_reset(self, node_id: NodeId, now_ms: int) -> list[Output]:
        """A stream to the coordinator broke: ask for it at once. It is a hint, never a proof."""
        hearing = self._hearing
        if hearing is None or hearing.epoch.node_id != node_id or self._followed is None:
            return []
        hearing.reset(now_ms)
        ask_ms = hearing.ask_at_ms()
        if ask_ms is not None and now_ms >= ask_ms:
            return self._ask(hearing, now_ms)
        return []
