"""One PC: a node with its agent's manners, a clock of its own, a disk, an engine, a network card.

The agent's manners are those of rain/agent/driver.py: one timer; a timer more than 30 ms late tells
the node that it lagged and lets waiting packets be read for 20 ms before anybody is accused; a
message to oneself comes back as an event; effects that depend on a write follow the write.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rain.claims import Signer, Verify
from rain.effects import (
    AddressChanged,
    Answer,
    ClockTold,
    DeadlinePassed,
    Effect,
    Event,
    Lagged,
    Log,
    MaySleep,
    Persist,
    Record,
    RemoveContainer,
    SleepComing,
    StartContainer,
    StopContainer,
    Stopped,
    StopRequested,
)
from rain.mesh import codec
from rain.mesh.envelope import node_id_of
from rain.model import Address, Epoch, Facts, Identity, Resources, Role
from rain.node import Node, NodeConfig
from rain.sched.identity import attempt_key
from rain.trust.config import TrustConfig

from .clock import Clock
from .credentials import Charter
from .disk import Disk
from .executor import Executor
from .keeping import sched_config
from .network import Frame, Network
from .options import Options
from .trace import Trace
from .watch import Watch
from .wire import OF_NETWORK, Wire
from .world import Violation, World, draw_int

PORT = 7_246
LATE_MS = 30
LATE_YIELD_US = 20_000
LAG_TOLD_MS = 50
SLEEP_PATIENCE_US = 1_000_000
"""A PC that is sent to sleep waits so long for its agent."""
PACKETS_WAITING_MAX = 400
"""What the kernel keeps for an agent that does not read."""
DEADLINES_STUCK_MAX = 1_000
TICK_US = 1_000
MEMORY_BYTES = 64 * 1024**3
SLEEP_KNOWN = 0.5


class Fuse(Protocol):
    """Ends the agent of a host at a chosen moment."""

    def burns(self, host: "Host", effect: Effect) -> bool:
        """It went off: that effect was carried out, or not, and the agent is gone."""


class Host:
    """Up: `node` is there. Asleep: it is there, but nothing is fed to it just now."""

    def __init__(
        self,
        index: int,
        world: World,
        options: Options,
        network: Network,
        charter: Charter,
        signer: Signer,
        verify: Verify,
        trace: Trace,
    ) -> None:
        self.index = index
        self.name = f"n{index + 1}"
        self.role = options.roles[index]
        self.person = options.persons[index]
        self.signer = signer
        self.node: Node | None = None
        self.boot_epoch = 0
        self.is_suspended = False
        self.is_paused = False
        self.is_leaving = False
        self.is_removed = False
        """An admin has been asked to remove it, and it was not let in again."""
        self.goodbyes: set[int] = set()
        """Boots that it ended politely."""
        self.disturbed_us = 0
        """When something last happened to it from outside: a fault, or the end of one."""
        self.address = Address(f"10.0.0.{index + 1}", PORT)
        self.capacity = Resources(options.cores_milli[index], MEMORY_BYTES)
        self.fuse: Fuse | None = None
        self.check_every = 48
        self._world = world
        self._network = network
        self._trace = trace
        self._charter = charter
        self.pool_id = charter.pool_id
        self._verify = verify
        self._rank, self._sched = options.ranks[index], sched_config(charter.pool_id, options)
        self._dice = world.dice(f"host {index}")
        ticks_us = options.clock_ticks_us
        tick_us = ticks_us[index] if ticks_us else TICK_US
        self._clock = Clock(world, self._dice, options.clock_rates_ppm[index], tick_us)
        self.local_ms = self._clock.local_ms
        self._timer_late_us_max = options.timer_late_us_max
        self._knows_sleep = bool(world.dice(f"system {index}").random() < SLEEP_KNOWN)
        """Whether its system says how long it slept."""
        self.disk = Disk(world, world.dice(f"disk {index}"), options.stall_permille)
        self.executor = self._engine(options)
        self.node_id = node_id_of(signer.public_key)
        self.wire = Wire(self, world, network, charter, signer, verify)
        self.started_us = 0
        self._watch: Watch | None = None
        self._asleep: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._packets_waiting = 0
        self._timer_us: int | None = None
        self._yielding = False
        self._fed = 0
        self._stuck = (0, 0)
        self._paused_us = 0
        self._is_dozing = self._is_going = False

    def _engine(self, options: Options) -> Executor:
        wall_error_ms = draw_int(self._dice, -3_600_000, 3_600_000)
        dice = self._world.dice(f"engine {self.index}")
        engine = Executor(self._world, dice, wall_error_ms, options.start_failure_permille)
        engine.twice_permille = options.exit_twice_permille
        engine.late_permille = options.exit_late_permille
        return engine

    def connect(self, hosts: "Sequence[Host]", watch: Watch) -> None:
        self.wire.connect(hosts, watch)
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
    def is_keeper(self) -> bool:
        """It keeps copies of the job table, and may come to coordinate."""
        return self.role >= Role.MEMBER

    @property
    def is_coordinator(self) -> bool:
        return self.node is not None and self.node.election.role() == "coordinator"

    def start(self) -> None:
        """Start the agent: with a boot epoch above every earlier one, and with its disk."""
        assert self.node is None, "one agent to a data folder"
        self.boot_epoch += 1
        self.is_leaving = self._is_going = self.is_suspended = False
        self.started_us = self._world.now_us
        self.wire.restart()
        recovered = self._recovered()
        self._timer_us, self._yielding = None, False
        self._epoch: Epoch | None = None
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
            NodeConfig(
                trust=TrustConfig(pool_id=self.pool_id),
                sched=self._sched,
            ),
            self._world.dice(f"node {self.index}/{self.boot_epoch}"),
            self.local_ms(),
            recovered,
            self._charter.inspect,
            self.signer,
            self._verify,
        )
        ring = self.node.trust.ring()
        self.wire.envelope.set_ring(sorted(ring.keys.items()), ring.use)
        self.disk.attach(self)
        self.executor.attach(self._report)
        self._rearm()
        self.feed(ClockTold(self.executor.unix_ms()))

    def _recovered(self) -> list[Record]:
        recovered = []
        for key in sorted(self.disk.rows):
            record = codec.decode_record(self.disk.rows[key])
            if isinstance(record, codec.Rejected):
                raise Violation("S14 what is written can be read", f"{self.name} {key}: {record}")
            recovered.append(record)
        return recovered

    def kill(self) -> None:
        """The agent is gone; its containers go on."""
        self._mark("killed")
        self._gone(is_told=True)

    def power_off(self) -> None:
        self._mark("power off")
        self._gone()
        self.is_suspended = True  # and its network card is off: no kernel refuses a connection
        self.executor.power_off()

    def request_stop(self) -> None:
        """`rain down`: it says when it is done."""
        self.is_leaving = True
        self.goodbyes.add(self.boot_epoch)
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

    def doze(self) -> None:
        """The PC is about to sleep and says so: it waits for its agent, but not for long."""
        self._is_dozing = True
        self._knows_sleep = True  # one and the same system does both
        self._world.after(SLEEP_PATIENCE_US, self._fall_asleep, self.boot_epoch)
        self.when_awake(self.feed, SleepComing())

    def _fall_asleep(self, boot_epoch: int) -> None:
        if self._is_dozing and boot_epoch == self.boot_epoch and self.node is not None:
            self._is_dozing = False
            self.suspend()

    def move(self, address: Address) -> None:
        """It has another address: what is sent to the old one reaches nobody."""
        self._mark(f"moves to {address.host}")
        self.address = address
        self._network.break_streams(self.index)
        self.when_awake(self.feed, AddressChanged(address))

    def turn_clock(self, by_ms: int) -> None:
        """Somebody sets the clock on the wall."""
        self.executor.wall_error_ms += by_ms
        self.when_awake(self.feed, ClockTold(self.executor.unix_ms()))

    def resume(self) -> None:
        self._is_dozing = False
        if not self.is_paused:
            return
        self._mark("resumes")
        self.is_paused = False
        late_ms = self._late_ms()
        if self.is_suspended:
            self.is_suspended = False
            slept_us = self._world.now_us - self._paused_us
            self._clock.lose(slept_us)
            self._network.wake_streams(self.index)
            late_ms = slept_us // 1_000 if self._knows_sleep else self._late_ms()
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

    def _gone(self, is_told: bool = False) -> None:
        if self._watch is not None and self.node is not None:
            self._watch.ended(self)
        self.node = None
        self.is_paused = self.is_suspended = self._is_dozing = False
        self._asleep.clear()
        self._packets_waiting = 0
        self.disk.detach()
        self.executor.detach()
        self._network.break_streams(self.index, is_told)

    # --- time ----------------------------------------------------------------------------------

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
        at_us = max(now_us, self._clock.true_us(deadline_ms))
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
            self._asleep.append((self.wire.open_packet, (packet, source)))
        else:
            self.wire.open_packet(packet, source)

    def take_reset(self, source: int) -> None:
        self.when_awake(self.wire.hear_reset, source)

    def take_frame(self, frame: Frame, source: int, connection: int) -> None:
        self.when_awake(self.wire.open_frame, frame, source, connection)

    def feed(self, event: Event) -> None:
        """Hand one event to the node and carry out what it orders."""
        node = self.node
        if node is None:
            return
        now_ms = self.local_ms()
        self._is_going = self._is_going or isinstance(event, StopRequested)
        if self._trace.is_on:
            self._trace.event(self._world.now_us, self.name, now_ms, event)
        self._fed += 1
        try:
            effects = node.handle(event, now_ms)
            if not self._fed % self.check_every:
                node.check()
        except Exception as error:  # whatever it is, a core that raises is a broken core
            raise Violation("a core never raises", f"{self.name}: {told(error)}") from error
        for effect in effects:
            self.carry_out(effect)
        epoch = node.election.reign()
        if epoch is not self._epoch:
            self._epoch = epoch
            assert self._watch is not None
            self._watch.settled(self)
        trust = node.trust
        if trust.credential(self.node_id) is None and not trust.is_overruled(self.node_id):
            self._world.after(0, self._end_removed, self.boot_epoch)
        self._rearm()

    def _report(self, event: Event) -> None:
        self.when_awake(self.feed, event)

    # --- orders out ----------------------------------------------------------------------------

    def carry_out(self, effect: Effect) -> None:
        if self.node is None:
            return
        if self.fuse is not None and self.fuse.burns(self, effect):
            return
        if self._trace.is_on:
            self._trace.effect(self._world.now_us, self.name, effect)
        if isinstance(effect, OF_NETWORK):
            self.wire.carry_out(effect)
            return
        watch = self._watch
        assert watch is not None
        match effect:
            case Persist():
                watch.wrote(self, effect)
                self.disk.write(effect)
            case StartContainer() if self._is_going:
                pass  # accepted by a slow write, and ended before that was done
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
                watch.logged(effect)
            case MaySleep():
                self._world.after(0, self._fall_asleep, self.boot_epoch)
            case Stopped():
                self._world.after(0, self._end_of_stop, self.boot_epoch)
            case _:
                raise AssertionError(f"{effect} is for nobody")

    def _end_of_stop(self, boot_epoch: int) -> None:
        if boot_epoch == self.boot_epoch and self.node is not None:
            self.kill()
            self.executor.finish_stops()

    def _end_removed(self, boot_epoch: int) -> None:
        """It has heard that it was removed: its agent says so and ends."""
        if boot_epoch == self.boot_epoch and self.node is not None:
            self._mark("was removed, and knows it")
            self._gone()

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
