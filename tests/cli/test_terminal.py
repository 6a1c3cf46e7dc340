"""On a terminal: submit follows, Ctrl-C leaves a submitted job alone and ends one that was run."""

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.fake_agent import FakeAgent, Json, end, job, output

WAIT_S = 20.0


class Terminal:
    """A `rain` whose stdin, stdout and stderr are one pseudo-terminal."""

    def __init__(self, data_dir: Path, *words: str) -> None:
        self._screen, there = pty.openpty()
        self.text = ""
        environment = {**os.environ, "RAIN_DATA_DIR": str(data_dir)}
        self.command = subprocess.Popen(
            [sys.executable, "-m", "rain", *words],
            stdin=there, stdout=there, stderr=there, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(there)

    def read_until(self, words: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self._screen], [], [], 0.1)[0]:
                self.text += os.read(self._screen, 65_536).decode()

    def press_ctrl_c(self) -> None:
        self.command.send_signal(signal.SIGINT)

    def wait(self) -> int:
        code = self.command.wait(WAIT_S)
        try:
            while chunk := os.read(self._screen, 65_536):
                self.text += chunk.decode()
        except OSError:
            pass  # the other end is closed: how Linux says that a terminal is at its end
        os.close(self._screen)
        return code


@pytest.fixture
def cancelled(agent: FakeAgent) -> threading.Event:
    """An agent whose job prints a word and then runs until it is cancelled."""
    event = threading.Event()

    def logs(_args: Json) -> Iterator[Json]:
        yield output(b"working\n")
        event.wait(WAIT_S)
        yield end()

    def cancel(_args: Json) -> Iterator[Json]:
        event.set()
        yield end(cancelled=["abc"])

    agent.on("submit", end(job_id="abc", copies=1, members=1))
    agent.on_call("logs", logs)
    agent.on_call("cancel", cancel)
    agent.on("wait", end(exit_code=137, jobs=[job(state="CANCELLED", exit_code=137)]))
    return event


def test_ctrl_c_detaches_from_a_submitted_job(
    data_dir: Path, agent: FakeAgent, cancelled: threading.Event
) -> None:
    terminal = Terminal(data_dir, "submit", "--image", "i", "--", "x")
    terminal.read_until("working")
    terminal.press_ctrl_c()
    assert terminal.wait() == 130
    assert "rain logs -f abc" in terminal.text
    assert "rain cancel abc" in terminal.text
    assert "kept on this PC only" in terminal.text
    assert "cancel" not in agent.verbs()
    assert not cancelled.is_set()


def test_ctrl_c_ends_a_job_that_was_run(
    data_dir: Path, agent: FakeAgent, cancelled: threading.Event
) -> None:
    terminal = Terminal(data_dir, "run", "--image", "i", "--", "x")
    terminal.read_until("working")
    terminal.press_ctrl_c()
    assert terminal.wait() == 137
    assert agent.args("cancel") == {"ids": ["abc"]}
    assert cancelled.is_set()


def test_detached_on_a_terminal_says_the_id_alone(data_dir: Path, agent: FakeAgent) -> None:
    agent.on("submit", end(job_id="abc", copies=3, members=3))
    terminal = Terminal(data_dir, "submit", "-d", "--image", "i", "--", "x")
    assert terminal.wait() == 0
    assert terminal.text.strip() == "abc"
