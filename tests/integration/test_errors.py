"""What goes wrong on real PCs: a clear error with the next step, and the agent lives on."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import SHARE
from tests.testbed.engine import IMAGE, running_engine
from tests.testbed.lan import Lan, Pc, found_pool, wait_until
from tests.testbed.witness import Witness

pytestmark = [pytest.mark.engine, pytest.mark.lan]

PACKETS = 100_000
GROWTH_BYTES_MAX = 30 * 1024 * 1024


@pytest.fixture
def pair(empty_lan: Lan) -> list[Pc]:
    two = empty_lan.add(2)
    found_pool(two, *SHARE)
    return two


def says(done: subprocess.CompletedProcess[str], *words: str) -> None:
    for word in words:
        assert word in done.stderr, f"{word!r} is not in: {done.stderr}"
    assert "Traceback" not in done.stderr


def test_a_task_over_its_memory(pair: list[Pc]) -> None:
    hungry = "x=0123456789abcdef; while true; do x=$x$x; done"
    done = pair[1].rain("run", "--image", IMAGE, "--memory", "20m", "--", "sh", "-c", hungry)
    job = pair[1].ask("job", "last", "--tasks")

    assert done.returncode == 137
    assert job["state"] == "OUT_OF_MEMORY"
    assert job["task_list"][0]["exit_code"] == 137


def test_unknown_image_unknown_command_and_the_impossible(pair: list[Pc]) -> None:
    image = pair[1].rain("run", "--image", "no-such-image:7", "--", "true", timeout_s=120)
    assert image.returncode == 125
    says(image, "no-such-image:7")

    command = pair[1].rain("run", "--image", IMAGE, "--", "no-such-command")
    assert command.returncode == 127
    says(command, "no-such-command")

    folder = pair[1].rain("run", "--image", IMAGE, "--workdir", "/bin/busybox", "--", "true")
    assert folder.returncode in (125, 126, 127)
    says(folder, "busybox")

    impossible = pair[1].rain("submit", "--image", IMAGE, "--cpus", "1000", "--", "true")
    assert impossible.returncode == 6
    says(impossible, "rain nodes")

    fine = pair[1].rain("run", "--image", IMAGE, "--", "echo", "still here")
    assert (fine.returncode, fine.stdout) == (0, "still here\n")


def test_a_broken_token_and_a_port_that_is_taken(pair: list[Pc], empty_lan: Lan) -> None:
    (third,) = empty_lan.add(1)
    token = (pair[0].folder / "token").read_text()
    wrong = third.folder / "wrong"
    wrong.write_text(token.strip()[:-3] + "\n")
    broken = third.rain("up", "--join-file", str(wrong))
    assert broken.returncode != 0
    says(broken, "token", "rain invite --token")

    alone = third.rain("up")
    assert alone.returncode == 4
    says(alone, "rain up --new", "--join-file")

    taken = pair[0].rain("--data-dir", str(third.folder / "second"), "up", "--new")
    assert taken.returncode == 1
    says(taken, "7246", "--port")
    assert pair[0].ask("status")["members"]["alive"] == 2


def test_no_agent_here(empty_lan: Lan) -> None:
    (lone,) = empty_lan.add(1)
    done = lone.rain("status")
    assert done.returncode == 3
    says(done, "rain up")


def test_the_engine_is_switched_off_and_on(empty_lan: Lan) -> None:
    with running_engine() as own:
        pcs = empty_lan.add(2, {"DOCKER_HOST": own.host})
        found_pool(pcs, *SHARE)
        own.stop()
        wait_until(lambda: not _takes_work(pcs[1]), 60, "the nodes say that they take no work")
        reasons = [row["idle_reason"] for row in pcs[1].ask("nodes")["nodes"]]
        assert all("engine" in reason.lower() or "docker" in reason.lower() for reason in reasons)
        sent = pcs[1].rain("submit", "--image", IMAGE, "-d", "--", "echo", "later")
        says(sent, "it waits", "docker")
        job_id = sent.stdout.strip()

        own.start()
        done = pcs[1].rain("wait", job_id, timeout_s=120)
        assert done.returncode == 0
        assert pcs[0].rain("logs", job_id).stdout == "later\n"


def test_a_full_disk_refuses_and_recovers(empty_lan: Lan) -> None:
    full, other = empty_lan.add(2)
    disk = full.folder / "rain"
    disk.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "none", disk], check=True)
    try:
        found_pool([full, other], *SHARE)
        _fill(disk / "filler")
        refused = wait_until(lambda: _refusal(full), 60, "a submit is refused")
        says(refused, "disk")
        os.unlink(disk / "filler")
        wait_until(lambda: not full.ask("status")["disk"]["reason"], 60, "the disk is well again")
        fine = full.rain("run", "--image", IMAGE, "--", "echo", "again")
        assert (fine.returncode, fine.stdout) == (0, "again\n")
        full.kill()
    finally:
        full.unplug()
        subprocess.run(["umount", "-l", disk], check=True)


def test_garbage_on_the_real_port(pair: list[Pc], witness: Witness) -> None:
    """Strangers' packets and streams: dropped; nothing grows, nothing changes."""
    target, sender = pair
    assert target.agent is not None
    agent = psutil.Process(target.agent.pid)
    before = agent.memory_info().rss
    status = target.ask("status")

    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"for n in range({PACKETS}):\n"
        f"    s.sendto(os.urandom(n % 1400), ('{target.address}', 7246))\n"
    )
    assert sender.run("python3", "-c", script).returncode == 0

    after = target.ask("status")
    assert agent.memory_info().rss - before < GROWTH_BYTES_MAX
    assert after["epoch"] == status["epoch"]
    assert after["members"] == status["members"]


def _takes_work(pc: Pc) -> bool:
    return any(row["takes_work"] for row in pc.ask("nodes")["nodes"])


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4_096))


def _refusal(pc: Pc) -> subprocess.CompletedProcess[str] | None:
    done = pc.rain("submit", "--image", IMAGE, "-d", "--", "true")
    return done if done.returncode == 1 else None
