"""Nodes with real streams over real sockets on this machine, for the tests."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from rain.mesh.certificates import dns_name
from rain.mesh.codec import by_tag, pack, unpack
from rain.mesh.frames import Frame, Refused, Welcome
from rain.mesh.streams import Door, Streams
from rain.model import Address, NodeId
from rain.trust.credential import Credential
from tests.mesh.certified import CertifiedPool, node_of

HOST = "127.0.0.1"
FIRST_FRAMES = by_tag((Welcome, Refused))


class Realm:
    """A pool, where its nodes are, and who of them may not be here."""

    def __init__(self, folder: Path, certified: CertifiedPool | None = None) -> None:
        self.folder = folder
        self.certified = certified or CertifiedPool()
        self.book: dict[NodeId, Address] = {}
        self.removed: set[NodeId] = set()
        self.now_unix_s = self.certified.now_unix_s

    def admit(self, bundle: bytes) -> Credential | str:
        credential = self.certified.inspect(bundle)
        if credential is None:
            return "stranger"
        if credential.node_id in self.removed:
            return "removed"
        return credential if credential.until_unix_s > self.now_unix_s else "expired"


class Peer:
    """One node's streams, and what arrived there."""

    def __init__(
        self,
        name: str,
        realm: Realm,
        bundle: bytes = b"",
        door: Door | None = None,
    ) -> None:
        self.realm = realm
        self.node_id = node_of(name)
        self.inbox: asyncio.Queue[tuple[NodeId, bytes]] = asyncio.Queue()
        self.shown: list[bytes] = []
        self.tls = realm.certified.identity_of(name, realm.folder / name, bundle)
        self.streams = Streams(
            self.tls,
            self.node_id,
            1,
            lambda node_id: realm.book.get(node_id),
            self._receive,
            realm.admit,
            self.shown.append,
            door,
        )

    def _receive(self, sender: NodeId, boot_epoch: int, body: bytes, host: str) -> None:
        assert (boot_epoch, host) == (1, HOST)
        self.inbox.put_nowait((sender, body))


@asynccontextmanager
async def running(peer: Peer, port: int = 0) -> AsyncIterator[Peer]:
    await peer.streams.open(HOST, port)
    peer.realm.book[peer.node_id] = Address(HOST, peer.streams.port)
    task = asyncio.create_task(peer.streams.run())
    await asyncio.sleep(0)  # it begins
    try:
        yield peer
    finally:
        await peer.streams.close()
        await task


@asynccontextmanager
async def pool(folder: Path, *names: str) -> AsyncIterator[list[Peer]]:
    realm = Realm(folder)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(Peer(name, realm))) for name in names]


async def until_counted(peer: Peer, reason: str, times: int = 1) -> None:
    while peer.streams.dropped.get(reason, 0) < times:  # noqa: ASYNC110 counters ring no bell
        await asyncio.sleep(0.002)


async def connect(peer: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A plain connection, without TLS."""
    return await asyncio.open_connection(HOST, peer.streams.port)


@asynccontextmanager
async def tls_to(
    peer: Peer, context: ssl.SSLContext, host: str = HOST
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        HOST,
        peer.streams.port,
        ssl=context,
        server_hostname=dns_name(peer.node_id),
        local_addr=(host, 0),
        ssl_shutdown_timeout=0.5,
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def framed(frame: Frame) -> bytes:
    packed = pack(frame)
    return len(packed).to_bytes(4, "big") + packed


async def first_frame(reader: asyncio.StreamReader) -> object:
    length = int.from_bytes(await reader.readexactly(4), "big")
    return unpack(await reader.readexactly(length), FIRST_FRAMES)


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    """All that still comes, however the connection ends."""
    read = b""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while piece := await reader.read(1_000):
            read += piece
    return read


async def count_up(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
    """A verb of many answers."""
    for at in range(int(args)):
        yield b"%d" % at


async def take_all(answers: AsyncIterator[bytes]) -> list[bytes]:
    return [answer async for answer in answers]


async def speak(sender: Peer, receiver: Peer, body: bytes) -> None:
    """A frame goes from here to there: the pool works."""
    sender.streams.post(receiver.node_id, body)
    assert await receiver.inbox.get() == (sender.node_id, body)
