"""What seal, signature and TLS cost, beside the same work without them, in one run."""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from rain.effects import Message
from rain.mesh import codec
from rain.mesh.envelope import PACKET_BODY_BYTES_MAX, Envelope, Opened
from rain.mesh.keys import EdSigner, ed_verify
from tests.mesh.drawing import draw
from tests.mesh.peers import HOST, pool
from tests.mesh.rig import MESSAGES, POOL_ID, POOL_KEY
from tests.mesh.sealing import dice, everybody, prove

PACKETS = 2_000
ROUNDS = 5
FRAME_BYTES = 1024 * 1024
FRAMES = 32
SMALL_FRAMES = 1_000
"""At once, as many as wait in the queue of one peer."""


def say(what: str, figure: str) -> None:
    print(f"{what:<66} {figure}", flush=True)


def packets() -> None:
    """Messages a second through the codec alone, and with the envelope around it."""
    rng = random.Random(1)
    drawn = [draw(kind, rng) for kind in MESSAGES for _ in range(20)]
    small = [each for each in drawn if len(codec.encode(each)) <= PACKET_BODY_BYTES_MAX]
    messages = [rng.choice(small) for _ in range(PACKETS)]
    a, b = _envelope(b"a"), _envelope(b"b")
    prove(a, b)
    bodies = [codec.encode(message) for message in messages]
    packed: list[bytes] = []

    def seal() -> None:
        packed[:] = [a.seal(codec.encode(message), b.node_id) for message in messages]

    def open_all() -> None:
        for packet in packed:
            opened = b.open(packet)
            assert isinstance(opened, Opened)
            assert isinstance(codec.decode(opened.body), Message)

    plain_out = _rate(lambda: [codec.encode(message) for message in messages])
    plain_in = _rate(lambda: [codec.decode(body) for body in bodies])
    sealed_out, sealed_in = 0.0, 0.0
    for _ in range(ROUNDS):  # a packet is opened once
        sealed_out = max(sealed_out, PACKETS / _took_s(seal))
        sealed_in = max(sealed_in, PACKETS / _took_s(open_all))
    mean = sum(map(len, bodies)) // len(bodies)
    say(f"packets encoded, {mean} bytes", f"{plain_out:,.0f} a second")
    say("  sealed and signed as well", _beside(sealed_out, plain_out))
    say("packets decoded", f"{plain_in:,.0f} a second")
    say("  opened and verified as well", _beside(sealed_in, plain_in))


def streams() -> None:
    """Throughput of one connection over loopback: Rain's streams, and bare TCP."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_streams())


async def _streams() -> None:
    with tempfile.TemporaryDirectory(prefix="rain-bench-") as folder:
        async with pool(Path(folder), "a", "b") as (a, b):

            async def post(count: int, body: bytes) -> float:
                began = time.perf_counter()
                for _ in range(count):
                    a.streams.post(b.node_id, body)
                for _ in range(count):
                    await b.inbox.get()
                return time.perf_counter() - began

            await post(1, b"dialled")
            large = min([await post(FRAMES, bytes(FRAME_BYTES)) for _ in range(ROUNDS)])
            small = min([await post(SMALL_FRAMES, bytes(200)) for _ in range(ROUNDS)])
            assert not a.streams.dropped, a.streams.dropped
    bare_large = min([await _bare(FRAMES, FRAME_BYTES) for _ in range(ROUNDS)])
    bare_small = min([await _bare(SMALL_FRAMES, 200) for _ in range(ROUNDS)])
    sent = FRAMES * FRAME_BYTES / 1e6
    say("frames of 1 MiB over bare TCP", f"{sent / bare_large:,.0f} MB/s")
    say("  by Rain's streams: TLS, frames, queue", _beside(sent / large, sent / bare_large, "MB/s"))
    say("frames of 200 bytes over bare TCP", f"{SMALL_FRAMES / bare_small:,.0f} a second")
    say(
        "  by Rain's streams: TLS, frames, queue",
        _beside(SMALL_FRAMES / small, SMALL_FRAMES / bare_small),
    )


async def _bare(count: int, size: int) -> float:
    """The same frames with a length before each, and nothing else."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(count):
            length = int.from_bytes(await reader.readexactly(4), "big")
            await reader.readexactly(length)
        writer.close()
        done.set()

    server = await asyncio.start_server(serve, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection(HOST, port)
    body = bytes(size)
    began = time.perf_counter()
    for _ in range(count):
        writer.write(len(body).to_bytes(4, "big"))
        writer.write(body)
        await writer.drain()
    await done.wait()
    took_s = time.perf_counter() - began
    writer.close()
    server.close()
    await server.wait_closed()
    return took_s


def _envelope(name: bytes) -> Envelope:
    signer = EdSigner(name * 32)
    made = Envelope(POOL_ID, signer, ed_verify, 1, everybody, dice(name.decode()))
    made.set_ring([(1, POOL_KEY)], 1)
    return made


def _took_s(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _rate(work: Callable[[], object]) -> float:
    return PACKETS / min(_took_s(work) for _ in range(ROUNDS))


def _beside(rate: float, bare: float, unit: str = "a second") -> str:
    return f"{rate:,.0f} {unit}: {rate / bare:.2f} of it"
