"""Streams over mutual TLS 1.3, on the port number of the packets.

Control: `post` hands frames of any size, in order, to the one connection this node keeps to each
peer it talks to. It is dialled on demand and closed when idle. A frame that cannot be delivered is
dropped and counted, with all that waited behind it: the cores ask again, and an old order must not
arrive late. Bulk: `call` and `serve` (see calls.py) use connections of their own.

Who connects is a newcomer until it has shown a certificate of somebody who may be here (see
accepting.py and meeting.py). Without a certificate it comes to the door, where it may ask to join
or to renew and nothing else: DOOR_MAX at once, STRANGER_BYTES_MAX of words, DOOR_TIMEOUT_MS. A
connection outlives what it was let in by, so `review` asks again for all of them and hangs up on
those who were removed or have expired since.

A connection that ends without a goodbye, or is refused, is a hint that its node may be gone (see
hints.py). To the node of `hold` a line is kept open when nothing is posted, so that both ends are
told at once when the other one's agent ends.
"""

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Coroutine

from rain.mesh.accepting import BACKLOG, NEWCOMER_TIMEOUT_MS, Acceptor, Place, Places
from rain.mesh.calls import IDLE_TIMEOUT_MS, Callee, Caller, CallError, Serve
from rain.mesh.discovery import EVERYWHERE, is_ipv4, is_loopback
from rain.mesh.frames import CONTENT_BYTES_MAX, BrokenConnection, Connection, Posted
from rain.mesh.hints import HUNG_UP, Gone, Hints, is_refused
from rain.mesh.meeting import REFUSED_BY_PEER, Admit, Evidence, Meeting, Shown, accept_tls
from rain.mesh.tls import TlsIdentity
from rain.mesh.transport import bind_error
from rain.model import Address, NodeId

__all__ = ["CallError", "Serve", "Streams"]

PEERS_MAX = 1_024
QUEUE_FRAMES_MAX = 1_024
QUEUE_BYTES_MAX = 64 * 1024 * 1024
"""Of one peer, waiting to be sent."""
BACKOFF_MS_MIN = 100
BACKOFF_MS_MAX = 2_000
"""After a failed dial that address is left alone for so long; it doubles."""
DOOR_MAX = 8
DOOR_PER_HOST_MAX = 4
DOOR_TIMEOUT_MS = 10_000
CONNECTIONS_MAX = 1_024
CONNECTIONS_PER_MEMBER_MAX = 8
HOLD_INTERVAL_MS = 1_000
"""How often the line that is held is looked after."""
GOODBYE_MARGIN_MS = 5_000
"""Who says nothing for IDLE_TIMEOUT_MS hangs up, and means no harm by it."""

FindAddress = Callable[[NodeId], Address | None]
ReceiveFrame = Callable[[NodeId, int, bytes, str], object]
"""(sender, boot epoch, body, host it came from)"""
Door = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves a stream that has shown no certificate; it is closed afterwards."""


class _Line:
    """What waits for one peer, and the connection it goes over."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.waiting_bytes = 0
        self.wake = asyncio.Event()
        self.connection: Connection | None = None
        self.failed_address: Address | None = None
        self.backoff_ms = BACKOFF_MS_MIN
        self.retry_at = 0.0

    def clear(self) -> int:
        dropped = len(self.frames)
        self.frames.clear()
        self.waiting_bytes = 0
        return dropped


class Streams:
    """Frames in by the callback, frames out by `post`; questions by `call` and `serve`."""

    def __init__(
        self,
        tls: TlsIdentity,
        node_id: NodeId,
        boot_epoch: int,
        find_address: FindAddress,
        receive: ReceiveFrame,
        admit: Admit,
        shown: Shown,
        door: Door | None,
        misled: Callable[[NodeId, Address], None] = lambda node_id, address: None,
        evidence: Evidence = lambda bundle: b"",
        gone: Gone = lambda node_id: None,
    ) -> None:
        self._hints = Hints(gone, time.monotonic)
        self._held: NodeId | None = None
        self._bind = EVERYWHERE
        self._port = 0
        self._tls = tls
        self._node_id = node_id
        self._meeting = Meeting(tls, boot_epoch, admit, shown, evidence, self._hear_evidence)
        self._find_address = find_address
        self._misled = misled
        self._receive = receive
        self._door = door
        self._verbs: dict[str, Serve] = {}
        self._lines: dict[NodeId, _Line] = {}
        self._callers: dict[NodeId, Caller] = {}
        self._members: dict[Connection, NodeId] = {}
        self._acceptor = Acceptor(self._serve_newcomer, self._spawn, self._count)
        self._at_door = Places(DOOR_MAX, DOOR_PER_HOST_MAX)
        self._socket: socket.socket | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()
        self._ended = asyncio.Event()
        self.dropped: dict[str, int] = {}
        self.refusals: dict[NodeId, str] = {}
        """Who would not have this node, and why, in words for people."""

    async def open(self, bind: str, port: int) -> None:
        """Take the port. MeshError when it is not to be had."""
        self._bind = bind
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setblocking(False)
        # Connections of an earlier run that the kernel still remembers must not block a restart.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((bind, port))
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            raise bind_error(bind, port, error) from None
        self._port = listening.getsockname()[1]
        self._socket = listening

    async def run(self) -> None:
        """Serve and deliver until `close`."""
        assert self._socket is not None, "open() comes first"
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._serve_until_closed(self._socket)
        finally:
            self._closed.set()
            self._ended.set()

    async def close(self) -> None:
        """Hang up. What was handed to the kernel still goes out; what is queued is dropped."""
        self._closed.set()
        if self._group is not None:
            await self._ended.wait()
        elif self._socket is not None:
            self._socket.close()

    @property
    def port(self) -> int:
        """The port taken; differs from the one asked for when that was 0."""
        return self._port

    @property
    def newcomers(self) -> int:
        """How many are connected of whom nothing is known yet."""
        return len(self._acceptor.newcomers)

    def post(self, to: NodeId, body: bytes) -> None:
        """Deliver this frame, if that node can be reached now."""
        assert len(body) <= CONTENT_BYTES_MAX, f"a frame of {len(body)} bytes"
        assert to != self._node_id, "a node posts nothing to itself"
        line = self._line(to)
        if line is None:
            return self._count("no_line")
        if len(line.frames) >= QUEUE_FRAMES_MAX or line.waiting_bytes + len(body) > QUEUE_BYTES_MAX:
            return self._count("queue_full")
        line.frames.append(body)
        line.waiting_bytes += len(body)
        return line.wake.set()

    def hold(self, to: NodeId | None) -> None:
        """Keep the line to that node open from now on, and to no other."""
        assert to != self._node_id, "a node holds no line to itself"
        self._held = to
        line = self._line(to) if to is not None else None
        if line is not None:
            line.wake.set()

    def leave_addresses(self, own: Container[str]) -> None:
        """Hang up what goes out from an address that is none of this PC's any more."""
        for connection in self._outgoing():
            if connection.own_host not in own and not is_loopback(connection.own_host):
                self._count("address_gone")
                connection.abort()

    def serve(self, verb: str, serve: Serve) -> None:
        """Answer calls of that verb by this generator function."""
        assert verb not in self._verbs, f"{verb} is served already"
        self._verbs[verb] = serve

    async def call(self, node_id: NodeId, verb: str, args: bytes) -> AsyncIterator[bytes]:
        """Ask; the answers come one by one. CallError when the call fails or breaks off."""
        if self._group is None or self._closed.is_set():
            raise CallError("this node is not running")
        if node_id == self._node_id:
            raise CallError("a node does not call itself")
        if node_id not in self._callers and len(self._callers) >= PEERS_MAX:
            self._callers = {key: each for key, each in self._callers.items() if not each.is_idle}
            if len(self._callers) >= PEERS_MAX:
                raise CallError("too many nodes are being called")
        caller = self._callers.get(node_id)
        if caller is None:
            caller = Caller(lambda: self._dial(node_id), self._spawn, self._count)
            self._callers[node_id] = caller
        answers = caller.call(verb, args)
        try:
            async for answer in answers:
                yield answer
        finally:
            await answers.aclose()

    def review(self) -> None:
        """Hang up on everybody who may not be here any more."""
        for connection in [*self._members, *self._outgoing()]:
            if connection.is_closed:
                continue
            reason = self._meeting.refusal_now(connection)
            if reason:
                self._count(reason)
                connection.abort()

    # --- out -------------------------------------------------------------------------------------

    def _line(self, to: NodeId) -> _Line | None:
        line = self._lines.get(to)
        if line is None:
            if len(self._lines) >= PEERS_MAX or self._group is None or self._closed.is_set():
                return None
            line = self._lines[to] = _Line()
            self._spawn(self._deliver_forever(to, line))
        return line

    def _outgoing(self) -> list[Connection]:
        lines = [line.connection for line in self._lines.values()]
        calls = [caller.connection for caller in self._callers.values()]
        return [each for each in (*lines, *calls) if each is not None]

    async def _deliver_forever(self, to: NodeId, line: _Line) -> None:
        watcher: asyncio.Task[None] | None = None
        try:
            while await self._has_work(to, line):
                try:
                    if line.connection is None or line.connection.is_closed:
                        line.connection = await self._redial(to, line)
                        watcher = self._spawn(self._watch(to, line.connection))
                    while line.frames:
                        body = line.frames.popleft()
                        line.waiting_bytes -= len(body)
                        await line.connection.send(Posted(body))
                except BrokenConnection as error:
                    self._count(error.reason)
                    self._count("undelivered", line.clear())
                    if line.connection is not None:
                        line.connection.abort()
        finally:
            del self._lines[to]
            if watcher is not None:
                watcher.cancel()
            if line.connection is not None:
                await line.connection.end()

    async def _has_work(self, to: NodeId, line: _Line) -> bool:
        """False: nothing was posted for so long that the connection is not worth keeping."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + IDLE_TIMEOUT_MS / 1_000
        while not line.frames:
            is_held = self._held == to
            is_down = line.connection is None or line.connection.is_closed
            if is_held and is_down and loop.time() >= line.retry_at:
                return True
            if not is_held and loop.time() >= ends_at:
                return False
            line.wake.clear()
            with contextlib.suppress(TimeoutError):
                until = loop.time() + HOLD_INTERVAL_MS / 1_000 if is_held else ends_at
                async with asyncio.timeout_at(until):
                    await line.wake.wait()
        return True

    async def _redial(self, to: NodeId, line: _Line) -> Connection:
        now = asyncio.get_running_loop().time()
        address = self._find_address(to)
        if now < line.retry_at and address == line.failed_address:
            raise BrokenConnection("backoff")
        try:
            connection = await self._dial(to)
        except BrokenConnection:
            if address != line.failed_address:
                line.backoff_ms = BACKOFF_MS_MIN
            line.failed_address = address
            line.retry_at = asyncio.get_running_loop().time() + line.backoff_ms / 1_000
            line.backoff_ms = min(2 * line.backoff_ms, BACKOFF_MS_MAX)
            raise
        line.backoff_ms = BACKOFF_MS_MIN
        line.failed_address = None
        return connection

    async def _watch(self, to: NodeId, connection: Connection) -> None:
        """Nothing comes back on a control connection but its end; the next post dials anew."""
        try:
            await connection.receive()
        except BrokenConnection as error:
            self._count(error.reason)
            if error.reason in HUNG_UP:
                self._hints.give(to)
                self._lines[to].wake.set()
        else:
            self._count("unexpected")
        finally:
            connection.abort()

    async def _dial(self, to: NodeId) -> Connection:
        address = self._find_address(to)
        if address is None or not is_ipv4(address.host) or not address.port:
            raise BrokenConnection("no_address")
        try:
            connection = await self._meeting.dial(address, to, self._bind)
        except BrokenConnection as error:
            if error.reason == REFUSED_BY_PEER:
                self.refusals.pop(to, None)
                self.refusals[to] = error.words
                if len(self.refusals) > PEERS_MAX:
                    del self.refusals[next(iter(self.refusals))]
            else:
                self._misled(to, address)
                if is_refused(error):
                    self._hints.give(to)
            raise
        self.refusals.pop(to, None)
        return connection

    def _hear_evidence(self, peer: NodeId, body: bytes, host: str) -> None:
        self._receive(peer, 0, body, host)

    # --- in --------------------------------------------------------------------------------------

    async def _serve_newcomer(self, tcp: socket.socket, place: Place) -> None:
        connection: Connection | None = None
        try:
            try:
                async with asyncio.timeout(NEWCOMER_TIMEOUT_MS / 1_000):
                    connection = await accept_tls(tcp, self._tls.server)
                    if connection.certificate:
                        await self._meeting.answer(connection, self._refusal_for)
            except TimeoutError:
                raise BrokenConnection("newcomer_timeout") from None
            self._acceptor.newcomers.free(place)
            if connection.peer is None:
                await self._serve_at_door(connection)
            else:
                await self._serve_member(connection, connection.peer)
        except BrokenConnection as error:
            self._count(error.reason)
        finally:
            if connection is not None:
                connection.abort()

    def _refusal_for(self, node_id: NodeId) -> str:
        members = list(self._members.values())
        is_full = len(members) >= CONNECTIONS_MAX
        is_full = is_full or members.count(node_id) >= CONNECTIONS_PER_MEMBER_MAX
        return "too_many_connections" if is_full else ""

    async def _serve_member(self, connection: Connection, peer: NodeId) -> None:
        self._members[connection] = peer
        self._acceptor.newcomers.know(connection.host)
        callee = Callee(connection, self._verbs, self._spawn, self._count)
        heard_s = time.monotonic()
        try:
            while True:
                frame = await connection.receive()
                heard_s = time.monotonic()
                if isinstance(frame, Posted):
                    self._receive(peer, connection.boot_epoch, frame.body, connection.host)
                else:
                    callee.handle(frame)
        except BrokenConnection as error:
            quiet_ms = (time.monotonic() - heard_s) * 1_000
            is_goodbye = quiet_ms >= IDLE_TIMEOUT_MS - GOODBYE_MARGIN_MS
            if error.reason in HUNG_UP and not (is_goodbye and error.reason == "closed"):
                self._hints.give(peer)
            raise
        finally:
            callee.close()
            del self._members[connection]

    async def _serve_at_door(self, connection: Connection) -> None:
        if self._door is None:
            raise BrokenConnection("no_certificate")
        place = Place(connection.host)
        place.task = asyncio.current_task()
        ousted = self._at_door.take(place)
        if ousted is not None and ousted.task is not None:
            self._count("too_many_at_door")
            ousted.task.cancel()
        try:
            async with asyncio.timeout(DOOR_TIMEOUT_MS / 1_000):
                await self._door(connection.reader, connection.writer)
                await connection.end()
        except TimeoutError:
            raise BrokenConnection("door_timeout") from None
        except (OSError, EOFError):
            raise BrokenConnection("door_closed") from None
        except BrokenConnection:
            raise
        except Exception as failure:  # words of strangers: they must not end this agent
            raise BrokenConnection("door_failed") from failure
        finally:
            self._at_door.free(place)
            place.task = None

    async def _serve_until_closed(self, listening: socket.socket) -> None:
        accepting = self._spawn(self._acceptor.accept_forever(listening))
        try:
            await self._closed.wait()
        finally:
            accepting.cancel()
            await asyncio.wait([accepting])
            listening.close()
            self._hang_up()

    def _hang_up(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for connection in self._members:
            connection.abort()
        for caller in self._callers.values():
            caller.close()

    # --- both ------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        assert self._group is not None, "run() comes first"
        task = self._group.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _count(self, reason: str, times: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + times
