"""Large jobs, and many of them, are told without keeping anybody waiting."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from rain.agent.address_book import AddressBook
from rain.agent.control import Json
from rain.agent.driver import Driver
from rain.agent.reads import VIEW_JOBS_INLINE_MAX, VIEW_TASKS_INLINE_MAX, Reads
from rain.log import Logger
from rain.mesh import keys
from rain.mesh.envelope import Envelope
from rain.mesh.streams import Streams
from rain.model import Address, Facts, Identity
from rain.node import Node, NodeConfig
from rain.sched import views
from rain.sched.messages import JobPatch
from rain.sched.table import Table
from rain.store import Store
from tests.sched.samples import make_job

TASKS = 5 * VIEW_TASKS_INLINE_MAX + 1


@contextlib.asynccontextmanager
async def reading(tmp_path: Path) -> AsyncIterator[tuple[Reads, Table]]:
    """The reads of a node that is not running."""
    pool = keys.new_pool("attic")
    signer = keys.load_node_key(tmp_path)
    envelope = Envelope(pool.pool_id, pool.key, signer, keys.ed_verify, 1)
    identity = Identity(envelope.node_id, "desk", 1)
    book = AddressBook()

    def make_node(now_ms: int) -> Node:
        address, rng = Address("127.0.0.1", 7246), random.Random(1)
        return Node(identity, address, Facts(), NodeConfig(), rng, now_ms)

    store = Store.open(tmp_path / "store.db")
    log: Logger = structlog.wrap_logger(logging.Logger("test"), wrapper_class=Logger)
    driver = Driver(make_node, identity, book, store, log)
    reads = Reads(driver, Streams(envelope, book.find, lambda *_: True), identity)
    yield reads, driver.node.sched.table
    await store.close()


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
    job = make_job(TASKS)
    async with reading(tmp_path) as (reads, table):
        table.merge((JobPatch(job.job_id, job),))
        told, taken = await asked(reads, {"what": "job", "id": job.job_id, "tasks": True})
        whole = views.job_view(table, job.job_id, reads.names(), with_tasks=True)

    assert list(told["job"]) == [*whole, "waiting_for"]
    assert {name: told["job"][name] for name in whole} == whole
    assert taken == 5, "between two slices whatever waits has its turn"


async def test_many_jobs_are_told_in_slices(tmp_path: Path) -> None:
    jobs = [make_job(1, str(number)) for number in range(2 * VIEW_JOBS_INLINE_MAX + 1)]
    over = [JobPatch(job.job_id, cancelled_through=1) for job in jobs[10:]]
    async with reading(tmp_path) as (reads, table):
        table.merge(JobPatch(job.job_id, job) for job in jobs)
        table.merge(over)
        told, taken = await asked(reads, {"what": "jobs", "all": True})
        still_open, at_once = await asked(reads, {"what": "jobs"})
        whole = views.jobs_view(table, reads.names())

    assert told["jobs"] == whole
    assert taken == 2
    assert [job["id"] for job in still_open["jobs"]] == sorted(job.job_id for job in jobs[:10])
    assert at_once == 0
