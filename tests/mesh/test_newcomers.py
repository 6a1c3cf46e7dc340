"""Newcomers: at the door, silent, or talking nonsense. None of them costs much or stops others."""

import asyncio
from pathlib import Path

import pytest

from rain.mesh import streams
from rain.mesh.accepting import NEWCOMERS_MAX, NEWCOMERS_PER_HOST_MAX, Place, Places
from rain.mesh.frames import STRANGER_BYTES_MAX, Hello, Posted
from rain.mesh.streams import DOOR_MAX, Door
from rain.mesh.tls import joining_context
from rain.version import PROTOCOL
from tests.mesh.conftest import Run
from tests.mesh.peers import (
    HOST,
    Peer,
    Realm,
    connect,
    count_up,
    framed,
    pool,
    read_to_the_end,
    running,
    speak,
    take_all,
    tls_to,
    until_counted,
)

# --- the door ------------------------------------------------------------------------------------


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(5))


def peer_with(door: Door | None, folder: Path) -> Peer:
    return Peer("a", Realm(folder), door=door)


def test_without_a_certificate_there_is_the_door(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(peer_with(echo, tmp_path)) as a:
            async with tls_to(a, joining_context()) as (reader, writer):
                writer.write(b"let me in")
                assert await read_to_the_end(reader) == b"let m"

            assert a.streams.dropped == {}
            assert a.inbox.empty()

    run(story())


def test_no_door_no_entry(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(peer_with(None, tmp_path)) as a:
            async with tls_to(a, joining_context()) as (reader, writer):
                bundle = a.realm.certified.bundle_of("b")
                writer.write(framed(Hello(bundle, 1, PROTOCOL)) + framed(Posted(b"an order")))
                assert await read_to_the_end(reader) == b""

            assert a.streams.dropped == {"no_certificate": 1}
            assert a.inbox.empty()

    run(story())


def test_the_door_takes_few_words(run: Run, tmp_path: Path) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4_096):
            pass

    async def story() -> None:
        async with running(peer_with(listen, tmp_path)) as a:
            async with tls_to(a, joining_context()) as (reader, writer):
                writer.write(bytes(STRANGER_BYTES_MAX))
                await writer.drain()
                writer.write(bytes(1))
                await read_to_the_end(reader)

            await until_counted(a, "too_much")

    run(story())


def test_the_door_is_open_briefly(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DOOR_TIMEOUT_MS", 50)

    async def story() -> None:
        async with running(peer_with(echo, tmp_path)) as a:
            async with tls_to(a, joining_context()) as (reader, _):
                await read_to_the_end(reader)

            await until_counted(a, "door_timeout")

    run(story())


def test_a_door_that_fails_ends_nothing_else(run: Run, tmp_path: Path) -> None:
    async def stumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise ValueError((await reader.read(10)).decode())

    async def story() -> None:
        async with running(peer_with(stumble, tmp_path)) as a:
            for _ in range(2):
                async with tls_to(a, joining_context()) as (reader, writer):
                    writer.write(b"\xff")
                    await read_to_the_end(reader)
            await until_counted(a, "door_failed", 2)

    run(story())


def test_few_stand_at_the_door_at_once(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        standing = 0
        most = 0

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal standing, most
            standing += 1
            most = max(most, standing)
            writer.write(b"!")
            try:
                await reader.read(1)
            finally:
                standing -= 1

        async with running(peer_with(wait, tmp_path)) as a:
            kept = [tls_to(a, joining_context(), f"127.0.0.{2 + at}") for at in range(DOOR_MAX + 3)]
            for each in kept:
                reader, _ = await each.__aenter__()
                assert await reader.read(1) == b"!", "the newest is always served"
            assert (standing, most) == (DOOR_MAX, DOOR_MAX + 1)
            assert a.streams.dropped == {"too_many_at_door": 3}
            for each in kept:
                await each.__aexit__(None, None, None)

    run(story())


# --- noise ---------------------------------------------------------------------------------------

GARBAGE = {
    "a web browser": b"GET / HTTP/1.1\r\nHost: rain\r\n\r\n",
    "zeros": bytes(100),
    "a record said to be huge": b"\x16\x03\x01\xff\xff",
    "half a handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_its_connection_and_nothing_else(
    run: Run, tmp_path: Path, garbage: bytes
) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            _, writer = await connect(b)
            writer.write(garbage)
            writer.write_eof()
            await until_counted(b, "handshake")
            writer.close()

            await speak(a, b, b"x")
            assert b.streams.dropped == {"handshake": 1}

    run(story())


MEMBERS_GARBAGE = {
    "a frame said to be huge": b"\xff\xff\xff\xff",
    "a frame too long for a stranger": (10_000).to_bytes(4, "big"),
    "an empty frame": bytes(4),
    "a frame of noise": (200).to_bytes(4, "big") + b"x" * 200,
}


@pytest.mark.parametrize("garbage", MEMBERS_GARBAGE.values(), ids=MEMBERS_GARBAGE.keys())
def test_a_member_that_talks_nonsense_is_cut_off(run: Run, tmp_path: Path, garbage: bytes) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            async with tls_to(b, a.tls.client) as (reader, writer):
                writer.write(garbage)
                assert await read_to_the_end(reader) == b""

            await speak(a, b, b"x")
            assert sum(b.streams.dropped.values()) == 1

    run(story())


def test_of_too_many_newcomers_the_oldest_gives_way(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            silent = [await connect(b) for _ in range(NEWCOMERS_PER_HOST_MAX + 5)]
            await until_counted(b, "too_many_newcomers", 5)

            await speak(a, b, b"x")
            for _, writer in silent:
                writer.close()

    run(story())


def test_who_gives_way_in_the_middle_of_a_handshake_leaves_nothing_behind(
    run: Run, tmp_path: Path
) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            begun = []
            for _ in range(4 * NEWCOMERS_PER_HOST_MAX):
                _, writer = await connect(b)
                writer.write(b"\x16")
                begun.append(writer)
            await until_counted(b, "too_many_newcomers", 3 * NEWCOMERS_PER_HOST_MAX)
            await speak(a, b, b"x")
            for writer in begun:
                writer.transport.abort()
            await until_counted(b, "handshake", NEWCOMERS_PER_HOST_MAX - 1)
            while b.streams.newcomers:  # noqa: ASYNC110 an empty place rings no bell
                await asyncio.sleep(0.002)

    run(story())


def test_a_flood_of_silent_connections_stops_nobody(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            b.streams.serve("count", count_up)
            silent: list[asyncio.StreamWriter] = []
            most = 0

            async def flood() -> None:
                nonlocal most
                for at in range(500):
                    _, writer = await asyncio.open_connection(
                        HOST, b.streams.port, local_addr=(f"127.0.0.{2 + at % 20}", 0)
                    )
                    silent.append(writer)
                    most = max(most, b.streams.newcomers)

            flooding = asyncio.create_task(flood())
            while not silent:  # noqa: ASYNC110 it begins
                await asyncio.sleep(0.001)
            served = 0
            while not flooding.done():
                assert await take_all(a.streams.call(b.node_id, "count", b"3")) == [
                    b"0",
                    b"1",
                    b"2",
                ]
                await speak(a, b, b"x")
                served += 1
            await flooding
            await until_counted(b, "too_many_newcomers", 500 - NEWCOMERS_MAX - 1)

            assert served
            assert most <= NEWCOMERS_MAX
            assert b.streams.newcomers <= NEWCOMERS_MAX
            assert await take_all(a.streams.call(b.node_id, "count", b"1")) == [b"0"]
            for writer in silent:
                writer.transport.abort()

    run(story())


def test_who_is_silent_is_left_soon(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "NEWCOMER_TIMEOUT_MS", 50)

    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            _, writer = await connect(b)
            await until_counted(b, "newcomer_timeout")
            async with tls_to(b, a.tls.client) as (reader, _):
                await until_counted(b, "newcomer_timeout", 2)
                assert await read_to_the_end(reader) == b""

            writer.close()
            assert b.streams.newcomers == 0

    run(story())


# --- places --------------------------------------------------------------------------------------


def test_a_host_crowds_out_itself_first() -> None:
    places = Places(4, 2)
    first, second, third = Place("a"), Place("a"), Place("a")
    assert places.take(first) is None
    assert places.take(second) is None

    assert places.take(third) is first
    assert len(places) == 2


def test_when_all_is_taken_the_largest_crowd_gives_way() -> None:
    places = Places(4, 3)
    alone, *crowd = [Place("a"), Place("b"), Place("b"), Place("c")]
    for each in (alone, *crowd):
        assert places.take(each) is None

    assert places.take(Place("d")) is crowd[0]
    assert places.take(Place("e")) is alone, "of equal crowds the oldest"
    places.free(crowd[1])
    places.free(crowd[1])
    assert places.take(Place("f")) is None
    assert len(places) == 4


def test_hosts_of_members_give_way_last() -> None:
    places = Places(3, 3)
    places.know("m")
    first, second, third = Place("m"), Place("m"), Place("x")
    for each in (first, second, third):
        assert places.take(each) is None

    assert places.take(Place("y")) is third
    assert places.take(Place("m")) is not first
    assert places.take(Place("m")) is first, "but then a host has no more than its share"
