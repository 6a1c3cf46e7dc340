"""`rain sim`: from the agent or from saved answers, for people and for programs."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, end

GIB = 2**30


def _node(name: str, *, coordinates: bool = False, memory: int = 8) -> dict[str, Any]:
    return {
        "name": name,
        "state": "alive",
        "is_coordinator": coordinates,
        "capacity": {"cpus": 4.0, "memory_bytes": memory * GIB, "gpus": []},
        "takes_work": True,
        "role": "member",
        "person": "ann",
        "rank": 0,
    }


NODES = {"nodes": [_node("nas", memory=16), _node("pc2", coordinates=True), _node("pc3")]}
JOB: dict[str, Any] = {
    "id": "aaaa",
    "name": "render",
    "need": {"cpus": 1.0, "memory_bytes": 12 * GIB},
    "only_on": None,
    "tasks": {"PENDING": 1},
    "tasks_total": 1,
    "task_list": [{"index": 0, "state": "PENDING", "node": None, "attempts": []}],
}


@pytest.fixture
def nodes_file(tmp_path: Path) -> str:
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps(NODES))
    return str(path)


@pytest.fixture
def jobs_file(tmp_path: Path) -> str:
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps({"jobs": [JOB]}))
    return str(path)


def test_the_agent_is_asked_for_its_pcs_and_open_jobs(rain: Rain, agent: FakeAgent) -> None:
    agent.on("nodes", end(**NODES))
    agent.on("jobs", end(jobs=[JOB]))
    agent.on("job", end(**JOB))
    told = rain("sim", "--off", "nas", "--runs", "1", "--json")
    assert (told.code, told.err) == (0, "")
    assert agent.verbs() == ["nodes", "jobs", "job"]
    assert agent.args("job") == {"id": "aaaa", "tasks": True}
    assert told.json["waiting"][0]["because"] == "no PC that is left has 1 CPU and 12 GiB"
    assert told.json["coordinator"]["after"] == {"pc2": 1}
    assert told.json["back"] is None


def test_for_people(rain: Rain, nodes_file: str, jobs_file: str) -> None:
    words = ["--off", "nas", "--at", "18:00", "--runs", "1"]
    told = rain("sim", *words, "--nodes-file", nodes_file, "--jobs-file", jobs_file)
    assert (told.code, told.err) == (0, "")
    lines = told.out.splitlines()
    assert lines[:4] == [
        "18:00: nas off (1 simulated)",
        "coordinator:   pc2, as before",
        "copies:        every job on 3 PCs before, on 2 after",
        "running there: 1 task, 0 started elsewhere",
    ]
    assert (
        "waits:         job aaaa (render), 1 task: no PC that is left has 1 CPU and 12 GiB" in lines
    )
    assert "assumed:       a task takes 600 s where none of its job has ended yet" in lines


def test_they_come_back(rain: Rain, nodes_file: str, jobs_file: str) -> None:
    words = ["--off", "nas", "--at", "1h", "--for", "2m", "--task-time", "30s", "--runs", "1"]
    told = rain("sim", *words, "--nodes-file", nodes_file, "--jobs-file", jobs_file, "--json").json
    assert told["back_after_ms"] == 120_000
    assert told["at"] < told["back"] < told["jobs"][0]["ends_at"]


def test_without_an_agent_it_says_so_as_all_verbs_do(rain: Rain) -> None:
    told = rain("sim", "--off", "nas")
    assert told.code == 3
    assert "no agent runs here" in told.err


def test_an_unknown_pc_is_not_found_and_the_known_ones_are_named(
    rain: Rain, nodes_file: str
) -> None:
    told = rain("sim", "--off", "nsa", "--nodes-file", nodes_file)
    assert told.code == 5
    assert told.err == ("rain: there is no PC 'nsa' that is up · these are up: nas, pc2, pc3\n")


@pytest.mark.parametrize(
    "words",
    [
        ["--at", "six"],
        ["--at", "25:00"],
        ["--back", "soon"],
        ["--for", "a while"],
        ["--for", "0"],
        ["--at", "2h", "--back", "1h"],
        ["--for", "1h", "--back", "2h"],
        ["--task-time", "0"],
        ["--runs", "0"],
        ["--at", "999999999999d"],
    ],
)
def test_what_is_no_time_is_a_usage_error(rain: Rain, nodes_file: str, words: list[str]) -> None:
    told = rain("sim", *words, "--nodes-file", nodes_file)
    assert (told.code, told.out) == (2, "")
    assert "rain sim --help" in told.err


@pytest.mark.parametrize("content", ["", "[]", '{"jobs": []}', '{"nodes": 1}', '{"nodes": [1]}'])
def test_a_file_that_holds_no_nodes(rain: Rain, tmp_path: Path, content: str) -> None:
    path = tmp_path / "saved.json"
    path.write_text(content)
    told = rain("sim", "--nodes-file", str(path))
    assert told.code == 1
    assert "holds no nodes" in told.err
    assert f"rain nodes --json >{path}" in told.err


def test_a_file_that_is_not_there(rain: Rain, tmp_path: Path) -> None:
    told = rain("sim", "--nodes-file", str(tmp_path / "none.json"))
    assert (told.code, "cannot be read" in told.err) == (1, True)


def test_a_file_that_is_no_list_of_nodes_is_said_to_be_so(rain: Rain, tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps({"nodes": [{"name": "nas"}]}))
    told = rain("sim", "--off", "nas", "--nodes-file", str(path))
    assert told.code == 1
    assert "one of them has no 'state' · save both anew" in told.err
    assert "KeyError" not in told.err


def test_one_pc_is_one_pc(rain: Rain, tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps({"nodes": [_node("nas", coordinates=True)]}))
    told = rain("sim", "--runs", "1", "--nodes-file", str(path))
    assert "every job on 1 PC before, on 1 after" in told.out
