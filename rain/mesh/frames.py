"""Frames on one TCP connection: a length of 4 bytes, then a sealed envelope, both ways.

A connection begins with 16 random bytes from each side, in the clear. Their hash, the binding,
is repeated inside every sealed frame, so a frame counts on the connection it was written for and
on no other: a recorded stream that is played again is refused by its first frame, even by a node
that has been restarted since. The first frame of who dialled is a Hello. Until it is opened and
verified the other end is a stranger: it gets little time and little memory.
"""

import asyncio
import contextlib
import secrets
import socket
import sys
from collections.abc import Iterator
from hashlib import blake2b
from typing import Annotated

from msgspec import Meta

from rain.mesh.codec import Rejected, by_tag, pack, unpack
from rain.mesh.discovery import EVERYWHERE
from rain.mesh.envelope import FRAME_BODY_BYTES_MAX, FRAME_BYTES_MAX, Channel, Envelope
from rain.model import Address, Count, NodeId, Reason, ShortText, Value

STRANGER_FRAME_BYTES_MAX = 64 * 1024
READ_AHEAD_BYTES = 64 * 1024
CONNECT_TIMEOUT_MS = 1_000
SEND_TIMEOUT_MS = 10_000
"""A peer that takes nothing for so long is stopped or swamped; its connection is cut."""
UNSENT_BYTES_MAX = 2 * FRAME_BYTES_MAX
CABLE_TIMEOUT_MS = 2_000
"""Bytes unacknowledged for so long break a connection, and so does silence of the machine."""
KEEPALIVE_S = 1

BINDING_BYTES = 16
FRAME_PADDING_BYTES = 512
"""Binding, tag, lengths, a verb: what a frame has around its body."""
CONTENT_BYTES_MAX = FRAME_BODY_BYTES_MAX - FRAME_PADDING_BYTES

_LENGTH_BYTES = 4


class Frame(Value, frozen=True):
    """What travels on a connection, inside the seal."""


class Hello(Frame, frozen=True, tag="h"):
    """The first frame of who dialled: here I am, and I know the pool."""


class Posted(Frame, frozen=True, tag="p"):
    body: bytes


class Call(Frame, frozen=True, tag="c"):
    call: Count
    verb: ShortText
    args: bytes


class Answer(Frame, frozen=True, tag="a"):
    call: Count
    body: bytes


class Over(Frame, frozen=True, tag="o"):
    """The last frame of a call; it failed when `error` is not empty."""

    call: Count
    error: Reason = ""


class More(Frame, frozen=True, tag="m"):
    """The caller has taken so many bytes of answers: room for as many more."""

    call: Count
    taken_bytes: Annotated[int, Meta(ge=0, le=2**40)]


class Cancel(Frame, frozen=True, tag="x"):
    """The caller wants no more answers."""

    call: Count


class Alive(Frame, frozen=True, tag="l"):
    """There is nothing to answer yet, but the agent at this end does run."""


_FRAMES: dict[str, type[Frame]] = by_tag((Hello, Posted, Call, Answer, Over, More, Cancel, Alive))


class BrokenConnection(Exception):
    """It is of no use any more; the reason is one word, to be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Connection:
    """One TCP connection to one node. `peer` is who dialled it or was dialled."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        envelope: Envelope,
        peer: NodeId | None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._envelope = envelope
        self._binding = b""
        self._awaited_bytes = 0
        self.peer = peer
        self.boot_epoch = 0
        address = writer.get_extra_info("peername") or ("", 0)
        self.host: str = address[0]
        tune(writer.get_extra_info("socket"))

    @property
    def is_closed(self) -> bool:
        return self._writer.is_closing()

    async def greet(self, *, dialled: bool) -> None:
        """Exchange the random bytes that bind every later frame to this connection."""
        own = secrets.token_bytes(BINDING_BYTES)
        with _as_broken():
            self._writer.write(own)
            theirs = await self._reader.readexactly(BINDING_BYTES)
        both = own + theirs if dialled else theirs + own
        self._binding = blake2b(both, digest_size=BINDING_BYTES).digest()

    async def receive(self) -> Frame:
        """The next frame, verified to be the peer's, and for this node and connection.

        May be cancelled and called again: nothing that was read is lost.
        """
        with _as_broken():
            if not self._awaited_bytes:
                header = await self._reader.readexactly(_LENGTH_BYTES)
                self._awaited_bytes = int.from_bytes(header, "big")
            limit = STRANGER_FRAME_BYTES_MAX if self.peer is None else FRAME_BYTES_MAX
            if not 0 < self._awaited_bytes <= limit:
                raise BrokenConnection("frame_length")
            sealed = await self._reader.readexactly(self._awaited_bytes)
        self._awaited_bytes = 0
        return self._opened(sealed)

    def write(self, frame: Frame) -> None:
        """Hand a small frame to the kernel, soon."""
        assert self.peer is not None, "a stranger is told nothing"
        if self._writer.is_closing():
            raise BrokenConnection("closed")
        if self._writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            raise BrokenConnection("unsent")
        sealed = self._envelope.seal(self._binding + pack(frame), self.peer, Channel.STREAM)
        self._writer.write(len(sealed).to_bytes(_LENGTH_BYTES, "big"))
        self._writer.write(sealed)

    async def send(self, frame: Frame) -> None:
        """Write, then wait until the peer keeps up."""
        self.write(frame)
        try:
            async with asyncio.timeout(SEND_TIMEOUT_MS / 1_000):
                await self._writer.drain()
        except TimeoutError:
            raise BrokenConnection("send_timeout") from None
        except OSError as error:
            raise BrokenConnection("lost") from error

    def close(self) -> None:
        """What was written still goes out."""
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()

    def _opened(self, sealed: bytes) -> Frame:
        opened = self._envelope.open(sealed, Channel.STREAM)
        if isinstance(opened, Rejected):
            raise BrokenConnection(opened.reason)
        if self.peer is not None and opened.sender != self.peer:
            raise BrokenConnection("other_sender")
        if opened.body[:BINDING_BYTES] != self._binding:
            raise BrokenConnection("other_connection")
        frame = unpack(opened.body[BINDING_BYTES:], _FRAMES)
        if isinstance(frame, Rejected):
            raise BrokenConnection(frame.reason)
        self.peer = opened.sender
        self.boot_epoch = opened.boot_epoch
        return frame


async def dial(address: Address, peer: NodeId, envelope: Envelope, bind: str) -> Connection:
    """A connection to that node, greeted and introduced."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_MS / 1_000):
            reader, writer = await asyncio.open_connection(
                address.host,
                address.port,
                limit=READ_AHEAD_BYTES,
                local_addr=(bind, 0) if bind != EVERYWHERE else None,
            )
            try:
                connection = Connection(reader, writer, envelope, peer)
                await connection.greet(dialled=True)
                connection.write(Hello())
            except BaseException:
                writer.transport.abort()
                raise
    except TimeoutError:
        raise BrokenConnection("connect_timeout") from None
    except OSError as error:
        raise BrokenConnection("unreachable") from error
    return connection


@contextlib.contextmanager
def _as_broken() -> Iterator[None]:
    try:
        yield
    except EOFError as error:  # an incomplete read
        raise BrokenConnection("closed") from error
    except OSError as error:
        raise BrokenConnection("lost") from error


def tune(tcp: socket.socket) -> None:
    """Small frames go at once, and a cut cable is noticed while somebody still cares."""
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, CABLE_TIMEOUT_MS)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
