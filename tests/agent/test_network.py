"""What the envelope answers goes out by itself, and a newcomer's first word is said again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rain.agent.address_book import AddressBook
from rain.agent.network import OVERSIZE, Network
from rain.mesh.envelope import PACKET_BODY_BYTES_MAX, Opened
from rain.mesh.transport import Transport
from rain.model import Address
from tests.mesh.peers import HOST, Peer, Realm
from tests.mesh.rig import POOL_KEY
from tests.mesh.sealing import envelope

TIMEOUT_S = 10


class Station:
    """One node's network, and what it took."""

    def __init__(self, name: str, folder: Path) -> None:
        self.envelope = envelope(name)
        self.transport = Transport(HOST, 0, self._on_packet, self._on_beacon)
        self.book = AddressBook()
        self.keys_missed: list[Address] = []
        self.inbox: asyncio.Queue[Opened] = asyncio.Queue()
        self.changed = asyncio.Event()
        streams = Peer(name, Realm(folder)).streams
        self.network = Network(
            self.envelope,
            self.transport,
            streams,
            self.book,
            self._on_key_missing,
        )
        self.network.rekey([(1, POOL_KEY)], 1)

    @property
    def address(self) -> Address:
        return Address(HOST, self.transport.port)

    def _on_packet(self, packet: bytes, source: Address) -> None:
        opened = self.network.open(packet, source)
        if opened is not None:
            self.inbox.put_nowait(opened)
        self.changed.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Until what came in has made it so."""
        while not is_so():
            self.changed.clear()
            await self.changed.wait()

    def _on_beacon(self, packet: bytes, source: Address) -> None:
        raise AssertionError(f"no beacon was sent: {packet!r} from {source}")

    def _on_key_missing(self, source: Address) -> None:
        self.keys_missed.append(source)


@asynccontextmanager
async def running(*stations: Station) -> AsyncIterator[None]:
    for station in stations:
        await station.transport.open()
    tasks = [asyncio.create_task(station.transport.run()) for station in stations]
    try:
        yield
    finally:
        for station in stations:
            station.transport.close()
        await asyncio.gather(*tasks)


def play(folder: Path, story: Callable[[Station, Station], Awaitable[None]]) -> None:
    async def in_time() -> None:
        a, b = Station("a", folder), Station("b", folder)
        async with asyncio.timeout(TIMEOUT_S), running(a, b):
            await story(a, b)

    asyncio.run(in_time())


def test_a_newcomers_broadcast_is_said_again_to_who_could_not_take_it(tmp_path: Path) -> None:
    async def story(a: Station, b: Station) -> None:
        a.book.set_contacts([b.address])
        a.network.broadcast(b"join")

        assert await b.inbox.get() == Opened(a.envelope.node_id, 1, 3, b"join")
        b.network.send(a.envelope.node_id, a.address, b"welcome")
        assert (await a.inbox.get()).body == b"welcome"
        assert (a.inbox.qsize(), b.inbox.qsize()) == (0, 0)

    play(tmp_path, story)


def test_what_was_not_broadcast_is_not_said_again(tmp_path: Path) -> None:
    async def story(a: Station, b: Station) -> None:
        a.network.send(b.envelope.node_id, b.address, b"order")
        await b.until(lambda: "proof" in b.envelope.controls)
        a.network.send(b.envelope.node_id, b.address, b"order again")

        assert (await b.inbox.get()).body == b"order again"

    play(tmp_path, story)


def test_a_missing_key_is_told_once_in_a_while_and_taken_when_it_comes(tmp_path: Path) -> None:
    async def story(a: Station, b: Station) -> None:
        old, new = (1, POOL_KEY), (2, b"n" * 32)
        a.network.rekey([old, new], 2)
        for _ in range(5):
            a.network.send(b.envelope.node_id, b.address, b"x")
        await b.until(lambda: b.envelope.dropped.get("unknown_key", 0) == 5)
        assert b.keys_missed == [a.address]

        b.network.rekey([old, new], 1)
        a.network.cast([b.address], b"heard")
        await b.until(lambda: "proof" in b.envelope.controls)
        a.network.cast([b.address], b"taken")
        assert (await b.inbox.get()).body == b"taken"

    play(tmp_path, story)


def test_what_is_too_long_for_a_packet_is_counted_and_not_said(tmp_path: Path) -> None:
    async def story(a: Station, b: Station) -> None:
        longest, longer = bytes(PACKET_BODY_BYTES_MAX), bytes(PACKET_BODY_BYTES_MAX + 1)
        a.book.set_contacts([b.address])
        a.network.broadcast(longest)
        assert (await b.inbox.get()).body == longest

        a.network.send(b.envelope.node_id, b.address, longer)
        a.network.cast([b.address], longer)
        a.network.broadcast(longer)
        a.network.send(b.envelope.node_id, b.address, b"and on it goes")

        assert (await b.inbox.get()).body == b"and on it goes"
        assert a.envelope.dropped[OVERSIZE] == 3

    play(tmp_path, story)


def test_two_sides_that_changed_keys_apart_come_to_ask(tmp_path: Path) -> None:
    async def story(a: Station, b: Station) -> None:
        # Both took the number 2, for two keys: what one seals is a stranger's to the other.
        a.network.rekey([(2, b"a" * 32)], 2)
        b.network.rekey([(2, b"b" * 32)], 2)
        for _ in range(5):
            a.network.cast([b.address], b"beat")
        await b.until(lambda: b.envelope.dropped.get("stranger", 0) == 5)
        assert b.keys_missed == [a.address], "asked for once in a while only"

    play(tmp_path, story)


def test_who_is_done_with_a_key_asks_when_others_still_use_it(tmp_path: Path) -> None:
    async def story(a: Station, b: Station) -> None:
        b.network.rekey([(2, b"b" * 32)], 2)
        a.network.cast([b.address], b"beat")
        await b.until(lambda: b.envelope.dropped.get("old_key", 0) == 1)
        assert b.keys_missed == [a.address], "it may be all that is known of where somebody is"

    play(tmp_path, story)
