"""Invitations as who makes them sees them; at the door: tests/mesh/test_door.py."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from rain.agent.invites import CODE_TTL_S, CODES_MAX, News, State
from rain.claims import Invitation, Withdrawal, node_id_of
from rain.mesh.door import Denied, Granted, Newcomer
from rain.mesh.errors import MeshError
from rain.mesh.token import decode_token
from rain.model import Role
from rain.trust.credential import Credential
from tests.agent.hosts import START_UNIX_MS, Host, founder

NOW_S = START_UNIX_MS // 1_000
NEWCOMER = Newcomer(b"n" * 32, "lab-3")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return founder(tmp_path / "a")


def test_a_code_is_an_invitation_for_one(host: Host) -> None:
    open_code = host.invites.open_code(role=Role.WORKER, person="bob")

    nameplate, invite_id = open_code.code.nameplate, open_code.invitation.invite_id
    assert host.claims == [
        Invitation(invite_id, Role.WORKER, "bob", 1, NOW_S + CODE_TTL_S, b"", nameplate)
    ]
    assert host.invites.nameplates() == (nameplate,)
    assert host.invites.is_sponsor(nameplate)
    assert not host.invites.is_sponsor(invite_id)
    assert "-".join(open_code.code.words) not in repr(host.claims)
    assert host.invites.list() == [
        {
            "id": invite_id,
            "kind": "code",
            "role": "worker",
            "person": "bob",
            "uses": 1,
            "used": 0,
            "until_unix_s": NOW_S + CODE_TTL_S,
            "node_id": host.node_id,
            "state": "open",
        }
    ]


def test_a_token_is_an_invitation_that_any_admin_honours(host: Host) -> None:
    line, invitation = host.invites.open_token(uses=20, ttl_s=3_600)

    token = decode_token(line)
    assert token.pins(host.pool.root_key)
    assert host.claims == [invitation]
    assert invitation == Invitation(
        token.invite_id, Role.MEMBER, "ann", 20, NOW_S + 3_600, token.public_key
    )
    assert host.invites.is_sponsor(token.invite_id)
    assert not host.invites.is_sponsor("")
    assert host.invites.list()[0]["kind"] == "token"


def test_what_is_over_is_honoured_no_more(host: Host) -> None:
    line, invitation = host.invites.open_token(ttl_s=3_600)
    open_code = host.invites.open_code()

    host.invites.withdraw(invitation.invite_id, "sent to the wrong person")
    host.clock.pass_s(CODE_TTL_S)

    assert host.claims[-1] == Withdrawal(invitation.invite_id, "sent to the wrong person")
    assert not host.invites.is_sponsor(decode_token(line).invite_id)
    assert not host.invites.is_sponsor(open_code.code.nameplate)
    assert host.invites.nameplates() == ()
    assert [row["state"] for row in host.invites.list()] == ["withdrawn", "expired"]


@pytest.mark.parametrize(
    ("uses", "ttl_s", "message"),
    [
        (0, 60, "a token cannot have 0 uses"),
        (1_001, 60, "a token cannot have 1001 uses"),
        (1, 0, "that lifetime is too short or too long"),
        (1, 10**9, "that lifetime is too short or too long"),
    ],
)
def test_terms_that_cannot_be_are_refused(host: Host, uses: int, ttl_s: int, message: str) -> None:
    with pytest.raises(MeshError) as raised:
        host.invites.open_token(uses=uses, ttl_s=ttl_s)

    assert raised.value.message == message
    assert raised.value.hint
    assert host.claims == []


def test_a_code_has_no_long_life_and_a_person_has_a_name(host: Host) -> None:
    with pytest.raises(MeshError, match="a code is open for 10 minutes at most"):
        host.invites.open_code(ttl_s=CODE_TTL_S + 1)
    with pytest.raises(MeshError, match="no person can be called"):
        host.invites.open_code(person="x" * 65)


def test_codes_are_bounded_and_have_nameplates_of_their_own(host: Host) -> None:
    codes = [host.invites.open_code() for _ in range(CODES_MAX)]

    assert len({each.code.nameplate for each in codes}) == CODES_MAX
    with pytest.raises(MeshError, match="16 codes are open already"):
        host.invites.open_code()
    host.clock.pass_s(CODE_TTL_S)
    assert host.invites.open_code().state is State.OPEN


def test_one_exchange_at_a_time_has_the_code(host: Host) -> None:
    open_code = host.invites.open_code()
    nameplate = open_code.code.nameplate

    first = host.invites.try_code(nameplate, NEWCOMER)
    assert not isinstance(first, Denied)
    assert host.invites.try_code(nameplate, NEWCOMER) == Denied("busy")
    assert first.fail() == 2
    first.close()
    second = host.invites.try_code(nameplate, NEWCOMER)
    assert not isinstance(second, Denied)
    second.spend()
    second.close()

    assert open_code.news == (News("wrong", "lab-3", 2), News("used", "lab-3", 1))
    assert host.invites.try_code(nameplate, NEWCOMER) == Denied("code_used")


async def test_who_waits_at_a_code_is_told_what_becomes_of_it(host: Host) -> None:
    open_code = host.invites.open_code()
    told: list[News] = []

    async def watch() -> None:
        async for news in host.invites.watch(open_code):
            told.append(news)

    watching = asyncio.ensure_future(watch())
    for tries_left in (2, 1, 0):
        await asyncio.sleep(0)
        attempt = host.invites.try_code(open_code.code.nameplate, NEWCOMER)
        assert not isinstance(attempt, Denied)
        assert attempt.fail() == tries_left
        attempt.close()
    await watching

    assert told == [
        News("wrong", "lab-3", 2),
        News("wrong", "lab-3", 1),
        News("wrong", "lab-3", 0),
        News("burnt", "", 0),
    ]


async def test_who_waits_is_told_that_the_time_is_over(host: Host) -> None:
    open_code = host.invites.open_code(ttl_s=1)
    host.clock.pass_s(1)

    assert [news async for news in host.invites.watch(open_code)] == [News("expired")]


async def test_who_hangs_up_halfway_has_had_a_try(host: Host) -> None:
    open_code = host.invites.open_code()
    for _ in range(3):
        attempt = host.invites.try_code(open_code.code.nameplate, NEWCOMER)
        assert not isinstance(attempt, Denied)
        attempt.close()

    assert open_code.news == (
        News("wrong", "lab-3", 2),
        News("wrong", "lab-3", 1),
        News("wrong", "lab-3", 0),
        News("burnt", "", 0),
    )
    assert host.invites.dropped == {"code_burnt": 1}


def let_in(host: Host, invitation: Invitation) -> Credential:
    granted = host.issuer.admit(NEWCOMER, invitation)
    assert isinstance(granted, Granted)
    credential = host.trust.credential(node_id_of(NEWCOMER.public_key))
    assert credential is not None
    return credential


def test_who_was_removed_does_not_come_back_by_what_was_made_before(host: Host) -> None:
    _, old = host.invites.open_token(uses=9)
    _, other = host.invites.open_token(uses=9)
    removed = let_in(host, old)
    host.clock.pass_s(5)
    host.kick(removed.node_id)
    host.clock.pass_s(5)
    _, later = host.invites.open_token(uses=9)

    for invitation in (old, other):
        assert host.invites.try_token(invitation.token_key, NEWCOMER) == Denied("removed")
    somebody = Newcomer(b"o" * 32, "lab-4")
    assert not isinstance(host.invites.try_token(old.token_key, somebody), Denied)
    assert not isinstance(host.invites.try_token(later.token_key, NEWCOMER), Denied)


def test_what_somebody_came_by_is_taken_back_while_it_is_open(host: Host) -> None:
    _, invitation = host.invites.open_token(uses=2)
    credential = let_in(host, invitation)

    assert host.invites.withdraw_of(credential) == invitation.invite_id
    assert host.claims[-1] == Withdrawal(invitation.invite_id, "lab-3 was removed")
    assert host.invites.withdraw_of(credential) == "", "it is over"
    assert host.invites.withdraw_of(replace(credential, invite_id="")) == ""
