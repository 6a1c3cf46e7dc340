"""The executors of a PC: who answered, who broke, what is forgotten."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from rain.agent import executors
from rain.agent.executors import Executors
from rain.config import UpOptions
from rain.effects import (
    ContainerFound,
    ContainersListed,
    Event,
    HardwareMeasured,
    RemoveContainer,
    StartContainer,
)
from rain.exec.full_disk import FullDisk
from rain.log import Logger, open_log
from tests.exec.rig import LABELS


class Engine:
    """An executor that does as it is told: it opens or not, and answers or not."""

    def __init__(self) -> None:
        self.reason = ""
        self.found: tuple[ContainerFound, ...] | None = ()
        self.opened = asyncio.Event()
        self.removed: list[str] = []

    async def open(self) -> str:
        self.opened.set()
        return self.reason

    async def list_containers(self) -> tuple[ContainerFound, ...] | None:
        return self.found

    async def start(self, effect: StartContainer) -> None: ...
    async def stop(self, attempt_key: str, grace_ms: int) -> None: ...

    async def remove(self, attempt_key: str) -> None:
        self.removed.append(attempt_key)

    async def logs(self, attempt_key: str, follow: bool) -> AsyncIterator[tuple[int, bytes]]:
        yield 1, b""

    async def close(self) -> None: ...


class Rig:
    def __init__(
        self, folder: Path, log: Logger | None = None, volumes: tuple[str, ...] = ()
    ) -> None:
        self.told: list[Event] = []
        if log is None:
            log = structlog.wrap_logger(logging.Logger("test"), wrapper_class=Logger)
        options = UpOptions(folder, name="blue", executor="both", allow_volumes=volumes)
        self.executors = Executors(options, LABELS, folder, self.told.append, log)
        self.docker, self.process = Engine(), Engine()
        self.executors._all = {"docker": self.docker, "process": self.process}


async def test_a_listing_names_those_that_answered(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    container = ContainerFound("a", 5)
    rig.docker.reason, rig.process.found = "the engine is off", (container,)
    await rig.executors.open()

    await rig.executors.list_all()
    rig.executors._reasons["docker"] = ""
    rig.docker.found = None
    await rig.executors.list_all()
    rig.docker.found = ()
    await rig.executors.list_all()

    assert rig.told == [
        ContainersListed((container,), ("process",)),
        ContainersListed((container,), ("process",)),
        ContainersListed((container,), ("docker", "process")),
    ]
    await rig.executors.close(remove_all=False)


async def test_an_engine_that_breaks_is_opened_again_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    await rig.executors.open()
    rig.docker.opened.clear()
    keeping = asyncio.create_task(rig.executors.keep_measured())
    await asyncio.sleep(0)

    rig.executors._on_engine_state("the engine is gone")
    async with asyncio.timeout(2):
        await rig.docker.opened.wait()

    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert any(isinstance(event, HardwareMeasured) for event in rig.told)


async def test_what_is_removed_is_forgotten(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.process.found = (ContainerFound("a", 5, 0),)
    await rig.executors.open()
    await rig.executors.list_all()

    rig.executors.remove(RemoveContainer("a"))
    await rig.executors.close(remove_all=False)

    assert rig.process.removed == ["a"]
    assert rig.executors._where == {}


async def test_one_that_works_but_did_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "REOPEN_INTERVAL_S", 0.01)
    rig = Rig(tmp_path)
    await rig.executors.open()
    keeping = asyncio.create_task(rig.executors.keep_measured())
    await asyncio.sleep(0)
    rig.process.found = None
    await rig.executors.list_all()
    rig.process.found = (ContainerFound("a", 5),)

    async with asyncio.timeout(5):
        while len(rig.told) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert rig.told[:2] == [
        ContainersListed((), ("docker",)),
        ContainersListed((ContainerFound("a", 5),), ("docker", "process")),
    ]


async def test_a_folder_that_is_not_there_is_noted(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.mkdir()
    notes = Rig(tmp_path, volumes=(str(there), str(gone))).executors.notes()
    (told,) = [note for note in notes if "folder" in note]
    assert told == f"there is no folder {gone} here: no task can be given it (--allow-volume)"


async def test_what_is_said_at_the_start_is_not_said_twice_at_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lent = tmp_path / "lent"
    lent.mkdir()
    log = open_log(tmp_path, is_terminal=True)
    rig = Rig(tmp_path, log, volumes=(str(lent),))
    await rig.executors.open()
    assert rig.executors.notes(), "`rain up` says these"
    assert capsys.readouterr().err == ""

    lent.rmdir()
    rig.executors._log_notes()
    told = capsys.readouterr().err
    rig.executors._log_notes()
    assert told.startswith(f"note: there is no folder {lent}")
    assert capsys.readouterr().err == ""
    for sink in list(log._logger.handlers):
        sink.close()


async def test_a_pc_whose_disk_is_full_takes_no_work_until_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "DISK_INTERVAL_S", 0.01)
    rig = Rig(tmp_path)
    await rig.executors.open()
    keeping = asyncio.create_task(rig.executors.watch_disk())
    for disk, works, reason in (
        (FullDisk(tmp_path, 2**62), False, "its disk is full"),
        (FullDisk(tmp_path), True, ""),
    ):
        rig.told.clear()
        rig.executors._disk = disk
        async with asyncio.timeout(5):
            while not rig.told:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        [told] = rig.told
        assert isinstance(told, HardwareMeasured)
        assert (told.facts.works, told.facts.idle_reason) == (works, reason)

    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await rig.executors.close(remove_all=False)


async def test_who_drains_takes_nothing_new_whatever_else_changes(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    await rig.executors.open()
    assert rig.executors.facts().works
    rig.executors.drain()
    rig.executors._disk = FullDisk(tmp_path, 2**62)
    await rig.executors.open()
    told = rig.executors.facts()
    assert (told.works, told.idle_reason) == (False, "draining")
    await rig.executors.close(remove_all=False)
