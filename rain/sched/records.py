"""What of the job table is kept on disk. A row holds all that is known under its key.

A later row replaces the earlier one of the same key, and the table only grows; so whatever
prefix of the writes a power cut leaves, what is read back is never more than what was known,
and never a mix.
"""

from rain.effects import Record
from rain.model import AttemptId, Count, End, Job, JobId, Stage
from rain.sched.messages import HORIZON, AttemptEnd, Cancel, Cell, JobPatch, TaskPatch


class JobRow(Record, frozen=True, tag="sjr"):
    job: Job

    def key(self) -> str:
        return f"job/{self.job.job_id}"


class CancelRow(Record, frozen=True, tag="scr"):
    job_id: JobId
    cancelled_through: int
    cancelled_unix_ms: int = 0
    cancelled_by: bytes = b""
    cancel_signature: bytes = b""

    def cancel(self) -> Cancel:
        return Cancel(
            self.cancelled_through,
            self.cancelled_unix_ms,
            self.cancelled_by,
            self.cancel_signature,
        )

    def key(self) -> str:
        return f"cancel/{self.job_id}"


class TaskRow(Record, frozen=True, tag="str"):
    """Cell and ends of one task; a task nobody has decided on has no row."""

    job_id: JobId
    task: int
    cell: Cell
    ends: tuple[AttemptEnd, ...] = ()

    def key(self) -> str:
        return f"task/{self.job_id}/{self.task}"


class TombstoneRow(Record, frozen=True, tag="sfr"):
    """In the place of all other rows of a job that was forgotten."""

    job_id: JobId
    day: Count

    def key(self) -> str:
        return f"forgotten/{self.job_id}"


class HorizonRow(Record, frozen=True, tag="shr"):
    """The first day whose tombstones are kept."""

    day: Count

    def key(self) -> str:
        return "horizon"


class SeenRow(Record, frozen=True, tag="ssn"):
    """The last day on which this node was up, by the clock of its own wall."""

    day: Count

    def key(self) -> str:
        return "seen"


class AbsenceRow(Record, frozen=True, tag="sab"):
    """This node was away from one day to the other: what it knew before is set aside."""

    from_day: Count
    to_day: Count

    def key(self) -> str:
        return "absence"


class SetAsideRow(Record, frozen=True, tag="sas"):
    """A piece of what was known of a job before that absence."""

    piece: Count
    patch: JobPatch

    def key(self) -> str:
        return f"aside/{self.patch.job_id}/{self.piece}"


class AttemptRow(Record, frozen=True, tag="sat"):
    """What a worker owes: an attempt it accepted, until a coordinator has acknowledged its end."""

    attempt_id: AttemptId
    stage: Stage = Stage.PLACED
    end: End | None = None
    is_stopping: bool = False
    """It was ordered to stop: however its container ends, it counts as cancelled."""

    def key(self) -> str:
        identity = self.attempt_id
        epoch = identity.epoch
        return (
            f"attempt/{identity.job_id}/{identity.task}/{identity.number}"
            f"/{epoch.number}-{epoch.node_id}-{epoch.salt}"
        )


TableRecord = JobRow | CancelRow | TaskRow | TombstoneRow | HorizonRow
SchedRecord = TableRecord | SeenRow | AbsenceRow | SetAsideRow | AttemptRow


def patch_of(row: TableRecord) -> JobPatch:
    """The knowledge that a row holds."""
    match row:
        case JobRow():
            return JobPatch(row.job.job_id, row.job)
        case CancelRow():
            return JobPatch.of_parts(row.job_id, cancel=row.cancel())
        case TaskRow():
            task = TaskPatch(row.task, row.task, row.cell, row.ends)
            return JobPatch(row.job_id, tasks=(task,))
        case TombstoneRow():
            return JobPatch(row.job_id, forgotten=row.day)
        case HorizonRow():
            return JobPatch(HORIZON, forgotten=row.day)


def keys_of(patch: JobPatch) -> list[str]:
    """Of the rows that hold all that a patch, which is not about a tombstone, speaks of."""
    keys = [] if patch.job is None else [JobRow(patch.job).key()]
    if patch.cancelled_through:
        keys.append(CancelRow(patch.job_id, 0).key())
    for part in patch.tasks:
        tasks = range(part.first, part.last + 1)
        keys += [TaskRow(patch.job_id, task, part.cell).key() for task in tasks]
    return keys
