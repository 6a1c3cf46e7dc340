"""Attempts as containers of an engine: started, watched, adopted, stopped, removed.

The engine's calls block, so each runs in a bounded pool of threads. One more thread reads the
engine's events, for all containers of this node together. Everything else happens on the loop:
`_live` holds each attempt that was started or adopted and has not been reported as ended, and
whoever takes an attempt out of it reports the end, so that no end is told twice.

An engine may go away and come back at any time. Then the event stream breaks, and after it is
open again the containers are compared with `_live`: what ended meanwhile is told, and stops and
removals that could not be carried out are carried out. What failed then, or while this PC was
switched off, is told as lost: the engine takes its containers along. Containers outlive this
process.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rain.effects import (
    ContainerExited,
    ContainerFailed,
    ContainerFound,
    ContainerStarted,
    Event,
    StartContainer,
)
from rain.exec import dialect
from rain.exec.circumstances import Inspected, as_ended, as_running, ended_before
from rain.exec.disk import watch_disk
from rain.exec.engine import Engine, EngineGone, NotStarted, Watch
from rain.exec.hardware import now_unix_ms
from rain.exec.labels import ATTEMPT, ATTEMPT_ID, ExecLabels, decode_attempt_id, is_key
from rain.exec.logs import Hose, KeptLogs, LogSource, LogsUnavailable
from rain.exec.policy import OwnerPolicy
from rain.exec.premises import Premises
from rain.model import AttemptId
from rain.sched.admission import TOO_MANY
from rain.sched.identity import attempt_key

CALLS_MAX = 8
"""Engine calls at a time; an engine starts about four containers a second on two cores."""
PULLS_MAX = 2
LOG_READERS_MAX = 128
"""More than one `rain logs --follow` reads at a time, here and for other PCs together."""
LIVE_MAX = 4_096
SETTLE_TRIES_MAX = 20
SETTLE_PAUSE_S = 0.1
KILL_WAIT_S = 10.0

T = TypeVar("T")


@dataclass(slots=True)
class _Live:
    """An attempt whose end is still to be told."""

    attempt_id: AttemptId
    is_starting: bool = False
    has_died: bool = False
    """Its end was heard of while it was still starting."""
    out_of_memory: bool = False
    is_cut: bool = False
    """The engine went away while it ran, and it has not been seen to run since."""
    started_unix_ms: int = 0
    overrun: str = ""
    """Which limit of its owner's it went over and is ended for."""
    stop_grace_ms: int | None = None
    """It is to be stopped; None: nobody asked."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ContainerExecutor:
    """Runs attempts in containers of their own."""

    def __init__(
        self,
        engine: Engine,
        labels: ExecLabels,
        folder: Path,
        report: Callable[[Event], None],
        on_state: Callable[[str], None] | None = None,
        policy: OwnerPolicy | None = None,
    ) -> None:
        self._policy = policy or OwnerPolicy()
        self._premises = Premises(engine, self._policy, labels.node_id, folder)
        self._labels = labels
        self._report = report
        self._on_state = on_state
        self._state: str | None = None
        self._kept = KeptLogs(folder / "logs")
        self._engine = engine
        self._engine_pid = 0
        self._live: dict[str, _Live] = {}
        self._removals: dict[str, None] = {}
        """Containers to remove once the engine can."""
        self._pulls: dict[str, asyncio.Task[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls = ThreadPoolExecutor(CALLS_MAX, "engine-call")
        self._pullers = ThreadPoolExecutor(PULLS_MAX, "engine-pull")
        self._readers = ThreadPoolExecutor(LOG_READERS_MAX, "engine-logs")
        self._sources: list[LogSource] = []
        self._watch: Watch | None = None

    async def open(self) -> str:
        """Empty when the engine works, else why not; it is watched for in either case."""
        reason = ""
        try:
            await self._call(self._engine.ping)
            await self._call(self._premises.inspect)
        except EngineGone as error:
            reason = str(error)
        self._state = reason
        if self._watch is not None:
            return reason
        self._spawn(
            watch_disk(self._policy.task_disk_bytes, self._running, self._disk_bytes, self._overrun)
        )
        loop = asyncio.get_running_loop()
        self._watch = self._engine.watch(
            _on_loop(loop, self._on_back),
            _on_loop(loop, self._on_cut),
            _on_loop(loop, self._on_event),
        )
        self._watch.start()
        return reason

    def note(self) -> str:
        """What the owner should know of what tasks can reach here; empty: nothing."""
        return self._premises.note

    async def close(self) -> None:
        """Stops watching; containers live on."""
        if self._watch is not None:
            await asyncio.to_thread(self._watch.close)
        for source in self._sources:
            source.close()
        for task in [*self._tasks, *self._pulls.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._pulls.values(), return_exceptions=True)
        for pool in (self._calls, self._pullers, self._readers):
            pool.shutdown(wait=False, cancel_futures=True)
        self._premises.close()
        self._engine.close()

    async def list_containers(self) -> tuple[ContainerFound, ...] | None:
        """All containers of this node; the running ones are watched from here on.

        None when the engine is gone: `on_state('')` tells when to ask again.
        """
        try:
            inspected = await self._call(self._engine.list)
        except EngineGone as error:
            self._on_gone(str(error))
            return None
        self._engine_pid = await self._call(self._engine.pid)
        found: list[ContainerFound] = []
        for one in inspected:
            container = dialect.found_of(one)
            key = str(one["Config"]["Labels"].get(ATTEMPT, ""))
            if container is None:
                if key not in self._live:
                    # Made by an agent that died before it could start it: nobody waits for it.
                    self._spawn(self.remove(key))
                continue
            container = self._with_circumstances(key, container, one)
            found.append(container)
            attempt_id = decode_attempt_id(one["Config"]["Labels"].get(ATTEMPT_ID, ""))
            if container.exit_code is None and attempt_id is not None:
                self._adopt(key, attempt_id, container)
        known = {one.attempt_key for one in found if one.exit_code is None}
        await self._call(self._premises.keep_only, known)
        # One that ended between the listing and this line would not be heard of again.
        self._spawn(self._compare())
        return tuple(sorted(found, key=lambda container: container.attempt_key))

    def _adopt(self, key: str, attempt_id: AttemptId, container: ContainerFound) -> None:
        if key in self._live or len(self._live) >= LIVE_MAX:
            return
        live = _Live(attempt_id, started_unix_ms=container.started_unix_ms)
        live.ready.set()
        self._live[key] = live

    def _with_circumstances(
        self, key: str, found: ContainerFound, inspected: Inspected
    ) -> ContainerFound:
        if found.exit_code is None:
            return as_running(found, inspected)
        live = self._live.get(key)
        out_of_memory = found.out_of_memory or (
            live is not None and live.out_of_memory and found.exit_code == dialect.EXIT_KILLED
        )
        # What nobody here watched may have ended with the engine before this one.
        is_cut = ended_before(found, self._engine_pid) if live is None else live.is_cut
        return as_ended(found, inspected, self._labels.boot, is_cut, out_of_memory)

    # --- Start --------------------------------------------------------------------------------

    async def start(self, order: StartContainer) -> None:
        """Starts the attempt and reports; never raises. A second order for it changes nothing."""
        key = attempt_key(order.attempt_id)
        if key in self._live:
            return
        if len(self._live) >= LIVE_MAX:
            self._fail(order.attempt_id, NotStarted(125, TOO_MANY, refused=True))
            return
        live = self._live[key] = _Live(order.attempt_id, is_starting=True)
        try:
            found = await self._begin(key, order, live)
        except NotStarted as failure:
            self._live.pop(key, None)
            self._fail(order.attempt_id, failure)
            return
        except EngineGone as error:
            self._live.pop(key, None)
            self._on_gone(str(error))
            gone = NotStarted(dialect.EXIT_RAIN_FAILED, str(error), refused=True)
            self._fail(order.attempt_id, gone)
            return
        finally:
            live.is_starting = False
            live.ready.set()
            if key not in self._live:
                live.ended.set()
                self._spawn(self._call(self._premises.clear, key))
        live.started_unix_ms = found.started_unix_ms
        self._report(ContainerStarted(order.attempt_id, found.started_unix_ms))
        if found.exit_code is not None or live.has_died:
            # Asked anew: an engine that goes down takes what it has just started along.
            self._spawn(self._settle(key))

    async def _begin(self, key: str, order: StartContainer, live: _Live) -> ContainerFound:
        spec = order.job.spec
        name = dialect.container_name(key)
        surroundings = await self._call(self._premises.prepare, key, spec)
        body = dialect.container_request(self._labels, order, surroundings)
        if not await self._call(self._engine.create, name, body):
            why = await self._pull(surroundings.image)
            if why:
                reason = dialect.no_image_reason(spec.image, why)
                raise NotStarted(dialect.EXIT_RAIN_FAILED, reason)
            if not await self._call(self._engine.create, name, body):
                reason = dialect.no_image_reason(spec.image, "it vanished after the pull")
                raise NotStarted(dialect.EXIT_RAIN_FAILED, reason)
        if live.stop_grace_ms is not None:
            await self._call(self._engine.remove, name)
            raise NotStarted(dialect.EXIT_KILLED, "stopped before it started")
        inspected = await self._call(self._engine.start, name)
        found = dialect.found_of(inspected)
        assert found is not None, "a started container is not merely created"
        return found

    async def _pull(self, image: str) -> str:
        """Pulls once however many attempts wait for it; returns why it failed, or nothing."""
        pull = self._pulls.get(image)
        if pull is None:
            loop = asyncio.get_running_loop()

            async def run() -> str:
                try:
                    return await loop.run_in_executor(self._pullers, self._engine.pull, image)
                finally:
                    self._pulls.pop(image, None)

            pull = self._pulls[image] = asyncio.create_task(run())
        return await asyncio.shield(pull)

    def _fail(self, attempt_id: AttemptId, failure: NotStarted) -> None:
        self._report(
            ContainerFailed(
                attempt_id, failure.exit_code, failure.reason, failure.refused, now_unix_ms()
            )
        )

    # --- Stop and remove ----------------------------------------------------------------------

    async def stop(self, attempt_key: str, grace_ms: int) -> None:
        """TERM, and KILL when the grace is over; returns when the attempt has ended."""
        live = self._live.get(attempt_key)
        if live is None:
            return
        live.stop_grace_ms = grace_ms
        await live.ready.wait()
        name = dialect.container_name(attempt_key)
        try:
            await self._call(self._engine.kill, name, "SIGTERM")
            if not await _is_set_within(live.ended, grace_ms / 1_000):
                await self._call(self._engine.kill, name, "SIGKILL")
                await _is_set_within(live.ended, KILL_WAIT_S)
        except EngineGone as error:
            # The wish is kept in stop_grace_ms: it is carried out when the engine is back.
            self._on_gone(str(error))

    async def remove(self, attempt_key: str) -> None:
        """Keeps the log, then removes the container, running or not; its end is not told."""
        if not is_key(attempt_key):
            return
        live = self._live.get(attempt_key)
        if live is not None:
            await live.ready.wait()
            self._live.pop(attempt_key, None)
            live.ended.set()
        await self._call(self._premises.clear, attempt_key)
        try:
            await self._call(self._remove, attempt_key)
        except (EngineGone, OSError):
            if len(self._removals) < LIVE_MAX:
                self._removals[attempt_key] = None

    def _remove(self, attempt_key: str) -> None:
        """In a thread: ends it first, so that the kept log is whole."""
        name = dialect.container_name(attempt_key)
        self._engine.kill(name, "SIGKILL")
        if not self._kept.has(attempt_key):
            with suppress(LogsUnavailable):
                self._kept.keep(attempt_key, self._engine.logs(name, False, _ignore))
        self._engine.remove(name)

    # --- Logs ---------------------------------------------------------------------------------

    async def logs(self, attempt_key: str, follow: bool) -> AsyncIterator[tuple[int, bytes]]:
        """What it printed; with `follow` until it ends. Nothing for what never ran here.

        Raises LogsUnavailable when the engine is gone or too many logs are being read.
        """
        live = self._live.get(attempt_key)
        if live is not None and follow:
            await live.ready.wait()
        if not is_key(attempt_key):
            return
        if len(self._sources) >= LOG_READERS_MAX:
            raise LogsUnavailable(f"{LOG_READERS_MAX} logs are being read here already")
        loop = asyncio.get_running_loop()
        hose = Hose(loop)
        source = LogSource(self._engine, self._kept, attempt_key, follow)
        self._sources.append(source)
        reading = loop.run_in_executor(self._readers, hose.pour, source.batches())
        try:
            async for chunk in hose.taken():
                yield chunk
        finally:
            hose.close()
            source.close()
            self._sources.remove(source)
            reading.cancel()

    # --- What the engine tells ----------------------------------------------------------------

    def _on_event(self, key: str, action: str) -> None:
        live = self._live.get(key)
        if live is None:
            return
        if action == "oom":
            live.out_of_memory = True
        elif live.is_starting:
            live.has_died = True
        else:
            self._spawn(self._settle(key))

    def _on_cut(self, reason: str) -> None:
        """The stream of events broke, and the engine is gone: what ends now, it may have ended."""
        for live in self._live.values():
            live.is_cut = not live.is_starting
        self._on_gone(reason)

    def _on_gone(self, reason: str) -> None:
        if self._state != reason:
            self._state = reason
            if self._on_state is not None:
                self._on_state(reason)

    def _on_back(self) -> None:
        self._on_gone("")
        self._spawn(self._call(self._premises.inspect))
        self._spawn(self._compare())
        removals, self._removals = self._removals, {}
        for key in removals:
            self._spawn(self.remove(key))

    async def _compare(self) -> None:
        """Tells the ends that no event told, and repeats stops that the engine never got."""
        try:
            inspected = await self._call(self._engine.list)
        except EngineGone:
            return
        running = {str(one["Config"]["Labels"].get(ATTEMPT)) for one in inspected if _runs(one)}
        for key, live in list(self._live.items()):
            if live.is_starting:
                continue
            if key not in running:
                self._spawn(self._settle(key))
                continue
            live.is_cut = False
            if live.stop_grace_ms is not None:
                self._spawn(self.stop(key, live.stop_grace_ms))

    async def _settle(self, key: str) -> None:
        """It is said to have ended: asks how, and tells."""
        for _ in range(SETTLE_TRIES_MAX):
            live = self._live.get(key)
            if live is None or live.is_starting:
                return
            try:
                inspected = await self._call(self._engine.inspect, dialect.container_name(key))
            except EngineGone:
                return  # `_compare` asks again when it is back.
            if inspected is None:
                # Removed by hand: nobody knows any more how it ended.
                started = live.started_unix_ms
                gone = ContainerFound(key, started, dialect.EXIT_KILLED, False, started)
                self._end(key, gone, None)
                return
            found = dialect.found_of(inspected)
            if found is not None and found.exit_code is not None:
                self._end(key, found, inspected)
                return
            await asyncio.sleep(SETTLE_PAUSE_S)

    def _end(self, key: str, found: ContainerFound, inspected: Inspected) -> None:
        found = self._with_circumstances(key, found, inspected)
        live = self._live.pop(key, None)
        if live is None:
            return
        assert found.exit_code is not None, "only what has ended is told as ended"
        live.ended.set()
        self._spawn(self._call(self._premises.clear, key))
        self._report(
            ContainerExited(
                live.attempt_id,
                found.exit_code,
                found.started_unix_ms,
                found.ended_unix_ms,
                found.out_of_memory,
                found.is_lost,
                live.overrun if found.exit_code else "",
            )
        )

    # --- The disk -----------------------------------------------------------------------------

    def _running(self) -> list[str]:
        return [key for key, live in self._live.items() if live.ready.is_set()]

    async def _disk_bytes(self, key: str) -> int:
        with suppress(EngineGone):
            return await self._call(self._engine.disk_bytes, dialect.container_name(key))
        return 0

    async def _overrun(self, key: str, reason: str) -> None:
        live = self._live.get(key)
        if live is not None:
            live.overrun = reason
            with suppress(EngineGone):
                await self._call(self._engine.kill, dialect.container_name(key), "SIGKILL")

    # --- Threads and tasks --------------------------------------------------------------------

    async def _call(self, blocking: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._calls, lambda: blocking(*arguments))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _runs(inspected: dict[str, Any]) -> bool:
    return bool(inspected["State"]["Running"])


async def _is_set_within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True


def _on_loop(loop: asyncio.AbstractEventLoop, what: Callable[..., None]) -> Callable[..., None]:
    """Callable from any thread. A loop that is closed needs no news."""

    def tell(*arguments: str) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(what, *arguments)

    return tell


def _ignore(cut: Callable[[], None]) -> None:
    """A log that is read to its end needs no cutting."""
