"""The driver: the only timer, and the pump that carries effects out.

It feeds the pure node one event at a time and does what the node orders. Two rules hold the
promises of `effects.py`:

- a write is durable before anything in its `then` happens, and a slow disk delays nothing else;
- a core that breaks an invariant ends the agent. asyncio would only log the exception, so it is
  caught here and handed to whoever awaits `failed`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from rain.agent.address_book import AddressBook
from rain.agent.clock import asleep_ms, now_ms
from rain.agent.disk import DiskHealth
from rain.agent.writer import Disk, Writer
from rain.effects import (
    Answer,
    Broadcast,
    Cast,
    DeadlinePassed,
    Effect,
    Event,
    Expel,
    Lagged,
    Log,
    MaySleep,
    Message,
    Persist,
    Post,
    Received,
    Rekey,
    RemoveContainer,
    Route,
    Send,
    StartContainer,
    StopContainer,
    Stopped,
    StopRequested,
)
from rain.log import Logger
from rain.mesh import codec
from rain.model import Address, Epoch, Identity, NodeId
from rain.node import Node
from rain.sched.messages import Assign

LATE_MS = 30
"""A timer later than this lets waiting packets be read before anybody is accused."""
LATE_YIELD_MS = 20
LAG_TOLD_MS = 50
CHECK_INTERVAL_MS = 1_000


class Network(Protocol):
    """What the driver needs of the mesh: bytes out. Bytes in come through `Driver.receive`."""

    def send(self, to: NodeId, address: Address, body: bytes) -> None: ...
    def cast(self, to: Iterable[Address], body: bytes) -> None: ...
    def broadcast(self, body: bytes) -> None: ...
    def post(self, to: NodeId, body: bytes) -> None: ...
    def rekey(self, keys: Iterable[tuple[int, bytes]], use: int) -> None: ...
    def expel(self) -> None: ...


class Containers(Protocol):
    """What the driver needs of the executors."""

    def start(self, effect: StartContainer) -> None: ...
    def stop(self, effect: StopContainer) -> None: ...
    def remove(self, effect: RemoveContainer) -> None: ...


class Driver:
    """Feeds events to a node, carries its effects out, keeps its one timer."""

    def __init__(
        self,
        make_node: Callable[[int], Node],
        identity: Identity,
        book: AddressBook,
        store: Disk,
        log: Logger,
        health: DiskHealth | None = None,
        slept_ms: Callable[[], int] = asleep_ms,
    ) -> None:
        self._started_ms = now_ms()
        self._slept_ms = slept_ms
        self._slept_told_ms = slept_ms()
        self.node = make_node(self._started_ms)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.Event()
        self.may_sleep = asyncio.Event()
        """Set when the node said so; whoever feeds `SleepComing` clears it before."""
        self.answers: dict[int, asyncio.Future[Answer]] = {}
        self.dropped: dict[str, int] = {}
        """What members said that is no message, counted by why."""
        self._identity = identity
        self._book = book
        self._log = log
        self._ordered = 0
        """The newest reign of this node that has had work done."""
        self.writer = Writer(store, self._follow_up, self.feed, log, health)
        self._network: Network | None = None
        self._containers: Containers | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline_ms: int | None = None
        self._is_yielding = False
        self._is_going = False
        self._last_ms = self._started_ms
        self._checked_ms = self._started_ms
        self._change = asyncio.Event()

    @property
    def disk_reason(self) -> str:
        """Why the disk refuses; empty: it works."""
        return self.writer.reason

    def connect(self, network: Network, containers: Containers) -> None:
        self._network = network
        self._containers = containers

    def feed(self, event: Event) -> None:
        """Hand one event to the node and carry out what it orders."""
        if self.failed.done():
            return
        slept_ms = self._slept_ms() - self._slept_told_ms
        if slept_ms > LAG_TOLD_MS:  # the first that happens after it: no timer was late
            self._slept_told_ms += slept_ms
            self.feed(Lagged(slept_ms))
        self._is_going = self._is_going or isinstance(event, StopRequested)
        try:
            at_ms = self._last_ms = max(now_ms(), self._last_ms)
            effects = self.node.handle(event, at_ms)
            if at_ms - self._checked_ms >= CHECK_INTERVAL_MS:
                self._checked_ms = at_ms
                self.node.check()
            for effect in effects:
                self._carry_out(effect)
            self._rearm()
        except Exception as error:  # whatever it is, a broken core must not go on
            if not self.failed.done():
                self.failed.set_exception(error)
        self._change.set()

    def receive(self, sender: NodeId, boot_epoch: int, body: bytes, source: Address) -> bool:
        """A packet, opened and verified. False: its body is no message of ours."""
        message = self._decoded(body)
        if message is None:
            return False
        self._book.saw(sender, source)
        self.feed(Received(sender, message, source, boot_epoch))
        return True

    def receive_frame(self, sender: NodeId, boot_epoch: int, body: bytes, host: str) -> bool:
        """The same for a frame of a stream; its port is an ephemeral one and teaches nothing."""
        message = self._decoded(body)
        if message is None:
            return False
        self.feed(Received(sender, message, Address(host, 0), boot_epoch, by_stream=True))
        return True

    def _decoded(self, body: bytes) -> Message | None:
        message = codec.decode(body)
        if isinstance(message, Message):
            return message
        self.dropped[message.reason] = self.dropped.get(message.reason, 0) + 1
        return None

    async def wait_change(self, timeout_ms: int) -> None:
        """Return at the next event, or after the timeout."""
        self._change.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1_000):
                await self._change.wait()

    # --- effects ---------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        assert self._network is not None, "connect() comes before the first event"
        match effect:
            case Send(to=to, message=message):
                self._send(to, message)
            case Cast(to=members, message=message):
                known = (self._book.find(to) for to in members)
                self._network.cast([a for a in known if a is not None], codec.encode(message))
            case Post(to=to, message=message):
                self._post(to, message)
            case Broadcast(message=message):
                self._network.broadcast(codec.encode(message))
            case Route(node_id=node_id, address=address):
                self._book.learn(node_id, address)
            case Persist():
                self.writer.enqueue(effect)
            case StartContainer() | StopContainer() | RemoveContainer():
                self._see_to_container(effect)
            case Answer(request=request):
                waiting = self.answers.pop(request, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(effect)
            case Log(event=event, fields=fields):
                self._log.info(event, **dict(fields))
            case Stopped():
                self.stopped.set()
            case MaySleep():
                self.may_sleep.set()
            case Rekey(keys=keys, use=use):
                self._network.rekey(keys, use)
            case Expel():
                # Soon, not now: who is refused is asked of the node, which is in an event.
                asyncio.get_running_loop().call_soon(self._network.expel)

    def _send(self, to: NodeId, message: Message) -> None:
        assert self._network is not None
        address = self._book.find(to)
        if address is not None and to != self._identity.node_id:
            self._network.send(to, address, codec.encode(message))

    def _post(self, to: NodeId, message: Message) -> None:
        assert self._network is not None
        if to == self._identity.node_id:
            own = Received(to, message, Address("", 0), self._identity.boot_epoch, by_stream=True)
            asyncio.get_running_loop().call_soon(self.feed, own)
            return
        if isinstance(message, Assign):
            self._note_order(message.epoch)
        self._network.post(to, codec.encode(message))

    def _see_to_container(self, effect: StartContainer | StopContainer | RemoveContainer) -> None:
        assert self._containers is not None
        match effect:
            case StartContainer() if self._is_going:
                pass  # accepted by a slow write, and ended before that was done
            case StartContainer(attempt_id=attempt_id):
                self._note_order(attempt_id.epoch)
                self._containers.start(effect)
            case StopContainer():
                self._containers.stop(effect)
            case RemoveContainer():
                self._containers.remove(effect)

    def _note_order(self, epoch: Epoch) -> None:
        """The first order of a reign is told in the diary: there the pool works again."""
        if epoch.node_id == self._identity.node_id and epoch.number > self._ordered:
            self._ordered = epoch.number
            self._log.info("first_order", number=epoch.number)

    def _follow_up(self, effects: Sequence[Effect]) -> None:
        """What depended on a write that is on disk now."""
        if self.failed.done():
            return
        try:
            for effect in effects:
                self._carry_out(effect)
        except Exception as error:
            self.failed.set_exception(error)

    # --- the one timer ---------------------------------------------------------------------------

    def _rearm(self) -> None:
        deadline_ms = self.node.next_deadline_ms()
        if self._is_yielding or deadline_ms == self._timer_deadline_ms:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_deadline_ms = deadline_ms
        if deadline_ms is not None:
            wait_s = max(0, deadline_ms - now_ms()) / 1_000
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(wait_s, self._on_timer, deadline_ms)

    def _on_timer(self, deadline_ms: int) -> None:
        late_ms = now_ms() - deadline_ms
        if late_ms > LATE_MS:
            # There is one timer at any time: until the yield is over, none other is armed.
            self._is_yielding = True
            wait_s = LATE_YIELD_MS / 1_000
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._pass_deadline)
            if late_ms > LAG_TOLD_MS:
                self.feed(Lagged(late_ms))
        else:
            self._last_ms = max(self._last_ms, deadline_ms)  # a loop may fire a hair early
            self._pass_deadline()

    def _pass_deadline(self) -> None:
        self._is_yielding = False
        self._timer = None
        self._timer_deadline_ms = None
        self.feed(DeadlinePassed())
