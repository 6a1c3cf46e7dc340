"""Two pools founded side by side at the same moment: nobody meant that, so both persons are told.

Who founds has listened before, but two persons can say yes within the same second. For a while
after its founding a new pool goes on calling; what answers is said at the terminal and in status.
"""

import asyncio
from collections.abc import Callable

from rain.agent.beacons import Beacons

LOOKS = 6
LOOK_INTERVAL_S = 2.0


class Twins:
    """Pools that were heard on this network just after this one was founded."""

    def __init__(self, beacons: Beacons, say: Callable[[str], None], looks: int) -> None:
        self._beacons = beacons
        self._looks = looks
        self._say = say
        self.warnings: list[str] = []

    async def look(self) -> None:
        """For some seconds; then a pool that appears is somebody's wish."""
        for _ in range(self._looks):
            self._beacons.seek_own_pool()
            await asyncio.sleep(LOOK_INTERVAL_S)
            for name in sorted(self._beacons.other_pools.values()):
                told = (
                    f"another pool, {name!r}, was founded here at the same time. To make one pool "
                    "of the two: on the PC of one of them type rain leave, then rain up"
                )
                if told not in self.warnings:
                    self.warnings.append(told)
                    self._say(told)
