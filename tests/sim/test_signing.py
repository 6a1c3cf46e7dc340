"""Both signatures are 64 bytes, and both notice damage."""

import pytest

from rain.mesh.envelope import Verify
from sim.signing import Ed25519Signer, TagSigner, is_ed25519, verify_ed25519, verify_tag


@pytest.mark.parametrize(
    ("signer", "verify"),
    [(TagSigner("1/0"), verify_tag), (Ed25519Signer("1/0"), verify_ed25519)],
)
def test_a_signature_holds_until_a_bit_falls(
    signer: TagSigner | Ed25519Signer, verify: Verify
) -> None:
    signature = signer.sign(b"word")
    assert (len(signer.public_key), len(signature)) == (32, 64)
    assert verify(signer.public_key, signature, b"word")
    assert not verify(signer.public_key, signature, b"ward")
    assert not verify(signer.public_key, signature[:-1] + b"\0", b"word")


def test_one_seed_in_fifty_pays_for_the_real_one() -> None:
    assert sum(is_ed25519(seed) for seed in range(1, 501)) == 10
