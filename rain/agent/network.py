"""The mesh as the driver sees it: bodies in, bodies out; sealing and addresses are done here."""

from collections.abc import Iterable

from rain.agent.address_book import AddressBook
from rain.mesh.codec import Rejected
from rain.mesh.envelope import PACKET_BODY_BYTES_MAX, Envelope, Opened
from rain.mesh.streams import Streams
from rain.mesh.transport import Transport
from rain.model import Address, NodeId


class Network:
    """Seals what the node says and hands it to UDP or TCP."""

    def __init__(
        self, envelope: Envelope, transport: Transport, streams: Streams, book: AddressBook
    ) -> None:
        self._envelope = envelope
        self._transport = transport
        self._streams = streams
        self._book = book

    def send(self, to: NodeId, address: Address, body: bytes) -> None:
        self._transport.send(address, self._seal(body, to))

    def cast(self, to: Iterable[Address], body: bytes) -> None:
        packet = self._seal(body, None)
        for address in to:
            self._transport.send(address, packet)

    def broadcast(self, body: bytes) -> None:
        self._transport.broadcast(self._seal(body, None), self._book.ring())

    def post(self, to: NodeId, body: bytes) -> None:
        self._streams.post(to, body)

    def open(self, packet: bytes) -> Opened | None:
        """A packet that the pool sent us; None: counted and dropped."""
        opened = self._envelope.open(packet)
        return None if isinstance(opened, Rejected) else opened

    def _seal(self, body: bytes, to: NodeId | None) -> bytes:
        assert len(body) <= PACKET_BODY_BYTES_MAX, f"a packet body of {len(body)} bytes"
        return self._envelope.seal(body, to)
