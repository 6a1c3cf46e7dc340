"""Reading the pool's jobs: the coordinator's copy is the freshest, so every node asks it.

While nobody coordinates, a question waits up to READ_WAIT_MS; after that this node's own copy
answers, which may be a moment old.

Whoever asks over the network must be in the pool. A member sees all jobs; a worker's PC sees those
of its own person, and is told so in words where it asks for another one.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from rain.agent.clock import now_ms
from rain.agent.control import Json, VerbError, encoded
from rain.agent.driver import Driver
from rain.mesh.streams import CallError, Streams
from rain.model import Identity, JobId, NodeId, Role
from rain.sched import views
from rain.sched.people import may_read_log
from rain.sched.states import TaskState
from rain.sched.table import Table
from rain.trust.credential import Credential

READ_WAIT_MS = 10_000
READ_TRY_MS = 1_500
READ_PAUSE_MS = 200
VIEW_VERB = "view"
LAST = "last"
"""Instead of an id: the newest job."""
WORKER_REFUSAL = "that job is another person's: a worker's PC shows those of its own person"
WORKER_HINT = "look at it on a member's PC, or list what there is for this one: rain jobs -a"
VIEW_TASKS_INLINE_MAX = 1_000
"""Tasks told in one go, some 15 ms; then whatever else waits has its turn."""

VIEW_JOBS_INLINE_MAX = 500
"""Jobs told in one go."""


class Reads:
    """Questions about jobs, answered by the coordinator wherever it is."""

    def __init__(self, driver: Driver, streams: Streams, identity: Identity) -> None:
        self._driver = driver
        self._streams = streams
        self._identity = identity
        streams.serve(VIEW_VERB, self._serve)

    async def jobs(self, include_over: bool) -> list[Json]:
        answer = await self._ask({"what": "jobs", "all": include_over})
        jobs = list(answer["jobs"])
        return [*jobs, *self._quarantined(jobs)] if include_over else jobs

    def _quarantined(self, known: list[Json]) -> list[Json]:
        """Jobs set aside on this PC after a long absence, as they were then."""
        aside, told = self._driver.node.sched.absence.aside, {job["id"] for job in known}
        ids = [job_id for job_id in aside.jobs() if job_id not in told]
        listed = views.some_jobs(aside, ids, self.names(), (), include_over=True)
        return [{**job, "quarantined": True} for job in listed]

    async def job(self, words: str, tasks: bool) -> Json:
        """One job by id, unique prefix, or `last`. Raises VerbError when there is none."""
        answer = await self._ask({"what": "job", "id": words, "tasks": tasks})
        if "refused" in answer:
            raise VerbError("failed", str(answer["refused"]), WORKER_HINT, 1)
        if answer.get("forgotten"):
            message = f"job {words} was over long ago and has been forgotten"
            raise VerbError("not_found", message, "see those that are kept: rain jobs -a", 5)
        if "error" in answer:
            raise _not_found(words, answer["error"])
        return dict(answer["job"])

    async def _ask(self, question: Json) -> Json:
        deadline_ms = now_ms() + READ_WAIT_MS
        while True:
            answer = await self._try(question)
            if answer is not None:
                return answer
            if now_ms() >= deadline_ms:
                return await self._answer(question)
            await asyncio.sleep(READ_PAUSE_MS / 1_000)

    async def _try(self, question: Json) -> Json | None:
        """The coordinator's answer; None: nobody can give one now."""
        reign = self._driver.node.election.reign()
        if reign is None:
            return None
        if reign.node_id == self._identity.node_id:
            return None if self._is_taking_over() else await self._answer(question)
        try:
            async with asyncio.timeout(READ_TRY_MS / 1_000):
                return await self._call(reign.node_id, question)
        except (CallError, TimeoutError):
            return None

    async def _call(self, node_id: NodeId, question: Json) -> Json | None:
        pieces = [
            piece
            async for piece in self._streams.call(node_id, VIEW_VERB, json.dumps(question).encode())
        ]
        answer: dict[str, Any] = json.loads(b"".join(pieces))
        return None if answer.get("ask_again") else answer

    async def _serve(self, sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
        question = json.loads(args)
        asker = self._driver.node.trust.credential(sender)
        if asker is None:
            raise CallError("only who is in the pool may look at its jobs")
        reign = self._driver.node.election.reign()
        mine = reign is not None and reign.node_id == self._identity.node_id
        answer: Json = {"ask_again": True}
        if mine and not self._is_taking_over():
            answer = await self._answer(question, asker)
        whole = (await encoded(answer)).encode()
        for start in range(0, max(1, len(whole)), 64 * 1024):
            yield whole[start : start + 64 * 1024]

    def _is_taking_over(self) -> bool:
        return self._driver.node.sched.is_taking_inventory()

    async def _answer(self, question: Json, asker: Credential | None = None) -> Json:
        """To that node; None: to the person on this one."""
        sched = self._driver.node.sched
        names = self.names()
        if question.get("what") == "jobs":
            return {"jobs": await self._job_list(bool(question.get("all")), asker)}
        words = str(question.get("id", ""))
        found = self._find(words, asker)
        if isinstance(found, list):
            # An id that names another person's job is not unknown: it is not for this asker.
            is_another = not found and words != LAST and self._find(words) != []
            if sched.table.is_forgotten(JobId(words)):
                return {"forgotten": True}
            return {"refused": WORKER_REFUSAL} if is_another else {"error": found}
        job = views.job_view(sched.table, found, names, sched.unsettled())
        if question.get("tasks"):
            job["task_list"] = await self._task_list(found, int(job["tasks_total"]))
        if not is_over(job):
            is_waiting = bool(job["tasks"].get(TaskState.PENDING.name))
            job["waiting_for"] = sched.why(found) if is_waiting else {}
            job["refusals"] = views.refusals(sched.table, found, names)
        return {"job": job}

    async def _job_list(self, include_over: bool, asker: Credential | None) -> list[Json]:
        """In slices as well: a pool that is in use for a year knows tens of thousands of jobs."""
        sched, names = self._driver.node.sched, self.names()
        every = views.jobs_listed(sched.table, sched.unsettled(), include_over)
        listed = self._shown(every, asker)
        told: list[Json] = []
        for first in range(0, len(listed), VIEW_JOBS_INLINE_MAX):
            if first:
                await asyncio.sleep(0)
            ids = listed[first : first + VIEW_JOBS_INLINE_MAX]
            told += views.some_jobs(sched.table, ids, names, sched.unsettled(), include_over)
        return told

    async def _task_list(self, job_id: JobId, tasks: int) -> list[Json]:
        """In slices, so that heartbeats need not wait for a large job to be told."""
        sched, names = self._driver.node.sched, self.names()
        told: list[Json] = []
        for first in range(0, tasks, VIEW_TASKS_INLINE_MAX):
            if first:
                await asyncio.sleep(0)
            last = min(tasks, first + VIEW_TASKS_INLINE_MAX) - 1
            starts = sched.starts(job_id, first, last)
            told += views.task_list(
                sched.table, job_id, names, sched.unsettled(), first, last, starts
            )
        return told

    def names(self) -> dict[NodeId, str]:
        return {
            member.record.node_id: member.record.name
            for member in self._driver.node.gossip.members()
        }

    def _shown(self, ids: Sequence[JobId], asker: Credential | None) -> Sequence[JobId]:
        """Those that the asker may see, by the same rule as what their tasks print."""
        if asker is None or asker.role >= Role.MEMBER:
            return ids
        table = self._driver.node.sched.table
        return [
            job_id for job_id in ids if may_read_log(asker.role, asker.person, table.job(job_id))
        ]

    def _find(self, words: str, asker: Credential | None = None) -> JobId | list[str]:
        """The job meant, or the ids that it might be (none: unknown)."""
        table = self._driver.node.sched.table
        ids = self._shown(table.jobs(), asker)
        if words == LAST:
            newest = max(ids, key=lambda one: (_created(table, one), one), default=None)
            return newest if newest is not None else []
        matches = [one for one in ids if one.startswith(words)] if words else []
        if words in matches:
            return JobId(words)
        return matches[0] if len(matches) == 1 else [str(one) for one in matches[:5]]


def is_over(job: Json) -> bool:
    """By the JSON of a job: nothing of it will run any more."""
    return TaskState[job["state"]].is_end


def _created(table: Table, job_id: JobId) -> int:
    job = table.job(job_id)
    return job.created_unix_ms if job is not None else 0


def _not_found(words: str, matches: list[str]) -> VerbError:
    if matches:
        message = f"{words!r} could be {', '.join(matches)}"
        return VerbError("ambiguous", message, "type a few more letters of the id", 2)
    return VerbError("not_found", f"there is no job {words!r}", "see them all: rain jobs -a", 5)
