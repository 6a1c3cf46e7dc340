"""What all faults share: who is there, whom one strikes, what is undone later, and the healing.

Every fault has a number, in the order of the drawing, and dice of its own. So a run can be played
again with some of its faults left out, and those that stay strike as they did before.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .coverage import Coverage
from .host import Host
from .network import Network
from .options import Options
from .trace import Trace
from .world import World, exponential_us, pick_some

SPAN_US_MIN = 50_000
SPAN_US_MAX = 12_000_000

Strike = Callable[[int], None]
"""Carries one fault out, for about so many microseconds."""


class Struck(NamedTuple):
    """One fault that was carried out."""

    number: int
    at_us: int
    kind: str


class Stage:
    """The hosts and their LAN, as whoever plans faults sees them; `heal` ends all faults."""

    def __init__(
        self,
        world: World,
        hosts: Sequence[Host],
        network: Network,
        options: Options,
        trace: Trace,
        coverage: Coverage,
        only: frozenset[int] | None = None,
    ) -> None:
        self.world = world
        self.hosts = hosts
        self.network = network
        self.options = options
        self.coverage = coverage
        self.dice = world.dice("faults")
        """Those of the fault that strikes just now."""
        self.struck: list[Struck] = []
        self.crashes = 0
        self.partitions = 0
        self.is_healed = False
        self.stopping: dict[int, int] = {}
        """Hosts that began to leave, with the boot in which they did."""
        self._trace = trace
        self._only = only
        self._numbers = 0
        self._cuts: list[tuple[int, int]] = []

    # --- drawing -------------------------------------------------------------------------------

    def number(self) -> int:
        """The next fault is drawn; this is its number."""
        self._numbers += 1
        return self._numbers - 1

    @property
    def numbers(self) -> int:
        """Faults drawn so far; their numbers are below that."""
        return self._numbers

    def is_played(self, number: int) -> bool:
        return self._only is None or number in self._only

    def plan(self, at_us: int, draw_kind: Callable[[], tuple[str, Strike]]) -> None:
        """One fault, then; of which kind is drawn when it strikes."""
        self.world.at(at_us, self._strike, self.number(), draw_kind)

    def _strike(self, number: int, draw_kind: Callable[[], tuple[str, Strike]]) -> None:
        if self.is_healed or not self.is_played(number):
            return
        self.dice = self.world.dice(f"fault {number}")
        kind, strike = draw_kind()
        self.note(number, kind, "fault")
        strike(self._span_us())

    def note(self, number: int, kind: str, family: str) -> None:
        """That fault strikes now."""
        self.struck.append(Struck(number, self.world.now_us, kind))
        self.coverage.hit(f"{family} {kind}")
        self.say(f"{family} {number}: {kind}")

    def _span_us(self) -> int:
        mean_us = self.options.fault_ms_mean * 1_000
        return SPAN_US_MIN + exponential_us(self.dice, mean_us, SPAN_US_MAX)

    def victim(self) -> Host | None:
        """Somebody who is up and awake; often the coordinator."""
        awake = self.awake()
        if self.dice.random() * 100 < self.options.coordinator_bias_percent:
            reigning = [host for host in self.coordinators() if host.is_awake]
            awake = reigning or awake
        return pick_some(self.dice, awake, 1)[0] if awake else None

    def awake(self) -> list[Host]:
        return [host for host in self.hosts if host.is_awake]

    def coordinators(self) -> list[Host]:
        """Who believes to coordinate, of those that are in."""
        return [host for host in self.hosts if host.is_coordinator and not host.is_removed]

    # --- doing ---------------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        if not host.is_up and not host.is_removed:
            host.start()

    def kill(self, host: Host) -> None:
        self.crashes += 1
        host.kill()

    def power_off(self, host: Host) -> None:
        self.crashes += 1
        host.power_off()

    def resume(self, host: Host, boot_epoch: int) -> None:
        if host.boot_epoch == boot_epoch:
            host.resume()

    def request_stop(self, host: Host) -> None:
        self.stopping[host.index] = host.boot_epoch
        host.request_stop()

    def cut(self, pairs: list[tuple[int, int]], span_us: int) -> None:
        self.say(f"cut {pairs}")
        for source, target in pairs:
            self.disturb(source, target)
            self.network.cut(source, target)
        self._cuts += pairs
        self.later(span_us, self._mend, pairs)

    def _mend(self, pairs: list[tuple[int, int]]) -> None:
        self.say(f"mend {pairs}")
        for source, target in pairs:
            self.disturb(source, target)
            self.network.mend(source, target)
            self._cuts.remove((source, target))

    def links_of(self, side: Sequence[Host], both: bool = True) -> list[tuple[int, int]]:
        """From everybody else to that side, and with `both` back."""
        inside = [host.index for host in side]
        outside = [host.index for host in self.hosts if host not in side]
        pairs = [(source, target) for source in outside for target in inside]
        if both:
            pairs += [(target, source) for source, target in pairs]
        return pairs

    def disturb(self, *indexes: int) -> None:
        for index in indexes or range(len(self.hosts)):
            self.hosts[index].disturbed_us = self.world.now_us

    def later(self, span_us: int, call: Callable[..., None], *arguments: object) -> None:
        self.world.after(span_us, self._undo, call, arguments)

    def _undo(self, call: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if not self.is_healed:
            call(*arguments)

    def say(self, text: str) -> None:
        self._trace.line(self.world.now_us, "lan", f"** {text}")

    # --- healing -------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything is mended at once: from here on the pool has no excuse.

        Who was removed stays as he is: off, or running and trying.
        """
        self.is_healed = True
        self.say("heal")
        for source, target in self._cuts:
            self.network.mend(source, target)
        self._cuts.clear()
        self.disturb()
        self.network.heal()
        for host in self.hosts:
            host.fuse = None
            host.disk.heal()
            host.executor.heal()
            host.resume()
            if host.is_up and self.stopping.get(host.index) == host.boot_epoch:
                self.kill(host)  # whoever began to leave comes back with the others
            self.start(host)
