"""What is still to be told, and how often it was told.

Claims and facts ride on probes, and on rumours while there are any. Each is told a number of
times that grows with the logarithm of the pool; least told first, then newest. A newer claim about
the same member replaces the older one and starts afresh.
"""

from dataclasses import dataclass
from operator import attrgetter

from rain.gossip.member import packed_bytes
from rain.gossip.messages import MEMBERS_MAX, UPDATES_PER_PACKET_MAX, FactsRecord, MemberRecord
from rain.model import NodeId

UPDATES_BYTES_MAX = 960
"""Of claims and facts in one packet; the rest of PACKET_BYTES_MAX is envelope and header."""
TRANSMISSIONS_MULTIPLE = 4
ENTRIES_MAX = 2 * (MEMBERS_MAX + 1)


@dataclass(slots=True)
class _Entry:
    key: tuple[bool, NodeId]
    update: MemberRecord | FactsRecord
    size_bytes: int
    urgency: tuple[int, int]
    """How often it was told, and how new it is (below zero): the smaller goes first."""


class Updates:
    """A bounded queue: at most one claim and one set of facts per member."""

    def __init__(self) -> None:
        self._entries: dict[tuple[bool, NodeId], _Entry] = {}
        self._last_number = 0
        self._smallest_bytes = UPDATES_BYTES_MAX
        """No entry is smaller: with less room than this nothing more fits."""
        self._transmissions_max = TRANSMISSIONS_MULTIPLE

    def is_empty(self) -> bool:
        return not self._entries

    def tell(self, update: MemberRecord | FactsRecord) -> None:
        self._last_number += 1
        key = (isinstance(update, FactsRecord), update.node_id)
        entry = _Entry(key, update, packed_bytes(update), (0, -self._last_number))
        self._entries[key] = entry
        self._smallest_bytes = min(self._smallest_bytes, entry.size_bytes)

    def forget(self, node_id: NodeId) -> None:
        self._entries.pop((False, node_id), None)
        self._entries.pop((True, node_id), None)

    def take(
        self, members: int, first: MemberRecord | None = None
    ) -> tuple[tuple[MemberRecord, ...], tuple[FactsRecord, ...]]:
        """What goes into the next packet: `first` whatever was told before, then what fits."""
        self._transmissions_max = transmissions_max(members)
        records = [] if first is None else [first]
        facts: list[FactsRecord] = []
        bytes_left = UPDATES_BYTES_MAX - sum(packed_bytes(record) for record in records)
        for entry in sorted(self._entries.values(), key=attrgetter("urgency")):
            if bytes_left < self._smallest_bytes:
                break
            if len(records) + len(facts) >= UPDATES_PER_PACKET_MAX:
                break
            if entry.size_bytes > bytes_left:
                continue
            if isinstance(entry.update, FactsRecord):
                facts.append(entry.update)
            elif first is not None and entry.update.node_id == first.node_id:
                continue
            else:
                records.append(entry.update)
            bytes_left -= entry.size_bytes
            transmissions, newness = entry.urgency
            entry.urgency = (transmissions + 1, newness)
            if transmissions + 1 >= self._transmissions_max:
                del self._entries[entry.key]
        return tuple(records), tuple(facts)

    def check(self) -> None:
        assert len(self._entries) <= ENTRIES_MAX, "G3: the queue is bounded"
        for entry in self._entries.values():
            assert entry.size_bytes <= UPDATES_BYTES_MAX, "G3: every update fits a packet"


def transmissions_max(members: int) -> int:
    """4 * ceil(log10(members + 1)): that logarithm is the number of decimal digits."""
    return TRANSMISSIONS_MULTIPLE * len(str(max(1, members)))
