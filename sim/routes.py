"""Where one host believes the others to be: by what it was told, better by what it has seen."""

from rain.model import Address, NodeId

from .world import World

SEEN_FRESH_US = 10_000_000
STEADY_US = 2_000_000


class Routes:
    """From node id to the index of the host whose address that is."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._by_address: dict[Address, int] = {}
        self._told: dict[NodeId, int] = {}
        self._seen: dict[NodeId, tuple[int, int]] = {}

    def connect(self, addresses: list[Address]) -> None:
        self._by_address = {address: index for index, address in enumerate(addresses)}

    def readdress(self, index: int, address: Address) -> None:
        """That host is to be reached there only, and nobody here knows it yet."""
        self._by_address = {at: one for at, one in self._by_address.items() if one != index}
        self._by_address[address] = index
        self._told = {node_id: one for node_id, one in self._told.items() if one != index}
        self._seen = {node_id: one for node_id, one in self._seen.items() if one[0] != index}

    def forget(self) -> None:
        self._told, self._seen = {}, {}

    def tell(self, node_id: NodeId, address: Address) -> None:
        if address in self._by_address:
            self._told[node_id] = self._by_address[address]

    def learn(self, node_id: NodeId, index: int) -> None:
        """A beacon says that it is there."""
        self._told[node_id] = index

    def see(self, node_id: NodeId, index: int) -> None:
        """A packet of that node came from there. One that was lost on its way and is played from
        elsewhere moves nobody who was heard just now."""
        seen = self._seen.get(node_id)
        if seen is not None and seen[0] != index and self._world.now_us - seen[1] < STEADY_US:
            return
        self._seen[node_id] = (index, self._world.now_us)

    def misled(self, node_id: NodeId, index: int) -> None:
        """Who was dialled there is another one."""
        seen = self._seen.get(node_id)
        if seen is not None and seen[0] == index and self._told.get(node_id) not in (None, index):
            del self._seen[node_id]

    def find(self, node_id: NodeId) -> int | None:
        seen = self._seen.get(node_id)
        if seen is not None and self._world.now_us - seen[1] < SEEN_FRESH_US:
            return seen[0]
        told = self._told.get(node_id)
        if told is not None:
            return told
        return seen[0] if seen is not None else None
