"""Packets over UDP: one socket, one port, IPv4. The only file that touches asyncio_dgram.

`send` and `broadcast` never wait and never raise: what the network refuses (no route, a firewall,
a full buffer) is counted in `dropped` and the packet is lost, as packets may be. `run` does the
work and belongs into the agent's task group; it ends with `close`.

A socket that is bound to one address of its own hears no broadcasts on Linux, so then a second one
listens at the broadcast address of that interface; it never sends.

Two kinds of packets share the port, told apart by their first bytes: those of the pool and the
clear beacons (see beacon.py). What is sent only because a packet asked for it goes out by `answer`
and `answer_beacon`, so much a second and no more: a source address may be forged. Whoever asks by
beacon uses up its own address's share first, and what it is not told is not made either.
"""

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Iterable

import asyncio_dgram
from asyncio_dgram.aio import DatagramServer, TransportClosed

from rain.mesh.beacon import BEACON_MAGIC
from rain.mesh.discovery import (
    EVERYWHERE,
    broadcast_addresses,
    is_ipv4,
    is_loopback,
    own_address,
)
from rain.mesh.envelope import PACKET_BYTES_MAX
from rain.mesh.errors import MeshError
from rain.model import Address

PACKETS_WAITING_MAX = 4_096
"""Packets that wait to be sent; more are dropped: the kernel takes none any more."""
PACKETS_PER_TURN = 64
"""Packets read or sent before other work of the agent gets its turn."""
BROADCAST_ADDRESSES_MAX = 128
USUAL_PORT = 7_246
"""The port of an agent that was told no other."""
RECEIVE_BUFFER_BYTES = 1024 * 1024
SEND_TIMEOUT_MS = 100
ERRORS_SHOWN_MAX = 32

ANSWERS_PER_SECOND_MAX = 1_024
"""Of the envelope's: whoever draws one has, or has recorded, a packet of the pool."""
BEACON_ANSWERS_PER_SECOND_MAX = 50
"""Anybody can ask by beacon."""
BEACON_ANSWERS_PER_HOST_MAX = 8
"""Of these to one address; somebody who seeks a pool asks once or twice a second."""

Receive = Callable[[bytes, Address], None]


class _Quota:
    """So many a second."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = 0
        self._used = 0

    def take(self, now_s: float) -> bool:
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._used = 0
        self._used += 1
        return self._used <= self._per_second


class _SharedQuota(_Quota):
    """So many a second for all, and so many for each."""

    def __init__(self, per_second: int, per_host: int) -> None:
        super().__init__(per_second)
        self._per_host = per_host
        self._used_by: dict[str, int] = {}
        """Of this second; no longer than the quota, as what is refused is not noted."""

    def take_for(self, host: str, now_s: float) -> bool:
        if int(now_s) != self._second:
            self._used_by.clear()
        if self._used_by.get(host, 0) >= self._per_host or not self.take(now_s):
            return False
        self._used_by[host] = self._used_by.get(host, 0) + 1
        return True


class Transport:
    """Packets in by the callbacks, packets out by `send`, `broadcast` and the answers."""

    def __init__(self, bind: str, port: int, receive: Receive, beacon: Receive) -> None:
        self._bind = bind
        self._port = port
        self._receive = receive
        self._beacon = beacon
        self._answers = _Quota(ANSWERS_PER_SECOND_MAX)
        self._beacon_answers = _SharedQuota(
            BEACON_ANSWERS_PER_SECOND_MAX, BEACON_ANSWERS_PER_HOST_MAX
        )
        self._streams: list[DatagramServer] = []
        self._waiting: deque[tuple[bytes, tuple[str, int]]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self.dropped: dict[str, int] = {}

    async def open(self) -> None:
        """Take the port. MeshError when it is not to be had."""
        main = _bound_socket(self._bind, self._port)
        self._port = main.getsockname()[1]
        self._streams = [await _stream(main)]
        if self._bind != EVERYWHERE and not is_loopback(self._bind):
            for address in broadcast_addresses(self._bind):
                listener = self._listener(address)
                if listener is not None:
                    self._streams.append(await _stream(listener))

    async def run(self) -> None:
        """Receive and send until `close`."""
        assert self._streams, "open() comes first"
        async with asyncio.TaskGroup() as group:
            for stream in self._streams:
                group.create_task(self._receive_forever(stream))
            group.create_task(self._send_forever(self._streams[0]))

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        for stream in self._streams:
            stream.close()

    @property
    def port(self) -> int:
        """The port taken; differs from the one asked for when that was 0."""
        return self._port

    def own_address(self) -> Address:
        """A guess at where others reach this node."""
        return Address(own_address(self._bind), self._port)

    def send(self, address: Address, packet: bytes) -> None:
        """Send one packet, if it can be sent."""
        assert len(packet) <= PACKET_BYTES_MAX, f"a packet of {len(packet)} bytes"
        if not is_ipv4(address.host) or not address.port:
            self._count("bad_address")
        elif len(self._waiting) >= PACKETS_WAITING_MAX:
            self._count("queue_full")
        else:
            self._waiting.append((packet, (address.host, address.port)))
            self._wake.set()

    def broadcast(self, packet: bytes, extra_addresses: Iterable[Address] = ()) -> None:
        """Send one packet into every real network of this PC, and to these addresses."""
        # A node on a port of its own calls those on the usual one too: they answer to its port.
        ports = dict.fromkeys((self._port, USUAL_PORT))
        lan = [Address(host, port) for host in broadcast_addresses(self._bind) for port in ports]
        targets = list(dict.fromkeys([*lan, *extra_addresses]))
        for address in targets[:BROADCAST_ADDRESSES_MAX]:
            self.send(address, packet)

    def answer(self, address: Address, packet: bytes) -> None:
        """Send what the envelope replies to where a packet came from."""
        if self._answers.take(asyncio.get_running_loop().time()):
            self.send(address, packet)
        else:
            self._count("answers")

    def answer_beacon(self, address: Address, make: Callable[[], bytes]) -> None:
        """Make a beacon and send it to where one came from, if there is one left to give."""
        if self._beacon_answers.take_for(address.host, asyncio.get_running_loop().time()):
            self.send(address, make())
        else:
            self._count("answers")

    async def _receive_forever(self, stream: DatagramServer) -> None:
        while not self._closing:
            for _ in range(PACKETS_PER_TURN):
                try:
                    packet, source = await stream.recv()
                except TransportClosed:
                    self._on_closed()
                    return
                except OSError as error:
                    self._count_error(error)
                    continue
                assert isinstance(source, tuple), "an IPv4 socket hears from host and port"
                packet = bytes(packet)
                receive = self._beacon if packet.startswith(BEACON_MAGIC) else self._receive
                receive(packet, Address(source[0], source[1]))
            await asyncio.sleep(0)

    async def _send_forever(self, stream: DatagramServer) -> None:
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                for _ in range(min(PACKETS_PER_TURN, len(self._waiting))):
                    packet, target = self._waiting.popleft()
                    try:
                        await self._send(stream, packet, target)
                    except TransportClosed:
                        self._on_closed()
                        return
                await asyncio.sleep(0)

    async def _send(self, stream: DatagramServer, packet: bytes, target: tuple[str, int]) -> None:
        # asyncio_dgram raises the error of an earlier packet instead of sending this one.
        for _ in range(ERRORS_SHOWN_MAX):
            try:
                _ = stream.exception
                break
            except OSError as error:
                self._count_error(error)
        try:
            async with asyncio.timeout(SEND_TIMEOUT_MS / 1_000):
                await stream.send(packet, target)
        except TimeoutError:
            self._count("send_timeout")
        except OSError as error:
            self._count_error(error)

    def _on_closed(self) -> None:
        if not self._closing:
            raise MeshError("the network socket was closed by the system", "start rain up again")

    def _listener(self, broadcast: str) -> socket.socket | None:
        """Hears broadcasts for a socket bound to one address; without it others are not found."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.setblocking(False)
        # Two agents of one machine, bound to addresses of their own, both hear the network.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((broadcast, self._port))
        except OSError as error:
            self._count_error(error)
            listener.close()
            return None
        return listener

    def _count_error(self, error: OSError) -> None:
        self._count(errno.errorcode.get(error.errno or 0, "error"))

    def _count(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


async def _stream(bound: socket.socket) -> DatagramServer:
    stream = await asyncio_dgram.from_socket(bound)
    assert isinstance(stream, DatagramServer), "the socket is not connected to one peer"
    return stream


def _bound_socket(bind: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    try:
        bound.bind((bind, port))
    except OSError as error:
        bound.close()
        raise bind_error(bind, port, error) from None
    return bound


def bind_error(bind: str, port: int, error: OSError) -> MeshError:
    """What to tell a person whose port or address cannot be had."""
    if error.errno == errno.EADDRINUSE:
        return MeshError(
            f"port {port} of {bind} is taken: is another rain up running on this PC?",
            "see: rain status; or choose another port: rain up --port N",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return MeshError(
            f"{bind} is no address of this PC",
            "rain up --bind takes one of this PC's own IPv4 addresses; without it: all of them",
        )
    if error.errno == errno.EACCES:
        return MeshError(f"port {port} is reserved for root", "choose a port above 1023: --port N")
    return MeshError(
        f"cannot listen on {bind}:{port}: {error.strerror or error}",
        "check rain up --bind and --port",
    )
