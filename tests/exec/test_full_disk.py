"""A disk that is full, for real: a small one, filled to its last byte."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rain.effects import ContainerExited, ContainerFailed, ContainerStarted, StartContainer
from rain.exec.full_disk import GIVEN_BACK_MAX, FullDisk
from rain.exec.processes import ProcessExecutor
from rain.model import AttemptId
from rain.sched.admission import DISK_FULL
from tests.exec.rig import LABELS, Reports, key_of, order

SMALL_DISK = "4m"
WRITES_ALL = "dd if=/dev/zero of=filler bs=64k"


class Rig:
    def __init__(self, disk: Path) -> None:
        self.disk = disk
        self.gate = disk.parent / "gate"
        os.mkfifo(self.gate)
        self._gate = os.open(self.gate, os.O_RDWR)
        self.reports = Reports()
        self.executor = ProcessExecutor(LABELS, disk / "exec", self.reports)

    async def begun(self, command: str) -> StartContainer:
        """One that runs, and does that once `let_go` was called."""
        task = order("sh", "-c", f"echo begun; read go < {self.gate}; {command}")
        await self.executor.start(task)
        assert await anext(self.executor.logs(key_of(task), follow=True)) == (1, b"begun\n")
        return task

    def let_go(self) -> None:
        os.write(self._gate, b"go\n")

    def close(self) -> None:
        os.close(self._gate)

    def fill(self) -> None:
        with (self.disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4_096))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("a small disk of one's own needs Linux and root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
async def rig(small_disk: Path) -> AsyncIterator[Rig]:
    rig = Rig(small_disk)
    assert await rig.executor.open() == ""
    try:
        yield rig
    finally:
        for found in await rig.executor.list_containers() or ():
            await rig.executor.remove(found.attempt_key)
        await rig.executor.close()
        rig.close()


async def test_nothing_is_started_on_a_full_disk(rig: Rig) -> None:
    task = order("true")
    rig.fill()
    await rig.executor.start(task)
    failed = await rig.reports.wait(ContainerFailed, task)
    assert (failed.reason, failed.refused) == (DISK_FULL, True)
    assert list((rig.disk / "exec/tasks").iterdir()) == []


async def test_who_cannot_write_on_a_full_disk_is_given_back(rig: Rig) -> None:
    task = await rig.begun("dd if=/dev/zero bs=64k count=1")
    rig.fill()
    rig.let_go()
    failed = await rig.reports.wait(ContainerFailed, task)
    assert (failed.reason, failed.refused) == (DISK_FULL, True)
    assert [type(event) for event in rig.reports.all] == [ContainerStarted, ContainerFailed]


async def test_who_succeeds_on_a_full_disk_has_succeeded(rig: Rig) -> None:
    task = await rig.begun("true")
    rig.fill()
    rig.let_go()
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 0


async def test_who_is_stopped_on_a_full_disk_is_not_given_back(rig: Rig) -> None:
    task = await rig.begun("true")
    rig.fill()
    await rig.executor.stop(key_of(task), 0)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 137


async def test_who_fills_the_disk_again_and_again_has_failed(rig: Rig) -> None:
    ends: list[tuple[bool, str]] = []
    for number in range(1, GIVEN_BACK_MAX + 2):
        task = order("sh", "-c", WRITES_ALL, job="filler", number=number)
        await rig.executor.start(task)
        if number <= GIVEN_BACK_MAX:
            failed = await rig.reports.wait(ContainerFailed, task)
            ends.append((failed.refused, failed.reason))
        else:
            exited = await rig.reports.wait(ContainerExited, task)
            ends.append((False, f"{exited.exit_code}: {exited.reason}"))
        await rig.executor.remove(key_of(task))
    assert ends == [(True, DISK_FULL)] * GIVEN_BACK_MAX + [(False, f"1: {DISK_FULL}")]


async def test_an_end_that_could_not_be_written_is_no_failure(rig: Rig) -> None:
    """Its agent was away: nobody but its shell knew the exit code."""
    task = order("true")
    await rig.executor.start(task)
    await rig.reports.wait(ContainerExited, task)
    folder = rig.disk / "exec/tasks" / key_of(task)
    (folder / "exit").rename(folder / "exit.new")
    found = await rig.executor.list_containers()
    assert found is not None
    assert [(one.exit_code, one.is_lost) for one in found] == [(137, True)]


async def test_a_log_is_kept_in_the_place_of_the_files_that_filled_the_disk(rig: Rig) -> None:
    task = order("sh", "-c", f"echo word; {WRITES_ALL}")
    await rig.executor.start(task)
    await rig.reports.wait(ContainerFailed, task)
    await rig.executor.remove(key_of(task))
    printed = [content async for _, content in rig.executor.logs(key_of(task), follow=False)]
    assert b"".join(printed).startswith(b"word\n")


def test_a_full_disk_is_free_again_with_some_room_only(small_disk: Path) -> None:
    disk = FullDisk(small_disk, freed_bytes=3 * 2**20)
    seen = [disk.is_full()]
    for size in (4 * 2**20, 2 * 2**20, 2**19):
        (small_disk / "filler").write_bytes(b"")
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            filler.write(bytes(size))
        seen.append(disk.is_full())
    assert seen == [False, True, True, False]


def test_a_disk_that_cannot_be_asked_is_not_called_full(tmp_path: Path) -> None:
    assert not FullDisk(tmp_path / "none").is_full()


def test_few_tasks_are_remembered_and_the_oldest_is_forgotten(tmp_path: Path) -> None:
    disk = FullDisk(tmp_path, full_bytes=2**62, freed_bytes=2**62, remembered_max=2)
    first, second, third = (order("true").attempt_id for _ in range(3))

    def given_back(attempt_id: AttemptId) -> bool:
        return disk.is_to_blame(attempt_id)

    for _ in range(GIVEN_BACK_MAX):
        assert given_back(first)
    assert not given_back(first)
    assert [given_back(second), given_back(third)] == [True, True]
    assert given_back(first), "forgotten, so from the beginning"
