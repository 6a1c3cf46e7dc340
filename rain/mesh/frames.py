"""Frames on one TLS connection: a length of 4 bytes, then a packed frame, both ways.

TLS keeps what is said from others and says whose it is; a TLS 1.3 handshake looks like success
to the side whose certificate is refused, though, so each side introduces itself by a first frame
(see meeting.py), and until that is accepted the other end is a stranger: it gets little time and
little memory.
"""

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, SupportsIndex

from msgspec import Meta

from rain.mesh.certificates import BUNDLE_BYTES_MAX
from rain.mesh.codec import Rejected, by_tag, pack, unpack
from rain.model import Count, NodeId, Reason, ShortText, Value

FRAME_BYTES_MAX = 16 * 1024 * 1024
STRANGER_FRAME_BYTES_MAX = 8 * 1024
STRANGER_BYTES_MAX = 16 * 1024
EVIDENCE_BYTES_MAX = 12 * 1024
"""All that is taken in from a connection before it is somebody's."""
READ_AHEAD_BYTES = 64 * 1024
SEND_TIMEOUT_MS = 10_000
"""A peer that takes nothing for so long is stopped or swamped; its connection is cut."""
UNSENT_BYTES_MAX = 2 * FRAME_BYTES_MAX
CABLE_TIMEOUT_MS = 2_000
"""Bytes unacknowledged for so long break a connection, and so does silence of the machine."""
KEEPALIVE_S = 1
SHUTDOWN_TIMEOUT_S = 0.5
"""To say goodbye; a peer that has gone does not hold up anybody for longer."""

FRAME_PADDING_BYTES = 512
"""Tag, lengths, a verb: what a frame has around its body."""
CONTENT_BYTES_MAX = FRAME_BYTES_MAX - FRAME_PADDING_BYTES

ARGS_BYTES_MAX = 64 * 1024
"""Of a question. Many may wait for their answers at once, and each keeps its arguments."""

ShownBundle = Annotated[bytes, Meta(max_length=BUNDLE_BYTES_MAX)]

_LENGTH_BYTES = 4


class Frame(Value, frozen=True):
    """What travels on a connection."""


class Hello(Frame, frozen=True, tag="h"):
    """The first frame of who dialled: who I am, from which boot, and what I speak."""

    bundle: ShownBundle
    boot_epoch: Count
    protocol: Count


class Welcome(Frame, frozen=True, tag="w"):
    """The first frame of who was dialled, the same way round. Before it nothing is settled."""

    bundle: ShownBundle
    boot_epoch: Count
    protocol: Count


class Refused(Frame, frozen=True, tag="r"):
    """Instead of a welcome, and the last frame."""

    reason: ShortText
    evidence: Annotated[bytes, Meta(max_length=EVIDENCE_BYTES_MAX)] = b""
    """A message that proves it, for who was removed and has not heard of it."""


class Posted(Frame, frozen=True, tag="p"):
    body: bytes


class Call(Frame, frozen=True, tag="c"):
    call: Count
    verb: ShortText
    args: Annotated[bytes, Meta(max_length=ARGS_BYTES_MAX)]


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


_FRAMES: dict[str, type[Frame]] = by_tag(
    (Hello, Welcome, Refused, Posted, Call, Answer, Over, More, Cancel, Alive)
)


class BrokenConnection(Exception):
    """It is of no use any more; the reason is one word, to be counted, `words` are for people."""

    def __init__(self, reason: str, words: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.words = words or reason


class BoundedReader(asyncio.StreamReader):
    """Takes in no more than `bytes_max`, where that is not None; then it breaks."""

    def __init__(self, bytes_max: int | None) -> None:
        super().__init__(limit=READ_AHEAD_BYTES)
        self.bytes_max = bytes_max
        self._taken_bytes = 0

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        taken = bytes(data)
        if self.bytes_max is not None:
            self._taken_bytes += len(taken)
            if self._taken_bytes > self.bytes_max:
                if self.exception() is None:
                    self.set_exception(BrokenConnection("too_much"))
                return
        super().feed_data(taken)


class Connection:
    """One TLS connection to one node. `peer` is who dialled it or was dialled, once they met."""

    def __init__(self, reader: BoundedReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._awaited_bytes = 0
        self.peer: NodeId | None = None
        self.bundle = b""
        self.boot_epoch = 0
        address = writer.get_extra_info("peername") or ("", 0)
        self.host: str = address[0]
        own = writer.get_extra_info("sockname") or ("", 0)
        self.own_host: str = own[0]
        """The address of this PC that it goes out from, or came in at."""

    @property
    def is_closed(self) -> bool:
        return self.writer.is_closing()

    @property
    def certificate(self) -> bytes:
        """What the other end has shown and proven in the handshake (DER); empty: nothing."""
        tls = self.writer.get_extra_info("ssl_object")
        assert isinstance(tls, ssl.SSLObject), "every stream is TLS from its first byte"
        return tls.getpeercert(binary_form=True) or b""

    def settle(self, peer: NodeId, bundle: bytes, boot_epoch: int) -> None:
        """The other end is this node: from now on it is taken at its word."""
        self.peer = peer
        self.bundle = bundle
        self.boot_epoch = boot_epoch
        self.reader.bytes_max = None

    async def receive(self) -> Frame:
        """The next frame. May be cancelled and called again: nothing that was read is lost."""
        with _as_broken():
            if not self._awaited_bytes:
                header = await self.reader.readexactly(_LENGTH_BYTES)
                self._awaited_bytes = int.from_bytes(header, "big")
            limit = STRANGER_FRAME_BYTES_MAX if self.peer is None else FRAME_BYTES_MAX
            if not 0 < self._awaited_bytes <= limit:
                raise BrokenConnection("frame_length")
            packed = await self.reader.readexactly(self._awaited_bytes)
        self._awaited_bytes = 0
        frame = unpack(packed, _FRAMES)
        if isinstance(frame, Rejected):
            raise BrokenConnection(frame.reason)
        return frame

    def write(self, frame: Frame) -> None:
        """Hand a small frame to the kernel, soon."""
        if self.writer.is_closing():
            raise BrokenConnection("closed")
        if self.writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            raise BrokenConnection("unsent")
        packed = pack(frame)
        assert len(packed) <= FRAME_BYTES_MAX, f"a frame of {len(packed)} bytes"
        self.writer.write(len(packed).to_bytes(_LENGTH_BYTES, "big"))
        self.writer.write(packed)

    async def send(self, frame: Frame) -> None:
        """Write, then wait until the peer keeps up."""
        self.write(frame)
        try:
            async with asyncio.timeout(SEND_TIMEOUT_MS / 1_000):
                await self.writer.drain()
        except TimeoutError:
            raise BrokenConnection("send_timeout") from None
        except OSError as error:
            raise BrokenConnection("lost") from error

    async def end(self) -> None:
        """Hang up; what was written still goes out, if the peer takes it soon."""
        self.writer.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(2 * SHUTDOWN_TIMEOUT_S):
                await self.writer.wait_closed()
        self.abort()

    def abort(self) -> None:
        """Hang up, now."""
        self.writer.transport.abort()


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
