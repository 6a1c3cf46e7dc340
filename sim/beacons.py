"""Beacons on the simulated LAN: who cannot read its pool's packets asks in clear where members are.

As rain/agent/beacons.py does it. An address learnt so is a hint: whoever is dialled there proves
who it is, and a lie costs a connection.
"""

import random
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from rain.mesh.beacon import NONCE_BYTES, Here, Seek, decode_beacon, encode_beacon
from rain.mesh.codec import Rejected
from rain.model import NodeId

from .routes import Routes
from .world import World

SEEK_EVERY_US = 2_000_000
SEEK_FRESH_US = 5_000_000

SendTo = Callable[[int, bytes], None]
"""A packet to that host."""


class Beacons:
    """Of one host: it calls, answers who calls, and takes answers while they are fresh."""

    def __init__(
        self,
        me: Here,
        world: World,
        routes: Routes,
        dice: random.Random,
        send: SendTo,
        is_member: Callable[[NodeId], bool],
    ) -> None:
        """`me` is what it answers; the nonce in it is of no matter."""
        self._me = me
        self._world = world
        self._routes = routes
        self._dice = dice
        self._send = send
        self._is_member = is_member
        self._nonce = b""
        self._sought_us = -SEEK_EVERY_US

    def forget(self) -> None:
        """The agent is another one."""
        self._nonce, self._sought_us = b"", -SEEK_EVERY_US

    def seek(self, targets: Sequence[int]) -> None:
        """Call these hosts; not all the time."""
        if self._world.now_us - self._sought_us < SEEK_EVERY_US:
            return
        self._sought_us = self._world.now_us
        self._nonce = self._dice.randbytes(NONCE_BYTES)
        packet = encode_beacon(Seek(self._me.node_id, self._nonce, "", self._me.node_name))
        for target in targets:
            self._send(target, packet)

    def hear(self, packet: bytes, source: int) -> bool:
        """Was it a beacon? Then it is dealt with."""
        beacon = decode_beacon(packet)
        if isinstance(beacon, Rejected):
            return False
        if isinstance(beacon, Here):
            is_late = self._world.now_us - self._sought_us > SEEK_FRESH_US
            if beacon.nonce == self._nonce and beacon.pool_id == self._me.pool_id and not is_late:
                self._routes.learn(beacon.node_id, source)
        elif beacon.node_id != self._me.node_id:
            if self._is_member(beacon.node_id) and self._routes.find(beacon.node_id) is None:
                self._routes.learn(beacon.node_id, source)
            self._send(source, encode_beacon(replace(self._me, nonce=beacon.nonce)))
        return True
