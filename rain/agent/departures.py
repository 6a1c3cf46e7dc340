"""Since when a PC is down, as this one saw it: for who asks after something that is on its disk."""

import asyncio
from collections.abc import Iterable

from rain.agent.clock import now_unix_ms
from rain.agent.driver import Driver
from rain.gossip.member import Member
from rain.model import NodeId

LOOK_INTERVAL_S = 1.0


class Departures:
    """Those that went while this agent looked; as many as there are members, at most."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._here: frozenset[NodeId] = frozenset()
        self._gone_unix_ms: dict[NodeId, int] = {}

    def since_unix_ms(self, node_id: NodeId) -> int | None:
        """None: it is here, or it was gone before."""
        return self._gone_unix_ms.get(node_id)

    async def run(self) -> None:
        """For ever."""
        while True:
            self.look(self._driver.node.gossip.members(), now_unix_ms())
            await asyncio.sleep(LOOK_INTERVAL_S)

    def look(self, members: Iterable[Member], at_unix_ms: int) -> None:
        """Who of those that were here is here no more?"""
        here: list[NodeId] = []
        gone: dict[NodeId, int] = {}
        for member in members:
            node_id = member.record.node_id
            if member.is_here:
                here.append(node_id)
            elif node_id in self._here:
                gone[node_id] = at_unix_ms
            elif node_id in self._gone_unix_ms:
                gone[node_id] = self._gone_unix_ms[node_id]
        self._here, self._gone_unix_ms = frozenset(here), gone
