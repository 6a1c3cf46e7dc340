"""Beacons of a node that is in a pool: it answers who seeks one, and seeks its own when lost.

A node that was away while the pool changed its key, or moved to other addresses, understands no
packet and is understood by nobody. Beacons are clear: by them it finds out where members are now,
and asks one of them for the roll over a stream, where certificates are what counts.
"""

import asyncio
import secrets
import time
from collections.abc import Callable

from rain.agent.address_book import AddressBook
from rain.agent.driver import Driver
from rain.agent.invites import Invites
from rain.effects import KeyMissing
from rain.mesh.beacon import (
    DOORS_MAX,
    NONCE_BYTES,
    Here,
    Seek,
    decode_beacon,
    encode_beacon,
)
from rain.mesh.discovery import is_ipv4
from rain.mesh.pool import Pool
from rain.mesh.transport import Transport
from rain.model import Address, MemberState, NodeId, Role

SEEK_INTERVAL_S = 2.0
"""At most so often this node looks for its own pool; also where a forged packet says it is from."""
SEEK_FRESH_S = 5.0
"""An answer counts for so long."""
ANSWER_WAIT_S = 0.3
"""Within this time most answers are in: what is asked of who has no known address is lost."""

OTHER_POOLS_MAX = 16


class Beacons:
    """What this node says to who has no key in common with it."""

    def __init__(
        self,
        pool: Pool,
        driver: Driver,
        invites: Invites,
        transport: Transport,
        book: AddressBook,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._driver = driver
        self._identity = driver.node.identity
        self._invites = invites
        self._transport = transport
        self._book = book
        self._clock_s = clock_s
        self._nonce = b""
        self._sought_at_s = float("-inf")
        self.other_pools: dict[bytes, str] = {}
        """Names, by id, of pools that answered when this node looked for its own."""

    def hear(self, packet: bytes, source: Address) -> None:
        """Answer a call, or learn an address. Never raises, whatever the packet."""
        beacon = decode_beacon(packet)
        if isinstance(beacon, Seek):
            if beacon.node_id != self._identity.node_id:
                seek = beacon
                self._meet(seek.node_id, source)
                self._transport.answer_beacon(source, lambda: encode_beacon(self._here(seek)))
        elif isinstance(beacon, Here):
            self._learn(beacon, source)

    def _meet(self, node_id: NodeId, source: Address) -> None:
        """A member that lost its pool's key can be answered only by stream, so where is it? What
        is known already is better than a stranger's word, until it proves wrong."""
        if self._driver.node.trust.credential(node_id):
            self._book.hint(node_id, source)

    def miss_key(self, heard_from: Address) -> None:
        """A packet from there may be the pool's, under a key that this node has not got. Whom to
        ask is asked first, and only then for the key."""
        self.seek_own_pool(heard_from)
        asyncio.get_running_loop().call_later(ANSWER_WAIT_S, self._driver.feed, KeyMissing())

    def seek_own_pool(self, heard_from: Address | None = None) -> None:
        """Call for members of this pool, where packets do not find them any more; also where one
        came from that cannot be read: it may be all that is known, and no broadcast get there."""
        now_s = self._clock_s()
        if now_s - self._sought_at_s < SEEK_INTERVAL_S:
            return
        self._sought_at_s = now_s
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        seek = Seek(self._identity.node_id, self._nonce, "", self._identity.name)
        first = () if heard_from is None else (heard_from,)
        self._transport.broadcast(encode_beacon(seek), (*first, *self._book.ring()))

    def _learn(self, here: Here, source: Address) -> None:
        """A lie costs a connection that fails: TLS wants the certificate of that very node."""
        is_answer = bool(self._nonce) and here.nonce == self._nonce
        is_late = self._clock_s() - self._sought_at_s > SEEK_FRESH_S
        if not is_answer or is_late:
            return
        if here.pool_id == self._pool.pool_id:
            self._book.learn(here.node_id, Address(source.host, here.port))
        elif len(self.other_pools) < OTHER_POOLS_MAX:
            self.other_pools[here.pool_id] = here.pool_name

    def _here(self, seek: Seek) -> Here:
        return Here(
            nonce=seek.nonce,
            pool_id=self._pool.pool_id,
            pool_name=self._pool.name,
            node_id=self._identity.node_id,
            node_name=self._identity.name,
            port=self._transport.port,
            members=len(self._driver.node.trust.credentials()),
            doors=self._doors(),
            is_sponsor=self._invites.is_sponsor(seek.want),
        )

    def _doors(self) -> tuple[Address, ...]:
        """Of admins that are up: who can let somebody in."""
        node = self._driver.node
        found: list[Address] = []
        for member in node.gossip.members():
            node_id = member.record.node_id
            if member.record.state is not MemberState.ALIVE:
                continue
            if node.trust.role(node_id) is not Role.ADMIN:
                continue
            is_own = node_id == self._identity.node_id
            address = self._transport.own_address() if is_own else self._book.find(node_id)
            if address is not None and is_ipv4(address.host):
                found.append(address)
        return tuple(found[:DOORS_MAX])
