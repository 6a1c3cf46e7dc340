"""The simulated certificates say who somebody is, and nobody else can make them say so."""

from msgspec.structs import replace

from rain.mesh.envelope import node_id_of
from rain.model import Role
from sim.credentials import Authority, Charter, Inspector
from sim.signing import signer_of, verify_of

SEED = 50
"""One that pays for the real signature."""
ROOT, ADMIN, NODE = (signer_of(SEED, name) for name in ("root", "admin", "node"))


def authority(generation: int = 1) -> Authority:
    return Authority(ROOT, ADMIN, generation, 7)


def bundle() -> bytes:
    return authority().issue(
        NODE.public_key, name="n2", role=Role.MEMBER, person="ann", generation=3, invite_id="x"
    )


def inspector() -> Inspector:
    return Inspector(ROOT.public_key, verify_of(SEED))


def test_a_bundle_tells_who_it_is_and_who_says_so() -> None:
    found = inspector().inspect(bundle())
    assert found is not None
    assert (found.node_id, found.public_key) == (node_id_of(NODE.public_key), NODE.public_key)
    assert (found.name, found.role, found.person) == ("n2", Role.MEMBER, "ann")
    assert (found.generation, found.serial, found.invite_id) == (3, 1, "x")
    assert found.issuer_id == node_id_of(ADMIN.public_key)
    assert (found.issuer_generation, found.issuer_since_unix_s) == (1, 7)
    assert found.since_unix_s < found.until_unix_s


def test_two_of_one_authority_differ_and_a_renewal_says_the_same() -> None:
    issuer, reader = authority(), inspector()
    first = reader.inspect(
        issuer.issue(NODE.public_key, name="n2", role=Role.WORKER, person="bob", generation=1)
    )
    assert first is not None
    second = reader.inspect(issuer.renew(first))
    assert second is not None
    assert second.serial == first.serial + 1
    assert replace(second, serial=first.serial) == first


def test_a_bundle_that_was_touched_leads_nowhere() -> None:
    whole, reader = bundle(), inspector()
    for at in range(len(whole)):
        bent = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert reader.inspect(bent) is None, f"byte {at}"
        assert reader.inspect(whole[:at]) is None, f"the first {at} bytes"


def test_neither_another_root_nor_a_mere_member_makes_a_bundle() -> None:
    reader = inspector()
    for root, issuer in ((NODE, ADMIN), (NODE, NODE), (ADMIN, ADMIN)):
        made = Authority(root, issuer, 1, 7).issue(
            NODE.public_key, name="n2", role=Role.ADMIN, person="eve", generation=9
        )
        assert reader.inspect(made) is None
    assert reader.inspect(b"") is None
    assert reader.inspect(b"\xc0") is None


def test_who_is_made_an_admin_later_is_the_junior() -> None:
    charter = Charter(SEED, ROOT, verify_of(SEED))
    since = []
    for signer in (ADMIN, NODE, ADMIN):
        made = charter.empower(signer).issue(
            signer.public_key, name="n", role=Role.ADMIN, person="ann", generation=1
        )
        credential = charter.inspect(made)
        assert credential is not None
        since.append(credential.issuer_since_unix_s)
    assert since == sorted(set(since))
    assert len({charter.next_key() for _ in range(5)} | {charter.first_key}) == 6
