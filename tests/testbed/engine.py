"""A Docker engine of one's own, for tests: started, used and gone without a trace.

Everything lives in one folder: socket, images, containers, log. Only the process started here is
ended, and what it started itself. By default the engine makes no bridge and touches no firewall
rule, so that it never disturbs a LAN under test on the same machine.

    python -m tests.testbed.engine start FOLDER     prints the DOCKER_HOST to use
    python -m tests.testbed.engine stop FOLDER
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import docker.errors

IMAGE = "rain-test:latest"
START_TIMEOUT_S = 40
STOP_TIMEOUT_S = 20
SOCKET_PATH_CHARS_MAX = 100
STORAGE_DRIVERS = ("overlay2", "vfs")


class EngineError(Exception):
    """The engine did not come up, and why."""


class Engine:
    """One dockerd in one folder. `stop` ends the process only, `discard` removes all of it."""

    def __init__(self, folder: Path, with_bridge: bool = False, namespace: str = "") -> None:
        self.folder = folder.resolve()
        self.with_bridge = with_bridge
        # Not `ip netns exec`: that mounts another /sys, where dockerd finds no cgroups.
        self._enter = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
        self.socket = self.folder / "docker.sock"
        self._pid_file = self.folder / "engine.pid"
        assert len(str(self.socket)) <= SOCKET_PATH_CHARS_MAX, "the folder's path is too long"

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Returns when the engine answers; the first storage driver that works is kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        reason = ""
        for driver in STORAGE_DRIVERS:
            reason = self._start_with(driver)
            if not reason:
                _quiet_bridge_filter()
                return
            self.stop()
        raise EngineError(reason)

    def _start_with(self, driver: str) -> str:
        command = [
            *self._enter,
            "dockerd",
            *("--data-root", str(self.folder / "data")),
            *("--exec-root", str(self.folder / "exec")),
            *("--pidfile", str(self.folder / "dockerd.pid")),
            *("-H", self.host),
            *("--storage-driver", driver),
        ]
        if not self.with_bridge:
            command += ["--bridge=none", "--iptables=false", "--ip-forward=false"]
        with (self.folder / "dockerd.log").open("ab") as log:
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pid_file.write_text(str(started.pid))
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and started.poll() is None:
            if answers(self.host):
                # The engine outlives this object on purpose (`start` of the command line).
                started.returncode = 0
                return ""
            time.sleep(0.1)
        tail = (self.folder / "dockerd.log").read_text(errors="replace")[-1_000:]
        if started.poll() is None:
            started.kill()
            started.wait()
        return f"dockerd with {driver} did not come up: {tail}"

    def make_image(self, name: str = IMAGE) -> None:
        """A shell image without a registry: the static busybox and a link for each command."""
        client = docker.APIClient(base_url=self.host)
        try:
            make_image(client, name)
        finally:
            client.close()

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        """Ends dockerd and what it started; containers and images stay on disk."""
        pid = self._pid()
        if pid and _is_running(pid):
            os.kill(pid, with_signal)
            if not _wait_gone(pid, STOP_TIMEOUT_S):
                os.kill(pid, signal.SIGKILL)
                _wait_gone(pid, STOP_TIMEOUT_S)
        if with_signal == signal.SIGTERM:
            self._end_offspring()
        self._pid_file.unlink(missing_ok=True)
        (self.folder / "dockerd.pid").unlink(missing_ok=True)

    def discard(self) -> None:
        """Containers, process, mounts, folder: all gone, whatever state they were in."""
        with suppress(docker.errors.DockerException, OSError):
            self.remove_containers()
        self.stop()
        self._unmount()
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_containers(self) -> None:
        """Whatever runs here or has run."""
        if not self.socket.exists():
            return
        client = docker.APIClient(base_url=self.host)
        try:
            for container in client.containers(all=True):
                client.remove_container(container["Id"], force=True, v=True)
        finally:
            client.close()

    def _pid(self) -> int:
        with suppress(OSError, ValueError):
            return int(self._pid_file.read_text())
        return 0

    def _end_offspring(self) -> None:
        """containerd and its shims: told apart from others' by this folder in their arguments."""
        mark = str(self.folder / "exec").encode()
        for entry in sorted(Path("/proc").glob("[0-9]*")):
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                is_ours = words[0].split(b"/")[-1].startswith(b"containerd")
                if is_ours and any(word.startswith(mark) for word in words):
                    os.kill(int(entry.name), signal.SIGKILL)
                    _wait_gone(int(entry.name), STOP_TIMEOUT_S)

    def _unmount(self) -> None:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        points = [line.split(" ")[1] for line in mounts]
        for point in reversed([p for p in points if p.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL)


def make_image(client: docker.APIClient, name: str = IMAGE) -> None:
    """Imports the shell image into the engine that this client speaks with."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise EngineError("no busybox here (apt-get install busybox-static)")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox", filter=_owned_by_root)
        for applet in applets.stdout.split():
            if applet == "busybox":
                continue
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    repository, _, tag = name.partition(":")
    client.import_image_from_data(
        archive.getvalue(), repository=repository, tag=tag, changes=["ENV PATH=/bin"]
    )


def answers(host: str) -> bool:
    """An engine is there and speaks."""
    if host.startswith("unix://") and not _accepts(host.removeprefix("unix://")):
        return False
    try:
        client = docker.APIClient(base_url=host, timeout=5)
    except (docker.errors.DockerException, OSError):
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False
    finally:
        client.close()


def why_impossible() -> str:
    """Why no engine can be started here; empty where one can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "no Docker engine answers, and starting one needs root"
    for program in ("dockerd", "busybox"):
        if shutil.which(program) is None:
            return f"no Docker engine answers, and {program} is not installed"
    return ""


@contextmanager
def running_engine(with_bridge: bool = False) -> Iterator[Engine]:
    """An engine with the test image, for as long as the block lasts."""
    engine = Engine(Path(tempfile.mkdtemp(prefix="rain-engine-")), with_bridge)
    try:
        engine.start()
        engine.make_image()
        yield engine
    finally:
        engine.discard()


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755
    return entry


def _accepts(path: str) -> bool:
    # Asked first, because the docker package forgets to close a socket that was refused.
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _quiet_bridge_filter() -> None:
    """dockerd turns this on, and bridged test traffic dies silently."""
    with suppress(OSError):
        Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("0")


def _is_running(pid: int) -> bool:
    """Not gone, and not waiting to be reaped either."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _wait_gone(pid: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not _is_running(pid):
            return True
        time.sleep(0.02)
    return False


def main(words: list[str]) -> int:
    if len(words) != 2 or words[0] not in ("start", "stop"):
        print(__doc__, file=sys.stderr)
        return 2
    engine = Engine(Path(words[1]))
    if words[0] == "stop":
        engine.discard()
        return 0
    if reason := why_impossible():
        print(reason, file=sys.stderr)
        return 1
    try:
        engine.start()
        engine.make_image()
    except BaseException:
        engine.discard()
        raise
    print(engine.host)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
