"""The network card of one host with what the mesh puts on it: envelope, streams and routes.

Who is let in on packets and streams is asked of the node's own roll, as rain/agent/gatekeeper.py
does it. A control packet of the envelope's own goes back to where its cause came from.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from rain.claims import Signer, Verify
from rain.effects import (
    Broadcast,
    Cast,
    CertificateShown,
    Effect,
    Expel,
    KeyMissing,
    Message,
    PeerReset,
    Post,
    Received,
    Rekey,
    Route,
    Send,
)
from rain.mesh import beacon, codec
from rain.mesh.envelope import PACKET_BODY_BYTES_MAX, Envelope, Opened, Reply
from rain.model import Address, NodeId

from .beacons import Beacons
from .credentials import Charter
from .network import Frame, Network
from .routes import Routes
from .streams import Streams, sender_of
from .watch import Watch
from .world import Violation, World

if TYPE_CHECKING:
    from .host import Host

NONCE_BYTES = 8
REPEAT_WITHIN_US = 1_000_000
"""So long the last broadcast is worth repeating to who could not take it."""
ANSWER_WAIT_US = 300_000
"""Whom to ask for a key is asked first, by beacon, and only then for the key."""
KEY_DIFFERS = ("unknown_key", "old_key", "stranger")
"""What a packet looks like that is sealed with a key which this node has not got: a newer one, one
that it has done with, or another one of the same number."""
RESET_EVERY_US = 500_000
DECODED_KEPT_MAX = 1_024
OF_NETWORK = (Send, Cast, Post, Broadcast, Route, Rekey, Expel)
KEY_MISSING_EVERY_US = 1_000_000
"""Packets under strange keys are told to the node this often, however many come."""
KEY_DOUBTED_EVERY_US = 5_000_000
"""The same where such a packet may be anybody's, or one from long ago."""

# What is said to many is read once: a message never changes, so they may all have the same.
_decode = lru_cache(maxsize=DECODED_KEPT_MAX)(codec.decode)


class Wire:
    """What comes in is opened and fed to the host; what its node says goes out."""

    def __init__(
        self,
        host: "Host",
        world: World,
        network: Network,
        charter: Charter,
        signer: Signer,
        verify: Verify,
    ) -> None:
        self._host = host
        self._world = world
        self._network = network
        self._charter = charter
        self._signer = signer
        self._verify = verify
        self._routes = Routes(world)
        self._hosts: Sequence[Host] = ()
        self._by_id: dict[NodeId, int] = {}
        self._watch: Watch | None = None
        self._resets_us: dict[int, int] = {}
        self._key_missing_us = [-KEY_MISSING_EVERY_US, -KEY_DOUBTED_EVERY_US]
        self._broadcast = b""
        self._broadcast_us = -REPEAT_WITHIN_US
        self._beacons = self._new_beacons()
        self.streams = Streams(host.index, network, charter.inspect)
        self.envelope = self._new_envelope()

    def connect(self, hosts: "Sequence[Host]", watch: Watch) -> None:
        self._hosts = hosts
        self._by_id = {host.node_id: host.index for host in hosts}
        self._routes.connect([host.address for host in hosts])
        self._watch = watch

    def readdress(self, index: int, address: Address) -> None:
        """A host has another address now."""
        self._routes.readdress(index, address)

    def restart(self) -> None:
        """Another agent: nothing is connected, nobody was heard."""
        self.envelope = self._new_envelope()
        self.streams.forget()
        self._routes.forget()
        self._beacons.forget()
        self._key_missing_us = [-KEY_MISSING_EVERY_US, -KEY_DOUBTED_EVERY_US]
        self._broadcast_us = -REPEAT_WITHIN_US

    def _new_envelope(self) -> Envelope:
        boot_epoch = self._host.boot_epoch
        dice = self._world.dice(f"nonces {self._host.index}/{boot_epoch}")
        return Envelope(
            self._charter.pool_id,
            self._signer,
            self._verify,
            boot_epoch,
            self._refusal_of_sender,
            lambda: dice.randbytes(NONCE_BYTES),
        )

    def _new_beacons(self) -> Beacons:
        host = self._host
        nonce = bytes(beacon.NONCE_BYTES)
        me = beacon.Here(
            nonce, self._charter.pool_id, "sim", host.node_id, host.name, host.address.port, 1
        )
        return Beacons(
            me,
            self._world,
            self._routes,
            self._world.dice(f"beacons {host.index}"),
            lambda target, packet: self._network.send(host.index, target, packet),
            lambda node_id: not self._refusal_of_sender(node_id),
        )

    # --- who is let in -------------------------------------------------------------------------

    def bundle(self) -> bytes:
        """What it shows of itself: the newest certificate of its own that it has."""
        node, node_id = self._host.node, self._host.node_id
        shown = node.trust.bundle(node_id) if node is not None else None
        return shown if shown is not None else self._charter.bundles[node_id]

    def refusal_of(self, bundle: bytes) -> str:
        """Why the holder of that bundle gets no stream here."""
        credential = self._charter.inspect(bundle)
        if credential is None or self._host.node is None:
            return "stranger"
        trust = self._host.node.trust
        refusal = trust.refusal(credential)
        if refusal == "removed" and trust.is_overruled(credential.node_id):
            return ""  # the last word may be its own
        return refusal

    def _refusal_of_sender(self, node_id: NodeId) -> str:
        """Why no packet of that sender counts here."""
        node = self._host.node
        return "" if node is not None and node.trust.credential(node_id) else "not_a_member"

    # --- in ------------------------------------------------------------------------------------

    def open_packet(self, packet: bytes, source: int) -> None:
        if self._beacons.hear(packet, source):
            return
        opened = self.envelope.open(packet)
        if isinstance(opened, Reply):
            self._network.send(self._host.index, source, opened.packet)
            if opened.proves and self._world.now_us - self._broadcast_us < REPEAT_WITHIN_US:
                packet = self.envelope.seal(self._broadcast, None)
                self._network.send(self._host.index, source, packet)
        elif isinstance(opened, Opened):
            assert self._watch is not None
            self._watch.taken(self._host, opened, packet)
            self._routes.see(opened.sender, source)
            address = self._hosts[source].address
            self._receive(opened.sender, opened.body, address, opened.boot_epoch, False)
        elif opened.reason in KEY_DIFFERS:
            now_us, is_doubt = self._world.now_us, opened.reason != "unknown_key"
            every_us = KEY_DOUBTED_EVERY_US if is_doubt else KEY_MISSING_EVERY_US
            if now_us - self._key_missing_us[is_doubt] >= every_us:
                self._key_missing_us[is_doubt] = now_us
                self._beacons.seek([source, *self._in_hearing(source)])
                boot_epoch = self._host.boot_epoch
                self._world.after(ANSWER_WAIT_US, self._miss_key, boot_epoch)

    def _miss_key(self, boot_epoch: int) -> None:
        if boot_epoch == self._host.boot_epoch:
            self._host.when_awake(self._host.feed, KeyMissing())

    def open_frame(self, frame: Frame, source: int, connection: int) -> None:
        if not self.streams.is_open(frame, source, connection):
            if not self.streams.shake_hands(frame, source, connection, self.refusal_of):
                return
            if not self._hosts[source].wire.is_content_with(self.bundle(), frame):
                self.streams.hang_up(source)
                return
            self._host.feed(CertificateShown(frame.bundle))
            if self._host.node is None:
                return
        address = Address(self._hosts[source].address.host, 0)
        self._receive(sender_of(frame), frame.body, address, frame.boot_epoch, True)

    def hear_reset(self, source: int) -> None:
        """A connection to that host was reset or refused; told now and then."""
        now_us = self._world.now_us
        if now_us - self._resets_us.get(source, -RESET_EVERY_US) >= RESET_EVERY_US:
            self._resets_us[source] = now_us
            self._host.feed(PeerReset(self._hosts[source].node_id))

    def is_content_with(self, bundle: bytes, frame: Frame) -> bool:
        """It began the connection of that frame and is shown this: does it go on?"""
        host = self._host
        if host.node is None or frame.boot_epoch != host.boot_epoch:
            return True  # the far end is an agent that is gone
        if frame.public_key != self._signer.public_key:
            return True  # or somebody who only has its address
        if self.refusal_of(bundle):
            return False
        host.when_awake(host.feed, CertificateShown(bundle))
        return True

    def _receive(
        self, sender: NodeId, body: bytes, source: Address, boot_epoch: int, by_stream: bool
    ) -> None:
        message = _decode(body)
        if not isinstance(message, Message):
            raise Violation("S16 what we encode can be decoded", f"{self._host.name}: {message}")
        assert self._watch is not None
        self._watch.received(self._host, sender, message)
        self._host.feed(Received(sender, message, source, boot_epoch, by_stream))

    # --- out -----------------------------------------------------------------------------------

    def carry_out(self, effect: Effect) -> None:
        """What concerns the network; everything else is the host's."""
        watch = self._watch
        assert watch is not None
        match effect:
            case Send(to=to, message=message):
                watch.sent(self._host, message, 1)
                self._send((to,), message, to)
            case Cast(to=members, message=message):
                watch.sent(self._host, message, len(members))
                self._send(members, message, None)
            case Post(to=to, message=message):
                watch.sent(self._host, message, 1)
                self._post(to, message)
            case Broadcast(message=message):
                watch.sent(self._host, message, 1)
                self._broadcast = codec.encode(message)
                self._broadcast_us = self._world.now_us
                packet = self._seal(message, None)
                for target in self._in_hearing():
                    self._network.send(self._host.index, target, packet)
            case Route(node_id=node_id, address=address):
                self._routes.tell(node_id, address)
            case Rekey(keys=keys, use=use):
                self.envelope.set_ring(keys, use)
            case Expel(node_id=node_id):
                if node_id in self._by_id:
                    self.streams.hang_up(self._by_id[node_id])
            case _:
                raise AssertionError(f"{effect} is not for the network")

    def frame(self, message: Message) -> Frame:
        """What it says on a stream."""
        body = codec.encode(message)
        return Frame(self._signer.public_key, self._host.boot_epoch, self.bundle(), body)

    def _in_hearing(self, but: int | None = None) -> list[int]:
        """Whom a broadcast reaches: all, or those whose address is known."""
        is_mute = self._host.index in self._network.links.mute
        return [
            host.index
            for host in self._hosts
            if host.index != but and (not is_mute or self._routes.find(host.node_id) is not None)
        ]

    def _seal(self, message: Message, to: NodeId | None) -> bytes:
        body = codec.encode(message)
        if len(body) > PACKET_BODY_BYTES_MAX:
            what = f"{self._host.name}: {type(message).__name__} of {len(body)} bytes"
            raise Violation("S17 what is said by packet fits one", what)
        return self.envelope.seal(body, to)

    def _send(self, members: Sequence[NodeId], message: Message, to: NodeId | None) -> None:
        own, index = self._host.node_id, self._host.index
        packet = b""
        for member in members:
            target = self._routes.find(member) if member != own else None
            if target is not None:
                packet = packet or self._seal(message, to)
                self._network.send(index, target, packet)

    def _post(self, to: NodeId, message: Message) -> None:
        assert self._watch is not None
        self._watch.posted(self._host, to, message)
        if to == self._host.node_id:
            boot_epoch = self._host.boot_epoch
            own = Received(to, message, Address("", 0), boot_epoch, by_stream=True)
            self._world.after(0, self._feed_own, boot_epoch, own)
            return
        target = self._routes.find(to)
        if target is not None and self._hosts[target].node_id != to:
            self._routes.misled(to, target)
        elif target is not None:
            self._network.post(self._host.index, target, self.frame(message))

    def _feed_own(self, boot_epoch: int, own: Received) -> None:
        if boot_epoch == self._host.boot_epoch and self._host.node is not None:
            assert self._watch is not None
            self._watch.received(self._host, own.sender, own.message)
            self._host.when_awake(self._host.feed, own)
