"""What surrounds every packet: who wrote it, for whom, when; unforgeable, and taken once.

    clear   magic 2 | version 1 | control 1 bit, key id 7 bits | pool 2 | nonce 12
    sealed  public key 32 | boot epoch 8 | sequence 8 | recipient 30 | signature 64 | body
    tag     16

Two locks. The seal (ChaCha20-Poly1305 with a key of the pool's ring) keeps strangers out for the
price of one cheap check; pool id and clear header are authenticated with it. The signature (the
sender's own key) keeps members from speaking for each other; it covers pool id, header, sender,
boot epoch, sequence, recipient and body, by way of their hash.

Keys rotate. Packets are sealed with the key in use and opened with any of the ring; the header
names the key by its number modulo 128. A key that is ahead of the ring is `unknown_key` (this
node has missed something), one that is just behind it is `old_key` (somebody else has, or plays
old recordings).

Control bodies are the envelope's own: Challenge (prove that you are alive), Proof, Superseded (a
newer boot of your key is about). `open` answers them with a `Reply`, to be sent to where the
packet came from; rain/mesh/freshness.py says what is asked when. A Challenge is answered for
everybody who is admitted, proven or not, and answering changes nothing: a Proof tells only the
number that this node is at. The Proof that answers a Challenge asks back when its receiver is
unproven here; what brings a Proof is answered by a Proof alone, and a bare Proof or a Superseded
by nothing. So at most three packets follow on one, and two nodes that challenge each other in the
same moment come to terms. All control packets have one length, CONTROL_BYTES.

Doubles. A copied data folder makes two agents with one key. Whatever comes with this node's own
key and was not sent by this object (another boot epoch, or a number it has not reached) counts as
`clone` and is asked for a proof like any stranger; a recording has none. Members that know a newer
boot of a key tell the older one so (Superseded).

Invariants.
M1  A body is handed on at most once per receiver, whatever is forgotten, restarted or rotated:
    (boot epoch, sequence) of a sender is taken once, after a proof made in this receiver's life.
M2  No window moves before the signature was verified: a member cannot burn another's numbers.
M3  No two different plaintexts share a nonce: it is a keyed hash of the signature, which depends
    on everything. Even a copied disk that repeats a boot epoch does not break the seal.
M4  A body bound to a recipient is taken by nobody else, a Proof by nobody but who asked for it.
M5  Whatever arrives, memory stays bounded: 2 * SENDERS_MAX windows, a fixed set of reasons.
M6  Whom `admits` refuses is neither heard nor answered.
M7  At most one Reply follows on a packet, and it is at most CONTROL_BYTES long.
M8  `clone_epoch` is set only by somebody else who holds this node's key and is alive now.

What this file does not do: it does not say who is a member (`admits` does), it reads no clock, and
it does not repeat what was said to a receiver that had not proven the sender yet (`Reply.proves`
lets the shell do so).
"""

from collections.abc import Callable, Iterable
from enum import IntFlag
from functools import lru_cache
from hashlib import blake2b, sha256
from struct import Struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from rain.mesh.codec import Rejected
from rain.mesh.freshness import NONCE_BYTES, SENDERS_MAX, Doubles, Freshness, Nonce
from rain.mesh.pool import POOL_ID_BYTES
from rain.model import NodeId, Value
from rain.version import PROTOCOL

PACKET_BYTES_MAX = 1_200
KEY_IDS = 128
OLD_KEYS = 32
"""So many keys before the one in use are known to be old by their id."""
POOL_KEY_BYTES = 32

MAGIC = b"rn"
_CLEAR = Struct(">2sBB2s")
_UNSIGNED = Struct(">32sQQ30s")
_SEALED = Struct(">32sQQ30s64s")
_CONTROL = Struct(f">B{NONCE_BYTES}s{NONCE_BYTES}sQ")
_SEAL_NONCE_BYTES = 12
_TAG_BYTES = 16
_SEALED_AT = _CLEAR.size + _SEAL_NONCE_BYTES
_SIGNATURE_BYTES = 64
_CONTROL_BIT = 0x80
_RECIPIENT_BYTES = 30
_NOBODY = bytes(_RECIPIENT_BYTES)
_NO_NONCE = bytes(NONCE_BYTES)

OVERHEAD_BYTES = _SEALED_AT + _SEALED.size + _TAG_BYTES
PACKET_BODY_BYTES_MAX = PACKET_BYTES_MAX - OVERHEAD_BYTES
CONTROL_BYTES = OVERHEAD_BYTES + _CONTROL.size


class Signer(Protocol):
    @property
    def public_key(self) -> bytes:
        """32 bytes."""

    def sign(self, content: bytes) -> bytes:
        """64 bytes."""


Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, content): did the holder of that key sign this?"""
Admits = Callable[[NodeId], str]
"""Why nothing of that node counts; empty: it is a member. Words of a fixed set."""


class Opened(Value, frozen=True):
    """A body that `sender` did write, for this node or for everybody, not seen before."""

    sender: NodeId
    boot_epoch: int
    sequence: int
    body: bytes


class Reply(Value, frozen=True):
    """Nothing for the cores: send this packet back to where the opened one came from."""

    packet: bytes
    proves: bool = False
    """It answers a challenge: what this node said there just before was not taken."""


class Control(IntFlag):
    """What a control body says; one body may say several."""

    CHALLENGE = 1
    PROOF = 2
    SUPERSEDED = 4


_NAMES = {kind: str(kind.name).lower() for kind in Control}
_ALL_KINDS = sum(Control)
_CONSUMED = Rejected("control")
"""A control body that did its work: nothing to hand on, nothing to answer, nothing wrong."""


@lru_cache(maxsize=SENDERS_MAX)
def node_id_of(public_key: bytes) -> NodeId:
    """130 bits of the key's hash in base32, lower case."""
    return NodeId(_base32_lower(sha256(public_key).digest())[:26])


@lru_cache(maxsize=SENDERS_MAX)
def _recipient_of(node_id: NodeId) -> bytes:
    return sha256(node_id.encode()).digest()[:_RECIPIENT_BYTES]


def _base32_lower(raw: bytes) -> str:
    # base64.b32encode would do; it is not worth an import that the pure code does not need.
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    bits = int.from_bytes(raw, "big") << (-8 * len(raw) % 5)
    length = -(-8 * len(raw) // 5)
    return "".join(alphabet[bits >> 5 * (length - 1 - at) & 31] for at in range(length))


class _Clear:
    """What stands in clear before a packet, and all that follows from it."""

    __slots__ = ("bound", "cipher", "clear", "is_control", "nonce_begun")

    def __init__(
        self, version: int, is_control: bool, number: int, key: bytes, pool: bytes
    ) -> None:
        marks = number % KEY_IDS | is_control * _CONTROL_BIT
        self.clear = _CLEAR.pack(MAGIC, version, marks, pool[:2])
        self.is_control = is_control
        self.bound = self.clear + pool
        self.cipher = ChaCha20Poly1305(key)
        # A hash that has taken in what never changes; copies of it take in the rest.
        self.nonce_begun = blake2b(digest_size=_SEAL_NONCE_BYTES, key=key)


class Envelope:
    """Seals what this node says to one pool and opens what the pool says to it."""

    def __init__(
        self,
        pool_id: bytes,
        signer: Signer,
        verify: Verify,
        boot_epoch: int,
        admits: Admits,
        nonce: Nonce,
        protocol: int = PROTOCOL,
    ) -> None:
        assert len(pool_id) == POOL_ID_BYTES, "a pool id is 16 bytes"
        self._pool_id = pool_id
        self._signer = signer
        self._public_key = bytes(signer.public_key)
        self._verify = verify
        self._boot_epoch = boot_epoch
        self._admits = admits
        self._protocol = protocol
        self._understood = (protocol, max(1, protocol - 1))
        self._sequence = 0
        self._use = 0
        self._opening: dict[bytes, _Clear] = {}
        """By the clear bytes of what may come: one look tells version, kind, key and pool."""
        self._sealing: tuple[_Clear, _Clear] | None = None
        """For bodies and for control bodies, under the key in use."""
        self._digest_begun = blake2b(pool_id, digest_size=64, person=b"rain envelope")
        self._freshness = Freshness(nonce)
        self._doubles = Doubles(nonce)
        self.node_id = node_id_of(self._public_key)
        self._recipients = (_NOBODY, _recipient_of(self.node_id))
        self.superseded_by = 0
        """The highest boot epoch of this node's key that a member told of, above the own; or 0."""
        self.dropped: dict[str, int] = {}
        self.controls: dict[str, int] = {}
        """Control bodies taken, by what they said."""

    @property
    def clone_epoch(self) -> int | None:
        """Another agent with this node's key is alive: its boot epoch. It may be equal."""
        return self._doubles.epoch

    def set_ring(self, keys: Iterable[tuple[int, bytes]], use: int) -> None:
        """The pool's keys by number from now on, and the number of the one to seal with."""
        ring = dict(keys)
        assert use in ring, "the key in use is one of the ring"
        assert all(len(key) == POOL_KEY_BYTES for key in ring.values()), "a pool key is 32 bytes"

        def clear(version: int, is_control: bool, number: int) -> _Clear:
            return _Clear(version, is_control, number, ring[number], self._pool_id)

        made = [
            clear(version, is_control, number)
            for number in sorted(ring)  # of two with one id the newer remains
            for version in self._understood
            for is_control in (False, True)
        ]
        self._use = use
        self._opening = {each.clear: each for each in made}
        self._sealing = (clear(self._protocol, False, use), clear(self._protocol, True, use))

    def seal(self, body: bytes, to: NodeId | None) -> bytes:
        """The bytes to send; `to` None: for everybody in the pool."""
        return self._seal(body, _NOBODY if to is None else _recipient_of(to), False)

    def open(self, packet: bytes) -> Opened | Rejected | Reply:
        """Cheap checks first; nothing is remembered of what is not verified."""
        opened = self._open(packet)
        if isinstance(opened, Rejected) and opened is not _CONSUMED:
            self._count(self.dropped, opened.reason)
        return opened

    def check(self) -> None:
        self._freshness.check()
        assert self.clone_epoch is None or self.clone_epoch >= 0, "M8: a double has a boot epoch"

    def _seal(self, body: bytes, recipient: bytes, is_control: bool) -> bytes:
        assert self._sealing is not None, "set_ring() comes first"
        assert len(body) <= PACKET_BODY_BYTES_MAX, f"a body of {len(body)} bytes"
        self._sequence += 1
        key = self._sealing[is_control]
        unsigned = _UNSIGNED.pack(self._public_key, self._boot_epoch, self._sequence, recipient)
        signature = self._signer.sign(self._digest(key.clear, unsigned, body))
        assert len(signature) == _SIGNATURE_BYTES, "a signature is 64 bytes"
        hashed = key.nonce_begun.copy()
        hashed.update(unsigned + signature)
        nonce = hashed.digest()
        plain = b"".join((unsigned, signature, body))
        return b"".join((key.clear, nonce, key.cipher.encrypt(nonce, plain, key.bound)))

    def _open(self, packet: bytes) -> Opened | Rejected | Reply:
        if len(packet) > PACKET_BYTES_MAX:
            return Rejected("too_long")
        if len(packet) < OVERHEAD_BYTES:
            return Rejected("too_short")
        key = self._opening.get(packet[: _CLEAR.size])
        if key is None:
            return Rejected(self._refusal_of_clear(packet))
        try:
            plain = key.cipher.decrypt(
                packet[_CLEAR.size : _SEALED_AT], packet[_SEALED_AT:], key.bound
            )
        except InvalidTag:
            return Rejected("stranger")
        public_key, boot_epoch, sequence, recipient, signature = _SEALED.unpack_from(plain)
        if recipient not in self._recipients or (key.is_control and recipient == _NOBODY):
            return Rejected("recipient")
        if public_key == self._public_key:
            return self._open_own(key, plain)
        sender = node_id_of(public_key)
        refusal = self._admits(sender) or self._freshness.refusal(public_key, boot_epoch, sequence)
        newer = None
        if refusal == "old_boot":
            newer = self._freshness.newer_to_tell(public_key, boot_epoch)
        if refusal and newer is None:
            return Rejected(refusal)
        body = plain[_SEALED.size :]
        if not self._verify(
            public_key, signature, self._digest(key.clear, plain[: _UNSIGNED.size], body)
        ):
            return Rejected("signature")
        if newer is not None:
            self._count(self.dropped, "old_boot")
            return self._reply(sender, newer=newer)
        if key.is_control:
            return self._take_control(public_key, boot_epoch, sequence, body)
        if self._freshness.take(public_key, boot_epoch, sequence):
            return Opened(sender, boot_epoch, sequence, body)
        nonce = self._freshness.challenge(public_key)
        if not nonce:
            return Rejected("unproven")
        self._count(self.dropped, "unproven")
        return self._reply(sender, ask=nonce)

    def _refusal_of_clear(self, packet: bytes) -> str:
        magic, version, marks, pool = _CLEAR.unpack_from(packet)
        if magic != MAGIC:
            return "magic"
        if version not in self._understood:
            return "version"
        if pool != self._pool_id[:2]:
            return "other_pool"
        behind = (self._use - marks) % KEY_IDS
        return "old_key" if self._opening and 0 < behind <= OLD_KEYS else "unknown_key"

    def _take_control(
        self, public_key: bytes, boot_epoch: int, sequence: int, body: bytes
    ) -> Rejected | Reply:
        said = self._control_in(body)
        if said is None:
            return Rejected("bad_control")
        kinds, asked, answer, newer = said
        sender = node_id_of(public_key)
        is_proof = Control.PROOF in kinds
        if not is_proof or not self._freshness.prove(public_key, boot_epoch, sequence, answer):
            self._freshness.take(public_key, boot_epoch, sequence)
        if Control.SUPERSEDED in kinds and newer > self._boot_epoch:
            self.superseded_by = max(self.superseded_by, newer)
        if Control.CHALLENGE not in kinds:
            return _CONSUMED
        ask = b"" if is_proof else self._freshness.open_nonce(public_key)
        return self._reply(sender, ask=ask, answer=asked)

    def _open_own(self, key: _Clear, plain: bytes) -> Rejected | Reply:
        """Signed with the own key: an echo of this node, or the word of a double."""
        _, boot_epoch, sequence, _, signature = _SEALED.unpack_from(plain)
        nonce = b""
        if not key.is_control:
            if boot_epoch == self._boot_epoch and sequence <= self._sequence:
                return Rejected("own")
            nonce = self._doubles.challenge()
            if not nonce:
                return Rejected("clone")
        body = plain[_SEALED.size :]
        unsigned = plain[: _UNSIGNED.size]
        if not self._verify(self._public_key, signature, self._digest(key.clear, unsigned, body)):
            return Rejected("signature")
        if key.is_control:
            return self._take_own_control(boot_epoch, body)
        self._count(self.dropped, "clone")
        return self._reply(self.node_id, ask=nonce)

    def _take_own_control(self, boot_epoch: int, body: bytes) -> Rejected | Reply:
        said = self._control_in(body)
        if said is None:
            return Rejected("bad_control")
        kinds, asked, answer, _ = said
        is_proof = Control.PROOF in kinds
        if is_proof:
            self._doubles.prove(boot_epoch, answer)
        if Control.CHALLENGE not in kinds:
            return _CONSUMED
        if self._doubles.is_own(asked):
            return Rejected("own")
        ask = b"" if is_proof else self._doubles.challenge()
        return self._reply(self.node_id, ask=ask, answer=asked)

    def _control_in(self, body: bytes) -> tuple[Control, bytes, bytes, int] | None:
        """(what it says, nonce to answer, nonce answered, newer boot), or None."""
        if len(body) < _CONTROL.size:
            return None
        kinds, asked, answer, newer = _CONTROL.unpack_from(body)
        said = [kind for kind in Control if kind & kinds]
        for kind in said:
            self._count(self.controls, _NAMES[kind])
        return Control(kinds & _ALL_KINDS), asked, answer, newer

    def _reply(
        self, to: NodeId, ask: bytes = b"", answer: bytes = b"", newer: int | None = None
    ) -> Reply:
        kinds = (
            (Control.CHALLENGE if ask else 0)
            | (Control.PROOF if answer else 0)
            | (0 if newer is None else Control.SUPERSEDED)
        )
        body = _CONTROL.pack(kinds, ask or _NO_NONCE, answer or _NO_NONCE, newer or 0)
        return Reply(self._seal(body, _recipient_of(to), True), proves=bool(answer))

    def _digest(self, clear: bytes, unsigned: bytes, body: bytes) -> bytes:
        # All parts but the last have a fixed length, so no two contents share one joined form.
        digest = self._digest_begun.copy()
        digest.update(clear + unsigned)
        digest.update(body)
        return digest.digest()

    def _count(self, counts: dict[str, int], reason: str) -> None:
        counts[reason] = counts.get(reason, 0) + 1
