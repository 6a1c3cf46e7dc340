"""A PC that is out of file descriptors learns nothing, and concludes nothing from that."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rain.effects import ContainerExited
from rain.exec.kernel import (
    open_files_max,
    raise_open_files_limit,
    reaped,
    wait_until_ended,
)
from rain.exec.processes import LIVE_SHARE, ProcessExecutor
from rain.mesh.discovery import broadcast_addresses, list_interfaces, own_address
from tests.exec.rig import LABELS, Reports, key_of, order

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the process executor needs Linux"
)


@contextmanager
def open_files(soft: int = 0) -> Iterator[None]:
    """At most so many files may be open meanwhile; 0: not one more than now."""
    import resource

    was, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not soft:
        soft = os.dup(0)
        os.close(soft)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (was, hard))


def test_the_networks_are_those_of_the_last_time() -> None:
    known = list_interfaces(), own_address(), broadcast_addresses()
    with open_files():
        assert list_interfaces() == known[0]
        assert broadcast_addresses() == known[2]
        own_address()


async def test_a_process_that_cannot_be_looked_at_has_not_ended() -> None:
    with open_files():
        waiting = asyncio.create_task(wait_until_ended(os.getpid()))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_what_runs_is_not_known_and_nothing_is_removed(tmp_path: Path) -> None:
    reports = Reports()
    executor = ProcessExecutor(LABELS, tmp_path, reports)
    assert await executor.open() == ""
    task = order("sleep", "60")
    try:
        await executor.start(task)
        with open_files():
            assert await executor.list_containers() is None
        listed = await executor.list_containers()
        assert listed is not None
        assert [one.exit_code for one in listed] == [None]
    finally:
        await executor.remove(key_of(task))
        await executor.close()


async def test_an_end_is_told_when_it_can_be_read_again(tmp_path: Path) -> None:
    reports = Reports()
    executor = ProcessExecutor(LABELS, tmp_path, reports)
    assert await executor.open() == ""
    task = order("sh", "-c", "exit 7")
    await executor.start(task)
    folder = tmp_path / "tasks" / key_of(task)
    with open_files():
        while not (folder / "exit").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not any(isinstance(event, ContainerExited) for event in reports.all)
    assert (await reports.wait(ContainerExited, task)).exit_code == 7
    await executor.remove(key_of(task))
    await executor.close()


def test_a_child_that_runs_is_not_waited_for() -> None:
    child = subprocess.Popen(["sleep", "60"])
    assert reaped(child.pid) is None
    child.kill()
    while (code := reaped(child.pid)) is None:
        pass
    assert code == 137
    child.returncode = -9


async def test_what_may_run_follows_from_what_may_be_open(tmp_path: Path) -> None:
    """And a raised limit is the agent's: its tasks have the one it was started with."""
    reports = Reports()
    with open_files(256):
        executor = ProcessExecutor(LABELS, tmp_path, reports)
        assert await executor.open() == ""
        assert executor._live_max == 256 // LIVE_SHARE
        raise_open_files_limit()
        assert open_files_max() > 256
        task = order("sh", "-c", "ulimit -n")
        await executor.start(task)
        await reports.wait(ContainerExited, task)
    printed = [content async for _, content in executor.logs(key_of(task), False)]
    assert b"".join(printed) == b"256\n"
    await executor.remove(key_of(task))
    await executor.close()
