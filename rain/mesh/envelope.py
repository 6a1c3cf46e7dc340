"""What surrounds every packet and every stream frame: who wrote it, for whom, when, unforgeable.

    clear   magic 2 | version 1 | channel 1 bit, key id 7 bits | nonce 12
    sealed  public key 32 | boot epoch 8 | sequence 8 | recipient 32 | signature 64 | body
    tag     16

Two locks. The seal (ChaCha20-Poly1305 with the pool's key) keeps strangers out for the price of
one cheap check; pool id and clear header are authenticated with it. The signature (the sender's
own key) keeps members from speaking for each other; it covers pool id, header, sender, boot
epoch, sequence, recipient and body, by way of their hash, so that a long frame costs no more.

Invariants.
M1  A body is handed on at most once per receiver: (boot epoch, sequence) of a sender is taken
    once per channel, within a window; below the window and from an older boot nothing is taken.
M2  The window moves only after the signature was verified: a member cannot burn another's numbers.
M3  No two different plaintexts share a nonce: it is a keyed hash of the signature, which depends
    on everything. Even a copied disk that repeats a boot epoch does not break the seal.
M4  A body bound to a recipient is taken by nobody else.
M5  Whatever arrives, memory stays bounded: SENDERS_MAX windows, a fixed set of reasons.

Packets and stream frames share one sequence but not one window: a frame that waited in a TCP
buffer may be older than a thousand packets. What this file does not do: it does not say who is a
member (whoever holds the pool's key is), and after a restart it remembers no windows, only the
boot epochs it is told (`expect`); the cores bear a replayed message, as they bear a doubled one.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b, sha256
from struct import Struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from rain.mesh.codec import Rejected
from rain.model import NodeId, Value
from rain.version import PROTOCOL

PACKET_BYTES_MAX = 1_200
FRAME_BYTES_MAX = 16 * 1024 * 1024
SENDERS_MAX = 1_024
"""Senders with a remembered window; the one unheard for longest gives way."""
KEY_IDS_MAX = 128
POOL_ID_BYTES = 16
POOL_KEY_BYTES = 32

_MAGIC = b"rn"
_CLEAR = Struct(">2sBB")
_UNSIGNED = Struct(">32sQQ32s")
_SEALED = Struct(">32sQQ32s64s")
_NONCE_BYTES = 12
_TAG_BYTES = 16
_SEALED_AT = _CLEAR.size + _NONCE_BYTES
_SIGNATURE_BYTES = 64
_CHANNEL_BIT = 0x80
_NOBODY = bytes(32)

OVERHEAD_BYTES = _SEALED_AT + _SEALED.size + _TAG_BYTES
PACKET_BODY_BYTES_MAX = PACKET_BYTES_MAX - OVERHEAD_BYTES
FRAME_BODY_BYTES_MAX = FRAME_BYTES_MAX - OVERHEAD_BYTES


class Channel(IntEnum):
    PACKET = 0
    STREAM = 1

    @property
    def bytes_max(self) -> int:
        return PACKET_BYTES_MAX if self is Channel.PACKET else FRAME_BYTES_MAX

    @property
    def window(self) -> int:
        """How far behind the newest sequence a body may come. Streams wait in buffers."""
        return 1_024 if self is Channel.PACKET else 65_536


class Signer(Protocol):
    @property
    def public_key(self) -> bytes:
        """32 bytes."""

    def sign(self, content: bytes) -> bytes:
        """64 bytes."""


Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, content): did the holder of that key sign this?"""


class Opened(Value, frozen=True):
    """A body that `sender` did write, for this node or for everybody, not seen before."""

    sender: NodeId
    boot_epoch: int
    sequence: int
    body: bytes


@lru_cache(maxsize=SENDERS_MAX)
def node_id_of(public_key: bytes) -> NodeId:
    """130 bits of the key's hash in base32, lower case."""
    return NodeId(_base32_lower(sha256(public_key).digest())[:26])


@lru_cache(maxsize=SENDERS_MAX)
def _recipient_of(node_id: NodeId) -> bytes:
    return sha256(node_id.encode()).digest()


def _base32_lower(raw: bytes) -> str:
    # base64.b32encode would do; it is not worth an import that the pure code does not need.
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    bits = int.from_bytes(raw, "big") << (-8 * len(raw) % 5)
    length = -(-8 * len(raw) // 5)
    return "".join(alphabet[bits >> 5 * (length - 1 - at) & 31] for at in range(length))


_MASKS = {channel.window: (1 << channel.window) - 1 for channel in Channel}
"""Kept, since that of a stream has 65,536 bits."""


class _Window:
    """Which of the newest sequences were taken; bit n of `taken` stands for `newest - n`."""

    __slots__ = ("newest", "taken", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.newest = 0
        self.taken = 0

    def is_fresh(self, sequence: int) -> bool:
        behind = self.newest - sequence
        return behind < 0 or (behind < self.width and not self.taken >> behind & 1)

    def take(self, sequence: int) -> None:
        assert self.is_fresh(sequence), "M1: a sequence is taken once"
        ahead = sequence - self.newest
        if ahead > 0:
            kept = self.taken << ahead if ahead < self.width else 0
            if kept.bit_length() > self.width:
                kept &= _MASKS[self.width]
            self.taken = kept | 1
            self.newest = sequence
        else:
            self.taken |= 1 << -ahead


class _Sender:
    """What was heard from one key in its newest boot."""

    __slots__ = ("boot_epoch", "windows")

    def __init__(self, boot_epoch: int) -> None:
        self.boot_epoch = boot_epoch
        self.windows = tuple(_Window(channel.window) for channel in Channel)
        """By channel."""


class Envelope:
    """Seals what this node says to one pool and opens what the pool says to it."""

    def __init__(
        self,
        pool_id: bytes,
        pool_key: bytes,
        signer: Signer,
        verify: Verify,
        boot_epoch: int,
        key_id: int = 0,
        protocol: int = PROTOCOL,
    ) -> None:
        assert len(pool_id) == POOL_ID_BYTES, "a pool id is 16 bytes"
        assert len(pool_key) == POOL_KEY_BYTES, "a pool key is 32 bytes"
        assert 0 <= key_id < KEY_IDS_MAX
        self._pool_id = pool_id
        self._cipher = ChaCha20Poly1305(pool_key)
        self._signer = signer
        self._public_key = bytes(signer.public_key)
        self._verify = verify
        self._boot_epoch = boot_epoch
        self._key_id = key_id
        self._understood = (protocol, max(1, protocol - 1))
        self._sequence = 0
        self._clear = tuple(
            _CLEAR.pack(_MAGIC, protocol, channel * _CHANNEL_BIT | key_id) for channel in Channel
        )
        """What stands in clear before the packets and frames of this node, by channel."""
        # Hashes that have taken in what never changes; copies of them take in the rest.
        self._digest_begun = blake2b(pool_id, digest_size=64, person=b"rain envelope")
        self._nonce_begun = blake2b(digest_size=_NONCE_BYTES, key=pool_key)
        self._senders: dict[bytes, _Sender] = {}
        self._boot_floors: dict[NodeId, int] = {}
        self.node_id = node_id_of(self._public_key)
        self._recipients = (_NOBODY, _recipient_of(self.node_id))
        self.dropped: dict[str, int] = {}

    def seal(self, body: bytes, to: NodeId | None, channel: Channel = Channel.PACKET) -> bytes:
        """The bytes to send; `to` None: for everybody in the pool."""
        assert len(body) + OVERHEAD_BYTES <= channel.bytes_max, f"a body of {len(body)} bytes"
        self._sequence += 1
        clear = self._clear[channel]
        recipient = _NOBODY if to is None else _recipient_of(to)
        unsigned = _UNSIGNED.pack(self._public_key, self._boot_epoch, self._sequence, recipient)
        signature = self._signer.sign(self._digest(clear, unsigned, body))
        assert len(signature) == _SIGNATURE_BYTES, "a signature is 64 bytes"
        hashed = self._nonce_begun.copy()
        hashed.update(unsigned + signature)
        nonce = hashed.digest()
        plain = b"".join((unsigned, signature, body))
        return b"".join((clear, nonce, self._cipher.encrypt(nonce, plain, clear + self._pool_id)))

    def open(self, packet: bytes, channel: Channel = Channel.PACKET) -> Opened | Rejected:
        """Cheap checks first; nothing is remembered of what is not verified."""
        opened = self._open(packet, channel)
        if isinstance(opened, Rejected):
            self.dropped[opened.reason] = self.dropped.get(opened.reason, 0) + 1
        return opened

    def expect(self, node_id: NodeId, boot_epoch: int) -> None:
        """Take nothing from boots of that node before this one (it was remembered on disk)."""
        if len(self._boot_floors) < SENDERS_MAX or node_id in self._boot_floors:
            self._boot_floors[node_id] = max(boot_epoch, self._boot_floors.get(node_id, 0))

    def check(self) -> None:
        assert len(self._senders) <= SENDERS_MAX, "M5: too many senders"
        for sender in self._senders.values():
            for window in sender.windows:
                assert window.taken.bit_length() <= window.width, "M5: a window outgrew its width"

    def _open(self, packet: bytes, channel: Channel) -> Opened | Rejected:
        if len(packet) > channel.bytes_max:
            return Rejected("too_long")
        if len(packet) < OVERHEAD_BYTES:
            return Rejected("too_short")
        clear = packet[: _CLEAR.size]
        if clear != self._clear[channel]:
            refusal = self._refusal_of_clear(clear, channel)
            if refusal:
                return Rejected(refusal)
        nonce = packet[_CLEAR.size : _SEALED_AT]
        try:
            plain = self._cipher.decrypt(nonce, packet[_SEALED_AT:], clear + self._pool_id)
        except InvalidTag:
            return Rejected("stranger")
        public_key, boot_epoch, sequence, recipient, signature = _SEALED.unpack_from(plain)
        refusal = self._refusal_of_stamp(public_key, boot_epoch, sequence, recipient, channel)
        if refusal:
            return Rejected(refusal)
        body = plain[_SEALED.size :]
        unsigned = plain[: _UNSIGNED.size]
        if not self._verify(public_key, signature, self._digest(clear, unsigned, body)):
            return Rejected("signature")
        self._take(public_key, boot_epoch, sequence, channel)
        return Opened(node_id_of(public_key), boot_epoch, sequence, body)

    def _refusal_of_clear(self, clear: bytes, channel: Channel) -> str:
        magic, version, marks = _CLEAR.unpack(clear)
        if magic != _MAGIC:
            return "magic"
        if version not in self._understood:
            return "version"
        if marks & _CHANNEL_BIT != channel * _CHANNEL_BIT:
            return "channel"
        return "" if marks & ~_CHANNEL_BIT == self._key_id else "key_id"

    def _refusal_of_stamp(
        self, public_key: bytes, boot_epoch: int, sequence: int, recipient: bytes, channel: Channel
    ) -> str:
        if public_key == self._public_key:
            return "own"
        if recipient not in self._recipients:
            return "recipient"
        node_id = node_id_of(public_key)
        sender = self._senders.get(public_key)
        newest = sender.boot_epoch if sender else 0
        if boot_epoch < max(newest, self._boot_floors.get(node_id, 0)):
            return "old_boot"
        if sender is None or boot_epoch > newest or sender.windows[channel].is_fresh(sequence):
            return ""
        return "replayed"

    def _take(self, public_key: bytes, boot_epoch: int, sequence: int, channel: Channel) -> None:
        sender = self._senders.pop(public_key, None)
        if sender is None or boot_epoch > sender.boot_epoch:
            sender = _Sender(boot_epoch)
        sender.windows[channel].take(sequence)
        # Put back at the end: the dict's order is the order of last hearing.
        self._senders[public_key] = sender
        if len(self._senders) > SENDERS_MAX:
            del self._senders[next(iter(self._senders))]

    def _digest(self, clear: bytes, unsigned: bytes, body: bytes) -> bytes:
        # All parts but the last have a fixed length, so no two contents share one joined form.
        digest = self._digest_begun.copy()
        digest.update(clear + unsigned)
        digest.update(body)
        return digest.digest()
