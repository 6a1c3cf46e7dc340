"""The verbs about who may be in the pool, as the control socket runs them."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rain.agent.authority import new_authority
from rain.agent.clock import now_unix_ms
from rain.agent.control import End, Item, Json, VerbError
from rain.agent.people import TOKEN_USES, People
from rain.agent.records import events
from rain.claims import Removal, node_id_of
from rain.effects import CertificateShown, ClaimMade
from rain.mesh import keys
from rain.mesh.certificates import Authority, public_key_of
from rain.mesh.token import decode_token
from rain.model import NodeId, Role
from tests.agent.desk import NOW_UNIX_S, Nowhere, OneNode

FRIEND_KEY = public_key_of(b"friend".ljust(32))
FRIEND = node_id_of(FRIEND_KEY)


class Desk:
    """The founder's PC, and somebody it has let in."""

    def __init__(self, folder: Path) -> None:
        self.node = OneNode(folder)
        self.node.driver.connect(Nowhere(), Nowhere())
        self.people = People(self.node.driver, self.node.admission, itertools.count(1).__next__)
        self.node.admission.begin()

    def let_in(self, name: str = "lab-3", role: Role = Role.MEMBER) -> None:
        authority = keys.load_authority(self.node.folder)
        assert authority is not None
        bundle = authority.issue(
            FRIEND_KEY,
            name=name,
            role=role,
            person="bert",
            generation=1,
            invite_id="abcdefghij",
            now_unix_s=NOW_UNIX_S,
        )
        self.node.driver.feed(CertificateShown(bundle))

    async def ask(self, verb: str, **args: object) -> tuple[list[Json], Json]:
        """The items, then the end."""
        items: list[Json] = []
        async for piece in self.people.by_name()[verb](dict(args)):
            if isinstance(piece, End):
                return items, piece.content
            assert isinstance(piece, Item)
            items.append(piece.content)
        raise AssertionError("a verb has an end")

    async def refused(self, verb: str, **args: object) -> VerbError:
        with pytest.raises(VerbError) as raised:
            await self.ask(verb, **args)
        return raised.value


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    one = Desk(tmp_path)
    yield one
    await one.node.store.close()


async def test_a_code_is_for_one_person_and_ten_minutes(desk: Desk) -> None:
    (told,), _ = await desk.ask("invite", role="worker", person="bert")
    assert (told["pool"], told["role"], told["person"]) == ("attic", "worker", "bert")
    nameplate, *words = told["code"].split("-")
    assert (len(nameplate), len(words)) == (3, 2)


async def test_a_token_says_how_many_it_lets_in(desk: Desk) -> None:
    (told,), _ = await desk.ask("invite", token=True)
    assert told["uses"] == TOKEN_USES
    assert (told["role"], told["person"]) == ("member", "anna")
    assert decode_token(told["token"]).pins(desk.node.pool.root_key)


@pytest.mark.parametrize(
    ("args", "code", "exit_code"),
    [
        ({"role": "king"}, "usage", 2),
        ({"token": True, "uses": 100_000}, "failed", 1),
        ({"ttl_ms": 10**15}, "failed", 1),
        ({"person": "\x1b[31m"}, "failed", 1),
    ],
)
async def test_an_invitation_that_cannot_be(
    desk: Desk, args: dict[str, object], code: str, exit_code: int
) -> None:
    refused = await desk.refused("invite", **args)
    assert (refused.code, refused.exit_code) == (code, exit_code)
    assert refused.hint


async def test_members_are_told_with_who_let_them_in(desk: Desk) -> None:
    desk.let_in()
    _, told = await desk.ask("members")
    by_name = {row["name"]: row for row in told["members"]}
    assert set(by_name) == {"desk", "lab-3"}
    assert by_name["desk"]["role"] == "admin"
    assert by_name["desk"]["invited_by"] == ""
    assert by_name["lab-3"]["invited_by"] == "desk"
    assert by_name["lab-3"]["since"] == "2023-11-14T22:13:20.000Z"
    assert by_name["lab-3"]["until"] == "2023-12-14T22:13:20.000Z"
    assert told["key"] == {"number": 1, "have": 1, "of": 1}


async def test_a_kick_removes_and_changes_the_key(desk: Desk) -> None:
    desk.let_in()
    assert desk.node.driver.node.trust.role(FRIEND) is Role.MEMBER
    writing = desk.node.writing()
    _, told = await desk.ask("kick", node="lab-3", reason="sold")
    await desk.node.stop(writing)

    assert (told["id"], told["name"], told["warnings"]) == (FRIEND, "lab-3", [])
    assert told["key"] == {"number": 2, "have": 1, "of": 1}
    assert desk.node.driver.node.trust.role(FRIEND) is None
    _, after = await desk.ask("members")
    assert [row["name"] for row in after["members"]] == ["desk"]
    assert [(row["name"], row["by"], row["reason"]) for row in after["removed"]] == [
        ("lab-3", "desk", "sold")
    ]


@pytest.mark.parametrize(
    ("node", "code", "exit_code"),
    [("desk", "usage", 2), ("nobody", "not_found", 5), ("", "not_found", 5)],
)
async def test_who_cannot_be_kicked(desk: Desk, node: str, code: str, exit_code: int) -> None:
    refused = await desk.refused("kick", node=node)
    assert (refused.code, refused.exit_code) == (code, exit_code)


async def test_two_of_one_name_are_told_apart_by_their_id(desk: Desk) -> None:
    desk.let_in("desk")
    refused = await desk.refused("kick", node="desk")
    assert (refused.code, refused.exit_code) == ("ambiguous", 2)
    writing = desk.node.writing()
    _, told = await desk.ask("kick", node=FRIEND)
    await desk.node.stop(writing)
    assert told["id"] == FRIEND


async def test_the_phrase_brings_the_root_back(desk: Desk) -> None:
    keys.forget_authority(desk.node.folder)
    refused = await desk.refused("recover", phrase="one two three")
    assert "12 words" in str(refused)
    _, told = await desk.ask("recover", phrase=desk.node.phrase)
    assert told["pool"] == "attic"
    assert keys.load_root(desk.node.folder) is not None
    assert keys.load_authority(desk.node.folder) is not None
    assert desk.node.admission.issuer.is_ready


async def test_events_are_what_signed_records_tell(desk: Desk) -> None:
    desk.let_in()
    await desk.ask("invite", token=True, uses=3)
    told = events(desk.node.driver.node.trust, desk.node.driver.node.sched.table)
    lines = [(one["event"], one["by"], one["what"]) for one in told]
    assert ("founded", "desk", "the pool") in lines
    assert ("joined", "desk", "lab-3 as member for bert") in lines
    assert ("invited", "desk", "token for 3, as member for anna") in lines
    assert [one["at"] for one in told] == sorted(one["at"] for one in told)


class Crew:
    """An admin whom the founder let in, and whom that admin has let in."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        root = keys.load_root(desk.node.folder)
        own = keys.load_authority(desk.node.folder)
        assert root is not None
        assert own is not None
        self._root = root
        self.boss = self.authority("boss")
        self.issue(own, "boss", Role.ADMIN)
        self.issue(self.boss, "boss", Role.ADMIN)
        self.issue(self.boss, "crony", Role.ADMIN)
        crony = self.authority("crony")
        self.issue(crony, "crony", Role.ADMIN)
        self.issue(self.boss, "tick", Role.MEMBER)
        self.issue(crony, "trick", Role.WORKER)
        self.issue(self.boss, "gone", Role.MEMBER)
        gone = Removal(self.id_of("gone"), 0)
        desk.node.driver.feed(ClaimMade(gone, 5, fresh_key=b"k" * 32))

    def id_of(self, name: str) -> NodeId:
        return node_id_of(self._key(name))

    def authority(self, name: str) -> Authority:
        return new_authority(self._root, self.id_of(name), 1, NOW_UNIX_S + 5)

    def issue(self, authority: Authority, name: str, role: Role) -> None:
        bundle = authority.issue(
            self._key(name),
            name=name,
            role=role,
            person="bert",
            generation=1,
            invite_id="abcdefghij",
            now_unix_s=NOW_UNIX_S + 5,
        )
        self._desk.node.driver.feed(CertificateShown(bundle))

    def _key(self, name: str) -> bytes:
        return public_key_of(name.encode().ljust(32))


async def test_of_those_an_admin_let_in_admins_fall_and_the_others_are_named(desk: Desk) -> None:
    crew = Crew(desk)
    writing = desk.node.writing()
    _, told = await desk.ask("kick", node="boss")
    await desk.node.stop(writing)

    assert (sorted(told["kept"]), told["fallen"]) == (["tick", "trick"], ["crony"])
    _, after = await desk.ask("members")
    rows = {row["name"]: row["invited_by"] for row in after["members"]}
    assert rows == {"desk": "", "tick": "desk", "trick": "desk"}
    removed = {row["name"]: row["reason"] for row in after["removed"]}
    assert removed == {"boss": "", "crony": "let in by boss", "gone": ""}
    assert desk.node.driver.node.trust.credential(crew.id_of("gone")) is None


async def test_nobody_is_kept_where_that_is_asked_for(desk: Desk) -> None:
    Crew(desk)
    writing = desk.node.writing()
    _, told = await desk.ask("kick", node="boss", with_invited=True)
    await desk.node.stop(writing)

    assert (told["kept"], sorted(told["fallen"])) == ([], ["crony", "tick", "trick"])
    _, after = await desk.ask("members")
    assert [row["name"] for row in after["members"]] == ["desk"]


async def test_the_phrase_helps_where_a_clock_was_once_ahead(desk: Desk) -> None:
    """The certificate that recovery brings is not older than the one that is there."""
    authority = keys.load_authority(desk.node.folder)
    assert authority is not None
    ahead_s = now_unix_ms() // 1_000 + 365 * 24 * 3_600
    bundle = authority.issue(
        desk.node.signer.public_key,
        name="desk",
        role=Role.WORKER,
        person="anna",
        generation=1,
        invite_id="",
        now_unix_s=ahead_s,
    )
    desk.node.driver.feed(CertificateShown(bundle))
    trust = desk.node.driver.node.trust
    assert trust.role(desk.node.identity.node_id) is Role.WORKER
    await desk.ask("recover", phrase=desk.node.phrase)
    assert trust.role(desk.node.identity.node_id) is Role.ADMIN
    await desk.node.admission.own.look()
    assert desk.node.admission.issuer.is_ready
    assert desk.node.admission.own.bundle == trust.bundle(desk.node.identity.node_id)
