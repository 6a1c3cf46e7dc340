"""The door on the real wire: who gets a fresh certificate there, and who does not."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from rain.claims import Signer
from rain.mesh.certificates import LIFE_S
from rain.mesh.door import (
    AskRenewal,
    Denied,
    Granted,
    proof_content,
)
from rain.mesh.newcomer import NotLetIn, doorstep
from rain.model import Address
from tests.agent.hosts import Host, founder
from tests.mesh.conftest import Run
from tests.mesh.knocking import OTHER, member_of, shown_to, stranger

# --- Renewal -------------------------------------------------------------------------------------


async def renewed(member: Host, address: Address, signer: Signer | None = None) -> Granted:
    async with doorstep(address) as door:
        return await door.renew(
            member.pool, member.bundle, signer or member.signer, lambda admin: True
        )


def test_who_slept_past_expiry_renews_at_the_door(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        async with host.opened() as address:
            member = await member_of(host, address, tmp_path / "b")
            before = host.trust.credential(member.node_id)
            host.clock.pass_s(400 * 24 * 3_600)
            granted = await renewed(member, address)

        after = host.trust.credential(member.node_id)
        assert before is not None
        assert after is not None
        assert after.until_unix_s == host.clock() // 1_000 + LIFE_S
        assert (
            replace(
                after,
                serial=before.serial,
                since_unix_s=before.since_unix_s,
                until_unix_s=before.until_unix_s,
            )
            == before
        )
        assert granted.bundle == host.trust.bundle(member.node_id)

    run(story())


def test_who_was_removed_renews_nothing_but_may_be_invited_again(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        async with host.opened() as address:
            member = await member_of(host, address, tmp_path / "b")
            host.kick(member.node_id)
            with pytest.raises(NotLetIn) as raised:
                await renewed(member, address)
            assert raised.value.reason == "removed"
            code = host.invites.open_code().code
            async with doorstep(address) as door:
                await door.join_by_code(code, member.signer, "lab-3")

        credential = host.trust.credential(member.node_id)
        assert credential is not None
        assert credential.generation == 2

    run(story())


def test_nobody_renews_what_is_not_his(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        async with host.opened() as address:
            member = await member_of(host, address, tmp_path / "b")
            with pytest.raises(NotLetIn, match="unknown_node"):
                await renewed(member, address, OTHER)
            async with stranger(address) as (channel, leaf):
                shown = await shown_to(channel)
                key, bundle = member.signer.public_key, member.bundle
                proof = OTHER.sign(proof_content("renewal", leaf, shown.nonce, key, bundle.hex()))
                await channel.send(AskRenewal(bundle, key, proof))
                assert await channel.receive() == Denied("bad_proof")

    run(story())


def test_an_admin_that_is_not_trusted_any_more_is_asked_for_nothing(
    run: Run, tmp_path: Path
) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        async with host.opened() as address:
            member = await member_of(host, address, tmp_path / "b")
            with pytest.raises(NotLetIn, match="other_pool"):
                async with doorstep(address) as door:
                    await door.renew(host.pool, member.bundle, member.signer, lambda admin: False)
        assert "door_denied_other_pool" not in host.door.dropped

    run(story())
