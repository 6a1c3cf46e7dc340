"""The command line starts quickly, knows its verbs, and says what is wrong with what was typed."""

import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest

from rain.cli import rain as root
from rain.cli.verbs import VERBS as TABLE
from rain.version import VERSION
from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, end

VERBS = [
    "up", "down", "leave", "status", "nodes", "submit", "run", "jobs", "job", "logs", "wait",
    "cancel", "invite", "kick", "members", "recover", "demo", "version", "completion",
    "backup", "restore", "repair", "sim", "quarantine",
]  # fmt: skip
HEAVY = (
    "rich msgspec msgpack structlog docker asyncio cryptography psutil sqlite3 uvloop platformdirs"
)
LATE = "spake2 pynvml dbus_fast"
"""Imported in a thread, or by the few starts that need it: a PC that comes back waits for none."""
EVERY_HELP = textwrap.dedent(
    f"""
    import sys
    from rain.cli import main
    for words in ([], ["--help"], *([verb, "--help"] for verb in sys.argv[1:])):
        try:
            main(words)
        except SystemExit as stopped:
            assert stopped.code == 0, words
    heavy = [name for name in {HEAVY.split()} if name in sys.modules]
    sys.exit(f"imported for help alone: {{heavy}}" if heavy else 0)
    """
)


def test_these_are_the_verbs() -> None:
    assert sorted(TABLE) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_table_says_of_a_verb_what_its_own_help_says(verb: str) -> None:
    context = click.Context(root)
    command = root.get_command(context, verb)
    assert command is not None
    own = (command.help or "").split("\n")[0]
    words = TABLE[verb][1].rstrip(".")
    assert own.startswith(words.split(":")[0].split(",")[0])


def test_help_of_all_imports_no_verb() -> None:
    script = (
        "import sys\nfrom rain.cli import main\ntry:\n    main(['--help'])\n"
        "except SystemExit:\n    own = {name for name in sys.modules if name.startswith('rain')}\n"
        "    allowed = {'rain', 'rain.cli', 'rain.cli.session', 'rain.cli.verbs'}\n"
        "    sys.exit(str(own - allowed) if own - allowed else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_HELP, *VERBS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--data-dir DIR") == len(VERBS) + 2


def test_an_agent_is_on_the_network_before_it_imports_what_few_starts_need() -> None:
    script = (
        "import sys\nimport rain.cli.up, rain.agent.main\n"
        f"early = [name for name in {LATE.split()} if name in sys.modules]\n"
        "sys.exit(str(early) if early else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_without_assertions_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "rain", "version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "-O" in done.stderr


def test_module_and_command_are_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rain", "version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"rain {VERSION} ")


def test_version_as_json(rain: Rain) -> None:
    assert rain("version", "--json").json["version"] == VERSION


@pytest.mark.parametrize("words", [["--json", "status"], ["status", "--json"]])
def test_json_stands_before_and_after_the_verb(
    rain: Rain, agent: FakeAgent, words: list[str]
) -> None:
    agent.on("status", end(node="x"))
    assert rain(*words).json == {"node": "x"}


def test_the_data_folder_stands_before_and_after_the_verb(
    rain: Rain, agent: FakeAgent, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.on("status", end(node="x"))
    monkeypatch.setenv("RAIN_DATA_DIR", "/nonexistent")
    assert rain("--data-dir", str(data_dir), "status", "--json").code == 0
    assert rain("status", "--data-dir", str(data_dir), "--json").code == 0
    assert rain("status", "--json").code == 3


@pytest.mark.parametrize("verb", ["status", "nodes", "jobs", "down", "leave", "invite"])
def test_without_an_agent_the_hint_is_rain_up(rain: Rain, verb: str) -> None:
    words = [verb, "--token"] if verb == "invite" else [verb]
    told = rain(*words)
    assert (told.code, told.out) == (3, "")
    assert told.err.startswith("rain: no agent runs here")
    assert "rain up" in told.err
    as_json = rain(*words, "--json")
    assert as_json.code == 3
    assert as_json.json["error"]["code"] == "no_agent"
    assert as_json.json["exit_code"] == 3
    assert as_json.err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["nothing"],
        ["status", "--nothing"],
        ["submit", "--array", "9-0", "--image", "i", "--", "x"],
        ["submit", "--memory", "lots", "--image", "i", "--", "x"],
        ["submit", "--image", "i", "echo", "hi"],
        ["submit", "--image", "i", "-d", "--wait", "--", "x"],
        ["submit", "--", ],
        ["run"],
        ["logs", "abc.x"],
        ["wait"],
        ["invite", "--uses", "2"],
        ["completion", "tcsh"],
        ["up", "--cpus", "many"],
        ["up", "--contact", "a b"],
        ["up", "--executor", "podman"],
        ["up", "--join-file", "/nonexistent"],
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_usage_error(rain: Rain, words: list[str]) -> None:
    told = rain(*words)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("rain: ")
    assert told.err.count("\n") == 1
    as_json = rain("--json", *words)
    assert as_json.code == 2
    assert as_json.json["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("failed", 1), ("usage", 2), ("ambiguous", 2), ("no_agent", 3), ("not_in_pool", 4),
        ("not_found", 5), ("cannot_place", 6), ("never_heard_of", 1),
    ],
)  # fmt: skip
def test_errors_of_the_agent_keep_their_exit_code(
    rain: Rain, agent: FakeAgent, code: str, exit_code: int
) -> None:
    refusal = {
        "error": {"code": code, "message": "what · why", "hint": "next"},
        "exit_code": exit_code,
    }
    agent.on("job", refusal)
    told = rain("job", "abc")
    assert (told.code, told.out, told.err) == (exit_code, "", "rain: what · why · next\n")
    assert rain("job", "abc", "--json").json["exit_code"] == exit_code


@pytest.mark.parametrize("answer", [{"nothing": 1}, {"error": "words"}])
def test_an_answer_of_another_language_is_a_clear_error(
    rain: Rain, agent: FakeAgent, answer: dict[str, object]
) -> None:
    agent.on("status", answer)
    told = rain("status")
    assert told.code == 1
    assert "not of this Rain" in told.err


def test_an_agent_that_dies_before_the_answer(rain: Rain, agent: FakeAgent) -> None:
    agent.on("status")
    told = rain("status")
    assert told.code == 3
    assert "before it had answered" in told.err


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script(rain: Rain, shell: str) -> None:
    told = rain("completion", shell)
    assert told.code == 0
    assert "_RAIN_COMPLETE" in told.out
