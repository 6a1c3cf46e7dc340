"""A network namespace for the thread of a test, with the internet and a neighbourhood behind it.

What the test starts meanwhile (threads, an engine, commands) lives in it. Beyond a cable there is
one more machine, which answers HTTP at an address of the internet and at private ones.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CLONE_NEWNET = 0x4000_0000
PUBLIC, OWN = "203.0.113.7", "203.0.113.1"
"""Of the machine beyond the cable, and of this one; from a range set apart for documentation."""
PRIVATE = ("10.77.0.7", "192.168.77.7", "172.30.0.7", "100.64.0.7", "169.254.169.254")
RESOLVER = "10.77.0.53"
COMMAND_TIMEOUT_S = 20


def why_impossible() -> str:
    """Why there can be no such network here; empty: there can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "a network namespace needs Linux and root"
    for program in ("ip", "iptables", "nsenter", "unshare", "busybox"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return ""


@contextmanager
def own_network() -> Iterator[None]:
    """For as long as the block lasts."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    servers: list[subprocess.Popen[bytes]] = []
    folder = Path(tempfile.mkdtemp(prefix="rain-web-"))
    try:
        (folder / "index.html").write_text("answered")
        beyond = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        servers.append(beyond)
        _connect(beyond.pid)
        web = ["busybox", "httpd", "-f", "-h", str(folder), "-p"]
        inside = ["nsenter", "-t", str(beyond.pid), "-n"]
        servers.append(subprocess.Popen([*web, "80"]))
        servers += [subprocess.Popen([*inside, *web, port]) for port in ("80", "53")]
        yield
    finally:
        for server in servers:
            with suppress(ProcessLookupError):
                server.send_signal(signal.SIGKILL)
            server.wait()
        libc.setns(home, CLONE_NEWNET)
        os.close(home)
        shutil.rmtree(folder)


def _connect(pid: int) -> None:
    own = os.readlink("/proc/thread-self/ns/net")
    while os.readlink(f"/proc/{pid}/ns/net") == own:
        pass  # it has not got a network of its own yet
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _run("ip", "addr", "add", f"{OWN}/24", "dev", "up0")
    _run("ip", "link", "set", "up0", "up")
    inside = ("nsenter", "-t", str(pid), "-n", "ip")
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "addr", "add", f"{PUBLIC}/24", "dev", "eth0")
    for address in (*PRIVATE, RESOLVER):
        _run(*inside, "addr", "add", f"{address}/32", "dev", "eth0")
    _run(*inside, "link", "set", "eth0", "up")
    _run("ip", "route", "add", "default", "via", PUBLIC)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=COMMAND_TIMEOUT_S)
