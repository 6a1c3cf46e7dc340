"""Keeps the line to the coordinator open, so that either end's death is noticed at once.

A killed agent's connections are ended by its system within a millisecond, where packets that are
not answered say nothing for hundreds.
"""

import asyncio

from rain.agent.driver import Driver
from rain.mesh.streams import Streams

LOOK_INTERVAL_S = 0.5


class Tether:
    """Follows whoever coordinates."""

    def __init__(self, driver: Driver, streams: Streams) -> None:
        self._driver = driver
        self._streams = streams

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            self.look()

    def look(self) -> None:
        node = self._driver.node
        reign = node.election.reign()
        is_own = reign is not None and reign.node_id == node.identity.node_id
        self._streams.hold(None if reign is None or is_own else reign.node_id)
