"""A PC that is in a pool and has kept no key of it gets in again, by its certificate."""

from pathlib import Path

import pytest

from rain.agent.joining import Entered
from rain.agent.refusals import JoinError
from rain.mesh import keys
from rain.mesh.door import Granted
from rain.mesh.door import Newcomer as Known
from rain.model import Role
from tests.agent.hosts import Host, founder
from tests.agent.test_joining import Ether, Newcomer


def half_in(host: Host, pc: Newcomer) -> Entered:
    """Let in, and cut off before roll and keys were kept."""
    _, invitation = host.invites.open_token(role=Role.MEMBER)
    granted = host.issuer.admit(Known(pc.signer.public_key, "lab-3"), invitation)
    assert isinstance(granted, Granted)
    keys.keep_certificate(pc.options.data_dir, granted.bundle)
    keys.keep_pool(pc.options.data_dir, host.pool)
    return Entered(host.pool, granted.bundle)


async def test_it_is_given_roll_and_keys_at_an_admins_door(tmp_path: Path) -> None:
    ether, host, other = Ether(), founder(tmp_path / "a"), founder(tmp_path / "o")
    pc = Newcomer(tmp_path / "b", ether, is_terminal=False)
    kept = half_in(host, pc)
    async with ether.answered_by(other), ether.answered_by(host) as address:
        entered = await pc.entrance.again(kept)

    assert pc.said[0] == "This PC is in pool 'attic' but has no key of it: asking an admin's PC."
    assert (entered.pool, entered.bundle) == (kept.pool, kept.bundle)
    assert [each.key for each in entered.ring] == [host.trust.ring().keys[1]]
    assert host.bundle in entered.bundles
    assert entered.contact == address
    assert entered.is_newcomer, "so its store is written"


async def test_who_was_removed_meanwhile_is_told_so(tmp_path: Path) -> None:
    ether, host = Ether(), founder(tmp_path / "a")
    pc = Newcomer(tmp_path / "b", ether)
    kept = half_in(host, pc)
    host.clock.pass_s(1)
    (member,) = (each for each in host.trust.credentials() if each.node_id != host.node_id)
    host.kick(member.node_id)
    async with ether.answered_by(host):
        with pytest.raises(JoinError, match="this PC was removed from the pool"):
            await pc.entrance.again(kept)


async def test_where_no_admin_is_to_be_had_it_ends_with_what_to_check(tmp_path: Path) -> None:
    host = founder(tmp_path / "a")
    pc = Newcomer(tmp_path / "b", Ether(), is_terminal=False)
    with pytest.raises(JoinError, match="nobody of pool 'attic' answered in time"):
        await pc.entrance.again(half_in(host, pc))


async def test_a_founder_whom_nobody_answers_goes_on_alone(tmp_path: Path) -> None:
    host = founder(tmp_path / "a")
    pc = Newcomer(tmp_path / "a", Ether())
    kept = Entered(host.pool, host.bundle)
    assert await pc.entrance.again(kept) == kept
    assert pc.said == []
