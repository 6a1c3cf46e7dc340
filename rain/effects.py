"""How a pure core speaks with its driver and its siblings.

A core is a state machine that never waits: facts go in, orders come out; time and chance are
arguments. Events are past tense, effects imperative, notices are facts that one core tells its
siblings (the node routes them; they never leave it).

Order of effects. The driver carries effects out in the order of the list, except for what must
follow a write: that travels *inside* the write, as `Persist.then`. So a slow disk delays what
depends on it and nothing else, heartbeats least of all.
"""

from typing import ClassVar

from msgspec import Struct

from rain.claims import Claim
from rain.model import (
    Address,
    AttemptId,
    Epoch,
    Facts,
    Job,
    MemberState,
    NodeId,
    Role,
    Value,
)


class Message(Value, frozen=True):
    """What travels between nodes. Every core defines its own, each with a tag of its own."""


class Record(Value, frozen=True):
    """What is kept on disk. A later record with the same key replaces the earlier one."""

    kind: ClassVar[str] = ""

    def key(self) -> str:
        """Unique among all records of the store, e.g. `epoch` or `task/<job>/<task>`."""
        raise AssertionError("every record names its key")


class _Plain(Struct, frozen=True):
    """Events, notices and effects stay inside one process."""


# --- Events: facts, past tense -------------------------------------------------------------------


class Received(_Plain, frozen=True):
    """A message arrived, opened and verified: `sender` did write it."""

    sender: NodeId
    message: Message
    source: Address
    """Where the packet came from; for a stream the port is the peer's ephemeral one."""
    boot_epoch: int = 0
    by_stream: bool = False


class DeadlinePassed(_Plain, frozen=True):
    """The instant announced by `next_deadline_ms` is reached."""


class Persisted(_Plain, frozen=True):
    """The write that carried this token is on disk. Tokens are the writing core's own."""

    token: int
    took_ms: int


class DiskFailed(_Plain, frozen=True):
    """A write failed (full, torn, gone); what depended on it was dropped."""

    reason: str


class DiskRecovered(_Plain, frozen=True):
    """Writes work again."""


class Lagged(_Plain, frozen=True):
    """The driver itself was late by so much, or its PC slept for so long, and no clock of ours saw
    it: its own health is in doubt, not its peers'."""

    lag_ms: int


class AddressChanged(_Plain, frozen=True):
    """This PC's own address is another one now."""

    address: Address


class PeerReset(_Plain, frozen=True):
    """A stream to that node was reset or refused: a hint to probe it at once, never a proof."""

    node_id: NodeId


class SleepComing(_Plain, frozen=True):
    """This PC is about to sleep: coordination is handed over first (`MaySleep`), it stays in."""


class ClockTold(_Plain, frozen=True):
    """The wall clock, first of all and every few minutes: for what counts in days, no more."""

    unix_ms: int


class AbsenceDecided(_Plain, frozen=True):
    """What a person wants of the jobs that were set aside after a long absence (E15)."""

    take_back: bool
    """Else they are dropped."""


class HardwareMeasured(_Plain, frozen=True):
    """What this node offers changed (`version` is ignored: gossip numbers it)."""

    facts: Facts


class StopRequested(_Plain, frozen=True):
    """`rain down`, a signal, or `rain leave`: hand over, say goodbye, then `Stopped`."""


class Proposed(_Plain, frozen=True):
    """A person on this node submits or cancels. `request` is answered by `Answer`."""

    request: int
    jobs: tuple[Job, ...] = ()
    cancels: tuple[str, ...] = ()
    """Job ids."""
    at_unix_ms: int = 0
    """When, by the clock of this PC's wall: what a cancelled job has for its end."""


class ContainersListed(_Plain, frozen=True):
    """What the executor found after a start of the agent or of the engine; orphans included."""

    found: tuple["ContainerFound", ...]
    executors: tuple[str, ...] = ("docker", "process")
    """Those that answered: what another one runs is not known."""


class ContainerFound(_Plain, frozen=True):
    """One container of this node: still running when `exit_code` is None."""

    attempt_key: str
    started_unix_ms: int
    exit_code: int | None = None
    out_of_memory: bool = False
    ended_unix_ms: int = 0
    running_ms: int = 0
    """How long it has been running by now; 0 where it has ended."""
    is_lost: bool = False
    """As of ContainerExited."""


class ContainerStarted(_Plain, frozen=True):
    attempt_id: AttemptId
    started_unix_ms: int


class ContainerExited(_Plain, frozen=True):
    attempt_id: AttemptId
    exit_code: int
    started_unix_ms: int
    ended_unix_ms: int
    out_of_memory: bool = False
    is_lost: bool = False
    """Its engine or its PC was stopped under it: its exit code says nothing about the task."""
    reason: str = ""
    """Which limit of its worker's owner it was ended for, or that its disk is full; else empty."""


class ContainerFailed(_Plain, frozen=True):
    """It could not be started. `refused`: this node cannot (engine gone), another one may."""

    attempt_id: AttemptId
    exit_code: int
    reason: str
    refused: bool = False
    ended_unix_ms: int = 0


class CertificateShown(_Plain, frozen=True):
    """A certificate that leads to the root of this pool: just issued here, or shown by a peer."""

    bundle: bytes


class ClaimMade(_Plain, frozen=True):
    """A person on this node states something that the whole pool shall know: sign and spread it."""

    claim: "Claim"
    at_unix_ms: int
    request: int = 0
    """Answered by `Answer` when not 0: how many members have it."""
    fresh_key: bytes = b""
    """With a removal: 32 secret random bytes for the next pool key."""

    def __repr__(self) -> str:
        """Without the key: what is printed may come into a log."""
        key = "a key" if self.fresh_key else "no key"
        return f"ClaimMade({self.claim!r}, {self.at_unix_ms}, {self.request}, {key})"


class KeyMissing(_Plain, frozen=True):
    """A packet of this pool came that is sealed with a key that this node has not got."""


# --- Notices: facts between siblings -------------------------------------------------------------


class SiblingNotice(_Plain, frozen=True):
    """What tells a notice from an effect in a core's list of outputs."""


class Admitted(SiblingNotice, frozen=True):
    """trust: this node may be here, in this role; told again when role, name or person change."""

    node_id: NodeId
    name: str
    role: Role
    person: str
    public_key: bytes = b""


class Barred(SiblingNotice, frozen=True):
    """trust: this node was removed or has left for good; whatever it says counts for nothing."""

    node_id: NodeId


class MemberUp(SiblingNotice, frozen=True):
    """gossip: a member is (again) here, or restarted: then its boot epoch is larger."""

    node_id: NodeId
    name: str
    boot_epoch: int
    facts: Facts


class MemberDown(SiblingNotice, frozen=True):
    """gossip: DEAD by suspicion run out, or LEFT by its own word."""

    node_id: NodeId
    state: MemberState


class FactsChanged(SiblingNotice, frozen=True):
    """gossip: a member offers something else now."""

    node_id: NodeId
    facts: Facts


class DiskOld(SiblingNotice, frozen=True):
    """gossip: peers remember a life of this node that its own disk does not know of."""

    boot_epoch: int


class MemberSilent(SiblingNotice, frozen=True):
    """election -> gossip: acknowledgements are missing; probe it now, in all three ways."""

    node_id: NodeId


class MemberUnreachable(SiblingNotice, frozen=True):
    """gossip: that probe failed in all three ways."""

    node_id: NodeId


class ReignChanged(SiblingNotice, frozen=True):
    """election: the reign this node follows (durable before it is told); None: nobody reigns."""

    epoch: Epoch | None
    mine: bool = False
    takeover: bool = False
    """With `mine`: a new reign takes inventory. False: the same reign under a higher number."""


class CoordinatorHeard(SiblingNotice, frozen=True):
    """election, at a follower: a heartbeat of the followed reign."""

    epoch: Epoch
    beat: int
    digest: bytes


class Beat(SiblingNotice, frozen=True):
    """election, at the coordinator: this heartbeat goes out now."""

    epoch: Epoch
    beat: int


class FollowerHeard(SiblingNotice, frozen=True):
    """election, at the coordinator: a follower acknowledged, with the digest of its job table."""

    node_id: NodeId
    digest: bytes


class ViewChanged(SiblingNotice, frozen=True):
    """election: the last stable, persisted membership, this node included, sorted."""

    members: tuple[NodeId, ...]


class BrakeChanged(SiblingNotice, frozen=True):
    """election, at the coordinator: while braked, re-queue nothing of the vanished."""

    braked: bool
    vanished: tuple[NodeId, ...]


class TableChanged(SiblingNotice, frozen=True):
    """sched -> election: root digest of the job table, for heartbeats and acknowledgements."""

    digest: bytes


class EpochSeen(SiblingNotice, frozen=True):
    """sched -> election, at the coordinator: the job table remembers a later reign than its own."""

    epoch: Epoch


class HandedOver(SiblingNotice, frozen=True):
    """election: this node has no reign (any more) and may say goodbye."""


# --- Effects: orders, imperative -----------------------------------------------------------------


class Send(_Plain, frozen=True):
    """One packet, at most PACKET_BYTES_MAX sealed; may be lost, doubled, late."""

    to: NodeId
    message: Message


class Cast(_Plain, frozen=True):
    """One packet, signed once, to several members."""

    to: tuple[NodeId, ...]
    message: Message


class Post(_Plain, frozen=True):
    """Over the TCP stream to that node: any size, in order while the stream lives, else dropped."""

    to: NodeId
    message: Message


class Broadcast(_Plain, frozen=True):
    """One packet to every LAN interface, every contact and every remembered address."""

    message: Message


class Route(_Plain, frozen=True):
    """Where a member is to be reached from now on."""

    node_id: NodeId
    address: Address


class Persist(_Plain, frozen=True):
    """Write durably, then carry out `then`; `token` != 0 asks for a Persisted event as well."""

    puts: tuple[Record, ...] = ()
    deletes: tuple[str, ...] = ()
    then: tuple["Effect", ...] = ()
    token: int = 0


class StartContainer(_Plain, frozen=True):
    attempt_id: AttemptId
    job: Job


class StopContainer(_Plain, frozen=True):
    """TERM, then KILL after the grace."""

    attempt_id: AttemptId
    grace_ms: int


class RemoveContainer(_Plain, frozen=True):
    """Its outcome is safe, or it is an orphan: keep its log, remove the rest."""

    attempt_key: str


class Answer(_Plain, frozen=True):
    """To the person who proposed: kept on so many disks; or refused, and why."""

    request: int
    copies: int
    error: str = ""


class Log(_Plain, frozen=True):
    event: str
    fields: tuple[tuple[str, str | int], ...] = ()


class Stopped(_Plain, frozen=True):
    """Goodbyes are said; the process may end."""


class MaySleep(_Plain, frozen=True):
    """Nothing here is in the way of this PC's sleep (any more)."""


class Rekey(_Plain, frozen=True):
    """The pool keys from now on, by number; packets are sealed with `use`, opened with any."""

    keys: tuple[tuple[int, bytes], ...]
    use: int

    def __repr__(self) -> str:
        """Without the keys: what is printed may come into a log."""
        return f"Rekey({[number for number, _ in self.keys]}, use={self.use})"


class Expel(_Plain, frozen=True):
    """Hang up on that node, now: its certificate counts no more."""

    node_id: NodeId


Event = (
    Received
    | DeadlinePassed
    | Persisted
    | DiskFailed
    | DiskRecovered
    | Lagged
    | AddressChanged
    | PeerReset
    | SleepComing
    | ClockTold
    | AbsenceDecided
    | HardwareMeasured
    | StopRequested
    | Proposed
    | ContainersListed
    | ContainerStarted
    | ContainerExited
    | ContainerFailed
    | CertificateShown
    | ClaimMade
    | KeyMissing
)
Notice = (
    Admitted
    | Barred
    | MemberUp
    | MemberDown
    | FactsChanged
    | DiskOld
    | MemberSilent
    | MemberUnreachable
    | ReignChanged
    | CoordinatorHeard
    | Beat
    | FollowerHeard
    | ViewChanged
    | BrakeChanged
    | TableChanged
    | EpochSeen
    | HandedOver
)
Effect = (
    Send
    | Cast
    | Post
    | Broadcast
    | Route
    | Persist
    | StartContainer
    | StopContainer
    | RemoveContainer
    | Answer
    | Log
    | Stopped
    | MaySleep
    | Rekey
    | Expel
)
Output = Effect | Notice
