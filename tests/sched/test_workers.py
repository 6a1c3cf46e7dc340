"""A worker lends its machine, and neither knows nor decides anything."""

from rain.effects import Answer, Message, Post
from rain.model import AttemptId, Role
from rain.sched.messages import (
    Accepted,
    Assign,
    Digests,
    InventoryRequest,
    JobPatch,
    Patch,
    Propose,
    Replicate,
    Replicated,
    ReportAck,
    Stop,
)
from rain.sched.states import TaskState
from tests.sched.roles import B, C, W, bobs, dropped, logged, pool, said
from tests.sched.samples import (
    admitted,
)
from tests.sched.wire import job_of


def test_a_worker_runs_tasks_and_keeps_no_copies() -> None:
    wire, _ = pool()
    wire.submit("b", bobs(tasks=8))
    wire.run(1_000)

    assert wire.hosts[B].answers == [Answer(1, 3)]
    assert wire.running() == {"a": 2, "b": 2, "c": 2, "w": 2}
    told = {line for line in wire.told() if line.startswith("b>w")}
    assert told == {"b>w Assign"}
    assert [key for key in wire.hosts[W].disk if key.startswith("task/")] == []


def test_with_workers_only_one_disk_is_all_there_is() -> None:
    wire, _ = pool("b", "w")
    wire.submit("b", bobs())
    assert wire.hosts[B].answers == [Answer(1, 1)]


def test_a_worker_forgets_a_job_with_its_last_attempt() -> None:
    wire, _ = pool("b", "w")
    job = bobs(tasks=4, secrets=(("key", b"hidden"),))
    wire.submit("b", job)
    wire.run(500)
    assert wire.running() == {"b": 2, "w": 2}
    wire.exit("w")
    wire.run(1_200)
    assert f"job/{job.job_id}" in wire.hosts[W].disk, "another attempt of it runs"

    wire.exit("w")
    wire.run(2_000)

    assert wire.hosts[W].disk == {}
    assert wire.hosts[W].core.table.jobs() == ()
    assert wire.hosts[B].core.table.state_counts(job.job_id)[TaskState.SUCCEEDED] == 2
    again = bobs(tasks=4, nonce=b"2")
    wire.submit("b", again)
    wire.run(500)
    assert wire.running() == {"b": 2, "w": 2}


def test_a_worker_that_restarts_goes_on_with_what_runs() -> None:
    wire, _ = pool("b", "w")
    wire.submit("b", bobs(tasks=4))
    wire.run(500)

    wire.restart("w")
    wire.run(500)
    wire.exit("w", count=2)
    wire.run(2_500)

    assert wire.hosts[W].disk == {}
    assert wire.running()["w"] == 0


def test_who_becomes_a_worker_forgets_the_table_and_gets_it_again_as_a_member() -> None:
    wire, _ = pool()
    wire.submit("c", job_of("c", person="cleo", tasks=9))
    wire.run(1_000)
    assert wire.are_equal() is False
    mine = [a for a in wire.hosts[C].core.active_attempts()]

    wire.tell(admitted("c", Role.WORKER, "cleo"))
    wire.submit("b", *(bobs(nonce=bytes([n])) for n in range(5)))
    wire.run(1_000)
    assert wire.hosts[C].core.table.jobs() == (mine[0].job_id,)
    wire.submit("c", job_of("c", person="cleo", nonce=b"2"))
    refusal = "this PC may lend work but not submit: its role is worker"
    assert wire.hosts[C].answers[-1] == Answer(1, 0, refusal)

    wire.tell(admitted("c", Role.MEMBER, "cleo"))
    wire.run(3_000)
    assert len(wire.hosts[C].core.table.jobs()) == 6


def test_a_takeover_hears_what_a_worker_runs() -> None:
    wire, _ = pool()
    wire.submit("c", job_of("c", person="cleo", tasks=8))
    wire.run(500)
    wire.kill("b")
    wire.told()

    wire.reign("c", 2)
    assert "c>w Digests" not in wire.told()
    wire.bury("b")
    wire.run(1_000)

    assert wire.running() == {"a": 2, "b": 2, "c": 2, "w": 2}
    table = wire.hosts[C].core.table
    assert len(table.attempts_on(W)) == 2
    assert {a.epoch.number for a in table.attempts_on(W)} == {1}, "adopted, not started anew"


def test_what_a_worker_may_not_say_has_no_effect() -> None:
    wire, epoch = pool()
    job = job_of("w", person="will")
    patch = JobPatch(job.job_id, job)
    before = wire.hosts[B].core.table.digest()
    messages: tuple[Message, ...] = (
        Replicate(epoch, 1, (patch,)),
        Replicated(epoch, 1),
        Patch(epoch, (patch,), ()),
        Digests(epoch, job.job_id, job.job_id, ()),
        Accepted(1, epoch, 3),
        Assign(epoch, 1, job, (AttemptId(job.job_id, 0, 1, epoch, B),)),
        Stop(epoch, 1, (), ""),
        ReportAck(epoch, ()),
        InventoryRequest(epoch, 1, 1),
    )
    for times, message in enumerate(messages, start=1):
        expected = []
        if times in (1, 2, 4, 8):
            expected = [logged("w", type(message).__name__, "beyond_its_role", times)]
        assert said(wire, "b", "w", message) == expected

    assert dropped(wire, "b", "beyond_its_role") == len(messages)
    assert wire.hosts[B].core.table.digest() == before


def test_a_worker_that_proposes_is_told_why_not() -> None:
    wire, epoch = pool()
    job = job_of("w", person="will")
    refusal = "this PC may lend work but not submit: its role is worker"

    assert said(wire, "b", "w", Propose(7, (JobPatch(job.job_id, job),))) == [
        Post(W, Accepted(7, epoch, 0, refusal)),
        logged("w", "Propose", "proposal_by_worker"),
    ]
    assert wire.hosts[B].core.table.jobs() == ()


def test_a_worker_takes_no_copies_from_anybody() -> None:
    wire, epoch = pool()
    job = bobs()
    for message in (
        Replicate(epoch, 1, (JobPatch(job.job_id, job),)),
        Patch(epoch, (JobPatch(job.job_id, job),), ()),
        Digests(epoch, job.job_id, job.job_id, ()),
    ):
        assert said(wire, "w", "b", message) == []
    assert dropped(wire, "w", "a_worker_keeps_no_copies") == 3
    assert wire.hosts[W].core.table.jobs() == ()


def test_a_worker_s_digest_is_ignored() -> None:
    wire, _ = pool()
    wire.submit("w")
    wire.submit("b", bobs())
    wire.run(3_000)
    assert not [line for line in wire.told() if line.startswith("b>w") and "Assign" not in line]
