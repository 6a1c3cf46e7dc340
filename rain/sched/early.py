"""What a new coordinator asks before this node has that reign on disk.

The announcement of a reign and its first questions travel side by side, and a node follows a reign
only once its epoch is durable: some milliseconds after the first heartbeat. Dropped, the questions
would come again an interval later, and every failover would last so much longer. So the few that
ask, and order nothing, wait here for that write.

Bounds. EARLY_MAX messages in all, the oldest gives way; each change of reign empties the place.
"""

from collections import deque

from rain.effects import Message
from rain.model import Epoch, NodeId
from rain.sched.messages import Digests, InventoryRequest

EARLY_MAX = 64


class Early:
    """Questions under a reign that is newer than the followed one."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[NodeId, InventoryRequest | Digests]] = deque(maxlen=EARLY_MAX)

    def keep(self, sender: NodeId, message: Message, followed: Epoch | None) -> bool:
        """Is it such a question? Then it waits."""
        if not isinstance(message, InventoryRequest | Digests) or message.epoch.node_id != sender:
            return False
        if followed is not None and message.epoch <= followed:
            return False
        self._waiting.append((sender, message))
        return True

    def take(self, epoch: Epoch | None) -> list[tuple[NodeId, InventoryRequest | Digests]]:
        """Those of the reign that is followed from now on, as they came; the others are gone."""
        kept = [one for one in self._waiting if one[1].epoch == epoch]
        self._waiting.clear()
        return kept
