"""Large jobs are told without keeping anybody waiting."""

import asyncio
import logging
import random
from pathlib import Path

import structlog

from rain.agent.address_book import AddressBook
from rain.agent.driver import Driver
from rain.agent.reads import VIEW_TASKS_INLINE_MAX, Reads
from rain.log import Logger
from rain.mesh import keys
from rain.mesh.envelope import Envelope
from rain.mesh.streams import Streams
from rain.model import Address, Facts, Identity, Job, JobSpec
from rain.node import Node, NodeConfig
from rain.sched import views
from rain.sched.identity import job_id_of
from rain.sched.messages import JobPatch
from rain.store import Store

TASKS = 5 * VIEW_TASKS_INLINE_MAX + 1


async def test_a_large_job_is_told_in_slices(tmp_path: Path) -> None:
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
    spec = JobSpec(("true",), tasks=TASKS, is_array=True)
    job_id = job_id_of(spec, "desk", identity.node_id, 1, b"n")
    table = driver.node.sched.table
    table.merge((JobPatch(job_id, Job(job_id, spec, "desk", identity.node_id, 1, b"n")),))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    await asyncio.sleep(0)
    before = turns
    told = await reads._answer({"what": "job", "id": job_id, "tasks": True})
    taken = turns - before
    waiting.cancel()
    await store.close()

    whole = views.job_view(table, job_id, reads.names(), with_tasks=True)
    assert list(told["job"]) == [*whole, "waiting_for"]
    assert {name: told["job"][name] for name in whole} == whole
    assert taken == 5, "between two slices whatever waits has its turn"
