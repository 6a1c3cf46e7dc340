"""What travels between coordinator, workers, submitters and holders of copies. All over streams.

A JobPatch is partial knowledge of one job; merging patches in any order gives the same table.
"""

from typing import Annotated, NamedTuple

from msgspec import Meta

from rain.effects import Message
from rain.model import (
    TASKS_MAX,
    AttemptId,
    Count,
    End,
    Epoch,
    Job,
    JobId,
    Reason,
    Stage,
    Value,
)

PATCHES_MAX = 1_000
PATCH_TASKS_MAX = 10_000
DIGESTS_MAX = 2_000
ORDERS_MAX = 1_000
INVENTORY_MAX = 10_000
"""As many attempts as a worker keeps."""
INVENTORY_JOBS_MAX = 16
"""Jobs asked of a mere worker at a time; one may take a megabyte."""
DAYS_MAX = 99_999
"""Of a tombstone, in days since 1970; two hundred years from now no day is larger."""
NOT_A_JOB = "~"
"""Ids of jobs come before it; what begins with it, or comes after it, is none of a job."""
HORIZON = JobId(NOT_A_JOB)
"""In the place of a job's id: that patch is about the horizon (tombstones.py)."""


class Cell(Value, frozen=True):
    """The decision that stands for one task. Merging takes the larger (order: sched/cells.py)."""

    success: bool = False
    generation: Count = 1
    final: bool = False
    epoch: Epoch | None = None
    """Of the reign that decided; None only in the cell of a task nobody has decided on."""
    turn: Count = 0
    stage: Stage = Stage.PENDING
    attempt_id: AttemptId | None = None


class AttemptEnd(Value, frozen=True):
    attempt_id: AttemptId
    end: End


class TaskPatch(Value, frozen=True):
    """Cell and known ends of tasks `first` to `last`; several only where all are equal."""

    first: Annotated[int, Meta(ge=0, lt=TASKS_MAX)]
    last: Annotated[int, Meta(ge=0, lt=TASKS_MAX)]
    cell: Cell
    ends: tuple[AttemptEnd, ...] = ()


class Cancel(NamedTuple):
    """Of two cancels of a job the larger stands, in this order of fields."""

    cancelled_through: int
    """The newest generation that it ends."""
    cancelled_unix_ms: int
    cancelled_by: bytes
    """Public key of its author; in the order only so that the order is total."""
    cancel_signature: bytes


NOT_CANCELLED = Cancel(0, 0, b"", b"")


class JobPatch(Value, frozen=True):
    job_id: JobId
    job: Job | None = None
    cancelled_through: Count = 0
    tasks: Annotated[tuple[TaskPatch, ...], Meta(max_length=PATCH_TASKS_MAX)] = ()
    cancelled_unix_ms: Count = 0
    """When that cancel was given."""
    cancelled_by: Annotated[bytes, Meta(max_length=32)] = b""
    """Public key of the node that a person gave it on."""
    cancel_signature: Annotated[bytes, Meta(max_length=64)] = b""
    """Of that node, over job, generation and instant (see sched/identity.py)."""
    forgotten: Annotated[int, Meta(ge=0, le=DAYS_MAX)] = 0
    """The day on which this job, being over, was forgotten: nothing else of it counts any more.
    With the id HORIZON: the first day whose tombstones are kept."""

    @classmethod
    def of_parts(
        cls,
        job_id: JobId,
        job: Job | None = None,
        cancel: Cancel = NOT_CANCELLED,
        tasks: tuple[TaskPatch, ...] = (),
    ) -> "JobPatch":
        through, unix_ms, by, signature = cancel
        return cls(job_id, job, through, tasks, unix_ms, by, signature)

    def head(self) -> "JobPatch":
        """Job and cancel alone."""
        return self.of_parts(self.job_id, self.job, self.cancel())

    def cancel(self) -> Cancel:
        if not self.cancelled_through:
            return NOT_CANCELLED
        return Cancel(
            self.cancelled_through,
            self.cancelled_unix_ms,
            self.cancelled_by,
            self.cancel_signature,
        )

    def is_orderly(self) -> bool:
        """Do its tasks ascend, none twice? So together they are never more than TASKS_MAX."""
        after = -1
        for part in self.tasks:
            if not after < part.first <= part.last:
                return False
            after = part.last
        return True

    def tasks_count(self) -> int:
        """How many tasks it speaks of."""
        return sum(part.last - part.first + 1 for part in self.tasks)


Patches = Annotated[tuple[JobPatch, ...], Meta(max_length=PATCHES_MAX)]


class JobDigest(Value, frozen=True):
    job_id: JobId
    digest: Annotated[bytes, Meta(max_length=16)]


class Propose(Message, frozen=True, tag="sp"):
    """Submitter -> coordinator: make this durable and tell me on how many disks it is."""

    proposal: Count
    patches: Patches


class Accepted(Message, frozen=True, tag="sa"):
    """Coordinator -> submitter: durable on `copies` nodes, or refused: `error`."""

    proposal: Count
    epoch: Epoch
    copies: Count
    error: Reason = ""


class Replicate(Message, frozen=True, tag="sr"):
    """Coordinator -> holder: write this down, then answer Replicated with the same number."""

    epoch: Epoch
    number: Count
    patches: Patches


class Replicated(Message, frozen=True, tag="sd"):
    epoch: Epoch
    number: Count


class Digests(Message, frozen=True, tag="sg"):
    """Anti-entropy: digests of all jobs with `first` <= id <= `last` ('' = open end)."""

    epoch: Epoch
    first: JobId
    last: JobId
    digests: Annotated[tuple[JobDigest, ...], Meta(max_length=DIGESTS_MAX)]
    page: Count = 0
    """Every page has a number of its own, which its answers repeat."""


class Patch(Message, frozen=True, tag="st"):
    """Anti-entropy: what you lack, and whole jobs that I want from you."""

    epoch: Epoch
    patches: Patches
    wants: Annotated[tuple[JobId, ...], Meta(max_length=DIGESTS_MAX)] = ()
    page: Count = 0
    """In answer to that page of digests; 0: to none."""
    frames_left: Count = 0
    """So many more follow in answer to that page."""
    is_cut: bool = False
    """More differs than one answer may hold: ask again."""


class ClockReading(Message, frozen=True, tag="sc"):
    """Follower -> coordinator: the clock on my wall, for what counts in days."""

    epoch: Epoch
    unix_ms: Count


class Assign(Message, frozen=True, tag="so"):
    """Coordinator -> worker: run these attempts. `beat` is the newest heartbeat it sent."""

    epoch: Epoch
    beat: Count
    job: Job
    attempts: Annotated[tuple[AttemptId, ...], Meta(max_length=ORDERS_MAX)]
    life: Count = 0
    """The boot epoch of the worker when this was first ordered: what an earlier life of it may
    have started, and forgotten when it stopped, is not started by a later one. 0: any."""


class Stop(Message, frozen=True, tag="sk"):
    """Coordinator -> worker: end these. A decision stops a container, never ignorance."""

    epoch: Epoch
    beat: Count
    attempts: Annotated[tuple[AttemptId, ...], Meta(max_length=ORDERS_MAX)]
    reason: Reason


class AttemptReport(Value, frozen=True):
    """A worker's word about one attempt: how far it is, and its end when it has one."""

    attempt_id: AttemptId
    stage: Stage
    running_ms: Count = 0
    end: End | None = None
    started_unix_ms: Count = 0
    """By the clock of its worker's wall, for people; 0: not known, or told by its end."""


class Report(Message, frozen=True, tag="sw"):
    epoch: Epoch
    attempts: Annotated[tuple[AttemptReport, ...], Meta(max_length=ORDERS_MAX)]


class ReportAck(Message, frozen=True, tag="sx"):
    """These outcomes are durable at `replicas` nodes: forget them."""

    epoch: Epoch
    attempts: Annotated[tuple[AttemptId, ...], Meta(max_length=ORDERS_MAX)]


class InventoryRequest(Message, frozen=True, tag="si"):
    epoch: Epoch
    beat: Count
    round: Count
    wants: Annotated[tuple[JobId, ...], Meta(max_length=INVENTORY_JOBS_MAX)] = ()
    """Jobs that it spoke of and nobody else knows."""


class Inventory(Message, frozen=True, tag="sv"):
    """All attempts this node has accepted, runs, or keeps the outcome of. Not ready: ask again."""

    epoch: Epoch
    round: Count
    ready: bool
    attempts: Annotated[tuple[AttemptReport, ...], Meta(max_length=INVENTORY_MAX)] = ()
    jobs: Annotated[tuple[Job, ...], Meta(max_length=INVENTORY_JOBS_MAX)] = ()
    """Of those that were wanted: they count by the signature of who submitted them."""


SchedMessage = (
    Propose
    | Accepted
    | Replicate
    | Replicated
    | Digests
    | Patch
    | ClockReading
    | Assign
    | Stop
    | Report
    | ReportAck
    | InventoryRequest
    | Inventory
)
