"""Tells the node what the clock on the wall says: first of all, and every few minutes.

Nothing is ordered by it. It is what jobs that are over grow old by, and what a long absence is
measured with; how far it is believed is the node's to say (rain/sched/calendar.py).
"""

import asyncio

from rain.agent.clock import now_unix_ms
from rain.agent.driver import Driver
from rain.effects import ClockTold

TOLD_INTERVAL_S = 600.0


class WallClock:
    """`tell` once before anything else is heard of, then `run` for ever."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def tell(self) -> None:
        self._driver.feed(ClockTold(max(0, now_unix_ms())))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TOLD_INTERVAL_S)
            self.tell()
