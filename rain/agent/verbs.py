"""What each verb of the control socket does. Shapes and exit codes: docs/interface.md."""

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
from rain.effects import Answer, Proposed
from rain.mesh.token import Pool, encode_token
from rain.model import Facts, Identity, Job, JobId, JobSpec, MemberState, NodeId, Resources
from rain.sched.identity import job_id_of
from rain.sched.placement import can_ever_be_placed, why_never
from rain.sched.table import Table
from rain.version import VERSION

ANSWER_WAIT_MS = 12_000
"""A little longer than the node itself tries to place a proposal through a failover."""
WAIT_POLL_MS = 200
JOBS_PER_COMMAND_MAX = 1_000


class NotYet:
    """What a newcomer answers while it waits to be let in: exit 4, but for going away."""

    def __init__(self, pool: Pool, stop: Callable[[bool, int], None]) -> None:
        self._pool = pool
        self._stop = stop

    def by_name(self) -> dict[str, Verb]:
        return {"down": self.down, "leave": self.down}

    async def refuse(self, args: Json) -> AsyncIterator[Item | End]:
        message = f"this PC is not in pool {self._pool.name!r} yet: nobody of it has answered"
        raise VerbError("not_in_pool", message, "look at what `rain up` says", 4)
        yield End({})  # a generator by its shape

    async def down(self, args: Json) -> AsyncIterator[Item | End]:
        self._stop(False, 0)
        yield End({})


class Verbs:
    """The verbs, by name; each is an asynchronous generator of items and one end."""

    def __init__(
        self,
        driver: Driver,
        identity: Identity,
        pool: Pool,
        reads: Reads,
        logs: Logs,
        stop: Callable[[bool, int], None],
    ) -> None:
        self._driver = driver
        self._identity = identity
        self._pool = pool
        self._reads = reads
        self._logs = logs
        self._stop = stop
        self._requests = 0

    def by_name(self) -> dict[str, Verb]:
        return {
            "status": self.status,
            "nodes": self.nodes,
            "submit": self.submit,
            "jobs": self.jobs,
            "job": self.job,
            "logs": self.logs,
            "wait": self.wait,
            "cancel": self.cancel,
            "invite": self.invite,
            "down": self.down,
            "leave": self.leave,
        }

    # --- the pool --------------------------------------------------------------------------------

    async def status(self, args: Json) -> AsyncIterator[Item | End]:
        node = self._driver.node
        members = node.gossip.members()
        own = next(m for m in members if m.record.node_id == self._identity.node_id)
        reign = node.election.reign()
        names = self._reads.names()
        counts = {state.name.lower(): 0 for state in MemberState}
        for member in members:
            counts[member.record.state.name.lower()] += 1
        coordinator = epoch = None
        if reign is not None:
            coordinator = {"id": reign.node_id, "name": names.get(reign.node_id, reign.node_id)}
            epoch = {"number": reign.number, "node_id": reign.node_id}
        yield End(
            {
                "node": {
                    "id": self._identity.node_id,
                    "name": self._identity.name,
                    "state": own.record.state.name.lower(),
                    "address": str(own.record.address),
                },
                "pool": {"id": self._pool.pool_id.hex(), "name": self._pool.name},
                "coordinator": coordinator,
                "epoch": epoch,
                "members": counts,
                "version": VERSION,
                "takes_work": own.facts.works,
                "idle_reason": own.facts.idle_reason,
                "disk": self._driver.disk_reason,
                "braked": node.election.is_braked(),
            }
        )

    async def nodes(self, args: Json) -> AsyncIterator[Item | End]:
        node = self._driver.node
        reign = node.election.reign()
        rows = []
        for member in node.gossip.members():
            record, facts = member.record, member.facts
            placed = _placed_on(node.sched.table, record.node_id)
            rows.append(
                {
                    "id": record.node_id,
                    "name": record.name,
                    "address": str(record.address),
                    "state": record.state.name.lower(),
                    "is_coordinator": reign is not None and reign.node_id == record.node_id,
                    "capacity": _amounts(facts.capacity, list(facts.accelerators)),
                    "free": _amounts(facts.capacity.minus(placed), []),
                    "labels": {"platform": facts.platform} if facts.platform else {},
                    "paused": False,
                    "version": facts.software,
                    "takes_work": facts.works,
                    "idle_reason": facts.idle_reason,
                    "executors": list(facts.executors),
                }
            )
        yield End({"nodes": rows})

    async def invite(self, args: Json) -> AsyncIterator[Item | End]:
        yield End({"token": encode_token(self._pool), "pool": self._pool.name})

    async def down(self, args: Json) -> AsyncIterator[Item | End]:
        self._stop(False, int(args.get("drain_ms") or 0))
        yield End({})

    async def leave(self, args: Json) -> AsyncIterator[Item | End]:
        self._stop(True, 0)
        yield End({})

    # --- jobs ------------------------------------------------------------------------------------

    async def submit(self, args: Json) -> AsyncIterator[Item | End]:
        spec = _spec(args.get("spec"))
        self._refuse_the_impossible(spec)
        created_unix_ms, nonce = now_unix_ms(), os.urandom(16)
        name, node_id = self._identity.name, self._identity.node_id
        job_id = job_id_of(spec, name, node_id, created_unix_ms, nonce)
        job = Job(job_id, spec, name, node_id, created_unix_ms, nonce)
        try:
            answer = await self._propose(jobs=(job,))
        except VerbError as error:
            # It may still be kept: whoever sends it again must know that there are two.
            raise VerbError(
                error.code, f"job {job_id}: {error}", error.hint, error.exit_code
            ) from None
        nodes = self._alive_facts()
        end = {"job_id": job_id, "copies": answer.copies, "members": len(nodes)}
        yield End({**end, "waits_for": _waits_for(spec, nodes)})

    async def cancel(self, args: Json) -> AsyncIterator[Item | End]:
        ids = []
        for words in _words(args):
            ids.append(str((await self._reads.job(words, tasks=False))["id"]))
        await self._propose(cancels=tuple(ids))
        yield End({"cancelled": ids})

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
        job = await self._reads.job(str(args.get("id", "")), tasks=False)
        task = args.get("task")
        position = None
        if task is not None:
            position = self._position(JobId(str(job["id"])), int(task))
        async for piece in self._logs.follow(job, position, bool(args.get("follow"))):
            yield Item(piece)
        yield End({})

    # --- parts -----------------------------------------------------------------------------------

    async def _propose(self, jobs: tuple[Job, ...] = (), cancels: tuple[str, ...] = ()) -> Answer:
        self._refuse_without_disk()
        self._requests += 1
        request = self._requests
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

    def _alive_facts(self) -> list[tuple[str, Facts]]:
        return [
            (member.record.name, member.facts)
            for member in self._driver.node.gossip.members()
            if member.record.state in (MemberState.ALIVE, MemberState.SUSPECT)
        ]

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


def _amounts(amount: Resources, gpus: list[str]) -> Json:
    return {"cpus": amount.cpus_milli / 1_000, "memory_bytes": amount.memory_bytes, "gpus": gpus}


def _waits_for(spec: JobSpec, nodes: list[tuple[str, Facts]]) -> str:
    """What somebody has to switch on before this job can start; empty: nothing."""
    if any(facts.works and spec.executor in facts.executors for _, facts in nodes):
        return ""
    reasons = sorted({facts.idle_reason for _, facts in nodes if facts.idle_reason})
    return f"no PC runs {spec.executor} tasks now" + (f" ({'; '.join(reasons)})" if reasons else "")


def _placed_on(table: Table, node_id: NodeId) -> Resources:
    """What the cells place on a node, by this node's copy of the table."""
    total = Resources()
    for attempt_id in table.attempts_on(node_id):
        job = table.job(attempt_id.job_id)
        if job is not None:
            total = total.plus(job.spec.need)
    return total


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
        raise VerbError(
            "usage", f"the job does not fit: {error}", "rain submit --help", 2
        ) from None
    try:
        msgspec.msgpack.encode(spec)
    except UnicodeEncodeError:
        message = "the job has words that are no text (bytes that are not UTF-8)"
        raise VerbError("usage", message, "rain submit --help", 2) from None
    if not spec.command and spec.executor == "process":
        raise VerbError("usage", "the job has no command", "put it after --", 2)
    return spec
