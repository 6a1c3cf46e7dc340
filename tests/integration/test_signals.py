"""What the system tells an agent: to stop, that its terminal is gone, to pause."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testbed.loopback import Node, loopback_pool, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def _is_left(node: Node, name: str) -> bool:
    rows = node.ask("nodes")["nodes"]
    return bool(next(row for row in rows if row["name"] == name)["state"] == "left")


def _reign(node: Node) -> tuple[int, str]:
    """Number and coordinator; 0 and nobody where nobody coordinates now."""
    status = node.ask("status")
    if status["epoch"] is None:
        return 0, ""
    return status["epoch"]["number"], status["coordinator"]["name"]


@contextmanager
def _hangups(disposition: signal.Handlers) -> Iterator[None]:
    """What a process ignores its children ignore: these tests may themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, disposition)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_pause_changes_nothing_and_a_closed_terminal_is_a_stop(tmp_path: Path) -> None:
    with _hangups(signal.SIG_DFL), loopback_pool(tmp_path, 3) as (first, second, third):
        before = _reign(second)
        third.send(signal.SIGTSTP)
        time.sleep(0.8)
        third.send(signal.SIGCONT)
        assert third.ask("status")["members"]["alive"] == 3
        assert _reign(second) == before

        assert third.end(signal.SIGHUP) == 0
        wait_for(lambda: _is_left(second, "pc3"), "it said goodbye")
        assert _reign(second) == before

        # The coordinator as well: it hands over before it goes.
        assert first.end(signal.SIGHUP) == 0
        wait_for(lambda: _reign(second)[1] == second.name, "the other one coordinates", 1.0)


def test_where_hangups_are_ignored_an_agent_goes_on(tmp_path: Path) -> None:
    with _hangups(signal.SIG_IGN), loopback_pool(tmp_path, 1) as (node,):
        node.send(signal.SIGHUP)
        time.sleep(0.3)
        assert node.ask("status")["members"]["alive"] == 1
        assert node.end(signal.SIGTERM) == 0
