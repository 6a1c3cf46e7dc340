"""Verbs about who may be in the pool."""

from pathlib import Path

import pytest

from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, Json, end

CODE: Json = {
    "item": {
        "code": "482-velvet-orbit",
        "pool": "attic",
        "role": "member",
        "person": "ada",
        "until": "2026-11-23T12:10:00Z",
    }
}
TOKEN: Json = {
    "item": {
        "token": "rain1-abc",
        "pool": "attic",
        "role": "worker",
        "person": "ada",
        "uses": 20,
        "until": "2026-11-23T13:00:00Z",
    }
}
MEMBER: Json = {
    "id": "n1",
    "name": "studio-pc",
    "role": "admin",
    "person": "ada",
    "state": "alive",
    "since": "2026-11-01T12:00:00Z",
    "until": "2026-12-01T12:00:00Z",
    "invited_by": "",
}
KEY: Json = {"number": 3, "have": 2, "of": 3}


def test_a_code_is_shown_once_with_what_to_type(rain: Rain, agent: FakeAgent) -> None:
    agent.on("invite", CODE, end())
    told = rain("invite")
    assert told.code == 0
    assert told.out.splitlines()[:2] == [
        "On the other PC type:  rain up",
        "and this code there:   482-velvet-orbit",
    ]
    assert agent.args("invite") == {
        "token": False,
        "uses": 0,
        "ttl_ms": 0,
        "role": "member",
        "person": "",
        "watch": False,
    }


def test_a_token_is_the_last_line_and_alone_with_q(rain: Rain, agent: FakeAgent) -> None:
    agent.on("invite", TOKEN, end())
    loud = rain("invite", "--token", "--uses", "20", "--ttl", "1h", "--role", "worker")
    assert loud.out.splitlines()[-1] == "rain1-abc"
    assert agent.args("invite")["uses"] == 20
    assert agent.args("invite")["ttl_ms"] == 3_600_000
    assert rain("invite", "--token", "-q").out == "rain1-abc\n"


def test_invite_for_another_person(rain: Rain, agent: FakeAgent) -> None:
    agent.on("invite", CODE, end())
    assert rain("invite", "--for", "grace", "-q").out == "482-velvet-orbit\n"
    assert agent.args("invite")["person"] == "grace"


def test_uses_belong_to_tokens(rain: Rain, agent: FakeAgent) -> None:
    told = rain("invite", "--uses", "2")
    assert told.code == 2
    assert "--token" in told.err


def test_kick_says_who_has_the_new_key(rain: Rain, agent: FakeAgent) -> None:
    agent.on("kick", end(id="n1", name="lab-3", told=2, key=KEY, warnings=["it keeps the root"]))
    told = rain("kick", "lab-3", "--reason", "sold")
    assert told.out == "lab-3 is removed; key 3 is with 2 of 3 PC(s) that are up\n"
    assert told.err == "rain: it keeps the root\n"
    assert agent.args("kick") == {"node": "lab-3", "reason": "sold", "with_invited": False}


def test_kick_names_whom_an_admin_had_let_in(rain: Rain, agent: FakeAgent) -> None:
    let_in = {"kept": ["lab-4", "lab-5"], "fallen": ["attic"]}
    agent.on("kick", end(id="n1", name="lab-3", told=2, key=KEY, warnings=[], **let_in))
    told = rain("kick", "lab-3", "--with-invited")
    assert told.out.splitlines()[1:] == [
        "out with it, as it let them in: attic",
        "kept, though lab-3 let them in: lab-4, lab-5 (rain kick each that you do not know)",
    ]
    assert agent.args("kick")["with_invited"] is True


def test_members_for_people(rain: Rain, agent: FakeAgent) -> None:
    agent.on("members", end(members=[MEMBER], key=KEY))
    told = rain("members")
    lines = told.out.splitlines()
    assert lines[0].split() == (
        ["NAME", "ROLE", "PERSON", "STATE", "SINCE", "INVITED", "BY", "CERTIFICATE", "UNTIL"]
    )
    assert lines[1].split()[:4] == ["studio-pc", "admin", "ada", "alive"]
    assert lines[2] == "pool key: key 3 is with 2 of 3 PC(s) that are up"


def test_events_for_people(rain: Rain, agent: FakeAgent) -> None:
    event = {"at": "2026-11-23T12:00:00Z", "event": "removed", "by": "studio-pc", "what": "lab-3"}
    agent.on("members", end(events=[event]))
    told = rain("members", "--events")
    assert told.out.splitlines()[1].split()[2:] == ["removed", "studio-pc", "lab-3"]
    assert agent.args("members") == {"events": True}


def test_the_phrase_comes_by_file(rain: Rain, agent: FakeAgent, tmp_path: Path) -> None:
    agent.on("recover", end(name="lab-3", pool="attic"))
    words = tmp_path / "words"
    words.write_text("one two three\n")
    told = rain("recover", "--phrase-file", str(words))
    assert told.out == "lab-3 keeps the root of attic now, and is an admin of it\n"
    assert agent.args("recover") == {"phrase": "one two three\n"}


@pytest.mark.parametrize(
    ("words", "verb", "answers", "told"),
    [
        (["invite"], "invite", [CODE, end()], CODE["item"]),
        (["invite", "--token"], "invite", [TOKEN, end()], TOKEN["item"]),
        (["kick", "n1"], "kick", [end(name="n1", key=KEY)], {"name": "n1", "key": KEY}),
        (["members"], "members", [end(members=[], key=KEY)], {"members": [], "key": KEY}),
    ],
)
def test_json_is_the_agents_own(
    rain: Rain, agent: FakeAgent, words: list[str], verb: str, answers: list[Json], told: Json
) -> None:
    agent.on(verb, *answers)
    assert rain(*words, "--json").json == told
