"""Which invitations are open, and taking one back, as the control socket runs it."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rain.agent.control import End, Json, VerbError
from rain.agent.invitation_verbs import InvitationVerbs
from tests.agent.desk import Nowhere, OneNode


class Desk:
    """The founder's PC."""

    def __init__(self, folder: Path) -> None:
        self.node = OneNode(folder)
        self.node.driver.connect(Nowhere(), Nowhere())
        self.invites = self.node.admission.invites
        requests = itertools.count(1).__next__
        self.verbs = InvitationVerbs(self.node.driver, self.invites, requests).by_name()
        self.node.admission.begin()

    async def ask(self, verb: str, **args: object) -> Json:
        async for piece in self.verbs[verb](dict(args)):
            assert isinstance(piece, End)
            return piece.content
        raise AssertionError("a verb has an end")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    writing = made.node.writing()
    yield made
    await made.node.stop(writing)
    await made.node.store.close()


async def test_what_is_open_is_told_and_taken_back_by_the_beginning_of_its_id(desk: Desk) -> None:
    _, token = desk.invites.open_token(uses=3, person="bert")
    code = desk.invites.open_code()

    told = (await desk.ask("invites"))["invitations"]
    assert {row["id"]: row["kind"] for row in told} == {
        token.invite_id: "token",
        code.invitation.invite_id: "code",
    }
    (row,) = (row for row in told if row["kind"] == "token")
    assert (row["uses"], row["used"], row["person"], row["state"]) == (3, 0, "bert", "open")
    assert row["invited_by"] == "desk"

    done = await desk.ask("withdraw", id=token.invite_id[:6], reason="lost")

    assert (done["id"], done["state"]) == (token.invite_id, "withdrawn")
    (left,) = (await desk.ask("invites"))["invitations"]
    assert left["kind"] == "code"
    over = (await desk.ask("invites", all=True))["invitations"]
    assert sorted(row["state"] for row in over) == ["open", "withdrawn"]


@pytest.mark.parametrize("words", ["", "nothing"])
async def test_what_is_not_open_is_not_found(desk: Desk, words: str) -> None:
    desk.invites.open_token()
    with pytest.raises(VerbError) as raised:
        await desk.ask("withdraw", id=words)
    assert (raised.value.code, raised.value.exit_code) == ("not_found", 5)
