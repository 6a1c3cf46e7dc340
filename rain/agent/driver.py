"""The driver: the only clock, the only timer, and the pump that carries effects out.

It feeds the pure node one event at a time and does what the node orders. Two rules hold the
promises of `effects.py`:

- a write is durable before anything in its `then` happens, and a slow disk delays nothing else;
- a core that breaks an invariant ends the agent. asyncio would only log the exception, so it is
  caught here and handed to whoever awaits `failed`.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from rain.agent.address_book import AddressBook
from rain.effects import (
    Answer,
    Broadcast,
    Cast,
    DeadlinePassed,
    DiskFailed,
    DiskRecovered,
    Effect,
    Event,
    Lagged,
    Log,
    Message,
    Persist,
    Persisted,
    Post,
    Received,
    RemoveContainer,
    Route,
    Send,
    StartContainer,
    StopContainer,
    Stopped,
)
from rain.log import Logger
from rain.mesh import codec
from rain.model import Address, Identity, NodeId
from rain.node import Node
from rain.store import Store, StoreError

WRITES_QUEUED_MAX = 10_000
DIRTY_ROWS_MAX = 200_000
LATE_MS = 30
"""A timer later than this lets waiting packets be read before anybody is accused."""
LATE_YIELD_MS = 20
LAG_TOLD_MS = 50
CHECK_INTERVAL_MS = 1_000
DISK_RETRY_MS = 1_000


class Network(Protocol):
    """What the driver needs of the mesh: bytes out. Bytes in come through `Driver.receive`."""

    def send(self, to: NodeId, address: Address, body: bytes) -> None: ...
    def cast(self, to: Iterable[Address], body: bytes) -> None: ...
    def broadcast(self, body: bytes) -> None: ...
    def post(self, to: NodeId, body: bytes) -> None: ...


class Containers(Protocol):
    """What the driver needs of the executors."""

    def start(self, effect: StartContainer) -> None: ...
    def stop(self, effect: StopContainer) -> None: ...
    def remove(self, effect: RemoveContainer) -> None: ...


def now_ms() -> int:
    """The monotonic clock of this PC."""
    return time.monotonic_ns() // 1_000_000


def now_unix_ms() -> int:
    """The wall clock, for people's eyes only."""
    return time.time_ns() // 1_000_000


class Driver:
    """Feeds events to a node, carries its effects out, keeps its one timer."""

    def __init__(
        self,
        make_node: Callable[[int], Node],
        identity: Identity,
        book: AddressBook,
        store: Store,
        log: Logger,
    ) -> None:
        self._started_ms = now_ms()
        self.node = make_node(self._started_ms)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.Event()
        self.disk_reason = ""
        self.answers: dict[int, asyncio.Future[Answer]] = {}
        self._identity = identity
        self._book = book
        self._store = store
        self._log = log
        self._network: Network | None = None
        self._containers: Containers | None = None
        self._writes: asyncio.Queue[tuple[int, Persist]] = asyncio.Queue(WRITES_QUEUED_MAX)
        self._dirty: dict[str, bytes | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline_ms: int | None = None
        self._last_ms = self._started_ms
        self._checked_ms = self._started_ms
        self._change = asyncio.Event()

    def connect(self, network: Network, containers: Containers) -> None:
        self._network = network
        self._containers = containers

    def feed(self, event: Event) -> None:
        """Hand one event to the node and carry out what it orders."""
        if self.failed.done():
            return
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
        message = codec.decode(body)
        if not isinstance(message, Message):
            return False
        self._book.saw(sender, source)
        self.feed(Received(sender, message, source, boot_epoch))
        return True

    def receive_frame(self, sender: NodeId, boot_epoch: int, body: bytes, host: str) -> bool:
        """The same for a frame of a stream; its port is an ephemeral one and teaches nothing."""
        message = codec.decode(body)
        if not isinstance(message, Message):
            return False
        self.feed(Received(sender, message, Address(host, 0), boot_epoch, by_stream=True))
        return True

    async def wait_change(self, timeout_ms: int) -> None:
        """Return at the next event, or after the timeout."""
        self._change.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1_000):
                await self._change.wait()

    async def write_forever(self) -> None:
        """Carry out writes in order, everything that waits in one go."""
        while True:
            batch = [await self._writes.get()]
            while not self._writes.empty():
                batch.append(self._writes.get_nowait())
            await self._write(batch)

    async def retry_disk_forever(self) -> None:
        """While the disk refuses, try again what it still owes, so that its return is noticed."""
        while True:
            await asyncio.sleep(DISK_RETRY_MS / 1_000)
            if self.disk_reason and self._writes.empty():
                self._writes.put_nowait((now_ms(), Persist()))

    # --- effects ---------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        assert self._network is not None, "connect() comes before the first event"
        assert self._containers is not None
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
                self._enqueue(effect)
            case StartContainer():
                self._containers.start(effect)
            case StopContainer():
                self._containers.stop(effect)
            case RemoveContainer():
                self._containers.remove(effect)
            case Answer(request=request):
                waiting = self.answers.pop(request, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(effect)
            case Log(event=event, fields=fields):
                self._log.info(event, **dict(fields))
            case Stopped():
                self.stopped.set()

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
        self._network.post(to, codec.encode(message))

    # --- writes ----------------------------------------------------------------------------------

    def _enqueue(self, write: Persist) -> None:
        try:
            self._writes.put_nowait((now_ms(), write))
        except asyncio.QueueFull:
            # As a disk that refuses: what depends on the write does not happen, peers ask again.
            self._owe([write])
            self._disk_failed("the disk is too slow: too many writes wait")

    async def _write(self, batch: list[tuple[int, Persist]]) -> None:
        rows = dict(self._dirty)
        for _, write in batch:
            rows.update(_rows(write))
        puts = [(key, value) for key, value in rows.items() if value is not None]
        deletes = [key for key, value in rows.items() if value is None]
        try:
            await self._store.write(puts, deletes)
        except StoreError as error:
            self._owe([write for _, write in batch])
            self._disk_failed(str(error))
            return
        self._dirty.clear()
        if self.disk_reason:
            self.disk_reason = ""
            self._log.info("disk_recovered")
            self.feed(DiskRecovered())
        done_ms = now_ms()
        for asked_ms, write in batch:
            self._follow_up(write, done_ms - asked_ms)

    def _follow_up(self, write: Persist, took_ms: int) -> None:
        if self.failed.done():
            return
        try:
            for effect in write.then:
                self._carry_out(effect)
        except Exception as error:
            self.failed.set_exception(error)
            return
        if write.token:
            self.feed(Persisted(write.token, took_ms))

    def _owe(self, batch: list[Persist]) -> None:
        """Rows the disk refused are in memory already: they go with the next write that works."""
        for write in batch:
            self._dirty.update(_rows(write))
        assert len(self._dirty) <= DIRTY_ROWS_MAX, "the disk has refused too much for too long"

    def _disk_failed(self, reason: str) -> None:
        if not self.disk_reason:
            self._log.warning("disk_failed", reason=reason)
            # Soon, not now: the node may be in the middle of an event.
            asyncio.get_running_loop().call_soon(self.feed, DiskFailed(reason))
        self.disk_reason = reason

    # --- the one timer ---------------------------------------------------------------------------

    def _rearm(self) -> None:
        deadline_ms = self.node.next_deadline_ms()
        if deadline_ms == self._timer_deadline_ms:
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
            if late_ms > LAG_TOLD_MS:
                self.feed(Lagged(late_ms))
            asyncio.get_running_loop().call_later(LATE_YIELD_MS / 1_000, self._pass_deadline)
        else:
            self._last_ms = max(self._last_ms, deadline_ms)  # a loop may fire a hair early
            self._pass_deadline()

    def _pass_deadline(self) -> None:
        self._timer = None
        self._timer_deadline_ms = None
        self.feed(DeadlinePassed())


def _rows(write: Persist) -> dict[str, bytes | None]:
    rows: dict[str, bytes | None] = {put.key(): codec.encode_record(put) for put in write.puts}
    rows.update(dict.fromkeys(write.deletes))
    return rows
