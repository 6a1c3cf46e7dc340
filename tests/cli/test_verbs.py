"""Verbs about what exists: tables for people, the agent's own JSON for programs."""

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, Json, end, job, output

STATUS: Json = {
    "node": {"id": "n1", "name": "studio-pc", "state": "alive", "address": "10.0.0.1:7246"},
    "pool": {"id": "p", "name": "attic"},
    "coordinator": {"id": "n2", "name": "lab-3"},
    "epoch": {"number": 4, "node_id": "n2"},
    "members": {"alive": 3, "suspect": 0, "dead": 1, "left": 0},
    "version": "0.1.0",
}
NODE: Json = {
    "id": "n1",
    "name": "studio-pc",
    "address": "10.0.0.1:7246",
    "state": "alive",
    "is_coordinator": True,
    "capacity": {"cpus": 16.0, "memory_bytes": 32 * 2**30, "gpus": []},
    "free": {"cpus": 1.5, "memory_bytes": 512 * 2**20, "gpus": []},
    "labels": {},
    "paused": False,
    "version": "0.1.0",
}


@pytest.mark.parametrize(
    ("words", "content"),
    [
        (["status"], STATUS),
        (["nodes"], {"nodes": [NODE]}),
        (["jobs"], {"jobs": [job()]}),
        (["job", "abc"], job()),
        (["cancel", "abc"], {"cancelled": ["abc"]}),
        (["wait", "abc"], {"exit_code": 0, "jobs": [job()]}),
    ],
)
def test_json_is_the_agents_own(
    rain: Rain, agent: FakeAgent, words: list[str], content: Json
) -> None:
    agent.on(words[0], end(**content))
    told = rain(*words, "--json")
    assert (told.code, told.json, told.err) == (0, content, "")


def test_status_for_people(rain: Rain, agent: FakeAgent) -> None:
    agent.on("status", end(**STATUS))
    told = rain("status")
    assert told.out.splitlines() == [
        "node:          studio-pc  alive  10.0.0.1:7246",
        "pool:          attic",
        "coordinator:   lab-3 (epoch 4)",
        "members:       3 alive, 1 dead",
        "version:       0.1.0",
    ]


def test_status_tells_how_many_jobs_are_kept_and_by_what_to_compare_them(
    rain: Rain, agent: FakeAgent
) -> None:
    table = {"digest": "00ff", "jobs": 12, "forgotten": 3, "quarantined": 0}
    agent.on("status", end(**STATUS, table=table))
    assert "jobs kept:     12, 3 forgotten (table 00ff)" in rain("status").out


def test_jobs_that_are_quarantined_are_marked(rain: Rain, agent: FakeAgent) -> None:
    agent.on("jobs", end(jobs=[{**job(), "state": "RUNNING", "quarantined": True}]))
    assert "RUNNING (quarantined)" in rain("jobs", "-a").out


def test_a_quarantine_is_shown_and_ended(rain: Rain, agent: FakeAgent) -> None:
    agent.on_call(
        "quarantine",
        lambda args: [end(jobs=2, since="2026-01-31", done=args["do"] or None)],
    )
    assert rain("quarantine").out == "2 job(s), as they were on 2026-01-31: rain jobs -a\n"
    assert rain("quarantine", "release").err == "given back to the pool: 2\n"
    assert rain("quarantine", "drop").err == "dropped: 2\n"
    assert rain("quarantine", "burn").code == 2
    usage = rain("quarantine", "--help").out.splitlines()[0]
    assert usage == "Usage: rain quarantine [OPTIONS] [release|drop]"
    assert [args["do"] for _, args in agent.requests] == ["", "release", "drop"]


def test_status_says_the_role_and_for_whom(rain: Rain, agent: FakeAgent) -> None:
    rights = {"role": "admin", "person": "anna", "certificate_until": "2026-11-23T12:00:00Z"}
    key = {"number": 4, "have": 4, "of": 5}
    agent.on("status", end(**STATUS, **rights, key=key))
    out = rain("status").out
    assert "role:          admin, for anna, certificate until 2026-11-23" in out
    assert "key" not in out, "a key on its way to the others is nobody's trouble"


def test_status_without_a_coordinator(rain: Rain, agent: FakeAgent) -> None:
    disk = {"state": "full", "reason": "no space"}
    agent.on("status", end(**{**STATUS, "coordinator": None, "epoch": None, "disk": disk}))
    told = rain("status")
    assert "coordinator:   none now" in told.out
    assert "disk:          full: no space" in told.out


def test_nodes_for_people(rain: Rain, agent: FakeAgent) -> None:
    idle = {**NODE, "name": "b", "is_coordinator": False, "idle_reason": "no engine answers"}
    agent.on("nodes", end(nodes=[NODE, idle]))
    header, first, second = rain("nodes").out.splitlines()
    assert header.split()[:3] == ["NAME", "STATE", "ADDRESS"]
    assert "1.5 of 16" in first
    assert "512.0 MiB of 32.0 GiB" in first
    assert first.endswith("coordinator")
    assert second.endswith("no work: no engine answers")


@pytest.mark.parametrize("state", ["dead", "left"])
def test_nothing_is_free_on_a_pc_that_is_down(rain: Rain, agent: FakeAgent, state: str) -> None:
    agent.on("nodes", end(nodes=[{**NODE, "state": state, "is_coordinator": False}]))
    row = rain("nodes").out.splitlines()[1]
    assert row.split() == ["studio-pc", state, "10.0.0.1:7246", "-", "-", "-"]


def test_jobs_for_people_are_not_folded_in_a_pipe(rain: Rain, agent: FakeAgent) -> None:
    name = "a-rather-long-name-" * 10
    tasks = {"PENDING": 3, "RUNNING": 2, "SUCCEEDED": 95}
    agent.on("jobs", end(jobs=[job(name=name, state="RUNNING", exit_code=None, tasks=tasks)]))
    lines = rain("jobs", "-a").out.splitlines()
    assert len(lines) == 2
    assert name in lines[1]
    assert "3 PENDING, 2 RUNNING, 95 SUCCEEDED" in lines[1]
    assert agent.args("jobs") == {"all": True}


def test_a_job_with_its_tasks(rain: Rain, agent: FakeAgent) -> None:
    lost = {
        "number": 1, "node": "pc1", "state": "LOST", "exit_code": None,
        "started_at": None, "ended_at": None, "reason": "its PC is gone",
    }  # fmt: skip
    fine = {**lost, "number": 2, "node": "pc2", "state": "SUCCEEDED", "exit_code": 0, "reason": ""}
    task = {
        "index": 5, "state": "SUCCEEDED", "exit_code": 0, "node": "pc2", "attempts": [lost, fine],
    }  # fmt: skip
    agent.on("job", end(**job(task_list=[task], waiting_for={"too_few_cpus": 2})))
    told = rain("job", "last", "--tasks").out
    assert agent.args("job") == {"id": "last", "tasks": True}
    assert "waiting for:   too few cpus (2 PC(s))" in told
    assert "LOST" in told
    assert "its PC is gone" in told


def test_jobs_are_shown_with_their_person(rain: Rain, agent: FakeAgent) -> None:
    agent.on("jobs", end(jobs=[job(person="anna"), job("def")]))
    agent.on("job", end(**job(person="anna")))
    _, whose, unknown = rain("jobs").out.splitlines()
    assert " anna@pc1 " in whose
    assert " pc1 " in unknown
    assert "submitted by:  anna@pc1\n" in rain("job", "abc").out


# --- logs ----------------------------------------------------------------------------------------


def test_logs_of_one_task_are_raw(rain: Rain, agent: FakeAgent) -> None:
    agent.on("logs", output(b"a"), output(b"b\n", fd=2), output(b"c"), end())
    told = rain("logs", "abc.7", "-f")
    assert (told.code, told.out, told.err) == (0, "ac", "b\n")
    assert agent.args("logs") == {"id": "abc", "task": 7, "follow": True}


def test_logs_of_an_array_carry_the_index_before_each_line(rain: Rain, agent: FakeAgent) -> None:
    task_list = [{"index": 10}, {"index": 12}]
    agent.on("job", end(**job(tasks_total=2, task_list=task_list)))
    agent.on(
        "logs",
        output(b"one\ntw", task=0),
        output(b"other\n", task=1),
        output(b"o\nend", task=0),
        end(),
    )
    assert rain("logs", "abc").out == "[10] one\n[12] other\n[10] two\n[10] end\n"


def test_logs_as_json_keep_characters_whole(rain: Rain, agent: FakeAgent) -> None:
    agent.on("job", end(**job(task_list=[{"index": 0}])))
    agent.on("logs", output(b"caf\xc3"), output(b"\xa9\n"), end())
    assert rain("logs", "abc", "--json").out.splitlines() == [
        '{"task": 0, "fd": 1, "text": "caf"}',
        '{"task": 0, "fd": 1, "text": "é\\n"}',
    ]


# --- wait, cancel, invite, down ------------------------------------------------------------------


def test_wait_returns_the_jobs_own_code(rain: Rain, agent: FakeAgent) -> None:
    agent.on("wait", end(exit_code=4, jobs=[job(), job("def", state="FAILED")]))
    told = rain("wait", "abc", "def")
    assert (told.code, told.out) == (4, "abc SUCCEEDED\ndef FAILED\n")


def test_an_agent_lost_while_waiting_is_rains_own_failure(rain: Rain, agent: FakeAgent) -> None:
    agent.on("wait", {"item": {"jobs": []}})
    assert rain("wait", "abc").code == 125


def test_cancel_names_what_was_cancelled(rain: Rain, agent: FakeAgent) -> None:
    agent.on("cancel", end(cancelled=["abc", "def"]))
    told = rain("cancel", "a", "d")
    assert (told.code, told.out, told.err) == (0, "", "cancelled abc\ncancelled def\n")


def test_what_is_over_is_not_called_cancelled(rain: Rain, agent: FakeAgent) -> None:
    content = {"cancelled": ["abc"], "over": [{"id": "def", "state": "SUCCEEDED"}]}
    agent.on("cancel", end(**content))
    told = rain("cancel", "a", "d")
    assert (told.code, told.out) == (0, "")
    assert told.err.splitlines() == [
        "cancelled abc",
        "nothing to cancel: job def is over already (SUCCEEDED)",
    ]
    assert rain("cancel", "a", "d", "--json").json == content


def test_who_stops_waiting_for_a_drain_is_told_what_happens_now(
    rain: Rain, agent: FakeAgent, data_dir: Path
) -> None:
    agent.on("down", end())
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    told = rain("--data-dir", str(data_dir), "down", "--drain", "2m")
    assert told.code == 130
    assert told.err == (
        "rain: this PC goes on draining: it takes no new work, and stops when its tasks have ended "
        f"(120 s at most) · stop it at once: rain --data-dir {data_dir} down\n"
    )


def test_down_waits_until_the_agent_is_gone(rain: Rain, agent: FakeAgent) -> None:
    def stop(_args: Json) -> list[Json]:
        agent.close()
        return [end()]

    agent.on_call("down", stop)
    told = rain("down", "--drain", "2m")
    assert (told.code, told.out) == (0, "stopped\n")
    assert agent.args("down") == {"drain_ms": 120_000}


def test_a_second_up_on_the_same_folder_is_refused(
    rain: Rain, agent: FakeAgent, data_dir: Path
) -> None:
    told = rain("up", "--name", "other")
    assert told.code == 1
    assert "already runs" in told.err
    assert not (data_dir / "settings.json").exists()


def test_the_help_shows_the_way_in(rain: Rain) -> None:
    told = rain("--help").out
    assert "`rain invite` there" in told
    assert "--token" not in told
