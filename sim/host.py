"""One PC: a node with its agent's manners, a clock of its own, a disk, an engine, a network card.

The agent's manners are those of rain/agent/driver.py: one timer; a timer more than 30 ms late tells
the node that it lagged and lets waiting packets be read for 20 ms before anybody is accused; a
message to oneself comes back as an event; effects that depend on a write follow the write.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rain.effects import (
    Answer,
    Broadcast,
    Cast,
    DeadlinePassed,
    Effect,
    Event,
    Lagged,
    Log,
    Message,
    Persist,
    Post,
    Received,
    RemoveContainer,
    Route,
    Send,
    StartContainer,
    StopContainer,
    Stopped,
    StopRequested,
)
from rain.mesh import codec
from rain.mesh.envelope import Channel, Envelope, Opened, Signer, Verify
from rain.model import Address, Facts, Identity, NodeId, Resources
from rain.node import Node, NodeConfig
from rain.sched.identity import attempt_key

from .disk import Disk
from .executor import Executor
from .network import Network
from .options import Options
from .trace import Trace
from .world import Violation, World, draw_int

PORT = 7_246
LATE_MS = 30
LATE_YIELD_US = 20_000
LAG_TOLD_MS = 50
SEEN_FRESH_US = 10_000_000
PACKETS_WAITING_MAX = 400
"""What the kernel keeps for an agent that does not read."""
DEADLINES_STUCK_MAX = 1_000
MEMORY_BYTES = 64 * 1024**3
CLOCK_OFFSET_MS_MAX = 10_000_000
POOL_ID = b"simulated pool--"
POOL_KEY = b"k" * 32


class Watch(Protocol):
    """Whoever looks on from outside; it raises Violation."""

    def received(self, host: "Host", sender: NodeId, message: Message) -> None: ...
    def sent(self, host: "Host", message: Message) -> None: ...
    def started(self, host: "Host", order: StartContainer) -> None: ...
    def stopped(self, host: "Host", key: str) -> None: ...
    def removed(self, host: "Host", key: str) -> None: ...
    def wrote(self, host: "Host", write: Persist) -> None: ...
    def answered(self, host: "Host", answer: Answer) -> None: ...
    def settled(self, host: "Host") -> None: ...


class Host:
    """Up: `node` is there. Asleep: it is there, but nothing is fed to it just now."""

    def __init__(
        self,
        index: int,
        world: World,
        options: Options,
        network: Network,
        signer: Signer,
        verify: Verify,
        trace: Trace,
    ) -> None:
        self.index = index
        self.name = f"n{index + 1}"
        self.node: Node | None = None
        self.boot_epoch = 0
        self.is_suspended = False
        self.is_paused = False
        self.is_leaving = False
        self.disturbed_us = 0
        """When something last happened to it from outside: a fault, or the end of one."""
        self.address = Address(f"10.0.0.{index + 1}", PORT)
        self.capacity = Resources(options.cores_milli[index], MEMORY_BYTES)
        self.logs = 0
        self.check_every = 48
        self._world = world
        self._network = network
        self._trace = trace
        self._signer = signer
        self._verify = verify
        self._rank = options.ranks[index]
        self._dice = world.dice(f"host {index}")
        self._rate_ppm = options.clock_rates_ppm[index]
        self._offset_ms = draw_int(self._dice, 0, CLOCK_OFFSET_MS_MAX)
        self._timer_late_us_max = options.timer_late_us_max
        self.disk = Disk(world, world.dice(f"disk {index}"), options.stall_permille)
        wall_error_ms = draw_int(self._dice, -3_600_000, 3_600_000)
        self.executor = Executor(
            world, world.dice(f"engine {index}"), wall_error_ms, options.start_failure_permille
        )
        self.envelope = self._new_envelope()
        self.node_id = self.envelope.node_id
        self._hosts: Sequence[Host] = ()
        self._by_address: dict[Address, int] = {}
        self._watch: Watch | None = None
        self._told: dict[NodeId, int] = {}
        self._seen: dict[NodeId, tuple[int, int]] = {}
        self._asleep: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._packets_waiting = 0
        self._timer_us: int | None = None
        self._yielding = False
        self._fed = 0
        self._stuck = (0, 0)
        self._paused_us = 0

    def connect(self, hosts: "Sequence[Host]", watch: Watch) -> None:
        self._hosts = hosts
        self._by_address = {host.address: host.index for host in hosts}
        self._watch = watch

    # --- on and off ----------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        return self.node is not None

    @property
    def is_awake(self) -> bool:
        return self.node is not None and not self.is_paused

    @property
    def is_connected(self) -> bool:
        return not self.is_suspended

    @property
    def is_listening(self) -> bool:
        return self.node is not None

    @property
    def is_coordinator(self) -> bool:
        return self.node is not None and self.node.election.role() == "coordinator"

    def start(self) -> None:
        """Start the agent: with a boot epoch above every earlier one, and with its disk."""
        assert self.node is None, "one agent to a data folder"
        self.boot_epoch += 1
        self.is_leaving = False
        self.envelope = self._new_envelope()
        recovered = []
        for key in sorted(self.disk.rows):
            record = codec.decode_record(self.disk.rows[key])
            if isinstance(record, codec.Rejected):
                raise Violation("S14 what is written can be read", f"{self.name} {key}: {record}")
            recovered.append(record)
        self._told, self._seen = {}, {}
        self._timer_us, self._yielding = None, False
        facts = Facts(
            capacity=self.capacity,
            executors=("docker",),
            works=True,
            rank=self._rank,
            software="sim",
            platform="sim",
        )
        self._mark(f"start, boot {self.boot_epoch}, {len(recovered)} records")
        self.node = Node(
            Identity(self.node_id, self.name, self.boot_epoch),
            self.address,
            facts,
            NodeConfig(),
            self._world.dice(f"node {self.index}/{self.boot_epoch}"),
            self.local_ms(),
            recovered,
        )
        self.disk.attach(self)
        self.executor.attach(self._report)
        self._rearm()

    def kill(self) -> None:
        """The agent is gone; its containers go on."""
        self._mark("killed")
        self._gone()

    def power_off(self) -> None:
        self._mark("power off")
        self._gone()
        self.executor.power_off()

    def request_stop(self) -> None:
        """`rain down`: it says when it is done."""
        self.is_leaving = True
        self.when_awake(self.feed, StopRequested())

    def pause(self) -> None:
        """Nothing is read, no timer fires; the clock goes on."""
        if not self.is_paused:
            self._mark("paused")
            self.is_paused = True
            self._paused_us = self._world.now_us

    def suspend(self) -> None:
        """The lid is closed: the network card is off and the monotonic clock stands still."""
        self.pause()
        self.is_suspended = True

    def resume(self) -> None:
        if not self.is_paused:
            return
        self._mark("resumes")
        self.is_paused = False
        if self.is_suspended:
            self.is_suspended = False
            self._offset_ms -= (self._world.now_us - self._paused_us) // 1_000
            self._network.wake_streams(self.index)
        late_ms = self._late_ms()
        if self.node is not None and late_ms > LAG_TOLD_MS:
            self.feed(Lagged(late_ms))
        self._packets_waiting = 0
        waiting, self._asleep = self._asleep, deque()
        for call, arguments in waiting:
            if self.node is not None:
                call(*arguments)
        if self.node is not None:
            self._yielding = late_ms > LATE_MS
            delay_us = LATE_YIELD_US if self._yielding else 0
            self._timer_us = self._world.now_us + delay_us
            self._world.after(delay_us, self._on_timer, self.boot_epoch, self._timer_us)

    def _gone(self) -> None:
        self.node = None
        self.is_paused = self.is_suspended = False
        self._asleep.clear()
        self._packets_waiting = 0
        self.disk.detach()
        self.executor.detach()
        self._network.break_streams(self.index)

    # --- time ----------------------------------------------------------------------------------

    def local_ms(self) -> int:
        """The monotonic clock of this PC: another rate and another zero than everybody's."""
        return self._offset_ms + self._world.now_us * self._rate_ppm // 1_000_000_000

    def _true_us(self, local_ms: int) -> int:
        """The first instant at which the local clock shows that."""
        return -(-(local_ms - self._offset_ms) * 1_000_000_000 // self._rate_ppm)

    def _late_ms(self) -> int:
        deadline_ms = None if self.node is None else self.node.next_deadline_ms()
        return 0 if deadline_ms is None else self.local_ms() - deadline_ms

    def _rearm(self) -> None:
        if self.node is None or self._yielding:
            return
        deadline_ms = self.node.next_deadline_ms()
        if deadline_ms is None:
            return
        now_us = self._world.now_us
        at_us = max(now_us, self._true_us(deadline_ms))
        if self._timer_us is not None and now_us <= self._timer_us <= at_us:
            return  # it fires early enough, and looks again then
        at_us += int(self._dice.random() * self._timer_late_us_max)
        self._timer_us = at_us
        self._world.at(at_us, self._on_timer, self.boot_epoch, at_us)

    def _on_timer(self, boot_epoch: int, at_us: int) -> None:
        if boot_epoch != self.boot_epoch or at_us != self._timer_us or not self.is_awake:
            return
        assert self.node is not None
        self._timer_us = None
        self._yielding = False
        deadline_ms = self.node.next_deadline_ms()
        if deadline_ms is None or deadline_ms > self.local_ms():
            self._rearm()
            return
        self._refuse_stuck(deadline_ms)
        self.feed(DeadlinePassed())

    def _refuse_stuck(self, deadline_ms: int) -> None:
        last_ms, times = self._stuck
        self._stuck = (deadline_ms, times + 1 if deadline_ms == last_ms else 0)
        if self._stuck[1] > DEADLINES_STUCK_MAX:
            raise Violation("L8 time advances", f"{self.name} never gets past its deadline")

    # --- facts in ------------------------------------------------------------------------------

    def when_awake(self, call: Callable[..., None], *arguments: Any) -> None:
        """Now, or in order as soon as the agent reads again."""
        if self.is_paused:
            self._asleep.append((call, arguments))
        else:
            call(*arguments)

    def take_packet(self, packet: bytes, source: int) -> None:
        if self.is_paused:
            self._packets_waiting += 1
            if self._packets_waiting > PACKETS_WAITING_MAX:
                return
            self._asleep.append((self._open, (packet, source, Channel.PACKET)))
        else:
            self._open(packet, source, Channel.PACKET)

    def take_frame(self, frame: bytes, source: int) -> None:
        self.when_awake(self._open, frame, source, Channel.STREAM)

    def feed(self, event: Event) -> None:
        """Hand one event to the node and carry out what it orders."""
        node = self.node
        if node is None:
            return
        now_ms = self.local_ms()
        if self._trace.is_on:
            self._trace.event(self._world.now_us, self.name, now_ms, event)
        self._fed += 1
        try:
            effects = node.handle(event, now_ms)
            if self._fed % self.check_every == 0:
                node.check()
        except Exception as error:  # whatever it is, a core that raises is a broken core
            raise Violation("a core never raises", f"{self.name}: {told(error)}") from error
        for effect in effects:
            self.carry_out(effect)
        assert self._watch is not None
        self._watch.settled(self)
        self._rearm()

    def _open(self, packet: bytes, source: int, channel: Channel) -> None:
        opened = self.envelope.open(packet, channel)
        if not isinstance(opened, Opened):
            return
        message = codec.decode(opened.body)
        if not isinstance(message, Message):
            raise Violation("S16 what we encode can be decoded", f"{self.name}: {message}")
        by_stream = channel is Channel.STREAM
        if not by_stream:
            self._seen[opened.sender] = (source, self._world.now_us)
        assert self._watch is not None
        self._watch.received(self, opened.sender, message)
        address = self._hosts[source].address
        if by_stream:
            address = Address(address.host, 0)
        self.feed(Received(opened.sender, message, address, opened.boot_epoch, by_stream))

    def _report(self, event: Event) -> None:
        self.when_awake(self.feed, event)

    # --- orders out ----------------------------------------------------------------------------

    def carry_out(self, effect: Effect) -> None:  # noqa: C901 - one case for every effect
        if self.node is None:
            return
        if self._trace.is_on:
            self._trace.effect(self._world.now_us, self.name, effect)
        watch = self._watch
        assert watch is not None
        match effect:
            case Send(to=to, message=message):
                watch.sent(self, message)
                self._send((to,), message, to)
            case Cast(to=members, message=message):
                watch.sent(self, message)
                self._send(members, message, None)
            case Post(to=to, message=message):
                watch.sent(self, message)
                self._post(to, message)
            case Broadcast(message=message):
                watch.sent(self, message)
                packet = self.envelope.seal(codec.encode(message), None)
                for host in self._hosts:
                    self._network.send(self.index, host.index, packet)
            case Route(node_id=node_id, address=address):
                if address in self._by_address:
                    self._told[node_id] = self._by_address[address]
            case Persist():
                watch.wrote(self, effect)
                self.disk.write(effect)
            case StartContainer():
                watch.started(self, effect)
                self.executor.start(effect)
            case StopContainer(attempt_id=attempt_id):
                watch.stopped(self, attempt_key(attempt_id))
                self.executor.stop(effect)
            case RemoveContainer(attempt_key=key):
                watch.removed(self, key)
                self.executor.remove(key)
            case Answer():
                watch.answered(self, effect)
            case Log():
                self.logs += 1
            case Stopped():
                self._world.after(0, self._end_of_stop, self.boot_epoch)

    def _end_of_stop(self, boot_epoch: int) -> None:
        if boot_epoch == self.boot_epoch and self.node is not None:
            self.kill()
            self.executor.finish_stops()

    def _send(self, members: Sequence[NodeId], message: Message, to: NodeId | None) -> None:
        targets = [self._find(member) for member in members if member != self.node_id]
        found = [target for target in targets if target is not None]
        if found:
            packet = self.envelope.seal(codec.encode(message), to)
            for target in found:
                self._network.send(self.index, target, packet)

    def _post(self, to: NodeId, message: Message) -> None:
        if to == self.node_id:
            own = Received(to, message, Address("", 0), self.boot_epoch, by_stream=True)
            self._world.after(0, self._feed_own, self.boot_epoch, own)
            return
        target = self._find(to)
        if target is not None:
            frame = self.envelope.seal(codec.encode(message), to, Channel.STREAM)
            self._network.post(self.index, target, frame)

    def _feed_own(self, boot_epoch: int, own: Received) -> None:
        if boot_epoch == self.boot_epoch and self.node is not None:
            assert self._watch is not None
            self._watch.received(self, self.node_id, own.message)
            self.when_awake(self.feed, own)

    def _find(self, node_id: NodeId) -> int | None:
        seen = self._seen.get(node_id)
        if seen is not None and self._world.now_us - seen[1] < SEEN_FRESH_US:
            return seen[0]
        told = self._told.get(node_id)
        if told is not None:
            return told
        return seen[0] if seen is not None else None

    def _new_envelope(self) -> Envelope:
        return Envelope(POOL_ID, POOL_KEY, self._signer, self._verify, self.boot_epoch)

    def _mark(self, text: str) -> None:
        self.disturbed_us = self._world.now_us
        self._trace.line(self._world.now_us, self.name, f"** {text}")


def told(error: BaseException) -> str:
    """The error and its innermost file and line: the same on every machine."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return repr(error)
    path = trace.tb_frame.f_code.co_filename.replace("\\", "/")
    return f"{error!r} at {'/'.join(path.split('/')[-3:])}:{trace.tb_lineno}"
