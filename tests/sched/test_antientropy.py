"""Exchanges of more than fits into one answer."""

import pytest

from rain.effects import MemberUp, Post
from rain.model import Epoch, Identity, Job, JobId, NodeId
from rain.sched import antientropy as module
from rain.sched import ledger as ledger_module
from rain.sched.antientropy import AntiEntropy, AntiEntropyConfig
from rain.sched.ledger import Ledger
from rain.sched.messages import Digests, JobPatch, Patch
from rain.sched.pool import Pool
from tests.sched.samples import (
    admitted,
    id_of,
    make_attempt,
    make_job,
    make_ledger,
    make_people,
    running,
    task_patch,
)
from tests.sched.wire import FACTS

HEAD, OWN = id_of("head"), id_of("own")
EPOCH = Epoch(3, HEAD, 7)


def parts(node_id: NodeId, other: NodeId) -> tuple[AntiEntropy, Ledger]:
    people = make_people((admitted("anna"), admitted("head"), admitted("own")))
    pool = Pool(Identity(node_id, node_id, 1), FACTS, 15_000, people)
    pool.on_up(MemberUp(other, other, 1, FACTS))
    ledger = make_ledger(people=people)
    return AntiEntropy(AntiEntropyConfig(), ledger, pool), ledger


def decided(job: Job) -> list[JobPatch]:
    attempts = [make_attempt(job, task) for task in range(job.spec.tasks)]
    return [task_patch(job, each.task, running(each)) for each in attempts]


@pytest.mark.parametrize("tasks_max", [20_000, 30])
def test_a_job_too_large_for_one_answer_arrives_over_several(
    monkeypatch: pytest.MonkeyPatch, tasks_max: int
) -> None:
    monkeypatch.setattr(module, "FRAMES_MAX", 3)
    monkeypatch.setattr(module, "FRAMES_TASKS_MAX", tasks_max)
    monkeypatch.setattr(ledger_module, "FRAME_BYTES_MAX", 2_000)
    jobs = [make_job(100, "large"), *(make_job(2, f"small{n}") for n in range(20))]
    follower, theirs = parts(OWN, HEAD)
    coordinator, known = parts(HEAD, OWN)
    coordinator.reign(EPOCH)
    theirs.merge([JobPatch(job.job_id, job) for job in jobs])
    theirs.merge([patch for job in jobs for patch in decided(job)])

    exchanges = 0
    while known.table.digest() != theirs.table.digest():
        exchanges += 1
        assert exchanges < 40, "an exchange makes progress"
        coordinator.exchange_with(OWN, exchanges)
        digests = known.table.digests(JobId(""), 1_000)
        posts = follower.on_digests(HEAD, Digests(EPOCH, JobId(""), JobId(""), digests))
        assert 0 < len(posts) <= 3
        for post in posts:
            assert isinstance(post, Post)
            assert isinstance(post.message, Patch)
            coordinator.on_answer(OWN, post.message, exchanges)
    assert exchanges > 1
