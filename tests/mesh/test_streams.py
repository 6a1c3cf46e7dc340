"""Streams over real sockets on this machine: frames, calls, strangers and cut connections."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from rain.mesh.calls import CALL_WINDOW_BYTES
from rain.mesh.envelope import Envelope
from rain.mesh.errors import MeshError
from rain.mesh.frames import tune
from rain.mesh.keys import EdSigner, ed_verify
from rain.mesh.streams import QUEUE_FRAMES_MAX, STRANGERS_MAX, CallError, Streams
from rain.model import Address, NodeId
from tests.mesh.conftest import Run
from tests.mesh.rig import POOL_ID, POOL_KEY

HOST = "127.0.0.1"


class Peer:
    """One node's streams, and what arrived there."""

    def __init__(self, name: str, book: dict[NodeId, Address], pool_id: bytes = POOL_ID) -> None:
        signer = EdSigner(name.encode().ljust(32, b"-"))
        self.envelope = Envelope(pool_id, POOL_KEY, signer, ed_verify, 1)
        self.node_id = self.envelope.node_id
        self.inbox: asyncio.Queue[tuple[NodeId, bytes]] = asyncio.Queue()
        self.book = book
        self.streams = Streams(self.envelope, book.get, self._receive)

    def _receive(self, sender: NodeId, boot_epoch: int, body: bytes, host: str) -> None:
        assert (boot_epoch, host) == (1, HOST)
        self.inbox.put_nowait((sender, body))


@asynccontextmanager
async def running(peer: Peer, port: int = 0) -> AsyncIterator[Peer]:
    await peer.streams.open(HOST, port)
    peer.book[peer.node_id] = Address(HOST, peer.streams.port)
    task = asyncio.create_task(peer.streams.run())
    await asyncio.sleep(0)  # it begins
    try:
        yield peer
    finally:
        await peer.streams.close()
        await task


@asynccontextmanager
async def pool(*names: str) -> AsyncIterator[list[Peer]]:
    book: dict[NodeId, Address] = {}
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(Peer(name, book))) for name in names]


async def until_counted(peer: Peer, reason: str, times: int = 1) -> None:
    def counted() -> int:
        return peer.streams.dropped.get(reason, 0) + peer.envelope.dropped.get(reason, 0)

    while counted() < times:  # noqa: ASYNC110 counters ring no bell
        await asyncio.sleep(0.002)


async def connect(peer: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, peer.streams.port)


async def read_to_the_end(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionResetError):
        while await reader.read(1_000):
            pass


# --- frames --------------------------------------------------------------------------------------


def test_frames_arrive_in_order_both_ways(run: Run) -> None:
    async def story() -> None:
        async with pool("a", "b") as (a, b):
            for at in range(200):
                a.streams.post(b.node_id, b"%d" % at)
                b.streams.post(a.node_id, b"%d" % at)

            for at in range(200):
                assert await b.inbox.get() == (a.node_id, b"%d" % at)
                assert await a.inbox.get() == (b.node_id, b"%d" % at)
            assert a.streams.dropped == b.streams.dropped == {}

    run(story())


def test_a_large_frame_arrives(run: Run) -> None:
    async def story() -> None:
        async with pool("a", "b") as (a, b):
            body = bytes(range(256)) * 16 * 1024
            a.streams.post(b.node_id, body)

            assert await b.inbox.get() == (a.node_id, body)

    run(story())


def test_what_cannot_be_delivered_is_dropped_and_counted(run: Run) -> None:
    async def story() -> None:
        async with pool("a") as (a,):
            for host, port, reason in (("", 0, "no_address"), (HOST, 1, "unreachable")):
                ghost = Peer(f"ghost {reason}", a.book)
                if host:
                    a.book[ghost.node_id] = Address(host, port)
                a.streams.post(ghost.node_id, b"x")
                await until_counted(a, reason)
                a.streams.post(ghost.node_id, b"y")
                await until_counted(a, "backoff" if host else "no_address")
            await until_counted(a, "undelivered", 4)

    run(story())


def test_a_new_address_is_tried_at_once(run: Run) -> None:
    async def story() -> None:
        async with pool("a", "b") as (a, b):
            right = a.book[b.node_id]
            a.book[b.node_id] = Address(HOST, 1)
            a.streams.post(b.node_id, b"x")
            await until_counted(a, "unreachable")

            a.book[b.node_id] = right
            a.streams.post(b.node_id, b"y")

            assert await b.inbox.get() == (a.node_id, b"y")

    run(story())


def test_a_full_queue_drops(run: Run) -> None:
    async def story() -> None:
        async with pool("a", "b") as (a, b):
            for _ in range(QUEUE_FRAMES_MAX + 3):
                a.streams.post(b.node_id, b"x")

            assert a.streams.dropped == {"queue_full": 3}
            await b.inbox.get()

    run(story())


def test_a_peer_that_restarts_is_dialled_anew(run: Run) -> None:
    async def story() -> None:
        async with pool("a") as (a,):
            b = Peer("b", a.book)
            async with running(b):
                a.streams.post(b.node_id, b"1")
                assert await b.inbox.get() == (a.node_id, b"1")
            await until_counted(a, "closed")

            reborn = Peer("b", a.book)
            async with running(reborn):
                a.streams.post(b.node_id, b"2")
                assert await reborn.inbox.get() == (a.node_id, b"2")

    run(story())


def test_a_node_at_a_wrong_address_takes_nothing(run: Run) -> None:
    async def story() -> None:
        async with pool("a", "b", "c") as (a, b, c):
            a.book[b.node_id] = a.book[c.node_id]
            a.streams.post(b.node_id, b"for b")

            await until_counted(c, "recipient")
            assert c.inbox.empty()

    run(story())


def test_a_taken_port_is_told(run: Run) -> None:
    async def story() -> None:
        async with pool("a") as (a,):
            b = Peer("b", a.book)
            with pytest.raises(MeshError, match="is taken"):
                await b.streams.open(HOST, a.streams.port)
            await b.streams.close()

    run(story())


# --- strangers -----------------------------------------------------------------------------------

GARBAGE = {
    "a web browser": b"GET / HTTP/1.1\r\nHost: rain\r\n\r\n",
    "zeros": bytes(100),
    "a frame said to be huge": bytes(16) + b"\xff\xff\xff\xff",
    "a frame too long for a stranger": bytes(16) + (70_000).to_bytes(4, "big"),
    "an empty frame": bytes(16) + bytes(4),
    "a frame of noise": bytes(16) + (200).to_bytes(4, "big") + b"x" * 200,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_its_connection_and_nothing_else(run: Run, garbage: bytes) -> None:
    async def story() -> None:
        async with pool("a", "b") as (a, b):
            reader, writer = await connect(b)
            writer.write(garbage)
            await read_to_the_end(reader)
            writer.close()

            a.streams.post(b.node_id, b"x")
            assert await b.inbox.get() == (a.node_id, b"x")
            assert b.inbox.empty()

    run(story())


def test_of_too_many_strangers_the_oldest_gives_way(run: Run) -> None:
    async def story() -> None:
        async with pool("a", "b") as (a, b):
            strangers = [await connect(b) for _ in range(STRANGERS_MAX + 5)]
            await until_counted(b, "too_many_strangers", 5)

            a.streams.post(b.node_id, b"x")
            assert await b.inbox.get() == (a.node_id, b"x")
            for _, writer in strangers:
                writer.close()

    run(story())


def test_another_pool_is_a_stranger(run: Run) -> None:
    async def story() -> None:
        book: dict[NodeId, Address] = {}
        async with (
            running(Peer("a", book, b"other pool id 16")) as a,
            running(Peer("b", book)) as b,
        ):
            a.streams.post(b.node_id, b"x")

            await until_counted(b, "stranger")
            assert b.inbox.empty()

    run(story())


def test_a_recorded_stream_is_refused(run: Run) -> None:
    async def story() -> None:
        async with pool("a") as (a,):
            recorded = bytearray()
            b = Peer("b", a.book)
            async with running(b):
                tap = await record_through(a.book, b.node_id, recorded)
                a.streams.post(b.node_id, b"pay 5")
                assert await b.inbox.get() == (a.node_id, b"pay 5")

                reader, writer = await connect(b)
                writer.write(recorded)
                await until_counted(b, "replayed")
                writer.close()
                tap.close()

            # Restarted, it remembers no numbers; but the recording is of another connection.
            reborn = Peer("b", a.book)
            async with running(reborn):
                reader, writer = await connect(reborn)
                writer.write(recorded)
                await until_counted(reborn, "other_connection")
                writer.close()
                assert reborn.inbox.empty()
                assert await reader.read(16)

    run(story())


async def record_through(
    book: dict[NodeId, Address], node_id: NodeId, recorded: bytearray
) -> asyncio.Server:
    """Somebody on the path: passes everything on and keeps what the dialling side says."""
    target = book[node_id]

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
    book[node_id] = Address(HOST, server.sockets[0].getsockname()[1])
    return server


# --- calls ---------------------------------------------------------------------------------------


async def count_up(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
    for at in range(int(args)):
        yield b"%d" % at


async def take_all(answers: AsyncIterator[bytes]) -> list[bytes]:
    return [answer async for answer in answers]


def test_a_call_has_many_answers(run: Run) -> None:
    async def story() -> None:
        async with pool("a", "b") as (a, b):
            b.streams.serve("count", count_up)

            async def ask(count: int) -> list[bytes]:
                answers = a.streams.call(b.node_id, "count", b"%d" % count)
                return [answer async for answer in answers]

            asked = await asyncio.gather(*(ask(count) for count in (0, 1, 5, 300)))
            assert asked == [[b"%d" % at for at in range(count)] for count in (0, 1, 5, 300)]
            assert a.streams.dropped == b.streams.dropped == {}

    run(story())


def test_errors_travel(run: Run) -> None:
    async def story() -> None:
        async def refuse(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            yield b"one"
            raise CallError("the log is gone")

        async with pool("a", "b") as (a, b):
            b.streams.serve("refuse", refuse)
            b.streams.serve("count", count_up)
            for verb, error in (
                ("refuse", "the log is gone"),
                ("count", "ValueError"),
                ("nothing", "knows no 'nothing'"),
            ):
                with pytest.raises(CallError, match=error):
                    await take_all(a.streams.call(b.node_id, verb, b"many"))

    run(story())


def test_who_does_not_answer_is_told(run: Run) -> None:
    async def story() -> None:
        async with pool("a") as (a,):
            ghost = Peer("ghost", a.book)
            for address in (None, Address(HOST, 1)):
                if address is not None:
                    a.book[ghost.node_id] = address
                with pytest.raises(CallError, match="does not answer"):
                    await anext(a.streams.call(ghost.node_id, "count", b"1"))
            with pytest.raises(CallError, match="itself"):
                await anext(a.streams.call(a.node_id, "count", b"1"))

    run(story())


def test_a_cancelled_call_ends_the_generator(run: Run) -> None:
    async def story() -> None:
        ended = asyncio.Event()

        async def forever(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with pool("a", "b") as (a, b):
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


def test_a_slow_reader_holds_up_nobody_and_fills_no_memory(run: Run) -> None:
    async def story() -> None:
        sent = 0

        async def flood(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 100:
                sent += 1
                yield bytes(32 * 1024)

        async with pool("a", "b") as (a, b):
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


def test_a_cut_connection_fails_its_calls(run: Run) -> None:
    async def story() -> None:
        async def forever(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        async with pool("a") as (a,):
            b = Peer("b", a.book)
            async with running(b):
                b.streams.serve("forever", forever)
                answers = a.streams.call(b.node_id, "forever", b"")
                assert await anext(answers) == b"first"
            with pytest.raises(CallError, match="broke"):
                await anext(answers)

    run(story())


def test_bulk_does_not_delay_control(run: Run) -> None:
    async def story() -> None:
        async def flood(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            for _ in range(64):
                yield bytes(1024 * 1024)

        async with pool("a", "b") as (a, b):
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
