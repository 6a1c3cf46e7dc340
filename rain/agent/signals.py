"""What the system tells this process: to stop, or that its terminal is gone."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

EXIT_AT_ONCE = 130


class Signals:
    """SIGINT, SIGTERM and SIGHUP stop the agent in good order; a second Ctrl-C means now.

    A terminal that closes says SIGHUP, perhaps more than once, and takes no more words. Where it
    was to be ignored (nohup) it stays ignored. SIGTSTP and SIGCONT are left alone: to a node, a
    pause is like any other time in which it was not heard.
    """

    def __init__(self, on_stop: Callable[[], None], say: Callable[[str], None]) -> None:
        self._on_stop = on_stop
        self._say = say
        self.count = 0
        """How often somebody has asked for an end."""

    def watch(self) -> None:
        """From now on, for as long as the running loop lives."""
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            if sys.platform == "win32":  # its loops take no signal handlers
                signal.signal(sign, lambda *_: loop.call_soon_threadsafe(self._on_signal))
            else:
                loop.add_signal_handler(sign, self._on_signal)
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_signal(self) -> None:
        self.count += 1
        if self.count > 1:
            os._exit(EXIT_AT_ONCE)
        self._on_stop()
        with suppress(OSError):  # whoever read that may be gone: it stops all the same
            self._say("stopping (again: at once)")

    def _on_hangup(self) -> None:
        self._on_stop()
