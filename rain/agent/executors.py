"""The executors of this PC behind one face, and what they make it offer to the pool.

Starting and stopping are tasks of their own, so that a slow engine delays nothing; each reports
through events. A started agent lists what the last one left running before it starts anything.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from msgspec.structs import replace

from rain.config import (
    NETWORKS,
    UpOptions,
    control_path,
    parse_size,
    share_cpus_milli,
    share_memory_bytes,
)
from rain.effects import (
    ContainerFailed,
    ContainerFound,
    ContainersListed,
    Event,
    HardwareMeasured,
    RemoveContainer,
    StartContainer,
    StopContainer,
)
from rain.exec import hardware
from rain.exec.containers import DockerExecutor
from rain.exec.full_disk import FullDisk
from rain.exec.kernel import raise_open_files_limit
from rain.exec.labels import ExecLabels
from rain.exec.policy import OwnerPolicy
from rain.exec.processes import ProcessExecutor
from rain.log import OWNER_NOTE, Logger
from rain.model import AttemptId, Facts, Resources
from rain.sched.identity import attempt_key

REOPEN_INTERVAL_S = 5.0
DISK_INTERVAL_S = 5.0
MEASURE_INTERVAL_S = 60.0
STOPPED_WAIT_S = 15.0
FULL = "its disk is full"
"""Why a PC takes no work: neither jobs nor what they print could be kept there."""
DEFAULT_CPUS = "100%"
DEFAULT_MEMORY = "80%"
"""A PC that lends all its memory swaps under its owner."""


class Executor(Protocol):
    """What runs attempts. Never raises from start, stop and remove: it reports."""

    async def open(self) -> str: ...
    async def list_containers(self) -> tuple[ContainerFound, ...] | None: ...
    async def start(self, effect: StartContainer) -> None: ...
    async def stop(self, attempt_key: str, grace_ms: int) -> None: ...
    async def remove(self, attempt_key: str) -> None: ...
    def logs(self, attempt_key: str, follow: bool) -> AsyncIterator[tuple[int, bytes]]: ...
    async def close(self) -> None: ...


class Executors:
    """Docker, processes, or both, as the owner chose."""

    def __init__(
        self,
        options: UpOptions,
        labels: ExecLabels,
        folder: Path,
        report: Callable[[Event], None],
        log: Logger,
    ) -> None:
        self._options = options
        self._report = report
        self._log = log
        self._all: dict[str, Executor] = {}
        policy = policy_of(options)
        self._docker: DockerExecutor | None = None
        if options.executor in ("docker", "both"):
            docker = DockerExecutor(labels, folder, report, self._on_engine_state, policy)
            self._docker = self._all["docker"] = docker
        if options.executor in ("process", "both"):
            self._all["process"] = ProcessExecutor(labels, folder, report, policy)
        self._reasons = dict.fromkeys(self._all, "not opened yet")
        self._disk = FullDisk(options.data_dir)
        self._is_full = False
        self._is_draining = False
        self._broke = asyncio.Event()
        """One that worked does not any more, or did not answer."""
        self._is_unlisted = False
        """One that works did not say what it runs: it is asked again."""
        self._where: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_kept: Callable[[str], None] = lambda attempt_key: None
        """Told when an attempt is gone and its log is kept; whoever cares sets it."""
        self._measured = Facts()
        self._noted: tuple[str, ...] = ()

    async def open(self) -> None:
        """Open what can be opened and measure the PC; what cannot says why in the facts."""
        raise_open_files_limit()
        self._measured = await asyncio.to_thread(hardware.measure)
        self._is_full = await asyncio.to_thread(self._disk.is_full)
        self._log_notes(is_start=True)
        for name, executor in self._all.items():
            self._reasons[name] = await executor.open()
        self._log_notes(is_start=True)

    def _log_notes(self, is_start: bool = False) -> None:
        """Once for each that is new; the network is looked at again when it is used.

        Those of the start `rain up` says itself.
        """
        log = self._log.info if is_start else self._log.warning
        notes = self.notes()
        for note in notes:
            if note not in self._noted:
                log(OWNER_NOTE, note=note)
        self._noted = notes

    def facts(self) -> Facts:
        """What this PC offers now."""
        working = tuple(name for name, reason in self._reasons.items() if not reason)
        reason = "" if working else "; ".join(self._reasons.values())
        if self._is_full:
            reason = FULL
        if self._options.no_work:
            reason = "its owner said --no-work"
        if self._is_draining:
            reason = "draining"
        capacity = _shared(self._measured.capacity, self._options)
        return replace(
            self._measured,
            capacity=capacity,
            executors=working,
            works=not reason and bool(working),
            idle_reason=reason,
            rank=self._options.rank,
        )

    def drain(self) -> Facts:
        """From now on nothing new is taken, whatever else changes."""
        self._is_draining = True
        return self.facts()

    def reasons(self) -> dict[str, str]:
        """By executor: why it does not work; empty: it does."""
        return dict(self._reasons)

    def notes(self) -> tuple[str, ...]:
        """What the owner should know about what tasks can do here."""
        notes = ["" if self._docker is None else self._docker.note()]
        if "process" in self._all:
            notes.append("tasks with --executor process run as you, with all that you can reach")
        notes += [
            f"there is no folder {folder} here: no task can be given it (--allow-volume)"
            for folder in self._options.allow_volumes
            if not Path(folder).is_dir()
        ]
        return tuple(note for note in notes if note)

    async def list_all(self) -> None:
        """Tell the node what runs here and what ended while no agent looked.

        Of an executor that does not work or does not answer nothing is known, and that is told too.
        """
        found: list[ContainerFound] = []
        answered: list[str] = []
        self._is_unlisted = False
        for name, executor in self._all.items():
            listed = None if self._reasons[name] else await executor.list_containers()
            if listed is None:
                if not self._reasons[name]:
                    self._is_unlisted = True
                    self._broke.set()
                continue
            answered.append(name)
            for one in listed:
                self._where[one.attempt_key] = name
                found.append(one)
        self._report(ContainersListed(tuple(found), tuple(answered)))

    async def keep_measured(self) -> None:
        """Open again what would not open; tell the pool when the PC offers something else."""
        told = self.facts()
        while True:
            await self._pause()
            for name, reason in list(self._reasons.items()):
                if reason:
                    self._reasons[name] = await self._all[name].open()
                    if not self._reasons[name]:
                        await self.list_all()
            if self._is_unlisted:
                await self.list_all()
            self._log_notes()
            self._measured = await asyncio.to_thread(hardware.measure)
            if self.facts() != told:
                told = self.facts()
                self._report(HardwareMeasured(told))

    async def watch_disk(self) -> None:
        """Tell the pool when this PC's disk is full, and when it has room again."""
        while True:
            is_full = await asyncio.to_thread(self._disk.is_full)
            if is_full != self._is_full:
                self._is_full = is_full
                self._log.warning("disk_full" if is_full else "disk_has_room_again")
                self._report(HardwareMeasured(self.facts()))
            await asyncio.sleep(DISK_INTERVAL_S)

    async def _pause(self) -> None:
        """Until something is to be opened again, or the PC is to be measured."""
        self._broke.clear()
        if self._is_unlisted or any(self._reasons.values()):
            await asyncio.sleep(REOPEN_INTERVAL_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(MEASURE_INTERVAL_S):
                await self._broke.wait()

    # --- orders ----------------------------------------------------------------------------------

    def start(self, effect: StartContainer) -> None:
        name = effect.job.spec.executor
        reason = self._reasons.get(name, f"this PC runs no {name} tasks")
        if reason:
            at_unix_ms = hardware.now_unix_ms()
            self._report_soon(ContainerFailed(effect.attempt_id, 125, reason, True, at_unix_ms))
            return
        self._where[attempt_key(effect.attempt_id)] = name
        self._spawn(self._all[name].start(effect))

    def stop(self, effect: StopContainer) -> None:
        key = attempt_key(effect.attempt_id)
        executor = self._executor_of(key)
        if executor is not None:
            self._spawn(executor.stop(key, effect.grace_ms))

    def remove(self, effect: RemoveContainer) -> None:
        executor = self._executor_of(effect.attempt_key)
        self._where.pop(effect.attempt_key, None)
        if executor is not None:
            self._spawn(self._remove(executor, effect.attempt_key))

    async def _remove(self, executor: Executor, key: str) -> None:
        await executor.remove(key)
        self.on_kept(key)

    async def logs(self, attempt_id: AttemptId, follow: bool) -> AsyncIterator[tuple[int, bytes]]:
        """What an attempt of this PC has printed: (1 or 2, bytes) until it ended."""
        key = attempt_key(attempt_id)
        for executor in self._candidates(key):
            found = False
            async for piece in executor.logs(key, follow):
                found = True
                yield piece
            if found:
                return

    async def close(self, remove_all: bool) -> None:
        """Wait for stops under way; with `remove_all` leave no container of this PC behind."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOPPED_WAIT_S)
        for name, executor in self._all.items():
            if remove_all and not self._reasons[name]:
                for one in await executor.list_containers() or ():
                    await executor.stop(one.attempt_key, 0)
                    await executor.remove(one.attempt_key)
            await executor.close()

    def _candidates(self, key: str) -> list[Executor]:
        name = self._where.get(key)
        return [self._all[name]] if name is not None else list(self._all.values())

    def _executor_of(self, key: str) -> Executor | None:
        name = self._where.get(key)
        if name is None and len(self._all) == 1:
            name = next(iter(self._all))
        return self._all.get(name or "")

    def _on_engine_state(self, reason: str) -> None:
        if self._reasons["docker"] == reason:
            return
        self._log.info("engine_state", reason=reason or "works")
        self._reasons["docker"] = reason
        self._report_soon(HardwareMeasured(self.facts()))
        if reason:
            self._broke.set()
        else:
            self._spawn(self.list_all())

    def _report_soon(self, event: Event) -> None:
        """Soon, not now: the node may be in the middle of an event."""
        asyncio.get_running_loop().call_soon(self._report, event)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.error("executor_failed", error=repr(error))


def policy_of(options: UpOptions) -> OwnerPolicy:
    """What the owner lets jobs do here, out of the options of `rain up`."""
    given = OwnerPolicy()
    return OwnerPolicy(
        network=max(options.allow_networks, key=NETWORKS.index, default=given.network),
        allows_users=options.allow_user,
        images=options.allow_images,
        volumes=options.allow_volumes,
        task_disk_bytes=(
            parse_size(options.task_disk) if options.task_disk else given.task_disk_bytes
        ),
        private_folders=(str(options.data_dir), str(control_path(options.data_dir).parent)),
    )


def _shared(capacity: Resources, options: UpOptions) -> Resources:
    """What of this PC its owner lends; never more than there is."""
    cpus = share_cpus_milli(options.cpus or DEFAULT_CPUS, capacity.cpus_milli)
    memory = share_memory_bytes(options.memory or DEFAULT_MEMORY, capacity.memory_bytes)
    return Resources(min(cpus, capacity.cpus_milli), min(memory, capacity.memory_bytes))
