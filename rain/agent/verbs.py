"""The verbs of the control socket about jobs. Shapes and exit codes: docs/interface.md."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from msgspec.structs import fields

from rain.agent.clock import now_unix_ms
from rain.agent.control import End, Item, Json, Verb, VerbError
from rain.agent.driver import Driver
from rain.agent.logs import Logs
from rain.agent.reads import Reads, is_over
from rain.agent.rights import members_pc, persons_pc
from rain.claims import Signer
from rain.effects import Answer, Proposed
from rain.gossip.member import Member
from rain.model import Facts, Job, JobId, JobSpec, MemberState, Role
from rain.sched.identity import signed_job
from rain.sched.people import not_theirs
from rain.sched.placement import can_ever_be_placed, why_never

ANSWER_WAIT_MS = 12_000
"""A little longer than the node itself tries to place a proposal through a failover."""
WAIT_POLL_MS = 200
JOBS_PER_COMMAND_MAX = 1_000


class Verbs:
    """The verbs, by name; each is an asynchronous generator of items and one end."""

    def __init__(
        self,
        driver: Driver,
        signer: Signer,
        reads: Reads,
        logs: Logs,
        next_request: Callable[[], int],
        pool_id: bytes,
    ) -> None:
        self._driver = driver
        self._identity = driver.node.identity
        self._signer = signer
        self._pool_id = pool_id
        self._reads = reads
        self._logs = logs
        self._next_request = next_request

    def by_name(self) -> dict[str, Verb]:
        return {
            "submit": self.submit,
            "jobs": self.jobs,
            "job": self.job,
            "logs": self.logs,
            "wait": self.wait,
            "cancel": self.cancel,
        }

    # --- jobs ------------------------------------------------------------------------------------

    async def submit(self, args: Json) -> AsyncIterator[Item | End]:
        self._refuse_worker("submit")
        spec = _spec(args.get("spec"))
        self._refuse_the_impossible(spec)
        own = self._driver.node.trust.credential(self._identity.node_id)
        job = signed_job(
            spec,
            self._identity.name,
            now_unix_ms(),
            os.urandom(16),
            own.person if own is not None else "",
            self._signer.public_key,
            self._signer.sign,
            self._pool_id,
        )
        try:
            answer = await self._propose(jobs=(job,))
        except VerbError as error:
            if self._driver.node.sched.table.job(job.job_id) is None:
                raise
            # It may still be kept: whoever sends it again must know that there are two.
            raise VerbError(
                error.code, f"job {job.job_id}: {error}", error.hint, error.exit_code
            ) from None
        end = {"job_id": job.job_id, "copies": answer.copies, "members": self._keepers()}
        yield End({**end, "waits_for": _waits_for(spec, self._alive_facts())})

    async def cancel(self, args: Json) -> AsyncIterator[Item | End]:
        self._refuse_worker("cancel")
        ids, over = [], []
        for words in _words(args):
            job = await self._reads.job(words, tasks=False)
            self._refuse_cancel(JobId(str(job["id"])))
            if is_over(job):
                over.append({"id": str(job["id"]), "state": job["state"]})
            else:
                ids.append(str(job["id"]))
        if ids:
            await self._propose(cancels=tuple(ids))
        yield End({"cancelled": ids, "over": over})

    async def jobs(self, args: Json) -> AsyncIterator[Item | End]:
        yield End({"jobs": await self._reads.jobs(bool(args.get("all")))})

    async def job(self, args: Json) -> AsyncIterator[Item | End]:
        job = await self._reads.job(str(args.get("id", "")), bool(args.get("tasks")))
        yield End(job)

    async def wait(self, args: Json) -> AsyncIterator[Item | End]:
        jobs = [await self._reads.job(words, tasks=False) for words in _words(args)]
        told = None
        while True:
            if all(is_over(job) for job in jobs):
                break
            counts = [{"id": job["id"], "tasks": job["tasks"]} for job in jobs]
            if counts != told:
                told = counts
                yield Item({"jobs": counts})
            await asyncio.sleep(WAIT_POLL_MS / 1_000)
            jobs = [await self._reads.job(str(job["id"]), tasks=False) for job in jobs]
        codes = [int(job["exit_code"] or 0) for job in jobs]
        yield End({"exit_code": next((code for code in codes if code), 0), "jobs": jobs})

    async def logs(self, args: Json) -> AsyncIterator[Item | End]:
        if self._driver.node.trust.role(self._identity.node_id) is Role.WORKER:
            message = "this PC lends work but reads no logs: its role is worker"
            raise VerbError("failed", message, "type it on a PC of a member or an admin", 1)
        job = await self._reads.job(str(args.get("id", "")), tasks=False)
        task = args.get("task")
        position = None
        if task is not None:
            position = self._position(JobId(str(job["id"])), int(task))
        async for piece in self._logs.follow(job, position, bool(args.get("follow"))):
            yield Item(piece)
        yield End({})

    # --- rights: told here in full, judged again by the node and by every table ------------------

    def _refuse_worker(self, verb: str) -> None:
        trust = self._driver.node.trust
        if trust.role(self._identity.node_id) is Role.WORKER:
            message = f"this PC may lend work but not {verb}: its role is worker"
            raise VerbError("failed", message, members_pc(trust), 1)

    def _refuse_cancel(self, job_id: JobId) -> None:
        """A job that is not known here yet is left to the coordinator."""
        trust, job = self._driver.node.trust, self._driver.node.sched.table.job(job_id)
        own = trust.credential(self._identity.node_id)
        if job is None or own is None or own.role is Role.ADMIN or own.person == job.person:
            return
        raise VerbError("failed", not_theirs(job), persons_pc(trust, job.person), 1)

    # --- parts -----------------------------------------------------------------------------------

    async def _propose(self, jobs: tuple[Job, ...] = (), cancels: tuple[str, ...] = ()) -> Answer:
        self._refuse_without_disk()
        request = self._next_request()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._driver.answers[request] = future
        self._driver.feed(Proposed(request, jobs, cancels, now_unix_ms()))
        try:
            async with asyncio.timeout(ANSWER_WAIT_MS / 1_000):
                answer = await future
        except TimeoutError as error:
            hint = "see who is there: rain status"
            raise VerbError("failed", "nobody coordinates the pool now", hint, 1) from error
        finally:
            self._driver.answers.pop(request, None)
        if answer.error:
            self._refuse_without_disk()  # the likely cause, found while we waited
            raise VerbError("failed", answer.error, "see who is there: rain status", 1)
        return answer

    def _refuse_without_disk(self) -> None:
        reason = self._driver.disk_reason
        if reason:
            hint = "free some space on this PC's disk, then try again"
            raise VerbError("failed", f"the disk here keeps nothing: {reason}", hint, 1)

    def _alive(self) -> list[Member]:
        return [
            member
            for member in self._driver.node.gossip.members()
            if member.record.state in (MemberState.ALIVE, MemberState.SUSPECT)
        ]

    def _alive_facts(self) -> list[tuple[str, Facts]]:
        return [(member.record.name, member.facts) for member in self._alive()]

    def _keepers(self) -> int:
        """Nodes that keep copies: workers do not."""
        roles = [self._driver.node.trust.role(each.record.node_id) for each in self._alive()]
        return sum(role is not None and role >= Role.MEMBER for role in roles)

    def _refuse_the_impossible(self, spec: JobSpec) -> None:
        """Exit code 6 for what no PC of the pool could ever run."""
        if spec.executor == "docker" and not spec.image:
            hint = "name one: --image NAME (or --executor process, for no container at all)"
            raise VerbError("usage", "the job names no image to run in", hint, 2)
        # Who is away may come back.
        nodes = [
            (member.record.name, member.facts)
            for member in self._driver.node.gossip.members()
            if member.record.state is not MemberState.LEFT
        ]
        if not can_ever_be_placed(spec, nodes):
            reasons = why_never(spec, nodes)
            why = ", ".join(
                f"{n} PC(s): {reason.replace('_', ' ')}" for reason, n in sorted(reasons.items())
            )
            raise VerbError("cannot_place", f"no PC can run this ({why})", "see: rain nodes", 6)

    def _position(self, job_id: JobId, index: int) -> int:
        """The position of the task whose index a user sees; arrays may start anywhere."""
        job = self._driver.node.sched.table.job(job_id)
        if job is not None:
            spec = job.spec
            position, rest = divmod(index - spec.array_start, spec.array_step)
            if rest == 0 and 0 <= position < spec.tasks:
                return position
        hint = f"see its tasks: rain job {job_id} --tasks"
        raise VerbError("not_found", f"job {job_id} has no task {index}", hint, 5)


def _waits_for(spec: JobSpec, nodes: list[tuple[str, Facts]]) -> str:
    """What somebody has to switch on before this job can start; empty: nothing."""
    if any(facts.works and spec.executor in facts.executors for _, facts in nodes):
        return ""
    reasons = sorted({facts.idle_reason for _, facts in nodes if facts.idle_reason})
    return f"no PC runs {spec.executor} tasks now" + (f" ({'; '.join(reasons)})" if reasons else "")


def _words(args: Json) -> list[str]:
    words = [str(word) for word in args.get("ids", [])]
    if not words or len(words) > JOBS_PER_COMMAND_MAX:
        raise VerbError("usage", "name a job", "see them all: rain jobs -a", 2)
    return words


def _spec(wish: Any) -> JobSpec:
    """A job spec from the names of its fields; whatever does not fit is a usage error."""
    if not isinstance(wish, dict):
        raise VerbError("usage", "the job has no spec", "rain submit --help", 2)
    unknown = sorted(set(wish) - {field.name for field in fields(JobSpec)})
    if unknown:
        raise VerbError("usage", f"unknown in a job: {', '.join(unknown)}", "rain submit --help", 2)
    named = dict(wish)
    if isinstance(named.get("need"), dict):
        need = named["need"]
        named["need"] = [int(need.get("cpus_milli", 0)), int(need.get("memory_bytes", 0))]
    plain = JobSpec(command=())
    values = msgspec.to_builtins(plain)
    order = [field.name for field in fields(JobSpec)]
    try:
        spec = msgspec.convert(
            [named.get(name, values[position]) for position, name in enumerate(order)], JobSpec
        )
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        message = f"the job does not fit: {_named(str(error), order)}"
        raise VerbError("usage", message, "rain submit --help", 2) from None
    try:
        msgspec.msgpack.encode(spec)
    except UnicodeEncodeError:
        message = "the job has words that are no text (bytes that are not UTF-8)"
        raise VerbError("usage", message, "rain submit --help", 2) from None
    if not spec.command and spec.executor == "process":
        raise VerbError("usage", "the job has no command", "put it after --", 2)
    return spec


def _named(complaint: str, names: list[str]) -> str:
    """With the field's name in the place of `$[7][0]`."""
    what, _, where = complaint.partition(" - at `$[")
    place = where.partition("]")[0]
    return f"{names[int(place)]}: {what}" if place.isdecimal() else what
