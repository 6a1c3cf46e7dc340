"""A pool in virtual time: members, a lossy network, disks. One seed, one history."""

import heapq
import random

from rain.claims import Verify
from rain.effects import (
    Broadcast,
    Cast,
    DeadlinePassed,
    Event,
    Log,
    MemberDown,
    MemberUp,
    Message,
    Notice,
    Output,
    Persist,
    Post,
    Received,
    Record,
    Route,
    Send,
    Stopped,
)
from rain.gossip.member import packed_bytes
from rain.gossip.membership import GossipConfig, Membership
from rain.gossip.messages import MemberRecord
from rain.model import Address, Facts, Identity, MemberState, NodeId, Resources
from tests.gossip.signing import admitted, signed, signer_of, verify

PACKET_BODY_BYTES_MAX = 1_000
STREAM_DELAY_MS = 5
DEFAULTS = GossipConfig()
ADMITTED = 40
"""Indexes up to this one are in the roll from the start."""


def node_id(index: int) -> NodeId:
    return NodeId(f"n{index:02d}")


def address_of(index: int) -> Address:
    return Address(f"10.0.0.{index}", 7246)


def facts_of(index: int) -> Facts:
    return Facts(capacity=Resources(1_000 * index, 1), executors=("process",), works=True)


def member(
    index: int,
    now_ms: int = 0,
    recovered: tuple[Record, ...] = (),
    boot_epoch: int = 1,
    config: GossipConfig = DEFAULTS,
    host: str = "",
    seed: int = 1,
    admitted_up_to: int = ADMITTED,
    verify: Verify = verify,
) -> Membership:
    identity = Identity(node_id(index), f"pc{index}", boot_epoch)
    address = Address(host, 7246) if host else address_of(index)
    rng = random.Random(seed * 1_000 + index)
    core = Membership(
        identity,
        address,
        facts_of(index),
        config,
        rng,
        now_ms,
        recovered,
        sign=signer_of(node_id(index)),
        verify=verify,
    )
    for other in range(1, admitted_up_to + 1):
        assert core.handle(admitted(node_id(other), f"pc{other}"), now_ms) == []
    return core


def record_of(
    index: int,
    state: MemberState = MemberState.ALIVE,
    incarnation: int = 0,
    accuser: int | None = None,
    boot_epoch: int = 1,
) -> MemberRecord:
    return signed(
        MemberRecord(
            node_id(index),
            f"pc{index}",
            address_of(index),
            boot_epoch,
            incarnation,
            state,
            NodeId("") if accuser is None else node_id(accuser),
        )
    )


def received(
    index: int, message: Message, boot_epoch: int = 1, by_stream: bool = False
) -> Received:
    return Received(node_id(index), message, address_of(index), boot_epoch, by_stream)


class Pool:
    """Members by index; packets are lost, delayed and overtaken, streams only delayed."""

    def __init__(self, seed: int, loss: float = 0.0, verified: list[bytes] | None = None) -> None:
        """`verified` is where the signatures go that anybody had to check."""
        self.now_ms = 0
        self.verified = [] if verified is None else verified
        self.loss = loss
        self.members: dict[int, Membership] = {}
        self.notices: list[tuple[int, int, Notice]] = []
        self.logs: list[tuple[int, Log]] = []
        self.disks: dict[int, dict[str, Record]] = {}
        self.cut: set[tuple[int, int]] = set()
        self.bytes_sent: dict[int, int] = {}
        self.packets_sent: dict[int, int] = {}
        self._seed = seed
        self._rng = random.Random(seed)
        self._boots: dict[int, int] = {}
        self._routes: dict[int, dict[NodeId, Address]] = {}
        self._mail: list[tuple[int, int, int, int, Message, bool, int]] = []
        self._mailed = 0
        self._fed = 0
        self._deadlines: dict[int, int | None] = {}

    def start(self, index: int, config: GossipConfig = DEFAULTS) -> None:
        self._boots[index] = self._boots.get(index, 0) + 1
        self._routes[index] = {}
        recovered = tuple(self.disks.setdefault(index, {}).values())
        self.members[index] = member(
            index,
            self.now_ms,
            recovered,
            self._boots[index],
            config,
            host="0.0.0.0",
            seed=self._seed,
            verify=self._verify,
        )
        self._deadlines[index] = self.now_ms

    def kill(self, index: int) -> None:
        del self.members[index]

    def split(self, side: set[int], other: set[int]) -> None:
        self.cut = {(a, b) for a in side for b in other} | {(b, a) for a in side for b in other}

    def feed(self, index: int, event: Event | Notice) -> list[Output]:
        core = self.members[index]
        outputs = core.handle(event, self.now_ms)
        self._fed += 1
        if len(self.members) < 8 or self._fed % 16 == 0:
            core.check()
        self._deadlines[index] = core.next_deadline_ms()
        for output in outputs:
            self._carry_out(index, output)
        return outputs

    def run(self, duration_ms: int) -> None:
        end_ms = self.now_ms + duration_ms
        while True:
            deadlines = [
                (deadline_ms, index)
                for index, deadline_ms in self._deadlines.items()
                if deadline_ms is not None and index in self.members
            ]
            timer = min(deadlines, default=(end_ms + 1, 0))
            mail_ms = self._mail[0][0] if self._mail else end_ms + 1
            if min(timer[0], mail_ms) > end_ms:
                break
            if mail_ms <= timer[0]:
                self._deliver()
            else:
                self.now_ms = max(self.now_ms, timer[0])
                self.feed(timer[1], DeadlinePassed())
        self.now_ms = end_ms

    def states(self, index: int) -> dict[int, MemberState]:
        """What that member believes, by index."""
        return {
            int(known.record.node_id[1:]): known.record.state
            for known in self.members[index].members()
        }

    def agree(self, indexes: list[int]) -> bool:
        """Do all of these see exactly these alive, with their facts?"""
        for index in indexes:
            alive = [
                (known.record.node_id, known.facts.capacity)
                for known in self.members[index].members()
                if known.record.state is MemberState.ALIVE
            ]
            if alive != [(node_id(other), facts_of(other).capacity) for other in sorted(indexes)]:
                return False
        return True

    def downs(self) -> list[tuple[int, NodeId, MemberState]]:
        return [
            (index, notice.node_id, notice.state)
            for _, index, notice in self.notices
            if isinstance(notice, MemberDown)
        ]

    def ups(self, index: int) -> list[NodeId]:
        return [
            notice.node_id
            for _, at, notice in self.notices
            if at == index and isinstance(notice, MemberUp)
        ]

    def _verify(self, public_key: bytes, signature: bytes, content: bytes) -> bool:
        self.verified.append(signature)
        return verify(public_key, signature, content)

    def _deliver(self) -> None:
        at_ms, _, sender, to, message, by_stream, boot_epoch = heapq.heappop(self._mail)
        self.now_ms = max(self.now_ms, at_ms)
        if to in self.members and (sender, to) not in self.cut:
            self.feed(to, received(sender, message, boot_epoch, by_stream))

    def _carry_out(self, index: int, output: Output) -> None:
        match output:
            case Send(to=to, message=message):
                self._packet(index, (to,), message)
            case Cast(to=several, message=message):
                self._packet(index, several, message)
            case Broadcast(message=message):
                self._count(index, message, 1)
                for other in sorted(self._boots):
                    self._mail_to(index, other, message, False)  # its own echo too
            case Post(to=to, message=message):
                self._count(index, message, 1)
                self._mail_to(index, int(to[1:]), message, True)
            case Route(node_id=known, address=address):
                assert address.host not in ("", "0.0.0.0")
                self._routes[index][known] = address
            case Persist(puts=puts, deletes=deletes):
                self.disks[index].update({record.key(): record for record in puts})
                for key in deletes:
                    del self.disks[index][key]
            case Stopped():
                self.kill(index)
            case Log():
                self.logs.append((index, output))
            case _:
                assert isinstance(output, Notice), output
                self.notices.append((self.now_ms, index, output))

    def _packet(self, index: int, to: tuple[NodeId, ...], message: Message) -> None:
        assert packed_bytes(message) <= PACKET_BODY_BYTES_MAX
        self._count(index, message, len(to))
        for receiver in to:
            assert receiver != node_id(index), "nobody talks to itself"
            address = self._routes[index].get(receiver)
            if address is not None:
                self._mail_to(index, int(address.host.rsplit(".", 1)[1]), message, False)

    def _count(self, index: int, message: Message, packets: int) -> None:
        size_bytes = (packed_bytes(message) + 180) * packets
        self.bytes_sent[index] = self.bytes_sent.get(index, 0) + size_bytes
        self.packets_sent[index] = self.packets_sent.get(index, 0) + packets

    def _mail_to(self, index: int, to: int, message: Message, by_stream: bool) -> None:
        if not by_stream and to != index and self._rng.random() < self.loss:
            return
        delay_ms = STREAM_DELAY_MS if by_stream else 1 + int(self._rng.random() * 10)
        self._mailed += 1
        boot_epoch = self._boots[index]
        item = (self.now_ms + delay_ms, self._mailed, index, to, message, by_stream, boot_epoch)
        heapq.heappush(self._mail, item)
