"""The owner's side: what a task, and another user of the PC, can see and do there. Real engine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from rain.config import control_path
from tests.testbed.engine import IMAGE, running_engine, why_impossible
from tests.testbed.lan import Pc, lan, missing, wait_until
from tests.testbed.wire import inside

pytestmark = [pytest.mark.engine, pytest.mark.lan]

SHARE = ("--cpus", "2", "--memory", "1g")
RUN = ("--image", IMAGE, "--cpus", "0.2", "--memory", "32m")
OTHER_USER = "1000"
METADATA = "169.254.169.254"
SECRET = "sesame-of-the-owner"
DEADLINE_S = 60.0


@dataclass
class Premises:
    """One PC with an engine of its own, in a pool of one."""

    pc: Pc
    engine: docker.APIClient


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    reason = missing() or why_impossible()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with lan(tmp_path_factory.mktemp("owner"), 1) as one:
        (pc,) = one.pcs
        # A service of the metadata kind, and the way to it.
        pc.run("ip", "addr", "add", f"{METADATA}/32", "dev", "lo")
        pc.run("ip", "route", "add", "default", "dev", "eth0")
        with inside(pc.namespace), running_engine(with_bridge=True) as engine:
            pc.set_environment(DOCKER_HOST=engine.host)
            pc.up("--new", *SHARE)
            pc.wait_ready()
            wait_until(lambda: pc.ask("status")["takes_work"], DEADLINE_S, "it takes work")
            client = docker.APIClient(base_url=engine.host)
            try:
                yield Premises(pc, client)
            finally:
                client.close()
                pc.unplug()


def in_task(pc: Pc, script: str, *words: str) -> str:
    """What a task says; it must succeed."""
    done = pc.rain("run", *RUN, *words, "--", "sh", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_task_has_nothing_of_the_owners(owner: Premises) -> None:
    pc = owner.pc
    status = dict(line.split(":", 1) for line in in_task(pc, "cat /proc/self/status").splitlines())
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"].strip() == "1"
    expected = str(os.getuid() or 65534)
    assert set(status["Uid"].split()) == {expected}
    assert set(status["Gid"].split()) == {str(os.getgid() or 65534)}

    mounts = in_task(pc, "cat /proc/self/mountinfo; ls -d /run/* /var/run/* /mnt/* 2>&1; env")
    for secret in (str(pc.data_dir), str(pc.folder), "docker.sock", "control", "RAIN_DATA_DIR"):
        assert secret not in mounts, mounts
    looked = in_task(
        pc,
        f"ls {pc.data_dir} /var/run/docker.sock /run/docker.sock 2>/dev/null; "
        "find / -xdev -type s 2>/dev/null; find / -name '*.pem' 2>/dev/null; "
        "ls /sys/class/net; touch /etc/mine 2>&1; echo end",
    )
    assert "node-key" not in looked
    assert ".sock" not in looked
    assert "eth0" not in looked, "the network of a task is none by default"
    assert looked.endswith("end\n")


def test_a_task_sees_no_neighbour(owner: Premises) -> None:
    """Neither its files nor its processes; only the engine's own view tells that it is there."""
    pc = owner.pc
    neighbour = pc.rain(
        "submit", *RUN, "-d", "--", "sh", "-c", "echo mine > /tmp/of-the-neighbour; sleep 60"
    ).stdout.strip()
    wait_until(lambda: _state(pc, neighbour) == "RUNNING", DEADLINE_S, "the neighbour runs")
    seen = in_task(
        pc, "find / -name 'of-the-neighbour' 2>/dev/null; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    )
    pc.rain("cancel", neighbour)
    assert "sleep 60" not in seen
    assert "/tmp/of-the-neighbour" not in seen


def test_the_network_that_a_task_may_have(owner: Premises) -> None:
    """On the bridge neither the metadata of a cloud, nor this PC, nor its LAN."""
    pc = owner.pc
    said = (pc.folder / "up-1.txt").read_text()
    assert "can reach private addresses" not in said, said
    (pc.folder / "index.html").write_text("reached")
    web = ("busybox", "httpd", "-f", "-h", str(pc.folder), "-p")
    servers = [pc.start(*web, port) for port in ("80", "7777")]
    asks = [f"{METADATA}:80", f"{pc.address}:80", f"{pc.address}:7777", "198.18.0.9:80"]
    script = "\n".join(f"wget -T 3 -q -O - http://{ask}/index.html && echo open" for ask in asks)
    try:
        for ask in asks[:3]:
            probe = ("busybox", "wget", "-q", "-O", "-", f"http://{ask}/index.html")
            wait_until(
                lambda probe=probe: "reached" in pc.run(*probe).stdout,  # type: ignore[misc]
                DEADLINE_S,
                f"this PC itself reaches {ask}",
            )
        heard = in_task(pc, f"ls /sys/class/net\n{script}\necho end", "--network", "bridge")
    finally:
        for server in servers:
            server.kill()
            server.communicate()
    assert "eth0" in heard, "it is on the bridge"
    assert "open" not in heard, heard
    assert "reached" not in heard, heard


def test_more_than_the_owner_allows_is_refused_in_words(owner: Premises) -> None:
    pc = owner.pc
    for words, option in (
        (("--network", "host"), "--allow-network host"),
        (("--user", "0"), "--allow-user"),
        (("--volume", "/etc:/mnt"), "--allow-volume /etc"),
    ):
        done = pc.rain("submit", *RUN, *words, "-d", "--", "true")
        assert done.returncode == 0, done.stderr
        job_id = done.stdout.strip()
        told = wait_until(
            lambda job_id=job_id, option=option: _told(pc, job_id, option),  # type: ignore[misc]
            DEADLINE_S,
            f"{words} is refused and {option} is named",
        )
        assert "the owner of this PC does not allow" in told
        job = pc.ask("job", job_id)
        assert "SUCCEEDED" not in job["tasks"]
        pc.rain("cancel", job_id)


def _told(pc: Pc, job_id: str, option: str) -> str:
    told = json.dumps(pc.ask("job", job_id, "--tasks"))
    return told if option in told else ""


def _state(pc: Pc, job_id: str) -> str:
    job = pc.try_ask("job", job_id)
    return str(job["state"]) if job is not None else ""


def test_a_secret_reaches_the_task_alone(owner: Premises) -> None:
    pc, engine = owner.pc, owner.engine
    file, variables = pc.folder / "pin", pc.folder / "variables"
    file.write_text(SECRET)
    variables.write_text(f"PASSWORD={SECRET}-too\n")
    script = 'cat "$PIN_FILE"; echo; echo "$PASSWORD"; sleep 60'
    done = pc.rain(
        "submit", *RUN, "-d", "--secret", f"PIN={file}", "--env-file", str(variables),
        "--", "sh", "-c", script,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.strip()
    wait_until(lambda: SECRET in pc.rain("logs", job_id).stdout, DEADLINE_S, "the task read it")
    assert f"{SECRET}-too" in pc.rain("logs", job_id).stdout

    (container,) = [one for one in engine.containers() if one["Labels"].get("rain.job") == job_id]
    inspected = engine.inspect_container(container["Id"])
    environment = [word for word in inspected["Config"]["Env"] if word.startswith("PIN")]
    assert environment == ["PIN_FILE=/run/secrets/PIN"]
    file_secret = json.dumps(inspected).replace(f"{SECRET}-too", "")
    assert SECRET not in file_secret, "of a --secret the engine knows the path alone"
    for words in (("job", job_id, "--json"), ("job", job_id, "--tasks", "--json"),
                  ("jobs", "-a", "--json"), ("members", "--events", "--json")):  # fmt: skip
        assert SECRET not in pc.rain(*words).stdout, words
    assert SECRET not in (pc.data_dir / "agent.log").read_text()
    assert SECRET not in pc.output.read_text()
    assert not _command_lines_with(SECRET)
    pc.rain("cancel", job_id)


def _command_lines_with(words: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line:
            found.append(line)
    return found


def test_another_user_of_the_pc(owner: Premises) -> None:
    """Neither files nor the control socket, not even where its permissions are gone."""
    pc = owner.pc
    socket_path = control_path(pc.data_dir)
    as_other = ["setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups"]
    listed = subprocess.run([*as_other, "ls", str(pc.data_dir)], capture_output=True, check=False)
    assert listed.returncode != 0
    assert socket_path.stat().st_mode & 0o077 == 0

    assert _asked(socket_path) == "PermissionError"
    opened = [pc.data_dir, *pc.data_dir.parents]
    before = {path: path.stat().st_mode for path in [*opened, socket_path] if path != Path("/")}
    try:
        for path in before:
            path.chmod(before[path] | (0o666 if path == socket_path else 0o711))
        said = _asked(socket_path)
    finally:
        for path, mode in before.items():
            path.chmod(mode)
    assert said.startswith("{"), said
    answer = json.loads(said)
    assert answer["error"]["code"] == "denied"
    assert "belongs to another user of this PC" in answer["error"]["message"]
    assert "control_refused" in (pc.data_dir / "agent.log").read_text()
    assert pc.ask("status")["members"]["alive"] == 1


def _asked(socket_path: Path) -> str:
    """What the agent says to that user on its control socket; or why there is no way to it."""
    script = (
        "import contextlib, os, socket\n"
        "os.setgroups([])\n"
        f"os.setgid({OTHER_USER})\n"
        f"os.setuid({OTHER_USER})\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try:\n"
        f"    s.connect({str(socket_path)!r})\n"
        "    with contextlib.suppress(BrokenPipeError):  # it may be sent away unheard\n"
        '        s.sendall(b\'{"verb": "status"}\\n\')\n'
        "    print(s.makefile().readline())\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr
