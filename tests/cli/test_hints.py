"""What to type next can be pasted as it is: with the --data-dir that was given."""

from pathlib import Path

import pytest

from rain.cli.errors import as_typed
from rain.cli.session import folder_named
from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, refusal


@pytest.mark.parametrize(
    ("hint", "typed"),
    [
        ("start it: rain up", "start it: rain --data-dir '/a b' up"),
        (
            "see it: rain status; stop it: rain down",
            "see it: rain --data-dir '/a b' status; stop it: rain --data-dir '/a b' down",
        ),
        ("look at what `rain up` says", "look at what `rain --data-dir '/a b' up` says"),
        ("make one on a PC of the pool: rain invite", "make one on a PC of the pool: rain invite"),
        ("on an admin's PC type `rain invite`", "on an admin's PC type `rain invite`"),
        (
            "type it on an admin's PC: lab; or here: rain recover",
            "type it on an admin's PC: lab; or here: rain --data-dir '/a b' recover",
        ),
        ("stop it: rain --data-dir '/a b' down", "stop it: rain --data-dir '/a b' down"),
        ("look at /opt/rain up there", "look at /opt/rain up there"),
    ],
)
def test_a_hint_names_the_folder_where_it_is_for_this_pc(hint: str, typed: str) -> None:
    assert as_typed(hint, "/a b") == typed
    assert as_typed(hint, "") == hint


def test_the_folder_is_read_off_any_command_line() -> None:
    assert folder_named(["--data-dir", "d", "status"]) == "d"
    assert folder_named(["status", "--data-dir=e"]) == "e"
    assert folder_named(["run", "--", "--data-dir", "d"]) == ""
    assert folder_named(["status", "--data-dir"]) == ""
    assert folder_named([]) == ""


def test_where_no_agent_runs_the_folder_that_was_given_is_in_the_hint(
    rain: Rain, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    told = rain("status", "--data-dir", str(folder))
    assert told.code == 3
    assert told.err.endswith(f"start it: rain --data-dir {folder} up\n")
    assert rain("--data-dir", str(folder), "status", "--json").json["error"]["hint"] == (
        f"start it: rain --data-dir {folder} up"
    )
    assert rain("status").err.endswith("start it: rain up\n"), "the environment goes with it"


def test_what_the_agent_hints_at_names_it_too(rain: Rain, agent: FakeAgent, data_dir: Path) -> None:
    agent.on("job", refusal("not_found", 5, "no such job", "see them all: rain jobs -a"))
    told = rain("--data-dir", str(data_dir), "job", "x")
    assert told.err == f"rain: no such job · see them all: rain --data-dir {data_dir} jobs -a\n"
