"""Who must not get in: each is refused and counted, and the pool works on meanwhile."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rain.mesh import keys, meeting
from rain.mesh.frames import Hello, Posted, Refused, Welcome
from rain.mesh.meeting import HUNG_UP
from rain.mesh.streams import CONNECTIONS_PER_MEMBER_MAX, CallError
from rain.model import Address
from rain.version import PROTOCOL
from tests.mesh.certified import CertifiedPool
from tests.mesh.conftest import Run
from tests.mesh.peers import (
    HOST,
    Peer,
    Realm,
    connect,
    count_up,
    first_frame,
    framed,
    pool,
    read_to_the_end,
    running,
    speak,
    take_all,
    tls_to,
    until_counted,
)


def trusting(peer: Peer) -> None:
    """From now on this peer dials whoever it is, so that only the other end can refuse."""
    peer.tls.client.check_hostname = False
    peer.tls.client.verify_mode = ssl.CERT_NONE


# --- certificates --------------------------------------------------------------------------------


def test_a_certificate_of_another_pool_is_refused(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            other = Realm(tmp_path / "other", CertifiedPool("garage", b"another entropy."))
            (tmp_path / "other").mkdir()
            c = Peer("c", other)
            trusting(c)
            async with running(c):
                other.book[b.node_id] = b.realm.book[b.node_id]
                c.streams.post(b.node_id, b"x")
                await until_counted(b, "stranger")
                await until_counted(c, "refused_by_peer")
                assert c.streams.refusals == {b.node_id: HUNG_UP}
            await speak(a, b, b"on")
            assert b.shown == [a.tls.bundle]
            assert b.streams.dropped == {"stranger": 1}

    run(story())


def test_a_pool_of_the_same_name_is_another_pool(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        realm = Realm(tmp_path / "one")
        twin = Realm(tmp_path / "two", CertifiedPool("attic", b"another entropy."))
        for each in (realm, twin):
            each.folder.mkdir()
        async with running(Peer("a", twin)) as a, running(Peer("b", realm)) as b:
            twin.book[b.node_id] = realm.book[b.node_id]
            a.streams.post(b.node_id, b"x")

            await until_counted(a, "stranger")
            await until_counted(b, "handshake")

    run(story())


def test_an_expired_certificate_is_refused_in_words(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a") as (a,):
            certified = a.realm.certified
            past = certified.now_unix_s - 31 * 24 * 3_600
            async with running(
                Peer("late", a.realm, certified.bundle_of("late", now_unix_s=past))
            ) as late:
                late.streams.post(a.node_id, b"x")
                await until_counted(late, "refused_by_peer")
                assert late.streams.refusals == {a.node_id: "it refuses this node: expired"}
                await until_counted(a, "expired")

                a.streams.post(late.node_id, b"x")
                await until_counted(a, "expired", 2)
                assert late.inbox.empty()
                assert a.inbox.empty()

    run(story())


def test_who_renewed_is_let_in_again(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a") as (a,):
            certified = a.realm.certified
            past = certified.now_unix_s - 31 * 24 * 3_600
            late = Peer("late", a.realm, certified.bundle_of("late", now_unix_s=past))
            async with running(late):
                late.streams.post(a.node_id, b"x")
                await until_counted(late, "refused_by_peer")

                fresh = certified.bundle_of("late")
                keys.keep_certificate(a.realm.folder / "late", fresh)
                late.tls.reload()
                a.streams.serve("count", count_up)
                assert await take_all(late.streams.call(a.node_id, "count", b"1")) == [b"0"]
                assert a.shown == [fresh]
                assert late.streams.refusals == {}

    run(story())


def test_a_node_at_a_wrong_address_takes_nothing(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b", "c") as (a, b, c):
            a.realm.book[b.node_id] = a.realm.book[c.node_id]
            a.streams.post(b.node_id, b"for b")

            await until_counted(a, "other_peer")
            await until_counted(c, "handshake")
            assert c.inbox.empty()

    run(story())


def test_a_bundle_that_was_not_proven_is_refused(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b", "c") as (a, b, c):
            async with tls_to(c, a.tls.client) as (reader, writer):
                writer.write(framed(Hello(b.tls.bundle, 1, PROTOCOL)))
                assert await first_frame(reader) == Refused("other_certificate")

            await until_counted(c, "other_certificate")
            assert c.shown == []

    run(story())


def test_another_protocol_is_refused(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            async with tls_to(b, a.tls.client) as (reader, writer):
                writer.write(framed(Hello(a.tls.bundle, 1, PROTOCOL + 2)))
                assert await first_frame(reader) == Refused("version")
            async with tls_to(b, a.tls.client) as (reader, writer):
                writer.write(framed(Hello(a.tls.bundle, 1, PROTOCOL + 1)))
                assert await first_frame(reader) == Welcome(b.tls.bundle, 1, PROTOCOL)

    run(story())


def test_who_does_not_introduce_itself_says_nothing_else(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            async with tls_to(b, a.tls.client) as (reader, writer):
                writer.write(framed(Posted(b"an order")))
                assert await read_to_the_end(reader) == b""

            assert b.streams.dropped == {"unexpected": 1}
            assert b.inbox.empty()

    run(story())


def test_older_tls_is_refused(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a") as (a,):
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname = False
            old.verify_mode = ssl.CERT_NONE
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                async with tls_to(a, old):
                    pass
            await until_counted(a, "handshake")

    run(story())


# --- those who may be here no more ---------------------------------------------------------------


def test_review_hangs_up_on_who_was_removed(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async def forever(sender: object, args: bytes) -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        async with pool(tmp_path, "a", "b", "c") as (a, b, c):
            for peer in (a, b):
                peer.streams.serve("forever", forever)
            answers_of_b = b.streams.call(a.node_id, "forever", b"")
            answers_of_a = a.streams.call(b.node_id, "forever", b"")
            await anext(answers_of_a)
            await anext(answers_of_b)
            await speak(a, b, b"1")
            await speak(b, a, b"2")
            await speak(c, a, b"3")

            a.streams.review()
            assert a.streams.dropped == {}
            a.realm.removed.add(b.node_id)
            a.streams.review()

            assert a.streams.dropped["removed"] == 4, "its call, ours, its posts, ours"
            for answers in (answers_of_a, answers_of_b):
                with pytest.raises(CallError, match="broke"):
                    await anext(answers)
            b.streams.post(a.node_id, b"4")
            await until_counted(b, "refused_by_peer")
            assert b.streams.refusals == {a.node_id: "it refuses this node: removed"}
            await speak(c, a, b"5")

    run(story())


def test_a_member_has_few_connections(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b", "c") as (a, b, c):
            hello = framed(Hello(a.tls.bundle, 1, PROTOCOL))
            kept = []
            for at in range(CONNECTIONS_PER_MEMBER_MAX + 1):
                connected = tls_to(b, a.tls.client)
                reader, writer = await connected.__aenter__()
                kept.append(connected)
                writer.write(hello)
                answer = await first_frame(reader)
                assert isinstance(answer, Welcome) == (at < CONNECTIONS_PER_MEMBER_MAX)
            assert answer == Refused("too_many_connections")
            await speak(c, b, b"x")
            for connected in kept:
                await connected.__aexit__(None, None, None)

    run(story())


# --- who dials -----------------------------------------------------------------------------------


def test_an_end_before_the_welcome_has_a_reason(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):

            async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.transport.abort()

            server = await asyncio.start_server(hang_up, HOST, 0, ssl=b.tls.server)
            a.realm.book[b.node_id] = Address(HOST, server.sockets[0].getsockname()[1])
            with pytest.raises(CallError, match="it hung up before it said welcome"):
                await anext(a.streams.call(b.node_id, "count", b"1"))

            assert a.streams.dropped == {"refused_by_peer": 1}
            assert a.streams.refusals == {b.node_id: HUNG_UP}
            server.close()
            await server.wait_closed()

    run(story())


def test_who_says_no_welcome_is_left(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "WELCOME_TIMEOUT_MS", 50)

    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):

            async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
                await read_to_the_end(reader)

            server = await asyncio.start_server(say_nothing, HOST, 0, ssl=b.tls.server)
            a.realm.book[b.node_id] = Address(HOST, server.sockets[0].getsockname()[1])
            a.streams.post(b.node_id, b"x")

            await until_counted(a, "welcome_timeout")
            server.close()
            await server.wait_closed()

    run(story())


# --- the path between ----------------------------------------------------------------------------


def test_who_listens_reads_nothing_and_a_recording_is_worthless(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a") as (a,):
            recorded = bytearray()
            b = Peer("b", a.realm)
            async with running(b):
                tap = await record_through(a.realm, b, recorded)
                await speak(a, b, b"pay 5")
                assert b"pay 5" not in recorded
                assert a.tls.bundle not in recorded

                reader, writer = await connect(b)
                writer.write(recorded)
                await until_counted(b, "handshake")
                writer.close()
                await read_to_the_end(reader)
                tap.close()

            reborn = Peer("b", a.realm)
            async with running(reborn):
                reader, writer = await connect(reborn)
                writer.write(recorded)
                await until_counted(reborn, "handshake")
                writer.close()
                await read_to_the_end(reader)
                assert reborn.inbox.empty()

    run(story())


async def record_through(realm: Realm, peer: Peer, recorded: bytearray) -> asyncio.Server:
    """Somebody on the path: passes everything on and keeps what the dialling side says."""
    target = realm.book[peer.node_id]

    async def tap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(target.host, target.port)

        async def back() -> None:
            while piece := await far_reader.read(1_000):
                writer.write(piece)
            writer.close()

        answering = asyncio.create_task(back())
        while piece := await reader.read(1_000):
            recorded.extend(piece)
            far_writer.write(piece)
        far_writer.close()
        await answering

    server = await asyncio.start_server(tap, HOST, 0)
    realm.book[peer.node_id] = Address(HOST, server.sockets[0].getsockname()[1])
    return server
