"""Keys, jobs, attempts and patches to try the job table with; `patches` draws nonsense too."""

from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from itertools import count

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import strategies as st

from rain.claims import node_id_of
from rain.effects import Admitted, Record
from rain.model import (
    AttemptId,
    End,
    EndState,
    Epoch,
    Job,
    JobId,
    JobSpec,
    NodeId,
    Role,
    Stage,
)
from rain.sched.identity import signed_cancel, signed_job
from rain.sched.ledger import Ledger
from rain.sched.messages import NOT_CANCELLED, AttemptEnd, Cancel, Cell, JobPatch, TaskPatch
from rain.sched.people import People
from rain.sched.table import Table
from rain.sched.warrants import Warrants


class Key:
    """Of one node; nodes are ordered as their names are, if these begin differently."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.public_key = private_key.public_key().public_bytes_raw()
        self.node_id = node_id_of(self.public_key)

    def sign(self, content: bytes) -> bytes:
        return self._private_key.sign(content)


@cache
def key_of(name: str) -> Key:
    """Always the same one; the id begins as the name does."""
    for number in count():
        seed = sha256(f"{name} {number}".encode()).digest()
        key = Key(Ed25519PrivateKey.from_private_bytes(seed))
        if key.node_id.startswith(name[0]):
            return key
    raise AssertionError("one in 32 does")


def id_of(name: str) -> NodeId:
    return key_of(name).node_id


def verify(public_key: bytes, signature: bytes, content: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def admitted(name: str, role: Role = Role.MEMBER, person: str = "") -> Admitted:
    """For the person of that name, unless another is given."""
    return Admitted(id_of(name), name, role, person or name, key_of(name).public_key)


ROLL = (admitted("anna"), admitted("bert"), admitted("carl", Role.ADMIN))
"""Anna's jobs may be cancelled by herself and by Carl."""
OWNER = "ann"
"""Whose PCs they are where that does not matter."""
ANNS = tuple(admitted(name, person=OWNER) for name in ("a", "b", "c", "d", "head"))


def make_people(roll: Iterable[Admitted] = (*ROLL, *ANNS)) -> People:
    people = People()
    for notice in roll:
        people.admit(notice)
    return people


def make_warrants(people: People | None = None) -> Warrants:
    return Warrants(verify, make_people() if people is None else people)


def make_table(recovered: Iterable[Record] = (), people: People | None = None) -> Table:
    return Table(recovered, make_warrants(people))


def make_ledger(recovered: Iterable[Record] = (), people: People | None = None) -> Ledger:
    return Ledger(recovered, make_warrants(people))


ANNA = id_of("anna")
BERT = id_of("bert")
FIRST = Epoch(1, ANNA, 7)
SECOND = Epoch(2, BERT, 3)
RIVAL = Epoch(2, ANNA, 9)


def make_job(tasks: int = 1, name: str = "", created_unix_ms: int = 1_000) -> Job:
    """Anna's."""
    return job_with(JobSpec(("true",), name=name, tasks=tasks, is_array=tasks > 1), created_unix_ms)


def job_with(spec: JobSpec, created_unix_ms: int = 1_000) -> Job:
    key, nonce = key_of("anna"), b"0123456789abcdef"
    return signed_job(spec, "pc1", created_unix_ms, nonce, "anna", key.public_key, key.sign)


def make_cancel(
    job: Job | JobId, through: int = 1, at_unix_ms: int = 0, by: str = "anna"
) -> Cancel:
    job_id = job.job_id if isinstance(job, Job) else job
    return signed_cancel(job_id, through, at_unix_ms, key_of(by).public_key, key_of(by).sign)


def cancelled(
    job: Job | JobId, through: int = 1, at_unix_ms: int = 0, by: str = "anna"
) -> JobPatch:
    """A cancel, as it travels."""
    job_id = job.job_id if isinstance(job, Job) else job
    return JobPatch.of_parts(job_id, cancel=make_cancel(job_id, through, at_unix_ms, by))


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
    job: Job | JobId, task: int, cell: Cell, *ends: tuple[AttemptId, End], last: int | None = None
) -> JobPatch:
    entries = tuple(AttemptEnd(attempt_id, end) for attempt_id, end in ends)
    part = TaskPatch(task, task if last is None else last, cell, entries)
    return JobPatch(job.job_id if isinstance(job, Job) else job, tasks=(part,))


def forgotten(job: Job | JobId, day: int) -> JobPatch:
    """A tombstone; with HORIZON the horizon."""
    return JobPatch(job.job_id if isinstance(job, Job) else job, forgotten=day)


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
        draw(st.booleans()),
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
def cancels(draw: st.DrawFn, job: Job) -> Cancel:
    """By who may and by who may not, and sometimes not what was signed."""
    through, at_unix_ms = draw(st.integers(1, 2)), draw(st.integers(0, 2))
    by = draw(st.sampled_from(["anna", "anna", "carl", "bert", "stranger"]))
    cancel = make_cancel(job, through, at_unix_ms, by)
    if draw(st.integers(0, 4)) == 0:
        return cancel._replace(cancelled_through=through + 1)
    return cancel


@st.composite
def patches(draw: st.DrawFn) -> JobPatch:
    """Partial knowledge of one of JOBS; the spec may be missing, or be that of another job.

    A cancel comes with its spec: a table that cannot judge it yet puts it off. Now and then a
    tombstone, some of them nonsense.
    """
    job = draw(st.sampled_from(JOBS))
    if draw(st.integers(0, 7)) == 0:
        odd = st.sampled_from([job.job_id, job.job_id, JobId("~00007"), JobId("x" * 17)])
        return forgotten(draw(odd), draw(st.integers(1, 3)))
    shown = draw(st.sampled_from([None, job, job, JOBS[0]]))
    tasks = tuple(draw(st.lists(task_patches(job.job_id), max_size=4)))
    if draw(st.integers(0, 9)):
        tasks = _ascending(tasks)
    cancel = NOT_CANCELLED
    if shown == job and draw(st.booleans()):
        cancel = draw(cancels(job))
    return JobPatch.of_parts(job.job_id, shown, cancel, tasks)
