"""`python -m tests.fuzz [CASES] [SEED]`: mutated bytes at every place where strange bytes come in.

Deterministic: a seed and the number of a case are the case. Four kinds of strangers are played:
one who has nothing but recordings, one who holds the pool's key, one who can sign as anybody
(signatures are cheap here), and a member that writes nonsense. Nothing may be raised at the
boundary, and what is kept of it all may not grow.
"""

import asyncio
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b, sha256
from struct import Struct

import msgpack
import psutil
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from rain.effects import Message
from rain.mesh import beacon, certificates, codec, door, frames
from rain.mesh.codec import Rejected
from rain.mesh.envelope import (
    PACKET_BODY_BYTES_MAX,
    PACKET_BYTES_MAX,
    Opened,
    Reply,
    node_id_of,
)
from rain.model import NodeId, Role
from rain.trust.credential import Inspect
from tests.mesh.drawing import draw
from tests.mesh.rig import MESSAGES, POOL_ID, POOL_KEY, RECORDS, CheapSigner, cheap_signature
from tests.mesh.sealing import envelope
from tests.mesh.stuffing import stuffed

CASES = 1_000_000
MESSAGES_PER_KIND = 12
STATIONS = 6
NAMES = 64
"""Whose keys a forger uses: so many that tables fill, so few that they are full soon."""
REPLIES_MAX = 3
GROWN_BLOCKS_MAX = 4_096
GROWN_BYTES_MAX = 8 * 2**20
"""What the second half of a run may keep more than the first, in small objects and in all."""
CHECK_EVERY = 1_000
STUFFED_BYTES = 32 * 1024
STUFFED_S_MAX = 0.5
"""To read so many bytes of small elements, on a busy machine: a hundred times what is usual."""
INTERESTING = bytes.fromhex("00017f80c0c1c4c5c6c7c9cacbcfd0d3d4d9dadbdcdddedf9091929f8081a0bfe0ff")
EXTREMES = (0, 1, 2, 3, 1_023, 1_024, 1_025, 2**31, 2**62, 2**63, 2**64 - 1)

PERSON = b"rain envelope"
NOW_UNIX_S = 1_700_000_000
STRANGE: tuple[object, ...] = (
    *(None, True, 0, -1, 2**63, -(2**63), 0.5, float("nan"), float("inf"), [], [[]], [None] * 99),
    *("", "x" * 500, "\x1b[2J", b"", b"\xff" * 500, "SUCCEEDED", {}, {"a": 1}, {1: [2]}),
)
"""What may stand where a field should."""

# What the envelope writes, written once more by whoever forges it.
_STAMP = Struct(">32sQQ30s")
_CONTROL = Struct(">B8s8sQ")


class Escaped(Exception):
    """Something was raised where bytes come in, or something grew."""


def mutated(rng: random.Random, sample: bytes, other: bytes) -> bytes:
    """One to four accidents or intentions."""
    content = bytearray(sample)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(9):
            case 0 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(content):
                content[at] = rng.choice(INTERESTING)
            case 2:
                del content[at:]
            case 3:
                del content[at : at + rng.randrange(1, 9)]
            case 4:
                content[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 5:
                content[at:at] = bytes((rng.choice(INTERESTING),)) * rng.choice((1, 2, 8, 64))
            case 6:
                content[at:] = other[rng.randrange(len(other) + 1) :]
            case 7:
                content[at:at] = content[at : at + rng.randrange(1, 33)]
            case _:
                content[at : at + 4] = rng.choice(EXTREMES).to_bytes(8, "big")[rng.randrange(8) :]
    return bytes(content)


def retyped(rng: random.Random, sample: bytes, other: bytes) -> bytes:
    """Sound msgpack, in which one thing is another than it should be; else an accident."""
    try:
        fields, strange = msgpack.unpackb(sample), rng.choice(STRANGE)
    except ValueError:
        return mutated(rng, sample, other)
    at = fields
    while isinstance(at, list) and at:
        place = rng.randrange(len(at))
        if isinstance(at[place], list) and at[place] and rng.randrange(4):
            at = at[place]
            continue
        if rng.randrange(3):
            at[place] = strange
        elif rng.randrange(2):
            del at[place]
        else:
            at[place:place] = at[place : place + 1] * rng.choice((1, 40))
        break
    packed: bytes = msgpack.packb(fields)
    return packed


def damaged(rng: random.Random, sample: bytes, other: bytes) -> bytes:
    return rng.choice((mutated, retyped))(rng, sample, other)


class Fuzz:
    """One run: the receiver and what is thrown at it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.outcomes: dict[str, Counter[str]] = {}
        rng = random.Random(f"{seed} samples")
        kinds = [kind for kind in MESSAGES for _ in range(MESSAGES_PER_KIND)]
        self._messages = [codec.encode(draw(kind, rng)) for kind in kinds]
        self._bodies = [body for body in self._messages if len(body) <= PACKET_BODY_BYTES_MAX]
        self._records = [codec.encode_record(draw(kind, rng)) for kind in RECORDS]
        self._said = [codec.pack(draw(kind, rng)) for kind in door.Said.__subclasses__()]
        self._frames = [codec.pack(draw(kind, rng)) for kind in frames.Frame.__subclasses__()]
        node_id = NodeId("a" * 26)
        here = beacon.Here(b"n" * 8, POOL_ID, "home", node_id, "attic", 7_246, 3)
        seek = beacon.Seek(node_id, b"n" * 8, "482", "laptop")
        self._beacons = [beacon.encode_beacon(each) for each in (here, seek)]
        self._bundle, self._inspect = _certified()
        self._kinds_said = codec.by_tag(door.Said.__subclasses__())
        self._kinds = codec.by_tag([*MESSAGES, *RECORDS])
        self._full = [
            body for kind in self._kinds.values() for _, body in stuffed(kind, STUFFED_BYTES)
        ]
        self._boots = 1
        self.receiver = envelope("receiver")
        self._stations = [envelope(f"station {at}") for at in range(STATIONS)]
        self._recorded: list[bytes] = [self._stations[0].seal(b"first", None)]
        self._cipher = ChaCha20Poly1305(POOL_KEY)
        self._runner = asyncio.Runner()
        self._targets: tuple[tuple[int, Callable[[random.Random], str]], ...] = (
            (30, self._replayed),
            (30, self._spoken),
            (30, self._forged),
            (20, self._nonsense),
            (20, self._message),
            (20, self._record),
            (10, self._beacon),
            (10, self._door),
            (10, self._frame),
            (2, self._stuffed),
            (2, self._certificate),
        )

    def run(self, cases: int) -> None:
        """Raises Escaped, with all that is needed to see it again."""
        names = [target for weight, target in self._targets for _ in range(weight)]
        kept = _kept()
        for number in range(cases):
            rng = random.Random(f"{self.seed}/{number}")
            target = rng.choice(names)
            word = target.__name__.strip("_")
            try:
                outcome = target(rng)
                if number % CHECK_EVERY == 0:
                    self.receiver.check()
            except Exception as error:
                raise Escaped(f"seed {self.seed} case {number}: {word}") from error
            self.outcomes.setdefault(word, Counter())[outcome] += 1
            if number == cases // 2:
                kept = _kept()
        grown = [now - then for now, then in zip(_kept(), kept, strict=True)]
        self._runner.close()
        if grown[0] > GROWN_BLOCKS_MAX or grown[1] > GROWN_BYTES_MAX:
            raise Escaped(f"seed {self.seed}: grown by {grown} since half way")

    # --- packets -------------------------------------------------------------------------------

    def _open(self, packet: bytes) -> tuple[str, Reply | None]:
        opened = self.receiver.open(packet)
        if isinstance(opened, Opened):
            decoded = codec.decode(opened.body)
            return (decoded.reason if isinstance(decoded, Rejected) else "taken"), None
        if isinstance(opened, Reply):
            assert len(opened.packet) <= PACKET_BYTES_MAX
            return "replied", opened
        return opened.reason, None

    def _record_packet(self, rng: random.Random, packet: bytes) -> None:
        if len(self._recorded) < NAMES:
            self._recorded.append(packet)
        else:
            self._recorded[rng.randrange(NAMES)] = packet

    def _replayed(self, rng: random.Random) -> str:
        """Recordings, as they were or damaged."""
        packet = rng.choice(self._recorded)
        if rng.randrange(4):
            packet = mutated(rng, packet, rng.choice(self._recorded))
        return self._open(packet)[0]

    def _spoken(self, rng: random.Random) -> str:
        """A member speaks; what follows may be damaged, lost, doubled or reflected on its way."""
        at = rng.randrange(STATIONS)
        if not rng.randrange(50):
            self._boots += 1
            name = "receiver" if not rng.randrange(10) else f"station {at}"
            self._stations[at] = envelope(name, self._boots)
        station = self._stations[at]
        to = rng.choice((self.receiver.node_id, self.receiver.node_id, None))
        packet = station.seal(rng.choice(self._bodies), to)
        for _ in range(REPLIES_MAX):
            self._record_packet(rng, packet)
            if not rng.randrange(10):
                packet = mutated(rng, packet, packet)
            outcome, reply = self._open(packet)
            if reply is None:
                return outcome
            if not rng.randrange(10):
                self._open(reply.packet)
            answer = station.open(reply.packet)
            if not isinstance(answer, Reply):
                return "unanswered"
            packet = answer.packet
        return self._open(packet)[0]

    def _forged(self, rng: random.Random) -> str:
        """Whoever can sign as anybody, the receiver included, and count as it likes."""
        name = rng.choice(("receiver", f"{rng.random()}", f"name {rng.randrange(NAMES)}"))
        signer = CheapSigner(name)
        is_control = rng.randrange(2)
        own = sha256(self.receiver.node_id.encode()).digest()[:30]
        unsigned = _STAMP.pack(
            signer.public_key,
            rng.choice(EXTREMES),
            rng.choice((*EXTREMES, rng.getrandbits(12))),
            rng.choice((own, own, own, bytes(30), rng.randbytes(30))),
        )
        nonces = (bytes(8), rng.randbytes(8))
        body = rng.choice(self._bodies)
        if is_control:
            kinds, newer = rng.randrange(256), rng.choice(EXTREMES)
            body = _CONTROL.pack(kinds, rng.choice(nonces), rng.choice(nonces), newer)
        if not rng.randrange(4):
            body = mutated(rng, body, body)[:PACKET_BODY_BYTES_MAX]
        clear = b"rn\x01" + bytes((1 | is_control << 7,)) + POOL_ID[:2]
        digest = blake2b(POOL_ID + clear + unsigned + body, digest_size=64, person=PERSON)
        signature = cheap_signature(signer.public_key, digest.digest())
        plain = unsigned + signature + body
        if not rng.randrange(8):
            plain = mutated(rng, plain, plain)[: PACKET_BYTES_MAX - 34]
        nonce = rng.randbytes(12)
        sealed = self._cipher.encrypt(nonce, plain, clear + POOL_ID)
        return self._open(clear + nonce + sealed)[0]

    def _nonsense(self, rng: random.Random) -> str:
        """A member that is taken at its word says something that was never a message."""
        body = damaged(rng, rng.choice(self._bodies), rng.choice(self._bodies))
        packet = self._stations[0].seal(body[:PACKET_BODY_BYTES_MAX], self.receiver.node_id)
        outcome, reply = self._open(packet)
        if reply is not None:
            answer = self._stations[0].open(reply.packet)
            if isinstance(answer, Reply):
                self._open(answer.packet)
        return outcome

    # --- everything else -----------------------------------------------------------------------

    def _message(self, rng: random.Random) -> str:
        body = damaged(rng, rng.choice(self._messages), rng.choice(self._messages))
        decoded = codec.decode(body)
        if isinstance(decoded, Rejected):
            return decoded.reason
        assert isinstance(decoded, Message)
        assert codec.decode(codec.encode(decoded)) == decoded, "what is taken can be passed on"
        return "taken"

    def _record(self, rng: random.Random) -> str:
        body = damaged(rng, rng.choice(self._records), rng.choice(self._messages))
        decoded = codec.decode_record(body)
        if isinstance(decoded, Rejected):
            return decoded.reason
        assert codec.decode_record(codec.encode_record(decoded)) == decoded
        return "taken"

    def _beacon(self, rng: random.Random) -> str:
        packet = rng.choice(self._beacons)
        if rng.randrange(2):  # inside, with a length that fits
            body = damaged(rng, packet[5:].rstrip(b"\0"), packet)[:600]
            packet = packet[:3] + len(body).to_bytes(2, "big") + body
            if rng.randrange(2):
                packet = packet.ljust(beacon.BEACON_BYTES, b"\0")
        else:
            packet = mutated(rng, packet, rng.choice(self._beacons))
        decoded = beacon.decode_beacon(packet)
        if isinstance(decoded, Rejected):
            return decoded.reason
        assert len(beacon.encode_beacon(decoded)) <= beacon.BEACON_BYTES
        return "taken"

    def _door(self, rng: random.Random) -> str:
        body = damaged(rng, rng.choice(self._said), rng.choice(self._said))
        decoded = codec.unpack(body, self._kinds_said)
        return decoded.reason if isinstance(decoded, Rejected) else "taken"

    def _frame(self, rng: random.Random) -> str:
        chosen = [rng.choice(self._frames) for _ in range(3)]
        if rng.randrange(2):
            chosen[0] = retyped(rng, chosen[0], chosen[1])
        stream = b"".join(len(each).to_bytes(4, "big") + each for each in chosen)
        stream = mutated(rng, stream, rng.choice(self._frames))
        return self._runner.run(_frames_in(stream, rng.random() < 0.5))

    def _stuffed(self, rng: random.Random) -> str:
        """As many small things as a place has room for, or more, or where none belong."""
        body = rng.choice(self._full)
        if rng.randrange(4):
            body = mutated(rng, body, rng.choice(self._full))
        began_s = time.thread_time()
        decoded = codec.unpack(body, self._kinds)
        assert time.thread_time() - began_s < STUFFED_S_MAX, "small things take long"
        return decoded.reason if isinstance(decoded, Rejected) else "taken"

    def _certificate(self, rng: random.Random) -> str:
        bundle = mutated(rng, self._bundle, self._bundle)
        credential = self._inspect(bundle)
        assert credential in (None, self._inspect(self._bundle)), "it says what nobody signed"
        return "refused" if credential is None else "taken"


def _kept() -> tuple[int, int]:
    gc.collect()
    return sys.getallocatedblocks(), psutil.Process().memory_info().rss


class _Silent:
    """A writer that nobody listens to; a frame is only read here."""

    def get_extra_info(self, _: str) -> None:
        return None


async def _frames_in(stream: bytes, is_known: bool) -> str:
    reader = frames.BoundedReader(frames.STRANGER_BYTES_MAX)
    connection = frames.Connection(reader, _Silent())  # type: ignore[arg-type]
    if is_known:
        connection.settle(NodeId("a" * 26), b"", 1)
    reader.feed_data(stream)
    reader.feed_eof()
    try:
        while True:
            await connection.receive()
    except frames.BrokenConnection as broken:
        return broken.reason


def _certified() -> tuple[bytes, Inspect]:
    """A real bundle, and who reads such. Its serial numbers are drawn anew in every run."""
    root = certificates.make_root(b"e" * 16, "home", NOW_UNIX_S)
    public_key = certificates.public_key_of(b"a" * 32)
    authority_key = certificates.public_key_of(b"c" * 32)
    chain = root.certify(authority_key, node_id_of(public_key), 1, NOW_UNIX_S)
    admin = certificates.Authority(b"c" * 32, chain)
    bundle = admin.issue(
        public_key,
        name="attic",
        role=Role.ADMIN,
        person="ann",
        generation=1,
        invite_id="",
        now_unix_s=NOW_UNIX_S,
    )
    inspect = certificates.make_inspect(root.pool)
    assert inspect(bundle) is not None
    return bundle, inspect


def main(arguments: list[str]) -> int:
    """Fuzz, and say what became of it all."""
    cases = int(arguments[0]) if arguments else CASES
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    fuzz = Fuzz(seed)
    began = time.perf_counter()
    fuzz.run(cases)
    took_s = time.perf_counter() - began
    for word, counts in sorted(fuzz.outcomes.items()):
        told = ", ".join(f"{outcome} {count:,}" for outcome, count in counts.most_common())
        print(f"{word:<12} {counts.total():>9,}  {told}")
    print(f"{cases:,} cases in {took_s:.0f} s, seed {seed}: nothing was raised, nothing grew")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
