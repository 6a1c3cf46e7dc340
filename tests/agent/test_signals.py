"""A stop that is asked for comes, whether or not anybody can still read about it."""

import asyncio
import os
import signal
import sys

import pytest

from rain.agent.signals import Signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.mark.parametrize("error", [OSError(5, "the terminal is gone"), BrokenPipeError()])
async def test_a_stop_needs_no_reader(error: OSError) -> None:
    stop = asyncio.Event()

    def say(words: str) -> None:
        raise error

    signals = Signals(stop.set, say)
    signals.watch()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5.0):
            await stop.wait()
        assert signals.count == 1
    finally:
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(sign)
