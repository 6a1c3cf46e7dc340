"""Forecasts on the product's own cores: who takes over, what runs again, what waits, what ends."""

from typing import Any

import pytest

from sim.forecast import forecast
from sim.premises import Unfit
from sim.scenario import Plan
from tests.sim.test_premises import GIB, NOW_MS, job, node, task

LOOK_MS = 600_000
TASK_MS = 40_000


def played(
    *jobs: dict[str, Any],
    off: tuple[str, ...] = (),
    cut: tuple[str, ...] = (),
    back_ms: int | None = None,
    runs: int = 1,
) -> dict[str, Any]:
    nodes = [
        node("nas", role="admin", capacity={"cpus": 4, "memory_bytes": 16 * GIB}),
        node("pc2", is_coordinator=True),
        node("pc3"),
        node("pc4", role="worker"),
    ]
    plan = Plan(off, cut, back_ms, LOOK_MS)
    return forecast(nodes, jobs, plan, runs, TASK_MS, NOW_MS, lambda _: None)


def test_the_coordinator_of_now_goes_and_another_takes_over_soon() -> None:
    told = played(off=("pc2",), runs=2)
    assert told["coordinator"]["before"] == {"pc2": 2}
    assert set(told["coordinator"]["after"]) <= {"nas", "pc3"}
    assert 0 < told["nobody_ms"]["median"] <= told["nobody_ms"]["worst"] <= 3_000


def test_a_worker_goes_and_nobody_else_coordinates() -> None:
    told = played(off=("pc4",))
    assert told["coordinator"] == {"before": {"pc2": 1}, "after": {"pc2": 1}}
    assert told["nobody_ms"] == {"median": 0, "worst": 0}


@pytest.mark.parametrize("way", ["off", "cut"])
def test_what_ran_there_is_started_elsewhere_and_the_rest_goes_on(way: str) -> None:
    render = job(task(5, "RUNNING", "pc3"), task(6, "RUNNING", "nas"))
    told = played(render, off=("pc3",)) if way == "off" else played(render, cut=("pc3",))
    assert told["lost"] == {"aaaa": [5]}
    [again] = told["restarted"]
    assert (again["job"], again["task"], again["lost_on"]) == ("aaaa", 5, "pc3")
    assert again["runs_on"] in ("nas", "pc2", "pc4")
    assert told["waiting"] == []
    assert told["copies"] == {"before": 3, "after": 2}


def test_what_fits_nowhere_waits_and_is_warned_of() -> None:
    big = job(task(0, "RUNNING", "nas"), need={"cpus": 1, "memory_bytes": 12 * GIB})
    told = played(big, off=("nas",))
    [waits] = told["waiting"]
    assert (waits["job"], waits["tasks"], waits["fits_nowhere"]) == ("aaaa", [0], True)
    assert waits["because"] == "no PC that is left has 1 CPU and 12 GiB"
    assert told["jobs"][0]["ends_after_ms"] is None
    words = "without nas nothing is left with 1 CPU and 12 GiB: job aaaa waits"
    assert words in told["warnings"]


def test_what_waits_for_a_pc_runs_when_it_is_back() -> None:
    big = job(task(0, "RUNNING", "nas"), need={"cpus": 1, "memory_bytes": 12 * GIB})
    told = played(big, off=("nas",), back_ms=60_000)
    assert told["waiting"][0]["tasks"] == [0]
    assert 60_000 + TASK_MS <= told["jobs"][0]["ends_after_ms"] <= 120_000 + TASK_MS


def test_a_job_ends_after_as_many_rounds_as_it_takes() -> None:
    wide = job(*(task(n, "PENDING") for n in range(6)), need={"cpus": 4, "memory_bytes": GIB})
    told = played(wide, off=("pc4",))
    # The first four run before the worker goes; its task and the last two take another round.
    assert TASK_MS < told["jobs"][0]["ends_after_ms"] < 3 * TASK_MS


def test_with_all_keepers_gone_nobody_coordinates() -> None:
    told = played(job(task(0, "PENDING")), off=("nas", "pc2", "pc3"))
    assert told["coordinator"]["after"] == {"": 1}
    assert told["nobody_ms"] == {"median": None, "worst": None}
    assert told["warnings"][0] == "without nas, pc2, pc3 nobody coordinates: nothing new is started"


def test_the_same_question_has_the_same_answer() -> None:
    render = job(*(task(n, "PENDING") for n in range(4)))
    assert played(render, off=("pc2",)) == played(render, off=("pc2",))


def test_unknown_and_doubled_names_are_refused() -> None:
    with pytest.raises(Unfit) as unknown:
        played(off=("pc9",))
    assert unknown.value.is_unknown_name
    assert unknown.value.hint == "these are up: nas, pc2, pc3, pc4"
    with pytest.raises(Unfit) as doubled:
        played(off=("nas",), cut=("nas",))
    assert not doubled.value.is_unknown_name
