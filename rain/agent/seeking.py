"""Calling for pools by beacon, and hearing who is there. Hints only: see rain/mesh/beacon.py."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from rain.mesh.beacon import NONCE_BYTES, Here, Seek, decode_beacon, encode_beacon
from rain.mesh.codec import Rejected
from rain.model import Address, NodeId

CALL_INTERVAL_S = 0.5
POOLS_MAX = 16
ADDRESSES_MAX = 8
"""Of one pool."""
DECIDING_MAX = 16


@dataclass
class Sighting:
    """One pool that answered, by the words of whoever answered."""

    pool_id: bytes
    name: str
    member: str
    """The name of the PC that answered first."""
    members: int
    sponsors: list[Address] = field(default_factory=list)
    """Those that say they hold the invitation that was asked for."""
    doors: list[Address] = field(default_factory=list)
    """Those that are said to be admins' PCs."""

    def add(self, here: Here, source: Address) -> None:
        own = Address(source.host, here.port)
        self.members = max(self.members, here.members)
        if here.is_sponsor:
            _add(self.sponsors, own)
        for door in here.doors:
            _add(self.doors, door)


@dataclass
class Heard:
    """What came in during one call."""

    pools: dict[bytes, Sighting] = field(default_factory=dict)
    deciding: dict[NodeId, str] = field(default_factory=dict)
    """Other PCs without a pool: id and name."""

    def doors(self, pool_name: str = "") -> list[Address]:
        """Where to knock: who holds the invitation first, then other admins."""
        pools = [each for each in self.pools.values() if pool_name in ("", each.name)]
        found: dict[Address, None] = {}
        for sighting in pools:
            found |= dict.fromkeys(sighting.sponsors)
        for sighting in pools:
            found |= dict.fromkeys(sighting.doors)
        return list(found)


class Seeker:
    """Calls until enough was heard. Give `hear` every beacon that comes in."""

    def __init__(self, node_id: NodeId, name: str, cast: Callable[[bytes], None]) -> None:
        self._node_id = node_id
        self._name = name
        self._cast = cast
        self._heard = Heard()
        self._nonce = b""
        self._came = asyncio.Event()

    def hear(self, packet: bytes, source: Address) -> None:
        """Never raises, whatever the packet."""
        beacon = decode_beacon(packet)
        if isinstance(beacon, Rejected) or beacon.node_id == self._node_id:
            return
        if isinstance(beacon, Seek):
            if beacon.is_deciding and len(self._heard.deciding) < DECIDING_MAX:
                self._heard.deciding[beacon.node_id] = beacon.name
                self._came.set()
            return
        if beacon.nonce == self._nonce:
            self._add(beacon, source)

    async def seek(
        self,
        seconds: float,
        *,
        want: str = "",
        is_deciding: bool = False,
        is_enough: Callable[[Heard], bool] = lambda heard: False,
    ) -> Heard:
        """Call again and again for so long, or until that is enough."""
        self._heard = heard = Heard()
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        seek = encode_beacon(Seek(self._node_id, self._nonce, want, self._name, is_deciding))
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        next_call = loop.time()
        while loop.time() < until and not is_enough(heard):
            if loop.time() >= next_call:
                self._cast(seek)
                next_call = loop.time() + CALL_INTERVAL_S
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(until, next_call)):
                    await self._came.wait()
        return heard

    def _add(self, here: Here, source: Address) -> None:
        pools = self._heard.pools
        if here.pool_id not in pools:
            if len(pools) >= POOLS_MAX:
                return
            pools[here.pool_id] = Sighting(
                here.pool_id, here.pool_name, here.node_name, here.members
            )
        pools[here.pool_id].add(here, source)
        self._came.set()


def _add(addresses: list[Address], address: Address) -> None:
    if address not in addresses and len(addresses) < ADDRESSES_MAX:
        addresses.append(address)
