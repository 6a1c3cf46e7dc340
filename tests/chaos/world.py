"""What the storm blows on: five PCs on a LAN, one engine, small disks, builds of two releases."""

import contextlib
import io
import os
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors

from tests.chaos.history import History
from tests.chaos.schedule import FULL_PCS, PCS
from tests.testbed.engine import Engine, running_engine
from tests.testbed.lan import Lan, Pc, lan

RELEASE = "bca5231cff6c23e1a98662db2e469e4c776aebe6"
"""The last release: its agents speak protocol 1 and keep schema 1, and today's must understand
both. A data folder from before certificates (up to d80f824) cannot be resumed by any later build:
`rain up` says so, and what to do."""
ROOT = Path(__file__).parents[2]
SMALL_DISK = "64m"
SHARE = ("--cpus", "2", "--memory", "1g")
LISTEN_PAUSE_S = 0.2
GIT_TIMEOUT_S = 30


class World:
    """The machines. Faults act on them; the checker never sees them."""

    def __init__(self, net: Lan, engine: Engine, folder: Path) -> None:
        self.pcs = net.pcs
        self.engine = engine
        self.folder = folder

    def named(self, name: str) -> Pc:
        return next(pc for pc in self.pcs if pc.name == name)


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Five PCs with nothing on them yet; torn down whatever happens."""
    with running_engine() as engine, lan(folder, PCS, {"DOCKER_HOST": engine.host}) as net:
        disks = [net.pcs[number].data_dir for number in FULL_PCS]
        try:
            for disk in disks:
                _mount(disk)
            yield World(net, engine, folder)
        finally:
            for pc in net.pcs:
                pc.unplug()
            for disk in disks:
                subprocess.run(["umount", "-l", disk], check=False, capture_output=True)


def _mount(disk: Path) -> None:
    disk.mkdir(mode=0o700)
    options = f"size={SMALL_DISK},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4_096))


def free(disk: Path) -> None:
    (disk / "filler").unlink(missing_ok=True)


def last_release(folder: Path) -> tuple[Path | None, str]:
    """The source of the last release in a folder of its own, or why it cannot be had."""
    command = ["git", "-C", str(ROOT), "archive", RELEASE, "rain"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_TIMEOUT_S, check=False)
    except OSError as error:
        return None, f"no git here: {error}"
    if done.returncode != 0:
        return None, done.stderr.decode(errors="replace").strip()
    tree = folder / "release"
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(tree, filter="data")
    return tree, ""


class Listener:
    """Writes every start of a container of Rain's into the history, over restarts of the engine.

    A started engine has forgotten its events, but none of its containers starts while it is off.
    """

    def __init__(self, engine: Engine, history: History) -> None:
        self._engine = engine
        self._history = history
        self._is_over = threading.Event()
        self._events: Any = None
        self._since_ns = time.time_ns()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        if self._events is not None:
            with suppress(Exception):  # a connection that the engine has closed already
                self._events.close()
        self._thread.join(5)

    def _listen(self) -> None:
        while not self._is_over.is_set():
            with suppress(docker.errors.DockerException, OSError, ValueError):
                self._read()
            self._is_over.wait(LISTEN_PAUSE_S)

    def _read(self) -> None:
        client = docker.APIClient(base_url=self._engine.host)
        try:
            filters = {"type": "container", "event": ["start"], "label": "rain.job"}
            since_s = self._since_ns // 10**9
            self._events = client.events(decode=True, since=since_s, filters=filters)
            for event in self._events:
                if int(event["timeNano"]) > self._since_ns:
                    self._note(event)
        finally:
            client.close()

    def _note(self, event: dict[str, Any]) -> None:
        self._since_ns = int(event["timeNano"])
        labels = event["Actor"]["Attributes"]
        self._history.note(
            "started",
            job=labels["rain.job"],
            task=int(labels["rain.task"]),
            attempt=labels["rain.attempt"],
            node=labels["rain.node"],
            epoch=int(labels["rain.epoch"]),
        )


def containers_left(engine: Engine) -> list[dict[str, str]]:
    """The labels of all of Rain's containers that exist, running or not."""
    client = docker.APIClient(base_url=engine.host)
    try:
        found = client.containers(all=True, filters={"label": "rain.job"})
        return [{**one["Labels"], "state": one["State"]} for one in found]
    finally:
        client.close()


def remove_containers(engine: Engine, node: str) -> None:
    """Those of one PC are gone, as if its power had failed; where the engine is off there are none.

    Gone, not killed: this engine serves the other PCs too and goes on, so it would tell how they
    ended, as no engine can whose PC was off.
    """
    with suppress(docker.errors.DockerException, OSError):
        client = docker.APIClient(base_url=engine.host)
        try:
            for one in client.containers(filters={"label": f"rain.node={node}"}):
                with suppress(docker.errors.APIError):  # it ended by itself meanwhile
                    client.remove_container(one["Id"], force=True)
        finally:
            client.close()


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="rain-chaos-"))


def builds(pcs: Sequence[Pc]) -> dict[str, str]:
    """By PC, what `rain version` says there."""
    return {pc.name: pc.rain("version").stdout.strip() for pc in pcs}


def load() -> str:
    """How busy the machine was: figures mean nothing without it."""
    return " ".join(f"{each:.1f}" for each in os.getloadavg())
