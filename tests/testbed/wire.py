"""The wire itself: everything that crosses the switch of a LAN is seen, and frames are put on it.

A sniffer listens where a tap in the switch would: it keeps each Ethernet frame once, as it comes
in from a PC. A recorded frame can be sent out of the switch to a PC, byte for byte, with the
sender's addresses in it.
"""

import ctypes
import os
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType

CLONE_NEWNET = 0x4000_0000
ETH_P_ALL = 3
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 64 * 1024 * 1024
FRAME_BYTES_MAX = 2**17
"""Segments are joined before a virtual cable: frames may be larger than an Ethernet's."""
RECORDED_BYTES_MAX = 256 * 1024 * 1024
WAKE_S = 0.1
TCP, UDP = 6, 17
RAIN_PORT = 7246

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """What this thread starts meanwhile is in that network namespace."""
    with open("/proc/thread-self/ns/net", "rb") as home:
        _enter(f"/run/netns/{namespace}")
        try:
            yield
        finally:
            _enter(f"/proc/self/fd/{home.fileno()}")


def _enter(path: str) -> None:
    with open(path, "rb") as there:
        if _libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def socket_in(namespace: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket of that network namespace, to be used from here."""
    with inside(namespace):
        return socket.socket(family, kind, protocol)


@dataclass(frozen=True)
class Frame:
    """One IPv4 frame of UDP or TCP."""

    raw: bytes
    protocol: int
    source: str
    target: str
    source_port: int
    target_port: int
    payload: bytes

    def reflected(self) -> "Frame":
        """The same payload on its way back to who sent it."""
        raw = self.raw
        back = raw[6:12] + raw[:6] + raw[12:26] + raw[30:34] + raw[26:30] + raw[34:]
        return replace(
            self,
            raw=back,
            source=self.target,
            target=self.source,
            source_port=self.target_port,
            target_port=self.source_port,
        )


class Sniffer:
    """Records what comes into a switch, from `with` on."""

    def __init__(self, switch: str) -> None:
        self._tap = socket_in(switch, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._tap.settimeout(WAKE_S)
        self._frames: list[bytes] = []
        self._is_over = threading.Event()
        self._listening = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Sniffer":
        self._listening.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._listening.join()
        self._tap.close()

    def _listen(self) -> None:
        recorded = 0
        while not self._is_over.is_set():
            try:
                raw, (port, _, kind, *_) = self._tap.recvfrom(FRAME_BYTES_MAX)
            except TimeoutError:
                continue
            if kind == PACKET_OUTGOING or not port.startswith("port"):
                continue
            recorded += len(raw)
            assert recorded < RECORDED_BYTES_MAX, "too much for one recording"
            self._frames.append(raw)

    @property
    def frames(self) -> list[bytes]:
        return list(self._frames)

    def seen(self, protocol: int, port: int = RAIN_PORT) -> list[Frame]:
        """Frames so far of that kind, from or to that port."""
        read = (read_frame(raw) for raw in self.frames)
        return [
            frame
            for frame in read
            if frame is not None
            and frame.protocol == protocol
            and port in (frame.source_port, frame.target_port)
        ]

    def packets(self, source: str, target: str = "") -> list[Frame]:
        """UDP of Rain from that PC (to that one)."""
        return [
            frame
            for frame in self.seen(UDP)
            if frame.source == source and target in ("", frame.target)
        ]

    def text(self) -> bytes:
        """All that a listener can read: each frame, and the bytes of each TCP stream in a row."""
        flows: dict[tuple[str, str, int, int], bytearray] = defaultdict(bytearray)
        for raw in self.frames:
            frame = read_frame(raw)
            if frame is not None and frame.protocol == TCP:
                flow = (frame.source, frame.target, frame.source_port, frame.target_port)
                flows[flow] += frame.payload
        return b"\0".join([*self.frames, *map(bytes, flows.values())])


class Injector:
    """Sends frames out of one port of the switch, to the PC that is plugged in there."""

    def __init__(self, switch: str, port: str) -> None:
        self._out = socket_in(switch, socket.AF_PACKET, socket.SOCK_RAW)
        self._out.bind((port, 0))

    def play(self, frame: Frame, payload: bytes | None = None) -> None:
        """That frame of UDP once more; with another payload, if one is given."""
        self._out.send(_ether_frame(frame, frame.payload if payload is None else payload))

    def __enter__(self) -> "Injector":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._out.close()


def read_frame(raw: bytes) -> Frame | None:
    """None for what is neither UDP nor TCP over IPv4."""
    if len(raw) < 34 or raw[12:14] != b"\x08\x00":
        return None
    header = (raw[14] & 15) * 4
    length = int.from_bytes(raw[16:18], "big")
    protocol = raw[23]
    content = raw[14 + header : 14 + length] if length else raw[14 + header :]
    if protocol not in (TCP, UDP) or len(content) < 8:
        return None
    source_port, target_port = struct.unpack_from(">HH", content)
    skipped = 8 if protocol == UDP else (content[12] >> 4) * 4
    return Frame(
        raw,
        protocol,
        socket.inet_ntoa(raw[26:30]),
        socket.inet_ntoa(raw[30:34]),
        source_port,
        target_port,
        content[skipped:],
    )


def _ether_frame(frame: Frame, payload: bytes) -> bytes:
    """Ethernet, IPv4 and UDP around these bytes, with the addresses of a recorded frame."""
    header = bytearray(frame.raw[14:34])
    header[0] = 0x45
    header[2:4] = (20 + 8 + len(payload)).to_bytes(2, "big")
    header[10:12] = b"\0\0"
    header[10:12] = _checksum(bytes(header)).to_bytes(2, "big")
    # The sum of a recorded packet is often not filled in yet; none is needed over IPv4.
    ports = struct.pack(">HHHH", frame.source_port, frame.target_port, 8 + len(payload), 0)
    return frame.raw[:14] + bytes(header) + ports + payload


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
