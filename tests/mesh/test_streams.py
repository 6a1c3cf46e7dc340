"""Streams over real sockets on this machine: frames, calls and cut connections."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rain.mesh.calls import CALL_WINDOW_BYTES
from rain.mesh.errors import MeshError
from rain.mesh.frames import ARGS_BYTES_MAX, Call, Hello, Welcome, tune
from rain.mesh.streams import QUEUE_FRAMES_MAX, CallError
from rain.model import Address, NodeId
from rain.version import PROTOCOL
from tests.mesh.certified import node_of
from tests.mesh.conftest import Run
from tests.mesh.peers import (
    HOST,
    Peer,
    count_up,
    first_frame,
    framed,
    pool,
    read_to_the_end,
    running,
    take_all,
    tls_to,
    until_counted,
)

# --- frames --------------------------------------------------------------------------------------


def test_frames_arrive_in_order_both_ways(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            for at in range(200):
                a.streams.post(b.node_id, b"%d" % at)
                b.streams.post(a.node_id, b"%d" % at)

            for at in range(200):
                assert await b.inbox.get() == (a.node_id, b"%d" % at)
                assert await a.inbox.get() == (b.node_id, b"%d" % at)
            assert a.streams.dropped == b.streams.dropped == {}

    run(story())


def test_a_large_frame_arrives(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            body = bytes(range(256)) * 16 * 1024
            a.streams.post(b.node_id, body)

            assert await b.inbox.get() == (a.node_id, body)

    run(story())


def test_what_cannot_be_delivered_is_dropped_and_counted(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a") as (a,):
            for host, port, reason in (("", 0, "no_address"), (HOST, 1, "unreachable")):
                ghost_id = node_of(f"ghost {reason}")
                if host:
                    a.realm.book[ghost_id] = Address(host, port)
                a.streams.post(ghost_id, b"x")
                await until_counted(a, reason)
                a.streams.post(ghost_id, b"y")
                await until_counted(a, "backoff" if host else "no_address")
            await until_counted(a, "undelivered", 4)

    run(story())


def test_a_new_address_is_tried_at_once(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            right = a.realm.book[b.node_id]
            a.realm.book[b.node_id] = Address(HOST, 1)
            a.streams.post(b.node_id, b"x")
            await until_counted(a, "unreachable")

            a.realm.book[b.node_id] = right
            a.streams.post(b.node_id, b"y")

            assert await b.inbox.get() == (a.node_id, b"y")

    run(story())


def test_a_full_queue_drops(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            for _ in range(QUEUE_FRAMES_MAX + 3):
                a.streams.post(b.node_id, b"x")

            assert a.streams.dropped == {"queue_full": 3}
            await b.inbox.get()

    run(story())


def test_a_peer_that_restarts_is_dialled_anew(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a") as (a,):
            b = Peer("b", a.realm)
            async with running(b):
                a.streams.post(b.node_id, b"1")
                assert await b.inbox.get() == (a.node_id, b"1")
            await until_counted(a, "closed")

            reborn = Peer("b", a.realm)
            async with running(reborn):
                a.streams.post(b.node_id, b"2")
                assert await reborn.inbox.get() == (a.node_id, b"2")

    run(story())


def test_a_taken_port_is_told(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a") as (a,):
            b = Peer("b", a.realm)
            with pytest.raises(MeshError, match="is taken"):
                await b.streams.open(HOST, a.streams.port)
            await b.streams.close()

    run(story())


# --- calls ---------------------------------------------------------------------------------------


def test_a_call_has_many_answers(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a", "b") as (a, b):
            b.streams.serve("count", count_up)

            async def ask(count: int) -> list[bytes]:
                answers = a.streams.call(b.node_id, "count", b"%d" % count)
                return [answer async for answer in answers]

            asked = await asyncio.gather(*(ask(count) for count in (0, 1, 5, 300)))
            assert asked == [[b"%d" % at for at in range(count)] for count in (0, 1, 5, 300)]
            assert a.streams.dropped == b.streams.dropped == {}

    run(story())


def test_errors_travel(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async def refuse(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            yield b"one"
            raise CallError("the log is gone")

        async with pool(tmp_path, "a", "b") as (a, b):
            b.streams.serve("refuse", refuse)
            b.streams.serve("count", count_up)
            for verb, error in (
                ("refuse", "the log is gone"),
                ("count", "^failed here$"),
                ("nothing", "knows no 'nothing'"),
            ):
                with pytest.raises(CallError, match=error):
                    await take_all(a.streams.call(b.node_id, verb, b"many"))

    run(story())


def test_a_question_is_bounded(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async def measure(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            yield b"%d" % len(args)

        async with pool(tmp_path, "a", "b") as (a, b):
            b.streams.serve("measure", measure)
            longest = bytes(ARGS_BYTES_MAX)
            answers = a.streams.call(b.node_id, "measure", longest)
            assert await take_all(answers) == [b"%d" % ARGS_BYTES_MAX]
            with pytest.raises(CallError, match="too long"):
                await take_all(a.streams.call(b.node_id, "measure", longest + b"x"))
            assert b.streams.dropped == {}

            async with tls_to(b, a.tls.client) as (reader, writer):
                writer.write(framed(Hello(a.tls.bundle, 1, PROTOCOL)))
                assert isinstance(await first_frame(reader), Welcome)
                writer.write(framed(Call(1, "measure", longest + b"x")))
                assert await read_to_the_end(reader) == b""
            assert b.streams.dropped == {"bad_field": 1}

    run(story())


def test_who_does_not_answer_is_told(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with pool(tmp_path, "a") as (a,):
            ghost_id = node_of("ghost")
            for address in (None, Address(HOST, 1)):
                if address is not None:
                    a.realm.book[ghost_id] = address
                with pytest.raises(CallError, match="does not answer"):
                    await anext(a.streams.call(ghost_id, "count", b"1"))
            with pytest.raises(CallError, match="itself"):
                await anext(a.streams.call(a.node_id, "count", b"1"))

    run(story())


def test_a_cancelled_call_ends_the_generator(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        ended = asyncio.Event()

        async def forever(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with pool(tmp_path, "a", "b") as (a, b):
            b.streams.serve("forever", forever)
            b.streams.serve("count", count_up)
            first = asyncio.Event()

            async def follow() -> None:
                async for _ in a.streams.call(b.node_id, "forever", b""):
                    first.set()

            follower = asyncio.create_task(follow())
            await first.wait()
            follower.cancel()
            await ended.wait()

            # The connection is still good for others.
            assert [answer async for answer in a.streams.call(b.node_id, "count", b"1")] == [b"0"]

    run(story())


def test_a_slow_reader_holds_up_nobody_and_fills_no_memory(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        sent = 0

        async def flood(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 100:
                sent += 1
                yield bytes(32 * 1024)

        async with pool(tmp_path, "a", "b") as (a, b):
            b.streams.serve("flood", flood)
            b.streams.serve("count", count_up)
            slow = a.streams.call(b.node_id, "flood", b"")
            await anext(slow)

            asked = [answer async for answer in a.streams.call(b.node_id, "count", b"50")]
            assert len(asked) == 50
            assert sent * 32 * 1024 <= CALL_WINDOW_BYTES + 3 * 32 * 1024

            rest = [len(answer) async for answer in slow]
            assert len(rest) == 99

    run(story())


def test_a_cut_connection_fails_its_calls(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async def forever(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        async with pool(tmp_path, "a") as (a,):
            b = Peer("b", a.realm)
            async with running(b):
                b.streams.serve("forever", forever)
                answers = a.streams.call(b.node_id, "forever", b"")
                assert await anext(answers) == b"first"
            with pytest.raises(CallError, match="broke"):
                await anext(answers)

    run(story())


def test_bulk_does_not_delay_control(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async def flood(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            for _ in range(64):
                yield bytes(1024 * 1024)

        async with pool(tmp_path, "a", "b") as (a, b):
            b.streams.serve("flood", flood)
            answers = a.streams.call(b.node_id, "flood", b"")
            await anext(answers)
            b.streams.post(a.node_id, b"order")

            assert await a.inbox.get() == (b.node_id, b"order")
            rest = [len(answer) async for answer in answers]
            assert len(rest) == 63

    run(story())


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux")
def test_a_cut_cable_is_noticed_by_the_kernel() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tune(tcp)

        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2_000
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
