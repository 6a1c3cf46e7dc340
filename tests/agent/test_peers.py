"""The control socket serves its own user, and root; others are told so and counted."""

import asyncio
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import structlog
import uvloop

from rain.agent.control import ControlServer, End, Item, Json, peer_uid
from rain.log import Logger

ASK = """
import contextlib, socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect(sys.argv[1])
    with contextlib.suppress(BrokenPipeError):  # a refusal does not wait for the question
        asking.sendall(b'{"verb": "hello"}\\n')
    print(asking.makefile().readline())
"""
STRANGER = 65_534


async def hello(_args: Json) -> AsyncIterator[Item | End]:
    yield End({"hello": True})


@pytest.fixture
def path() -> Iterator[Path]:
    """Where every user may knock."""
    folder = Path(tempfile.mkdtemp(prefix="rain-control-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder / "control.sock"
    finally:
        shutil.rmtree(folder)


def ask(path: Path, uid: int) -> Json:
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", ASK, str(path)]
        if uid != os.getuid()
        else [sys.executable, "-c", ASK, str(path)],
        user=uid, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    answer: Json = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.skipif(os.geteuid() != 0, reason="to be another user needs root")
def test_another_user_is_refused_in_words_and_counted(
    path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    log: Logger = structlog.wrap_logger(logging.Logger("test"), wrapper_class=Logger)
    server = ControlServer(path, {"hello": hello}, log)

    async def story() -> None:
        await server.open()
        await asyncio.to_thread(path.chmod, 0o666)  # as if somebody had been careless
        try:
            assert await asyncio.to_thread(ask, path, os.getuid()) == {"end": {"hello": True}}
            refused = await asyncio.to_thread(ask, path, STRANGER)
        finally:
            await server.close()
        assert refused["exit_code"] == 1
        assert refused["error"]["code"] == "denied"
        assert refused["error"]["message"] == (
            f"this agent belongs to another user of this PC (you are {STRANGER})"
        )

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())
    assert server.dropped == {"other_user": 1}


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one.fileno()) == os.getuid()
        one.sendall(b"still open")
        assert other.recv(10) == b"still open"
