"""Several elections in one virtual time, under latency, loss, crashes and cut links.

Gossip is an oracle here: it tells a node of every other that it can reach, and of deaths some
seconds late. Everything is drawn from one seed.
"""

import heapq
import random
from collections.abc import Callable
from functools import partial

from rain.effects import (
    Admitted,
    Barred,
    BrakeChanged,
    Cast,
    DeadlinePassed,
    DiskFailed,
    DiskRecovered,
    Event,
    HandedOver,
    Lagged,
    MaySleep,
    MemberDown,
    MemberSilent,
    MemberUnreachable,
    MemberUp,
    Message,
    Notice,
    Output,
    Persist,
    Persisted,
    Received,
    Record,
    ReignChanged,
    Send,
    ViewChanged,
)
from rain.election.core import Election, ElectionConfig
from rain.election.records import BehindRecord
from rain.model import Address, Epoch, Facts, Identity, MemberState, NodeId, Role

SOURCE = Address("192.0.2.1", 7246)
GOSSIP_UP_MS = 60
GOSSIP_DOWN_MS = 3_000


class Host:
    """One PC: its election while it is up, and its disk for ever."""

    def __init__(self, node_id: NodeId, rank: int) -> None:
        self.node_id = node_id
        self.rank = rank
        self.disk: dict[str, Record] = {}
        self.disk_ms = 4
        self.is_disk_full = False
        self.boot_epoch = 0
        self.election: Election | None = None
        self.woken_at = -1
        self.paused_until_ms = 0
        self.heard_of: dict[NodeId, int] = {}
        self.last_notice: dict[NodeId, int] = {}

    def mark_behind(self) -> None:
        """As whoever sets its disk back does."""
        mark = BehindRecord()
        self.disk[mark.key()] = mark


class Net:
    """Hosts, links and one clock."""

    def __init__(
        self,
        seed: int,
        count: int,
        *,
        ranks: tuple[int, ...] = (),
        workers: tuple[str, ...] = (),
    ) -> None:
        self.rng = random.Random(seed)
        self.config = ElectionConfig()
        self.now_ms = 0
        self.loss_percent = 0
        self.latency_ms = (1, 4)
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.hosts = {
            NodeId(f"n{i}"): Host(NodeId(f"n{i}"), ranks[i - 1] if ranks else 0)
            for i in range(1, count + 1)
        }
        self.roll = {node: Role.WORKER if node in workers else Role.MEMBER for node in self.hosts}
        self.story: list[tuple[int, NodeId, Notice]] = []
        self.announced: dict[NodeId, list[Epoch]] = {node: [] for node in self.hosts}
        self.may_sleep_ms: dict[str, int] = {}
        self.messages = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0

    # --- driving ---

    def at(self, when_ms: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (when_ms, self._sequence, action))

    def run(self, until_ms: int) -> None:
        while self._queue and self._queue[0][0] <= until_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
        self.now_ms = until_ms

    def start(self, *node_ids: str) -> None:
        for node in node_ids or tuple(self.hosts):
            host = self.hosts[NodeId(node)]
            host.boot_epoch += 1
            host.heard_of = {}
            host.election = Election(
                Identity(host.node_id, host.node_id, host.boot_epoch),
                host.rank,
                self.config,
                random.Random(self.rng.getrandbits(32)),
                self.now_ms,
                tuple(host.disk.values()),
            )
            for known in self.hosts:
                self.feed(host, self._standing(known))
            if host.is_disk_full:
                self.feed(host, DiskFailed("full"))
            self._wake(host)
        self.gossip()

    def crash(self, *node_ids: str) -> None:
        for node in node_ids:
            self.hosts[NodeId(node)].election = None
        self.gossip()

    def partition(self, side: tuple[str, ...]) -> None:
        for one in sorted(self.hosts):
            for other in sorted(self.hosts):
                if (one in side) != (other in side):
                    self.cut.add((one, other))
        self.gossip()

    def heal(self) -> None:
        self.cut.clear()
        self.gossip()

    def fill_disk(self, node: str) -> None:
        host = self.hosts[NodeId(node)]
        host.is_disk_full = True
        self.feed(host, DiskFailed("full"))

    def empty_disk(self, node: str) -> None:
        host = self.hosts[NodeId(node)]
        host.is_disk_full = False
        self.feed(host, DiskRecovered())

    def appoint(self, node: str, role: Role) -> None:
        """Another certificate: all that are up hear of it soon, the others when they start."""
        self.roll[NodeId(node)] = role
        self._tell_standing(NodeId(node))

    def bar(self, node: str) -> None:
        del self.roll[NodeId(node)]
        self._tell_standing(NodeId(node))

    def _standing(self, node: NodeId) -> Admitted | Barred:
        role = self.roll.get(node)
        return Barred(node) if role is None else Admitted(node, node, role, "ann")

    def _tell_standing(self, node: NodeId) -> None:
        for host in self.hosts.values():
            delay_ms = int(self.rng.random() * GOSSIP_UP_MS)
            self.at(self.now_ms + delay_ms, partial(self.feed, host, self._standing(node)))

    def pause(self, node: str, pause_ms: int) -> None:
        """The process stops; what arrives meanwhile waits. Then its driver notices the gap."""
        host = self.hosts[NodeId(node)]
        host.paused_until_ms = self.now_ms + pause_ms
        self.at(host.paused_until_ms, lambda: self.feed(host, Lagged(pause_ms)))

    def feed(self, host: Host, event: Event | Notice) -> None:
        if host.election is None:
            return
        if self.now_ms < host.paused_until_ms:
            self.at(host.paused_until_ms, lambda: self.feed(host, event))
            return
        outputs = host.election.handle(event, self.now_ms)
        host.election.check()
        for output in outputs:
            self._carry_out(host, output)
        self._wake(host)

    # --- effects ---

    def _carry_out(self, host: Host, output: Output) -> None:
        match output:
            case Send(to=to, message=message):
                self._transmit(host.node_id, to, host.boot_epoch, message)
            case Cast(to=several, message=message):
                for to in several:
                    self._transmit(host.node_id, to, host.boot_epoch, message)
            case Persist():
                self._write(host, output)
            case MemberSilent(node_id=node):
                self.story.append((self.now_ms, host.node_id, output))
                self.at(self.now_ms + 700, lambda: self._probe(host, node))
            case ReignChanged(epoch=epoch, mine=True):
                assert epoch is not None
                self.story.append((self.now_ms, host.node_id, output))
                if epoch not in self.announced[host.node_id]:
                    self.announced[host.node_id].append(epoch)
            case MaySleep():
                self.may_sleep_ms.setdefault(host.node_id, self.now_ms)
            case ReignChanged() | HandedOver() | BrakeChanged() | ViewChanged():
                self.story.append((self.now_ms, host.node_id, output))
            case _:
                pass

    def _write(self, host: Host, persist: Persist) -> None:
        boot_epoch = host.boot_epoch
        took_ms = host.disk_ms

        def finish() -> None:
            if host.boot_epoch != boot_epoch or host.election is None:
                return  # crashed before the write was done
            if host.is_disk_full:
                self.feed(host, DiskFailed("full"))
                return
            for record in persist.puts:
                host.disk[record.key()] = record
            for key in persist.deletes:
                host.disk.pop(key, None)
            if persist.token:
                self.feed(host, Persisted(persist.token, took_ms))

        self.at(self.now_ms + took_ms, finish)

    def _transmit(self, sender: NodeId, to: NodeId, boot_epoch: int, message: Message) -> None:
        self.messages += 1
        if self.loss_percent and self.rng.random() * 100 < self.loss_percent:
            return
        low, high = self.latency_ms
        arrival_ms = self.now_ms + low + int(self.rng.random() * (high - low + 1))

        def arrive() -> None:
            host = self.hosts.get(to)
            if host is not None and (sender, to) not in self.cut:
                self.feed(host, Received(sender, message, SOURCE, boot_epoch))

        self.at(arrival_ms, arrive)

    def _wake(self, host: Host) -> None:
        assert host.election is not None
        deadline_ms = host.election.next_deadline_ms()
        if deadline_ms is None:
            return
        when_ms = max(self.now_ms, deadline_ms)
        if host.woken_at == when_ms:
            return
        host.woken_at = when_ms

        def wake() -> None:
            if host.woken_at == when_ms:
                host.woken_at = -1
                self.feed(host, DeadlinePassed())

        self.at(when_ms, wake)

    # --- the oracle that stands for gossip ---

    def _reaches(self, one: NodeId, other: NodeId) -> bool:
        both_ways = (one, other) not in self.cut and (other, one) not in self.cut
        return self.hosts[other].election is not None and both_ways

    def gossip(self) -> None:
        """Tell every node what has changed for it, soon for life and late for death."""
        for one in self.hosts.values():
            if one.election is None:
                continue
            for other in self.hosts.values():
                if one is other:
                    continue
                if self._reaches(one.node_id, other.node_id):
                    delay_ms = int(self.rng.random() * GOSSIP_UP_MS)
                else:
                    delay_ms = GOSSIP_DOWN_MS + int(self.rng.random() * 1_000)
                self.at(self.now_ms + delay_ms, partial(self._spread, one, other))

    def _spread(self, one: Host, other: Host) -> None:
        known = one.heard_of.get(other.node_id, 0)
        if self._reaches(one.node_id, other.node_id):
            if known != other.boot_epoch:
                one.heard_of[other.node_id] = other.boot_epoch
                facts = Facts(rank=other.rank)
                self.feed(one, MemberUp(other.node_id, other.node_id, other.boot_epoch, facts))
        elif known:
            one.heard_of[other.node_id] = 0
            self.feed(one, MemberDown(other.node_id, MemberState.DEAD))

    def _probe(self, host: Host, target: NodeId) -> None:
        if host.election is not None and not self._reaches(host.node_id, target):
            self.feed(host, MemberUnreachable(target))

    # --- what is asked of it ---

    def up(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.election is not None]

    def coordinators(self) -> list[NodeId]:
        return [h.node_id for h in self.up() if h.election and h.election.role() == "coordinator"]

    def followed(self) -> list[Epoch | None]:
        return [h.election.reign() for h in self.up() if h.election]

    def takeovers(self, since_ms: int = 0) -> list[tuple[int, NodeId, Epoch]]:
        return [
            (at, node, notice.epoch)
            for at, node, notice in self.story
            if isinstance(notice, ReignChanged)
            and notice.mine
            and notice.takeover
            and notice.epoch is not None
            and at >= since_ms
        ]
