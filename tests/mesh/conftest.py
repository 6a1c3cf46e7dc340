"""Every test of a socket runs on both event loops that Rain runs on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

Run = Callable[[Coroutine[Any, Any, None]], None]
TEST_TIMEOUT_S = 10


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def run_story(story: Coroutine[Any, Any, None]) -> None:
        async def in_time() -> None:
            async with asyncio.timeout(TEST_TIMEOUT_S):
                await story

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(in_time())

    return run_story
