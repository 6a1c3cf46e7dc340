"""What a forecast starts from: the PCs of a pool and its open jobs, as `rain nodes --json` and
`rain jobs --json` tell them (docs/interface.md). Fields that an older Rain does not tell are
assumed, and what is assumed is said.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rain.model import JobSpec, Resources, Role, Value

PCS_MAX = 200
TASKS_MAX = 2_000
"""Open tasks that are played; those of later jobs are left out, and that is said."""
LEFT_MS_MIN = 1_000
"""A task that has run longer than assumed ends this much later, at the earliest."""
HERE = ("alive", "suspect")
RUNS = ("STARTING", "RUNNING")
WAITS = ("PENDING", "HELD")

Json = Mapping[str, Any]


class Unfit(Exception):
    """What was given is no pool, or does not fit it."""

    def __init__(self, message: str, hint: str = "", *, is_unknown_name: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.is_unknown_name = is_unknown_name


class Pc(Value, frozen=True):
    """One PC that is up."""

    name: str
    capacity: Resources
    role: Role
    person: str
    rank: int
    is_coordinator: bool


class OpenTask(Value, frozen=True):
    """One task that is not over."""

    index: int
    node: str = ""
    """Where it runs; empty: it waits."""
    left_ms: int = 0
    """How long it still runs there."""


class OpenJob(Value, frozen=True):
    """One job that is not over, and what of it is not."""

    job_id: str
    name: str
    need: Resources
    node_name: str
    tasks: tuple[OpenTask, ...]
    task_ms: int
    """How long a task of it takes from its start."""


class Premises(Value, frozen=True):
    """Everything that is known before."""

    pcs: tuple[Pc, ...]
    jobs: tuple[OpenJob, ...]
    assumed: tuple[str, ...]

    def names(self) -> list[str]:
        return [pc.name for pc in self.pcs]


def premises_of(
    nodes: Sequence[Json], jobs: Sequence[Json], task_ms: int, now_unix_ms: int
) -> Premises:
    """Raises Unfit where that is no pool."""
    assumed: dict[str, None] = {}
    try:
        pcs = [_pc(node, assumed) for node in nodes if node["state"] in HERE]
        pcs = _with_admin(pcs, assumed)
        names = {pc.name for pc in pcs}
        played = list(_jobs(jobs, names, task_ms, now_unix_ms, assumed))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = f"one of them has no {error}" if isinstance(error, KeyError) else str(error)
        raise Unfit(
            f"this is no answer of `rain nodes --json` and `rain jobs --json`: {told}",
            "save both anew",
        ) from None
    if len(pcs) > PCS_MAX:
        raise Unfit(f"{len(pcs)} PCs are more than the {PCS_MAX} that can be simulated")
    if not pcs:
        raise Unfit("no PC of that pool is up", "save the nodes while the pool is up")
    if len(names) < len(pcs):
        raise Unfit("two PCs have one name", "rename one of them: rain up --name")
    return Premises(tuple(pcs), tuple(played), tuple(assumed))


def _pc(node: Json, assumed: dict[str, None]) -> Pc:
    capacity = _amounts(node["capacity"])
    if not node.get("takes_work", True):
        capacity = Resources()
    if "role" not in node:
        assumed["every PC is a member: the saved nodes do not tell roles"] = None
    return Pc(
        str(node["name"]),
        capacity,
        Role[str(node.get("role") or "member").upper()],
        str(node.get("person") or "somebody"),
        int(node.get("rank") or 0),
        bool(node["is_coordinator"]),
    )


def _amounts(amounts: Json) -> Resources:
    return Resources(round(float(amounts["cpus"]) * 1_000), int(amounts["memory_bytes"]))


def _with_admin(pcs: list[Pc], assumed: dict[str, None]) -> list[Pc]:
    """A pool has an admin, who may be switched off just now: then the first plays it."""
    if not pcs or any(pc.role is Role.ADMIN for pc in pcs):
        return pcs
    members = [pc for pc in pcs if pc.role is Role.MEMBER]
    if not members:
        raise Unfit("only workers are up: nobody there may coordinate")
    first = members[0]
    admin = Pc(
        first.name, first.capacity, Role.ADMIN, first.person, first.rank, first.is_coordinator
    )
    return [admin if pc is first else pc for pc in pcs]


# --- jobs ---------------------------------------------------------------------------------------


def _jobs(
    jobs: Iterable[Json],
    names: set[str],
    task_ms: int,
    now_unix_ms: int,
    assumed: dict[str, None],
) -> Iterable[OpenJob]:
    room = TASKS_MAX
    for job in jobs:
        usual_ms = _mean_ms(job)
        tasks = _open_tasks(job, names, usual_ms or task_ms, now_unix_ms)
        if not tasks:
            continue
        if len(tasks) > room:
            assumed[f"only the first {TASKS_MAX} open tasks are played"] = None
            tasks = tasks[:room]
        room -= len(tasks)
        if not tasks:
            return
        if usual_ms:
            told = f"a task of {job['id']} takes {usual_ms // 1_000} s, as those that ended did"
        else:
            told = f"a task takes {task_ms // 1_000} s where none of its job has ended yet"
        assumed[told] = None
        if "need" not in job:
            assumed["a task needs what a job needs that says nothing: 1 CPU, 256 MiB"] = None
        need = _amounts(job["need"]) if "need" in job else JobSpec(("",)).need
        node_name = str(job.get("only_on") or "")
        yield OpenJob(
            str(job["id"]),
            str(job.get("name") or ""),
            need,
            node_name,
            tuple(tasks),
            usual_ms or task_ms,
        )


def _open_tasks(job: Json, names: set[str], task_ms: int, now_unix_ms: int) -> list[OpenTask]:
    """By the list of its tasks where there is one; else by their number."""
    if "task_list" not in job:
        counts = job["tasks"]
        return [
            OpenTask(index)
            for index in range(sum(int(counts.get(state, 0)) for state in (*RUNS, *WAITS)))
        ]
    return [
        _open_task(task, names, task_ms, now_unix_ms)
        for task in job["task_list"]
        if task["state"] in (*RUNS, *WAITS)
    ]


def _open_task(task: Json, names: set[str], task_ms: int, now_unix_ms: int) -> OpenTask:
    node = str(task.get("node") or "")
    if task["state"] not in RUNS or node not in names:
        return OpenTask(int(task["index"]))
    started = [
        _unix_ms(attempt["started_at"])
        for attempt in task["attempts"]
        if attempt["state"] in RUNS and attempt["started_at"]
    ]
    ran_ms = max(0, now_unix_ms - started[-1]) if started else 0
    return OpenTask(int(task["index"]), node, max(LEFT_MS_MIN, task_ms - ran_ms))


def _mean_ms(job: Json) -> int:
    """How long its tasks took that succeeded; 0: none did."""
    took = [
        _unix_ms(attempt["ended_at"]) - _unix_ms(attempt["started_at"])
        for task in job.get("task_list", ())
        for attempt in task["attempts"]
        if attempt["state"] == "SUCCEEDED" and attempt["started_at"] and attempt["ended_at"]
    ]
    return max(LEFT_MS_MIN, sum(took) // len(took)) if took else 0


def _unix_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)
