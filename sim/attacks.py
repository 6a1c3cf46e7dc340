"""What enemies on the cable do, and what members do who have turned bad.

    forge    noise, recordings that were cut, bent or spliced, packets and streams of a stranger who
             somehow got hold of the pool's key
    replay   recordings as they were, of any age, to anybody
    liar     a worker, or a member, says what only others may say, honestly signed by itself
    stolen   whoever got hold of a removed PC goes on with its keys

An enemy sends from the address of any host. He lies only to those who can know better: of whoever
has not heard of a removal yet, nothing is promised.
"""

import random
from collections.abc import Callable, Sequence

from rain.claims import Signer
from rain.mesh import codec
from rain.mesh.envelope import PACKET_BYTES_MAX, Envelope
from rain.model import NodeId, Role
from rain.trust.records import ClaimRow

from .credentials import Authority, Charter
from .host import Host
from .lies import Liar
from .network import Frame, Network
from .signing import signer_of, verify_of
from .tape import Recording, Tape
from .trace import Trace
from .workload import Workload
from .world import World, draw_int, pick

FORGED = 24
REPLAYED = 40
LIES = 16
LIES_OF_STOLEN = 60
STOLEN_EVERY_US = 400_000
FRAMES_SHARE = 0.6
MEMBERS_SHARE = 0.3
IMPOSTORS_SHARE = 0.3
COORDINATORS_SHARE = 0.4
"""Of the lies: to whoever decides."""
NUMBERS_AHEAD = 1_000
"""More packets than one boot of a host sends in a run, fewer than a window."""
HEAD_BYTES = 18


class Attacks:
    """Carries out what is hostile; counts what was sent."""

    def __init__(
        self,
        world: World,
        hosts: Sequence[Host],
        network: Network,
        charter: Charter,
        workload: Workload,
        tape: Tape,
        trace: Trace,
    ) -> None:
        self.sent = 0
        self._world = world
        self._hosts = hosts
        self._network = network
        self._charter = charter
        self._workload = workload
        self._tape = tape
        self._trace = trace
        self._dice = world.dice("attacks")
        self._stranger = signer_of(world.seed, "stranger")
        self._strangers_boot = 1

    # --- strikes -------------------------------------------------------------------------------

    def forge(self, span_us: int) -> None:
        self._say("forged packets")
        for _ in range(FORGED):
            self._later(span_us, self._forge_one)

    def replay(self, span_us: int) -> None:
        self._say("recordings are played")
        for _ in range(REPLAYED):
            self._later(span_us, self._replay_one)

    def lie(self, span_us: int) -> None:
        """A worker turns bad for a while, or a member."""
        awake = [host for host in self._hosts if host.is_awake and not host.is_removed]
        workers = [host for host in awake if host.role is Role.WORKER]
        members = [host for host in awake if host.role is Role.MEMBER]
        bad = members if self._dice.random() < MEMBERS_SHARE or not workers else workers
        if not bad:
            return
        host: Host = pick(self._dice, bad)
        self._say(f"{host.name} lies")
        liar = self._liar(host)
        for _ in range(LIES):
            self._later(span_us, self._lie_once, host, host.boot_epoch, liar)

    def steal(self, host: Host) -> None:
        """Somebody goes on with the keys of a removed host, until it is let in again."""
        self._say(f"the keys of {host.name} are in other hands")
        liar = self._liar(host)
        for number in range(LIES_OF_STOLEN):
            delay_us = number * STOLEN_EVERY_US
            self._world.after(delay_us, self._lie_removed, host, host.boot_epoch, liar)

    # --- strangers -----------------------------------------------------------------------------

    def _forge_one(self) -> None:
        target = self._target()
        draw = self._dice.random()
        if target is None:
            return
        if draw < 0.15:
            self._stranger_knocks(target)
        elif draw < 0.45:
            self._stranger_speaks(target)
        else:
            self._inject(target, self._bent(target))

    def _bent(self, target: Host) -> bytes:
        recording = self._tape.draw(self._dice)
        draw = draw_int(self._dice, 0, 5)
        if recording is None or draw == 0:
            return _noise(self._dice, draw_int(self._dice, 0, PACKET_BYTES_MAX + 50))
        packet = recording.packet
        at = draw_int(self._dice, 0, len(packet) - 1)
        if draw == 1:
            return packet[:at]
        if draw == 2:
            return packet + _noise(self._dice, draw_int(self._dice, 1, 40))
        if draw == 3:
            other = self._tape.draw(self._dice) or recording
            return packet[:at] + other.packet[at:]
        if draw == 4:
            head = bytearray(packet[:HEAD_BYTES])
            head[draw_int(self._dice, 0, 5)] ^= 1 << draw_int(self._dice, 0, 7)
            return bytes(head) + packet[HEAD_BYTES:]
        return (
            packet[:at] + bytes([packet[at] ^ 1 << draw_int(self._dice, 0, 7)]) + packet[at + 1 :]
        )

    def _stranger_speaks(self, target: Host) -> None:
        """Sealed with the pool's key, signed by nobody who is in; perhaps in a member's name."""
        assert target.node is not None
        self._strangers_boot += 1
        signer: Signer = self._stranger
        boot_epoch = self._strangers_boot
        member: Host = pick(self._dice, list(self._hosts))
        is_impostor = self._dice.random() < IMPOSTORS_SHARE
        if is_impostor:
            signer = _Impostor(member.signer.public_key, self._stranger)
            boot_epoch = member.boot_epoch
        envelope = Envelope(
            self._charter.pool_id,
            signer,
            verify_of(self._world.seed),
            boot_epoch,
            lambda _: "",
            lambda: bytes(8),
        )
        ring = target.node.trust.ring()
        envelope.set_ring(sorted(ring.keys.items()), ring.use)
        for _ in range(NUMBERS_AHEAD if is_impostor else 0):
            envelope.seal(b"", None)  # its next number shall be one that was not taken yet
        message = self._liar(target, self._stranger).packet(target)
        if message is not None:
            to = target.node_id if self._dice.random() < 0.5 else None
            self._inject(target, envelope.seal(codec.encode(message), to))

    def _stranger_knocks(self, target: Host) -> None:
        """A stream with a certificate of his own making, or with one of a member that he saw."""
        pretended: Host = pick(self._dice, list(self._hosts))
        bundle = self._charter.bundles[pretended.node_id]
        if self._dice.random() < 0.5:
            authority = Authority(self._stranger, self._stranger, 1, 0)
            bundle = authority.issue(
                self._stranger.public_key,
                name=pretended.name,
                role=Role.ADMIN,
                person=target.person,
                generation=1,
            )
        message = self._liar(target, self._stranger).frame(target)
        if message is not None and pretended is not target:
            body = codec.encode(message)
            frame = Frame(self._stranger.public_key, self._strangers_boot, bundle, body)
            self.sent += 1
            self._network.knock(pretended.index, target.index, frame)

    def _replay_one(self) -> None:
        recording = self._tape.draw(self._dice)
        if recording is None:
            return
        target = self._addressee(recording)
        if target is not None:
            self._inject(target, recording.packet)

    def _addressee(self, recording: Recording) -> Host | None:
        """Most are played to whom they were meant for, some to who wrote them, or to anybody."""
        draw = self._dice.random()
        if draw < 0.7:
            return self._hosts[recording.target]
        return self._hosts[recording.source] if draw < 0.8 else self._target()

    def _inject(self, target: Host, packet: bytes) -> None:
        self.sent += 1
        source: Host = pick(self._dice, [host for host in self._hosts if host is not target])
        self._network.inject(source.index, target.index, packet)

    # --- those who were or are in --------------------------------------------------------------

    def _lie_once(self, host: Host, boot_epoch: int, liar: Liar) -> None:
        target = self._target()
        reigning = [one for one in self._hosts if one.is_awake and one.is_coordinator]
        if reigning and self._dice.random() < COORDINATORS_SHARE:
            target = pick(self._dice, reigning)
        if host.boot_epoch != boot_epoch or not host.is_awake or target is None:
            return
        if target is not host and not host.is_removed and not _follows(target, host):
            self._speak(host, target, liar)

    def _lie_removed(self, host: Host, boot_epoch: int, liar: Liar) -> None:
        if host.boot_epoch != boot_epoch or not host.is_removed:
            return
        knowing = [
            target
            for target in self._hosts
            if target is not host and target.is_awake and knows_removal(target, host.node_id)
        ]
        if knowing:
            self._speak(host, pick(self._dice, knowing), liar)

    def _speak(self, host: Host, target: Host, liar: Liar) -> None:
        """With the host's own key, envelope and bundle."""
        if self._dice.random() < FRAMES_SHARE:
            message = liar.frame(target)
            if message is not None:
                self.sent += 1
                self._network.post(host.index, target.index, host.wire.frame(message))
            return
        message = liar.packet(target)
        if message is not None:
            self.sent += 1
            to = target.node_id if self._dice.random() < 0.5 else None
            packet = host.wire.envelope.seal(codec.encode(message), to)
            self._network.send(host.index, target.index, packet)

    def _liar(self, host: Host, signer: Signer | None = None) -> Liar:
        return Liar(
            signer if signer is not None else host.signer,
            host,
            self._hosts,
            self._workload,
            self._charter,
            self._dice,
            may_reign=signer is None and host.is_keeper and not host.is_removed,
        )

    def _target(self) -> Host | None:
        awake = [host for host in self._hosts if host.is_awake]
        return pick(self._dice, awake) if awake else None

    def _later(self, span_us: int, call: Callable[..., None], *arguments: object) -> None:
        self._world.after(int(self._dice.random() * span_us), call, *arguments)

    def _say(self, text: str) -> None:
        self._trace.line(self._world.now_us, "foe", f"** {text}")


class _Impostor:
    """Who gives a member's key for his own, and has none but his."""

    def __init__(self, public_key: bytes, own: Signer) -> None:
        self.public_key = public_key
        self._own = own

    def sign(self, content: bytes) -> bytes:
        return self._own.sign(content)


def knows_removal(host: Host, node_id: NodeId) -> bool:
    """Does that host know, for good, that this node was removed?"""
    if host.node is None or node_id not in host.node.trust.removals():
        return False
    claim, author_id, _ = host.node.trust.removals()[node_id]
    for key, row in host.disk.rows.items():
        if key.startswith("trust/claim/"):
            record = codec.decode_record(row)
            if isinstance(record, ClaimRow) and record.signed.claim == claim:
                return bool(author_id)
    return False


def _follows(target: Host, host: Host) -> bool:
    """Is it the reign of that host which the target follows? Then it may say nearly anything."""
    reign = target.node.election.reign() if target.node is not None else None
    return reign is not None and reign.node_id == host.node_id


def _noise(dice: random.Random, length: int) -> bytes:
    return bytes(int(dice.random() * 256) for _ in range(length))
