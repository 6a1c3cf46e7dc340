"""Jobs, attempts and patches to try the job table with; `patches` draws nonsense too."""

from hypothesis import strategies as st

from rain.model import (
    AttemptId,
    End,
    EndState,
    Epoch,
    Job,
    JobId,
    JobSpec,
    NodeId,
    Stage,
)
from rain.sched.identity import job_id_of
from rain.sched.messages import AttemptEnd, Cell, JobPatch, TaskPatch

ANNA = NodeId("anna")
BERT = NodeId("bert")
FIRST = Epoch(1, ANNA, 7)
SECOND = Epoch(2, BERT, 3)
RIVAL = Epoch(2, ANNA, 9)


def make_job(tasks: int = 1, name: str = "", created_unix_ms: int = 1_000) -> Job:
    spec = JobSpec(("true",), name=name, tasks=tasks, is_array=tasks > 1)
    nonce = b"0123456789abcdef"
    job_id = job_id_of(spec, "pc1", ANNA, created_unix_ms, nonce)
    return Job(job_id, spec, "pc1", ANNA, created_unix_ms, nonce)


def make_attempt(
    job: Job | JobId, task: int = 0, number: int = 1, epoch: Epoch = FIRST, node: NodeId = ANNA
) -> AttemptId:
    job_id = job.job_id if isinstance(job, Job) else job
    return AttemptId(job_id, task, number, epoch, node)


def running(attempt_id: AttemptId, stage: Stage = Stage.RUNNING) -> Cell:
    return Cell(epoch=attempt_id.epoch, turn=attempt_id.number, stage=stage, attempt_id=attempt_id)


def over(attempt_id: AttemptId, success: bool = True) -> Cell:
    return Cell(
        success=success,
        final=True,
        epoch=attempt_id.epoch,
        turn=attempt_id.number + 1,
        stage=Stage.ENDED,
        attempt_id=attempt_id,
    )


def task_patch(
    job: Job, task: int, cell: Cell, *ends: tuple[AttemptId, End], last: int | None = None
) -> JobPatch:
    entries = tuple(AttemptEnd(attempt_id, end) for attempt_id, end in ends)
    part = TaskPatch(task, task if last is None else last, cell, entries)
    return JobPatch(job.job_id, tasks=(part,))


# --- Drawn ---------------------------------------------------------------------------------------

JOBS = (make_job(3, "a"), make_job(1, "b"), make_job(5, "c"))
_IDS = st.sampled_from([job.job_id for job in JOBS])
_EPOCHS = st.sampled_from([FIRST, SECOND, RIVAL])
_NODES = st.sampled_from([ANNA, BERT])
TASKS_DRAWN = 6
"""More than any of the jobs has: some patches are of tasks that do not exist."""


@st.composite
def ends(draw: st.DrawFn) -> End:
    return End(
        draw(st.sampled_from(EndState)),
        draw(st.integers(-1, 2)),
        draw(st.sampled_from(["", "why"])),
        0,
        draw(st.integers(0, 2)),
    )


@st.composite
def attempts(draw: st.DrawFn, job_id: JobId, task: int) -> AttemptId:
    return AttemptId(job_id, task, draw(st.integers(1, 3)), draw(_EPOCHS), draw(_NODES))


@st.composite
def cells(draw: st.DrawFn, job_id: JobId, task: int) -> Cell:
    return Cell(
        success=draw(st.booleans()),
        generation=draw(st.integers(0, 3)),
        final=draw(st.booleans()),
        epoch=draw(st.none() | _EPOCHS),
        turn=draw(st.integers(0, 3)),
        stage=draw(st.sampled_from(Stage)),
        attempt_id=draw(st.none() | attempts(job_id, task)),
    )


@st.composite
def task_patches(draw: st.DrawFn, job_id: JobId) -> TaskPatch:
    first = draw(st.integers(0, TASKS_DRAWN - 1))
    if draw(st.integers(0, 3)) == 0:
        last = draw(st.integers(0, TASKS_DRAWN - 1))
        cell = Cell(
            generation=draw(st.integers(1, 3)),
            final=draw(st.booleans()),
            epoch=draw(_EPOCHS),
            turn=draw(st.integers(0, 3)),
        )
        return TaskPatch(first, last, cell)
    of = job_id if draw(st.integers(0, 9)) else draw(_IDS)
    entries = draw(st.lists(st.tuples(attempts(of, first), ends()), max_size=3))
    rows = tuple(AttemptEnd(attempt_id, end) for attempt_id, end in entries)
    return TaskPatch(first, first, draw(cells(of, first)), rows)


def _ascending(tasks: tuple[TaskPatch, ...]) -> tuple[TaskPatch, ...]:
    """Those of them that one patch may hold together."""
    kept: list[TaskPatch] = []
    for part in sorted(tasks, key=lambda part: part.first):
        if not kept or kept[-1].last < part.first:
            kept.append(part)
    return tuple(kept)


@st.composite
def patches(draw: st.DrawFn) -> JobPatch:
    """Partial knowledge of one of JOBS; the spec may be missing, or be that of another job."""
    job = draw(st.sampled_from(JOBS))
    shown = draw(st.sampled_from([None, job, job, JOBS[0]]))
    tasks = tuple(draw(st.lists(task_patches(job.job_id), max_size=4)))
    if draw(st.integers(0, 9)):
        tasks = _ascending(tasks)
    cancel = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    return JobPatch(job.job_id, shown, cancel[0], tasks, cancel[1])
