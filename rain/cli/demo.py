"""`rain demo`: a pool of three nodes on this PC, an array of tasks, and the coordinator killed."""

import base64
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click

from rain.cli import render
from rain.cli.errors import VerbFailed
from rain.cli.images import find_image
from rain.cli.session import Session, common_options, pass_session
from rain.cli.up import start_agent, wait_ready
from rain.client import Client, ControlError, Json

NODES = 3
TASKS = 24
TASK_COMMAND = 'printf "%s-%s" "$0" "$RAIN_TASK_INDEX" | sha256sum; sleep 1'
READY_WAIT_S = 30.0
STORY_WAIT_S = 180.0
"""The whole story takes about twenty seconds; a machine that needs nine times that is told so."""
STOP_WAIT_S = 10.0
POLL_S = 0.1


@click.command()
@common_options
@pass_session
def demo(session: Session) -> int:
    """Show it all on this PC: three nodes, an array of tasks, the coordinator killed half-way."""
    image, why = find_image()
    if image:
        say(f"Tasks run in containers of the image {image}.")
    else:
        say(f"Tasks run as plain processes (--executor process): {why}.")
    folder = Path(tempfile.mkdtemp(prefix="rain-demo-"))
    stage = _Stage(folder, image)
    try:
        _tell_the_story(stage)
    finally:
        stage.clear()
    if session.as_json:
        render.print_json({"tasks": TASKS, "verified": TASKS})
    return 0


def say(text: str) -> None:
    """A line of the story: on stdout, unless that is for JSON."""
    session = click.get_current_context().find_object(Session)
    click.echo(text, err=session is not None and session.as_json)


class _Node:
    """One `rain up` of the demo, with its data folder and its process."""

    def __init__(self, name: str, folder: Path, port: int) -> None:
        self.name = name
        self.data_dir = folder / name
        self.port = port
        self.client = Client(self.data_dir)
        self._agent: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._agent is not None, "asked for the pid of a node that was never started"
        return self._agent.pid

    def start(self, arguments: list[str], token: str) -> None:
        self.data_dir.mkdir(mode=0o700)
        output, errors = self.data_dir / "agent.out", self.data_dir / "agent.err"
        with output.open("w+", encoding="utf-8") as out, errors.open("w+", encoding="utf-8") as err:
            self._agent = start_agent(self.data_dir, arguments, token, out, err)
            if not wait_ready(self._agent, out, READY_WAIT_S):
                err.seek(0)
                raise VerbFailed(
                    f"the node {self.name} did not get ready: {err.read().strip()[-500:]}",
                    "try it by itself: rain up",
                )

    def kill(self) -> int:
        """SIGKILL, as if the PC lost its power; returns when the process is gone."""
        assert self._agent is not None
        self._agent.kill()
        return self._agent.wait()

    def stop(self) -> None:
        if self._agent is None or self._agent.poll() is not None:
            return
        self._agent.send_signal(signal.SIGTERM)
        try:
            self._agent.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()


class _Stage:
    """The three nodes and everything that has to be gone afterwards."""

    def __init__(self, folder: Path, image: str) -> None:
        self.folder = folder
        self.image = image
        self.pool = f"demo-{secrets.token_hex(3)}"
        self.nodes = [
            _Node(f"pc{number}", folder, port)
            for number, port in enumerate(free_ports(NODES), start=1)
        ]
        self._pool_id = ""

    def start(self) -> None:
        first = self.nodes[0]
        token = ""
        for node in self.nodes:
            arguments = [
                f"--name={node.name}", "--bind=127.0.0.1", f"--port={node.port}", "--cpus=2",
                "--memory=1g", f"--executor={'docker' if self.image else 'process'}",
            ]  # fmt: skip
            if node is first:
                node.start([*arguments, "--new", f"--pool={self.pool}"], "")
                token = next(node.client.stream("invite", token=True))["token"]
                self._pool_id = node.client.call("status")["pool"]["id"]
            else:
                contact = f"--contact=127.0.0.1:{first.port}"
                node.start([*arguments, contact, "--join-file=-"], token)
            say(f"  {node.name} is up (pid {node.pid}, 127.0.0.1:{node.port})")

    def clear(self) -> None:
        """End our own processes, by their ids, remove our containers and the folder."""
        for node in self.nodes:
            node.stop()
        if self.image:
            for pool in (self.pool, self._pool_id):
                _remove_containers(pool)
        shutil.rmtree(self.folder, ignore_errors=True)


def _remove_containers(pool: str) -> None:
    """Those of the killed node have nobody else to remove them."""
    with suppress(OSError, subprocess.TimeoutExpired):
        listed = subprocess.run(
            ["docker", "ps", "-aq", "--filter", f"label=rain.pool={pool}"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        ids = listed.stdout.split()
        if pool and ids:
            command = ["docker", "rm", "-f", *ids]
            subprocess.run(command, capture_output=True, timeout=60, check=False)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses now, for UDP and TCP alike."""
    taken: list[socket.socket] = []
    ports: list[int] = []
    try:
        for _ in range(count * 20):
            if len(ports) == count:
                break
            stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            taken.append(stream)
            stream.bind(("127.0.0.1", 0))
            port = stream.getsockname()[1]
            datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            taken.append(datagram)
            with suppress(OSError):
                datagram.bind(("127.0.0.1", port))
                ports.append(port)
    finally:
        for one in taken:
            one.close()
    if len(ports) < count:
        raise VerbFailed(f"there are no {count} free ports on 127.0.0.1")
    return ports


# --- The story -----------------------------------------------------------------------------------


def _tell_the_story(stage: _Stage) -> None:
    deadline = time.monotonic() + STORY_WAIT_S
    say(f"A pool '{stage.pool}' of {NODES} nodes on this PC:")
    stage.start()
    coordinator = _wait_whole(stage, deadline)
    submitter = next(node for node in stage.nodes if node is not coordinator)
    say(f"The coordinator is {coordinator.name}. The job is submitted on {submitter.name}.")
    nonce = secrets.token_hex(16)
    job_id = _submit(submitter, stage.image, nonce)
    say(f"Job {job_id}: {TASKS} tasks, each hashes {nonce}-INDEX.")
    results = _Results(submitter, job_id)
    results.watch(until=TASKS // 2, deadline=deadline)
    _kill(coordinator)
    results.watch(until=TASKS, deadline=deadline)
    successor = submitter.client.call("status")["coordinator"]
    if successor is None or successor["name"] == coordinator.name:
        raise VerbFailed("nobody took over coordination", "run it again: rain demo")
    say(f"{successor['name']} coordinates now. Every task has its result.")
    _show(results, nonce, stage.image)


def _wait_whole(stage: _Stage, deadline: float) -> _Node:
    """Until every node sees all of them and the same coordinator; that coordinator."""
    while True:
        seen = [node.client.call("status") for node in stage.nodes]
        names = {one["coordinator"]["name"] if one["coordinator"] else "" for one in seen}
        if all(one["members"]["alive"] == NODES for one in seen) and len(names) == 1:
            for node in stage.nodes:
                if node.name in names:
                    return node
        _pause(deadline, "the three nodes did not find each other")


def _submit(node: _Node, image: str, nonce: str, tasks: int = TASKS, first: int = 0) -> str:
    spec: Json = {
        "command": ["sh", "-c", TASK_COMMAND, nonce],
        "image": image,
        "name": "demo",
        "need": {"cpus_milli": 1_000, "memory_bytes": 64 * 1024 * 1024},
        "tasks": tasks,
        "array_start": first,
        "is_array": True,
        "executor": "docker" if image else "process",
    }
    return str(node.client.call("submit", spec=spec)["job_id"])


def _kill(coordinator: _Node) -> None:
    pid = coordinator.pid
    say(f"Killing the coordinator {coordinator.name}: kill -9 {pid}")
    coordinator.kill()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        say(f"  process {pid} is gone")
        return
    raise VerbFailed(f"the process {pid} is still there")


class _Results:
    """The job as the submitting node sees it, and what its tasks printed so far."""

    def __init__(self, node: _Node, job_id: str) -> None:
        self.node = node
        self.job_id = job_id
        self.printed: dict[int, str] = {}
        self.ran_on: dict[int, str] = {}
        self._told = ""

    def watch(self, until: int, deadline: float) -> None:
        """Show progress until so many tasks have succeeded; gather what they printed."""
        while True:
            job = self.node.client.call("job", id=self.job_id, tasks=True)
            self._tell(job["tasks"])
            self._gather(job["task_list"])
            if job["tasks"].get("SUCCEEDED", 0) >= until:
                return
            if job["state"] in ("SUCCEEDED", "FAILED", "CANCELLED", "ABORTED"):
                raise VerbFailed(f"the job ended {job['state']}", "run it again: rain demo")
            _pause(deadline, "the job did not get done in time")

    def _tell(self, tasks: dict[str, int]) -> None:
        text = render.counts(tasks)
        if text != self._told:
            say(f"  {text}")
            self._told = text

    def _gather(self, tasks: list[Json]) -> None:
        """At once, while the node lives: what a task printed is kept where it ran."""
        for task in tasks:
            index = task["index"]
            if task["state"] == "SUCCEEDED" and index not in self.printed:
                text = read_task(self.node.client, self.job_id, index)
                if text:
                    self.printed[index] = text
                    self.ran_on[index] = task["node"]


def read_task(client: Client, job_id: str, index: int) -> str:
    """What one task printed; '' when the node that has it is gone."""
    content = b""
    with suppress(ControlError):
        for item in client.stream("logs", 20.0, id=job_id, task=index, follow=False):
            if item.get("fd") == 1:
                content += base64.b64decode(item["data"])
    return content.decode("utf-8", "replace").strip()


def _show(results: _Results, nonce: str, image: str) -> None:
    _run_lost_ones_again(results, nonce, image)
    wrong = 0
    for index in range(TASKS):
        expected = hashlib.sha256(f"{nonce}-{index}".encode()).hexdigest()
        told = results.printed.get(index, "").partition(" ")[0]
        verdict = "ok" if told == expected else f"WRONG, expected {expected}"
        wrong += told != expected
        say(f"  {index:>2}  {told}  {results.ran_on.get(index, '?'):<4} {verdict}")
    if wrong:
        raise VerbFailed(f"{wrong} of {TASKS} hashes are wrong")
    say(f"All {TASKS} hashes are right.")


def _run_lost_ones_again(results: _Results, nonce: str, image: str) -> None:
    """A task may have printed in the last instant of the killed PC, whose disk has its words."""
    for index in range(TASKS):
        text = results.printed.get(index) or read_task(results.node.client, results.job_id, index)
        if text:
            results.printed[index] = text
            continue
        say(f"  what task {index} printed is on the PC that was killed: it runs once more")
        job_id = _submit(results.node, image, nonce, tasks=1, first=index)
        client = results.node.client
        client.call("wait", ids=[job_id])
        results.printed[index] = read_task(client, job_id, index)
        results.ran_on[index] = "again"


def _pause(deadline: float, message: str) -> None:
    if time.monotonic() >= deadline:
        raise VerbFailed(message, "this PC may be too busy; run it again: rain demo")
    time.sleep(POLL_S)
