"""The internet, but not the neighbourhood: the rules as text, and on a network of their own."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import docker
import pytest

from rain.effects import ContainerExited
from rain.exec import bridge
from rain.exec.bridge import BLOCKED, Fence, chains, network_request, resolvers_of
from tests.exec import own_network
from tests.exec.engine_rig import Rig, text_of
from tests.exec.own_network import OWN, PRIVATE, PUBLIC, RESOLVER
from tests.exec.rig import key_of, order
from tests.testbed.engine import IMAGE, running_engine, why_impossible

MARK = '-m comment --comment "rain: tasks with --network bridge"'
REFUSE = f"{MARK} -j RAIN-REFUSE"


def test_the_rules_are_these() -> None:
    assert chains(["10.0.0.1"]).splitlines() == [
        "*filter",
        ":RAIN-REFUSE - [0:0]",
        ":RAIN-FORWARD - [0:0]",
        ":RAIN-INPUT - [0:0]",
        f"-A RAIN-REFUSE -p tcp {MARK} -j REJECT --reject-with tcp-reset",
        f"-A RAIN-REFUSE {MARK} -j REJECT --reject-with icmp-admin-prohibited",
        f"-A RAIN-FORWARD -d 10.0.0.1/32 -p udp --dport 53 {MARK} -j RETURN",
        f"-A RAIN-FORWARD -d 10.0.0.1/32 -p tcp --dport 53 {MARK} -j RETURN",
        f"-A RAIN-INPUT -d 10.0.0.1/32 -p udp --dport 53 {MARK} -j RETURN",
        f"-A RAIN-INPUT -d 10.0.0.1/32 -p tcp --dport 53 {MARK} -j RETURN",
        *(f"-A RAIN-FORWARD -d {blocked} {REFUSE}" for blocked in BLOCKED),
        f"-A RAIN-INPUT {REFUSE}",
        "COMMIT",
    ]
    asked_for = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"}
    assert asked_for <= set(BLOCKED)


def test_the_network_has_no_traffic_between_tasks_and_no_ipv6() -> None:
    request = network_request()
    assert request["EnableIPv6"] is False
    assert request["Options"] == {
        "com.docker.network.bridge.name": "rain-bridge",
        "com.docker.network.bridge.enable_icc": "false",
    }


def test_resolvers_are_those_that_are_not_this_pc() -> None:
    texts = [
        "# nameserver 9.9.9.9\nnameserver 127.0.0.53\nnameserver  10.0.0.1 \nsearch a.b\n",
        "nameserver 10.0.0.1\nnameserver 1.1.1.1\nnameserver fe80::1\nnameserver 1.2.3.999\n",
    ]
    assert resolvers_of(texts) == ("10.0.0.1", "1.1.1.1")
    many = "\n".join(f"nameserver 10.0.0.{n}" for n in range(99))
    assert len(resolvers_of([many])) == 8


def test_where_there_can_be_no_fence_it_says_why() -> None:
    elsewhere = "the engine has a network of its own"
    expected = elsewhere if os.geteuid() == 0 else "the agent is not root"
    assert Fence().why_not(0) == expected


def test_without_the_interface_nothing_is_touched() -> None:
    called: list[Sequence[str]] = []

    def run(words: Sequence[str], given: str) -> str:
        called.append(words)
        return given and ""

    assert Fence(run).put_up() == "the engine made no interface rain-bridge here"
    assert called == []


ASK_ALL = r"""
while [ $# -gt 0 ]; do
    echo $1 $2 $(printf 'GET / HTTP/1.0\r\n\r\n' | busybox nc -w 1 $1 $2 2>/dev/null | tail -n 1)
    shift 2
done
"""


@pytest.fixture
def lan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An engine with its usual firewall on a network of its own."""
    if reason := why_impossible() or own_network.why_impossible():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the network tests may not be skipped here: {reason}")
        pytest.skip(reason)
    resolvers = tmp_path / "resolv.conf"
    resolvers.write_text(f"nameserver {RESOLVER}\n")
    monkeypatch.setattr(bridge, "RESOLVER_FILES", (str(resolvers),))
    with own_network.own_network(), running_engine(with_bridge=True) as engine:
        # The testbed turned it off, for its own network; traffic between tasks goes through it.
        Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1")
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine.host


def rules() -> str:
    commands = (["iptables", "-S"], ["ip6tables", "-S"])
    return "".join(subprocess.run(c, capture_output=True, text=True).stdout for c in commands)


def answered_here(targets: Sequence[str]) -> int:
    words = ["sh", "-c", ASK_ALL, "sh", *targets]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.count("answered")


@pytest.mark.engine
async def test_a_task_on_the_bridge_reaches_the_internet_alone(lan: str, tmp_path: Path) -> None:
    rig = Rig(lan, tmp_path)
    try:
        assert await rig.executor.open() == ""
        neighbour = order("busybox", "httpd", "-f", "-p", "80", image=IMAGE, network="bridge")
        await rig.executor.start(neighbour)
        network = rig.inspect(key_of(neighbour))["NetworkSettings"]["Networks"]["rain-bridge"]
        assert rig.executor.note() == ""
        before = rules()
        assert before.count("rain: tasks with --network bridge") == 21

        closed = (*PRIVATE, RESOLVER, OWN, network["Gateway"], network["IPAddress"])
        targets = " ".join((f"{PUBLIC} 80", f"{RESOLVER} 53", *(f"{one} 80" for one in closed)))
        beyond = 3 + len(PRIVATE)
        assert answered_here(targets.split()[: 2 * beyond]) == beyond, "this PC itself may"
        task = order(
            "sh", "-c", f"set -- {targets}; {ASK_ALL}",
            image=IMAGE, network="bridge",
        )  # fmt: skip
        await rig.executor.start(task)
        await rig.reports.wait(ContainerExited, task, 60)
        lines = (await text_of(rig.executor, key_of(task)))[1].splitlines()
        assert [line for line in lines if "answered" in line] == [
            f"{PUBLIC} 80 answered",
            f"{RESOLVER} 53 answered",
        ]
        assert lines[2:] == [f"{address} 80" for address in closed]
        assert rules() == before, "a second task on the bridge changes nothing"
        client = docker.APIClient(base_url=lan)
        assert client.inspect_network("rain-bridge")["Options"] == network_request()["Options"]
        client.close()
    finally:
        await rig.executor.close()
        rig.remove_all()
        rig.client.close()
