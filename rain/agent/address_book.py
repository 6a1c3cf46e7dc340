"""Where each member was last reached, and which addresses a broadcast rings besides the LAN.

A packet that was just opened and verified teaches its sender's address better than any claim, so
what was seen wins over what was told, until it grows old. A packet that got lost can be played by
somebody else from elsewhere: so it moves nobody who was seen a moment ago, unless the member said
itself that it moves there, and an address where it turned out not to be is forgotten. What such a
lie costs is a connection that fails.

A hint is the word of who proves nothing. It counts where nothing is known, and takes turns with
what was told once the member does not answer there: so a lie hides no true address for good.
"""

import time
from collections.abc import Callable, Iterable

from rain.model import Address, NodeId

SEEN_FRESH_S = 10.0
STEADY_S = 2.0
"""Who was seen within this time has not moved."""
MEMBERS_MAX = 4_096
RING_MAX = 64


class AddressBook:
    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._told: dict[NodeId, Address] = {}
        self._seen: dict[NodeId, tuple[Address, float]] = {}
        self._hinted: dict[NodeId, Address] = {}
        self._contacts: tuple[Address, ...] = ()

    def learn(self, node_id: NodeId, address: Address) -> None:
        """What a member says of itself, or of another."""
        if len(self._told) < MEMBERS_MAX or node_id in self._told:
            self._told[node_id] = address

    def hint(self, node_id: NodeId, address: Address) -> None:
        """Anybody says so."""
        if self.find(node_id) is None:
            self.learn(node_id, address)
        elif len(self._hinted) < MEMBERS_MAX or node_id in self._hinted:
            self._hinted[node_id] = address

    def saw(self, node_id: NodeId, address: Address) -> None:
        """A verified packet came from there just now."""
        now_s = self._clock_s()
        seen = self._seen.get(node_id)
        is_told = self._told.get(node_id) == address
        if not is_told and seen is not None and seen[0] != address and now_s - seen[1] < STEADY_S:
            return
        if len(self._seen) < MEMBERS_MAX or seen is not None:
            self._seen[node_id] = (address, now_s)

    def misled(self, node_id: NodeId, address: Address) -> None:
        """That node did not answer there."""
        hinted = self._hinted.get(node_id)
        is_told = self._told.get(node_id) in (None, address)
        if hinted is not None and hinted != address and is_told:
            self.learn(node_id, hinted)
            self._hinted[node_id] = address
        seen = self._seen.get(node_id)
        if (
            seen is not None
            and seen[0] == address
            and self._told.get(node_id) not in (None, address)
        ):
            del self._seen[node_id]

    def set_contacts(self, contacts: Iterable[Address]) -> None:
        self._contacts = tuple(contacts)

    def find(self, node_id: NodeId) -> Address | None:
        seen = self._seen.get(node_id)
        if seen is not None and self._clock_s() - seen[1] < SEEN_FRESH_S:
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
