"""The people at the PCs: they submit, cancel and look, each with the command line of a PC."""

import itertools
import json
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from tests.chaos.history import History
from tests.chaos.schedule import (
    FAILING_CODE,
    PCS,
    Task,
    name_of,
    retries_of,
    script_of,
)
from tests.chaos.storm import Storm
from tests.chaos.world import World
from tests.testbed.engine import IMAGE
from tests.testbed.lan import Pc

HANDS = 6
"""Commands typed at the same time."""
TYPED_WAIT_S = 90.0
LEFT_WAIT_S = 200.0
CANCEL_TRIES_MAX = 10

Json = dict[str, Any]


class People:
    """Everything that is typed, and what was answered."""

    def __init__(self, world: World, storm: Storm, history: History, seed: int) -> None:
        self._world = world
        self._storm = storm
        self._history = history
        self._seed = seed
        self._hands = ThreadPoolExecutor(HANDS, thread_name_prefix="hand")
        self._typed: list[Future[None]] = []
        self._answers: dict[int, Future[str]] = {}
        self._uncancelled: dict[int, Task] = {}
        self._looks = itertools.count()
        self._looking = threading.Lock()

    def submit(self, task: Task) -> None:
        self._answers[task.number] = Future()
        if task.kind == "cancelled":
            self._uncancelled[task.number] = task
        self._type(lambda: self._submit(task))

    def cancel(self, task: Task) -> None:
        self._type(lambda: self._cancel_when_known(task))

    def look(self) -> None:
        """One PC after the other is asked what it sees; not twice at a time."""
        if self._looking.acquire(blocking=False):
            self._type(self._look)

    def finish(self) -> None:
        """Until everybody has an answer."""
        _, late = wait(self._typed, LEFT_WAIT_S)
        assert not late, "a command never came back"
        for future in self._typed:
            future.result()

    def cancel_the_rest(self, jobs: list[Json]) -> None:
        """What was never to end by itself is cancelled now, whatever became of it before."""
        ids = {job["name"]: job["id"] for job in jobs}
        for task in list(self._uncancelled.values()):
            job = ids.get(name_of(self._seed, task))
            for _ in range(CANCEL_TRIES_MAX if job is not None else 0):
                if self._cancel(task, str(job), self._world.pcs[task.cancel_on]):
                    break

    def close(self) -> None:
        self._hands.shutdown(cancel_futures=True)

    # --- what is typed ---------------------------------------------------------------------------

    def _type(self, work: Callable[[], None]) -> None:
        self._typed.append(self._hands.submit(work))

    def _submit(self, task: Task) -> None:
        pc = self._present(task.on)
        name = name_of(self._seed, task)
        self._history.note(
            "submit",
            number=task.number,
            pc=pc.name,
            name=name,
            kind=task.kind,
            tasks=task.tasks,
            nonce=task.nonce,
            failures=failures_of(task),
            retries=retries_of(task),
        )
        words = ["--name", name, "--image", IMAGE, "--cpus", "1", "--memory", "16m"]
        if task.tasks > 1:
            words += ["--array", f"0-{task.tasks - 1}"]
        if retries_of(task):
            words += ["--retries", str(retries_of(task))]
        code, out, said = typed(pc, "submit", "-d", *words, "--", "sh", "-c", script_of(task))
        job = out.strip() if code == 0 else ""
        self._history.note(
            "submitted", number=task.number, pc=pc.name, job=job, code=code, said=said
        )
        self._answers[task.number].set_result(job)

    def _cancel_when_known(self, task: Task) -> None:
        job = self._answers[task.number].result(TYPED_WAIT_S + LEFT_WAIT_S)
        if job:
            self._cancel(task, job, self._present(task.cancel_on))

    def _cancel(self, task: Task, job: str, pc: Pc) -> bool:
        self._history.note("cancel", number=task.number, job=job, pc=pc.name)
        code, _, said = typed(pc, "cancel", job)
        self._history.note("cancelled", number=task.number, job=job, code=code, said=said)
        if code == 0:
            self._uncancelled.pop(task.number, None)
        return code == 0

    def _look(self) -> None:
        try:
            pc = self._present(next(self._looks) % PCS)
            told = {word: asked(pc, *words) for word, words in LOOKS.items()}
            status, nodes, jobs = (told[word] for word in ("status", "nodes", "jobs"))
            if status is not None and status["coordinator"] is not None:
                self._note_coordinator(status["coordinator"]["name"])
            self._history.note(
                "seen",
                pc=pc.name,
                status=status,
                nodes=[brief(row) for row in nodes["nodes"]] if nodes is not None else [],
                jobs={job["id"]: job["state"] for job in jobs["jobs"]} if jobs is not None else {},
            )
        finally:
            self._looking.release()

    def _note_coordinator(self, name: str) -> None:
        names = [pc.name for pc in self._world.pcs]
        if name in names:
            self._storm.coordinator = names.index(name)

    def _present(self, number: int) -> Pc:
        """That PC, or the next one whose agent is in order: nobody types where none runs."""
        pcs = self._world.pcs
        for step in range(PCS):
            pc = pcs[(number + step) % PCS]
            if not self._storm.is_out_of_order(pc):
                return pc
        return pcs[number]


LOOKS = {"status": ("status",), "nodes": ("nodes",), "jobs": ("jobs", "-a")}


def brief(row: Json) -> Json:
    return {word: row[word] for word in ("name", "state", "is_coordinator", "version")}


def failures_of(task: Task) -> dict[int, int]:
    """Exit codes of the tasks that must fail, by index."""
    return {"failing": {0: FAILING_CODE}, "mixed": {1: FAILING_CODE}}.get(task.kind, {})


def typed(pc: Pc, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of a command; -1 where it never came back."""
    try:
        done = pc.rain(*words, timeout_s=TYPED_WAIT_S)
    except subprocess.TimeoutExpired:
        return -1, "", f"no answer in {TYPED_WAIT_S:.0f} s"
    return done.returncode, done.stdout, done.stderr.strip()


def asked(pc: Pc, *words: str) -> Json | None:
    """The JSON of a verb; None where it did not work."""
    code, out, _ = typed(pc, *words, "--json")
    if code != 0:
        return None
    told: Json = json.loads(out.splitlines()[-1])
    return told
