"""What becomes of a command line: the spec on the wire, what is printed, the exit code."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from rain.cli.submit import spec_of, submit
from rain.model import JobSpec, Resources
from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, end, job, output, refusal


def _accepts(agent: FakeAgent, copies: int = 3, members: int = 3) -> None:
    agent.on("submit", end(job_id="abc", copies=copies, members=members))


def _spec(rain: Rain, *words: str) -> dict[str, Any]:
    told = rain("submit", "--dry-run", "--json", *words)
    assert told.code == 0, told.err
    spec: dict[str, Any] = told.json
    return spec


# --- The spec ------------------------------------------------------------------------------------


def test_the_spec_has_the_names_and_defaults_of_the_model() -> None:
    # `make_context` reads a command line without running it; an image is no default.
    context = submit.make_context("submit", ["--image=", "--", "true"])
    given = context.params
    spec = spec_of(given, ("true",))
    assert list(spec) == [field.name for field in fields(JobSpec)]
    assert list(spec["need"]) == [field.name for field in fields(Resources)]
    built = JobSpec(
        **{
            **spec,
            **dict.fromkeys(("environment", "private_environment", "secrets", "volumes"), ()),
            "command": ("true",),
            "need": Resources(**spec["need"]),
        }
    )
    assert built == JobSpec(("true",))


def test_every_option_reaches_the_spec(rain: Rain, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# names\n\nA=1\nB=from file\n")
    key = tmp_path / "key"
    key.write_bytes(b"\x00hush\n")
    spec = _spec(
        rain,
        *("--image", "busybox", "--cpus", "0.5", "--memory", "1g", "--array", "5-9:2%2"),
        *("--env", "B=two=2", "--env-file", str(file), "--workdir", "/w", "--timeout", "10m"),
        *("--secret", f"key={key}", "--volume", "/srv/d:/d:ro", "--volume", "/srv/e:/e"),
        *(
            "--retries",
            "2",
            "--crash-limit",
            "0",
            "--priority",
            "-3",
            "--node",
            "lab-3",
            "--name",
            "n",
        ),
        *("--executor", "docker", "--network", "bridge", "--user", "1000:1000", "--", "sh"),
    )
    assert spec == {
        "command": ["sh"],
        "image": "busybox",
        "name": "n",
        "need": {"cpus_milli": 500, "memory_bytes": 2**30},
        "tasks": 3,
        "array_start": 5,
        "array_step": 2,
        "is_array": True,
        "running_max": 2,
        "environment": [["B", "two=2"]],
        "workdir": "/w",
        "user": "1000:1000",
        "network": "bridge",
        "executor": "docker",
        "timeout_ms": 600_000,
        "retries": 2,
        "priority": -3,
        "node_name": "lab-3",
        "private_environment": [["A", "***"], ["B", "***"]],
        "secrets": [["key", "***"]],
        "volumes": [["/srv/d", "/d", True], ["/srv/e", "/e", False]],
        "crash_limit": 0,
    }


def test_what_follows_the_dashes_is_untouched(rain: Rain) -> None:
    words = ["sh", "-c", "echo $0", "--json", "--", "--help", "-q", ""]
    assert _spec(rain, "--image", "i", "--", *words)["command"] == words


def test_an_image_may_have_a_command_of_its_own(rain: Rain) -> None:
    assert _spec(rain, "--image", "i")["command"] == []


def test_a_variable_without_a_value_is_taken_from_here(
    rain: Rain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE", "1")
    assert _spec(rain, "--image", "i", "--env", "HERE")["environment"] == [["HERE", "1"]]
    assert rain("submit", "--image", "i", "--env", "NOT_HERE_AT_ALL").code == 2


def test_a_dry_run_prints_toml_that_says_the_same(rain: Rain) -> None:
    words = ["--image", "i", "--env", "A=é\x7f\n\"'\\", "--array", "0-3", "--", "sh", "-c", "x\ty"]
    told = rain("submit", "--dry-run", *words)
    assert told.code == 0
    assert tomllib.loads(told.out) == _spec(rain, *words)


@pytest.mark.parametrize("option", ["--memory=1g", "--image=i", "--user=1", "--network=none"])
def test_a_plain_process_refuses_limits_it_cannot_enforce(rain: Rain, option: str) -> None:
    told = rain("submit", "--executor", "process", option, "--", "x")
    assert told.code == 2
    assert f"cannot enforce {option.partition('=')[0]}" in told.err


def test_a_plain_process_may_be_counted_as_so_many_cpus(rain: Rain) -> None:
    spec = _spec(rain, "--executor", "process", "--cpus", "2", "--", "x")
    assert spec["need"]["cpus_milli"] == 2_000


# --- submit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["-q"], ["-d"]])
def test_without_a_terminal_the_id_is_alone_on_stdout(
    rain: Rain, agent: FakeAgent, words: list[str]
) -> None:
    _accepts(agent)
    told = rain("submit", "--image", "i", *words, "--", "x")
    assert (told.code, told.out, told.err) == (0, "abc\n", "")
    assert agent.verbs() == ["submit"]


def test_the_id_as_json(rain: Rain, agent: FakeAgent) -> None:
    _accepts(agent)
    told = rain("submit", "--json", "--image", "i", "--", "x", "--json")
    assert told.json == {"job_id": "abc"}
    assert agent.args("submit")["spec"]["command"] == ["x", "--json"]


@pytest.mark.parametrize(
    ("copies", "members", "word"),
    [
        (1, 1, "kept on this PC only\n"),
        (1, 3, "kept on this PC only\n"),
        (2, 3, "kept on 2 of 3 PCs\n"),
        (2, 2, ""),
        (3, 9, ""),
    ],
)
def test_submit_says_when_there_are_few_copies(
    rain: Rain, agent: FakeAgent, copies: int, members: int, word: str
) -> None:
    _accepts(agent, copies, members)
    told = rain("submit", "-q", "--image", "i", "--", "x")
    assert (told.out, told.err) == ("abc\n", word)


def test_waiting_follows_the_output_and_passes_the_exit_code_on(
    rain: Rain, agent: FakeAgent
) -> None:
    _accepts(agent)
    agent.on("logs", output(b"out\n"), output(b"err\n", fd=2), output(b"no newline"), end())
    agent.on("wait", end(exit_code=7, jobs=[job(state="FAILED", exit_code=7)]))
    attempt = {"number": 1, "node": "pc1", "state": "FAILED", "reason": "no such image"}
    agent.on("job", end(**job(task_list=[{"index": 0, "attempts": [attempt]}])))
    told = rain("submit", "--wait", "--image", "i", "--", "x")
    assert (told.code, told.out) == (7, "out\nno newline")
    assert told.err.splitlines() == [
        "submitted abc", "err", "rain: job abc FAILED (exit code 7): no such image",
    ]  # fmt: skip
    assert agent.args("logs") == {"id": "abc", "task": None, "follow": True}


def test_waiting_quietly_says_the_id_alone(rain: Rain, agent: FakeAgent) -> None:
    _accepts(agent)
    agent.on("wait", end(exit_code=3, jobs=[job(exit_code=3)]))
    told = rain("submit", "--wait", "-q", "--image", "i", "--", "x")
    assert (told.code, told.out, told.err) == (3, "abc\n", "")


def test_waiting_as_json_is_one_object(rain: Rain, agent: FakeAgent) -> None:
    _accepts(agent)
    agent.on("wait", end(exit_code=3, jobs=[job(exit_code=3)]))
    told = rain("submit", "--wait", "--json", "--image", "i", "--", "x")
    assert (told.code, told.json) == (3, {"job_id": "abc", "exit_code": 3})


def test_an_array_shows_progress_and_names_what_failed(rain: Rain, agent: FakeAgent) -> None:
    _accepts(agent)
    over = {"SUCCEEDED": 2, "FAILED": 1}
    agent.on(
        "wait",
        {"item": {"jobs": [{"id": "abc", "tasks": {"PENDING": 2, "RUNNING": 1}}]}},
        {"item": {"jobs": [{"id": "abc", "tasks": {"RUNNING": 1, "SUCCEEDED": 1, "FAILED": 1}}]}},
        end(exit_code=9, jobs=[job(state="FAILED", exit_code=9, tasks_total=3, tasks=over)]),
    )
    failed = {"index": 7, "state": "FAILED", "exit_code": 9, "node": "pc2", "attempts": []}
    fine = {"index": 6, "state": "SUCCEEDED", "exit_code": 0, "node": "pc1", "attempts": []}
    agent.on("job", end(**job(task_list=[fine, failed])))
    agent.on("logs", output(b"six\n", task=0), output(b"half a li", task=2), end())
    told = rain("submit", "--wait", "--array", "6-8", "--image", "i", "--", "x")
    assert told.out == "[6] six\n[8] half a li\n"
    assert told.code == 9
    assert told.err.splitlines() == [
        "submitted abc",
        "rain: 3 tasks: 2 PENDING, 1 RUNNING",
        "rain: task 7 FAILED (exit code 9) on pc2 · rain logs abc.7",
        "rain: 3 tasks: 2 SUCCEEDED, 1 FAILED",
        "rain: job abc FAILED (exit code 9)",
    ]


def test_a_lost_agent_is_rains_own_failure(rain: Rain, agent: FakeAgent) -> None:
    _accepts(agent)
    agent.on("logs", output(b"some"))
    told = rain("submit", "--wait", "--image", "i", "--", "x")
    assert (told.code, told.out) == (125, "some")
    assert "rain wait abc" in told.err


def test_what_can_never_be_placed_is_six(rain: Rain, agent: FakeAgent) -> None:
    agent.on("submit", refusal("cannot_place", 6, "no PC can run this", "rain nodes"))
    told = rain("submit", "--image", "i", "--", "x")
    assert (told.code, told.err) == (6, "rain: no PC can run this · rain nodes\n")


# --- run -----------------------------------------------------------------------------------------


def test_run_has_the_tasks_stdout_alone(rain: Rain, agent: FakeAgent) -> None:
    _accepts(agent)
    agent.on("logs", output(b"hi\n"), {"item": {"note": "attempt 2", "task": 0}}, end())
    agent.on("wait", end(exit_code=0, jobs=[job()]))
    told = rain("run", "--image", "i", "--", "x")
    assert (told.code, told.out, told.err) == (0, "hi\n", "rain: task 0: attempt 2\n")


def test_the_spec_of_run_is_that_of_submit(rain: Rain) -> None:
    words = ["--image", "i", "--name", "n", "--", "x"]
    assert json.loads(rain("run", "--dry-run", "--json", *words).out) == _spec(rain, *words)
