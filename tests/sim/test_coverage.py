"""The counter counts, and knows what it misses."""

import re
from pathlib import Path

import pytest

import rain
import sim
from rain.effects import Log
from rain.election.messages import Heartbeat, Strength
from rain.model import Epoch, NodeId
from sim.__main__ import main
from sim.coverage import DROPPED, LOG_EVENTS, Coverage, expected, lines, missing, total
from sim.options import TROUBLE_KINDS
from sim.simulation import Simulation

PURE = ("gossip", "election", "sched", "trust")


def test_what_is_expected_and_was_not_hit_is_missing() -> None:
    everything = dict.fromkeys(expected(), 1)
    assert missing(everything) == []
    assert missing({**everything, "fault crash": 0}) == ["fault crash"]
    del everything["epilogue none"]
    assert missing(everything) == ["epilogue none"]
    assert "           0  epilogue none" in lines(everything)


def test_runs_add_up() -> None:
    assert total([{"fault crash": 2}, {"fault crash": 1, "moment x": 1}]) == {
        "fault crash": 3,
        "moment x": 1,
    }


def test_messages_and_log_lines_are_told_apart_by_kind_and_reason() -> None:
    coverage = Coverage()
    epoch = Epoch(1, NodeId("n"), 1)
    coverage.note_message(Heartbeat(epoch, 1, Strength(0, 0), b"", b"", b""))
    coverage.note_log(Log("reign_ended", (("number", 3), ("reason", "weaker"))))
    assert coverage.hits == {
        "message Heartbeat": 1,
        "log reign_ended": 1,
        "log reign_ended weaker": 1,
    }


def test_a_run_counts_what_happened_in_it() -> None:
    outcome = Simulation(8, 4, 30).run()
    assert outcome.violation == ""
    hits = outcome.hits
    assert hits["message Heartbeat"] > 100
    assert hits["log member_up"] >= 12
    assert hits["task SUCCEEDED"] > 0
    assert sum(times for name, times in hits.items() if name.startswith("epilogue ")) == 1
    faults = sum(times for name, times in hits.items() if name.startswith(("fault ", "hostile ")))
    assert faults == outcome.faults == len(outcome.struck)


def test_every_kind_of_trouble_can_be_struck() -> None:
    played = Simulation(1, 3, 25)
    assert set(played.troubles.kinds) == set(TROUBLE_KINDS)


def test_every_log_line_of_a_core_is_expected() -> None:
    """What a core says to its log marks a rare branch: none may be added unseen."""
    root = Path(rain.__file__).parent
    said = set()
    for package in PURE:
        for path in sorted((root / package).glob("*.py")):
            said.update(re.findall(r'Log\(\s*"(\w+)"', path.read_text(encoding="utf-8")))
    assert said <= set(LOG_EVENTS)


def test_every_refusal_that_is_expected_exists() -> None:
    root = Path(rain.__file__).parent
    paths = [*root.glob("*/*.py"), Path(sim.__file__).parent / "streams.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(paths))
    for reasons in DROPPED.values():
        for reason in reasons:
            assert f'"{reason}"' in text, reason


def test_few_seeds_may_miss_something(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--seeds", "5:5", "--nodes", "3", "--seconds", "25", "--jobs", "1", "--coverage"]
    assert main(words) == 0
    assert "never hit in" in capsys.readouterr().out
