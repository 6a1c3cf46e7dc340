"""A LAN of network namespaces on one machine: a switch, PCs on it, cables to pull.

The switch is a bridge in a namespace of its own, so nothing of the machine's own network is
touched; addresses are from 198.18.0.0/15, the range set apart for tests. Needs root and iproute2.
`python -m tests.testbed.lan sweep` removes what a killed run left behind.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.testbed.typist import Typist

PREFIX = "raintest"
COMMAND_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05
_numbers = itertools.count(1)

Json = dict[str, Any]


def missing() -> str:
    """Why there can be no LAN here; empty: there can."""
    if os.geteuid() != 0:
        return "a LAN of namespaces needs root"
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "a LAN of namespaces needs iproute2 and util-linux"
    return ""


def _ip(*words: str, namespace: str = "") -> None:
    prefix = ["ip", "-n", namespace] if namespace else ["ip"]
    subprocess.run([*prefix, *words], check=True, capture_output=True, timeout=COMMAND_TIMEOUT_S)


def wait_until(
    holds: Callable[[], Any], deadline_s: float, what: str, poll_s: float = POLL_S
) -> Any:
    """The first true value of `holds`; fails with `what` when the deadline passes."""
    ends = time.monotonic() + deadline_s
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > ends:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(poll_s)


class Pc:
    """One PC: a namespace, a data folder, and the rain command as typed on it."""

    def __init__(self, lan: "Lan", number: int, folder: Path, environment: dict[str, str]) -> None:
        self.name = f"pc{number}"
        self.namespace = f"{lan.namespace}-{number}"
        self.address = f"198.18.0.{number}"
        self.folder = folder / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.agent: subprocess.Popen[bytes] | None = None
        self._lan = lan
        self.port = f"port{number}"
        self._environment = {
            **os.environ,
            **environment,
            "RAIN_DATA_DIR": str(self.data_dir),
        }
        self._starts = 0
        self._adopted: Path | None = None
        self.has_other_build = False

    def plug_in(self) -> None:
        switch = self._lan.namespace
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self.port, "netns", switch, "type", "veth",
            "peer", "name", "eth0", "netns", self.namespace)  # fmt: skip
        _ip("link", "set", self.port, "master", "br0", "up", namespace=switch)
        _ip("link", "set", "lo", "up", namespace=self.namespace)
        self.set_address(self.address)
        _ip("link", "set", "eth0", "up", namespace=self.namespace)

    def set_address(self, address: str) -> None:
        """As DHCP would: the old one goes, the new one comes. No default route."""
        _ip("addr", "flush", "dev", "eth0", namespace=self.namespace)
        _ip("addr", "add", f"{address}/15", "brd", "+", "dev", "eth0", namespace=self.namespace)
        self.address = address

    def set_environment(self, **variables: str) -> None:
        """For what is typed from now on."""
        self._environment.update(variables)

    def use_build(self, tree: Path | None) -> None:
        """What is typed from now on is the Rain of that tree; None: that of these tests."""
        self.has_other_build = tree is not None
        self._environment.pop("PYTHONPATH", None)
        path = os.environ.get("PYTHONPATH") if tree is None else str(tree)
        if path is not None:
            self._environment["PYTHONPATH"] = path

    # --- the rain command ------------------------------------------------------------------------

    def rain(
        self, *words: str, stdin: str = "", timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Type a command on this PC and wait for it."""
        return subprocess.run(
            self._command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=timeout_s,
            check=False,
        )

    def ask(self, *words: str) -> Json:
        """A verb with --json that must work."""
        done = self.rain(*words, "--json")
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        answer: Json = json.loads(done.stdout.splitlines()[-1])
        return answer

    def try_ask(self, *words: str) -> Json | None:
        """The same for polling: None while it does not work."""
        done = self.rain(*words, "--json")
        return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None

    def open(self, *words: str) -> subprocess.Popen[bytes]:
        """Type a command on this PC and let it run; its output is piped."""
        return subprocess.Popen(
            self._command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
        )

    def up(self, *words: str) -> None:
        """Start the agent in the foreground of this PC; its words go to a file."""
        assert self.agent is None, f"{self.name} is up already"
        self._starts += 1
        self._adopted = None
        with self.output.open("wb") as output:
            self.agent = subprocess.Popen(
                self._command("up", "--name", self.name, *words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self.folder,
            )

    def sit_down(self, *words: str) -> Typist:
        """Type a command on a terminal of this PC, where a person sees and answers."""
        return Typist(self._command(*words), self._environment, self.folder)

    def adopt(self, agent: subprocess.Popen[bytes], output: Path) -> None:
        """An agent that was started at a terminal is this PC's from now on."""
        self.agent, self._adopted = agent, output

    @property
    def data_dir(self) -> Path:
        return self.folder / "rain"

    @property
    def output(self) -> Path:
        return self._adopted or self.folder / f"up-{self._starts}.txt"

    def wait_ready(self, deadline_s: float = 50.0) -> None:
        def is_ready() -> bool:
            assert self.agent is not None
            text = self.output.read_text()
            assert self.agent.poll() is None, f"{self.name} ended: {text}"
            return "ready" in text

        wait_until(is_ready, deadline_s, f"{self.name} is ready")

    # --- faults ----------------------------------------------------------------------------------

    def kill(self, sign: signal.Signals = signal.SIGKILL) -> None:
        assert self.agent is not None
        self.agent.send_signal(sign)
        if sign in (signal.SIGKILL, signal.SIGTERM):
            self.agent.wait(STOP_TIMEOUT_S + 15)
            self.agent = None

    def cut_cable(self) -> None:
        _ip("link", "set", self.port, "down", namespace=self._lan.namespace)

    def mend_cable(self) -> None:
        _ip("link", "set", self.port, "up", namespace=self._lan.namespace)

    def counters(self) -> tuple[int, int]:
        """Bytes received and sent by eth0 so far."""
        done = subprocess.run(
            ["ip", "-n", self.namespace, "-s", "-j", "link", "show", "eth0"],
            check=True,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        stats = json.loads(done.stdout)[0]["stats64"]
        return stats["rx"]["bytes"], stats["tx"]["bytes"]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Any program in this PC's network."""
        return subprocess.run(
            [*self._enter(), *words],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Any program in this PC's network, left running; its output is piped."""
        return subprocess.Popen(
            [*self._enter(), *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
        )

    def unplug(self) -> None:
        if self.agent is not None and self.agent.poll() is None:
            self.agent.send_signal(signal.SIGCONT)
            self.agent.kill()
            self.agent.wait(STOP_TIMEOUT_S)
        self.agent = None
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self.namespace)

    def _enter(self) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.namespace}"]

    def _command(self, *words: str) -> list[str]:
        # -P: not the Rain of the folder in which the tests were started.
        safe = ["-P"] if self.has_other_build else []
        return [*self._enter(), sys.executable, *safe, "-m", "rain", *words]


class Lan:
    """A switch with PCs on it."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.namespace = f"{PREFIX}{os.getpid()}x{next(_numbers)}"
        self.pcs: list[Pc] = []
        self._folder = folder
        self._environment = environment or {}

    def open(self) -> None:
        _ip("netns", "add", self.namespace)
        _ip("link", "add", "br0", "type", "bridge", namespace=self.namespace)
        _ip("link", "set", "br0", "up", namespace=self.namespace)

    def add(self, count: int, environment: dict[str, str] | None = None) -> list[Pc]:
        for _ in range(count):
            surroundings = {**self._environment, **(environment or {})}
            pc = Pc(self, len(self.pcs) + 1, self._folder, surroundings)
            self.pcs.append(pc)
            pc.plug_in()
        return self.pcs[-count:]

    def close(self) -> None:
        for pc in self.pcs:
            pc.unplug()
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self.namespace)


@contextlib.contextmanager
def lan(folder: Path, count: int, environment: dict[str, str] | None = None) -> Iterator[Lan]:
    """A LAN of so many PCs; torn down whatever happens."""
    one = Lan(folder, environment)
    try:
        one.open()
        one.add(count)
        yield one
    finally:
        one.close()


def found_pool(pcs: Sequence[Pc], *words: str) -> Path:
    """The first PC founds a pool, the others join by its token; returns the token's file."""
    first, *others = pcs
    first.up("--new", *words)
    first.wait_ready()
    token = first.folder / "token"
    token.touch(mode=0o600)
    done = first.rain("invite", "--token", "-q")
    assert done.returncode == 0, done.stderr
    token.write_text(done.stdout)
    for pc in others:
        pc.up("--join-file", str(token), *words)
    for pc in others:
        pc.wait_ready()
    wait_agreed(pcs)
    return token


def wait_agreed(pcs: Sequence[Pc], deadline_s: float = 50.0) -> Json:
    """Until all see all and follow one coordinator; returns one status."""

    def agreed() -> Json | None:
        statuses = [pc.try_ask("status") for pc in pcs]
        if any(status is None or status["epoch"] is None for status in statuses):
            return None
        views = {
            (s["members"]["alive"], s["epoch"]["number"], s["epoch"]["node_id"])
            for s in statuses
            if s is not None
        }
        one = len(views) == 1 and next(iter(views))[0] == len(pcs)
        return statuses[0] if one else None

    status: Json = wait_until(agreed, deadline_s, f"{len(pcs)} PCs agree")
    return status


def coordinator_of(pcs: Sequence[Pc]) -> Pc:
    """Whom they all name."""
    status = wait_agreed(pcs)
    return next(pc for pc in pcs if pc.name == status["coordinator"]["name"])


def sweep() -> None:
    """Remove the namespaces of runs that were killed."""
    done = subprocess.run(["ip", "-j", "netns", "list"], capture_output=True, check=False)
    for row in json.loads(done.stdout or b"[]"):
        if str(row["name"]).startswith(PREFIX):
            _ip("netns", "del", row["name"])


if __name__ == "__main__":
    sweep()
