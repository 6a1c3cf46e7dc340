"""Packets over real sockets on this machine."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rain.mesh.beacon import BEACON_MAGIC
from rain.mesh.discovery import broadcast_addresses, is_ipv4, list_interfaces, own_address
from rain.mesh.errors import MeshError
from rain.mesh.transport import (
    ANSWERS_PER_SECOND_MAX,
    BEACON_ANSWERS_PER_HOST_MAX,
    BEACON_ANSWERS_PER_SECOND_MAX,
    PACKETS_WAITING_MAX,
    Transport,
    _SharedQuota,
)
from rain.model import Address
from tests.mesh.conftest import Run

HOST = "127.0.0.1"


class Inbox:
    def __init__(self) -> None:
        self.packets: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.beacons: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()

    def receive(self, packet: bytes, source: Address) -> None:
        self.packets.put_nowait((packet, source))

    def beacon(self, packet: bytes, source: Address) -> None:
        self.beacons.put_nowait((packet, source))


@asynccontextmanager
async def opened(bind: str = HOST, port: int = 0) -> AsyncIterator[tuple[Transport, Inbox]]:
    inbox = Inbox()
    transport = Transport(bind, port, inbox.receive, inbox.beacon)
    await transport.open()
    running = asyncio.create_task(transport.run())
    try:
        yield transport, inbox
    finally:
        transport.close()
        await running


def test_a_packet_arrives_with_its_source(run: Run) -> None:
    async def story() -> None:
        async with opened() as (a, _), opened() as (b, inbox):
            a.send(Address(HOST, b.port), b"hello")

            assert await inbox.packets.get() == (b"hello", Address(HOST, a.port))

    run(story())


def test_refusals_are_counted_and_the_next_packet_goes_out(run: Run) -> None:
    async def story() -> None:
        async with opened() as (a, _), opened() as (b, inbox):
            closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            closed.bind((HOST, 0))
            nobody = Address(HOST, closed.getsockname()[1])
            closed.close()
            for target in (nobody, Address("224.0.0.0", 9), Address("8.8.8.8", 9)) * 10:
                a.send(target, b"x")
            a.send(Address("example.org", 9), b"x")
            a.send(Address("0x7f.1", 9), b"x")
            a.send(Address(HOST, 0), b"x")
            a.send(Address(HOST, b.port), b"hello")

            assert (await inbox.packets.get())[0] == b"hello"
            assert a.dropped["bad_address"] == 3
            # Bound to loopback, nothing else can be reached; the kernel says so each time.
            assert sum(a.dropped.values()) >= 12

    run(story())


def test_a_full_queue_drops(run: Run) -> None:
    async def story() -> None:
        async with opened() as (a, _), opened() as (b, inbox):
            for _ in range(PACKETS_WAITING_MAX + 5):
                a.send(Address(HOST, b.port), b"x")

            assert a.dropped == {"queue_full": 5}
            await inbox.packets.get()

    run(story())


def test_beacons_go_their_own_way(run: Run) -> None:
    async def story() -> None:
        async with opened() as (a, _), opened() as (b, inbox):
            target = Address(HOST, b.port)
            for packet in (BEACON_MAGIC, b"r", BEACON_MAGIC + b"1", b"rn"):
                a.send(target, packet)

            source = Address(HOST, a.port)
            assert [await inbox.packets.get() for _ in range(2)] == [
                (b"r", source),
                (b"rn", source),
            ]
            assert await inbox.beacons.get() == (BEACON_MAGIC, source)
            assert await inbox.beacons.get() == (BEACON_MAGIC + b"1", source)

    run(story())


def test_answers_are_limited_and_sending_is_not(run: Run) -> None:
    async def story() -> None:
        async with opened() as (a, _), opened() as (b, inbox):
            target = Address(HOST, b.port)
            loop = asyncio.get_running_loop()
            second = int(loop.time())
            for _ in range(BEACON_ANSWERS_PER_HOST_MAX * 4):
                a.answer_beacon(target, lambda: b"here")
            for _ in range(ANSWERS_PER_SECOND_MAX * 4):
                a.answer(target, b"proof")
            a.send(target, b"word")

            # Each second has a quota of its own.
            seconds = int(loop.time()) - second + 1
            quota = BEACON_ANSWERS_PER_HOST_MAX + ANSWERS_PER_SECOND_MAX
            assert quota * (4 - seconds) <= a.dropped["answers"] <= quota * 3
            while (await inbox.packets.get())[0] != b"word":
                pass

    run(story())


def test_one_who_seeks_all_the_time_takes_no_answer_from_others() -> None:
    quota = _SharedQuota(BEACON_ANSWERS_PER_SECOND_MAX, BEACON_ANSWERS_PER_HOST_MAX)
    loud = [quota.take_for("10.0.0.66", 7.5) for _ in range(1_000)]
    assert sum(loud) == BEACON_ANSWERS_PER_HOST_MAX
    assert quota.take_for("10.0.0.9", 7.9)
    others = [quota.take_for(f"10.0.1.{number}", 7.9) for number in range(1_000)]
    assert sum(others) == BEACON_ANSWERS_PER_SECOND_MAX - BEACON_ANSWERS_PER_HOST_MAX - 1
    assert quota.take_for("10.0.0.66", 8.0), "each second has a quota of its own"


def test_a_broadcast_rings_extra_addresses_once(run: Run) -> None:
    async def story() -> None:
        async with opened() as (a, _), opened() as (b, inbox):
            ring = Address(HOST, b.port)
            a.broadcast(b"join", [ring, ring])
            a.send(ring, b"after")

            assert (await inbox.packets.get())[0] == b"join"
            assert (await inbox.packets.get())[0] == b"after"

    run(story())


@pytest.mark.skipif(not list_interfaces(), reason="this machine is on no network")
def test_a_broadcast_is_heard_by_who_is_bound_to_one_address(run: Run) -> None:
    async def story() -> None:
        address = list_interfaces()[0].address
        async with opened(address) as (bound, inbox), opened("0.0.0.0") as (a, _):
            for host in broadcast_addresses(address):
                a.send(Address(host, bound.port), b"join")

            packet, source = await inbox.packets.get()
            assert (packet, source.port) == (b"join", a.port)

    run(story())


def test_a_taken_port_is_told(run: Run) -> None:
    async def story() -> None:
        async with opened() as (a, inbox):
            with pytest.raises(MeshError, match=f"port {a.port} of {HOST} is taken") as raised:
                await Transport(HOST, a.port, inbox.receive, inbox.beacon).open()
            assert "--port" in raised.value.hint

    run(story())


def test_a_foreign_address_is_told(run: Run) -> None:
    async def story() -> None:
        inbox = Inbox()
        with pytest.raises(MeshError, match="no address of this PC"):
            await Transport("198.51.100.7", 0, inbox.receive, inbox.beacon).open()

    run(story())


def test_the_kernel_names_are_known() -> None:
    assert errno.errorcode[errno.ENETUNREACH] == "ENETUNREACH"


def test_no_network_is_virtual_or_loopback() -> None:
    for interface in list_interfaces():
        assert not interface.name.startswith(("lo", "docker", "veth", "br-", "virbr", "wg", "tun"))
        assert is_ipv4(interface.address)
        assert is_ipv4(interface.broadcast)
        assert interface.broadcast in broadcast_addresses()
        assert broadcast_addresses(interface.address) == (interface.broadcast,)


def test_own_address_is_the_bound_one_or_a_real_one() -> None:
    assert own_address("10.1.2.3") == "10.1.2.3"
    assert is_ipv4(own_address())
    assert broadcast_addresses("127.0.0.5") == ()


@pytest.mark.parametrize("host", ["", "localhost", "1.2.3", "::1", "1.2.3.4.5", "1.2.3.4\0"])
def test_only_four_numbers_are_an_address(host: str) -> None:
    assert not is_ipv4(host)
