"""After the storm: everything is mended, waited for, and asked for the last time."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.chaos.history import History
from tests.chaos.people import asked, brief, typed
from tests.chaos.world import World, containers_left
from tests.testbed.lan import Pc

ALL_OVER_S = 150.0
"""What runs at the heal may take 20 s, a backoff as long again, and all the rest is queued."""
SETTLED_S = 45.0
"""Views, tables and leftovers: within this after all is over."""
QUIET_S = 8.0
"""Between the two last rounds of questions."""
OUTPUTS_MAX = 80
POLL_S = 1.0
ASKING = 4

Json = dict[str, Any]


def wait_over(world: World, history: History) -> list[Json]:
    """Until a PC tells that no job is open; all jobs as told then."""
    began_s = time.monotonic()
    open_jobs: list[Json] | None = None
    for pc in _in_turn(world.pcs, began_s + ALL_OVER_S):
        told = asked(pc, "jobs")
        open_jobs = told["jobs"] if told is not None else open_jobs
        if open_jobs == []:
            break
    left = None if open_jobs is None else [[job["id"], job["state"]] for job in open_jobs]
    took_s = round(time.monotonic() - began_s, 1)
    history.note("waited", is_over=left == [], bound_s=ALL_OVER_S, took_s=took_s, open=left)
    return all_jobs(world)


def all_jobs(world: World) -> list[Json]:
    for pc in world.pcs:
        told = asked(pc, "jobs", "-a")
        if told is not None:
            return list(told["jobs"])
    return []


def wait_settled(world: World, history: History) -> None:
    """Until all agree and nothing is left, or the bound has passed: the checker will tell."""
    began_s = time.monotonic()
    is_settled = False
    for _ in _in_turn(world.pcs, began_s + SETTLED_S):
        is_settled = _is_settled(world)
        if is_settled:
            break
    history.note("settled", is_settled=is_settled, took_s=round(time.monotonic() - began_s, 1))


def _is_settled(world: World) -> bool:
    told = [asked(pc, "status") for pc in world.pcs]
    views = {
        (
            one["members"]["alive"],
            str(one["epoch"]),
            str(one.get("table")),
        )
        for one in told
        if one is not None
    }
    is_agreed = None not in told and len(views) == 1 and min(views)[0] == len(world.pcs)
    return is_agreed and not containers_left(world.engine)


def ask_all(world: World, history: History, number: int) -> None:
    """The same questions on every PC."""
    for pc in world.pcs:
        status, nodes, jobs = asked(pc, "status"), asked(pc, "nodes"), asked(pc, "jobs", "-a")
        if status is None or nodes is None or jobs is None:
            continue  # no answer is an answer: the checker misses this PC
        rows = [brief(row) for row in nodes["nodes"]]
        history.note(
            "final", round=number, pc=pc.name, status=status, nodes=rows, jobs=jobs["jobs"]
        )


def ask_tasks(world: World, history: History, jobs: list[Json], seed: int) -> None:
    """Every job with its tasks, each from another PC; and what a part of them printed."""
    with ThreadPoolExecutor(ASKING) as asking:
        pcs = [world.pcs[number % len(world.pcs)] for number in range(len(jobs))]
        told = list(asking.map(_tasks_of, pcs, jobs))
        for pc, job in zip(pcs, told, strict=True):
            if job is not None:
                history.note("tasks", job=job["id"], pc=pc.name, told=job)
        printed = [
            (job["id"], task["index"], task["node"])
            for job in told
            if job is not None
            for task in job["task_list"]
            if task["state"] in ("SUCCEEDED", "FAILED")
        ]
        rng = random.Random(f"{seed}:outputs")
        chosen = rng.sample(printed, min(OUTPUTS_MAX, len(printed)))
        list(asking.map(lambda one: _ask_output(world, history, *one), chosen))


def _tasks_of(pc: Pc, job: Json) -> Json | None:
    return asked(pc, "job", str(job["id"]), "--tasks")


def _ask_output(world: World, history: History, job: str, task: int, node: str) -> None:
    pc = world.pcs[task % len(world.pcs)]
    code, text, said = typed(pc, "logs", f"{job}.{task}")
    history.note(
        "output", job=job, task=task, node=node, pc=pc.name, code=code, text=text, said=said
    )


def _in_turn(pcs: list[Pc], until_s: float) -> Any:
    """One PC after the other, with a pause between, until then."""
    number = 0
    while time.monotonic() < until_s:
        yield pcs[number % len(pcs)]
        number += 1
        time.sleep(POLL_S)
