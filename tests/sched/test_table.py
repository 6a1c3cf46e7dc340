"""The laws of the job table over random patches, nonsense included; then what it answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rain.effects import Record
from rain.model import ENDS_PER_TASK_MAX, End, EndState, Job, JobId, Stage
from rain.sched import table as table_module
from rain.sched.messages import (
    PATCH_TASKS_MAX,
    AttemptEnd,
    Cell,
    JobPatch,
    TaskPatch,
)
from rain.sched.records import CancelRow, JobRow, TaskRow
from rain.sched.states import TaskState
from rain.sched.table import Table
from tests.sched.samples import (
    ANNA,
    BERT,
    FIRST,
    JOBS,
    SECOND,
    cancelled,
    make_attempt,
    make_cancel,
    make_job,
    make_table,
    over,
    patches,
    running,
    task_patch,
)

MANY = st.lists(patches(), max_size=5)
LAWS = settings(max_examples=30, deadline=None)
SUCCEEDED = End(EndState.SUCCEEDED, 0)
FAILED = End(EndState.FAILED, 1)
ALL = JobId("")


def table_of(*all_patches: JobPatch) -> Table:
    """One merge per patch."""
    table = make_table()
    for patch in all_patches:
        table.merge((patch,))
    table.check()
    return table


def contents(table: Table) -> list[JobPatch]:
    entries = table.digests(ALL, 1_000_000)
    return [patch for each in entries for patch in table.patches(each.job_id)]


def split(patch: JobPatch) -> list[JobPatch]:
    """The same knowledge in the smallest pieces."""
    if patch.forgotten:
        return [patch]
    pieces = [
        JobPatch(patch.job_id, patch.job),
        patch.head(),
    ]
    for part in patch.tasks:
        for task in range(part.first, part.last + 1):
            pieces.append(JobPatch(patch.job_id, tasks=(TaskPatch(task, task, part.cell),)))
            pieces.extend(
                JobPatch(patch.job_id, tasks=(TaskPatch(task, task, Cell(), (entry,)),))
                for entry in part.ends
            )
    return pieces


def job_patch(job: Job) -> JobPatch:
    return JobPatch(job.job_id, job)


def decided(job: Job, task: int, success: bool = True) -> JobPatch:
    attempt_id = make_attempt(job, task)
    end = SUCCEEDED if success else FAILED
    return task_patch(job, task, over(attempt_id, success), (attempt_id, end))


# --- Laws ----------------------------------------------------------------------------------------


@LAWS
@given(MANY, MANY)
def test_merging_is_commutative_and_idempotent(a: list[JobPatch], b: list[JobPatch]) -> None:
    one, other = table_of(*a, *b), table_of(*b, *a)
    assert contents(one) == contents(other)
    assert one.digest() == other.digest()
    assert one.jobs() == other.jobs()
    assert one.merge(contents(other)) == ()
    assert one.merge(patch for patch in a + b) == ()


@LAWS
@given(MANY, MANY, MANY)
def test_merging_tables_is_associative(
    a: list[JobPatch], b: list[JobPatch], c: list[JobPatch]
) -> None:
    left, right = table_of(*a, *contents(table_of(*b))), table_of(*b, *contents(table_of(*c)))
    left = table_of(*contents(left), *contents(table_of(*c)))
    right = table_of(*a, *contents(right))
    assert contents(left) == contents(right)
    assert left.digest() == right.digest()


@LAWS
@given(st.data(), MANY)
def test_order_number_and_pieces_do_not_matter(data: st.DataObject, whole: list[JobPatch]) -> None:
    sound = contents(table_of(*whole))
    pieces = [piece for patch in sound for piece in split(patch)]
    again = data.draw(st.permutations(pieces + pieces[::2]))
    table = table_of(*again)
    assert contents(table) == sound
    at_once = make_table()
    at_once.merge(again)
    at_once.check()
    assert contents(at_once) == sound


@LAWS
@given(MANY, MANY)
def test_digests_are_equal_exactly_if_contents_are(a: list[JobPatch], b: list[JobPatch]) -> None:
    one, other = table_of(*a), table_of(*b)
    assert (one.digest() == other.digest()) == (contents(one) == contents(other))
    for entry in (*one.digests(ALL, 1_000), *other.digests(ALL, 1_000)):
        is_equal = one.patches(entry.job_id) == other.patches(entry.job_id)
        assert (one.job_digest(entry.job_id) == other.job_digest(entry.job_id)) == is_equal


@LAWS
@given(MANY, MANY)
def test_news_makes_equal_copies_equal_and_is_all_news(
    a: list[JobPatch], b: list[JobPatch]
) -> None:
    one, copy = table_of(*a), table_of(*a)
    news = one.merge(b)
    one.check()
    for patch in news:
        assert table_of(*contents(copy)).merge((patch,)) == (patch,), "every patch is news"
    assert copy.merge(news) == news
    assert contents(copy) == contents(one)
    assert one.merge(news) == ()


@LAWS
@given(MANY)
def test_what_any_prefix_of_writes_recovers_is_known(whole: list[JobPatch]) -> None:
    table = make_table()
    writes: list[Record] = []
    for patch in whole:
        writes.extend(table.records(table.merge((patch,))))
    for kept in range(len(writes) + 1):
        disk = {row.key(): row for row in writes[:kept]}
        recovered = make_table(disk.values())
        recovered.check()
        assert table.merge(contents(recovered)) == ()
    assert contents(recovered) == contents(table)
    assert recovered.digest() == table.digest()


@LAWS
@given(MANY)
def test_what_is_kept_along_is_what_would_be_computed(whole: list[JobPatch]) -> None:
    table = table_of(*whole)
    for job_id in table.jobs():
        job = table.job(job_id)
        assert job is not None
        tasks = range(job.spec.tasks)
        still_open = [task for task in tasks if not table.is_task_over(job_id, task)]
        states = [table.state(job_id, task) for task in tasks]
        assert table.open_tasks(job_id) == still_open
        assert table.is_job_over(job_id) == (not still_open)
        assert table.state_counts(job_id) == [states.count(state) for state in TaskState]
        unsuccessful = [task for task in tasks if states[task] is not TaskState.SUCCEEDED]
        assert table.first_unsuccessful(job_id) == (unsuccessful[0] if unsuccessful else None)


# --- Growing -------------------------------------------------------------------------------------


def test_a_submitted_array_is_one_small_patch() -> None:
    job = make_job(100_000)
    table = table_of(job_patch(job))
    assert table.patch(job.job_id) == job_patch(job)
    assert table.records((job_patch(job),)) == (JobRow(job),)
    assert len(table.open_tasks(job.job_id)) == 100_000


def test_news_is_only_what_is_new() -> None:
    job = make_job(3)
    attempt_id = make_attempt(job, 1)
    placed = running(attempt_id, Stage.PLACED)
    table = make_table()
    known = JobPatch(job.job_id, job, tasks=(TaskPatch(1, 1, placed),))
    assert table.merge((known,)) == (known,)
    end = AttemptEnd(attempt_id, FAILED)
    cancel = make_cancel(job)
    more = JobPatch.of_parts(job.job_id, job, cancel, (TaskPatch(1, 1, placed, (end,)),))
    fresh = JobPatch.of_parts(job.job_id, None, cancel, (TaskPatch(1, 1, Cell(), (end,)),))
    assert table.merge((known, more, more)) == (fresh,)
    second = AttemptEnd(make_attempt(job, 1, 2), FAILED)
    both = JobPatch(job.job_id, tasks=(TaskPatch(1, 1, placed, (end, second)),))
    only_second = JobPatch(job.job_id, tasks=(TaskPatch(1, 1, Cell(), (second,)),))
    assert table.merge((both,)) == (only_second,)


def test_equal_cells_travel_as_ranges() -> None:
    job = make_job(10)
    pending = Cell(generation=2, epoch=FIRST)
    table = table_of(job_patch(job), decided(job, 4))
    news = table.merge((JobPatch(job.job_id, tasks=(TaskPatch(0, 9, pending),)),))
    parts = (TaskPatch(0, 3, pending), TaskPatch(5, 9, pending))
    assert news == (JobPatch(job.job_id, tasks=parts),)
    assert [(part.first, part.last) for part in table.patch(job.job_id).tasks] == [
        (0, 3),
        (4, 4),
        (5, 9),
    ]


def test_bulky_news_comes_in_patches_that_may_travel() -> None:
    job = make_job(PATCH_TASKS_MAX + 5)
    cells = [running(make_attempt(job, task)) for task in range(job.spec.tasks)]
    parts = tuple(TaskPatch(task, task, cell) for task, cell in enumerate(cells))
    table = table_of(job_patch(job))
    news = table.merge((JobPatch(job.job_id, tasks=parts),))
    assert [len(patch.tasks) for patch in news] == [PATCH_TASKS_MAX, 5]
    assert tuple(part for patch in news for part in patch.tasks) == parts


def test_a_decision_rises_or_the_table_says_so() -> None:
    job = make_job(2)
    attempt_id = make_attempt(job)
    table = table_of(job_patch(job))
    placed = running(attempt_id, Stage.PLACED)
    assert table.decide(job.job_id, 0, placed) == (task_patch(job, 0, placed),)
    with pytest.raises(AssertionError, match="rises"):
        table.decide(job.job_id, 0, placed)
    end = AttemptEnd(attempt_id, SUCCEEDED)
    assert table.decide(job.job_id, 0, over(attempt_id), (end,)) == (decided(job, 0),)
    with pytest.raises(AssertionError, match="committed success"):
        table.decide(job.job_id, 0, Cell(success=True, generation=9, attempt_id=attempt_id))
    with pytest.raises(AssertionError, match="known jobs"):
        table.decide(JOBS[0].job_id, 0, placed)


def test_no_later_outcome_changes_a_committed_success() -> None:
    job = make_job(1)
    table = table_of(job_patch(job), decided(job, 0))
    later = make_attempt(job, 0, 9, SECOND, BERT)
    table.merge(
        (
            task_patch(job, 0, over(later, success=False), (later, FAILED)),
            task_patch(job, 0, Cell(), (make_attempt(job), End(EndState.FAILED, 3))),
            cancelled(job, 5),
        )
    )
    assert table.cell(job.job_id, 0) == over(make_attempt(job))
    assert table.ends(job.job_id, 0) == {make_attempt(job): SUCCEEDED, later: FAILED}
    assert table.state(job.job_id, 0) is TaskState.SUCCEEDED


def test_a_retry_beats_a_cancel_of_what_came_before() -> None:
    job = make_job(2)
    table = table_of(job_patch(job), decided(job, 0), cancelled(job))
    assert table.cancelled(job.job_id)
    assert table.is_job_over(job.job_id)
    table.merge((task_patch(job, 0, Cell(generation=2, epoch=FIRST), last=1),))
    table.check()
    assert not table.cancelled(job.job_id)
    assert table.open_tasks(job.job_id) == [1], "a success needs no retry"
    assert table.generation(job.job_id) == 2
    table.merge((cancelled(job, 2),))
    assert table.cancelled(job.job_id)
    assert table.open_tasks(job.job_id) == []


def test_failures_are_the_task_s_own_doing() -> None:
    job = make_job(1)
    table = table_of(job_patch(job))
    for number, state in enumerate(EndState, start=1):
        table.merge((task_patch(job, 0, Cell(), (make_attempt(job, 0, number), End(state))),))
    assert table.failures(job.job_id, 0) == 3
    losses = [
        task_patch(job, 0, Cell(), (make_attempt(job, 0, number), End(EndState.LOST)))
        for number in range(10, 100)
    ]
    table.merge(losses)
    table.check()
    assert table.failures(job.job_id, 0) == 3
    assert len(table.ends(job.job_id, 0)) == ENDS_PER_TASK_MAX


def test_attempts_are_found_by_node_until_they_end() -> None:
    job = make_job(3)
    here = [make_attempt(job, task) for task in (2, 0)]
    there = make_attempt(job, 1, node=BERT)
    table = table_of(
        *(task_patch(job, attempt_id.task, running(attempt_id)) for attempt_id in (*here, there)),
        job_patch(job),
        cancelled(job),
    )
    assert table.attempts_on(ANNA) == tuple(sorted(here)), "a cancel stops nothing by itself"
    assert table.attempts_on(BERT) == (there,)
    table.merge((decided(job, 0), task_patch(job, 1, Cell(epoch=FIRST, turn=2))))
    table.check()
    assert table.attempts_on(ANNA) == (here[0],)
    assert table.attempts_on(BERT) == ()


# --- Nonsense ------------------------------------------------------------------------------------


def test_a_job_whose_id_is_not_its_hash_is_dropped() -> None:
    job, other = make_job(2, "a"), make_job(2, "b")
    forged = replace(other, job_id=job.job_id, signature=job.signature)
    table = make_table()
    assert (
        table.merge(
            (JobPatch.of_parts(job.job_id, forged, make_cancel(job)), JobPatch(job.job_id, other))
        )
        == ()
    )
    assert table.dropped == {"job_not_authentic": 2}
    assert contents(table) == []
    table.merge((job_patch(job),))
    assert table.merge((JobPatch.of_parts(job.job_id, forged, make_cancel(job)),)) == (), (
        "not the rest of it either"
    )
    assert table.dropped == {"job_not_authentic": 3}


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (TaskPatch(1, 0, Cell(generation=2)), "tasks_not_in_order"),
        (TaskPatch(0, 0, running(make_attempt(JOBS[0], 1))), "cell_not_sound"),
        (TaskPatch(0, 0, running(make_attempt(JOBS[1], 0))), "cell_not_sound"),
        (TaskPatch(0, 0, Cell(success=True)), "cell_not_sound"),
        (
            TaskPatch(0, 0, Cell(), (AttemptEnd(make_attempt(JOBS[0], 1), FAILED),)),
            "end_not_sound",
        ),
        (
            TaskPatch(0, 1, Cell(), (AttemptEnd(make_attempt(JOBS[0], 0), FAILED),)),
            "end_not_sound",
        ),
        (TaskPatch(3, 3, Cell(generation=2)), "task_beyond_spec"),
        (TaskPatch(99_999, 99_999, running(make_attempt(JOBS[0], 99_999))), "task_beyond_spec"),
    ],
)
def test_nonsense_is_dropped_and_counted(part: TaskPatch, reason: str) -> None:
    table = table_of(job_patch(JOBS[0]))
    assert table.merge((JobPatch(JOBS[0].job_id, tasks=(part,)),)) == ()
    assert table.dropped == {reason: 1}
    assert contents(table) == [job_patch(JOBS[0])]


def test_a_range_that_reaches_too_far_is_cut() -> None:
    job = make_job(3)
    table = table_of(job_patch(job))
    news = table.merge((task_patch(job, 1, Cell(generation=2), last=50),))
    assert news == (task_patch(job, 1, Cell(generation=2), last=2),)
    assert table.dropped == {"task_beyond_spec": 1}


def test_cells_may_come_before_the_spec() -> None:
    job = make_job(2)
    table = table_of(
        decided(job, 0),
        task_patch(job, 1, running(make_attempt(job, 1))),
        task_patch(job, 5, running(make_attempt(job, 5, node=BERT))),
    )
    assert table.jobs() == ()
    assert table.job(job.job_id) is None
    assert not table.is_job_over(job.job_id)
    assert [each.job_id for each in table.digests(ALL, 9)] == [job.job_id]
    assert table.merge((job_patch(job),)) == (job_patch(job),)
    table.check()
    assert table.jobs() == (job.job_id,)
    assert table.open_tasks(job.job_id) == [1]
    assert table.dropped == {"task_beyond_spec": 1}
    assert table.attempts_on(BERT) == (), "there is no task 5"


def test_what_the_spec_forbids_is_no_news_of_the_same_merge() -> None:
    job = make_job(2)
    stray = make_attempt(job, 5)
    table = make_table()
    news = table.merge((task_patch(job, 5, running(stray), (stray, FAILED)), job_patch(job)))
    assert news == (job_patch(job),)


def test_bounds_drop_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "JOBS_MAX", 2)
    monkeypatch.setattr(table_module, "UNKNOWN_JOBS_MAX", 1)
    a, b, c = JOBS
    table = table_of(*(task_patch(each, 0, Cell(generation=2)) for each in (a, b)))
    assert table.dropped == {"unknown_jobs_max": 1}
    table.merge((job_patch(b), job_patch(c), job_patch(a)))
    table.check()
    assert table.dropped == {"unknown_jobs_max": 1, "jobs_max": 1}
    assert table.jobs() == tuple(sorted((a.job_id, b.job_id)))


# --- Leaving -------------------------------------------------------------------------------------


def test_rows_hold_all_that_is_known() -> None:
    job = make_job(2)
    first, second = make_attempt(job), make_attempt(job, 0, 2)
    table = table_of(
        job_patch(job),
        task_patch(job, 0, Cell(), (first, FAILED)),
        cancelled(job, 3, 7),
    )
    news = table.merge((task_patch(job, 0, running(second), (second, FAILED)),))
    ends = (AttemptEnd(first, FAILED), AttemptEnd(second, FAILED))
    assert table.records(news) == (TaskRow(job.job_id, 0, running(second), ends),)
    everything = table.records((table.patch(job.job_id),))
    assert [row.key() for row in everything] == [
        f"job/{job.job_id}",
        f"cancel/{job.job_id}",
        f"task/{job.job_id}/0",
    ]
    assert everything[1] == CancelRow(job.job_id, *make_cancel(job, 3, 7))


def test_digests_come_in_pages() -> None:
    jobs = sorted(make_job(1, str(number)).job_id for number in range(5))
    table = table_of(*(job_patch(make_job(1, str(number))) for number in range(5)))
    first = table.digests(ALL, 3)
    assert [each.job_id for each in first] == jobs[:3]
    assert [each.job_id for each in table.digests(jobs[3], 9)] == jobs[3:]
    assert all(each.digest == table.job_digest(each.job_id) for each in first)
    assert table.job_digest(JobId("none")) == bytes(8)
    assert make_table().digest() == bytes(8)
