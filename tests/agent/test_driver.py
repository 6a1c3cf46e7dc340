"""The driver's one timer: a loop that was late must not be left with two."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from rain.agent.driver import Driver
from rain.effects import DeadlinePassed, Event, Lagged, Persist, StartContainer, StopRequested
from rain.model import AttemptId, Epoch, JobId, JobSpec, NodeId
from tests.agent.desk import Nowhere, OneNode

LAGS = 10
LAG_S = 0.15
CALM_S = 1.0


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


async def test_lags_leave_no_timers_behind(tmp_path: Path) -> None:
    node = OneNode(tmp_path, CountingDriver)
    driver = node.driver
    assert isinstance(driver, CountingDriver)
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
    await node.store.close()


class Starts(Nowhere):
    """Remembers what was started."""

    def __init__(self) -> None:
        self.orders: list[StartContainer] = []

    def start(self, effect: StartContainer) -> None:
        self.orders.append(effect)


@pytest.mark.parametrize("is_going", [False, True])
async def test_what_a_slow_write_held_back_is_not_started_by_a_node_that_goes(
    tmp_path: Path, is_going: bool
) -> None:
    node, starts = OneNode(tmp_path), Starts()
    node.driver.connect(Nowhere(), starts)
    attempt = AttemptId(JobId("job"), 0, 1, Epoch(1, NodeId("n"), 1), NodeId("n"))
    job = node.job(JobSpec(command=("true",), image="sim"))
    order = StartContainer(attempt, job)
    node.driver.writer.enqueue(Persist(then=(order,)))
    if is_going:
        node.driver.feed(StopRequested())
    await node.driver.writer.write_once()

    assert starts.orders == ([] if is_going else [order])
    await node.store.close()


class Sleeper(Driver):
    """Its PC has slept for as long as the test says; the clock of the test's PC saw none of it."""

    def __init__(self, *given: Any) -> None:
        self.slept_for_ms = 0
        self.fed: list[Event] = []
        made, identity, book, store, log = given
        super().__init__(made, identity, book, store, log, slept_ms=lambda: self.slept_for_ms)

    def feed(self, event: Event) -> None:
        super().feed(event)
        self.fed.append(event)


async def test_a_sleep_that_the_clock_did_not_see_is_told_before_anything_else(
    tmp_path: Path,
) -> None:
    node = OneNode(tmp_path, Sleeper)
    driver = node.driver
    assert isinstance(driver, Sleeper)
    driver.connect(Nowhere(), Nowhere())
    driver.slept_for_ms = 3_600_000
    driver.feed(DeadlinePassed())
    driver.feed(DeadlinePassed())

    told = [event for event in driver.fed if not isinstance(event, DeadlinePassed)]
    assert told == [Lagged(3_600_000)]
    assert driver.fed[0] == Lagged(3_600_000)
    await node.store.close()
