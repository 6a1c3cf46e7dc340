"""What was refused because its sender may not say it: counted by the parts, told to the log here.

Every part counts what it drops, by reason. Most of it is the weather: an order that came late, a
word to an earlier reign. Some of it nobody does by accident; that is told to the log with who
sent it, at its 1st, 2nd, 4th, 8th … time, so that whoever floods a node does not flood its log.
"""

from collections.abc import Mapping, Sequence

from rain.effects import Log, Message
from rain.model import NodeId

GRAVE = (
    "beyond_its_role",
    "cancel_not_allowed",
    "cancel_not_authentic",
    "job_by_unknown",
    "job_not_allowed",
    "job_not_authentic",
    "job_of_another_node",
    "job_of_another_person",
    "knowledge_not_by_the_coordinator",
    "not_its_attempt",
    "order_not_by_the_coordinator",
    "proposal_by_worker",
    "sender_not_in_the_pool",
)
"""Reasons that are told."""


class Complaints:
    """Over the counters of all parts."""

    def __init__(self, *counters: Mapping[str, int]) -> None:
        self._counters: Sequence[Mapping[str, int]] = counters
        self._known = dict.fromkeys(GRAVE, 0)
        self._dropped = 0
        """All counts together, when they were last looked at: mostly nothing has been refused."""

    def counts(self) -> dict[str, int]:
        """What was dropped, by reason, whatever the reason is."""
        total: dict[str, int] = {}
        for counter in self._counters:
            for reason, count in counter.items():
                total[reason] = total.get(reason, 0) + count
        return total

    def about(self, sender: NodeId, message: Message) -> list[Log]:
        """What has become known since the last call; that message was the cause."""
        dropped = sum([sum(counter.values()) for counter in self._counters if counter])
        if dropped == self._dropped:
            return []
        self._dropped = dropped
        told: list[Log] = []
        counts = self.counts()
        for reason, before in self._known.items():
            count = counts.get(reason, 0)
            if count.bit_length() > before.bit_length():
                kind = type(message).__name__
                said = (("sender", sender), ("kind", kind), ("reason", reason), ("times", count))
                told.append(Log("refused", said))
            self._known[reason] = count
        return told
