"""What goes wrong, when, to whom; and the end of it all.

Faults are drawn one after another from the kinds that the seed plays, each with an end of its own;
some are aimed at whoever coordinates just then. Disks are never destroyed, so nothing that was
acknowledged may ever be lost, however many hosts are down at once.
"""

from collections.abc import Callable, Sequence

from .host import Host
from .network import Network
from .options import WEIGHTS, Options
from .trace import Trace
from .world import World, draw_int, exponential_us, pick_some

WEIGHT_USUAL = 2
FIRST_US = 3_000_000
"""A pool is left alone for its first seconds, so that there is something to break."""
SPAN_US_MIN = 50_000
SPAN_US_MAX = 12_000_000
STUTTER_US_MIN = 22_000
STUTTER_US_MAX = 160_000
STUTTERS = 12
STORM_LOSS_PERMILLE = 600
STORM_US_MAX = 3_000_000
STOP_PATIENCE_US = 8_000_000
STALL_US_MAX = 2_000_000
BLACKOUT_US_MAX = 5_000_000


class Faults:
    """Draws and carries out the faults of one run; `heal` ends them all."""

    def __init__(
        self,
        world: World,
        hosts: Sequence[Host],
        network: Network,
        options: Options,
        trace: Trace,
    ) -> None:
        self.count = 0
        self.crashes = 0
        self.partitions = 0
        self._world = world
        self._hosts = hosts
        self._network = network
        self._options = options
        self._trace = trace
        self._dice = world.dice("faults")
        self._cuts: list[tuple[int, int]] = []
        self._stopping: dict[int, int] = {}
        self._healed = False
        self._kinds: dict[str, Callable[[int], None]] = {
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
        for host in self._hosts:
            self._world.at(draw_int(self._dice, 0, 900_000), self.start, host)
        end_us = self._options.active_ms * 1_000
        for _ in range(self._options.faults):
            at_us = draw_int(self._dice, min(FIRST_US, end_us), end_us)
            self._world.at(at_us, self._strike)

    def heal(self) -> None:
        """Everything is mended at once: from here on the pool has no excuse.

        Who was removed stays as he is: off, or running and trying.
        """
        self._healed = True
        self._say("heal")
        for source, target in self._cuts:
            self._network.mend(source, target)
        self._cuts.clear()
        self._disturb()
        self._network.loss_permille = 0
        self._network.is_healing = True
        for host in self._hosts:
            host.disk.is_full = False
            host.disk.stall_until_us = host.disk.stall_permille = 0
            host.resume()
            if host.is_up and self._stopping.get(host.index) == host.boot_epoch:
                self.kill(host)  # whoever began to leave comes back with the others
            self.start(host)

    def coordinators(self) -> list[Host]:
        """Who believes to coordinate, of those that are in."""
        return [host for host in self._hosts if host.is_coordinator and not host.is_removed]

    def start(self, host: Host) -> None:
        if not host.is_up and not host.is_removed:
            host.start()

    def kill(self, host: Host) -> None:
        self.crashes += 1
        host.kill()

    # --- drawing -------------------------------------------------------------------------------

    def _strike(self) -> None:
        if self._healed:
            return
        kinds = [(kind, WEIGHTS.get(kind, WEIGHT_USUAL)) for kind in self._options.kinds]
        draw = int(self._dice.random() * sum(weight for _, weight in kinds))
        for kind, weight in kinds:
            draw -= weight
            if draw < 0:
                self.count += 1
                self._kinds[kind](self._span_us())
                return

    def _span_us(self) -> int:
        mean_us = self._options.fault_ms_mean * 1_000
        return SPAN_US_MIN + exponential_us(self._dice, mean_us, SPAN_US_MAX)

    def _victim(self) -> Host | None:
        """Somebody who is up and awake; often the coordinator."""
        awake = [host for host in self._hosts if host.is_awake]
        if self._dice.random() * 100 < self._options.coordinator_bias_percent:
            reigning = [host for host in self.coordinators() if host.is_awake]
            awake = reigning or awake
        return pick_some(self._dice, awake, 1)[0] if awake else None

    def _disturb(self, *indexes: int) -> None:
        for index in indexes or range(len(self._hosts)):
            self._hosts[index].disturbed_us = self._world.now_us

    def _later(self, span_us: int, call: Callable[..., None], *arguments: object) -> None:
        self._world.after(span_us, self._undo, call, arguments)

    def _undo(self, call: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if not self._healed:
            call(*arguments)

    # --- hosts ---------------------------------------------------------------------------------

    def _crash(self, span_us: int) -> None:
        host = self._victim()
        if host is not None:
            self.kill(host)
            self._later(span_us, self.start, host)

    def _power_off(self, span_us: int) -> None:
        host = self._victim()
        if host is not None:
            self.crashes += 1
            host.power_off()
            self._later(span_us, self.start, host)

    def _stop(self, span_us: int) -> None:
        host = self._victim()
        if host is not None:
            self._stopping[host.index] = host.boot_epoch
            host.request_stop()
            self._later(STOP_PATIENCE_US, self._end_stop, host, host.boot_epoch, span_us)

    def _end_stop(self, host: Host, boot_epoch: int, span_us: int) -> None:
        if host.boot_epoch == boot_epoch and host.is_up:
            self.kill(host)  # it did not say goodbye in time
        self._later(span_us, self.start, host)

    def _blackout(self, span_us: int) -> None:
        """The whole pool loses power and gets it back, one PC after the other."""
        for host in self._hosts:
            if host.is_up:
                self.crashes += 1
                host.power_off()
        for host in self._hosts:
            delay_us = min(span_us, BLACKOUT_US_MAX) + draw_int(self._dice, 0, 2_000_000)
            self._later(delay_us, self.start, host)

    def _pause(self, span_us: int) -> None:
        host = self._victim()
        if host is not None:
            host.pause()
            self._later(span_us, self._resume, host, host.boot_epoch)

    def _suspend(self, span_us: int) -> None:
        host = self._victim()
        if host is not None:
            host.suspend()
            self._later(span_us, self._resume, host, host.boot_epoch)

    def _stutter(self, span_us: int) -> None:
        """A starved PC: short gaps, again and again."""
        host = self._victim()
        if host is None:
            return
        for _ in range(STUTTERS):
            self._later(draw_int(self._dice, 0, span_us), self._stutter_once, host)

    def _stutter_once(self, host: Host) -> None:
        if host.is_awake:
            host.pause()
            gap_us = draw_int(self._dice, STUTTER_US_MIN, STUTTER_US_MAX)
            self._later(gap_us, self._resume, host, host.boot_epoch)

    def _resume(self, host: Host, boot_epoch: int) -> None:
        if host.boot_epoch == boot_epoch:
            host.resume()

    def _disk_full(self, span_us: int) -> None:
        host = self._victim()
        if host is not None:
            self._disturb(host.index)
            host.disk.is_full = True
            self._later(span_us, self._empty_disk, host)

    def _empty_disk(self, host: Host) -> None:
        self._disturb(host.index)
        host.disk.is_full = False

    def _disk_stall(self, span_us: int) -> None:
        host = self._victim()
        if host is not None:
            self._disturb(host.index)
            host.disk.stall_until_us = self._world.now_us + min(span_us, STALL_US_MAX)

    # --- network -------------------------------------------------------------------------------

    def _partition(self, span_us: int) -> None:
        size = draw_int(self._dice, 1, len(self._hosts) - 1)
        side = pick_some(self._dice, list(self._hosts), size)
        self._cut_between(side, span_us, both=True)

    def _isolate(self, span_us: int) -> None:
        host = self._victim()
        if host is not None:
            self._cut_between([host], span_us, both=True)

    def _one_way(self, span_us: int) -> None:
        host = self._victim()
        if host is None:
            return
        others = [other for other in self._hosts if other is not host]
        deaf = self._dice.random() < 0.5
        self._cut_between([host] if deaf else others, span_us, both=False)

    def _bridge(self, span_us: int) -> None:
        """Two that cannot reach each other, while everybody else reaches both."""
        one, other = pick_some(self._dice, list(self._hosts), 2)
        pairs = [(one.index, other.index), (other.index, one.index)]
        self._cut(pairs, span_us)

    def _cut_between(self, side: list[Host], span_us: int, both: bool) -> None:
        inside = [host.index for host in side]
        outside = [host.index for host in self._hosts if host not in side]
        pairs = [(source, target) for source in outside for target in inside]
        if both:
            pairs += [(target, source) for source, target in pairs]
        self._cut(pairs, span_us)

    def _cut(self, pairs: list[tuple[int, int]], span_us: int) -> None:
        self.partitions += 1
        self._say(f"cut {pairs}")
        for source, target in pairs:
            self._disturb(source, target)
            self._network.cut(source, target)
        self._cuts += pairs
        self._later(span_us, self._mend, pairs)

    def _mend(self, pairs: list[tuple[int, int]]) -> None:
        self._say(f"mend {pairs}")
        for source, target in pairs:
            self._disturb(source, target)
            self._network.mend(source, target)
            self._cuts.remove((source, target))

    def _storm(self, span_us: int) -> None:
        """A saturated air or cable: most packets are lost for a moment."""
        self._disturb()
        self._network.loss_permille = STORM_LOSS_PERMILLE
        self._later(min(span_us, STORM_US_MAX), self._calm)

    def _calm(self) -> None:
        self._disturb()
        self._network.loss_permille = self._options.loss_permille

    def _say(self, text: str) -> None:
        self._trace.line(self._world.now_us, "lan", f"** {text}")
