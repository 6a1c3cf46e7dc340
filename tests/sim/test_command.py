"""The command line that interface.md promises, and that a seed is a run, byte for byte."""

import json
import os
import subprocess
import sys

import pytest

from sim.__main__ import kept_seeds, main
from sim.plants import PLANTS
from sim.simulation import Simulation, run_seed

LAST_LINE = (
    "seeds",
    "virtual_seconds",
    "real_seconds",
    "crashes",
    "partitions",
    "elections",
    "jobs_acknowledged",
    "results_committed",
    "violations",
)


def replayed(hash_seed: str, *words: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-m", "sim", "--replay", "3", *words],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        timeout=120,
    ).stdout


def test_a_seed_prints_the_same_bytes_under_any_hash_seed() -> None:
    words = ("--nodes", "3", "--seconds", "30")
    first, second = replayed("1", *words), replayed("777", *words)
    assert first == second
    assert len(first.splitlines()) > 1_000


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "5:6", "--nodes", "3", "--seconds", "25", "--jobs", "1"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert tuple(last)[: len(LAST_LINE)] == LAST_LINE
    assert last["seeds"] == 2 + len(set(kept_seeds()) - {5, 6})
    assert last["violations"] == 0
    assert last["jobs_acknowledged"] > 0


def test_a_default_seed_is_long_and_rough_enough() -> None:
    outcome = run_seed(2, None, 60)
    assert outcome.violation == ""
    assert outcome.virtual_ms >= 60_000
    assert outcome.faults >= 10
    assert outcome.jobs_submitted >= 20


def test_every_event_is_followed_by_a_check_of_the_cores() -> None:
    outcome = Simulation(11, 4, 30, check_every=1).run()
    assert outcome.violation == ""


def test_a_seed_with_the_real_signature_holds() -> None:
    outcome = run_seed(50, 3, 25)
    assert outcome.is_ed25519
    assert outcome.violation == ""


def test_the_plants_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plants"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [plant.name for plant in PLANTS]


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds", "9:1"],
        ["--seeds", "x"],
        ["--seeds", "1:2", "--nodes", "201"],
        ["--seeds", "1:2", "--only", "3"],
        ["--replay", "1", "--only", "three"],
        ["--replay", "1", "--twice"],
        [],
    ],
)
def test_a_wrong_command_exits_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_an_unknown_plant_exits_with_2() -> None:
    assert main(["--seeds", "1:1", "--plant", "tulip"]) == 2


@pytest.mark.parametrize("plant", ["announce-before-disk", "start-before-disk"])
def test_a_planted_bug_is_found(plant: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "sim", "--plant", plant, "--seeds", "1:4", "--jobs", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert found.returncode == 1
    assert f"--plant {plant}" in found.stdout
    assert json.loads(found.stdout.splitlines()[-1])["violations"] == 1


def test_faults_that_are_left_out_do_not_strike() -> None:
    whole = run_seed(8, 4, 30)
    chosen = frozenset(one.number for one in whole.struck[::2])
    some = run_seed(8, 4, 30, chosen)
    assert {one.number for one in some.struck} == chosen
    kinds = {one.number: one.kind for one in whole.struck}
    assert all(kinds[one.number] == one.kind for one in some.struck)
    assert run_seed(8, 4, 30, frozenset()).faults == 0


def test_a_pool_of_many_holds() -> None:
    outcome = run_seed(1, 16, 24)
    assert outcome.violation == ""
    assert outcome.jobs_acknowledged > 0


def test_faults_that_the_seed_has_not_are_a_wrong_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--replay", "3", "--nodes", "3", "--seconds", "25"]
    assert main([*words, "--only", "0,9999,-1"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("seed 3 has no fault -1, 9999; it has 0 to ")


def test_who_reads_the_beginning_only_gets_no_complaint() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sim", "--replay", "3", "--nodes", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
