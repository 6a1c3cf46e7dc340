"""The checker on made-up histories: a good one passes, and each law has one that breaks it."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.checker import LAWS, check
from tests.chaos.evidence import Json
from tests.chaos.history import History, read

PCS = ("pc1", "pc2", "pc3")
NONCES = ("00aa", "00bb", "00cc")
IDS = ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc")


def attempt(number: int, node: str, state: str) -> Json:
    return {"number": number, "node": node, "state": state, "exit_code": None, "reason": ""}


def task(index: int, state: str, code: int, attempts: list[Json]) -> Json:
    node = attempts[-1]["node"] if attempts else None
    told = {"index": index, "state": state, "exit_code": code, "node": node}
    return {**told, "attempts": attempts}


def jobs() -> list[Json]:
    """An array that lost a PC on its way, a job that fails as it should, one that was cancelled."""
    told = [("SUCCEEDED", 0), ("FAILED", 3), ("CANCELLED", 137)]
    return [
        {"id": IDS[n], "name": f"chaos-1-{n}", "state": state, "exit_code": code}
        for n, (state, code) in enumerate(told)
    ]


def task_lists() -> list[list[Json]]:
    return [
        [
            task(0, "SUCCEEDED", 0, [attempt(1, "pc1", "SUCCEEDED")]),
            task(
                1,
                "SUCCEEDED",
                0,
                [
                    attempt(1, "pc2", "LOST"),
                    attempt(3, "pc3", "SUCCEEDED"),
                    attempt(5, "pc1", "SUPERSEDED"),
                ],
            ),
        ],
        [task(0, "FAILED", 3, [attempt(1, "pc2", "FAILED"), attempt(3, "pc2", "FAILED")])],
        [task(0, "CANCELLED", 137, [attempt(1, "pc3", "CANCELLED")])],
    ]


def status() -> Json:
    return {
        "coordinator": {"id": "n1", "name": "pc1"},
        "epoch": {"number": 2, "node_id": "n1"},
        "table": {"digest": "d1", "jobs": 3},
    }


def nodes() -> list[Json]:
    return [{"name": pc, "state": "alive", "is_coordinator": pc == "pc1"} for pc in PCS]


def finals(number: int, at_s: float) -> list[Json]:
    return [
        {
            "at": at_s,
            "what": "final",
            "round": number,
            "pc": pc,
            "status": status(),
            "nodes": nodes(),
            "jobs": jobs(),
        }
        for pc in PCS
    ]


def good() -> list[Json]:
    """A run in which a PC was killed and every promise was kept."""
    submits: list[Json] = []
    for n, (kind, tasks, failures) in enumerate(
        [("array", 2, {}), ("failing", 1, {"0": 3}), ("cancelled", 1, {})]
    ):
        submits += [
            {
                "at": 2.0 + n,
                "what": "submit",
                "number": n,
                "pc": "pc2",
                "name": f"chaos-1-{n}",
                "kind": kind,
                "tasks": tasks,
                "nonce": NONCES[n],
                "failures": failures,
                "retries": 1 if failures else 0,
            },
            {"at": 2.1 + n, "what": "submitted", "number": n, "job": IDS[n], "code": 0},
        ]
    ran = [(IDS[0], 0, "pc1"), (IDS[0], 1, "pc2"), (IDS[0], 1, "pc3"), (IDS[0], 1, "pc1")]
    ran += [(IDS[1], 0, "pc2"), (IDS[2], 0, "pc3")]
    started = [
        {"at": 3.0, "what": "started", "job": job, "task": index, "node": node, "attempt": "a"}
        for job, index, node in ran
    ]
    seen_jobs = {IDS[0]: "RUNNING", IDS[1]: "FAILED"}
    return [
        {"at": 0.0, "what": "began", "seed": 1, "pcs": list(PCS)},
        {"at": 1.0, "what": "formed", "epoch": {"number": 1}},
        *submits,
        *started,
        {"at": 6.0, "what": "blow", "number": 1, "kind": "kill", "on": ["pc2"]},
        {"at": 7.0, "what": "cancel", "number": 2, "job": IDS[2], "pc": "pc1"},
        {"at": 7.1, "what": "cancelled", "number": 2, "job": IDS[2], "code": 0},
        {"at": 8.0, "what": "mended", "number": 1},
        {"at": 9.0, "what": "seen", "pc": "pc1", "nodes": _without_pc2(), "jobs": seen_jobs},
        {"at": 70.0, "what": "seen", "pc": "pc1", "nodes": nodes(), "jobs": seen_jobs},
        {"at": 80.0, "what": "healed"},
        {"at": 90.0, "what": "waited", "is_over": True, "bound_s": 60, "open": []},
        *finals(1, 100.0),
        *[
            {"at": 101.0, "what": "tasks", "job": job["id"], "told": {**job, "task_list": tasks}}
            for job, tasks in zip(jobs(), task_lists(), strict=True)
        ],
        _output("00aa aaaaaaaaaaaaaaaa 1\n"),
        *finals(2, 110.0),
        {"at": 111.0, "what": "containers", "left": []},
        {"at": 112.0, "what": "ended", "reason": ""},
    ]


def _without_pc2() -> list[Json]:
    rows = nodes()
    rows[1]["state"] = "dead"
    return rows


def _output(text: str) -> Json:
    told = {"job": IDS[0], "task": 1, "node": "pc3", "pc": "pc1"}
    return {"at": 105.0, "what": "output", **told, "code": 0, "text": text}


Change = Callable[[list[Json]], None]


def final(lines: list[Json], number: int, pc: str) -> Json:
    return next(
        line
        for line in lines
        if line["what"] == "final" and (line["round"], line["pc"]) == (number, pc)
    )


def told_task(lines: list[Json], job: int, index: int) -> Json:
    line = next(li for li in lines if li["what"] == "tasks" and li["job"] == IDS[job])
    found: Json = line["told"]["task_list"][index]
    return found


def first(lines: list[Json], what: str) -> Json:
    return next(line for line in lines if line["what"] == what)


def everywhere(lines: list[Json], job: int, **changed: object) -> None:
    for line in lines:
        if line["what"] == "final":
            line["jobs"][job].update(changed)


def a_pc_is_silent_at_the_end(lines: list[Json]) -> None:
    lines.remove(final(lines, 2, "pc3"))


def the_run_broke_off(lines: list[Json]) -> None:
    lines.pop()


def an_agent_ended_by_itself(lines: list[Json]) -> None:
    lines.insert(10, {"at": 5.0, "what": "died", "pc": "pc3", "said": "J3: overbooked"})


def a_job_is_lost_on_one_pc(lines: list[Json]) -> None:
    final(lines, 2, "pc3")["jobs"].pop(1)


def a_job_is_lost_everywhere(lines: list[Json]) -> None:
    for line in lines:
        if line["what"] == "final":
            line["jobs"].pop(1)


def a_job_still_runs(lines: list[Json]) -> None:
    everywhere(lines, 0, state="RUNNING", exit_code=None)


def it_was_over_too_late(lines: list[Json]) -> None:
    first(lines, "waited").update(is_over=False, open=[[IDS[0], "RUNNING"]])


def a_job_that_had_to_succeed_failed(lines: list[Json]) -> None:
    everywhere(lines, 0, state="FAILED", exit_code=137)


def a_failure_has_another_code(lines: list[Json]) -> None:
    everywhere(lines, 1, exit_code=1)


def a_task_is_missing(lines: list[Json]) -> None:
    line = next(li for li in lines if li["what"] == "tasks" and li["job"] == IDS[0])
    line["told"]["task_list"].pop()


def a_task_failed_inside(lines: list[Json]) -> None:
    told_task(lines, 0, 0).update(state="FAILED", exit_code=1)


def it_was_not_tried_again(lines: list[Json]) -> None:
    told_task(lines, 1, 0)["attempts"].pop()


def two_results_stand(lines: list[Json]) -> None:
    told_task(lines, 0, 1)["attempts"][2]["state"] = "SUCCEEDED"


def no_result_stands(lines: list[Json]) -> None:
    told_task(lines, 0, 1)["attempts"][1]["state"] = "LOST"


def a_failed_task_has_a_result(lines: list[Json]) -> None:
    told_task(lines, 1, 0)["attempts"].append(attempt(5, "pc2", "SUCCEEDED"))


def an_attempt_is_open(lines: list[Json]) -> None:
    told_task(lines, 0, 1)["attempts"][2]["state"] = "RUNNING"


def the_digests_differ(lines: list[Json]) -> None:
    final(lines, 1, "pc2")["status"]["table"]["digest"] = "d2"


def the_answers_differ(lines: list[Json]) -> None:
    final(lines, 2, "pc2")["jobs"][0]["exit_code"] = 1


def a_cancel_did_not_hold(lines: list[Json]) -> None:
    everywhere(lines, 2, state="SUCCEEDED", exit_code=0)


def a_cancelled_task_went_on(lines: list[Json]) -> None:
    told_task(lines, 2, 0)["state"] = "RUNNING"


def a_container_is_left(lines: list[Json]) -> None:
    first(lines, "containers")["left"].append({"rain.job": IDS[0]})


def two_coordinators(lines: list[Json]) -> None:
    final(lines, 2, "pc2")["status"]["coordinator"]["name"] = "pc2"


def no_coordinator(lines: list[Json]) -> None:
    for pc in PCS:
        final(lines, 2, pc)["status"]["coordinator"] = None


def another_epoch(lines: list[Json]) -> None:
    final(lines, 1, "pc3")["status"]["epoch"]["number"] = 1


def two_rows_coordinate(lines: list[Json]) -> None:
    final(lines, 2, "pc1")["nodes"][1]["is_coordinator"] = True


def a_needless_reign(lines: list[Json]) -> None:
    for line in lines:
        if line["what"] == "final":
            line["status"]["epoch"]["number"] = 3


def the_number_fell(lines: list[Json]) -> None:
    for line in lines:
        if line["what"] == "final":
            line["status"]["epoch"]["number"] = 0


def the_living_is_dead_at_the_end(lines: list[Json]) -> None:
    final(lines, 2, "pc1")["nodes"][2]["state"] = "dead"


def the_living_was_dead_in_the_calm(lines: list[Json]) -> None:
    line = next(li for li in lines if li["what"] == "seen" and li["at"] == 70.0)
    line["nodes"] = _without_pc2()


def a_job_of_nobody(lines: list[Json]) -> None:
    for line in lines:
        if line["what"] == "final":
            line["jobs"].append({**line["jobs"][0], "id": "d" * 16, "name": "ghost"})


def a_job_twice(lines: list[Json]) -> None:
    for line in lines:
        if line["what"] == "final":
            line["jobs"].append({**line["jobs"][0], "id": "d" * 16})


def a_result_without_a_container(lines: list[Json]) -> None:
    told_task(lines, 0, 0)["attempts"][0]["node"] = "pc3"


def an_output_is_lost(lines: list[Json]) -> None:
    first(lines, "output")["text"] = ""


def an_output_is_there_twice(lines: list[Json]) -> None:
    first(lines, "output")["text"] *= 2


def a_success_was_taken_back(lines: list[Json]) -> None:
    first(lines, "seen")["jobs"][IDS[1]] = "SUCCEEDED"


def something_starts_afterwards(lines: list[Json]) -> None:
    began = copy.deepcopy(first(lines, "started"))
    lines.insert(-1, {**began, "at": 104.0})


def a_reign_begins_afterwards(lines: list[Json]) -> None:
    for pc in PCS:
        final(lines, 1, pc)["status"]["epoch"] = {"number": 1, "node_id": "n1"}


BROKEN: tuple[tuple[str, Change], ...] = (
    ("ended", the_run_broke_off),
    ("ended", an_agent_ended_by_itself),
    ("ended", a_pc_is_silent_at_the_end),
    ("kept", a_job_is_lost_on_one_pc),
    ("kept", a_job_is_lost_everywhere),
    ("over", a_job_still_runs),
    ("over", it_was_over_too_late),
    ("result", a_job_that_had_to_succeed_failed),
    ("result", a_failure_has_another_code),
    ("result", a_task_is_missing),
    ("result", a_task_failed_inside),
    ("result", it_was_not_tried_again),
    ("one result", two_results_stand),
    ("one result", no_result_stands),
    ("one result", a_failed_task_has_a_result),
    ("one result", an_attempt_is_open),
    ("same", the_digests_differ),
    ("same", the_answers_differ),
    ("result", a_cancel_did_not_hold),
    ("cancel", a_cancelled_task_went_on),
    ("containers", a_container_is_left),
    ("coordinator", two_coordinators),
    ("coordinator", no_coordinator),
    ("coordinator", another_epoch),
    ("coordinator", two_rows_coordinate),
    ("reigns", a_needless_reign),
    ("reigns", the_number_fell),
    ("alive", the_living_is_dead_at_the_end),
    ("alive", the_living_was_dead_in_the_calm),
    ("invented", a_job_of_nobody),
    ("invented", a_job_twice),
    ("invented", a_result_without_a_container),
    ("output", an_output_is_lost),
    ("output", an_output_is_there_twice),
    ("told", a_success_was_taken_back),
    ("quiet", something_starts_afterwards),
    ("quiet", a_reign_begins_afterwards),
)


def test_a_good_history_passes() -> None:
    assert check(good()) == []


@pytest.mark.parametrize(("law", "change"), BROKEN, ids=lambda one: getattr(one, "__name__", one))
def test_a_broken_promise_is_seen(law: str, change: Change) -> None:
    lines = good()
    change(lines)
    assert law in {violation.law for violation in check(lines)}


def test_every_law_can_be_broken() -> None:
    assert {law for law, _ in BROKEN} == set(LAWS)


def test_what_was_not_acknowledged_may_be_missing_but_not_half() -> None:
    """A submit that brought no id back: the job may be there or not; if it is, all laws hold."""
    lines = good()
    answer = next(li for li in lines if li["what"] == "submitted" and li["number"] == 1)
    answer.update(job="", code=1)
    assert check(lines) == []

    half = copy.deepcopy(lines)
    everywhere(half, 1, state="PENDING", exit_code=None)
    assert {violation.law for violation in check(half)} >= {"over"}

    for line in lines:
        if line["what"] == "final":
            line["jobs"].pop(1)
    lines = [li for li in lines if li["what"] != "tasks" or li["job"] != IDS[1]]
    first(lines, "seen")["jobs"].pop(IDS[1])
    assert check(lines) == []


def test_a_full_disk_may_cost_output() -> None:
    lines = good()
    an_output_is_lost(lines)
    lines.insert(5, {"at": 5.0, "what": "blow", "number": 9, "kind": "disk full", "on": ["pc3"]})
    assert "output" not in {violation.law for violation in check(lines)}


def test_a_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.note("began", seed=1, pcs=list(PCS))
    history.note("healed")
    history.close()
    with history.path.open("a") as file:
        file.write('{"at": 3')
    assert [(line["what"], line.get("seed")) for line in read(history.path)] == [
        ("began", 1),
        ("healed", None),
    ]


def test_a_kept_history_is_judged_by_one_command(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.note("began", seed=1, pcs=list(PCS))
    history.close()
    command = [sys.executable, "-m", "tests.chaos.checker", str(history.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ended: the history breaks off" in done.stdout
