"""The own lives: which of them this disk knows, and which the others remember.

A life is one run of the agent, named by its boot epoch, which rises with every start. Each is
written down. So when a peer quotes a claim of a life that this node itself has signed and that its
disk has no word of, the disk is an old one: restored from a copy, or repaired with a loss (E14).
What else it has forgotten nobody knows; the siblings are told (`DiskOld`).

If that life is later than the present one, the boot epoch itself is too low, and peers take nothing
from it. It is written down as well: the next start goes above it.

Who meets a member in a new life tells it of the last one it knew: three times, as the newly started
takes nothing from whom it has not asked for a proof, and packets get lost.

Within one life a disk that lost its last seconds is not found this way: for that whoever repairs
the disk says so himself (rain/election/records.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rain.effects import DiskOld, Persist
from rain.gossip.messages import MemberRecord
from rain.gossip.records import LifeRow
from rain.model import NodeId

FORMER_MAX = 64
"""Members that have just begun a new life; the longest known gives way."""
TELLINGS_MAX = 3
TELLING_INTERVAL_MS = 1_000


class Lives:
    def __init__(self, boot_epoch: int, rows: Sequence[LifeRow]) -> None:
        self._boot_epoch = boot_epoch
        self._known = max((row.boot_epoch for row in rows), default=0)
        self._has_begun = False
        self._is_unwritten = False
        self.outlived_by = 0
        """The latest life that peers remember, if it is later than this one; else 0."""

    def begin(self) -> None:
        """This node is about to say for the first time that it is here, in this life."""
        self._is_unwritten |= not self._has_begun
        self._has_begun = True

    def unwritten(self) -> list[Persist]:
        """The write of the latest life, once."""
        if not self._is_unwritten:
            return []
        self._is_unwritten = False
        return [Persist((LifeRow(max(self._known, self._boot_epoch)),))]

    def remind(self, boot_epoch: int) -> DiskOld | None:
        """A peer quotes that life, signed by this node; news only where the disk forgot it."""
        if boot_epoch <= self._known or boot_epoch == self._boot_epoch:
            return None
        self._known = max(boot_epoch, self._boot_epoch)
        if boot_epoch > self._boot_epoch:
            self.outlived_by = boot_epoch
            self._is_unwritten = True
        return DiskOld(boot_epoch)

    def check(self) -> None:
        assert not self.outlived_by or self.outlived_by > self._boot_epoch, "G10: lives are ordered"


@dataclass(slots=True)
class _Former:
    record: MemberRecord
    told: int
    due_ms: int


class FormerLives:
    """The last lives of others that have begun a new one."""

    def __init__(self) -> None:
        self._former: dict[NodeId, _Former] = {}

    def end(self, record: MemberRecord, now_ms: int) -> None:
        """That life is over, as its member speaks in a later one."""
        self._former.pop(record.node_id, None)
        self._former[record.node_id] = _Former(record, 0, now_ms)
        if len(self._former) > FORMER_MAX:
            del self._former[next(iter(self._former))]

    def due(self, node_id: NodeId, now_ms: int) -> MemberRecord | None:
        """What to tell that member, which has just spoken, of its last life."""
        former = self._former.get(node_id)
        if former is None or now_ms < former.due_ms:
            return None
        former.told += 1
        former.due_ms = now_ms + TELLING_INTERVAL_MS
        if former.told >= TELLINGS_MAX:
            del self._former[node_id]
        return former.record

    def forget(self, node_id: NodeId) -> None:
        self._former.pop(node_id, None)

    def check(self) -> None:
        assert len(self._former) <= FORMER_MAX, "G4: former lives bounded"
