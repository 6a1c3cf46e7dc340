"""Envelopes for the tests, with cheap signatures, and a wire between them that can be recorded."""

import random
from collections.abc import Callable
from itertools import groupby

from rain.mesh.codec import Rejected
from rain.mesh.envelope import Envelope, Opened, Reply
from rain.mesh.freshness import NONCE_BYTES
from rain.model import NodeId
from tests.mesh.rig import POOL_ID, POOL_KEY, CheapSigner, cheap_verify

REPLIES_MAX = 3
"""What may follow on one packet."""


def everybody(_: NodeId) -> str:
    return ""


def dice(seed: str) -> Callable[[], bytes]:
    rng = random.Random(seed)
    return lambda: rng.randbytes(NONCE_BYTES)


def envelope(
    name: str,
    boot_epoch: int = 1,
    pool_id: bytes = POOL_ID,
    pool_key: bytes = POOL_KEY,
    number: int = 1,
    protocol: int = 1,
    admits: Callable[[NodeId], str] = everybody,
    chance: str = "",
) -> Envelope:
    nonce = dice(f"{name} {boot_epoch} {chance}")
    signer = CheapSigner(name)
    made = Envelope(pool_id, signer, cheap_verify, boot_epoch, admits, nonce, protocol)
    made.set_ring([(number, pool_key)], number)
    return made


def prove(sender: Envelope, receiver: Envelope) -> None:
    """Let `receiver` have heard and challenged `sender`, over a wire that loses nothing."""
    answer = receiver.open(sender.seal(b"first", receiver.node_id))
    ends = (receiver, sender)
    for turn in range(REPLIES_MAX):
        if not isinstance(answer, Reply):
            return
        answer = ends[1 - turn % 2].open(answer.packet)
    assert not isinstance(answer, Reply), "M7: a reply too many"


class Wire:
    """Tells a story line by line: who sends, what becomes of it, and what follows."""

    def __init__(self, **stations: Envelope) -> None:
        self.stations = stations
        self.lines: list[str] = []
        self.record: list[tuple[str, str, bytes]] = []
        """(from, to, packet), in the order sent."""
        self.taken: list[bytes] = []

    def story(self) -> str:
        """All lines since the last time; equal ones in a row are told once."""
        told, self.lines = self.lines, []
        runs = [(line, len(list(run))) for line, run in groupby(told)]
        times = (f"{line} ({count} times)" if count > 1 else line for line, count in runs)
        return "\n".join(times) + "\n"

    def told(self, expected: str) -> None:
        story = self.story()
        assert story == expected, story

    def say(self, source: str, target: str, body: bytes, everybody: bool = False) -> None:
        """One body, and all that follows on it."""
        to = None if everybody else self.stations[target].node_id
        packet = self.stations[source].seal(body, to)
        self.lines.append(f"{source} to {target}: {body.decode()}")
        self.deliver(source, target, packet)

    def deliver(self, source: str, target: str, packet: bytes) -> None:
        for _ in range(1 + REPLIES_MAX):
            self.record.append((source, target, packet))
            reply = self._open(target, packet)
            if reply is None:
                return
            source, target, packet = target, source, reply.packet
        raise AssertionError("M7: replies without end")

    def play(self, packet: bytes, target: str) -> Reply | None:
        """What was recorded, from a place where nobody listens to the answer."""
        return self._open(target, packet)

    def _open(self, target: str, packet: bytes) -> Reply | None:
        station = self.stations[target]
        before = dict(station.controls), dict(station.dropped)
        opened = station.open(packet)
        station.check()
        heard = _more(station.controls, before[0])
        dropped = _more(station.dropped, before[1])
        if isinstance(opened, Opened):
            self.taken.append(opened.body)
            self.lines.append(f"  {target} takes {opened.body.decode()}")
            return None
        words = " and ".join([*heard, *dropped])
        if isinstance(opened, Reply):
            self.lines.append(f"  {target}: {words}, replies")
            return opened
        assert isinstance(opened, Rejected)
        self.lines.append(f"  {target}: {words}")
        return None


def _more(after: dict[str, int], before: dict[str, int]) -> list[str]:
    return [word for word, count in after.items() if count > before.get(word, 0)]
