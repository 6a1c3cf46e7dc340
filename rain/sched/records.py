"""What of the job table is kept on disk. A row holds all that is known under its key.

A later row replaces the earlier one of the same key, and the table only grows; so whatever
prefix of the writes a power cut leaves, what is read back is never more than what was known,
and never a mix.
"""

from rain.effects import Record
from rain.model import AttemptId, End, Job, JobId, Stage
from rain.sched.messages import AttemptEnd, Cancel, Cell


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


TableRecord = JobRow | CancelRow | TaskRow
SchedRecord = TableRecord | AttemptRow
