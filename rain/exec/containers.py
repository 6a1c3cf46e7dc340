"""Attempts as containers, through the Docker Engine API; the only file that imports docker.

The engine's calls block, so each runs in a bounded pool of threads. One more thread reads the
engine's events, for all containers of this node together. Everything else happens on the loop:
`_live` holds each attempt that was started or adopted and has not been reported as ended, and
whoever takes an attempt out of it reports the end, so that no end is told twice.

An engine may go away and come back at any time. Then the event stream breaks, and after it is
open again the containers are compared with `_live`: what ended meanwhile is told, and stops and
removals that could not be carried out are carried out. Containers outlive this process.
"""

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import docker.utils
from docker.types.daemon import CancellableStream

from rain.effects import (
    ContainerExited,
    ContainerFailed,
    ContainerFound,
    ContainerStarted,
    Event,
    StartContainer,
)
from rain.exec import dialect
from rain.exec.labels import ATTEMPT, ATTEMPT_ID, NODE_ID, ExecLabels, decode_attempt_id, is_key
from rain.exec.logs import FrameSplitter, Hose, KeptLogs, LogsUnavailable
from rain.model import AttemptId
from rain.sched.identity import attempt_key

CALLS_MAX = 8
"""Engine calls at a time; an engine starts about four containers a second on two cores."""
PULLS_MAX = 2
LOG_READERS_MAX = 32
LIVE_MAX = 4_096
CALL_TIMEOUT_S = 60
PULL_SILENCE_S = 120
WATCH_PAUSE_S_MIN = 0.2
WATCH_PAUSE_S_MAX = 5.0
SETTLE_TRIES_MAX = 20
SETTLE_PAUSE_S = 0.1
KILL_WAIT_S = 10.0
CLOSE_WAIT_S = 2.0
NOBODY = "65534:65534"

T = TypeVar("T")


class EngineGone(Exception):
    """No engine answers; the text says why and what to do."""


class NotStarted(Exception):
    """The attempt cannot run: the job's fault, or (`refused`) this node's."""

    def __init__(self, exit_code: int, reason: str, refused: bool = False) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.reason = reason
        self.refused = refused


@dataclass(slots=True)
class _Live:
    """An attempt whose end is still to be told."""

    attempt_id: AttemptId
    is_starting: bool = False
    has_died: bool = False
    """Its end was heard of while it was still starting."""
    out_of_memory: bool = False
    started_unix_ms: int = 0
    stop_grace_ms: int | None = None
    """It is to be stopped; None: nobody asked."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class DockerExecutor:
    """Runs attempts in containers of their own."""

    def __init__(
        self,
        labels: ExecLabels,
        folder: Path,
        report: Callable[[Event], None],
        on_state: Callable[[str], None] | None = None,
    ) -> None:
        self._labels = labels
        self._report = report
        self._on_state = on_state
        self._state: str | None = None
        self._kept = KeptLogs(folder / "logs")
        self._engine = _Engine(labels.node_id)
        self._live: dict[str, _Live] = {}
        self._removals: dict[str, None] = {}
        """Containers to remove once the engine can."""
        self._pulls: dict[str, asyncio.Task[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls = ThreadPoolExecutor(CALLS_MAX, "engine-call")
        self._pullers = ThreadPoolExecutor(PULLS_MAX, "engine-pull")
        self._readers = ThreadPoolExecutor(LOG_READERS_MAX, "engine-logs")
        self._readers_count = 0
        self._watch: _Watch | None = None

    async def open(self) -> str:
        """Empty when the engine works, else why not; it is watched for in either case."""
        reason = ""
        try:
            await self._call(self._engine.ping)
        except EngineGone as error:
            reason = str(error)
        self._state = reason
        self._watch = _Watch(
            self._engine, asyncio.get_running_loop(), self._on_back, self._on_gone, self._on_event
        )
        self._watch.start()
        return reason

    async def close(self) -> None:
        """Stops watching; containers live on."""
        if self._watch is not None:
            await asyncio.to_thread(self._watch.close)
        for task in [*self._tasks, *self._pulls.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._pulls.values(), return_exceptions=True)
        for pool in (self._calls, self._pullers, self._readers):
            pool.shutdown(wait=False, cancel_futures=True)
        self._engine.close()

    async def list_containers(self) -> tuple[ContainerFound, ...]:
        """All containers of this node; the running ones are watched from here on.

        Empty as well when the engine is gone: `on_state('')` tells when to ask again.
        """
        try:
            inspected = await self._call(self._engine.list)
        except EngineGone as error:
            self._on_gone(str(error))
            return ()
        found: list[ContainerFound] = []
        for one in inspected:
            container = dialect.found_of(one)
            key = str(one["Config"]["Labels"].get(ATTEMPT, ""))
            if container is None:
                if key not in self._live:
                    # Made by an agent that died before it could start it: nobody waits for it.
                    self._spawn(self.remove(key))
                continue
            found.append(container)
            attempt_id = decode_attempt_id(one["Config"]["Labels"].get(ATTEMPT_ID, ""))
            if container.exit_code is None and attempt_id is not None:
                self._adopt(key, attempt_id, container)
        # One that ended between the listing and this line would not be heard of again.
        self._spawn(self._compare())
        return tuple(sorted(found, key=lambda container: container.attempt_key))

    def _adopt(self, key: str, attempt_id: AttemptId, container: ContainerFound) -> None:
        if key in self._live or len(self._live) >= LIVE_MAX:
            return
        live = _Live(attempt_id, started_unix_ms=container.started_unix_ms)
        live.ready.set()
        self._live[key] = live

    # --- Start --------------------------------------------------------------------------------

    async def start(self, order: StartContainer) -> None:
        """Starts the attempt and reports; never raises. A second order for it changes nothing."""
        key = attempt_key(order.attempt_id)
        if key in self._live:
            return
        if len(self._live) >= LIVE_MAX:
            self._fail(order.attempt_id, NotStarted(125, "too many containers here", refused=True))
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
            failure = NotStarted(dialect.EXIT_RAIN_FAILED, str(error), refused=True)
            self._fail(order.attempt_id, failure)
            return
        finally:
            live.is_starting = False
            live.ready.set()
            if key not in self._live:
                live.ended.set()
        live.started_unix_ms = found.started_unix_ms
        self._report(ContainerStarted(order.attempt_id, found.started_unix_ms))
        if found.exit_code is not None:
            self._end(key, found)
        elif live.has_died:
            self._spawn(self._settle(key))

    async def _begin(self, key: str, order: StartContainer, live: _Live) -> ContainerFound:
        spec = order.job.spec
        if spec.network not in dialect.NETWORKS:
            raise NotStarted(dialect.EXIT_RAIN_FAILED, f"no network is called {spec.network!r}")
        if not spec.image:
            raise NotStarted(dialect.EXIT_RAIN_FAILED, "the job names no image; use --image")
        name = dialect.container_name(key)
        body = dialect.container_request(self._labels, order, _owner())
        if not await self._call(self._engine.create, name, body):
            why = await self._pull(spec.image)
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
            ContainerFailed(attempt_id, failure.exit_code, failure.reason, failure.refused)
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
                self._kept.keep(attempt_key, self._engine.logs(name, False))
        self._engine.remove(name)

    # --- Logs ---------------------------------------------------------------------------------

    async def logs(self, attempt_key: str, follow: bool) -> AsyncIterator[tuple[int, bytes]]:
        """What it printed; with `follow` until it ends. Raises LogsUnavailable."""
        live = self._live.get(attempt_key)
        if live is not None and follow:
            await live.ready.wait()
        if not is_key(attempt_key):
            raise LogsUnavailable("no such attempt")
        if self._readers_count >= LOG_READERS_MAX:
            raise LogsUnavailable(f"{LOG_READERS_MAX} logs are being read here already")
        loop = asyncio.get_running_loop()
        hose = Hose(loop)
        source = _LogSource(self._engine, self._kept, attempt_key, follow)
        self._readers_count += 1
        reading = loop.run_in_executor(self._readers, hose.pour, source.batches())
        try:
            async for chunk in hose.taken():
                yield chunk
        finally:
            hose.close()
            source.close()
            self._readers_count -= 1
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

    def _on_gone(self, reason: str) -> None:
        if self._state != reason:
            self._state = reason
            if self._on_state is not None:
                self._on_state(reason)

    def _on_back(self) -> None:
        self._on_gone("")
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
            elif live.stop_grace_ms is not None:
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
                self._end(key, gone)
                return
            found = dialect.found_of(inspected)
            if found is not None and found.exit_code is not None:
                self._end(key, found)
                return
            await asyncio.sleep(SETTLE_PAUSE_S)

    def _end(self, key: str, found: ContainerFound) -> None:
        live = self._live.pop(key, None)
        if live is None:
            return
        assert found.exit_code is not None, "only what has ended is told as ended"
        out_of_memory = found.out_of_memory or (
            live.out_of_memory and found.exit_code == dialect.EXIT_KILLED
        )
        live.ended.set()
        self._report(
            ContainerExited(
                live.attempt_id,
                found.exit_code,
                found.started_unix_ms,
                found.ended_unix_ms,
                out_of_memory,
            )
        )

    # --- Threads and tasks --------------------------------------------------------------------

    async def _call(self, blocking: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._calls, lambda: blocking(*arguments))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Engine:
    """The engine's calls, blocking, for threads: EngineGone or an answer."""

    def __init__(self, node_id: str) -> None:
        self._filter = {"label": f"{NODE_ID}={node_id}"}
        self._lock = threading.Lock()
        self._shared: docker.APIClient | None = None

    def ping(self) -> None:
        with self._speaking() as client:
            client.ping()

    def create(self, name: str, body: dict[str, Any]) -> bool:
        """False: the image is missing. A container that is there already will do."""
        with self._speaking() as client:
            try:
                client.create_container_from_config(body, name)
            except docker.errors.ImageNotFound:
                return False
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise _not_started(error, dialect.EXIT_RAIN_FAILED) from None
            return True

    def start(self, name: str) -> dict[str, Any]:
        """Its state afterwards. One that ran already does not run again."""
        with self._speaking() as client:
            try:
                inspected: dict[str, Any] = client.inspect_container(name)
                if inspected["State"]["Status"] == "created":
                    client.start(name)
                    inspected = client.inspect_container(name)
            except docker.errors.APIError as error:
                with suppress(docker.errors.APIError):
                    client.remove_container(name, v=True, force=True)
                code = dialect.start_failure_code(_text(error))
                raise _not_started(error, code) from None
            return inspected

    def inspect(self, name: str) -> dict[str, Any] | None:
        with self._speaking() as client:
            try:
                inspected: dict[str, Any] = client.inspect_container(name)
            except docker.errors.NotFound:
                return None
            return inspected

    def list(self) -> list[dict[str, Any]]:
        with self._speaking() as client:
            listed = client.containers(all=True, filters=self._filter)
            inspected = [self.inspect(container["Id"]) for container in listed]
        return [one for one in inspected if one is not None]

    def kill(self, name: str, signal: str) -> None:
        """Not an error where it has ended or is gone."""
        with self._speaking() as client, suppress(docker.errors.APIError):
            client.kill(name, signal)

    def remove(self, name: str) -> None:
        with self._speaking() as client, suppress(docker.errors.APIError):
            client.remove_container(name, v=True, force=True)

    def pull(self, image: str) -> str:
        """Why it failed; empty when the image is here now."""
        repository, tag = docker.utils.parse_repository_tag(image)
        with self._speaking():
            client = _connect(PULL_SILENCE_S)
            try:
                lines = client.pull(repository, tag or "latest", stream=True, decode=True)
                for line in lines:
                    if "error" in line:
                        return str(line["error"])
            except docker.errors.APIError as error:
                return _text(error)
            finally:
                client.close()
        return ""

    def logs(
        self, name: str, follow: bool, opened: Callable[[Any], None] | None = None
    ) -> Iterator[bytes]:
        """The engine's frames as they come. `docker logs` itself forgets which stream they are."""
        with self._speaking() as client:
            response = client.get(
                f"{client.base_url}/v{client.api_version}/containers/{name}/logs",
                params={"stdout": 1, "stderr": 1, "follow": int(follow)},
                stream=True,
                timeout=(CALL_TIMEOUT_S, None if follow else CALL_TIMEOUT_S),
            )
            with response:
                if response.status_code != 200:
                    raise LogsUnavailable("the container is gone, and its log was not kept")
                if opened is not None:
                    opened(CancellableStream(iter(()), response))
                yield from response.iter_content(chunk_size=None)

    def events(self) -> tuple[docker.APIClient, CancellableStream[dict[str, Any]]]:
        """Deaths of this node's containers, the last ones again: a gap would lose one."""
        with self._speaking():
            client = _connect(CALL_TIMEOUT_S)
            filters = {**self._filter, "type": "container", "event": ["die", "oom"]}
            return client, client.events(since=1, filters=filters, decode=True)

    def close(self) -> None:
        with self._lock:
            if self._shared is not None:
                self._shared.close()

    @contextmanager
    def _speaking(self) -> Iterator[docker.APIClient]:
        try:
            with self._lock:
                if self._shared is None:
                    self._shared = _connect(CALL_TIMEOUT_S)
            yield self._shared
        except docker.errors.APIError as error:
            raise EngineGone(f"the Docker engine failed: {_text(error)[:200]}") from error
        except (docker.errors.DockerException, OSError) as error:
            is_installed = any(shutil.which(name) for name in ("dockerd", "docker", "podman"))
            raise EngineGone(dialect.unreachable_reason(error, is_installed)) from error


class _Watch:
    """The thread that reads the engine's events, and opens the stream again when it breaks."""

    def __init__(
        self,
        engine: _Engine,
        loop: asyncio.AbstractEventLoop,
        on_back: Callable[[], None],
        on_gone: Callable[[str], None],
        on_event: Callable[[str, str], None],
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._on_back = on_back
        self._on_gone = on_gone
        self._on_event = on_event
        self._closing = threading.Event()
        self._stream: CancellableStream[dict[str, Any]] | None = None
        self._thread = threading.Thread(target=self._run, name="engine-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._stream is not None:
            _cut(self._stream)
        self._thread.join(CLOSE_WAIT_S)

    def _run(self) -> None:
        pause_s = WATCH_PAUSE_S_MIN
        while not self._closing.is_set():
            try:
                self._read()
                pause_s = WATCH_PAUSE_S_MIN
                self._engine.ping()
            except EngineGone as error:
                self._tell(self._on_gone, str(error))
            self._closing.wait(pause_s)
            pause_s = min(WATCH_PAUSE_S_MAX, pause_s * 2)

    def _read(self) -> None:
        client, self._stream = self._engine.events()
        try:
            self._tell(self._on_back)
            if self._closing.is_set():
                return
            for event in self._stream:
                key = event.get("Actor", {}).get("Attributes", {}).get(ATTEMPT, "")
                self._tell(self._on_event, key, event.get("Action", ""))
        except (docker.errors.DockerException, OSError, ValueError):
            return  # Broken: the caller finds out whether the engine is gone.
        finally:
            _cut(self._stream)
            client.close()

    def _tell(self, what: Callable[..., None], *arguments: str) -> None:
        # A loop that is closed needs no news.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *arguments)


class _LogSource:
    """A log for the reading thread: kept, or from the engine; can be cut while it is read."""

    def __init__(self, engine: _Engine, kept: KeptLogs, key: str, follow: bool) -> None:
        self._engine = engine
        self._kept = kept
        self._key = key
        self._follow = follow
        self._stream: CancellableStream[Any] | None = None
        self._is_closed = False

    def batches(self) -> Iterator[list[tuple[int, bytes]]]:
        if self._kept.has(self._key):
            yield from self._kept.chunks(self._key)
            return
        splitter = FrameSplitter()
        name = dialect.container_name(self._key)
        try:
            for received in self._engine.logs(name, self._follow, self._on_open):
                yield splitter.feed(received)
        except EngineGone as error:
            raise LogsUnavailable(str(error)) from error

    def close(self) -> None:
        self._is_closed = True
        if self._stream is not None:
            _cut(self._stream)

    def _on_open(self, stream: CancellableStream[Any]) -> None:
        self._stream = stream
        if self._is_closed:
            _cut(stream)


def _connect(timeout_s: int) -> docker.APIClient:
    return docker.APIClient(
        **docker.utils.kwargs_from_env(),
        version="auto",
        timeout=timeout_s,
        max_pool_size=CALLS_MAX,
    )


def _cut(stream: CancellableStream[Any]) -> None:
    """Wakes the thread that reads it; it may have ended by itself meanwhile."""
    with suppress(OSError, AttributeError, ValueError, docker.errors.DockerException):
        stream.close()


def _runs(inspected: dict[str, Any]) -> bool:
    return bool(inspected["State"]["Running"])


def _text(error: docker.errors.APIError) -> str:
    return dialect.one_line(str(error.explanation or error))


def _not_started(error: docker.errors.APIError, exit_code: int) -> NotStarted:
    """A refusal below 500 is about what was asked for, so any other node would refuse as well."""
    is_ours = exit_code == dialect.EXIT_RAIN_FAILED and (error.status_code or 500) >= 500
    return NotStarted(exit_code, dialect.clipped(_text(error)), refused=is_ours)


def _owner() -> str:
    """Who a task runs as unless it asks: the agent's owner, and nobody where that is root."""
    if not hasattr(os, "getuid") or os.getuid() == 0:
        return NOBODY
    return f"{os.getuid()}:{os.getgid()}"


async def _is_set_within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True
