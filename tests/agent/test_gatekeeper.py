"""Who is let in, by the roll and by the clock."""

from pathlib import Path

import pytest

from rain.agent.authority import new_authority
from rain.agent.gatekeeper import GRACE_S, Gatekeeper
from rain.claims import Departure, Removal, node_id_of
from rain.effects import CertificateShown, ClaimMade
from rain.mesh import keys
from rain.mesh.certificates import LIFE_S, Authority, make_inspect, public_key_of
from rain.model import Role
from rain.trust.credential import Credential
from tests.agent.desk import NOW_UNIX_S, Nowhere, OneNode
from tests.mesh.certified import CertifiedPool

LATER_S = NOW_UNIX_S + 100
FRIEND_KEY = public_key_of(b"friend".ljust(32))
FRIEND = node_id_of(FRIEND_KEY)


class Gate:
    """The gatekeeper of the founder, with a clock that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.node = OneNode(folder)
        self.now_unix_s = LATER_S
        self.keeper = Gatekeeper(make_inspect(self.node.pool), lambda: self.now_unix_s * 1_000)
        self.keeper.attach(self.node.driver.node)
        self.node.driver.connect(Nowhere(), Nowhere())
        authority = keys.load_authority(folder)
        assert authority is not None
        self.authority: Authority = authority

    def bundle(
        self,
        role: Role = Role.MEMBER,
        authority: Authority | None = None,
        generation: int = 1,
    ) -> bytes:
        return (authority or self.authority).issue(
            FRIEND_KEY,
            name="friend",
            role=role,
            person="bert",
            generation=generation,
            invite_id="abcdefghij",
            now_unix_s=NOW_UNIX_S,
        )

    def let_in(self, role: Role = Role.MEMBER) -> bytes:
        bundle = self.bundle(role)
        self.node.driver.feed(CertificateShown(bundle))
        return bundle


@pytest.fixture
async def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


async def test_a_certificate_of_the_pool_is_admitted(gate: Gate) -> None:
    admitted = gate.keeper.admit(gate.bundle())
    assert isinstance(admitted, Credential)
    assert (admitted.node_id, admitted.role, admitted.person) == (FRIEND, Role.MEMBER, "bert")
    await gate.node.store.close()


async def test_another_pools_certificate_is_a_strangers(gate: Gate) -> None:
    assert gate.keeper.admit(CertifiedPool("attic").bundle_of("friend")) == "stranger"
    assert gate.keeper.admit(b"nonsense") == "stranger"
    await gate.node.store.close()


async def test_before_there_is_a_roll_nobody_is_let_in(tmp_path: Path) -> None:
    node = OneNode(tmp_path)
    keeper = Gatekeeper(make_inspect(node.pool))
    bundle = keys.load_certificate(tmp_path)
    assert bundle is not None
    assert keeper.admit(bundle) == "not_ready"
    assert keeper.refusal_of(node.identity.node_id) == "not_ready"
    await node.store.close()


async def test_packets_count_from_who_is_on_the_roll(gate: Gate) -> None:
    assert gate.keeper.refusal_of(FRIEND) == "not_a_member"
    gate.let_in()
    assert gate.keeper.refusal_of(FRIEND) == ""
    await gate.node.store.close()


async def test_a_removed_node_is_refused_everywhere_and_at_any_time(gate: Gate) -> None:
    bundle = gate.let_in()
    gate.node.driver.feed(ClaimMade(Removal(FRIEND, 0), 5, fresh_key=b"k" * 32))
    assert gate.keeper.admit(bundle) == "removed"
    assert gate.keeper.refusal_of(FRIEND) == "not_a_member"
    await gate.node.store.close()


async def test_a_certificate_of_a_clock_that_was_ahead_is_as_good_as_any(gate: Gate) -> None:
    """Later ones of that node end earlier, so they lose: it would be locked out until then."""
    bundle = gate.let_in()
    gate.now_unix_s = NOW_UNIX_S - 365 * 24 * 3_600
    assert isinstance(gate.keeper.admit(bundle), Credential)
    assert gate.keeper.refusal_of(FRIEND) == ""
    await gate.node.store.close()


async def test_an_admin_that_a_junior_one_has_removed_is_let_in_on_streams(gate: Gate) -> None:
    bundle = gate.let_in(Role.ADMIN)
    trust = gate.node.driver.node.trust
    removal = ClaimMade(Removal(FRIEND, 0), 5, fresh_key=b"k" * 32)
    gate.node.driver.feed(removal)
    assert gate.keeper.admit(bundle) == "removed", "it is no senior"
    root = keys.load_root(gate.node.folder)
    assert root is not None
    senior = new_authority(root, FRIEND, 2, NOW_UNIX_S - 9)
    bundle = gate.bundle(Role.ADMIN, senior, 2)
    gate.node.driver.feed(CertificateShown(bundle))
    gate.node.driver.feed(removal)

    assert trust.credential(FRIEND) is None
    assert trust.is_overruled(FRIEND)
    assert isinstance(gate.keeper.admit(bundle), Credential)
    assert gate.keeper.refusal_of(FRIEND) == "not_a_member", "its packets count for nothing"
    await gate.node.store.close()


async def test_an_expired_certificate_is_refused_while_an_admin_could_renew_it(gate: Gate) -> None:
    bundle = gate.let_in()
    fresh_admin = gate.authority.issue(
        gate.node.signer.public_key,
        name="desk",
        role=Role.ADMIN,
        person="anna",
        generation=1,
        invite_id="",
        now_unix_s=NOW_UNIX_S + LIFE_S,
    )
    gate.now_unix_s = NOW_UNIX_S + LIFE_S
    assert isinstance(gate.keeper.admit(bundle), Credential)
    gate.node.driver.feed(CertificateShown(fresh_admin))
    gate.now_unix_s += 1
    assert gate.keeper.admit(bundle) == "expired"
    assert gate.keeper.refusal_of(FRIEND) == "expired"
    await gate.node.store.close()


async def test_without_an_admin_it_counts_for_a_time_of_grace(gate: Gate) -> None:
    bundle = gate.let_in()
    # The founder's own certificate has run out as well: no admin is to be had.
    gate.now_unix_s = NOW_UNIX_S + LIFE_S + GRACE_S
    assert isinstance(gate.keeper.admit(bundle), Credential)
    assert gate.keeper.refusal_of(FRIEND) == ""
    gate.now_unix_s += 1
    assert gate.keeper.admit(bundle) == "expired"
    await gate.node.store.close()


async def test_who_has_left_is_refused(gate: Gate) -> None:
    gate.node.driver.feed(ClaimMade(Departure(1), 5))
    own = keys.load_certificate(gate.node.folder)
    assert own is not None
    assert gate.keeper.admit(own) == "left"
    await gate.node.store.close()
