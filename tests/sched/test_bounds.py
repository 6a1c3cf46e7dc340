"""What one message may ask of a node, and how large whatever carries a job may become."""

import pytest
from msgspec.msgpack import Encoder
from msgspec.structs import replace

from rain.effects import Post, Received
from rain.mesh.codec import encode
from rain.mesh.frames import CONTENT_BYTES_MAX
from rain.model import (
    ENDS_PER_TASK_MAX,
    REASON_CHARS_MAX,
    AttemptId,
    End,
    EndState,
    Epoch,
    JobId,
    NodeId,
)
from rain.sched.identity import JOB_BYTES_MAX, oversize
from rain.sched.ledger import FRAME_BYTES_MAX, frames
from rain.sched.messages import (
    ORDERS_MAX,
    Accepted,
    Assign,
    AttemptEnd,
    Cell,
    JobPatch,
    Patch,
    Propose,
    Replicate,
    TaskPatch,
)
from rain.sched.soundness import NODE_ID_CHARS_MAX
from rain.sched.table import CHECK_TASKS_MAX
from tests.sched.samples import id_of, make_attempt, make_job, make_table, running, task_patch
from tests.sched.test_table import FAILED, contents, decided, job_patch, table_of
from tests.sched.wire import ADDRESS, Wire, job_of


def test_a_job_that_no_frame_could_carry_on_is_refused_by_the_coordinator() -> None:
    pool = Wire("a", "b")
    epoch = pool.reign("a", 1)
    large = job_of("b", environment=(("x", "y" * FRAME_BYTES_MAX),))
    half = [job_of("b", nonce=nonce, name="x" * 600_000) for nonce in (b"1", b"2")]
    for jobs in ([large], half):
        propose = Propose(9, tuple(JobPatch(job.job_id, job) for job in jobs))
        outputs = pool.feed(id_of("a"), Received(id_of("b"), propose, ADDRESS))
        refusal = Accepted(9, epoch, 0, "the jobs are larger than 1 MiB")
        assert outputs == [Post(id_of("b"), refusal)]
    assert pool.hosts[id_of("a")].core.table.jobs() == ()


def test_whatever_carries_a_job_fits_a_frame() -> None:
    job = job_of("b", name="x" * (JOB_BYTES_MAX - 300))
    assert oversize(job) == ""
    name = NodeId("n" * NODE_ID_CHARS_MAX)
    epoch = Epoch(2**62, name, 2**63)
    attempts = tuple(AttemptId(job.job_id, task, 2**62, epoch, name) for task in range(ORDERS_MAX))
    ends = tuple(
        AttemptEnd(attempt_id, End(EndState.FAILED, 1, "\N{SNOWMAN}" * REASON_CHARS_MAX))
        for attempt_id in attempts[:ENDS_PER_TASK_MAX]
    )
    cell = Cell(epoch=epoch, turn=2**62, attempt_id=attempts[0])
    patch = JobPatch(job.job_id, job, tasks=(TaskPatch(0, 0, cell, ends),))
    bound = CONTENT_BYTES_MAX // 4
    assert len(encode(Assign(epoch, 2**62, job, attempts))) < bound
    assert all(len(encode(Patch(epoch, frame))) < bound for frame in frames((patch, patch)))
    assert len(encode(Replicate(epoch, 2**62, (patch,)))) < bound


def test_a_small_message_of_very_many_tasks_is_dropped() -> None:
    pool = Wire("a", "b")
    epoch = pool.reign("a", 1)
    job = job_of("b", tasks=100_000, running_max=1)
    part = TaskPatch(0, 99_999, Cell(epoch=epoch, turn=1))
    patches = (JobPatch(job.job_id, job), *(JobPatch(job.job_id, tasks=(part,)),) * 900)
    core = pool.hosts[id_of("b")].core
    for message in (Patch(epoch, patches), Replicate(epoch, 7, patches)):
        assert pool.feed(id_of("b"), Received(id_of("a"), message, ADDRESS)) == []
    assert core.dropped == {"knowledge_of_too_many_tasks": 2}
    assert core.table.jobs() == ()


def test_a_job_that_no_order_could_carry_is_dropped() -> None:
    large = make_job(name="x" * JOB_BYTES_MAX)
    spare = len(Encoder().encode(large)) - JOB_BYTES_MAX
    fits = make_job(name="x" * (JOB_BYTES_MAX - spare))
    table = table_of(job_patch(large), JobPatch(fits.job_id, fits))
    assert table.jobs() == (fits.job_id,)
    assert table.dropped == {"job_too_large": 1}


@pytest.mark.parametrize(
    "parts",
    [
        (TaskPatch(0, 2, Cell(generation=2)), TaskPatch(2, 3, Cell(generation=3))),
        (TaskPatch(2, 2, Cell(generation=2)), TaskPatch(0, 0, Cell(generation=2))),
        (TaskPatch(0, 4, Cell(generation=2)),) * 10_000,
    ],
)
def test_a_patch_whose_tasks_do_not_ascend_is_dropped_whole(parts: tuple[TaskPatch, ...]) -> None:
    job = make_job(5)
    table = table_of(job_patch(job))
    assert table.merge((JobPatch(job.job_id, tasks=parts),)) == ()
    assert table.dropped == {"tasks_not_in_order": 1}


def test_wide_ranges_wait_for_the_spec() -> None:
    job = make_job(5_000)
    wide = task_patch(job, 0, Cell(generation=2), last=4_999)
    narrow = [task_patch(job, at, Cell(generation=2), last=at + 900) for at in (0, 901)]
    table = table_of(wide, *narrow)
    assert table.dropped == {"unknown_tasks_max": 2}
    assert len(table.decided_tasks(job.job_id)) == 901
    news = table.merge((replace(wide, job=job),))
    assert sum(patch.tasks_count() for patch in news) == 5_000 - 901
    assert len(table.decided_tasks(job.job_id)) == 5_000


def test_names_without_end_are_dropped() -> None:
    job = make_job(2)
    name = NodeId("n" * (NODE_ID_CHARS_MAX + 1))
    table = table_of(
        job_patch(job),
        task_patch(JobId("j" * 17), 0, Cell(generation=2)),
        task_patch(job, 0, running(make_attempt(job, node=name))),
        task_patch(job, 1, Cell(epoch=Epoch(1, name, 7), turn=1)),
        task_patch(job, 1, Cell(), (make_attempt(job, 1, node=name), FAILED)),
    )
    assert contents(table) == [job_patch(job)]
    assert table.dropped == {"job_not_authentic": 1, "cell_not_sound": 3}


def test_a_large_job_is_checked_so_many_tasks_at_a_time() -> None:
    job = make_job(3 * CHECK_TASKS_MAX)
    table = make_table()
    table.merge((job_patch(job),))
    table.merge(decided(job, task) for task in range(job.spec.tasks))
    table._known[job.job_id]._failures[job.spec.tasks - 1] = 9
    table.check()
    table.check()
    with pytest.raises(AssertionError, match=f"failures of task {job.spec.tasks - 1}"):
        table.check()


def test_a_small_job_is_checked_whole() -> None:
    job = make_job(3)
    table = table_of(job_patch(job), decided(job, 1))
    table.merge((decided(job, 0),))
    table._known[job.job_id]._failures[1] = 9
    with pytest.raises(AssertionError, match="failures of task 1"):
        table.check()
