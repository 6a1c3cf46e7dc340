"""Laws that hold whatever happens: faults drawn from a seed, then a time of healing."""

import random

import pytest

from rain.effects import MemberUp, Received
from rain.model import JobId, Role
from rain.sched.messages import JobPatch, Patch
from tests.sched.samples import admitted, id_of, key_of, make_cancel
from tests.sched.wire import ADDRESS, Wire, job_of

NAMES = ("a", "b", "c", "d", "e")
STEPS = 60


def fault(wire: Wire, rng: random.Random, number: int, worker: str = "") -> int:
    """One thing goes wrong, or somebody wants something. Returns the newest epoch number."""
    alive = [wire.name(node_id) for node_id in wire.alive()]
    name = rng.choice(alive)
    kind = rng.choice(("submit", "submit", "cancel", "exit", "exit", "kill", "restart", "reign"))
    tables = [host.core.table for host in wire.hosts.values()]
    jobs = [table.job(job_id) for table in tables for job_id in table.jobs()]
    if kind == "submit":
        retries = rng.choice((0, 2))
        tasks = rng.choice((1, 3, 7))
        wire.submit(name, job_of(name, tasks, rng.randbytes(8), retries=retries))
    elif kind == "cancel" and jobs and rng.random() < 0.3:
        job = rng.choice(jobs)
        if job is not None and wire.hosts[id_of(name)].core.table.job(job.job_id):
            wire.cancel(name, job)
    elif kind == "exit":
        wire.exit(name, rng.choice((0, 0, 0, 1)), rng.choice((1, 2)))
    elif kind == "kill" and len(alive) > 3:
        wire.kill(name)
        if wire.follows[id_of(name)].node_id == id_of(name):
            number += 1
            wire.reign(rng.choice([n for n in alive if n not in (name, worker)]), number)
        if rng.random() < 0.7:
            wire.bury(name)
    elif kind == "restart":
        dead = sorted(map(wire.name, wire.cut))
        if dead:
            name = rng.choice(dead)
            wire.bury(name)
            wire.follows[id_of(name)] = wire.follows[wire.alive()[0]]
            wire.restart(name, lists=rng.random() < 0.7)
            wire.list_containers(name)
            wire.settle()
    elif kind == "reign" and name != worker and rng.random() < 0.4:
        number += 1
        wire.reign(name, number)
    return number


def heal_all(wire: Wire) -> None:
    """Everybody is back, and whatever still runs ends well."""
    wire.lost = lambda _from, _to, _message: False
    for node_id in sorted(wire.cut):
        wire.bury(wire.name(node_id))
        wire.follows[node_id] = wire.follows[wire.alive()[0]]
        wire.restart(wire.name(node_id))
    for _ in range(60):
        wire.run(1_000)
        for name in NAMES:
            wire.exit(name, 0, 100)
    wire.run(5_000)


def assert_all_is_decided(wire: Wire, jobs_min: int) -> None:
    table = wire.hosts[id_of("a")].core.table
    assert len(table.jobs()) >= jobs_min
    for job_id in table.jobs():
        assert table.is_job_over(job_id)
    assert sum(wire.running().values()) == 0
    for host in wire.hosts.values():
        assert not host.core.active_attempts()
        assert not [key for key in host.disk if key.startswith("attempt/")]


@pytest.mark.parametrize("seed", range(8))
def test_after_healing_all_is_decided_and_everywhere_the_same(seed: int) -> None:
    rng = random.Random(seed)
    wire = Wire(*NAMES)
    number = 1
    wire.reign("a", number)
    wire.lost = lambda _from, _to, _message: rng.random() < 0.1
    for _ in range(STEPS):
        number = fault(wire, rng, number)
        wire.run(rng.choice((50, 200, 700)))

    heal_all(wire)

    assert wire.are_equal()
    assert_all_is_decided(wire, 6)


@pytest.mark.parametrize("seed", range(6))
def test_a_pool_with_a_worker_heals_as_well_and_leaves_nothing_on_it(seed: int) -> None:
    """And others' cancels, signed by who may not, are tried all the time."""
    rng = random.Random(seed)
    wire = Wire(*NAMES, roles={"e": Role.WORKER})
    worker, number = wire.hosts[id_of("e")], 1
    wire.reign("a", number)
    wire.lost = lambda _from, _to, _message: rng.random() < 0.1
    wire.tell(admitted("d", Role.MEMBER, "dora"))
    forged: list[JobId] = []
    for _ in range(STEPS):
        number = fault(wire, rng, number, "e")
        wire.run(rng.choice((50, 200, 700)))
        for node_id, epoch in list(wire.follows.items()):
            if node_id not in wire.cut and epoch.node_id == node_id:
                jobs = wire.hosts[node_id].core.table.jobs()
                if jobs:
                    forged.append(rng.choice(jobs))
                    patch = JobPatch.of_parts(forged[-1], cancel=make_cancel(forged[-1], by="d"))
                    said = Patch(epoch, (patch,), ())
                    wire.feed(node_id, Received(id_of("d"), said, ADDRESS, by_stream=True))
                    wire.settle()

    heal_all(wire)

    keepers = [host for host in wire.hosts.values() if host is not worker]
    assert len({host.core.table.digest() for host in keepers}) == 1
    assert_all_is_decided(wire, 3)
    assert worker.disk == {}
    assert worker.core.table.known_ids() == ()
    table = wire.hosts[id_of("a")].core.table
    for job_id in forged:
        cancel = table.cancel_of(job_id)
        assert cancel is None or cancel.cancelled_by != key_of("d").public_key


def part(wire: Wire, left: str, right: str) -> None:
    """Cut the pool in two; each side buries the other."""
    wire.lost = lambda sender, to, _message: (wire.name(sender) in left) != (wire.name(to) in left)
    for name in right:
        wire.bury(name, side=left)
    for name in left:
        wire.bury(name, side=right)


def heal(wire: Wire, left: str, right: str) -> None:
    wire.lost = lambda _from, _to, _message: False
    for one in NAMES:
        for other in NAMES:
            if (one in left) != (other in left):
                facts = wire.hosts[id_of(other)].facts
                wire.feed(id_of(one), MemberUp(id_of(other), other, 1, facts))


@pytest.mark.parametrize("seed", range(6))
def test_after_a_partition_one_result_stands_everywhere(seed: int) -> None:
    rng = random.Random(seed)
    wire = Wire(*NAMES)
    wire.reign("a", 1)
    jobs = [job_of(name, 4, rng.randbytes(8)) for name in NAMES[:2]]
    wire.submit("a", *jobs)
    wire.run(rng.choice((50, 400)))
    left, right = rng.choice((("abc", "de"), ("ab", "cde"), ("a", "bcde")))
    part(wire, left, right)
    wire.reign(right[0], 2, right)
    for _ in range(rng.randrange(30)):
        wire.submit(right[1], job_of(right[1], 2, rng.randbytes(8)))
        wire.exit(rng.choice(NAMES), rng.choice((0, 0, 1)))
        wire.run(rng.choice((50, 500)))
    heal(wire, left, right)
    if rng.random() < 0.5:
        # The side that goes on under a higher number takes no inventory anew.
        wire.reign("a", 3, takeover=False)
    else:
        wire.reign(right[0], 3, takeover=False)
    for _ in range(60):
        wire.run(500)
        wire.exit(rng.choice(NAMES), 0, 2)
    wire.run(20_000)

    assert wire.are_equal()
    table = wire.hosts[id_of("a")].core.table
    for job_id in table.jobs():
        assert table.is_job_over(job_id)
        job = table.job(job_id)
        assert job is not None
    assert sum(wire.running().values()) == 0
    for host in wire.hosts.values():
        assert not [key for key in host.disk if key.startswith("attempt/")]
