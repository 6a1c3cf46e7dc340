"""What the TLS contexts allow by themselves, with no streams around them."""

import ssl
from pathlib import Path

import pytest

from rain.mesh import keys
from rain.mesh.certificates import dns_name
from rain.mesh.errors import MeshError
from rain.mesh.keys import EdSigner
from rain.mesh.tls import TlsIdentity, joining_context, leaf_of
from rain.model import NodeId
from tests.mesh.certified import CertifiedPool, node_of, private_key_of

POOL = CertifiedPool()
OTHER = CertifiedPool("attic", b"another entropy.")


def shake_hands(
    client: ssl.SSLContext, server: ssl.SSLContext, to: NodeId
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a handshake in memory; raises what the first to refuse raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialling = client.wrap_bio(down, up, server_hostname=dns_name(to))
    answering = server.wrap_bio(up, down, server_side=True)
    for end in (dialling, answering) * 2:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return dialling, answering


def test_members_of_a_pool_shake_hands(tmp_path: Path) -> None:
    a, b = (POOL.identity_of(name, tmp_path / name) for name in "ab")

    dialling, answering = shake_hands(a.client, b.server, node_of("b"))

    assert (dialling.version(), answering.version()) == ("TLSv1.3", "TLSv1.3")
    assert dialling.getpeercert(binary_form=True) == leaf_of(b.bundle)
    assert answering.getpeercert(binary_form=True) == leaf_of(a.bundle)
    assert answering.session_reused is False


def test_an_expired_certificate_is_not_for_tls_to_judge(tmp_path: Path) -> None:
    long_ago = 1_000_000_000
    late = POOL.identity_of("late", tmp_path / "l", POOL.bundle_of("late", now_unix_s=long_ago))
    early = POOL.identity_of(
        "early", tmp_path / "e", POOL.bundle_of("early", now_unix_s=4_000_000_000)
    )

    shake_hands(late.client, early.server, node_of("early"))
    shake_hands(early.client, late.server, node_of("late"))


def test_another_name_is_refused(tmp_path: Path) -> None:
    a, b = (POOL.identity_of(name, tmp_path / name) for name in "ab")

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(a.client, b.server, node_of("c"))


def test_another_pool_is_refused_at_both_ends(tmp_path: Path) -> None:
    ours = POOL.identity_of("a", tmp_path / "a")
    theirs = OTHER.identity_of("b", tmp_path / "b")

    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(theirs.client, ours.server, node_of("a"))
    theirs.client.check_hostname = False
    theirs.client.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(theirs.client, ours.server, node_of("a"))


def test_who_shows_nothing_passes_the_library_alone(tmp_path: Path) -> None:
    ours = POOL.identity_of("a", tmp_path / "a")

    dialling, answering = shake_hands(joining_context(), ours.server, node_of("a"))

    assert answering.getpeercert(binary_form=True) is None
    assert dialling.getpeercert(binary_form=True) == leaf_of(ours.bundle)


def test_a_renewed_certificate_is_shown_from_then_on(tmp_path: Path) -> None:
    a, b = (POOL.identity_of(name, tmp_path / name) for name in "ab")
    renewed = POOL.bundle_of("b")

    keys.keep_certificate(tmp_path / "b", renewed)
    b.reload()

    assert b.bundle == renewed
    dialling, _ = shake_hands(a.client, b.server, node_of("b"))
    assert dialling.getpeercert(binary_form=True) == leaf_of(renewed)
    _, answering = shake_hands(b.client, a.server, node_of("a"))
    assert answering.getpeercert(binary_form=True) == leaf_of(renewed)


def test_a_missing_or_foreign_certificate_is_told(tmp_path: Path) -> None:
    keys.keep_node_key(tmp_path, EdSigner(private_key_of("a")))
    with pytest.raises(MeshError, match="is missing") as raised:
        TlsIdentity(tmp_path, POOL.pool)
    assert raised.value.hint

    keys.keep_certificate(tmp_path, POOL.bundle_of("b"))
    with pytest.raises(MeshError, match="do not belong together") as raised:
        TlsIdentity(tmp_path, POOL.pool)
    assert raised.value.hint
