"""Programs of somebody who means harm, in Rain's own words, with what was stolen or made up.

Each runs in the network of some PC (`start` and `attack` see to that), does one thing, and says
how it was answered in one line of JSON. Nothing here leaves the namespaces of a test.

    python -m tests.testbed.intruder VERB JSON
"""

import asyncio
import contextlib
import json
import resource
import secrets
import select
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec.structs import replace

from rain.agent.founding import found_pool
from rain.claims import node_id_of
from rain.effects import Message, Record
from rain.election.records import EpochRecord
from rain.gossip.messages import Ack, Ping
from rain.mesh import codec, keys
from rain.mesh.beacon import Here, Seek, decode_beacon, encode_beacon
from rain.mesh.certificates import decode_bundle
from rain.mesh.codec import Rejected, pack
from rain.mesh.door import (
    DOOR_PROTOCOL,
    GRANTED_BYTES_MAX,
    STRANGER_BYTES_MAX,
    AskByCode,
    Channel,
    Confirmation,
    Granted,
    Knock,
    PoolKey,
    Response,
    Shown,
    proof_content,
)
from rain.mesh.envelope import Envelope, Opened, Reply
from rain.mesh.frames import Call, Hello, Posted
from rain.mesh.keys import EdSigner
from rain.mesh.pake import sponsor_exchange
from rain.mesh.tls import joining_context
from rain.model import Address, Epoch, NodeId
from rain.trust.records import RingRow
from rain.version import PROTOCOL
from tests.testbed import forgeries
from tests.testbed.lan import Pc

ROOT = Path(__file__).resolve().parents[2]
PORT = 7246
LATER_S = 1_000
"""A boot that is newer than any true one."""
SAY_EVERY_S = 0.2
FRAME_WAIT_S = 3.0
FLOOD_AT_ONCE = 200
LAST_WORDS_BYTES = 4_096

Json = dict[str, Any]


def start(pc: Pc, verb: str, **args: Any) -> subprocess.Popen[bytes]:
    """Let an intruder loose in that PC's network."""
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.testbed.intruder"]
    return pc.start(*command, verb, json.dumps(args), stdin=subprocess.PIPE)


def answer_of(program: subprocess.Popen[bytes], deadline_s: float = 60.0) -> Json:
    """What it says at its end."""
    said, _ = program.communicate(timeout=deadline_s)
    assert program.returncode == 0, said.decode(errors="replace")
    answer: Json = json.loads(said.splitlines()[-1])
    return answer


def attack(pc: Pc, verb: str, **args: Any) -> Json:
    """From start to end."""
    return answer_of(start(pc, verb, **args))


class Stolen:
    """What a data folder tells its thief."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        pem = load_pem_private_key((folder / keys.NODE_KEY_FILE).read_bytes(), None)
        assert isinstance(pem, Ed25519PrivateKey)
        self.signer = EdSigner(pem.private_bytes_raw())
        self.node_id = node_id_of(self.signer.public_key)
        pool = keys.load_pool(folder)
        assert pool is not None, f"{folder} is of no pool"
        self.pool = pool
        self.bundle = keys.load_certificate(folder) or b""
        self.boot_epoch = _now_s()
        self.ring: dict[int, bytes] = {}
        self.use = 0
        self.epoch = Epoch(1, NodeId(""), 0)
        for row in self._rows():
            if isinstance(row, RingRow):
                self.ring = {each.number: each.key for each in row.keys}
                self.use = row.use or max(self.ring)
            if isinstance(row, EpochRecord):
                self.epoch = max(row.newest, row.floor)

    def _rows(self) -> Iterator[Record | Rejected]:
        path = self.folder / "rain.db"
        if not path.exists():
            return
        with contextlib.closing(sqlite3.connect(path)) as store:
            rows = dict(store.execute("SELECT key, value FROM rows").fetchall())
        kept = int.from_bytes(rows.pop("agent/boot", b""), "big")
        self.boot_epoch = max(kept + 1, _now_s())
        for row in rows.values():
            yield codec.decode_record(row)

    def tls(self) -> ssl.SSLContext:
        """Shows the stolen certificate and takes whatever the other end shows."""
        context = joining_context()
        files = (self.folder / keys.CERTIFICATE_FILE, self.folder / keys.NODE_KEY_FILE)
        context.load_cert_chain(*files)
        return context


# --- On a stream, with a certificate -------------------------------------------------------------


class Line:
    """A TLS connection to somebody's port, and frames on it; no rule of Rain's is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def dial(cls, host: str, context: ssl.SSLContext) -> "Line":
        return cls(
            *await asyncio.open_connection(host, PORT, ssl=context, server_hostname="anybody")
        )

    async def say(self, packed: bytes, length: int | None = None) -> None:
        self._writer.write((len(packed) if length is None else length).to_bytes(4, "big") + packed)
        await self._writer.drain()

    async def hear(self) -> list[Any]:
        """The fields of the next frame; ["end", why] when there is none."""
        try:
            async with asyncio.timeout(FRAME_WAIT_S):
                length = int.from_bytes(await self._reader.readexactly(4), "big")
                fields: list[Any] = msgpack.unpackb(await self._reader.readexactly(length))
                return fields
        except TimeoutError:
            return ["silence", ""]
        except (OSError, EOFError) as error:
            return ["end", type(error).__name__]

    def close(self) -> None:
        self._writer.transport.abort()


async def _met(stolen: Stolen, host: str, shown: bytes = b"") -> tuple[Line, list[Any]]:
    """A line to that host, and how it answers this node's HELLO."""
    line = await Line.dial(host, stolen.tls())
    hello = Hello(shown or stolen.bundle, stolen.boot_epoch, PROTOCOL)
    with contextlib.suppress(OSError):
        await line.say(pack(hello))
    return line, await line.hear()


def _told(answer: list[Any]) -> Json:
    kinds = {"w": "welcome", "r": "refused"}
    kind = kinds.get(str(answer[0]), str(answer[0]))
    return {"answer": kind, "reason": answer[1] if kind != "welcome" else ""}


async def hail(args: Json) -> Json:
    """Come with a certificate; with `shown`, say to be who that folder is of."""
    stolen = Stolen(Path(args["folder"]))
    shown = Stolen(Path(args["shown"])).bundle if "shown" in args else b""
    line, answer = await _met(stolen, args["host"], shown)
    line.close()
    return _told(answer)


async def post(args: Json) -> Json:
    """Post messages of those kinds (see forgeries.py) on a stream that was let in."""
    stolen = Stolen(Path(args["folder"]))
    line, answer = await _met(stolen, args["host"])
    assert answer[0] == "w", answer
    for kind in args["kinds"]:
        await line.say(pack(Posted(codec.encode(_forged(stolen, kind, args)))))
    # A call after them is answered after them.
    await line.say(pack(Call(1, "certify", secrets.token_bytes(32))))
    answer = await line.hear()
    line.close()
    return {"answer": "welcome", "certify": str(answer[-1])}


async def mangle(args: Json) -> Json:
    """Frames that nobody should swallow, each on a line of its own."""
    ends: Json = {}
    stolen = Stolen(Path(args["folder"])) if "folder" in args else None
    for name, packed, length in forgeries.bad_frames():
        if stolen is None:
            line = await Line.dial(args["host"], joining_context())
        else:
            line, answer = await _met(stolen, args["host"])
            assert answer[0] == "w", answer
        with contextlib.suppress(OSError):
            await line.say(packed, length)
        ends[name] = (await line.hear())[0]
        line.close()
    return ends


def _forged(stolen: Stolen, kind: str, args: Json) -> Message:
    return forgeries.message(kind, stolen.signer, stolen.pool.pool_id, stolen.epoch, args)


# --- In packets ----------------------------------------------------------------------------------


class _Liar:
    """Signs with its own key what bears somebody else's."""

    def __init__(self, public_key: bytes, signer: EdSigner) -> None:
        self.public_key = public_key
        self._signer = signer

    def sign(self, content: bytes) -> bytes:
        return self._signer.sign(content)


async def cast(args: Json) -> Json:
    """Say messages in packets, for so long, and do what a living member does meanwhile.

    With `as_key`, in the name of that public key; without, in the stolen name.
    """
    stolen = Stolen(Path(args["folder"]))
    signer: EdSigner | _Liar = stolen.signer
    if "as_key" in args:
        signer = _Liar(bytes.fromhex(args["as_key"]), stolen.signer)
        stolen.boot_epoch += LATER_S
    envelope = Envelope(
        stolen.pool.pool_id,
        signer,
        keys.ed_verify,
        stolen.boot_epoch,
        lambda node_id: "",
        lambda: secrets.token_bytes(8),
    )
    envelope.set_ring(stolen.ring.items(), stolen.use)
    heard = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("0.0.0.0", PORT))
        ends, next_say = time.monotonic() + args.get("seconds", 2.0), 0.0
        while (now := time.monotonic()) < ends:
            if now >= next_say:
                next_say = now + SAY_EVERY_S
                for kind in args["kinds"]:
                    body = codec.encode(_forged(stolen, kind, args))
                    wire.sendto(envelope.seal(body, None), (args["host"], PORT))
            if select.select([wire], [], [], 0.02)[0]:
                packet, source = wire.recvfrom(2_048)
                heard += _answered(envelope, wire, packet, source)
    return {"heard": heard}


def _answered(envelope: Envelope, wire: socket.socket, packet: bytes, source: Any) -> bool:
    opened = envelope.open(packet)
    if isinstance(opened, Reply):
        wire.sendto(opened.packet, source)
    if not isinstance(opened, Opened):
        return False
    message = codec.decode(opened.body)
    if isinstance(message, Ping):  # a member that is silent is not long a member
        ack = codec.encode(Ack(message.sequence))
        wire.sendto(envelope.seal(ack, opened.sender), source)
    return True


# --- In front of the port ------------------------------------------------------------------------


async def flood(args: Json) -> Json:
    """So many connections that say nothing, held until stdin ends. Says "held" first."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.get_running_loop()
    held: list[socket.socket] = []

    async def one(source: str) -> None:
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setblocking(False)
        held.append(tcp)
        with contextlib.suppress(OSError):
            tcp.bind((source, 0))
            async with asyncio.timeout(FRAME_WAIT_S):
                await loop.sock_connect(tcp, (args["host"], PORT))

    sources = args["sources"]
    for first in range(0, args["count"], FLOOD_AT_ONCE):
        batch = range(first, min(first + FLOOD_AT_ONCE, args["count"]))
        await asyncio.gather(*(one(sources[n % len(sources)]) for n in batch))
    print("held", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return {"opened": len(held)}


# --- Between a newcomer and its pool -------------------------------------------------------------


class _Beacons(asyncio.DatagramProtocol):
    """Answers every newcomer: the pool is here, and I have your code."""

    def __init__(self, args: Json) -> None:
        self._args = args

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, packet: bytes, source: tuple[str, int]) -> None:
        seek = decode_beacon(packet)
        if isinstance(seek, Seek):
            here = Here(
                nonce=seek.nonce,
                pool_id=bytes.fromhex(self._args["pool_id"]),
                pool_name=self._args["pool_name"],
                node_id=NodeId("a" * 26),
                node_name="pc1",
                port=PORT,
                members=3,
                doors=(Address(self._args["own"], PORT),),
                is_sponsor=True,
            )
            self._transport.sendto(encode_beacon(here), source)


async def relay(args: Json) -> Json:
    """Stand between: TLS to both sides, every byte passed on, or (`lies`) answers made up.

    Until stdin ends. The certificate that it shows is of a pool of its own.
    """
    folder = Path(args["folder"])
    signer = keys.load_node_key(folder)
    founded = found_pool(
        folder, signer, pool_name="trap", node_name="pc1", person="eve", now_unix_s=_now_s()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / keys.CERTIFICATE_FILE, folder / keys.NODE_KEY_FILE)
    visits: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(str(writer.get_extra_info("peername")[0]))
        with contextlib.suppress(OSError, EOFError):
            if args.get("lies"):
                await _lie(Channel(reader, writer, STRANGER_BYTES_MAX), founded)
            elif args.get("signs"):
                visitor = Channel(reader, writer, STRANGER_BYTES_MAX)
                await _ask_instead(visitor, signer, args["host"])
            else:
                await _pass_on(reader, writer, args["host"])

    loop = asyncio.get_running_loop()
    beacons, _ = await loop.create_datagram_endpoint(
        lambda: _Beacons(args), local_addr=("0.0.0.0", PORT), allow_broadcast=True
    )
    server = await asyncio.start_server(serve, "0.0.0.0", PORT, ssl=context)
    print("listening", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    beacons.close()
    return {"visits": len(visits)}


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
    """All bytes, both ways, in clear in between."""
    there, back = await asyncio.open_connection(
        host, PORT, ssl=joining_context(), server_hostname="anybody"
    )

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(LAST_WORDS_BYTES):
            sink.write(piece)
            await sink.drain()
        sink.close()

    await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)


async def _ask_instead(visitor: Channel, signer: EdSigner, host: str) -> None:
    """Ask at the true door with a key of its own; what proves the code goes through."""
    there, back = await asyncio.open_connection(
        host, PORT, ssl=joining_context(), server_hostname="anybody"
    )
    leaf = back.get_extra_info("ssl_object").getpeercert(binary_form=True)
    door = Channel(there, back, GRANTED_BYTES_MAX)
    await door.send(await visitor.receive())
    shown = await door.expect(Shown)
    await visitor.send(shown)
    ask = await visitor.expect(AskByCode)
    content = proof_content("code", leaf, shown.nonce, signer.public_key, ask.name)
    proof = signer.sign(content)
    await door.send(replace(ask, public_key=signer.public_key, proof=proof))
    await visitor.send(await door.receive())
    await door.send(await visitor.receive())
    await visitor.send(await door.receive())
    back.transport.abort()


async def _lie(channel: Channel, founded: Any) -> None:
    """A door that does not know the code and says "welcome" all the same."""
    own = decode_bundle(founded.bundle)
    assert own is not None
    await channel.expect(Knock)
    await channel.send(Shown(DOOR_PROTOCOL, founded.bundle, founded.pool.root, bytes(16)))
    ask = await channel.expect(AskByCode)
    exchange = await sponsor_exchange(b"000-guess-guess", ask.public_key, ask.name, own.leaf)
    await exchange.finish(ask.message)
    await channel.send(Response(exchange.message))
    await channel.expect(Confirmation)
    key = (PoolKey(1, bytes(32)),)
    await channel.send(
        Granted(founded.pool.root, founded.bundle, key, 1, (), (), 1, exchange.confirmation)
    )


def _now_s() -> int:
    return int(time.time())  # noqa: TID251  certificates have dates


VERBS = {"hail": hail, "post": post, "mangle": mangle, "cast": cast, "flood": flood, "relay": relay}


def main(words: list[str]) -> int:
    verb, args = words
    with asyncio.Runner() as runner:
        print(json.dumps(runner.run(VERBS[verb](json.loads(args)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
