"""Certificates without X.509: who may be in the simulated pool, and who said so.

A bundle is one packed value that holds a node's certificate, signed by the admin who issued it,
and the root's word that this admin may issue. It says what the real pair of certificates says and
is verified in the same two steps, with whatever signature the run uses.
"""

import hashlib

import msgspec

from rain.claims import Signer, Verify
from rain.mesh.envelope import node_id_of
from rain.model import NodeId, Role, Value
from rain.trust.credential import Credential, Inspect

SINCE_UNIX_S = 1_690_000_000
UNTIL_UNIX_S = 1_790_000_000
"""Longer than any run: expiry is judged by the agent's clock, not by what is simulated here."""
FIRST_KEY_NUMBER = 1
BUNDLES_KEPT_MAX = 4_096

_pack = msgspec.msgpack.Encoder().encode


class Word(Value, frozen=True):
    """The root's: this key is that of an admin, since then."""

    issuer_key: bytes
    issuer_generation: int
    issuer_since_unix_s: int


class Certificate(Value, frozen=True):
    """An admin's: this key is that of a node of this name, role and person."""

    public_key: bytes
    name: str
    role: Role
    person: str
    generation: int
    serial: int
    since_unix_s: int
    until_unix_s: int
    invite_id: str


class Bundle(Value, frozen=True):
    """What a node shows: its certificate, and why its issuer could issue it."""

    certificate: Certificate
    word: Word
    signature: bytes
    """Of the issuer, over the certificate."""
    root_signature: bytes
    """Of the root, over its word."""


_unpack = msgspec.msgpack.Decoder(Bundle).decode


class Authority:
    """An admin as an issuer: the root's word for it, and the admin's own key."""

    def __init__(self, root: Signer, signer: Signer, generation: int, since_unix_s: int) -> None:
        self.node_id = node_id_of(signer.public_key)
        self.since_unix_s = since_unix_s
        """Who came earlier is the senior."""
        self._signer = signer
        self._word = Word(signer.public_key, generation, since_unix_s)
        self._root_signature = root.sign(_pack(self._word))
        self._serial = 0

    def issue(
        self,
        public_key: bytes,
        *,
        name: str,
        role: Role,
        person: str,
        generation: int,
        invite_id: str = "",
    ) -> bytes:
        """A bundle for the holder of that key. No two of one authority have the same serial."""
        self._serial += 1
        certificate = Certificate(
            public_key,
            name,
            role,
            person,
            generation,
            self._serial,
            SINCE_UNIX_S,
            UNTIL_UNIX_S,
            invite_id,
        )
        signature = self._signer.sign(_pack(certificate))
        return _pack(Bundle(certificate, self._word, signature, self._root_signature))

    def renew(self, credential: Credential) -> bytes:
        """The same as somebody else had said of that node, under this authority."""
        return self.issue(
            credential.public_key,
            name=credential.name,
            role=credential.role,
            person=credential.person,
            generation=credential.generation,
            invite_id=credential.invite_id,
        )


class Inspector:
    """Verifies bundles up to the root of one pool; remembers what it read, as it never changes."""

    def __init__(self, root_key: bytes, verify: Verify) -> None:
        self._root_key = root_key
        self._verify = verify
        self._read: dict[bytes, Credential | None] = {}

    def inspect(self, bundle: bytes) -> Credential | None:
        """What it says; None: it does not lead to the root."""
        if bundle not in self._read:
            if len(self._read) >= BUNDLES_KEPT_MAX:
                self._read.clear()
            self._read[bundle] = self._credential_of(bundle)
        return self._read[bundle]

    def _credential_of(self, packed: bytes) -> Credential | None:
        try:
            bundle = _unpack(packed)
        except (msgspec.DecodeError, ValueError):
            return None
        certificate, word = bundle.certificate, bundle.word
        if len(certificate.public_key) != 32 or len(word.issuer_key) != 32:
            return None
        if not self._verify(self._root_key, bundle.root_signature, _pack(word)):
            return None
        if not self._verify(word.issuer_key, bundle.signature, _pack(certificate)):
            return None
        return Credential(
            node_id=node_id_of(certificate.public_key),
            public_key=certificate.public_key,
            name=certificate.name,
            role=certificate.role,
            person=certificate.person,
            generation=certificate.generation,
            serial=certificate.serial,
            issuer_id=node_id_of(word.issuer_key),
            issuer_generation=word.issuer_generation,
            issuer_since_unix_s=word.issuer_since_unix_s,
            since_unix_s=certificate.since_unix_s,
            until_unix_s=certificate.until_unix_s,
            invite_id=certificate.invite_id,
        )


class Charter:
    """The pool of one run as it was founded: root, authorities, everybody's first bundle."""

    def __init__(self, seed: int, root: Signer, verify: Verify) -> None:
        self.inspector = Inspector(root.public_key, verify)
        self.inspect: Inspect = self.inspector.inspect
        self.pool_id = hashlib.sha256(root.public_key).digest()[:16]
        self.first_key = fresh_key(seed, "first")
        self.bundles: dict[NodeId, bytes] = {}
        self.authorities: dict[NodeId, Authority] = {}
        self._root = root
        self._seed = seed
        self._keys = 0
        self._empowered = 0

    def empower(self, signer: Signer, generation: int = 1) -> Authority:
        """The root makes that admin an issuer."""
        self._empowered += 1
        since_unix_s = SINCE_UNIX_S + self._empowered
        authority = Authority(self._root, signer, generation, since_unix_s)
        self.authorities[authority.node_id] = authority
        return authority

    def next_key(self) -> bytes:
        """32 bytes that nobody knows yet."""
        self._keys += 1
        return fresh_key(self._seed, str(self._keys))


def fresh_key(seed: int, purpose: str) -> bytes:
    return hashlib.blake2b(f"{seed}/pool key/{purpose}".encode(), digest_size=32).digest()
