"""Looking at invitations, and taking one back."""

import click
import pytest

from rain.cli.errors import end_of
from rain.cli.invitations import invitation_options
from rain.cli.session import Session, common_options, pass_session
from tests.cli.conftest import Ended, Rain
from tests.cli.fake_agent import FakeAgent, Json, end

OPEN: Json = {
    "id": "abcdefghij",
    "kind": "token",
    "state": "open",
    "role": "member",
    "person": "bert",
    "uses": 20,
    "used": 3,
    "until": "2026-11-23T13:00:00Z",
    "invited_by": "studio",
}


@click.command()
@click.option("--role", default="member")
@common_options
@pass_session
@invitation_options
def invite(session: Session, role: str) -> int:
    """Stands for the verb."""
    click.echo(f"invites as {role}")
    return 0


def typed(capfd: pytest.CaptureFixture[str], *words: str) -> Ended:
    try:
        code = invite.main(list(words), prog_name="invite", standalone_mode=False)
    except click.UsageError as error:
        code = end_of(error, as_json=False)
    captured = capfd.readouterr()
    return Ended(code, captured.out, captured.err)


def test_those_that_are_open_are_a_table_or_json(
    rain: Rain, agent: FakeAgent, capfd: pytest.CaptureFixture[str]
) -> None:
    agent.on("invites", end(invitations=[OPEN]))
    told = typed(capfd, "--list")
    assert told.code == 0
    header, row = told.out.splitlines()
    assert header.split() == ["ID", "KIND", "ROLE", "FOR", "USED", "UNTIL", "INVITED", "BY"]
    assert row.split()[:7] == ["abcdefghij", "token", "member", "bert", "3", "of", "20"]
    assert typed(capfd, "--list", "--json").json == {"invitations": [OPEN]}


def test_one_is_taken_back(rain: Rain, agent: FakeAgent, capfd: pytest.CaptureFixture[str]) -> None:
    agent.on("withdraw", end(**{**OPEN, "state": "withdrawn", "told": 2}))
    told = typed(capfd, "--withdraw", "abc")
    assert told.out == "token abcdefghij lets nobody in any more; who is in stays in\n"
    assert agent.args("withdraw") == {"id": "abc"}


def test_without_them_the_verb_is_itself(
    rain: Rain, agent: FakeAgent, capfd: pytest.CaptureFixture[str]
) -> None:
    assert typed(capfd, "--role", "worker").out == "invites as worker\n"
    assert agent.verbs() == []


def test_both_at_once_are_a_usage_error(
    rain: Rain, agent: FakeAgent, capfd: pytest.CaptureFixture[str]
) -> None:
    assert typed(capfd, "--list", "--withdraw", "abc").code == 2
    assert agent.verbs() == []
