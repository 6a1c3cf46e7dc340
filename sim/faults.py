"""The common faults: hosts that go away, a network that is torn, disks that fill up.

Faults are drawn one after another from the kinds that the seed plays, each with an end of its own;
some are aimed at whoever coordinates just then. Disks are never destroyed, so nothing that was
acknowledged may ever be lost, however many hosts are down at once.
"""

from .host import Host
from .options import WEIGHTS
from .stage import Stage, Strike
from .world import draw_int, pick_some

WEIGHT_USUAL = 2
FIRST_US = 3_000_000
"""A pool is left alone for its first seconds, so that there is something to break."""
STUTTER_US_MIN = 22_000
STUTTER_US_MAX = 160_000
STUTTERS = 12
STORM_LOSS_PERMILLE = 600
STORM_US_MAX = 3_000_000
STOP_PATIENCE_US = 8_000_000
STALL_US_MAX = 2_000_000
BLACKOUT_US_MAX = 5_000_000


class Faults:
    """Draws and carries out the common faults of one run."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._dice = stage.world.dice("faults")
        self._kinds: dict[str, Strike] = {
            "crash": self._crash,
            "power_off": self._power_off,
            "pause": self._pause,
            "stutter": self._stutter,
            "suspend": self._suspend,
            "partition": self._partition,
            "isolate": self._isolate,
            "one_way": self._one_way,
            "bridge": self._bridge,
            "storm": self._storm,
            "disk_full": self._disk_full,
            "disk_stall": self._disk_stall,
            "stop": self._stop,
            "blackout": self._blackout,
        }

    def plan(self) -> None:
        """Start every host within the first second, then plan the faults over the active time."""
        stage = self._stage
        for host in stage.hosts:
            stage.world.at(draw_int(self._dice, 0, 900_000), stage.start, host)
        end_us = stage.options.active_ms * 1_000
        for _ in range(stage.options.faults):
            stage.plan(draw_int(self._dice, min(FIRST_US, end_us), end_us), self._draw_kind)

    def _draw_kind(self) -> tuple[str, Strike]:
        kinds = [(kind, WEIGHTS.get(kind, WEIGHT_USUAL)) for kind in self._stage.options.kinds]
        draw = int(self._stage.dice.random() * sum(weight for _, weight in kinds))
        for kind, weight in kinds:
            draw -= weight
            if draw < 0:
                return kind, self._kinds[kind]
        raise AssertionError("one of the kinds is drawn")

    # --- hosts ---------------------------------------------------------------------------------

    def _crash(self, span_us: int) -> None:
        host = self._stage.victim()
        if host is not None:
            self._stage.kill(host)
            self._stage.later(span_us, self._stage.start, host)

    def _power_off(self, span_us: int) -> None:
        host = self._stage.victim()
        if host is not None:
            self._stage.power_off(host)
            self._stage.later(span_us, self._stage.start, host)

    def _stop(self, span_us: int) -> None:
        host = self._stage.victim()
        if host is not None:
            self._stage.request_stop(host)
            self._stage.later(STOP_PATIENCE_US, self._end_stop, host, host.boot_epoch, span_us)

    def _end_stop(self, host: Host, boot_epoch: int, span_us: int) -> None:
        if host.boot_epoch == boot_epoch and host.is_up:
            self._stage.kill(host)  # it did not say goodbye in time
        self._stage.later(span_us, self._stage.start, host)

    def _blackout(self, span_us: int) -> None:
        """The whole pool loses power and gets it back, one PC after the other."""
        stage = self._stage
        for host in stage.hosts:
            if host.is_up:
                stage.power_off(host)
        for host in stage.hosts:
            delay_us = min(span_us, BLACKOUT_US_MAX) + draw_int(stage.dice, 0, 2_000_000)
            stage.later(delay_us, stage.start, host)

    def _pause(self, span_us: int) -> None:
        host = self._stage.victim()
        if host is not None:
            host.pause()
            self._stage.later(span_us, self._stage.resume, host, host.boot_epoch)

    def _suspend(self, span_us: int) -> None:
        host = self._stage.victim()
        if host is not None:
            host.suspend()
            self._stage.later(span_us, self._stage.resume, host, host.boot_epoch)

    def _stutter(self, span_us: int) -> None:
        """A starved PC: short gaps, again and again."""
        stage, host = self._stage, self._stage.victim()
        if host is None:
            return
        for _ in range(STUTTERS):
            gap_us = draw_int(stage.dice, STUTTER_US_MIN, STUTTER_US_MAX)
            stage.later(draw_int(stage.dice, 0, span_us), self._stutter_once, host, gap_us)

    def _stutter_once(self, host: Host, gap_us: int) -> None:
        if host.is_awake:
            host.pause()
            self._stage.later(gap_us, self._stage.resume, host, host.boot_epoch)

    def _disk_full(self, span_us: int) -> None:
        host = self._stage.victim()
        if host is not None:
            self._stage.disturb(host.index)
            host.disk.is_full = True
            self._stage.later(span_us, self._empty_disk, host)

    def _empty_disk(self, host: Host) -> None:
        self._stage.disturb(host.index)
        host.disk.is_full = False

    def _disk_stall(self, span_us: int) -> None:
        host = self._stage.victim()
        if host is not None:
            self._stage.disturb(host.index)
            host.disk.stall_until_us = self._stage.world.now_us + min(span_us, STALL_US_MAX)

    # --- network -------------------------------------------------------------------------------

    def _partition(self, span_us: int) -> None:
        hosts = list(self._stage.hosts)
        size = draw_int(self._stage.dice, 1, len(hosts) - 1)
        self._part(self._stage.links_of(pick_some(self._stage.dice, hosts, size)), span_us)

    def _isolate(self, span_us: int) -> None:
        host = self._stage.victim()
        if host is not None:
            self._part(self._stage.links_of([host]), span_us)

    def _one_way(self, span_us: int) -> None:
        host = self._stage.victim()
        if host is None:
            return
        others = [other for other in self._stage.hosts if other is not host]
        deaf = self._stage.dice.random() < 0.5
        self._part(self._stage.links_of([host] if deaf else others, both=False), span_us)

    def _bridge(self, span_us: int) -> None:
        """Two that cannot reach each other, while everybody else reaches both."""
        one, other = pick_some(self._stage.dice, list(self._stage.hosts), 2)
        self._part([(one.index, other.index), (other.index, one.index)], span_us)

    def _part(self, pairs: list[tuple[int, int]], span_us: int) -> None:
        self._stage.partitions += 1
        self._stage.cut(pairs, span_us)

    def _storm(self, span_us: int) -> None:
        """A saturated air or cable: most packets are lost for a moment."""
        self._stage.disturb()
        self._stage.network.loss_permille = STORM_LOSS_PERMILLE
        self._stage.later(min(span_us, STORM_US_MAX), self._calm)

    def _calm(self) -> None:
        self._stage.disturb()
        self._stage.network.loss_permille = self._stage.options.loss_permille
