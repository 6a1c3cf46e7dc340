"""Large jobs, and many of them, are told without keeping anybody waiting."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rain.agent.control import Json, VerbError
from rain.agent.reads import VIEW_JOBS_INLINE_MAX, VIEW_TASKS_INLINE_MAX, WORKER_REFUSAL, Reads
from rain.claims import node_id_of
from rain.effects import CertificateShown
from rain.mesh import keys
from rain.mesh.calls import CallError
from rain.mesh.certificates import public_key_of
from rain.model import AttemptId, Epoch, Job, JobSpec, NodeId, Role, Stage
from rain.sched import views
from rain.sched.identity import signed_cancel
from rain.sched.messages import Cell, JobPatch, TaskPatch
from tests.agent.desk import NOW_UNIX_S, Nowhere, OneNode

TASKS = 5 * VIEW_TASKS_INLINE_MAX + 1


@contextlib.asynccontextmanager
async def reading(tmp_path: Path) -> AsyncIterator[tuple[Reads, OneNode]]:
    """The reads of a node that is not running."""
    node = OneNode(tmp_path)
    yield Reads(node.driver, node.streams(), node.identity), node
    await node.store.close()


def cancelled(node: OneNode, job: Job) -> JobPatch:
    signer = node.signer
    cancel = signed_cancel(job.job_id, 1, 5, signer.public_key, signer.sign, node.pool.pool_id)
    return JobPatch.of_parts(job.job_id, None, cancel, ())


async def asked(reads: Reads, question: Json) -> tuple[Json, int]:
    """The answer, and how many turns others had meanwhile."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    await asyncio.sleep(0)
    before = turns
    told = await reads._answer(question)
    taken = turns - before
    waiting.cancel()
    return told, taken


async def test_a_large_job_is_told_in_slices(tmp_path: Path) -> None:
    async with reading(tmp_path) as (reads, node):
        table = node.driver.node.sched.table
        job = node.job(JobSpec(("true",), tasks=TASKS))
        table.merge((JobPatch(job.job_id, job),))
        told, taken = await asked(reads, {"what": "job", "id": job.job_id, "tasks": True})
        whole = views.job_view(table, job.job_id, reads.names(), with_tasks=True)

    assert list(told["job"]) == [*whole, "waiting_for", "refusals"]
    assert {name: told["job"][name] for name in whole} == whole
    assert taken == 5, "between two slices whatever waits has its turn"


async def test_many_jobs_are_told_in_slices(tmp_path: Path) -> None:
    async with reading(tmp_path) as (reads, node):
        table = node.driver.node.sched.table
        numbers = range(2 * VIEW_JOBS_INLINE_MAX + 1)
        jobs = [node.job(JobSpec(("true",)), str(number).encode()) for number in numbers]
        table.merge(JobPatch(job.job_id, job) for job in jobs)
        table.merge(cancelled(node, job) for job in jobs[10:])
        told, taken = await asked(reads, {"what": "jobs", "all": True})
        still_open, at_once = await asked(reads, {"what": "jobs"})
        whole = views.jobs_view(table, reads.names())

    assert told["jobs"] == whole
    assert taken == 2
    assert [job["id"] for job in still_open["jobs"]] == sorted(job.job_id for job in jobs[:10])
    assert at_once == 0


WORKER_KEY = public_key_of(b"worker".ljust(32))


def let_in(node: OneNode, person: str, role: Role) -> NodeId:
    authority = keys.load_authority(node.folder)
    assert authority is not None
    bundle = authority.issue(
        WORKER_KEY,
        name="lab-3",
        role=role,
        person=person,
        generation=1,
        invite_id="abcdefghij",
        now_unix_s=NOW_UNIX_S,
    )
    node.driver.connect(Nowhere(), Nowhere())
    node.driver.feed(CertificateShown(bundle))
    return node_id_of(WORKER_KEY)


async def viewed(reads: Reads, sender: NodeId, question: Json) -> Json:
    """What that node is answered."""
    pieces = [piece async for piece in reads._serve(sender, json.dumps(question).encode())]
    told: Json = json.loads(b"".join(pieces))
    return told


@pytest.mark.parametrize(
    ("role", "person", "sees"),
    [(Role.MEMBER, "bert", True), (Role.WORKER, "bert", False), (Role.WORKER, "anna", True)],
)
async def test_a_worker_is_told_of_jobs_of_its_own_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Role, person: str, sees: bool
) -> None:
    async with reading(tmp_path) as (reads, node):
        sender = let_in(node, person, role)
        reign = Epoch(1, node.identity.node_id, 0)
        monkeypatch.setattr(node.driver.node.election, "reign", lambda: reign)
        monkeypatch.setattr(reads, "_is_taking_over", lambda: False)
        job = node.job(JobSpec(("true",)))
        node.driver.node.sched.table.merge((JobPatch(job.job_id, job),))

        listed = await viewed(reads, sender, {"what": "jobs", "all": True})
        one = await viewed(reads, sender, {"what": "job", "id": job.job_id[:6]})
        newest = await viewed(reads, sender, {"what": "job", "id": "last"})
        unknown = await viewed(reads, sender, {"what": "job", "id": "zzz"})

    assert [row["id"] for row in listed["jobs"]] == ([job.job_id] if sees else [])
    assert (one["job"]["id"] == job.job_id) if sees else one == {"refused": WORKER_REFUSAL}
    assert ("job" in newest) if sees else newest == {"error": []}
    assert unknown == {"error": []}


async def test_who_asks_for_another_persons_job_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(tmp_path) as (reads, _):

        async def refused(question: Json) -> Json:
            return {"refused": WORKER_REFUSAL}

        monkeypatch.setattr(reads, "_try", refused)
        with pytest.raises(VerbError) as raised:
            await reads.job("abc", tasks=False)
    assert (raised.value.code, raised.value.exit_code) == ("failed", 1)
    assert "another person's" in str(raised.value)


async def test_a_stranger_to_the_roll_is_shown_no_jobs(tmp_path: Path) -> None:
    async with reading(tmp_path) as (reads, _):
        with pytest.raises(CallError, match="in the pool"):
            await viewed(reads, node_id_of(WORKER_KEY), {"what": "jobs"})


async def test_a_job_of_which_nothing_waits_waits_for_nothing(tmp_path: Path) -> None:
    async with reading(tmp_path) as (reads, node):
        table = node.driver.node.sched.table
        job = node.job(JobSpec(("true",), executor="process"))
        table.merge((JobPatch(job.job_id, job),))
        question = {"what": "job", "id": job.job_id}
        before = (await reads._answer(question))["job"]
        epoch = Epoch(1, node.identity.node_id, 7)
        attempt_id = AttemptId(job.job_id, 0, 1, epoch, node.identity.node_id)
        cell = Cell(epoch=epoch, turn=1, stage=Stage.RUNNING, attempt_id=attempt_id)
        table.merge((JobPatch(job.job_id, tasks=(TaskPatch(0, 0, cell),)),))
        after = (await reads._answer(question))["job"]

    assert (before["tasks"], len(before["waiting_for"])) == ({"PENDING": 1}, 1)
    assert (after["tasks"], after["waiting_for"]) == ({"RUNNING": 1}, {})
