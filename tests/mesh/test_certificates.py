"""The profile of certificates: what leads to the root, and all that does not."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from rain.mesh import certificates
from rain.mesh.certificates import (
    BACKDATED_S,
    BUNDLE_BYTES_MAX,
    LIFE_S,
    LIFE_S_MAX,
    Authority,
    Bundle,
    Root,
    decode_bundle,
    dns_name,
    make_inspect,
    make_root,
    pool_of,
    public_key_of,
    recover_root,
)
from rain.mesh.envelope import node_id_of
from rain.mesh.errors import MeshError
from rain.mesh.phrase import entropy_of, phrase_of
from rain.model import Role
from rain.trust.credential import Credential
from tests.mesh.certified import NOW_UNIX_S, CertifiedPool, node_of, private_key_of

POOL = CertifiedPool()
OTHER = CertifiedPool("attic", b"another entropy.")
BUNDLE = POOL.bundle_of("desk")


def parts_of(encoded: bytes) -> Bundle:
    bundle = decode_bundle(encoded)
    assert bundle is not None
    return bundle


PARTS = parts_of(BUNDLE)


# --- what is said comes back ---------------------------------------------------------------------


def test_a_certificate_says_who_is_here_and_by_whom() -> None:
    public_key = public_key_of(private_key_of("desk"))
    bundle = POOL.authority.issue(
        public_key,
        name="desk",
        role=Role.ADMIN,
        person="Ann Ö.",
        generation=3,
        invite_id="abcdefghij",
        now_unix_s=NOW_UNIX_S + 60,
    )

    credential = POOL.inspect(bundle)

    assert credential is not None
    assert 0 < credential.serial <= certificates.SERIAL_MAX
    assert credential == Credential(
        node_id=node_id_of(public_key),
        public_key=public_key,
        name="desk",
        role=Role.ADMIN,
        person="Ann Ö.",
        generation=3,
        serial=credential.serial,
        issuer_id=node_of("admin"),
        issuer_generation=1,
        issuer_since_unix_s=NOW_UNIX_S,
        since_unix_s=NOW_UNIX_S + 60,
        until_unix_s=NOW_UNIX_S + 60 + LIFE_S,
        invite_id="abcdefghij",
        joined_unix_s=NOW_UNIX_S + 60,
    )


def test_the_certificate_is_as_tls_wants_it() -> None:
    leaf = x509.load_der_x509_certificate(PARTS.leaf)
    by_type = leaf.extensions.get_extension_for_class
    names = by_type(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)

    assert names == [f"{node_of('desk')}.node.rain.internal"] == [dns_name(node_of("desk"))]
    assert set(by_type(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    assert by_type(x509.KeyUsage).value.digital_signature
    assert not by_type(x509.BasicConstraints).value.ca
    assert by_type(x509.SubjectKeyIdentifier).value.digest
    assert by_type(x509.AuthorityKeyIdentifier).value.key_identifier
    assert leaf.not_valid_before_utc.timestamp() == NOW_UNIX_S - BACKDATED_S


def test_two_certificates_of_one_node_differ() -> None:
    assert POOL.bundle_of("desk") != BUNDLE


def test_a_bundle_is_small() -> None:
    bundle = POOL.authority.issue(
        public_key_of(private_key_of("desk")),
        name="ö" * 32,
        role=Role.MEMBER,
        person="ü" * 32,
        generation=certificates.GENERATION_MAX,
        invite_id="a" * 64,
        now_unix_s=NOW_UNIX_S,
        life_s=LIFE_S_MAX,
    )

    assert POOL.inspect(bundle) is not None
    assert len(bundle) < 1_200 < BUNDLE_BYTES_MAX


def test_the_root_says_which_pool_it_is_of() -> None:
    assert pool_of(POOL.root.certificate) == POOL.pool
    assert POOL.pool.name == "attic"
    assert POOL.pool.pool_id != OTHER.pool.pool_id


def test_other_admins_issue_too() -> None:
    bundle = POOL.bundle_of("desk", authority=POOL.authority_of("second"))

    assert POOL.credential_of(bundle).issuer_id == node_of("second")


@pytest.mark.parametrize("name", ["", "x" * 65, "ö" * 33, "a\nb", "\x1b[31m"])
def test_a_pool_needs_a_name_that_can_be_shown(name: str) -> None:
    with pytest.raises(MeshError) as raised:
        make_root(bytes(16), name, NOW_UNIX_S)

    assert raised.value.hint


def test_keys_and_certificates_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="root"):
        Root(OTHER.root.private_key, POOL.root.certificate)
    with pytest.raises(ValueError, match="root"):
        Root(POOL.authority.private_key, POOL.authority.certificate)
    with pytest.raises(ValueError, match="authority"):
        Authority(POOL.root.private_key, POOL.authority.certificate)


# --- the phrase ----------------------------------------------------------------------------------


@given(st.binary(min_size=16, max_size=16))
def test_a_phrase_says_the_same_as_its_entropy(entropy: bytes) -> None:
    phrase = phrase_of(entropy)

    assert len(phrase.split()) == 12
    assert entropy_of(phrase) == entropy
    assert entropy_of("  " + phrase.upper().replace(" ", " ,\n ")) == entropy
    assert entropy_of(" ".join(word[:4] for word in phrase.split())) == entropy


def test_the_root_comes_back_from_the_phrase() -> None:
    root = make_root(bytes(range(16)), "attic", NOW_UNIX_S)
    again = recover_root(entropy_of(phrase_of(bytes(range(16)))), root.pool)

    assert again.private_key == root.private_key
    assert again.certificate == root.certificate
    with pytest.raises(MeshError, match="another pool"):
        recover_root(bytes(16), root.pool)


ZEROS = ["abandon"] * 11 + ["about"]


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("", "has 12 words, this one has 0"),
        (" ".join(ZEROS[:11]), "has 12 words, this one has 11"),
        (" ".join([*ZEROS[:5], "rain-bow", *ZEROS[6:]]), "word 6 .* 'rain-bow'"),
        (" ".join(["about", *ZEROS[:11]]), "do not belong together"),
    ],
)
def test_a_wrong_phrase_is_told(phrase: str, message: str) -> None:
    with pytest.raises(MeshError, match=message) as raised:
        entropy_of(phrase)

    assert raised.value.hint


# --- what does not lead to the root --------------------------------------------------------------


def test_another_pool_of_the_same_name() -> None:
    assert OTHER.inspect(BUNDLE) is None
    assert POOL.inspect(OTHER.bundle_of("desk")) is None
    theirs = parts_of(OTHER.bundle_of("desk"))
    assert POOL.inspect(Bundle(theirs.leaf, POOL.authority.certificate).encode()) is None
    assert POOL.inspect(Bundle(PARTS.leaf, OTHER.authority.certificate).encode()) is None


def test_chains_of_another_length() -> None:
    root = POOL.root.certificate
    # The root issues no nodes, a node issues nobody, and an authority is no node.
    by_root = Authority.__new__(Authority)
    by_root.private_key, by_root.certificate = POOL.root.private_key, root
    by_root.public_key = POOL.pool.root_key
    by_root._subject = x509.load_der_x509_certificate(root).subject
    by_node = Authority.__new__(Authority)
    by_node.private_key, by_node.certificate = private_key_of("desk"), PARTS.leaf
    by_node.public_key = public_key_of(private_key_of("desk"))
    by_node._subject = x509.load_der_x509_certificate(PARTS.leaf).subject

    for forged in (
        POOL.bundle_of("x", authority=by_root),
        POOL.bundle_of("x", authority=by_node),
        Bundle(POOL.authority.certificate, root).encode(),
        Bundle(POOL.authority.certificate, POOL.authority.certificate).encode(),
        Bundle(root, root).encode(),
        Bundle(PARTS.authority, PARTS.leaf).encode(),
        Bundle(PARTS.leaf, PARTS.leaf).encode(),
    ):
        assert POOL.inspect(forged) is None


def forge(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A bundle, signed by a real authority, that differs from the profile in one thing."""
    public_key = Ed25519PublicKey.from_public_bytes(public_key_of(private_key_of("desk")))
    genuine = x509.load_der_x509_certificate(PARTS.leaf)
    parts: dict[str, Any] = {
        "issuer": genuine.issuer,
        "subject": {each.oid: each.value for each in genuine.subject},
        "key": public_key,
        "serial": genuine.serial_number,
        "since": genuine.not_valid_before_utc,
        "until": genuine.not_valid_after_utc,
        "extensions": {
            type(each.value): (each.value, each.critical) for each in genuine.extensions
        },
        "signer": Ed25519PrivateKey.from_private_bytes(POOL.authority.private_key),
        "hash": None,
    }
    change(parts)
    subject = parts["subject"]
    builder = x509.CertificateBuilder(
        parts["issuer"],
        x509.Name([x509.NameAttribute(key, text) for key, text in subject.items()]),
        parts["key"],
        parts["serial"],
        parts["since"],
        parts["until"],
    )
    for extension, is_critical in parts["extensions"].values():
        builder = builder.add_extension(extension, is_critical)
    leaf = builder.sign(parts["signer"], parts["hash"]).public_bytes(Encoding.DER)
    return Bundle(leaf, POOL.authority.certificate).encode()


def say(key: x509.ObjectIdentifier, text: str) -> Callable[[dict[str, Any]], None]:
    return lambda parts: parts["subject"].update({key: text})


def unsay(key: x509.ObjectIdentifier) -> Callable[[dict[str, Any]], None]:
    return lambda parts: parts["subject"].pop(key)


def extend(extension: x509.ExtensionType, is_critical: bool) -> Callable[[dict[str, Any]], None]:
    return lambda parts: parts["extensions"].update({type(extension): (extension, is_critical)})


def reduce_by(kind: type[x509.ExtensionType]) -> Callable[[dict[str, Any]], None]:
    return lambda parts: parts["extensions"].pop(kind)


def put(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda parts: parts.update(changes)


def usages(*kinds: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage(list(kinds))


def names(*texts: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(text) for text in texts])


EXTENSIONS = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
)
OWN_NAME = dns_name(node_of("desk"))
UNFIT: dict[str, Callable[[dict[str, Any]], None]] = {
    **{f"without {kind.__name__}": reduce_by(kind) for kind in EXTENSIONS},
    "an authority": extend(x509.BasicConstraints(True, 0), True),
    "constraints that may be ignored": extend(x509.BasicConstraints(False, None), False),
    "a server only": extend(usages(ExtendedKeyUsageOID.SERVER_AUTH), False),
    "a client only": extend(usages(ExtendedKeyUsageOID.CLIENT_AUTH), False),
    "another node's name": extend(names(dns_name(node_of("admin"))), False),
    "two names": extend(names(OWN_NAME, "rain.example"), False),
    "any name": extend(names("*.node.rain.internal"), False),
    "one extension more": extend(x509.OCSPNoCheck(), False),
    "a life without end": put(until=datetime(9999, 12, 31, tzinfo=UTC)),
    "a life of no time": put(until=datetime.fromtimestamp(NOW_UNIX_S - 1, UTC)),
    "a huge serial": put(serial=2**150),
    "another issuer": put(issuer=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])),
    "signed by itself": put(
        signer=Ed25519PrivateKey.from_private_bytes(private_key_of("desk")),
    ),
    "another kind of key": put(key=ec.generate_private_key(ec.SECP256R1()).public_key()),
    "another kind of signature": put(
        signer=ec.generate_private_key(ec.SECP256R1()), hash=hashes.SHA256()
    ),
    "no name": unsay(NameOID.COMMON_NAME),
    "no role": unsay(NameOID.TITLE),
    "no generation": unsay(NameOID.GENERATION_QUALIFIER),
    "an unknown role": say(NameOID.TITLE, "emperor"),
    "a role in capitals": say(NameOID.TITLE, "ADMIN"),
    "generation 0": say(NameOID.GENERATION_QUALIFIER, "0"),
    "generation 01": say(NameOID.GENERATION_QUALIFIER, "01"),
    "generation in other digits": say(NameOID.GENERATION_QUALIFIER, "\u0661"),
    "a generation beyond all": say(NameOID.GENERATION_QUALIFIER, "9" * 10),
    "a name that cannot be shown": say(NameOID.COMMON_NAME, "a\x1b[2J"),
    "a person that cannot be shown": say(NameOID.USER_ID, "a\u202eb"),
    "a person without end": say(NameOID.USER_ID, "a" * 65),
    "something else said": say(NameOID.ORGANIZATION_NAME, "evil"),
}


def test_the_forge_makes_good_ones_where_nothing_is_changed() -> None:
    assert POOL.inspect(forge(lambda parts: None)) == POOL.inspect(BUNDLE)


@pytest.mark.parametrize("change", UNFIT.values(), ids=UNFIT.keys())
def test_what_differs_from_the_profile_leads_nowhere(
    change: Callable[[dict[str, Any]], None],
) -> None:
    assert POOL.inspect(forge(change)) is None


@pytest.mark.parametrize("garbage", [b"", b"\x00", BUNDLE[:-1], BUNDLE + b"\x00", b"\x93" * 5_000])
def test_garbage_leads_nowhere(garbage: bytes) -> None:
    assert POOL.inspect(garbage) is None
    assert decode_bundle(garbage) is None
    assert pool_of(garbage) is None


def test_one_bundle_has_one_encoding() -> None:
    # A longer header for the same array, and a field more, which messages would tolerate.
    assert BUNDLE[0] == 0x93
    assert decode_bundle(b"\xdc\x00\x03" + BUNDLE[1:]) is None
    assert decode_bundle(b"\x94" + BUNDLE[1:] + b"\x01") is None
    assert decode_bundle(Bundle(b"", b"").encode()) == Bundle(b"", b"")
    assert POOL.inspect(Bundle(b"", b"").encode()) is None


@settings(max_examples=300)
@given(st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(BUNDLE) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(BUNDLE)
    changed[at] ^= flip

    assert POOL.inspect(bytes(changed)) is None


@settings(max_examples=200)
@given(st.binary(max_size=600), st.binary(max_size=600))
def test_noise_in_a_bundle_raises_nothing(leaf: bytes, authority: bytes) -> None:
    assert POOL.inspect(Bundle(leaf, authority).encode()) is None
    assert POOL.inspect(Bundle(leaf, PARTS.authority).encode()) is None
    assert pool_of(leaf) is None


def test_a_root_is_as_exact() -> None:
    assert pool_of(POOL.authority.certificate) is None
    assert pool_of(PARTS.leaf) is None
    assert pool_of(POOL.root.certificate + b"\x00") is None
    assert make_inspect(POOL.pool)(BUNDLE) is not None
