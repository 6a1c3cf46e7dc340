"""An engine that goes down finishes what it was asked, and takes what it has just started along."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rain.effects import ContainerExited, ContainerStarted
from rain.exec.engine import EngineGone, Inspected
from rain.exec.executor import ContainerExecutor
from rain.exec.labels import ExecLabels, labels_of
from tests.exec.rig import LABELS, Reports, order

AT = "2026-01-02T03:04:05Z"
TERMINATED = 143
SAME_BOOT = ExecLabels(LABELS.pool, LABELS.node_id, LABELS.node_name, "b1")


class Quiet:
    """A watch whose news the test tells itself."""

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass


class GoingDown:
    """It starts a container in its last moment, ends it, and listens to nobody any more."""

    def __init__(self, exit_code: int, *, goes: bool) -> None:
        self.exit_code = exit_code
        self._goes = goes
        self.is_gone = False
        self.cut: Callable[[str], None] = lambda reason: None
        self.back: Callable[[], None] = lambda: None
        self._body: dict[str, Any] = {}
        self._ended = AT

    def keep(self, body: dict[str, Any], ended: str) -> None:
        """It has that container, which ended then."""
        self._body, self._ended = body, ended

    def _answer(self) -> None:
        if self.is_gone:
            raise EngineGone("it is not running")

    def ping(self) -> None:
        self._answer()

    def pid(self) -> int:
        return os.getpid()

    def is_local(self) -> bool:
        return True

    def sockets(self) -> tuple[str, ...]:
        return ()

    def maps_users(self) -> bool:
        return False

    def make_network(self, name: str, body: dict[str, Any]) -> str:
        return ""

    def disk_bytes(self, name: str) -> int:
        return 0

    def create(self, name: str, body: dict[str, Any]) -> bool:
        self._answer()
        self._body = body
        return True

    def start(self, name: str) -> Inspected:
        self._answer()
        self.is_gone = self._goes
        return self._inspected()

    def inspect(self, name: str) -> Inspected | None:
        self._answer()
        return self._inspected()

    def _inspected(self) -> Inspected:
        times = {"StartedAt": AT, "FinishedAt": self._ended}
        ended = {"ExitCode": self.exit_code, "OOMKilled": False, **times}
        state = {"Running": False, "Status": "exited", "Pid": 0, **ended}
        return {"Id": "c" * 64, "State": state, "Config": {"Labels": self._body["Labels"]}}

    def list(self) -> list[Inspected]:
        self._answer()
        return [self._inspected()]

    def kill(self, name: str, signal: str) -> None:
        pass

    def remove(self, name: str) -> None:
        pass

    def pull(self, image: str) -> str:
        return ""

    def logs(
        self, name: str, follow: bool, opened: Callable[[Callable[[], None]], None]
    ) -> Iterator[bytes]:
        return iter(())

    def watch(
        self,
        on_back: Callable[[], None],
        on_gone: Callable[[str], None],
        on_event: Callable[[str, str], None],
    ) -> Quiet:
        self.back, self.cut = on_back, on_gone
        return Quiet()

    def close(self) -> None:
        pass


async def test_what_was_started_into_the_end_of_an_engine_is_lost(tmp_path: Path) -> None:
    engine, reports = GoingDown(TERMINATED, goes=True), Reports()
    executor = ContainerExecutor(engine, LABELS, tmp_path, reports)
    assert await executor.open() == ""
    given = order("sleep", "1", image="shell")

    await executor.start(given)
    await reports.wait(ContainerStarted, given)
    engine.cut("it is not running")
    await asyncio.sleep(0)
    engine.is_gone = False
    engine.back()

    ended = await reports.wait(ContainerExited, given)
    assert (ended.exit_code, ended.is_lost) == (TERMINATED, True)
    await executor.close()


@pytest.mark.parametrize("exit_code", [0, 3])
async def test_what_ends_before_its_start_is_told_has_its_own_end(
    tmp_path: Path, exit_code: int
) -> None:
    engine, reports = GoingDown(exit_code, goes=False), Reports()
    executor = ContainerExecutor(engine, LABELS, tmp_path, reports)
    assert await executor.open() == ""
    given = order("true", image="shell")

    await executor.start(given)
    ended = await reports.wait(ContainerExited, given)

    assert (ended.exit_code, ended.is_lost) == (exit_code, False)
    assert [type(event) for event in reports.all] == [ContainerStarted, ContainerExited]
    await executor.close()


@pytest.mark.parametrize(("ended", "is_lost"), [(AT, True), ("2126-01-02T03:04:05Z", False)])
async def test_what_ended_with_the_engine_before_is_lost_to_an_agent_that_did_not_watch(
    tmp_path: Path, ended: str, is_lost: bool
) -> None:
    """A restarted agent lists it: it ended before this engine began, or under it."""
    engine, reports = GoingDown(TERMINATED, goes=False), Reports()
    given = order("sleep", "1", image="shell")
    engine.keep({"Labels": labels_of(SAME_BOOT, given.attempt_id)}, ended)
    executor = ContainerExecutor(engine, SAME_BOOT, tmp_path, reports)
    assert await executor.open() == ""

    listed = await executor.list_containers()

    assert listed is not None
    assert [(one.exit_code, one.is_lost) for one in listed] == [(TERMINATED, is_lost)]
    await executor.close()
