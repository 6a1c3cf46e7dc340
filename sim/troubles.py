"""Troubles of hosts beyond the common faults: deaths at bad moments, storms of restarts, sleep.

They are drawn beside the common faults, so that those stay what they are in every seed.
"""

from collections.abc import Mapping

from .host import Host
from .moments import MOMENTS, TAKEOVERS, Fuse, Moment
from .options import TROUBLE_WEIGHTS
from .stage import Stage, Strike
from .world import draw_int, pick, pick_some

FIRST_US = 3_000_000
FUSE_US = 6_000_000
"""A moment that has not come after so long is given up."""
POWER_SHARE = 0.3
RESTARTS_MIN = 3
RESTARTS_MAX = 8
RESTART_GAP_US_MIN = 60_000
RESTART_GAP_US_MAX = 900_000
JOIN_US_MAX = 4_000_000
CUT_SHORT_US_MAX = 300_000
LAG_US_MIN = 60_000
LAG_US_MAX = 500_000
LAGS = 6
SLOW_US_MAX = 6_000_000
HOUR_MS = 3_600_000


class Troubles:
    """Draws and carries out those of one run, the network's among them."""

    def __init__(self, stage: Stage, *families: Mapping[str, Strike]) -> None:
        self._stage = stage
        self._dice = stage.world.dice("troubles")
        self.kinds: dict[str, Strike] = {
            "moment": self._moment,
            "restart_storm": self._restart_storm,
            "join_storm": self._join_storm,
            "leave_cut_short": self._leave_cut_short,
            "sleep": self._sleep,
            "starve": self._starve,
            "disk_slow": self._disk_slow,
            "wall_jump": self._wall_jump,
        }
        for family in families:
            self.kinds.update(family)

    def plan(self) -> None:
        stage = self._stage
        end_us = stage.options.active_ms * 1_000
        for _ in range(stage.options.troubles):
            stage.plan(draw_int(self._dice, min(FIRST_US, end_us), end_us), self._draw_kind)

    def _draw_kind(self) -> tuple[str, Strike]:
        kinds = self._stage.options.trouble_kinds
        weighted = [kind for kind in kinds for _ in range(TROUBLE_WEIGHTS.get(kind, 1))]
        kind: str = pick(self._stage.dice, weighted)
        return kind, self.kinds[kind]

    # --- deaths --------------------------------------------------------------------------------

    def _moment(self, span_us: int) -> None:
        """Somebody dies at a moment that was chosen; soon, if that moment comes."""
        stage = self._stage
        moment: Moment = pick(stage.dice, list(MOMENTS))
        takes_power = moment.is_torn or stage.dice.random() < POWER_SHARE

        def end(host: Host) -> None:
            stage.coverage.hit(f"moment {moment.name}")
            stage.say(f"{host.name} dies: {moment.name}")
            if takes_power:
                stage.power_off(host)
            else:
                stage.kill(host)
            stage.later(span_us, stage.start, host)

        fuse = Fuse(stage, moment, end)
        fuse.lay()
        stage.later(FUSE_US, fuse.take_back)
        for host in stage.coordinators() if moment.name in TAKEOVERS else ():
            stage.kill(host)
            stage.later(span_us, stage.start, host)

    def _restart_storm(self, span_us: int) -> None:
        """One agent that dies again and again, soon after each start."""
        stage, host = self._stage, self._stage.victim()
        if host is None:
            return
        at_us = 0
        for _ in range(draw_int(stage.dice, RESTARTS_MIN, RESTARTS_MAX)):
            stage.later(at_us, self._kill_up, host)
            at_us += draw_int(stage.dice, RESTART_GAP_US_MIN, RESTART_GAP_US_MAX)
            stage.later(at_us, stage.start, host)
            at_us += draw_int(stage.dice, RESTART_GAP_US_MIN, RESTART_GAP_US_MAX)

    def _kill_up(self, host: Host) -> None:
        if host.is_up:
            self._stage.kill(host)

    def _join_storm(self, span_us: int) -> None:
        """All lose power at once, and are switched on in the same instant."""
        for host in self._stage.hosts:
            if host.is_up:
                self._stage.power_off(host)
        for host in self._stage.hosts:
            self._stage.later(min(span_us, JOIN_US_MAX), self._stage.start, host)

    def _leave_cut_short(self, span_us: int) -> None:
        """It began to leave, and died before it had said goodbye."""
        stage, host = self._stage, self._stage.victim()
        if host is None:
            return
        stage.request_stop(host)
        stage.later(draw_int(stage.dice, 0, CUT_SHORT_US_MAX), self._cut_short, host, span_us)

    def _cut_short(self, host: Host, span_us: int) -> None:
        self._kill_up(host)
        self._stage.later(span_us, self._stage.start, host)

    # --- a PC that does something else ---------------------------------------------------------

    def _sleep(self, span_us: int) -> None:
        """It says that it will sleep, and sleeps when its agent is ready or a second has passed."""
        host = self._stage.victim()
        if host is not None:
            self._stage.disturb(host.index)
            host.doze()
            self._stage.later(LAG_US_MAX + span_us, self._stage.resume, host, host.boot_epoch)

    def _starve(self, span_us: int) -> None:
        """Several PCs have no time for their agents, now and then, up to half a second."""
        stage = self._stage
        awake = stage.awake()
        if not awake:
            return
        for host in pick_some(stage.dice, awake, draw_int(stage.dice, 2, len(stage.hosts))):
            for _ in range(LAGS):
                lag_us = draw_int(stage.dice, LAG_US_MIN, LAG_US_MAX)
                stage.later(draw_int(stage.dice, 0, span_us), self._lag, host, lag_us)

    def _lag(self, host: Host, lag_us: int) -> None:
        if host.is_awake:
            host.pause()
            self._stage.later(lag_us, self._stage.resume, host, host.boot_epoch)

    def _disk_slow(self, span_us: int) -> None:
        """Every write takes a tenth of a second to five."""
        host = self._stage.victim()
        if host is not None:
            self._stage.disturb(host.index)
            host.disk.is_slow = True
            self._stage.later(min(span_us, SLOW_US_MAX), self._end_slow, host)

    def _end_slow(self, host: Host) -> None:
        self._stage.disturb(host.index)
        host.disk.is_slow = False

    def _wall_jump(self, span_us: int) -> None:
        """The clock on the wall is set, an hour back or forth at most."""
        host = self._stage.victim()
        if host is not None:
            host.turn_clock(draw_int(self._stage.dice, -HOUR_MS, HOUR_MS))
