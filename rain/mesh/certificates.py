"""Who may be in a pool, as X.509: a root, one authority per admin, a certificate per node.

The root signs authorities, an authority signs nodes; nothing else signs anything. All keys are
Ed25519. The key of the root follows from 16 random bytes, which a person keeps as twelve words
(BIP39) when founding a pool. What a certificate says of its node stands in its subject: name,
role, person, generation and invitation. A node shows two certificates together, its own and
that of the authority that issued it: the bundle.

The profile is exact. Extensions are compared with those that this file writes, so a certificate
with one more or one less, another key type, a longer chain or a name that cannot be shown leads
nowhere. Instants are read and never judged here: whoever admits a node knows the time.
"""

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID
from msgspec import Meta

from rain.mesh.codec import Rejected, by_tag, pack, unpack
from rain.mesh.envelope import node_id_of
from rain.mesh.errors import MeshError
from rain.mesh.phrase import ENTROPY_BYTES
from rain.mesh.pool import Pool
from rain.model import NodeId, Role, Value
from rain.trust.credential import Credential, Inspect

LIFE_S = 30 * 24 * 3_600
LIFE_S_MAX = 366 * 24 * 3_600
BACKDATED_S = 3_600
"""Clocks of PCs differ: a certificate counts from an hour before it was issued."""
NO_END_UNIX_S = 253_402_300_799
"""9999-12-31 23:59:59, which is how X.509 says `for good`: roots and authorities are removed."""
CERTIFICATE_BYTES_MAX = 1_536
BUNDLE_BYTES_MAX = 4_096
SUBJECT_CHARS_MAX = 64
"""Of a name, a person or an invitation in a subject."""
SERIAL_MAX = 2**62
GENERATION_MAX = 2**31
JOINED_UNIX_S_MAX = 2**37

T = TypeVar("T")
Extensions = frozenset[tuple[bool, x509.ExtensionType]]

_DNS_SUFFIX = ".node.rain.internal"
_ROOT_SERIAL = 1
_ROLES = {role.name.lower(): role for role in Role}

_NAME = NameOID.COMMON_NAME
_ROLE = NameOID.TITLE
_PERSON = NameOID.USER_ID
_GENERATION = NameOID.GENERATION_QUALIFIER
_INVITE = NameOID.DN_QUALIFIER
_JOINED = NameOID.SERIAL_NUMBER
"""Unix seconds: when the node was let in, which a renewal does not change."""
_SAID_BY_LEAF = {_NAME, _ROLE, _PERSON, _GENERATION, _INVITE, _JOINED}
_SIGNATURE_HEAD = b"\x03\x41\x00"
"""A bit string of 65 bytes, the first of which counts its unused bits."""
_NODE_ID = re.compile("[a-z2-7]{26}")
_NUMBER = re.compile("[1-9][0-9]{0,11}")


class Bundle(Value, frozen=True, tag="b"):
    """What a node shows: its certificate and that of the authority that issued it, both DER."""

    leaf: Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)]
    authority: Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)]

    def encode(self) -> bytes:
        packed = pack(self)
        assert len(packed) <= BUNDLE_BYTES_MAX, f"a bundle of {len(packed)} bytes"
        return packed


_BUNDLES = by_tag((Bundle,))


def decode_bundle(encoded: bytes) -> Bundle | None:
    """The two certificates, unread; None for anything that `encode` would not have written."""
    if len(encoded) > BUNDLE_BYTES_MAX:
        return None
    bundle = unpack(encoded, _BUNDLES)
    if isinstance(bundle, Rejected) or pack(bundle) != encoded:
        return None
    return bundle


def dns_name(node_id: NodeId) -> str:
    """The name in a node's certificate: it is the node's wherever its cable is plugged in."""
    return node_id + _DNS_SUFFIX


def reason_unshowable(text: str) -> str:
    """Why this cannot stand in a certificate as a name or a person; '' when it can."""
    if not text:
        return "it is empty"
    if len(text.encode(errors="replace")) > SUBJECT_CHARS_MAX:
        return f"it is longer than {SUBJECT_CHARS_MAX} bytes"
    return "" if text.isprintable() else "it has characters that cannot be shown"


# --- Issuing -------------------------------------------------------------------------------------


class Root:
    """The root of a pool with its private key: it makes admins, and only that.

    ValueError when the two do not belong together.
    """

    def __init__(self, private_key: bytes, certificate: bytes) -> None:
        self.private_key = private_key
        self.certificate = certificate
        pool = pool_of(certificate)
        if pool is None or public_key_of(private_key) != pool.root_key:
            raise ValueError("the certificate is no root, or another root's")
        self.pool = pool
        self.since_unix_s = _lasting(x509.load_der_x509_certificate(certificate))[0]

    def certify(
        self, ca_public_key: bytes, node_id: NodeId, generation: int, now_unix_s: int
    ) -> bytes:
        """The certificate (DER) of an admin's authority."""
        assert 1 <= generation <= GENERATION_MAX, generation
        subject = _subject(((_NAME, node_id), (_GENERATION, str(generation))))
        return _signed(
            self.private_key,
            ca_public_key,
            issuer=x509.load_der_x509_certificate(self.certificate).subject,
            subject=subject,
            serial=_new_serial(),
            lasts=(now_unix_s - BACKDATED_S, NO_END_UNIX_S),
            extensions=_authority_extensions(ca_public_key, self.pool.root_key),
        )


def make_root(entropy: bytes, pool_name: str, now_unix_s: int) -> Root:
    """A new pool's root. MeshError when no pool can have that name."""
    reason = reason_unshowable(pool_name)
    if reason:
        raise MeshError(f"no pool can be called {pool_name!r}: {reason}", "choose another --pool")
    private_key = _root_private_key(entropy)
    public_key = public_key_of(private_key)
    subject = _subject(((_NAME, pool_name),))
    certificate = _signed(
        private_key,
        public_key,
        issuer=subject,
        subject=subject,
        serial=_ROOT_SERIAL,
        lasts=(now_unix_s - BACKDATED_S, NO_END_UNIX_S),
        extensions=_root_extensions(public_key),
    )
    return Root(private_key, certificate)


def recover_root(entropy: bytes, pool: Pool) -> Root:
    """The root of a pool that exists. MeshError when the phrase was another pool's."""
    private_key = _root_private_key(entropy)
    if public_key_of(private_key) != pool.root_key:
        raise MeshError(
            f"this is the recovery phrase of another pool, not of {pool.name!r}",
            "each pool has a phrase of its own, shown when it was founded",
        )
    return Root(private_key, pool.root)


class Authority:
    """The authority of one admin node: it issues the certificates of nodes.

    ValueError when key and certificate do not belong together.
    """

    def __init__(self, private_key: bytes, certificate: bytes) -> None:
        self.private_key = private_key
        self.certificate = certificate
        parsed = x509.load_der_x509_certificate(certificate)
        self._subject = parsed.subject
        self.public_key = public_key_of(private_key)
        if _key_of(parsed) != self.public_key:
            raise ValueError("the certificate is another authority's")
        self.node_id, self.generation = _issuer_of(parsed.subject)

    def issue(
        self,
        public_key: bytes,
        *,
        name: str,
        role: Role,
        person: str,
        generation: int,
        invite_id: str,
        now_unix_s: int,
        life_s: int = LIFE_S,
        joined_unix_s: int | None = None,
    ) -> bytes:
        """The bundle (encoded) of a node. What it says was checked: see `reason_unshowable`.

        `joined_unix_s`: when it was let in; now, unless it is a renewal.
        """
        assert not reason_unshowable(name), name
        assert not person or not reason_unshowable(person), person
        assert not invite_id or not reason_unshowable(invite_id), invite_id
        assert 1 <= generation <= GENERATION_MAX, generation
        assert 0 < life_s <= LIFE_S_MAX, life_s
        said = (
            (_NAME, name),
            (_ROLE, role.name.lower()),
            (_PERSON, person),
            (_GENERATION, str(generation)),
            (_INVITE, invite_id),
            (_JOINED, str(now_unix_s if joined_unix_s is None else joined_unix_s)),
        )
        leaf = _signed(
            self.private_key,
            public_key,
            issuer=self._subject,
            subject=_subject(said),
            serial=_new_serial(),
            lasts=(now_unix_s - BACKDATED_S, now_unix_s + life_s),
            extensions=_leaf_extensions(public_key, self.public_key),
        )
        return Bundle(leaf, self.certificate).encode()


def new_private_key() -> bytes:
    """For an authority: 32 secret bytes."""
    return secrets.token_bytes(32)


def public_key_of(private_key: bytes) -> bytes:
    """The 32 bytes that others may know."""
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def _signed(
    private_key: bytes,
    public_key: bytes,
    *,
    issuer: x509.Name,
    subject: x509.Name,
    serial: int,
    lasts: tuple[int, int],
    extensions: Extensions,
) -> bytes:
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=Ed25519PublicKey.from_public_bytes(public_key),
        serial_number=serial,
        not_valid_before=_instant(lasts[0]),
        not_valid_after=_instant(lasts[1]),
    )
    for is_critical, extension in sorted(extensions, key=lambda each: each[1].oid.dotted_string):
        builder = builder.add_extension(extension, is_critical)
    signed = builder.sign(Ed25519PrivateKey.from_private_bytes(private_key), None)
    encoded = signed.public_bytes(Encoding.DER)
    assert len(encoded) <= CERTIFICATE_BYTES_MAX, f"a certificate of {len(encoded)} bytes"
    return encoded


def _root_private_key(entropy: bytes) -> bytes:
    assert len(entropy) == ENTROPY_BYTES, f"{len(entropy)} bytes of entropy"
    return sha256(b"rain root key" + entropy).digest()


def _new_serial() -> int:
    return 1 + secrets.randbelow(SERIAL_MAX)


def _instant(unix_s: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=unix_s)


def _subject(said: tuple[tuple[x509.ObjectIdentifier, str], ...]) -> x509.Name:
    return x509.Name([x509.NameAttribute(key, text) for key, text in said if text])


# --- The profile ---------------------------------------------------------------------------------


def _root_extensions(root_key: bytes) -> Extensions:
    return _extensions(root_key, root_key, path_length=1)


def _authority_extensions(ca_key: bytes, root_key: bytes) -> Extensions:
    return _extensions(ca_key, root_key, path_length=0)


def _leaf_extensions(public_key: bytes, ca_key: bytes) -> Extensions:
    # Every node is client here and server there; a certificate for one of both is refused.
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    usages = x509.ExtendedKeyUsage(both)
    name = x509.SubjectAlternativeName([x509.DNSName(dns_name(node_id_of(public_key)))])
    common = _extensions(public_key, ca_key, path_length=None)
    return common | {(False, usages), (False, name)}


def _extensions(public_key: bytes, issuer_key: bytes, path_length: int | None) -> Extensions:
    own, issuer = map(Ed25519PublicKey.from_public_bytes, (public_key, issuer_key))
    is_authority = path_length is not None
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    return frozenset(
        {
            (True, x509.BasicConstraints(is_authority, path_length)),
            (True, usage),
            (False, x509.SubjectKeyIdentifier.from_public_key(own)),
            (False, x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer)),
        }
    )


# --- Reading -------------------------------------------------------------------------------------


class _Unfit(ValueError):
    """These bytes are not such a certificate."""


def pool_of(root: bytes) -> Pool | None:
    """The pool of this root certificate (DER); None when it is no root of Rain's."""
    return _read(_pool_of, root)


def make_inspect(pool: Pool) -> Inspect:
    """Who a bundle is of, if it leads to the root of that pool."""
    assert pool_of(pool.root) == pool, "the pool has another root"
    root = x509.load_der_x509_certificate(pool.root)

    def inspect(bundle: bytes) -> Credential | None:
        return _read(lambda encoded: _credential_of(encoded, root, pool.root_key), bundle)

    return inspect


def _read(read: Callable[[bytes], T], encoded: bytes) -> T | None:
    """Whatever strange bytes make the parser raise, it means no."""
    try:
        return read(encoded)
    except Exception:  # a dozen types of cryptography's, of strangers' making; none is our fault
        return None


def _pool_of(encoded: bytes) -> Pool:
    root = _parsed(encoded)
    key = _key_of(root)
    _require_signed(root, key, _root_extensions(key))
    _require(root.issuer == root.subject and root.serial_number == _ROOT_SERIAL)
    said = _said_by(root.subject)
    _require(set(said) == {_NAME} and not reason_unshowable(said[_NAME]))
    return Pool(said[_NAME], encoded, key)


def _credential_of(encoded: bytes, root: x509.Certificate, root_key: bytes) -> Credential:
    bundle = decode_bundle(encoded)
    if bundle is None:
        raise _Unfit
    authority, leaf = _parsed(bundle.authority), _parsed(bundle.leaf)
    ca_key, public_key = _key_of(authority), _key_of(leaf)
    _require(len({root_key, ca_key, public_key}) == 3)
    _require(authority.issuer == root.subject and leaf.issuer == authority.subject)
    _require_signed(authority, root_key, _authority_extensions(ca_key, root_key))
    _require_signed(leaf, ca_key, _leaf_extensions(public_key, ca_key))
    issuer_id, issuer_generation = _issuer_of(authority.subject)
    said = _said_by(leaf.subject)
    _require({_NAME, _ROLE, _GENERATION, _JOINED} <= set(said) <= _SAID_BY_LEAF)
    _require(not any(map(reason_unshowable, said.values())))
    since, until = _lasting(leaf)
    _require(0 < until - since <= LIFE_S_MAX)
    return Credential(
        node_id=node_id_of(public_key),
        public_key=public_key,
        name=said[_NAME],
        role=_ROLES[said[_ROLE]],
        person=said.get(_PERSON, ""),
        generation=_generation(said[_GENERATION]),
        serial=leaf.serial_number,
        issuer_id=issuer_id,
        issuer_generation=issuer_generation,
        issuer_since_unix_s=_lasting(authority)[0],
        since_unix_s=since,
        until_unix_s=until,
        invite_id=said.get(_INVITE, ""),
        joined_unix_s=_number(said[_JOINED], JOINED_UNIX_S_MAX),
    )


def _issuer_of(subject: x509.Name) -> tuple[NodeId, int]:
    said = _said_by(subject)
    _require(set(said) == {_NAME, _GENERATION})
    _require(_NODE_ID.fullmatch(said[_NAME]) is not None)
    return NodeId(said[_NAME]), _generation(said[_GENERATION])


def _parsed(encoded: bytes) -> x509.Certificate:
    _require(len(encoded) <= CERTIFICATE_BYTES_MAX)
    certificate = x509.load_der_x509_certificate(encoded)
    _require(certificate.version is x509.Version.v3)
    _require(0 < certificate.serial_number <= SERIAL_MAX)
    # A count of unused bits that is not 0 would be read past: other bytes, the same certificate.
    _require(encoded.endswith(_SIGNATURE_HEAD + certificate.signature))
    return certificate


def _require_signed(
    certificate: x509.Certificate, issuer_key: bytes, extensions: Extensions
) -> None:
    _require(certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519)
    signature, content = certificate.signature, certificate.tbs_certificate_bytes
    Ed25519PublicKey.from_public_bytes(issuer_key).verify(signature, content)
    found = list(certificate.extensions)
    _require(len(found) == len(extensions))
    _require(frozenset((each.critical, each.value) for each in found) == extensions)


def _key_of(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise _Unfit
    return key.public_bytes_raw()


def _said_by(subject: x509.Name) -> dict[x509.ObjectIdentifier, str]:
    said: dict[x509.ObjectIdentifier, str] = {}
    for attribute in subject:
        _require(isinstance(attribute.value, str) and attribute.oid not in said)
        said[attribute.oid] = str(attribute.value)
    return said


def _generation(text: str) -> int:
    return _number(text, GENERATION_MAX)


def _number(text: str, most: int) -> int:
    _require(_NUMBER.fullmatch(text) is not None and int(text) <= most)
    return int(text)


def _lasting(certificate: x509.Certificate) -> tuple[int, int]:
    """When it was issued and until when it counts."""
    since = int(certificate.not_valid_before_utc.timestamp()) + BACKDATED_S
    return since, int(certificate.not_valid_after_utc.timestamp())


def _require(is_so: bool) -> None:
    if not is_so:
        raise _Unfit
