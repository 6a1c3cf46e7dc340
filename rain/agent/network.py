"""The mesh as the driver sees it: bodies in, bodies out; sealing and addresses are done here.

A packet that the envelope answers by itself is answered here, and no more is heard of it. Where
that answer proves to somebody that this node is alive, what was broadcast just before went unheard
there, so it is said once more: otherwise a newcomer would wait for its next announcement.
"""

import time
from collections.abc import Callable, Iterable

from rain.agent.address_book import AddressBook
from rain.mesh.codec import Rejected
from rain.mesh.envelope import PACKET_BODY_BYTES_MAX, Envelope, Opened, Reply
from rain.mesh.streams import Streams
from rain.mesh.transport import Transport
from rain.model import Address, NodeId

REPEAT_WITHIN_S = 1.0
"""How long a broadcast is worth repeating to who could not take it."""
KEY_MISSING_INTERVAL_S = 1.0
"""How often the node is told that it lacks a key: anybody can make up a packet that says so."""

OVERSIZE = "oversize_to_send"


KEY_DOUBT_INTERVAL_S = 5.0
"""The same where the packet may be anybody's, or one from long ago."""
KEY_DOUBTS = (Rejected("old_key"), Rejected("stranger"))


class Network:
    """Seals what the node says and hands it to UDP or TCP."""

    def __init__(
        self,
        envelope: Envelope,
        transport: Transport,
        streams: Streams,
        book: AddressBook,
        on_key_missing: Callable[[Address], None],
    ) -> None:
        self.envelope = envelope
        self._transport = transport
        self._streams = streams
        self._book = book
        self._on_key_missing = on_key_missing
        self._key_missed_at = -KEY_MISSING_INTERVAL_S
        self._key_doubted_at = -KEY_DOUBT_INTERVAL_S
        self._is_keyed = False
        """Before the first pool key there is nothing to seal with: packets may be lost."""
        self._broadcast_last = b""
        self._broadcast_at = 0.0

    def send(self, to: NodeId, address: Address, body: bytes) -> None:
        if not self._is_keyed:
            return
        packet = self._seal(body, to)
        if packet:
            self._transport.send(address, packet)

    def cast(self, to: Iterable[Address], body: bytes) -> None:
        if not self._is_keyed:
            return
        packet = self._seal(body, None)
        for address in to if packet else ():
            self._transport.send(address, packet)

    def broadcast(self, body: bytes) -> None:
        if not self._is_keyed:
            return
        packet = self._seal(body, None)
        if packet:
            self._broadcast_last = body
            self._broadcast_at = time.monotonic()
            self._transport.broadcast(packet, self._book.ring())

    def post(self, to: NodeId, body: bytes) -> None:
        self._streams.post(to, body)

    def open(self, packet: bytes, source: Address) -> Opened | None:
        """A packet that the pool sent us; None: answered, or counted and dropped."""
        opened = self.envelope.open(packet)
        if isinstance(opened, Opened):
            return opened
        if isinstance(opened, Reply):
            self._transport.answer(source, opened.packet)
            if opened.proves and time.monotonic() - self._broadcast_at < REPEAT_WITHIN_S:
                self._transport.answer(source, self._seal(self._broadcast_last, None))
        elif opened == Rejected("unknown_key"):
            self._miss_key(source)
        elif opened in KEY_DOUBTS:
            self._doubt_key(source)
        return None

    def rekey(self, keys: Iterable[tuple[int, bytes]], use: int) -> None:
        """The pool's keys from now on, and the one to seal with."""
        self.envelope.set_ring(keys, use)
        self._is_keyed = True

    def expel(self) -> None:
        """Somebody may not be here any more: hang up on who is refused by now."""
        self._streams.review()

    def _doubt_key(self, source: Address) -> None:
        """Somebody may seal with a key that this node is done with, or that another took the
        number of: two sides that changed keys apart would never ask each other. Nor can who is
        done with it, and has started anew, know any address but the one this came from."""
        now_s = time.monotonic()
        if now_s - self._key_doubted_at >= KEY_DOUBT_INTERVAL_S:
            self._key_doubted_at = now_s
            self._on_key_missing(source)

    def _miss_key(self, source: Address) -> None:
        now_s = time.monotonic()
        if now_s - self._key_missed_at >= KEY_MISSING_INTERVAL_S:
            self._key_missed_at = now_s
            self._on_key_missing(source)

    def _seal(self, body: bytes, to: NodeId | None) -> bytes:
        """The packet; empty, and counted with the packets refused, if the body is too long.

        Every type is bounded so that this cannot be. Should a bound be missing, a peer who finds
        that out must not be able to end this agent by it.
        """
        if len(body) > PACKET_BODY_BYTES_MAX:
            dropped = self.envelope.dropped
            dropped[OVERSIZE] = dropped.get(OVERSIZE, 0) + 1
            return b""
        return self.envelope.seal(body, to)
