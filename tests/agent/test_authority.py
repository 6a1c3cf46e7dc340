"""Admins come to issue, certificates stay fresh, and nobody gets what is not his."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from rain.agent.authority import CERTIFY, RENEW, OwnCertificate, renew_at_unix_s
from rain.claims import Invitation, Removal
from rain.mesh import keys
from rain.mesh.calls import CallError
from rain.mesh.certificates import LIFE_S, make_inspect, new_private_key, public_key_of
from rain.mesh.door import Denied, Granted, Newcomer
from rain.model import Address, NodeId, Role
from tests.agent.hosts import START_UNIX_MS, Host, founder, joined, node_key

NOW_S = START_UNIX_MS // 1_000
WEEK_S = 7 * 24 * 3_600


def invited(host: Host, folder: Path, name: str, role: Role) -> Host:
    """A PC that this one lets in."""
    newcomer = Newcomer(node_key(folder).public_key, name)
    granted = host.issuer.admit(newcomer, Invitation("i", role, "bob", 1, 2**40))
    assert isinstance(granted, Granted), granted
    return joined(folder, host.pool, granted, host.clock)


class Wire:
    """Calls between hosts, by node id."""

    def __init__(self, *hosts: Host) -> None:
        self._hosts = {host.node_id: host for host in hosts}
        self.calls: list[tuple[str, NodeId]] = []

    def of(self, sender: Host) -> "Wire.Calls":
        return Wire.Calls(self, sender)

    class Calls:
        def __init__(self, wire: "Wire", sender: Host) -> None:
            self._wire, self._sender = wire, sender

        def __call__(self, node_id: NodeId, verb: str, args: bytes) -> AsyncIterator[bytes]:
            self._wire.calls.append((verb, node_id))
            host = self._wire._hosts.get(node_id)
            if host is None:
                return _nobody()
            serve = {CERTIFY: host.issuer.serve_certify, RENEW: host.issuer.serve_renew}[verb]
            return serve(self._sender.node_id, args)


async def _nobody() -> AsyncIterator[bytes]:
    raise CallError("nobody there")
    yield b""  # a generator by its shape


class Kept:
    """A host with its own certificate looked after."""

    def __init__(self, host: Host, wire: Wire, admins: list[tuple[NodeId, Address | None]]) -> None:
        self.changes: list[bytes] = []
        self.own = OwnCertificate(
            host.folder,
            host.pool,
            host.signer,
            host.bundle,
            host.trust,
            host.issuer,
            wire.of(host),
            lambda: admins,
            self.changes.append,
            host.clock,
        )


def test_a_new_admin_gets_its_authority_from_who_keeps_the_root(tmp_path: Path) -> None:
    async def story() -> None:
        first = founder(tmp_path / "a")
        second = invited(first, tmp_path / "b", "lab-2", Role.ADMIN)
        third = invited(first, tmp_path / "c", "lab-3", Role.ADMIN)
        second.show(third.bundle)
        assert not second.issuer.is_ready
        wire = Wire(first, second, third)
        ids = (third.node_id, second.node_id, first.node_id)
        admins: list[tuple[NodeId, Address | None]] = [(node_id, None) for node_id in ids]

        await Kept(second, wire, admins).own.look()

        assert wire.calls == [(CERTIFY, third.node_id), (CERTIFY, first.node_id)]
        assert second.issuer.is_ready
        kept = keys.load_authority(second.folder)
        assert kept is not None
        assert kept.node_id == second.node_id
        member = invited(second, tmp_path / "d", "lab-4", Role.MEMBER)
        credential = make_inspect(first.pool)(member.bundle)
        assert credential is not None
        assert credential.issuer_id == second.node_id

    asyncio.run(story())


def test_only_an_admin_is_certified_and_only_by_who_keeps_the_root(tmp_path: Path) -> None:
    first = founder(tmp_path / "a")
    member = invited(first, tmp_path / "b", "lab-2", Role.MEMBER)
    admin = invited(first, tmp_path / "c", "lab-3", Role.ADMIN)
    ca_public_key = public_key_of(new_private_key())

    for host, sender, key, error in (
        (first, member.node_id, ca_public_key, "only an admin gets an authority"),
        (first, NodeId("z" * 26), ca_public_key, "only an admin gets an authority"),
        (first, admin.node_id, b"short", "that is no public key"),
        (first, admin.node_id, admin.signer.public_key, "an authority needs a key of its own"),
        (admin, first.node_id, ca_public_key, "this node does not keep the root"),
    ):
        with pytest.raises(CallError) as raised:
            host.issuer.certify(sender, key)
        assert str(raised.value) == error


@pytest.mark.parametrize("answer", [b"", b"x" * 700, b"another's"])
def test_a_certificate_that_is_not_what_was_asked_for_is_not_taken(
    tmp_path: Path, answer: bytes
) -> None:
    async def story() -> None:
        first = founder(tmp_path / "a")
        second = invited(first, tmp_path / "b", "lab-2", Role.ADMIN)
        assert first.issuer.root is not None
        if answer == b"another's":
            foreign = public_key_of(new_private_key())
            answered = first.issuer.root.certify(foreign, second.node_id, 1, NOW_S)
        else:
            answered = answer

        async def lie(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            yield answered

        first.issuer.serve_certify = lie  # type: ignore[method-assign]
        await Kept(second, Wire(first), [(first.node_id, None)]).own.look()

        assert not second.issuer.is_ready
        assert keys.load_authority(second.folder) is None

    asyncio.run(story())


def test_an_authority_of_another_node_is_not_taken(tmp_path: Path) -> None:
    async def story() -> None:
        first = founder(tmp_path / "a")
        second = invited(first, tmp_path / "b", "lab-2", Role.ADMIN)

        async def lie(sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
            assert first.issuer.root is not None
            yield first.issuer.root.certify(args, first.node_id, 1, NOW_S)

        first.issuer.serve_certify = lie  # type: ignore[method-assign]
        await Kept(second, Wire(first), [(first.node_id, None)]).own.look()

        assert not second.issuer.is_ready

    asyncio.run(story())


def test_a_certificate_is_renewed_between_half_and_four_fifths_of_its_life(
    tmp_path: Path,
) -> None:
    host = founder(tmp_path / "a")
    inspect = make_inspect(host.pool)
    instants = []
    for number in range(60):
        member = host.issuer.admit(
            Newcomer(public_key_of(bytes([number]) * 32), "lab"),
            Invitation("i", Role.MEMBER, "bob", 1, 2**40),
        )
        assert isinstance(member, Granted)
        credential = inspect(member.bundle)
        assert credential is not None
        instants.append(renew_at_unix_s(credential, member.bundle) - NOW_S)
        assert instants[-1] == renew_at_unix_s(credential, member.bundle) - NOW_S

    assert min(instants) >= LIFE_S * 0.5
    assert max(instants) <= LIFE_S * 0.8
    assert max(instants) - min(instants) > LIFE_S * 0.2


def test_a_member_renews_by_a_call_to_an_admin(tmp_path: Path) -> None:
    async def story() -> None:
        first = founder(tmp_path / "a")
        member = invited(first, tmp_path / "b", "lab-2", Role.WORKER)
        wire = Wire(first)
        kept = Kept(member, wire, [(NodeId("z" * 26), None), (first.node_id, None)])

        await kept.own.look()
        assert wire.calls == []
        first.clock.pass_s(4 * WEEK_S)
        await kept.own.look()
        await kept.own.look()

        assert wire.calls == [(RENEW, NodeId("z" * 26)), (RENEW, first.node_id)]
        assert kept.changes == [kept.own.bundle]
        assert member.bundle == kept.own.bundle
        credential = make_inspect(first.pool)(kept.own.bundle)
        assert credential is not None
        assert credential.until_unix_s == NOW_S + 4 * WEEK_S + LIFE_S
        assert (credential.name, credential.role) == ("lab-2", Role.WORKER)

    asyncio.run(story())


def test_a_certificate_that_is_young_stands(tmp_path: Path) -> None:
    """Nobody gets certificates issued by asking for them again and again."""

    async def story() -> None:
        first = founder(tmp_path / "a")
        member = invited(first, tmp_path / "b", "lab-2", Role.MEMBER)
        for seconds, is_new in ((60, False), (2 * WEEK_S - 60, False), (WEEK_S, True)):
            first.clock.pass_s(seconds)
            by_door = first.issuer.renew(member.bundle, member.signer.public_key)
            assert isinstance(by_door, Granted)
            assert by_door.keys, "the keys are given all the same"
            assert (by_door.bundle != member.bundle) is is_new
            by_call = [each async for each in first.issuer.serve_renew(member.node_id, b"")]
            assert by_call == [by_door.bundle]

    asyncio.run(story())


def test_an_admin_renews_by_itself(tmp_path: Path) -> None:
    async def story() -> None:
        first = founder(tmp_path / "a")
        wire = Wire()
        kept = Kept(first, wire, [(first.node_id, None)])
        first.clock.pass_s(4 * WEEK_S)

        await kept.own.look()

        assert wire.calls == []
        assert kept.changes == [kept.own.bundle]

    asyncio.run(story())


def test_where_no_call_gets_through_the_door_is_tried(tmp_path: Path) -> None:
    async def story() -> None:
        first = founder(tmp_path / "a")
        member = invited(first, tmp_path / "b", "lab-2", Role.MEMBER)
        first.clock.pass_s(20 * WEEK_S)
        async with first.opened() as address:
            kept = Kept(member, Wire(), [(first.node_id, address)])
            await kept.own.look()

        assert kept.changes == [member.bundle]
        credential = make_inspect(first.pool)(member.bundle)
        assert credential is not None
        assert credential.until_unix_s == NOW_S + 20 * WEEK_S + LIFE_S

    asyncio.run(story())


def test_what_others_have_issued_anew_is_taken_from_the_roll(tmp_path: Path) -> None:
    async def story() -> None:
        first = founder(tmp_path / "a")
        member = invited(first, tmp_path / "b", "lab-2", Role.MEMBER)
        kept = Kept(member, Wire(), [])
        first.clock.pass_s(3 * WEEK_S)
        answer = first.issuer.renew(member.bundle, member.signer.public_key)
        assert isinstance(answer, Granted)

        member.show(answer.bundle)
        await kept.own.look()

        assert kept.changes == [answer.bundle]
        assert member.bundle == answer.bundle

    asyncio.run(story())


def test_before_an_admin_is_removed_what_it_issued_is_issued_anew(tmp_path: Path) -> None:
    async def story() -> None:
        first = founder(tmp_path / "a")
        second = invited(first, tmp_path / "b", "lab-2", Role.ADMIN)
        await Kept(second, Wire(first), [(first.node_id, None)]).own.look()
        member = invited(second, tmp_path / "c", "lab-3", Role.WORKER)
        first.show(member.bundle)

        assert first.issuer.reissue(second.node_id) == (member.node_id,)
        first.kick(second.node_id)

        credential = first.trust.credential(member.node_id)
        assert credential is not None
        assert credential.issuer_id == first.node_id
        assert (credential.name, credential.role) == ("lab-3", Role.WORKER)
        assert first.trust.credential(second.node_id) is None

    asyncio.run(story())


def test_a_member_issues_nothing(tmp_path: Path) -> None:
    first = founder(tmp_path / "a")
    member = invited(first, tmp_path / "b", "lab-2", Role.MEMBER)
    invitation = Invitation("i", Role.ADMIN, "eve", 1, 2**40)
    # Not even with an authority that was left over from better days.
    member.issuer.authority = first.issuer.authority

    assert member.issuer.admit(Newcomer(b"n" * 32, "x"), invitation) == Denied("not_admin")
    assert member.issuer.renew(first.bundle, first.signer.public_key) == Denied("not_admin")
    assert member.issuer.reissue(first.node_id) == ()
    assert member.issuer.again() is None


def test_a_renewal_gives_the_role_that_the_roll_knows(tmp_path: Path) -> None:
    first = founder(tmp_path / "a")
    member = invited(first, tmp_path / "b", "lab-2", Role.ADMIN)
    old = member.bundle
    first.clock.pass_s(60)
    demoted = invited(first, tmp_path / "b", "lab-2", Role.WORKER)

    answer = first.issuer.renew(old, demoted.signer.public_key)

    assert isinstance(answer, Granted)
    credential = make_inspect(first.pool)(answer.bundle)
    assert credential is not None
    assert replace(credential, serial=0) == replace(
        credential, serial=0, role=Role.WORKER, name="lab-2"
    )


@pytest.mark.parametrize("person", ["", "x" * 65, "red\x1b[31m"])
def test_an_invitation_that_says_what_cannot_be_lets_nobody_in(tmp_path: Path, person: str) -> None:
    first = founder(tmp_path / "a")
    invitation = Invitation("i", Role.MEMBER, person, 1, 2**40)

    assert first.issuer.admit(Newcomer(b"n" * 32, "x"), invitation) == Denied("unfit")


def test_a_generation_beyond_all_bounds_lets_nobody_in(tmp_path: Path) -> None:
    first = founder(tmp_path / "a")
    member = invited(first, tmp_path / "b", "lab-2", Role.MEMBER)
    first.claim(Removal(member.node_id, 2**40))
    newcomer = Newcomer(member.signer.public_key, "lab-2")

    invitation = Invitation("i", Role.MEMBER, "bob", 1, 2**40)
    assert first.issuer.admit(newcomer, invitation) == Denied("unfit")
