"""What `rain up` gives to the agent, here or in a process of its own; no secret by argv."""

import json
import os
import stat
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from rain.cli import up
from rain.cli.up import agent_command, read_token, wait_ready
from rain.config import ConfigError, UpOptions
from tests.cli.conftest import Rain


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[UpOptions]:
    """Puts a recorder in the place of the agent."""
    seen: list[UpOptions] = []

    class AgentEnded(Exception):
        message, hint, exit_code = "stopped here", "look elsewhere", 4

    def run_agent(
        options: UpOptions, say: Callable[[str], None], on_ready: Callable[[], None]
    ) -> None:
        seen.append(options)
        if options.rank >= 0:
            say("ready")
            on_ready()
        raise AgentEnded

    module = types.ModuleType("rain.agent.main")
    module.run_agent = run_agent  # type: ignore[attr-defined]
    module.AgentEnded = AgentEnded  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rain.agent.main", module)
    return seen


def test_every_option_reaches_the_agent_and_is_remembered(
    rain: Rain, data_dir: Path, started: list[UpOptions]
) -> None:
    told = rain(
        *("up", "--new", "--pool", "attic", "--name", "lab-3", "--contact", "10.0.0.7"),
        *("--contact", "b:99", "--bind", "127.0.0.1", "--port", "7300", "--cpus", "50%"),
        *("--memory", "2g", "--no-work", "--executor", "both", "--rank", "5"),
        *("--allow-network", "host", "--allow-user", "--allow-image", "python:*"),
        *("--allow-image", "me/*", "--allow-volume", "/srv/data", "--task-disk", "2g"),
    )
    assert told.code == 4, told.err
    assert rain("up").code == 4
    first, later = started
    assert first == UpOptions(
        data_dir=data_dir,
        name="lab-3",
        new=True,
        pool="attic",
        contacts=("10.0.0.7", "b:99"),
        bind="127.0.0.1",
        port=7300,
        cpus="50%",
        memory="2g",
        no_work=True,
        executor="both",
        rank=5,
        allow_networks=("host",),
        allow_user=True,
        allow_images=("python:*", "me/*"),
        allow_volumes=("/srv/data",),
        task_disk="2g",
    )
    assert (later.allow_user, later.allow_images) == (True, ("python:*", "me/*"))
    assert (later.new, later.pool, later.name, later.no_work) == (False, "", "lab-3", True)


def test_what_kept_the_agent_from_getting_ready_is_not_remembered(
    rain: Rain, started: list[UpOptions]
) -> None:
    told = rain("up", "--new", "--bind", "203.0.113.9", "--rank", "-1")
    assert (told.code, told.err) == (4, "rain: stopped here · look elsewhere\n")
    rain("up")
    assert started[1].bind == ""


def test_up_speaks_json_in_the_foreground_too(rain: Rain, started: list[UpOptions]) -> None:
    told = rain("up", "--json", "--new")
    ready, error = [json.loads(line) for line in told.out.splitlines()]
    assert ready == {"say": "ready"}
    assert error["error"]["code"] == "not_in_pool"
    assert error["exit_code"] == 4


def test_the_token_of_a_file_reaches_the_agent(
    rain: Rain, tmp_path: Path, data_dir: Path, started: list[UpOptions]
) -> None:
    file = tmp_path / "t"
    file.write_text("On the other PC type: rain up\nrain1-abc\n")
    rain("up", "--join-file", str(file))
    assert started[0].token == "rain1-abc"
    assert "rain1-abc" not in "".join(path.read_text() for path in data_dir.iterdir())


def test_the_token_comes_by_stdin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "t"
    file.write_text(" rain1-abc \n")
    with file.open() as opened:
        monkeypatch.setattr(sys, "stdin", opened)
        assert read_token("-") == "rain1-abc"
        with pytest.raises(ConfigError, match="no token"):
            read_token("-")


def test_the_same_options_again_as_words() -> None:
    explicit = {"new": True, "name": "a", "contacts": ("b", "c:1"), "no_work": False, "rank": -1}
    words = up.arguments_of(explicit)
    assert words == ["--new", "--name=a", "--contact=b", "--contact=c:1", "--work", "--rank=-1"]
    owners = {
        "allow_networks": ("none",), "allow_user": False, "allow_images": ("a", "b:*"),
        "allow_volumes": ("/x",), "task_disk": "1g",
    }  # fmt: skip
    explicit |= owners
    words += up.arguments_of(owners)
    assert words[6:] == [
        "--allow-network=none", "--no-allow-user", "--allow-image=a", "--allow-image=b:*",
        "--allow-volume=/x", "--task-disk=1g",
    ]  # fmt: skip
    context = up.up.make_context("up", words)
    assert {name: context.params[name] for name in explicit} == explicit


def test_a_detached_agent_takes_no_modules_from_the_folder_it_was_typed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('not ours')")
    command = agent_command(tmp_path, ["--help"])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "--detach" in done.stdout) == (0, True), done.stderr


READY = "import sys, time; print('already here'); print('ready: pc', flush=True); time.sleep(20)"


@pytest.mark.parametrize(
    ("program", "line"),
    [(READY, "ready: pc"), ("print('not at all')", ""), ("print('readying')", "")],
)
def test_ready_is_a_word_of_its_own(tmp_path: Path, program: str, line: str) -> None:
    with (tmp_path / "out").open("w+") as output:
        agent = subprocess.Popen([sys.executable, "-c", program], stdout=output)
        try:
            assert wait_ready(agent, output, 10.0) == line
        finally:
            agent.kill()
            agent.wait()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--allow-volume", "data"), "is no folder that could be lent"),
        (("--allow-volume", "/srv/.."), "is no folder that could be lent"),
        (("--task-disk", "1k"), "is too little"),
        (("--task-disk", "much"), "is not a size"),
        (("--allow-image", "a") * 65, "more than 64"),
    ],
)
def test_what_an_owner_cannot_mean(
    rain: Rain, started: list[UpOptions], words: tuple[str, ...], complaint: str
) -> None:
    told = rain("up", *words)
    assert (told.code != 0, complaint in told.err, started) == (True, True, [])


def test_an_empty_value_takes_back_what_the_owner_allowed(
    rain: Rain, started: list[UpOptions]
) -> None:
    rain("up", "--allow-image", "a", "--allow-volume", "/srv", "--task-disk", "1g", "--allow-user")
    rain("up", "--allow-image", "", "--allow-volume", "", "--task-disk", "", "--no-allow-user")
    rain("up")
    first, *later = started
    assert (first.allow_images, first.allow_volumes) == (("a",), ("/srv",))
    for options in later:
        assert (options.allow_images, options.allow_volumes) == ((), ())
        assert (options.allow_user, options.task_disk) == (False, "")


@pytest.mark.parametrize("text", ["rain1-abcdefg", "4" * 70, "hello"])
def test_a_token_is_no_argument(rain: Rain, started: list[UpOptions], text: str) -> None:
    told = rain("up", "--join", text)
    assert (told.code, started) == (2, [])
    assert "--join-file" in told.err
    assert text not in told.err


@pytest.mark.parametrize("text", ["482-velvet-orbit", " 482 VELV orbi", "482.velvet.orbit"])
def test_a_code_may_be_an_argument(rain: Rain, started: list[UpOptions], text: str) -> None:
    rain("up", "--join", text)
    (options,) = started
    assert options.token == text
    assert text not in repr(options)


PHRASE = json.dumps({"say": "Write these words down: abandon ability"})
FAILURE = json.dumps({"error": {"code": "failed", "message": "no", "hint": "x"}, "exit_code": 1})


def agent_that(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(up, "agent_command", lambda *_: [sys.executable, "-c", program])


def test_what_a_detached_agent_said_before_it_failed_is_shown(
    rain: Rain, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_that(monkeypatch, f"print({PHRASE!r}); print({FAILURE!r})")
    told = rain("up", "-d", "--new")
    assert (told.code, told.out) == (1, "")
    assert told.err.splitlines() == ["Write these words down: abandon ability", "rain: no \u00b7 x"]
    assert (data_dir / "agent.out").read_text() == ""


# It is detached on purpose: on a slow machine it still runs when its object is gone.
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_detached_agent_writes_is_for_nobody_else(
    rain: Rain, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_that(monkeypatch, f"print({PHRASE!r}); print({json.dumps({'say': 'ready: x'})!r})")
    before = os.umask(0)
    try:
        rain("up", "-d", "--new")
    finally:
        os.umask(before)
    for name in ("agent.out", "agent.err"):
        assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600


def test_ctrl_c_leaves_no_phrase_behind(
    rain: Rain, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_that(monkeypatch, "import time; time.sleep(20)")
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(agent: "subprocess.Popen[bytes]", output: IO[str], wait_s: float) -> str:
        started.append(agent)
        with (data_dir / "agent.out").open("a") as file:
            file.write(PHRASE + "\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(up, "wait_ready", interrupted)
    told = rain("up", "-d", "--new")
    for agent in started:
        agent.kill()
        agent.wait()
    assert told.code == 130
    assert "abandon ability" in told.err
    assert (data_dir / "agent.out").read_text() == ""
