"""The Docker Engine as an executor needs it; the only file that imports docker.

Blocking throughout: the calls run in the executor's threads, the watch in one of its own.
Podman's Docker API works the same way (DOCKER_HOST names its socket).
"""

import json
import os
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.utils
from docker.types.daemon import CancellableStream
from requests import Response
from urllib3.exceptions import HTTPError

from rain.effects import Event
from rain.exec import dialect
from rain.exec.disk import folder_bytes
from rain.exec.engine import EngineGone, Inspected, NotStarted
from rain.exec.executor import CALLS_MAX, ContainerExecutor
from rain.exec.labels import ATTEMPT, NODE_ID, ExecLabels
from rain.exec.policy import OwnerPolicy

DEFAULT_HOST = "unix:///var/run/docker.sock"
CALL_TIMEOUT_S = 60
PULL_SILENCE_S = 60
"""A pull that says nothing for so long has failed."""
WATCH_PAUSE_S_MIN = 0.2
WATCH_PAUSE_S_MAX = 5.0
CLOSE_WAIT_S = 2.0
USUAL_SOCKETS = ("/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman")
USER_MAPPINGS = ("rootless", "userns")


class DockerExecutor(ContainerExecutor):
    """Runs attempts in containers of the Docker Engine that DOCKER_HOST names, or the usual one.

    `on_state` is told when the engine goes away (why, and what to do) and when it is back ('').
    """

    def __init__(
        self,
        labels: ExecLabels,
        folder: Path,
        report: Callable[[Event], None],
        on_state: Callable[[str], None] | None = None,
        policy: OwnerPolicy | None = None,
    ) -> None:
        super().__init__(DockerEngine(labels.node_id), labels, folder, report, on_state, policy)


class DockerEngine:
    """The calls of `engine.Engine`, for the containers of one node."""

    def __init__(self, node_id: str) -> None:
        self._label = f"{NODE_ID}={node_id}"
        self._lock = threading.Lock()
        self._shared: docker.APIClient | None = None
        self._is_closed = False

    def ping(self) -> None:
        with self._speaking() as client:
            client.ping()

    def pid(self) -> int:
        """Of the process that made the socket: the engine, or the system that starts it."""
        path = _socket_path()
        if not path or not hasattr(socket, "SO_PEERCRED"):
            return 0
        try:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(path)
                size = struct.calcsize("3i")
                peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        except OSError:
            return 0
        pid: int = struct.unpack("3i", peer)[0]
        return pid

    def is_local(self) -> bool:
        return bool(_socket_path())

    def sockets(self) -> tuple[str, ...]:
        return tuple(path for path in (_socket_path(), *USUAL_SOCKETS) if path)

    def maps_users(self) -> bool:
        with self._speaking() as client:
            options = client.info().get("SecurityOptions") or ()
        return any(f"name={word}" in option for option in options for word in USER_MAPPINGS)

    def make_network(self, name: str, body: dict[str, Any]) -> str:
        """Why it cannot be made; empty when it is there."""
        with self._speaking() as client:
            try:
                client.inspect_network(name)
            except docker.errors.NotFound:
                pass
            else:
                return ""
            response = client.post(
                f"{client.base_url}/v{client.api_version}/networks/create",
                json=body,
                timeout=CALL_TIMEOUT_S,
            )
            # 409: somebody else was faster.
            if response.ok or response.status_code == 409:
                return ""
            return dialect.one_line(response.text)[:200]

    def disk_bytes(self, name: str) -> int:
        """Its own layer, and the volumes that its image made, where this user can look."""
        with self._speaking() as client:
            response = client.get(
                f"{client.base_url}/v{client.api_version}/containers/{name}/json",
                params={"size": 1},
                timeout=CALL_TIMEOUT_S,
            )
            if not response.ok:
                return 0
            found: Inspected = response.json()
        volumes = [one["Source"] for one in found["Mounts"] if one["Type"] == "volume"]
        return int(found.get("SizeRw") or 0) + sum(folder_bytes(one) for one in volumes)

    def create(self, name: str, body: dict[str, Any]) -> bool:
        """False: the image is missing. A container that is there already will do."""
        with self._speaking() as client:
            try:
                _create(client, name, body)
            except docker.errors.ImageNotFound:
                return False
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise _not_started(error, dialect.EXIT_RAIN_FAILED) from None
            return True

    def start(self, name: str) -> Inspected:
        """Its state afterwards. One that ran already does not run again."""
        with self._speaking() as client:
            try:
                inspected: Inspected = client.inspect_container(name)
                if inspected["State"]["Status"] == "created":
                    client.start(name)
                    inspected = client.inspect_container(name)
            except docker.errors.APIError as error:
                with suppress(docker.errors.APIError):
                    client.remove_container(name, v=True, force=True)
                code = dialect.start_failure_code(_text(error))
                raise _not_started(error, code) from None
            return inspected

    def inspect(self, name: str) -> Inspected | None:
        with self._speaking() as client:
            try:
                inspected: Inspected = client.inspect_container(name)
            except docker.errors.NotFound:
                return None
            return inspected

    def list(self) -> list[Inspected]:
        with self._speaking() as client:
            listed = client.containers(all=True, filters={"label": self._label})
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
                    if self._is_closed:
                        return "the agent stops"
                    if "error" in line:
                        return str(line["error"])
            except docker.errors.APIError as error:
                return _text(error)
            except (docker.errors.DockerException, OSError, HTTPError, ValueError) as error:
                # The registry's silence, a broken download: that is not the engine's end.
                self.ping()
                return f"the pull broke off: {dialect.one_line(str(error))}"
            finally:
                client.close()
        return ""

    def logs(
        self, name: str, follow: bool, opened: Callable[[Callable[[], None]], None]
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
                if response.status_code == 404:
                    return
                response.raise_for_status()
                opened(_cutting(response))
                yield from response.iter_content(chunk_size=None)

    def events(self, opened: Callable[[Callable[[], None]], None]) -> Iterator[dict[str, Any]]:
        """Deaths of this node's containers, the last ones again: a gap would lose one."""
        filters = {"label": [self._label], "type": ["container"], "event": ["die", "oom"]}
        with self._speaking() as client:
            response = client.get(
                f"{client.base_url}/v{client.api_version}/events",
                params={"since": "1", "filters": json.dumps(filters)},
                stream=True,
                timeout=(CALL_TIMEOUT_S, None),
            )
            with response:
                response.raise_for_status()
                opened(_cutting(response))
                for line in response.iter_lines(chunk_size=None):
                    event: dict[str, Any] = json.loads(line)
                    yield event

    def watch(
        self,
        on_back: Callable[[], None],
        on_gone: Callable[[str], None],
        on_event: Callable[[str, str], None],
    ) -> "_Watch":
        return _Watch(self, on_back, on_gone, on_event)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._shared is not None:
                self._shared.close()

    @contextmanager
    def _speaking(self) -> Iterator[docker.APIClient]:
        try:
            _knock()
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
        engine: DockerEngine,
        on_back: Callable[[], None],
        on_gone: Callable[[str], None],
        on_event: Callable[[str, str], None],
    ) -> None:
        self._engine = engine
        self._on_back = on_back
        self._on_gone = on_gone
        self._on_event = on_event
        self._closing = threading.Event()
        self._cut: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name="engine-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._cut is not None:
            self._cut()
        self._thread.join(CLOSE_WAIT_S)

    def _run(self) -> None:
        pause_s = WATCH_PAUSE_S_MIN
        while not self._closing.is_set():
            try:
                with suppress(EngineGone, ValueError, AttributeError):
                    self._read()
                    pause_s = WATCH_PAUSE_S_MIN
                self._engine.ping()
            except EngineGone as error:
                self._on_gone(str(error))
            self._closing.wait(pause_s)
            pause_s = min(WATCH_PAUSE_S_MAX, pause_s * 2)

    def _read(self) -> None:
        """Until the stream breaks; the caller finds out whether the engine is gone."""
        for event in self._engine.events(self._on_open):
            key = event.get("Actor", {}).get("Attributes", {}).get(ATTEMPT, "")
            self._on_event(key, event.get("Action", ""))

    def _on_open(self, cut: Callable[[], None]) -> None:
        self._cut = cut
        if self._closing.is_set():
            cut()
        self._on_back()


def _knock() -> None:
    """Raises what the system says about the socket, plainly.

    The docker package wraps that several times, and forgets to close a socket that was refused.
    """
    if path := _socket_path():
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.connect(path)


def _socket_path() -> str:
    """Empty where the engine is spoken with in another way."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    return host.removeprefix("unix://") if host.startswith("unix://") else ""


def _connect(timeout_s: int) -> docker.APIClient:
    return docker.APIClient(
        **docker.utils.kwargs_from_env(),
        version="auto",
        timeout=timeout_s,
        max_pool_size=CALLS_MAX,
    )


def _create(client: docker.APIClient, name: str, body: dict[str, Any]) -> None:
    client.create_container_from_config(body, name)  # type: ignore[no-untyped-call]


def _cutting(response: Response) -> Callable[[], None]:
    """What wakes the thread that reads this answer, from any thread."""
    stream: CancellableStream[bytes] = CancellableStream(iter(()), response)

    def cut() -> None:
        # It may have ended by itself meanwhile.
        with suppress(OSError, AttributeError, ValueError, docker.errors.DockerException):
            stream.close()

    return cut


def _text(error: docker.errors.APIError) -> str:
    return dialect.one_line(str(error.explanation or error))


def _not_started(error: docker.errors.APIError, exit_code: int) -> NotStarted:
    """What was asked for is at fault below 500, and where the engine's words say so."""
    text = _text(error)
    is_ours = exit_code == dialect.EXIT_RAIN_FAILED and (error.status_code or 500) >= 500
    refused = is_ours and not dialect.is_about_the_job(text)
    return NotStarted(exit_code, dialect.clipped(text), refused=refused)
