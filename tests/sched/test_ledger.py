"""What is written anew after a time in which writes failed."""

from rain.model import AttemptId, Epoch, JobId, Stage
from rain.sched.ledger import (
    FRAME_BYTES_MAX,
    are_too_many,
    frames,
    gathered,
    patch_bytes,
)
from rain.sched.messages import (
    PATCH_TASKS_MAX,
    PATCHES_MAX,
    Cell,
    JobPatch,
    Replicate,
    TaskPatch,
)
from rain.sched.replication import hold
from tests.sched.samples import (
    id_of,
    make_attempt,
    make_cancel,
    make_job,
    make_ledger,
    make_table,
    running,
    task_patch,
)
from tests.sched.wire import job_of

EPOCH = Epoch(1, id_of("a"), 7)


def test_everything_is_written_anew_also_of_jobs_whose_spec_is_unknown() -> None:
    ledger = make_ledger()
    job, unknown = job_of("a"), job_of("b").job_id
    attempt_id = AttemptId(unknown, 0, 1, EPOCH, id_of("a"))
    cell = Cell(epoch=EPOCH, turn=1, stage=Stage.PLACED, attempt_id=attempt_id)
    ledger.merge(
        (
            JobPatch(job.job_id, job),
            JobPatch(unknown, tasks=(TaskPatch(0, 0, cell),)),
        )
    )

    rows = [row for write in ledger.rewrite() for row in write.puts]

    assert make_table(rows).digest() == ledger.table.digest()


def test_gathered_news_keeps_the_larger_cancel() -> None:
    job_id = JobId("j")
    cancels = [make_cancel(job_id, *parts) for parts in ((1, 9), (2, 3), (2, 1))]
    news = [JobPatch.of_parts(job_id, cancel=cancel) for cancel in cancels]
    (patch,) = gathered(news)
    assert patch.cancel() == cancels[1]


def test_the_tasks_of_gathered_news_ascend_in_every_patch() -> None:
    job = make_job(9)
    cells = [Cell(epoch=EPOCH, turn=turn) for turn in range(1, 5)]
    news = [
        JobPatch(job.job_id, job),
        task_patch(job, 4, cells[0]),
        task_patch(job, 0, cells[1], last=8),
        task_patch(job, 2, cells[2], last=3),
        task_patch(job, 5, cells[2]),
        task_patch(job, 2, cells[3]),
    ]

    patches = gathered(news)

    assert [[(part.first, part.last) for part in patch.tasks] for patch in patches] == [
        [(0, 8)],
        [(2, 3), (5, 5)],
        [(2, 2), (4, 4)],
    ]
    assert [patch.job for patch in patches] == [job, None, None]
    one, other = make_table(), make_table()
    one.merge(news)
    other.merge(patches)
    assert one.digest() == other.digest()
    assert other.dropped == {}


def test_a_frame_speaks_of_no_more_tasks_than_a_node_takes_at_once() -> None:
    cell = Cell(epoch=EPOCH, turn=1)
    jobs = [make_job(60_000, str(number)) for number in range(3)]
    patches = [task_patch(job, 0, cell, last=59_999) for job in jobs]
    assert are_too_many(patches)
    assert list(frames(patches)) == [(patch,) for patch in patches]
    assert list(frames(head.head() for head in patches)) == [tuple(p.head() for p in patches)]


def test_no_frame_holds_more_patches_tasks_or_bytes_than_may_travel() -> None:
    job = make_job(2 * PATCH_TASKS_MAX + 2)
    cells = [running(make_attempt(job, task)) for task in range(job.spec.tasks)]
    parts = tuple(TaskPatch(task, task, cell) for task, cell in enumerate(cells))
    heads = [JobPatch(each.job_id, each) for each in map(make_job, range(1, PATCHES_MAX + 2))]
    cut = list(frames([JobPatch(job.job_id, job, tasks=parts), *heads]))
    assert all(len(frame) <= PATCHES_MAX for frame in cut)
    assert all(len(patch.tasks) <= PATCH_TASKS_MAX for frame in cut for patch in frame)
    assert all(sum(map(patch_bytes, frame)) <= FRAME_BYTES_MAX for frame in cut)
    assert tuple(part for frame in cut for patch in frame for part in patch.tasks) == parts


def test_what_is_refused_is_not_said_to_be_on_disk() -> None:
    ledger = make_ledger()
    job = make_job(3)
    ledger.merge((JobPatch(job.job_id, job),))
    cell = Cell(epoch=EPOCH, turn=1)
    twice = JobPatch(job.job_id, tasks=(TaskPatch(0, 2, cell), TaskPatch(0, 2, cell)))
    assert hold(ledger, EPOCH.node_id, Replicate(EPOCH, 1, (twice,))) == []
    assert list(ledger.known_part((twice,))) == []
