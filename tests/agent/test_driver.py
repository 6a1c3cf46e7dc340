"""The driver's one timer: a loop that was late must not be left with two."""

import asyncio
import random
import time
from collections.abc import Iterable
from pathlib import Path

from rain.agent.address_book import AddressBook
from rain.agent.driver import Driver
from rain.effects import DeadlinePassed, Event, RemoveContainer, StartContainer, StopContainer
from rain.log import Logger
from rain.model import Address, Facts, Identity, NodeId
from rain.node import Node, NodeConfig
from rain.store import Store

LAGS = 10
LAG_S = 0.15
CALM_S = 1.0


class Nowhere:
    """A network and an executor that swallow everything."""

    def send(self, to: NodeId, address: Address, body: bytes) -> None: ...
    def cast(self, to: Iterable[Address], body: bytes) -> None: ...
    def broadcast(self, body: bytes) -> None: ...
    def post(self, to: NodeId, body: bytes) -> None: ...
    def start(self, effect: StartContainer) -> None: ...
    def stop(self, effect: StopContainer) -> None: ...
    def remove(self, effect: RemoveContainer) -> None: ...


class CountingDriver(Driver):
    """The real driver; it also counts how often a deadline passed."""

    deadlines = 0

    def feed(self, event: Event) -> None:
        self.deadlines += isinstance(event, DeadlinePassed)
        super().feed(event)


async def deadlines_in(driver: CountingDriver, seconds: float) -> int:
    before = driver.deadlines
    await asyncio.sleep(seconds)
    return driver.deadlines - before


async def test_lags_leave_no_timers_behind(tmp_path: Path, logger: Logger) -> None:
    store = Store.open(tmp_path / "rain.db")
    identity = Identity(NodeId("n1"), "pc1", 1)

    def make_node(at_ms: int) -> Node:
        dice = random.Random(7)
        return Node(identity, Address("127.0.0.1", 1), Facts(), NodeConfig(), dice, at_ms)

    driver = CountingDriver(make_node, identity, AddressBook(), store, logger)
    driver.connect(Nowhere(), Nowhere())
    writing = asyncio.create_task(driver.writer.run())
    driver.feed(DeadlinePassed())
    while driver.node.election.reign() is None:
        await driver.wait_change(5_000)
    calm = await deadlines_in(driver, CALM_S)
    for _ in range(LAGS):
        time.sleep(LAG_S)  # noqa: ASYNC251 - what a busy PC does to a loop
        await asyncio.sleep(0.005)  # the late timer fires and yields
        driver.feed(DeadlinePassed())  # and in that time something moves the deadline
        await asyncio.sleep(0.03)
    after = await deadlines_in(driver, CALM_S)

    assert after <= calm * 1.5 + 2
    writing.cancel()
    await store.close()
