"""An agent that does not answer: what is waited for is said soon, and the wait has an end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rain import client
from rain.client import Client, Failed
from rain.config import control_path
from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, Json, end

LISTENS = """
import socket, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def stopped(data_dir: Path) -> Iterator[int]:
    """The pid of an agent that is stopped."""
    if not sys.platform.startswith("linux"):
        pytest.skip("who is behind a socket is asked of Linux")
    words = [sys.executable, "-c", LISTENS, str(control_path(data_dir))]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield process.pid
        process.kill()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE_S", 0.05)
    monkeypatch.setattr(client, "STOPPED_TIMEOUT_S", 0.2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("words", [["status"], ["wait", "x"], ["logs", "x.0", "-f"], ["down"]])
def test_a_stopped_agent_is_named_and_not_waited_for(
    rain: Rain, stopped: int, words: list[str]
) -> None:
    told = rain(*words)
    waiting, failed = told.err.splitlines()
    assert waiting == f"rain: the agent (pid {stopped}) is stopped; waiting up to 0 s for it"
    assert failed.startswith(f"rain: the agent (pid {stopped}) did not answer `{words[0]}` within")
    assert failed.endswith(f"it is stopped · let it go on: kill -CONT {stopped}")
    assert told.code == (125 if words[0] == "wait" else 1)


@pytest.mark.usefixtures("hasty")
def test_a_slow_answer_is_waited_for_and_that_is_said_once(
    agent: FakeAgent, data_dir: Path
) -> None:
    said: list[str] = []
    go_on = threading.Event()

    def slowly(_args: Json) -> list[Json]:
        assert go_on.wait(10)
        return [end(fine=True)]

    def say(text: str) -> None:
        said.append(text)
        go_on.set()

    agent.on_call("status", slowly)
    assert Client(data_dir, say).call("status") == {"fine": True}
    pid = os.getpid()
    assert said == [f"rain: the agent (pid {pid}) has not answered yet; waiting up to 30 s for it"]


@pytest.mark.usefixtures("hasty")
def test_the_wait_ends(agent: FakeAgent, data_dir: Path) -> None:
    over = threading.Event()

    def never(_args: Json) -> list[Json]:
        over.wait(10)
        return []

    agent.on_call("status", never)
    with pytest.raises(Failed) as failed:
        Client(data_dir).call("status", timeout_s=0.2)
    over.set()
    assert failed.value.message.endswith("did not answer `status` within 0 s")
    assert failed.value.hint == f"look at its log in {data_dir}"


@pytest.mark.usefixtures("hasty")
def test_who_follows_hears_nothing_of_a_silence_that_is_usual(
    agent: FakeAgent, data_dir: Path
) -> None:
    said: list[str] = []
    go_on = threading.Timer(0.3, lambda: over.set())
    over = threading.Event()

    def later(_args: Json) -> list[Json]:
        go_on.start()
        assert over.wait(10)
        return [end()]

    agent.on_call("wait", later)
    assert Client(data_dir, said.append).call("wait", timeout_s=None) == {}
    assert said == []
