"""The LAN between the hosts: packets that are lost, doubled, late and damaged; streams that stall.

A packet is on its own. A stream keeps order: a frame that meets a cut link waits in the sender's
buffer with all that follow it, is delivered late when the link is back in time, and is dropped
with the connection otherwise. That is why an order may arrive two seconds after it was given.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from .links import Links
from .options import Options
from .world import World, draw_int, exponential_us

DELAY_US_MAX = 400_000
TAIL_US_MIN = 200_000
TAIL_US_MAX = 3_000_000
REPLAY_US_MIN = 1_000_000
REPLAY_US_MAX = 30_000_000
RESEND_US = 200_000
"""A lost segment of a stream costs this much; everything behind it waits."""
FRAMES_STALLED_MAX = 2_000


class Frame(NamedTuple):
    """What a stream delivers: a body, and what the handshake of its connection had shown."""

    public_key: bytes
    """TLS has proven that the sender holds its private half."""
    boot_epoch: int
    bundle: bytes
    body: bytes


class Endpoint(Protocol):
    """A host as the network sees it."""

    @property
    def is_connected(self) -> bool:
        """Its network card is on."""

    @property
    def is_listening(self) -> bool:
        """An agent has its ports open, awake or not."""

    def take_packet(self, packet: bytes, source: int) -> None: ...
    def take_frame(self, frame: Frame, source: int, connection: int) -> None: ...
    def take_reset(self, source: int) -> None: ...


class Pipe:
    """The stream of one ordered pair of hosts."""

    __slots__ = ("connection", "free_at_us", "is_flushing", "is_used", "stalled")

    def __init__(self) -> None:
        self.connection = 0  # raised when it breaks: what was on its way is gone
        self.free_at_us = 0
        self.stalled: deque[Frame] = deque()
        self.is_flushing = False
        self.is_used = False  # something was sent since it was opened


class Network:
    """Packets and frames between hosts, by index."""

    def __init__(self, world: World, options: Options) -> None:
        self._world = world
        self._options = options
        self._dice = world.dice("network")
        self._hosts: Sequence[Endpoint] = ()
        count = options.nodes
        self._cuts = [[0] * count for _ in range(count)]
        self._pipes = [[Pipe() for _ in range(count)] for _ in range(count)]
        self.loss_permille = options.loss_permille
        self.extra_delay_us = 0
        self.is_healing = False
        self.tap: Callable[[int, int, bytes, int], None] = _deaf
        """Whoever listens on the cable hears every packet: from, to, what, when."""
        self._strangers = 0
        self.links = Links(world.dice("links"))
        self.packets = 0
        self.packets_of = [0] * count
        self.bytes_of = [0] * count
        """What each host sent so far."""
        self.frames = 0

    def connect(self, hosts: Sequence[Endpoint]) -> None:
        self._hosts = hosts

    # --- cutting and mending -------------------------------------------------------------------

    def cut(self, source: int, target: int) -> None:
        """Nothing goes from source to target until it is mended as often as it was cut."""
        self._cuts[source][target] += 1

    def mend(self, source: int, target: int) -> None:
        assert self._cuts[source][target] > 0, "only what was cut is mended"
        self._cuts[source][target] -= 1
        for one, other in ((source, target), (target, source)):
            self._maybe_flush(one, other)

    def is_open(self, source: int, target: int) -> bool:
        """Nothing at all is wrong with that link."""
        return not self._cuts[source][target] and (source, target) not in self.links.rough

    def unclog(self, source: int, target: int) -> None:
        """What was held there comes through now."""
        for packet in self.links.release(source, target):
            self._world.after(self._delay_us(), self._arrive, source, target, packet)
        self.flush(source, target)

    def flush(self, source: int, target: int) -> None:
        """Something is wrong no more with that link: what waits in streams may go on."""
        self._maybe_flush(source, target)
        self._maybe_flush(target, source)

    def heal(self) -> None:
        """The weather is fine from now on, and so is every link."""
        self.loss_permille = 0
        self.is_healing = True
        for (source, target), packets in self.links.heal():
            for packet in packets:
                self._world.after(self._delay_us(), self._arrive, source, target, packet)
        for host in range(len(self._hosts)):
            self.wake_streams(host)

    def break_streams(self, host: int, is_told: bool = False) -> None:
        """Its agent is gone: every connection to and from it is reset. A kernel that lives on says
        so to the other ends."""
        for other in range(len(self._hosts)):
            is_used = self._pipes[host][other].is_used or self._pipes[other][host].is_used
            if is_told and is_used:
                self._world.after(self._delay_us(), self._tell_reset, host, other)
            self._break(host, other)
            self._break(other, host)

    def break_between(self, one: int, other: int) -> None:
        """One of them hung up."""
        self._break(one, other)
        self._break(other, one)

    def wake_streams(self, host: int) -> None:
        """Its network card is on again."""
        for other in range(len(self._hosts)):
            self._maybe_flush(host, other)
            self._maybe_flush(other, host)

    # --- packets -------------------------------------------------------------------------------

    def send(self, source: int, target: int, packet: bytes) -> None:
        options, dice = self._options, self._dice.random
        self.packets += 1
        self.packets_of[source] += 1
        self.bytes_of[source] += len(packet)
        if self._cuts[source][target] or source == target:
            return
        self.tap(source, target, packet, self._world.now_us)
        if self.links.rough and not self.links.passes(source, target, packet):
            return
        if self.loss_permille and dice() * 1_000 < self.loss_permille:
            return
        if options.corrupt_permille and dice() * 1_000 < options.corrupt_permille:
            packet = self._damaged(packet)
        if options.truncate_permille and dice() * 1_000 < options.truncate_permille:
            packet = packet[: int(dice() * len(packet))]
        self._world.after(self._delay_us(), self._arrive, source, target, packet)
        if options.duplicate_permille and dice() * 1_000 < options.duplicate_permille:
            self._world.after(self._delay_us(), self._arrive, source, target, packet)
        if options.replay_permille and dice() * 1_000 < options.replay_permille:
            later_us = draw_int(self._dice, REPLAY_US_MIN, REPLAY_US_MAX)
            self._world.after(later_us, self._arrive, source, target, packet)

    def inject(self, source: int, target: int, packet: bytes) -> None:
        """A packet of somebody who is no host, with the address of one."""
        self._world.after(self._delay_us(), self._arrive, source, target, packet)

    def _arrive(self, source: int, target: int, packet: bytes) -> None:
        host = self._hosts[target]
        if host.is_connected and host.is_listening:
            host.take_packet(packet, source)

    def _delay_us(self) -> int:
        options = self._options
        delay_us = options.delay_us_min + self.extra_delay_us
        delay_us += exponential_us(self._dice, options.delay_us_mean, DELAY_US_MAX)
        tail = options.heavy_tail_permille
        if tail and not self.is_healing and self._dice.random() * 1_000 < tail:
            delay_us += draw_int(self._dice, TAIL_US_MIN, TAIL_US_MAX)
        return delay_us

    def _damaged(self, packet: bytes) -> bytes:
        at = int(self._dice.random() * len(packet))
        if self._dice.random() < 0.3:
            return packet[:at]
        return packet[:at] + bytes([packet[at] ^ 0x40]) + packet[at + 1 :]

    def knock(self, source: int, target: int, frame: Frame) -> None:
        """A stream of somebody who is no host, from the address of one; it has a connection of its
        own, which ends with this frame."""
        self._strangers -= 1
        self._world.after(self._delay_us(), self._let_knock, source, target, self._strangers, frame)

    def _let_knock(self, source: int, target: int, connection: int, frame: Frame) -> None:
        host = self._hosts[target]
        if host.is_connected and host.is_listening:
            host.take_frame(frame, source, connection)

    # --- streams -------------------------------------------------------------------------------

    def post(self, source: int, target: int, frame: Frame) -> None:
        """Dropped at once when nobody listens there: the connection is refused."""
        self.frames += 1
        if self._is_passing(source, target) and not self._hosts[target].is_listening:
            self._world.after(self._delay_us(), self._tell_reset, target, source)
            return
        pipe = self._pipes[source][target]
        pipe.is_used = True
        delay_us = self._delay_us()
        if self.loss_permille and self._dice.random() * 1_000 < self.loss_permille:
            delay_us += RESEND_US
        pipe.free_at_us = max(pipe.free_at_us, self._world.now_us + delay_us)
        self._world.at(pipe.free_at_us, self._deliver, source, target, pipe.connection, frame)

    def _deliver(self, source: int, target: int, connection: int, frame: Frame) -> None:
        pipe = self._pipes[source][target]
        if connection != pipe.connection:
            return
        if (
            pipe.stalled
            or not self._is_passing(source, target)
            or (self.links.rough and self.links.swallows(source, target, len(frame.body)))
        ):
            self._stall(source, target, frame)
        elif self._hosts[target].is_listening:
            self._hosts[target].take_frame(frame, source, connection)

    def _stall(self, source: int, target: int, frame: Frame) -> None:
        pipe = self._pipes[source][target]
        if not pipe.stalled:
            patience_us = self._options.stream_stall_ms_max * 1_000
            self._world.after(patience_us, self._give_up, source, target, pipe.connection)
        if len(pipe.stalled) < FRAMES_STALLED_MAX:
            pipe.stalled.append(frame)

    def _give_up(self, source: int, target: int, connection: int) -> None:
        pipe = self._pipes[source][target]
        if connection == pipe.connection and pipe.stalled and not pipe.is_flushing:
            self._break(source, target)

    def _maybe_flush(self, source: int, target: int) -> None:
        pipe = self._pipes[source][target]
        if pipe.stalled and not pipe.is_flushing and self._is_passing(source, target):
            pipe.is_flushing = True
            delay_us = draw_int(self._dice, 1_000, RESEND_US)
            self._world.after(delay_us, self._flush, source, target, pipe.connection)

    def _flush(self, source: int, target: int, connection: int) -> None:
        pipe = self._pipes[source][target]
        if connection != pipe.connection:
            return
        pipe.is_flushing = False
        if not self._is_passing(source, target):
            self._break(source, target)
            return
        frames = list(pipe.stalled)
        pipe.stalled.clear()
        for frame in frames:
            if connection == pipe.connection and self._hosts[target].is_listening:
                self._hosts[target].take_frame(frame, source, connection)

    def _break(self, source: int, target: int) -> None:
        pipe = self._pipes[source][target]
        pipe.connection += 1
        pipe.free_at_us = self._world.now_us
        pipe.stalled.clear()
        pipe.is_flushing = pipe.is_used = False

    def _tell_reset(self, source: int, target: int) -> None:
        if self._is_passing(source, target) and self._hosts[target].is_listening:
            self._hosts[target].take_reset(source)

    def _is_passing(self, source: int, target: int) -> bool:
        # Acknowledgements must come back: a stream needs both directions.
        return (
            not self._cuts[source][target]
            and not self._cuts[target][source]
            and not (self.links.rough and self._is_stopped(source, target))
            and self._hosts[source].is_connected
            and self._hosts[target].is_connected
        )

    def _is_stopped(self, source: int, target: int) -> bool:
        links = self.links
        return links.stops_streams(source, target) or links.stops_streams(target, source)


def _deaf(source: int, target: int, packet: bytes, now_us: int) -> None:
    """Nobody listens."""
