"""Docker Swarm on the same namespaces, by the same faults: what Rain's figures stand beside.

Three managers, an engine in each namespace. A leader's cable is cut: when does a survivor accept
a new service? A worker's cable is cut: when does the replacement of its task run?
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.rounds import Json, column, measured, say, spread
from tests.testbed.engine import IMAGE, Engine
from tests.testbed.lan import Lan, Pc, lan, wait_until

MANAGERS = 3
ROUNDS = 3
TRY_S = 10.0
HEAL_WAIT_S = 180.0
FIGURE_WAIT_S = 180.0
SETTLE_S = 10.0
POLL_S = 0.1


class DockerPc:
    """One PC with an engine of its own, and the docker command as typed on it."""

    def __init__(self, pc: Pc, folder: Path) -> None:
        self.pc = pc
        self.engine = Engine(folder / f"e{pc.name}", namespace=pc.namespace)

    def docker(self, *words: str, timeout_s: float = 60.0) -> str:
        """Its output; empty where it failed or took too long."""
        command = ["docker", "-H", self.engine.host, *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    def nodes(self) -> list[Json]:
        lines = self.docker("node", "ls", "--format", "{{json .}}", timeout_s=TRY_S).splitlines()
        return [json.loads(line) for line in lines]

    def is_chief(self) -> bool:
        wanted = "{{.Self}} {{.ManagerStatus}}"
        return "true Leader" in self.docker("node", "ls", "--format", wanted, timeout_s=TRY_S)

    def running(self) -> int:
        return len(self.docker("ps", "-q", timeout_s=TRY_S).splitlines())


def swarm(rounds: int = ROUNDS) -> dict[str, list[float]]:
    """The figures by name; says them as well."""
    with _managers() as managers:
        chief = measured("Docker Swarm, leader's cable cut", rounds, lambda: _chief_cut(managers))
        worker = measured("Docker Swarm, worker's cable cut", rounds, lambda: _worker_cut(managers))
    accepted, replaced = column(chief, "accepts"), column(worker, "replaced")
    say("Docker Swarm, leader's cable cut: accepts a new service", spread(accepted))
    say("Docker Swarm, worker's cable cut: replacement running", spread(replaced))
    return {"chief": accepted, "worker": replaced}


@contextmanager
def _managers() -> Iterator[list[DockerPc]]:
    folder = Path(tempfile.mkdtemp(prefix="rs-"))
    with lan(folder, MANAGERS) as net:
        managers = [DockerPc(pc, folder) for pc in net.pcs]
        try:
            for each in managers:
                each.engine.start()
                each.engine.make_image()
            _form(managers, net)
            yield managers
        finally:
            for each in managers:
                each.engine.discard()
            shutil.rmtree(folder, ignore_errors=True)


def _form(managers: list[DockerPc], net: Lan) -> None:
    first, *others = managers
    first.docker("swarm", "init", "--advertise-addr", first.pc.address)
    token = first.docker("swarm", "join-token", "-q", "manager")
    assert token, "no swarm could be formed"
    for each in others:
        address = ("--advertise-addr", each.pc.address)
        each.docker("swarm", "join", "--token", token, *address, f"{net.pcs[0].address}:2377")
    _wait_well(managers)


def _wait_well(managers: list[DockerPc]) -> None:
    """All ready, one leader, no service left."""
    for service in managers[0].docker("service", "ls", "-q").splitlines():
        managers[0].docker("service", "rm", service)

    def is_well() -> bool:
        rows = managers[0].nodes()
        ready = sum(row["Status"] == "Ready" for row in rows)
        managed = sum(row["ManagerStatus"] in ("Leader", "Reachable") for row in rows)
        left = sum(each.running() for each in managers)
        return ready == managed == MANAGERS and not left and _chief(managers) is not None

    wait_until(is_well, HEAL_WAIT_S, "the swarm is well", 0.5)
    time.sleep(SETTLE_S)


def _chief(managers: list[DockerPc]) -> DockerPc | None:
    return next((each for each in managers if each.is_chief()), None)


def _create(manager: DockerPc, replicas: int) -> str:
    words = ["service", "create", "--detach", "--no-resolve-image", "--replicas", str(replicas)]
    return manager.docker(*words, IMAGE, "sleep", "3600", timeout_s=TRY_S)


def _chief_cut(managers: list[DockerPc]) -> Json:
    _wait_well(managers)
    chief = _chief(managers)
    assert chief is not None, "it was well"
    other = next(each for each in managers if each is not chief)
    struck_s = time.monotonic()
    chief.pc.cut_cable()
    wait_until(lambda: _create(other, 1), FIGURE_WAIT_S, "a service is accepted", POLL_S)
    took_s = time.monotonic() - struck_s
    chief.pc.mend_cable()
    return {"accepts": took_s}


def _worker_cut(managers: list[DockerPc]) -> Json:
    _wait_well(managers)
    chief = _chief(managers)
    assert chief is not None, "it was well"
    assert _create(chief, MANAGERS), "a service is accepted"
    wait_until(
        lambda: all(each.running() == 1 for each in managers), FIGURE_WAIT_S, "all run", POLL_S
    )
    cut = next(each for each in managers if each is not chief)
    rest = [each for each in managers if each is not cut]
    struck_s = time.monotonic()
    cut.pc.cut_cable()

    def is_replaced() -> bool:
        return sum(each.running() for each in rest) == MANAGERS

    wait_until(is_replaced, FIGURE_WAIT_S, "the replacement runs", POLL_S)
    took_s = time.monotonic() - struck_s
    cut.pc.mend_cable()
    return {"replaced": took_s}
