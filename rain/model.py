"""The words all packages share: ids, epochs, amounts, jobs and what becomes of them.

Everything here is a frozen value. Values are written to the wire and to disk as msgpack arrays
in the order of their fields, so fields are only ever added at the end, with a default. Amounts
are integers in the unit that their name ends with; instants of the wall clock end in `_unix_ms`
and are shown to people, never compared to decide anything.
"""

from enum import IntEnum, StrEnum
from typing import Annotated, NewType

from msgspec import Meta, Struct

ID_CHARS_MAX = 32
"""Of a node or a job. Ids are echoed, and several of them must fit into one packet."""

NodeId = NewType("NodeId", Annotated[str, Meta(max_length=ID_CHARS_MAX)])
JobId = NewType("JobId", Annotated[str, Meta(max_length=ID_CHARS_MAX)])

TASKS_MAX = 100_000
COMMAND_WORDS_MAX = 16_384
COMMAND_WORD_CHARS_MAX = 128 * 1_024
ENVIRONMENT_MAX = 1_024
REASON_CHARS_MAX = 400
RETRIES_MAX = 20
CRASH_LIMIT = 3
"""How often a PC may go down under a task, unless its job says otherwise."""
CRASH_LIMIT_MAX = 10
"""With all retries still less than ENDS_PER_TASK_MAX, so that neither is lost count of."""
ENDS_PER_TASK_MAX = 32
SECRETS_MAX = 64
VOLUMES_MAX = 64
LABELS_MAX = 64
"""Executors of a node, and models of its GPUs."""

Count = Annotated[int, Meta(ge=0, le=2**62)]
ShortText = Annotated[str, Meta(max_length=128)]
Reason = Annotated[str, Meta(max_length=REASON_CHARS_MAX)]
Word = Annotated[str, Meta(max_length=COMMAND_WORD_CHARS_MAX)]
Variables = Annotated[tuple[tuple[Word, Word], ...], Meta(max_length=ENVIRONMENT_MAX)]
Labels = Annotated[tuple[ShortText, ...], Meta(max_length=LABELS_MAX)]


class Value(Struct, frozen=True, array_like=True):
    """A frozen value, written as an array of its fields."""


class OrderedValue(Struct, frozen=True, array_like=True, order=True):
    """A value whose order is that of its fields."""


class Address(OrderedValue, frozen=True):
    """Where a node can be reached, UDP and TCP alike. It may change; the id does not."""

    host: ShortText
    port: Annotated[int, Meta(ge=0, le=65_535)]

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Epoch(OrderedValue, frozen=True):
    """One reign of one coordinator. Larger is newer; the salt tells equal numbers apart."""

    number: Count
    node_id: NodeId
    salt: Annotated[int, Meta(ge=0)]


NO_EPOCH = Epoch(0, NodeId(""), 0)


class Identity(Value, frozen=True):
    """Who a node is. The boot epoch is raised and fsynced at every start of the agent."""

    node_id: NodeId
    name: ShortText
    boot_epoch: Count


class Resources(Value, frozen=True):
    """An amount of machine: a capacity, a requirement, or what is free."""

    cpus_milli: Count = 0
    memory_bytes: Count = 0

    def plus(self, other: "Resources") -> "Resources":
        return Resources(self.cpus_milli + other.cpus_milli, self.memory_bytes + other.memory_bytes)

    def minus(self, other: "Resources") -> "Resources":
        """What is left, never below zero."""
        return Resources(
            max(0, self.cpus_milli - other.cpus_milli),
            max(0, self.memory_bytes - other.memory_bytes),
        )

    def covers(self, need: "Resources") -> bool:
        return self.cpus_milli >= need.cpus_milli and self.memory_bytes >= need.memory_bytes


class Role(IntEnum):
    """What a member of the pool may do; each role may all that the ones before it may."""

    WORKER = 0
    """Lends its machine: takes orders, reports what became of them, and nothing else."""
    MEMBER = 1
    """Submits, keeps copies of the job table, and may come to coordinate."""
    ADMIN = 2
    """Invites and removes."""


class MemberState(IntEnum):
    """What this node believes of another. LEFT is dead by its own will."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Facts(Value, frozen=True):
    """What a node says about itself. Newer = larger (boot epoch, version); its owner writes it."""

    version: Count = 0
    capacity: Resources = Resources()
    executors: Labels = ()
    works: bool = False
    idle_reason: Reason = ""
    """Why it takes no work, when it takes none."""
    rank: int = 0
    software: ShortText = ""
    platform: ShortText = ""
    accelerators: Labels = ()
    """Models of the GPUs that were found; shown, not yet scheduled."""


class Volume(Value, frozen=True):
    """A folder of the owner's PC, where the owner allows it."""

    source: Annotated[str, Meta(max_length=4_096)]
    target: Annotated[str, Meta(max_length=4_096)]
    read_only: bool = False


class JobSpec(Value, frozen=True):
    """What a user asked for. Immutable: a changed wish is another job."""

    command: Annotated[tuple[Word, ...], Meta(max_length=COMMAND_WORDS_MAX)]
    image: Annotated[str, Meta(max_length=512)] = ""
    name: ShortText = ""
    need: Resources = Resources(1_000, 256 * 1024 * 1024)
    tasks: Annotated[int, Meta(ge=1, le=TASKS_MAX)] = 1
    array_start: Count = 0
    array_step: Annotated[int, Meta(ge=1, le=2**31)] = 1
    is_array: bool = False
    running_max: Count = 0
    """At most so many tasks at once; 0: no such bound."""
    environment: Variables = ()
    workdir: Annotated[str, Meta(max_length=4_096)] = ""
    user: ShortText = ""
    network: ShortText = "none"
    executor: ShortText = "docker"
    timeout_ms: Count = 0
    retries: Annotated[int, Meta(ge=0, le=RETRIES_MAX)] = 0
    priority: int = 0
    node_name: ShortText = ""
    """Only on the node of this name; empty: anywhere."""
    private_environment: Variables = ()
    """Like `environment`, but shown to nobody: what `--env-file` read."""
    secrets: Annotated[tuple[tuple[ShortText, bytes], ...], Meta(max_length=SECRETS_MAX)] = ()
    """Name and content of what `--secret` read: files that the task alone can see."""
    volumes: Annotated[tuple[Volume, ...], Meta(max_length=VOLUMES_MAX)] = ()
    crash_limit: Annotated[int, Meta(ge=0, le=CRASH_LIMIT_MAX)] = CRASH_LIMIT
    """A task is given up once PCs went down under it so often; 0: never for that."""

    def __repr__(self) -> str:
        """Without environment and secrets, so that no log or traceback tells them."""
        return f"JobSpec({self.name!r}, {self.image!r}, {len(self.command)} words)"

    def array_index(self, task: int) -> int:
        """The index a user sees: task 0 of `--array 5-9:2` is 5."""
        return self.array_start + task * self.array_step


class Job(Value, frozen=True):
    """An accepted wish. Its id is the hash of the rest (see sched/identity.py)."""

    job_id: JobId
    spec: JobSpec
    submitted_by: ShortText
    """The name of the node it was typed on."""
    submitter_id: NodeId
    created_unix_ms: Count
    nonce: Annotated[bytes, Meta(max_length=16)]
    """128 bits drawn once per command, so that two equal commands are two jobs."""
    person: ShortText = ""
    """Whose job it is, by the certificate of the node it was typed on."""
    public_key: Annotated[bytes, Meta(max_length=32)] = b""
    """Of the submitter; its hash is `submitter_id`."""
    signature: Annotated[bytes, Meta(max_length=64)] = b""
    """Of the submitter, over `job_id` (sched/identity.py); not part of what is hashed."""


class AttemptId(OrderedValue, frozen=True):
    """One run of one task on one node; never reused. `number` is the turn of its birth."""

    job_id: JobId
    task: Annotated[int, Meta(ge=0, lt=TASKS_MAX)]
    number: Count
    epoch: Epoch
    node_id: NodeId


class EndState(StrEnum):
    """How an attempt ended. LOST: its node is gone; REFUSED: it said no; neither is a failure."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    REFUSED = "REFUSED"


class End(Value, frozen=True):
    """How an attempt ended, as its worker saw it (LOST: as the coordinator concluded)."""

    state: EndState
    exit_code: Annotated[int, Meta(ge=-1, le=255)] = -1
    reason: Reason = ""
    started_unix_ms: Count = 0
    ended_unix_ms: Count = 0
    crashed: bool = False
    """With LOST, said by its worker: the PC itself went down under it."""


class Stage(IntEnum):
    """How far the current attempt of a task is. PAUSED and HELD are no stages."""

    PENDING = 0
    PLACED = 1
    STARTING = 2
    RUNNING = 3
    ENDED = 4
