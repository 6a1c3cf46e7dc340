"""A pool of agents on this machine's loopback: processes of their own, tasks as plain processes."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rain.cli.demo import free_ports
from rain.cli.up import agent_command, wait_ready
from rain.client import Client, ControlError, Json

READY_S = 40.0
STOP_S = 15.0
POLL_S = 0.02


class Node:
    """One agent, its folder and its control socket."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.data_dir = folder / name
        self.client = Client(self.data_dir)
        self._agent: subprocess.Popen[bytes] | None = None

    def up(self, words: list[str], token: str, environment: Mapping[str, str]) -> None:
        """Start it, and wait until it is ready."""
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        share = ["--cpus=2", "--memory=1g", "--executor=process"]
        own = ["--json", f"--name={self.name}", "--bind=127.0.0.1", f"--port={self.port}"]
        with (self.data_dir / "out.txt").open("w+") as out:
            self._agent = subprocess.Popen(
                agent_command(self.data_dir, [*own, *share, *words]),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
            assert self._agent.stdin is not None
            with self._agent.stdin as pipe:
                pipe.write(token.encode())
            is_ready = wait_ready(self._agent, out, READY_S)
            out.seek(0)
            assert is_ready, out.read()

    @property
    def pid(self) -> int:
        assert self._agent is not None
        return self._agent.pid

    def send(self, sign: signal.Signals) -> None:
        os.kill(self.pid, sign)

    def end(self, sign: signal.Signals = signal.SIGKILL) -> int:
        """Signal it and wait until it is gone; its exit code."""
        assert self._agent is not None
        self.send(sign)
        return self._agent.wait(STOP_S)

    def clear(self) -> None:
        if self._agent is not None and self._agent.poll() is None:
            self.send(signal.SIGCONT)
            self._agent.kill()
            self._agent.wait(STOP_S)

    def ask(self, verb: str, **args: Any) -> Json:
        return self.client.call(verb, **args)

    def run(self, *command: str, node: str = "") -> str:
        """Submit a job of one task; its id."""
        spec: Json = {
            "command": list(command),
            "need": {"cpus_milli": 100, "memory_bytes": 1024 * 1024},
            "executor": "process",
        }
        return str(self.ask("submit", spec=spec)["job_id"])


def wait_for(holds: Callable[[], Any], what: str, deadline_s: float = 20.0) -> Any:
    """The first true value; a verb that fails meanwhile is no answer."""
    ends = time.monotonic() + deadline_s
    while True:
        with contextlib.suppress(ControlError):
            value = holds()
            if value:
                return value
        assert time.monotonic() < ends, f"not within {deadline_s} s: {what}"
        time.sleep(POLL_S)


@contextlib.contextmanager
def loopback_pool(
    folder: Path, count: int, environment: Mapping[str, str] | None = None
) -> Iterator[list[Node]]:
    """A pool whose members see each other and follow the first one, which has that environment."""
    nodes = [
        Node(folder, f"pc{number}", port) for number, port in enumerate(free_ports(count), start=1)
    ]
    first, *others = nodes
    try:
        first.up(["--new", "--pool=loop"], "", environment or {})
        stream = first.client.stream("invite", token=True)
        token = next(stream)["token"]
        stream.close()
        for node in others:
            join = [f"--contact=127.0.0.1:{first.port}", "--join-file=-"]
            node.up(join, token, {})
        wait_for(lambda: all(_sees(node, count, first.name) for node in nodes), "they agree")
        yield nodes
    finally:
        for node in nodes:
            node.clear()


def _sees(node: Node, count: int, coordinator: str) -> bool:
    status = node.ask("status")
    named = status["coordinator"]
    return bool(
        status["members"]["alive"] == count and named is not None and named["name"] == coordinator
    )
