"""Questions with many answers (views, logs), on connections apart from control.

One connection per asking and answering node carries all their calls side by side. The caller
grants room: CALL_WINDOW_BYTES of answers may be under way per call, and more as it takes them. So
the connection is always read to its end, a reader who pauses holds up nobody else's call, and
memory is bounded on both sides. A caller that stops asking cancels, which ends the answering
generator; an error there travels as the last frame.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine

from rain.mesh.frames import (
    ARGS_BYTES_MAX,
    CONTENT_BYTES_MAX,
    Alive,
    Answer,
    BrokenConnection,
    Call,
    Cancel,
    Connection,
    Frame,
    More,
    Over,
)
from rain.model import REASON_CHARS_MAX, NodeId

CALLS_MAX = 256
"""Calls under way from one node to another."""
CALL_WINDOW_BYTES = 256 * 1024
ANSWER_OVERHEAD_BYTES = 64
ALIVE_INTERVAL_MS = 5_000
SILENCE_TIMEOUT_MS = 15_000
"""Not even an Alive for so long: the agent at the other end hangs, its calls fail."""
IDLE_TIMEOUT_MS = 60_000
POLL_INTERVAL_MS = 2_500

Serve = Callable[[NodeId, bytes], AsyncIterator[bytes]]
"""(who asks, arguments) -> answers, each at most CONTENT_BYTES_MAX. It may raise CallError."""
Spawn = Callable[[Coroutine[None, None, None]], asyncio.Task[None]]
Dial = Callable[[], Awaitable[Connection]]
Count = Callable[[str], None]


def _cost(answer: bytes) -> int:
    """What an answer takes of the window: empty ones are not free."""
    return len(answer) + ANSWER_OVERHEAD_BYTES


class CallError(Exception):
    """The call failed: nobody there, a cut connection, or the answering side's own words."""


class _Outgoing:
    """One call as the caller sees it: answers that came and were not taken yet."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.answers: deque[bytes] = deque()
        self.waiting_bytes = 0
        self.untold_bytes = 0
        self.error: str | None = None
        self.changed = asyncio.Event()

    def end(self, error: str) -> None:
        if self.error is None:
            self.error = error
        self.changed.set()


class Caller:
    """The asking side towards one node; dials when there is something to ask."""

    def __init__(self, dial: Dial, spawn: Spawn, count: Count) -> None:
        self._dial = dial
        self._spawn = spawn
        self._count = count
        self._dialling = asyncio.Lock()
        self._connection: Connection | None = None
        self._calls: dict[int, _Outgoing] = {}
        self._last_call = 0
        self._quiet_since = 0.0

    @property
    def is_idle(self) -> bool:
        return self._connection is None and not self._calls and not self._dialling.locked()

    @property
    def connection(self) -> Connection | None:
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    async def call(self, verb: str, args: bytes) -> AsyncGenerator[bytes, None]:
        if len(args) > ARGS_BYTES_MAX:
            raise CallError("the question is too long")
        if len(self._calls) >= CALLS_MAX:
            raise CallError("too many calls to that node at once")
        connection = await self._connected()
        self._last_call += 1
        number, call = self._last_call, _Outgoing(connection)
        self._calls[number] = call
        self._quiet_since = asyncio.get_running_loop().time()
        try:
            await connection.send(Call(number, verb, args))
            while (answer := await self._next(number, call)) is not None:
                yield answer
        except BrokenConnection as error:
            connection.abort()
            raise CallError(f"the connection broke ({error.reason})") from None
        finally:
            del self._calls[number]
            if call.error is None:
                self._tell(connection, Cancel(number))

    async def _next(self, number: int, call: _Outgoing) -> bytes | None:
        while not call.answers:
            if call.error:
                raise CallError(call.error)
            if call.error is not None:
                return None
            call.changed.clear()
            await call.changed.wait()
        answer = call.answers.popleft()
        call.waiting_bytes -= _cost(answer)
        call.untold_bytes += _cost(answer)
        if call.untold_bytes >= CALL_WINDOW_BYTES // 4 and call.error is None:
            self._tell(call.connection, More(number, call.untold_bytes))
            call.untold_bytes = 0
        return answer

    async def _connected(self) -> Connection:
        async with self._dialling:
            if self._connection is None or self._connection.is_closed:
                try:
                    self._connection = await self._dial()
                except BrokenConnection as error:
                    self._count(error.reason)
                    raise CallError(f"that node does not answer ({error.words})") from None
                self._spawn(self._read_forever(self._connection))
            return self._connection

    async def _read_forever(self, connection: Connection) -> None:
        self._quiet_since = asyncio.get_running_loop().time()
        reason = "lost"
        try:
            while True:
                frame = await self._receive(connection)
                if frame is not None:
                    self._on_frame(frame)
        except BrokenConnection as error:
            reason = error.reason
            self._count(reason)
        finally:
            connection.abort()
            if self._connection is connection:
                self._connection = None
            for call in self._calls.values():
                if call.connection is connection:
                    call.end(f"the connection broke ({reason})")

    async def _receive(self, connection: Connection) -> Frame | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(POLL_INTERVAL_MS / 1_000):
                frame = await connection.receive()
        except TimeoutError:
            quiet_ms = (loop.time() - self._quiet_since) * 1_000
            if self._calls and quiet_ms >= SILENCE_TIMEOUT_MS:
                raise BrokenConnection("silent") from None
            if not self._calls and quiet_ms >= IDLE_TIMEOUT_MS:
                raise BrokenConnection("idle") from None
            return None
        self._quiet_since = loop.time()
        return frame

    def _on_frame(self, frame: Frame) -> None:
        match frame:
            case Answer(call=number, body=body):
                call = self._calls.get(number)
                if call is None:
                    return  # cancelled while the answer was under way
                if call.waiting_bytes >= CALL_WINDOW_BYTES:
                    raise BrokenConnection("flood")
                call.answers.append(body)
                call.waiting_bytes += _cost(body)
                call.changed.set()
            case Over(call=number, error=error):
                if number in self._calls:
                    self._calls[number].end(error)
            case Alive():
                pass
            case _:
                raise BrokenConnection("unexpected")

    def _tell(self, connection: Connection, frame: Frame) -> None:
        try:
            connection.write(frame)
        except BrokenConnection as error:
            self._count(error.reason)
            connection.abort()


class _Incoming:
    """One call as the answering side sees it: its task, and the answers under way."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.under_way_bytes = 0
        self.room = asyncio.Event()


class Callee:
    """The answering side of one connection."""

    def __init__(
        self, connection: Connection, verbs: dict[str, Serve], spawn: Spawn, count: Count
    ) -> None:
        self._connection = connection
        self._verbs = verbs
        self._spawn = spawn
        self._count = count
        self._calls: dict[int, _Incoming] = {}
        self._pulse: asyncio.Task[None] | None = None

    def handle(self, frame: Frame) -> None:
        """What the caller wants; anything else than a call, More and Cancel breaks off."""
        match frame:
            case Call(call=number) if number in self._calls:
                raise BrokenConnection("unexpected")
            case Call(call=number) if len(self._calls) >= CALLS_MAX:
                self._connection.write(Over(number, "too many calls to this node at once"))
            case Call(call=number, verb=verb, args=args):
                call = self._calls[number] = _Incoming()
                call.task = self._spawn(self._answer(number, call, verb, args))
                # Not in the task itself: cancelled before its first step it runs no line.
                call.task.add_done_callback(lambda _: self._calls.pop(number, None))
                if self._pulse is None:
                    self._pulse = self._spawn(self._beat_forever())
            case More(call=number, taken_bytes=taken_bytes):
                waiting = self._calls.get(number)
                if waiting is not None:
                    waiting.under_way_bytes = max(0, waiting.under_way_bytes - taken_bytes)
                    waiting.room.set()
            case Cancel(call=number):
                cancelled = self._calls.get(number)
                if cancelled is not None and cancelled.task is not None:
                    cancelled.task.cancel()
            case _:
                raise BrokenConnection("unexpected")

    def close(self) -> None:
        """The connection is gone: nobody waits for these answers."""
        for call in self._calls.values():
            if call.task is not None:
                call.task.cancel()
        if self._pulse is not None:
            self._pulse.cancel()

    async def _answer(self, number: int, call: _Incoming, verb: str, args: bytes) -> None:
        error = ""
        try:
            serve = self._verbs.get(verb)
            if serve is None:
                raise CallError(f"this node knows no {verb!r}; upgrade Rain there")
            assert self._connection.peer is not None, "only somebody who was let in calls"
            await self._send_answers(number, call, serve(self._connection.peer, args))
        except BrokenConnection as broken:
            self._count(broken.reason)
            self._connection.abort()
        except CallError as refused:
            error = str(refused)
        except Exception:  # arguments come from a peer: they must not end this agent
            # Nor learn from it: an exception may quote what is nobody's business.
            self._count("call_failed")
            error = "failed here"
        finally:
            self._say_over(Over(number, error[:REASON_CHARS_MAX]))

    async def _send_answers(
        self, number: int, call: _Incoming, answers: AsyncIterator[bytes]
    ) -> None:
        try:
            async for answer in answers:
                if len(answer) > CONTENT_BYTES_MAX:
                    raise CallError("one answer is too long for a frame")
                while call.under_way_bytes >= CALL_WINDOW_BYTES:
                    call.room.clear()
                    await call.room.wait()
                call.under_way_bytes += _cost(answer)
                await self._connection.send(Answer(number, answer))
        finally:
            if isinstance(answers, AsyncGenerator):
                await answers.aclose()

    def _say_over(self, frame: Over) -> None:
        try:
            self._connection.write(frame)
        except BrokenConnection as broken:
            self._count(broken.reason)

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_INTERVAL_MS / 1_000)
            if self._calls:
                try:
                    self._connection.write(Alive())
                except BrokenConnection:
                    return
