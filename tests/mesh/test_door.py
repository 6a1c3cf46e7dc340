"""The door on the real wire: who is let in by a code or a token, on both loops."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from rain.agent.authority import Issuer
from rain.agent.invites import News, State
from rain.claims import Invitation, Withdrawal, node_id_of
from rain.mesh import keys
from rain.mesh.codes import Code
from rain.mesh.door import (
    AskByCode,
    AskByToken,
    BrokenDoor,
    Channel,
    Confirmation,
    Denied,
    Door,
    Granted,
    Knock,
    Newcomer,
    PoolKey,
    Response,
    Said,
    Shown,
    proof_content,
)
from rain.mesh.errors import MeshError
from rain.mesh.keys import EdSigner
from rain.mesh.newcomer import NotLetIn, doorstep
from rain.mesh.pake import newcomer_exchange, sponsor_exchange
from rain.mesh.tls import TlsIdentity, joining_context, leaf_of
from rain.mesh.token import decode_token, encode_token, new_token
from rain.model import Role
from tests.agent.hosts import founder, joined, node_key, served
from tests.mesh.conftest import Run
from tests.mesh.knocking import (
    NEWCOMER,
    OTHER,
    by_token,
    no_token,
    pump,
    refused,
    shown_to,
    stranger,
    wrong,
)

# --- With a code ---------------------------------------------------------------------------------


def test_the_right_code_lets_in_once(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        open_code = host.invites.open_code(role=Role.WORKER, person="bob")
        async with host.opened() as address:
            async with doorstep(address) as door:
                granted = await door.join_by_code(open_code.code, NEWCOMER, "lab-3")
            late = await refused(address, open_code.code, OTHER)

        credential = host.trust.credential(node_id_of(NEWCOMER.public_key))
        assert credential is not None
        assert (credential.name, credential.role, credential.person) == (
            "lab-3",
            Role.WORKER,
            "bob",
        )
        assert credential.invite_id == open_code.invitation.invite_id
        assert granted.bundle == host.trust.bundle(credential.node_id)
        assert granted.root == host.pool.root
        assert granted.keys == (PoolKey(1, host.trust.ring().keys[1]),)
        assert granted.use == 1
        assert set(granted.bundles) == {host.bundle, granted.bundle}
        assert [signed.claim for signed in granted.claims] == [open_code.invitation]
        assert granted.unix_ms == host.clock()
        assert open_code.news == (News("used", "lab-3", 2),)
        assert late.reason == "code_used"
        assert host.door.dropped == {"door_denied_code_used": 1}

    run(story())


def test_a_wrong_code_three_times_burns_it(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        open_code = host.invites.open_code()
        async with host.opened() as address:
            told = [await refused(address, wrong(open_code.code)) for _ in range(3)]
            late = await refused(address, open_code.code)

        assert [(each.reason, each.tries_left) for each in told] == [
            ("wrong_code", 2),
            ("wrong_code", 1),
            ("wrong_code", 0),
        ]
        assert late.reason == "code_burnt"
        assert open_code.state is State.BURNT
        assert host.claims == [
            open_code.invitation,
            Withdrawal(open_code.invitation.invite_id, "3 wrong tries"),
        ]
        assert host.invites.nameplates() == ()
        assert [credential.name for credential in host.trust.credentials()] == ["studio"]

    run(story())


def test_wrong_tries_side_by_side_count_like_tries_in_a_row(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        open_code = host.invites.open_code()
        async with host.opened() as address:
            guesses = [refused(address, wrong(open_code.code)) for _ in range(12)]
            told = [each.reason for each in await asyncio.gather(*guesses)]
            while open_code.state is State.OPEN:
                told.append((await refused(address, wrong(open_code.code))).reason)

        assert told.count("wrong_code") == 3
        assert set(told) <= {"wrong_code", "busy", "code_burnt"}
        assert open_code.state is State.BURNT

    run(story())


def test_who_hangs_up_before_the_proof_has_used_a_try(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        open_code = host.invites.open_code()
        async with host.opened() as address:
            for _ in range(3):
                async with stranger(address) as (channel, leaf):
                    shown = await shown_to(channel)
                    await channel.send(await asked_by_code(open_code.code, leaf, shown.nonce))
                    await channel.expect(Response)
        assert open_code.state is State.BURNT

    run(story())


async def asked_by_code(code: Code, leaf: bytes, nonce: bytes) -> AskByCode:
    key = NEWCOMER.public_key
    exchange = await newcomer_exchange(code.password, key, "lab-3", leaf)
    proof = NEWCOMER.sign(proof_content("code", leaf, nonce, key, "lab-3"))
    return AskByCode(code.nameplate, key, "lab-3", proof, exchange.message)


def test_a_code_ends_with_its_time(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        open_code = host.invites.open_code(ttl_s=60)
        host.clock.pass_s(60)
        async with host.opened() as address:
            assert (await refused(address, open_code.code)).reason == "code_expired"
            unknown = replace(open_code.code, nameplate="099")
            assert (await refused(address, unknown)).reason == "unknown_code"

    run(story())


def test_a_code_taken_back_during_the_exchange_lets_nobody_in(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        open_code = host.invites.open_code()
        key = NEWCOMER.public_key
        async with host.opened() as address, stranger(address) as (channel, leaf):
            shown = await shown_to(channel)
            exchange = await newcomer_exchange(open_code.code.password, key, "lab-3", leaf)
            proof = NEWCOMER.sign(proof_content("code", leaf, shown.nonce, key, "lab-3"))
            nameplate = open_code.code.nameplate
            await channel.send(AskByCode(nameplate, key, "lab-3", proof, exchange.message))
            await exchange.finish((await channel.expect(Response)).message)
            host.invites.withdraw(open_code.invitation.invite_id)
            await channel.send(Confirmation(exchange.confirmation))
            assert await channel.receive() == Denied("code_withdrawn")

        assert host.trust.credential(node_id_of(key)) is None

    run(story())


def test_a_relay_with_the_right_code_fails_at_both_ends(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host, evil = founder(tmp_path / "a"), founder(tmp_path / "e", pool_name="attic")
        open_code = host.invites.open_code()

        async with host.opened() as address:

            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                far_reader, far_writer = await asyncio.open_connection(
                    address.host, address.port, ssl=joining_context(), server_hostname=""
                )
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

            async with served(relay, TlsIdentity(evil.folder, evil.pool)) as between:
                # What is signed names the certificate that the newcomer saw.
                assert (await refused(between, open_code.code)).reason == "bad_proof"

        assert open_code.news == ()
        assert [credential.name for credential in host.trust.credentials()] == ["studio"]

    run(story())


def test_a_relay_that_signs_for_itself_fails_at_both_ends(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host, evil = founder(tmp_path / "a"), founder(tmp_path / "e")
        open_code = host.invites.open_code()
        at_host: list[Said] = []

        async with host.opened() as address:

            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                near = Channel(reader, writer, 100_000)
                async with stranger(address) as (far, leaf):
                    shown = await shown_to(far)
                    await near.expect(Knock)
                    await near.send(shown)
                    ask = await near.expect(AskByCode)
                    # In its own name, with the messages of the newcomer's exchange.
                    content = proof_content("code", leaf, shown.nonce, OTHER.public_key, "lab-3")
                    proof = OTHER.sign(content)
                    await far.send(replace(ask, public_key=OTHER.public_key, proof=proof))
                    await near.send(await far.expect(Response))
                    await far.send(await near.expect(Confirmation))
                    at_host.append(await far.receive())
                    await near.send(at_host[0])
                writer.close()

            async with served(relay, TlsIdentity(evil.folder, evil.pool)) as between:
                at_newcomer = await refused(between, open_code.code)

        assert at_host == [Denied("wrong_code", 2)]
        assert at_newcomer.reason == "wrong_code"
        assert open_code.news == (News("wrong", "lab-3", 2),)
        assert [credential.name for credential in host.trust.credentials()] == ["studio"]

    run(story())


def test_who_does_not_know_the_code_cannot_pretend_to_have_shown_it(
    run: Run, tmp_path: Path
) -> None:
    async def story() -> None:
        evil = founder(tmp_path / "e")
        code = Code("482", ("velvet", "orbit"))

        async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            channel = Channel(reader, writer, 100_000)
            await channel.expect(Knock)
            await channel.send(Shown(1, evil.bundle, evil.pool.root, b"n" * 16))
            ask = await channel.expect(AskByCode)
            leaf, guess = leaf_of(evil.bundle), wrong(code).password
            exchange = await sponsor_exchange(guess, ask.public_key, ask.name, leaf)
            await exchange.finish(ask.message)
            await channel.send(Response(exchange.message))
            await channel.expect(Confirmation)
            invitation = Invitation("i", Role.MEMBER, "eve", 1, 2**40)
            granted = evil.issuer.admit(Newcomer(ask.public_key, ask.name), invitation)
            assert isinstance(granted, Granted)
            await channel.send(replace(granted, confirmation=exchange.confirmation))
            writer.close()

        async with served(pretend, TlsIdentity(evil.folder, evil.pool)) as address:
            assert (await refused(address, code)).reason == "unproven"

    run(story())


# --- With a token --------------------------------------------------------------------------------


def test_a_token_lets_in_as_often_as_it_says(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        line, invitation = host.invites.open_token(uses=2, role=Role.ADMIN)
        third = EdSigner(b"third".ljust(32))
        async with host.opened() as address:
            granted = await by_token(address, line, NEWCOMER)
            await by_token(address, line, OTHER)
            again = await by_token(address, line, OTHER)
            assert await no_token(address, line, third) == "token_used"

        assert granted.confirmation == b""
        assert again.use == 1
        assert host.trust.uses(invitation.invite_id) == 2
        assert [each.role for each in host.trust.credentials()] == [Role.ADMIN] * 3
        assert host.invites.list()[0]["state"] == "used"

    run(story())


def test_one_use_is_one_use_however_many_come_at_once(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        host.issuer = Issuer(  # whose certificates reach the roll later, as with a driver between
            host.pool, host.node_id, host.trust, lambda bundle: None, host.clock,
            host.issuer.authority,
        )  # fmt: skip
        door = Door(host.invites, host.issuer, lambda: host.bundle, host.pool.root, keys.ed_verify)
        line, _ = host.invites.open_token(uses=1)
        signers = [EdSigner(str(n).encode().ljust(32)) for n in range(6)]
        async with served(door.serve, TlsIdentity(host.folder, host.pool)) as address:
            answers = await asyncio.gather(
                *(by_token(address, line, signer) for signer in signers), return_exceptions=True
            )

        assert [isinstance(answer, Granted) for answer in answers].count(True) == 1
        assert {str(each) for each in answers if isinstance(each, NotLetIn)} == {"token_used"}

    run(story())


def test_a_token_ends_with_its_time_or_is_taken_back(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        short, _ = host.invites.open_token(ttl_s=60)
        line, invitation = host.invites.open_token(ttl_s=600)
        strange = encode_token(new_token(host.pool.root_key, b"never made here."))
        async with host.opened() as address:
            host.clock.pass_s(60)
            assert await no_token(address, short, NEWCOMER) == "token_expired"
            host.invites.withdraw(invitation.invite_id)
            assert await no_token(address, line, NEWCOMER) == "token_withdrawn"
            assert await no_token(address, strange, NEWCOMER) == "unknown_token"

    run(story())


def test_at_the_door_of_another_pool_nothing_is_proven(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host, evil = founder(tmp_path / "a"), founder(tmp_path / "e")
        line, _ = host.invites.open_token()
        said: list[Said | str] = []

        async def listen(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shown: Shown
        ) -> None:
            channel = Channel(reader, writer, 100_000)
            try:
                said.append(await channel.receive())
                await channel.send(shown)
                said.append(await channel.receive())
            except BrokenDoor as error:
                said.append(error.reason)
            writer.close()

        # Its own root, then the right one with a bundle of its own, then a bundle it has seen.
        for root, bundle in (
            (evil.pool.root, evil.bundle),
            (host.pool.root, evil.bundle),
            (host.pool.root, host.bundle),
        ):
            shown = Shown(1, bundle, root, b"n" * 16)
            tls = TlsIdentity(evil.folder, evil.pool)
            async with served(partial(listen, shown=shown), tls) as address:
                assert await no_token(address, line, NEWCOMER) == "other_pool"
        assert said == [Knock(), "door_closed"] * 3

    run(story())


def test_a_member_that_is_no_admin_lets_nobody_in(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        line, _ = host.invites.open_token(uses=9)
        signer = node_key(tmp_path / "b")
        async with host.opened() as address:
            granted = await by_token(address, line, signer)
        member = joined(tmp_path / "b", host.pool, granted, host.clock)
        async with member.opened() as address:
            assert await no_token(address, line, NEWCOMER) == "not_admin"
            async with stranger(address) as (channel, leaf):
                shown = await shown_to(channel)
                token, key = decode_token(line), NEWCOMER.public_key
                content = proof_content("token", leaf, shown.nonce, key, "lab-3")
                proofs = NEWCOMER.sign(content), token.sign(content)
                await channel.send(AskByToken(token.public_key, key, "lab-3", *proofs))
                assert await channel.receive() == Denied("not_admin")

        with pytest.raises(MeshError, match="this PC is not an admin of the pool"):
            member.invites.open_code()

    run(story())
