"""Who may say what, told in whole pools: refused, counted, logged, and the pool works on."""

import pytest
from msgspec.structs import replace

from rain.effects import Answer, Barred, Log, Message, Post
from rain.model import AttemptId, End, EndState, Epoch, Job, Role, Stage
from rain.sched.messages import (
    Accepted,
    Assign,
    AttemptReport,
    Inventory,
    InventoryRequest,
    JobPatch,
    Patch,
    Propose,
    Replicate,
    Report,
    ReportAck,
    Stop,
)
from tests.sched.roles import A, B, C, W, bobs, dropped, logged, pool, said
from tests.sched.samples import (
    admitted,
    cancelled,
    id_of,
    make_cancel,
    task_patch,
)
from tests.sched.samples import running as running_cell
from tests.sched.wire import job_of

# --- Orders and reports --------------------------------------------------------------------------


def orders(epoch: Epoch, job: Job, node: AttemptId) -> tuple[Message, ...]:
    return (
        Assign(epoch, 99, job, (node,)),
        Stop(epoch, 99, (node,), "because"),
        ReportAck(epoch, (node,)),
        InventoryRequest(epoch, 99, 1),
    )


def test_orders_count_only_from_the_coordinator_that_is_followed() -> None:
    wire, epoch = pool()
    job = job_of("c", person="cleo")
    attempt_id = AttemptId(job.job_id, 0, 1, epoch, A)

    for message in orders(epoch, job, attempt_id):
        outputs = said(wire, "a", "c", message)
        assert all(isinstance(output, Log) for output in outputs)
    assert dropped(wire, "a", "order_not_by_the_coordinator") == 4

    own = Epoch(9, C, 7)
    for message in orders(own, job, attempt_id):
        assert said(wire, "a", "c", message) == []
    replicate = Replicate(epoch, 5, (JobPatch(job.job_id, job),))
    assert said(wire, "a", "c", replicate) == [
        logged("c", "Replicate", "knowledge_not_by_the_coordinator")
    ]
    assert said(wire, "a", "c", Replicate(own, 5, ())) == []
    assert wire.hosts[A].core.active_attempts() == ()
    assert wire.hosts[A].core.table.jobs() == ()


def test_a_result_counts_only_from_who_was_to_run_it() -> None:
    wire, epoch = pool()
    job = bobs(tasks=8)
    wire.submit("b", job)
    wire.run(500)
    table = wire.hosts[B].core.table
    (victim, *_) = table.attempts_on(W)
    end = End(EndState.SUCCEEDED, 0)

    forged = Report(epoch, (AttemptReport(victim, Stage.ENDED, 0, end),))
    assert said(wire, "b", "c", forged) == [logged("c", "Report", "not_its_attempt")]

    assert not table.cell(job.job_id, victim.task).success
    assert table.ends(job.job_id, victim.task) == {}


def test_an_inventory_speaks_of_its_own_node_only() -> None:
    wire, _ = pool()
    job = bobs(tasks=8)
    wire.submit("b", job)
    wire.run(500)
    (victim, *_) = wire.hosts[B].core.table.attempts_on(W)
    wire.lost = lambda sender, _to, message: sender == A and isinstance(message, Inventory)
    epoch = wire.reign("b", 2)
    end = End(EndState.SUCCEEDED, 0)
    theirs = (AttemptReport(victim, Stage.ENDED, 0, end),)

    outputs = said(wire, "b", "a", Inventory(epoch, 99, True, theirs))

    assert logged("a", "Inventory", "not_its_attempt") in outputs
    wire.run(500)
    table = wire.hosts[B].core.table
    assert not table.cell(job.job_id, victim.task).success
    assert victim in table.attempts_on(W)


def test_a_stranger_is_not_heard_at_all() -> None:
    wire, epoch = pool()
    job = job_of("x")
    attempt_id = AttemptId(job.job_id, 0, 1, epoch, id_of("x"))
    for message in (
        Propose(1, (JobPatch(job.job_id, job),)),
        Report(epoch, (AttemptReport(attempt_id, Stage.RUNNING),)),
        Patch(epoch, (JobPatch(job.job_id, job),), ()),
    ):
        outputs = said(wire, "b", "x", message)
        assert all(isinstance(output, Log) for output in outputs)
    assert dropped(wire, "b", "sender_not_in_the_pool") == 3
    assert wire.hosts[B].core.table.jobs() == ()


# --- Submitting and cancelling -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "error", "reason"),
    [
        (
            job_of("a", person="ann"),
            "a job is submitted by the PC that signed it",
            "job_of_another_node",
        ),
        (
            job_of("c", person="ann"),
            "this PC is cleo's: what is submitted on it cannot be ann's",
            "job_of_another_person",
        ),
    ],
)
def test_nobody_submits_in_the_name_of_another(job: Job, error: str, reason: str) -> None:
    wire, epoch = pool()
    assert said(wire, "b", "c", Propose(7, (JobPatch(job.job_id, job),))) == [
        Post(C, Accepted(7, epoch, 0, error)),
        logged("c", "Propose", reason),
    ]
    assert wire.hosts[B].core.table.jobs() == ()


def test_a_forged_job_is_dropped_without_a_word() -> None:
    wire, _ = pool()
    job = replace(job_of("c", person="cleo"), signature=bytes(64))
    outputs = said(wire, "b", "c", Propose(7, (JobPatch(job.job_id, job),)))
    assert outputs == [logged("c", "Propose", "job_not_authentic")]
    assert wire.hosts[B].core.table.jobs() == ()


def test_nobody_brings_jobs_in_the_name_of_another_by_patch() -> None:
    """Neither by a key that was drawn for it, nor by that of a PC of their own."""
    wire, epoch = pool()
    for job, reason in (
        (job_of("thrown_away", person="bob"), "job_by_unknown"),
        (job_of("c", person="bob"), "job_not_allowed"),
        (job_of("w", person="will"), "job_not_allowed"),
    ):
        patch = Patch(epoch, (JobPatch(job.job_id, job),), ())
        times = dropped(wire, "b", reason) + 1
        told = [logged("c", "Patch", reason, times)] if times < 3 else []
        assert said(wire, "b", "c", patch) == told
    wire.run(1_000)
    assert wire.hosts[B].core.table.jobs() == ()


def test_a_patch_that_was_not_asked_for_is_dropped() -> None:
    wire, epoch = pool()
    job = job_of("c", person="cleo")
    for number in range(20):
        said(wire, "b", "c", Patch(epoch, ()))
        assert wire.hosts[B].core.table.jobs() == (), number
    before = dropped(wire, "b", "knowledge_unasked")
    assert before > 0, "a takeover asks everybody, for so many"

    assert said(wire, "b", "c", Patch(epoch, (JobPatch(job.job_id, job),))) == []

    assert dropped(wire, "b", "knowledge_unasked") == before + 1
    assert wire.hosts[B].core.table.jobs() == ()


def test_a_newcomer_gets_jobs_of_a_pc_that_is_another_person_s_now() -> None:
    wire, _ = pool("b", "c", "a")
    job = job_of("c", person="cleo")
    wire.lost = lambda _from, to, _message: to == A
    wire.submit("c", job)
    wire.tell(admitted("c", Role.MEMBER, "dora"))
    wire.lost = lambda _from, _to, _message: False

    wire.run(3_000)

    assert wire.are_equal()
    assert wire.hosts[A].core.table.job(job.job_id) == job


def test_a_known_job_is_accepted_again_from_a_pc_that_is_another_person_s_now() -> None:
    wire, _ = pool()
    job = job_of("c", person="cleo")
    wire.submit("c", job)
    wire.tell(admitted("c", Role.MEMBER, "dora"))

    said(wire, "b", "c", Propose(7, (JobPatch(job.job_id, job),)))
    wire.settle()

    assert "b>c Accepted" in wire.told()
    assert dropped(wire, "b", "job_of_another_person") == 0


def test_a_person_cancels_their_job_from_another_of_their_pcs() -> None:
    wire, _ = pool()
    wire.tell(admitted("a", Role.MEMBER, "cleo"))
    job = job_of("c", person="cleo", tasks=4)
    wire.submit("c", job)
    wire.run(500)

    wire.cancel("a", job)
    wire.run(500)

    assert wire.hosts[A].answers == [Answer(2, 3)]
    assert sum(wire.running().values()) == 0
    assert wire.hosts[B].core.table.cancel_of(job.job_id) == make_cancel(job, by="a")


def test_an_admin_cancels_any_job_and_others_do_not() -> None:
    wire, epoch = pool()
    job = bobs()
    wire.submit("b", job)
    wire.run(500)

    wire.cancel("c", job)
    refusal = f"job {job.job_id} is bob's: only they or an admin may cancel it"
    assert wire.hosts[C].answers == [Answer(2, 0, refusal)]
    forged = Propose(8, (cancelled(job, by="c"),))
    assert said(wire, "b", "c", forged) == [
        Post(C, Accepted(8, epoch, 0, refusal)),
        logged("c", "Propose", "cancel_not_allowed"),
    ]
    assert not wire.hosts[B].core.table.cancelled(job.job_id)

    wire.cancel("a", job)
    assert wire.hosts[A].answers == [Answer(2, 3)]
    assert wire.hosts[B].core.table.cancelled(job.job_id)


def test_a_cancel_that_comes_by_anti_entropy_is_judged_too() -> None:
    wire, epoch = pool()
    job = bobs()
    wire.submit("b", job)
    for cancel in (
        make_cancel(job, by="c"),
        make_cancel(job, by="b")._replace(cancelled_through=9),
    ):
        patch = JobPatch.of_parts(job.job_id, cancel=cancel)
        said(wire, "b", "c", Patch(epoch, (patch,), ()))
        assert not wire.hosts[B].core.table.cancelled(job.job_id)
        said(wire, "a", "b", Patch(epoch, (patch,), ()))
        assert not wire.hosts[A].core.table.cancelled(job.job_id)
    assert dropped(wire, "b", "cancel_not_allowed") == 1
    assert dropped(wire, "a", "cancel_not_authentic") == 1


def test_a_cancel_of_a_job_that_the_coordinator_lacks_waits_for_it() -> None:
    wire, epoch = pool()
    job = job_of("c", person="cleo")
    propose = Propose(8, (cancelled(job, by="c"),))
    assert said(wire, "b", "c", propose) == []
    assert dropped(wire, "b", "cancel_of_unknown_job") == 1

    said(wire, "b", "c", Patch(epoch, (JobPatch(job.job_id, job),), ()))
    said(wire, "b", "c", propose)
    wire.run(1_000)

    assert wire.hosts[B].core.table.cancelled(job.job_id)
    assert "b>c Accepted" in wire.told()


def test_a_holder_that_lacks_the_job_of_a_cancel_gets_it() -> None:
    """It cannot promise to keep what it cannot judge; an exchange brings the job."""
    wire, _ = pool("b", "c", "a")
    job = bobs()
    wire.lost = lambda _from, to, _message: to == A
    wire.submit("b", job)
    wire.run(1_000)
    wire.lost = lambda _from, to, message: to == A and isinstance(message, Patch)
    wire.cancel("b", job)
    wire.run(300)
    wire.lost = lambda _from, _to, _message: False

    wire.run(3_000)

    assert wire.hosts[A].core.table.cancelled(job.job_id)
    assert wire.are_equal()


# --- Removed -------------------------------------------------------------------------------------


def test_what_a_removed_node_ran_goes_elsewhere_and_its_jobs_go_on() -> None:
    wire, epoch = pool()
    job = job_of("c", person="cleo", tasks=6)
    wire.submit("c", job)
    wire.run(500)
    table = wire.hosts[B].core.table
    lost = table.attempts_on(C)
    assert lost
    wire.told()

    wire.kill("c")
    wire.tell(Barred(C))
    wire.run(1_000)

    for attempt_id in lost:
        end = table.ends(job.job_id, attempt_id.task)[attempt_id]
        assert (end.state, end.reason) == (EndState.LOST, "node removed")
    assert table.attempts_on(C) == ()
    assert len(table.open_tasks(job.job_id)) == 6
    assert wire.running() == {"a": 2, "b": 2, "c": 1, "w": 2}, "that of c is its own affair"
    assert not [line for line in wire.told() if line.startswith("b>c")]
    assert said(wire, "b", "c", Report(epoch, ())) == [
        logged("c", "Report", "sender_not_in_the_pool")
    ]
    wire.submit("b", bobs())
    assert wire.hosts[B].answers == [Answer(1, 2)], "its copy does not count"

    wire.cancel("a", job)
    wire.run(500)
    assert table.is_job_over(job.job_id)


def test_a_new_reign_knows_what_a_removed_node_can_no_longer_run() -> None:
    wire, _ = pool()
    job = job_of("c", person="cleo", tasks=8)
    wire.submit("c", job)
    wire.run(500)
    wire.kill("c")
    wire.roll[C] = Barred(C)
    wire.restart("a")
    for node_id in (B, W):
        wire.feed(node_id, Barred(C))

    wire.reign("a", 2)
    wire.run(1_000)

    assert wire.hosts[A].core.table.attempts_on(C) == ()


def test_a_removed_node_may_be_let_in_again() -> None:
    wire, _ = pool()
    wire.tell(Barred(C))
    wire.tell(admitted("c", Role.MEMBER, "cleo"))
    wire.submit("c", job_of("c", person="cleo", tasks=8))
    wire.run(1_500)
    assert wire.running() == {"a": 2, "b": 2, "c": 2, "w": 2}


def test_members_are_trusted_for_decisions() -> None:
    """Any of them may come to coordinate, so whatever cell one brings is merged as before."""
    wire, epoch = pool()
    job = bobs()
    wire.submit("b", job)
    later = AttemptId(job.job_id, 0, 7, epoch, C)
    said(wire, "b", "a", Patch(epoch, (task_patch(job, 0, running_cell(later)),), ()))
    cell = wire.hosts[B].core.table.cell(job.job_id, 0)
    assert cell.turn >= 7
