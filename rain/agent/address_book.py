"""Where each member was last reached, and which addresses a broadcast rings besides the LAN.

A packet that was just opened and verified teaches its sender's address better than any claim, so
what was seen wins over what was told, until it grows old.
"""

import time
from collections.abc import Iterable

from rain.model import Address, NodeId

SEEN_FRESH_S = 10.0
MEMBERS_MAX = 4_096
RING_MAX = 64


class AddressBook:
    def __init__(self) -> None:
        self._told: dict[NodeId, Address] = {}
        self._seen: dict[NodeId, tuple[Address, float]] = {}
        self._contacts: tuple[Address, ...] = ()

    def learn(self, node_id: NodeId, address: Address) -> None:
        """What a member says of itself, or of another."""
        if len(self._told) < MEMBERS_MAX or node_id in self._told:
            self._told[node_id] = address

    def saw(self, node_id: NodeId, address: Address) -> None:
        """A verified packet came from there just now."""
        if len(self._seen) < MEMBERS_MAX or node_id in self._seen:
            self._seen[node_id] = (address, time.monotonic())

    def set_contacts(self, contacts: Iterable[Address]) -> None:
        self._contacts = tuple(contacts)

    def find(self, node_id: NodeId) -> Address | None:
        seen = self._seen.get(node_id)
        if seen is not None and time.monotonic() - seen[1] < SEEN_FRESH_S:
            return seen[0]
        told = self._told.get(node_id)
        return told if told is not None else (seen[0] if seen is not None else None)

    def ring(self) -> tuple[Address, ...]:
        """Contacts first, then remembered addresses: who to call where broadcast does not reach."""
        remembered = (self.find(node_id) for node_id in sorted(self._told))
        found = dict.fromkeys(
            [*self._contacts, *(address for address in remembered if address is not None)]
        )
        return tuple(found)[:RING_MAX]
