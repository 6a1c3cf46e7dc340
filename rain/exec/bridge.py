"""The network of tasks that asked for `--network bridge`: the internet, but not the neighbourhood.

Rain has a network of its own at the engine, without traffic between its containers. Where this
agent is root, has iptables and sees the engine's bridge among its own interfaces, it forbids that
bridge everything that is not the internet: private and special ranges when forwarding, and this
PC itself. Port 53 of this PC's resolvers stays open, so that public names work where the resolver
is private. Where it cannot do that, it says so.

The rules concern the interface `rain-bridge` alone, which only tasks of Rain are on. They stay
when the agent ends: tasks may outlive it, and without tasks they do nothing. They are put up again
whenever the engine is back and before each start, since engines and firewalls rewrite theirs.
"""

import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BRIDGE = "rain-bridge"
"""The engine's network and the interface, both."""
CHAIN_FORWARD = "RAIN-FORWARD"
CHAIN_INPUT = "RAIN-INPUT"
CHAIN_REFUSE = "RAIN-REFUSE"
"""Says no at once: a task that waits in vain for an answer helps nobody."""
COMMENT = "rain: tasks with --network bridge"
COMMAND_TIMEOUT_S = 10.0
LOCK_WAIT_S = "5"
RESOLVERS_MAX = 8
RESOLVER_FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
BLOCKED = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
)
"""Private, link-local (the metadata of clouds), shared, set apart, multicast and reserved. IPv6 is
blocked altogether: the network has none."""

Run = Callable[[Sequence[str], str], str]
"""A command and its stdin; empty, or why it failed."""


def network_request() -> dict[str, Any]:
    """The body of POST /networks/create."""
    return {
        "Name": BRIDGE,
        "CheckDuplicate": True,
        "Driver": "bridge",
        "EnableIPv6": False,
        "Options": {
            "com.docker.network.bridge.name": BRIDGE,
            "com.docker.network.bridge.enable_icc": "false",
        },
        "Labels": {"rain.network": "bridge"},
    }


def chains(resolvers: Sequence[str]) -> str:
    """The chains with all that is in them, for iptables-restore: replaced in one go."""
    mark = f'-m comment --comment "{COMMENT}"'
    asks = [
        f"-d {resolver}/32 -p {protocol} --dport 53 {mark} -j RETURN"
        for resolver in resolvers
        for protocol in ("udp", "tcp")
    ]
    refuse = f"{mark} -j {CHAIN_REFUSE}"
    names = (CHAIN_REFUSE, CHAIN_FORWARD, CHAIN_INPUT)
    lines = ["*filter", *(f":{name} - [0:0]" for name in names)]
    lines += [
        f"-A {CHAIN_REFUSE} -p tcp {mark} -j REJECT --reject-with tcp-reset",
        f"-A {CHAIN_REFUSE} {mark} -j REJECT --reject-with icmp-admin-prohibited",
    ]
    lines += [f"-A {chain} {ask}" for chain in (CHAIN_FORWARD, CHAIN_INPUT) for ask in asks]
    lines += [f"-A {CHAIN_FORWARD} -d {blocked} {refuse}" for blocked in BLOCKED]
    lines += [f"-A {CHAIN_INPUT} {refuse}", "COMMIT", ""]
    return "\n".join(lines)


def resolvers_of(texts: Sequence[str]) -> tuple[str, ...]:
    """The IPv4 name servers in these files, but for those that this PC asks itself (127.x)."""
    found: dict[str, None] = {}
    for line in "\n".join(texts).splitlines():
        match = re.match(r"\s*nameserver\s+([0-9.]+)\s*$", line)
        try:
            address = ipaddress.IPv4Address(match[1]) if match else None
        except ValueError:
            continue
        if address is not None and not address.is_loopback and len(found) < RESOLVERS_MAX:
            found[str(address)] = None
    return tuple(found)


class Fence:
    """What keeps tasks on the bridge away from private addresses. Blocking: for threads."""

    def __init__(self, run: Run | None = None) -> None:
        self._run = run or _run

    def why_not(self, engine_pid: int) -> str:
        """Why there can be no fence around the tasks of this engine; empty: there can."""
        if not sys.platform.startswith("linux"):
            return "Rain knows how to block them on Linux only"
        if os.geteuid() != 0:
            return "the agent is not root"
        if shutil.which("iptables") is None or shutil.which("iptables-restore") is None:
            return "iptables is not installed"
        if not _is_in_own_network(engine_pid):
            return "the engine has a network of its own"
        return ""

    def put_up(self) -> str:
        """Around the bridge, which is there by now; empty, or why it does not stand."""
        if BRIDGE not in (name for _, name in socket.if_nameindex()):
            return f"the engine made no interface {BRIDGE} here"
        rules = chains(resolvers_of([_text(path) for path in RESOLVER_FILES]))
        restore = ["iptables-restore", "-w", LOCK_WAIT_S, "--noflush"]
        if reason := self._run(restore, rules):
            return reason
        # Docker keeps its own rules behind DOCKER-USER, whenever it writes them anew.
        is_docker = not self._run(_iptables("-S", "DOCKER-USER"), "")
        forward = "DOCKER-USER" if is_docker else "FORWARD"
        for chain, target in ((forward, CHAIN_FORWARD), ("INPUT", CHAIN_INPUT)):
            if reason := self._ensure(_iptables, chain, target):
                return reason
        if shutil.which("ip6tables") is not None and Path("/proc/net/if_inet6").exists():
            for chain in ("FORWARD", "INPUT"):
                if reason := self._ensure(_ip6tables, chain, "DROP"):
                    return reason
        return ""

    def _ensure(self, command: Callable[..., list[str]], chain: str, target: str) -> str:
        rule = [chain, "-i", BRIDGE, "-m", "comment", "--comment", COMMENT, "-j", target]
        if not self._run(command("-C", *rule), ""):
            return ""
        return self._run(command("-I", *rule), "")


def _iptables(*words: str) -> list[str]:
    return ["iptables", "-w", LOCK_WAIT_S, *words]


def _ip6tables(*words: str) -> list[str]:
    return ["ip6tables", "-w", LOCK_WAIT_S, *words]


def _run(words: Sequence[str], given: str) -> str:
    try:
        done = subprocess.run(
            words, input=given, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return f"{words[0]} failed: {error}"
    if done.returncode == 0:
        return ""
    return f"{words[0]} failed: {' '.join(done.stderr.split())[:200] or done.returncode}"


def _is_in_own_network(pid: int) -> bool:
    """Whether that process has the network of this thread; 0, of nobody known: it has not."""
    try:
        theirs = os.readlink(f"/proc/{pid}/ns/net")
        return pid > 0 and theirs == os.readlink("/proc/thread-self/ns/net")
    except OSError:
        return False


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
