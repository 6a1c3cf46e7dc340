"""Processes for real: no engine needed, so every machine runs these."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rain.effects import ContainerExited, ContainerFailed, ContainerFound, ContainerStarted
from rain.exec import disk
from rain.exec.logs import REMARK, STDOUT, frame
from rain.exec.policy import OwnerPolicy
from rain.exec.printed import cut, frames, remarks
from rain.exec.processes import ProcessExecutor, refusal
from rain.model import JobSpec, Volume
from tests.exec.rig import LABELS, Reports, key_of, order

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the process executor needs Linux"
)


class Rig:
    """An executor with its reports; `again` is the next agent on the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports = Reports()
        self.executor = self.another()

    def another(self) -> ProcessExecutor:
        return ProcessExecutor(LABELS, self.folder, self.reports)

    async def again(self) -> tuple[ContainerFound, ...]:
        await self.executor.close()
        self.executor = self.another()
        assert await self.executor.open() == ""
        found = await self.executor.list_containers()
        assert found is not None
        return found

    def text(self, key: str, name: str) -> str:
        return (self.folder / "tasks" / key / name).read_text()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    assert await rig.executor.open() == ""
    try:
        yield rig
    finally:
        for found in await rig.executor.list_containers() or ():
            await rig.executor.remove(found.attempt_key)
        await rig.executor.close()


async def printed_by(executor: ProcessExecutor, key: str, follow: bool = False) -> dict[int, str]:
    printed = {1: b"", 2: b""}
    async for stream, content in executor.logs(key, follow):
        printed[stream] += content
    return {stream: content.decode() for stream, content in printed.items()}


async def test_success_is_told(rig: Rig) -> None:
    task = order("true")
    await rig.executor.start(task)
    exited = await rig.reports.wait(ContainerExited, task)
    assert rig.reports.all == [
        ContainerStarted(task.attempt_id, exited.started_unix_ms),
        ContainerExited(task.attempt_id, 0, exited.started_unix_ms, exited.ended_unix_ms, False),
    ]
    assert 1_600_000_000_000 < exited.started_unix_ms <= exited.ended_unix_ms


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("no-such-command",), 127),
        (("/etc",), 126),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -15 $$"), 143),
        # Words of the shell itself are no programs: they must not reach the lines around it.
        (("return",), 127),
    ],
)
async def test_exit_codes_are_those_of_a_shell(
    rig: Rig, command: tuple[str, ...], code: int
) -> None:
    task = order(*command)
    await rig.executor.start(task)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == code


async def test_its_secrets_are_files_until_it_ends(rig: Rig) -> None:
    task = order(
        "sh", "-c", "cat $key_FILE; stat -c %a $key_FILE; ls /proc/self/fd | wc -l; "
        "tr '\\0' ' ' < /proc/$PPID/cmdline; until [ -e go ]; do sleep 0.05; done",
        secrets=(("key", b"hush\n"),), private_environment=(("TOKEN", "quiet"),),
    )  # fmt: skip
    await rig.executor.start(task)
    folder = rig.folder / "tasks" / key_of(task)
    stream = rig.executor.logs(key_of(task), follow=True)
    text = ""
    while "TOKEN" not in text and "until" not in text:
        text += (await anext(stream))[1].decode()
    # What it has open: its three streams, and the folder that ls itself reads.
    assert text.splitlines()[:3] == ["hush", "400", "4"]
    assert "quiet" not in text
    assert [entry.name for entry in (folder / "secrets").iterdir()] == ["key"]
    assert (folder / "secrets").stat().st_mode & 0o777 == 0o700
    (folder / "work/go").touch()
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 0
    assert not (folder / "secrets").exists()


async def test_a_task_that_fills_its_folder_is_ended_and_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "ROUND_PAUSE_S", 0.05)
    reports = Reports()
    executor = ProcessExecutor(LABELS, tmp_path, reports, OwnerPolicy(task_disk_bytes=2**20))
    assert await executor.open() == ""
    small = order("sh", "-c", "head -c 9000 /dev/zero > x; sleep 60")
    large = order("sh", "-c", "head -c 2000000 /dev/zero > x; sleep 60")
    try:
        await executor.start(small)
        await executor.start(large)
        exited = await reports.wait(ContainerExited, large)
        assert (exited.exit_code, exited.is_lost) == (137, False)
        assert exited.reason.startswith("used more than 1 MiB of disk (")
        await executor.stop(key_of(small), 0)
        assert (await reports.wait(ContainerExited, small)).reason == ""
    finally:
        await executor.close()


async def test_it_sees_its_own_folder_and_little_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "42")
    task = order(
        "sh", "-c", "env; pwd; nice; cat; echo made > file",
        tasks=3, task=1, array_start=10, array_step=5, is_array=True,
        environment=(("COLOUR", "green = 1"), ("RAIN_ATTEMPT", "forged")),
    )  # fmt: skip
    await rig.executor.start(task)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 0
    key = key_of(task)
    work = str(rig.folder / "tasks" / key / "work")
    lines = (await printed_by(rig.executor, key))[1].splitlines()
    names = {line.partition("=")[0] for line in lines[:-2]}
    assert "SECRET_OF_THE_AGENT" not in names
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH", "HOME", "LANG", "COLOUR", "RAIN_JOB_ID", "RAIN_TASK_INDEX", "RAIN_ARRAY_SIZE",
        "RAIN_ATTEMPT", "RAIN_NODE_NAME",
    }  # fmt: skip
    assert {
        f"HOME={work}", "COLOUR=green = 1", "RAIN_TASK_INDEX=15", "RAIN_ARRAY_SIZE=3",
        "RAIN_ATTEMPT=1", "RAIN_NODE_NAME=blue",
    } <= set(lines)  # fmt: skip
    assert lines[-2] == work
    assert int(lines[-1]) == 19
    assert rig.text(key, "work/file") == "made\n"


async def test_a_workdir_that_is_not_there_fails_with_the_shells_words(rig: Rig) -> None:
    task = order("true", workdir="/no/such/folder")
    await rig.executor.start(task)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 125
    assert "/no/such/folder" in (await printed_by(rig.executor, key_of(task)))[2]


async def test_live_logs_are_followed_until_the_end(rig: Rig) -> None:
    task = order("sh", "-c", "echo first; while [ ! -e go ]; do sleep 0.02; done; echo last >&2")
    await rig.executor.start(task)
    stream = rig.executor.logs(key_of(task), follow=True)
    assert await anext(stream) == (1, b"first\n")
    (rig.folder / "tasks" / key_of(task) / "work" / "go").touch()
    assert [chunk async for chunk in stream] == [(2, b"last\n")]


async def test_much_output_arrives_whole(rig: Rig) -> None:
    task = order("seq", "1", "100000")
    await rig.executor.start(task)
    text = (await printed_by(rig.executor, key_of(task), follow=True))[1]
    assert text == "".join(f"{n}\n" for n in range(1, 100_001))


async def test_stop_with_term(rig: Rig) -> None:
    task = order("sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done")
    await rig.executor.start(task)
    assert await anext(rig.executor.logs(key_of(task), follow=True)) == (1, b"up\n")
    await rig.executor.stop(key_of(task), 20_000)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 3
    assert (await printed_by(rig.executor, key_of(task)))[1] == "up\nbye\n"


async def test_stop_with_kill_when_the_grace_is_over(rig: Rig) -> None:
    task = order("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done")
    await rig.executor.start(task)
    assert await anext(rig.executor.logs(key_of(task), follow=True)) == (1, b"up\n")
    await rig.executor.stop(key_of(task), 100)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 137


async def test_stop_at_once_after_the_start(rig: Rig) -> None:
    task = order("sleep", "600")
    await rig.executor.start(task)
    await rig.executor.stop(key_of(task), 5_000)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code in (137, 143)


async def test_a_stop_right_behind_the_start_is_not_lost(rig: Rig) -> None:
    tasks = [order("sleep", "600") for _ in range(5)]
    starts = [rig.executor.start(task) for task in tasks]
    stops = [rig.executor.stop(key_of(task), 5_000) for task in tasks]
    await asyncio.gather(*starts, *stops)
    for task in tasks:
        assert (await rig.reports.wait(ContainerExited, task)).exit_code in (137, 143)


async def test_what_a_task_leaves_running_ends_with_it(rig: Rig) -> None:
    task = order("sh", "-c", "sleep 600 & echo $!")
    await rig.executor.start(task)
    await rig.reports.wait(ContainerExited, task)
    left = int((await printed_by(rig.executor, key_of(task)))[1])
    async with asyncio.timeout(10):
        await asyncio.to_thread(wait_gone, left)


def wait_gone(pid: int) -> None:
    """Until the process is gone, or waits for a parent that never asks."""
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists():
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return


async def test_a_restarted_agent_adopts_what_runs(rig: Rig) -> None:
    task = order("sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; exit 4")
    await rig.executor.start(task)
    async with asyncio.timeout(10):
        await asyncio.to_thread(wait_file, rig.folder / "tasks" / key_of(task) / "birth")
    [found] = await rig.again()
    assert found == ContainerFound(key_of(task), found.started_unix_ms, running_ms=found.running_ms)
    assert 0 < found.running_ms < 60_000
    (rig.folder / "tasks" / key_of(task) / "work" / "go").touch()
    exited = await rig.reports.wait(ContainerExited, task)
    assert (exited.exit_code, exited.started_unix_ms) == (4, found.started_unix_ms)


def wait_file(path: Path) -> None:
    while not path.exists():
        os.sched_yield()


async def test_a_restarted_agent_stops_what_it_adopted(rig: Rig) -> None:
    task = order("sleep", "600")
    await rig.executor.start(task)
    async with asyncio.timeout(10):
        await asyncio.to_thread(wait_file, rig.folder / "tasks" / key_of(task) / "birth")
    await rig.again()
    await rig.executor.stop(key_of(task), 10_000)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 143


async def test_a_restarted_agent_learns_what_ended_and_what_was_killed(rig: Rig) -> None:
    ended = order("sh", "-c", "exit 5")
    killed = order("sh", "-c", "echo $PPID; kill -9 0")
    for task in (ended, killed):
        await rig.executor.start(task)
        await rig.reports.wait(ContainerExited, task)
    found = {one.attempt_key: one for one in await rig.again()}
    assert found[key_of(ended)].exit_code == 5
    assert found[key_of(killed)].exit_code == 137
    assert all(one.ended_unix_ms >= one.started_unix_ms > 0 for one in found.values())


async def test_another_process_with_the_same_pid_is_not_adopted(rig: Rig) -> None:
    task = order("sh", "-c", "kill -9 0")
    await rig.executor.start(task)
    await rig.reports.wait(ContainerExited, task)
    birth = rig.folder / "tasks" / key_of(task) / "birth"
    boot, _, stat = birth.read_text().partition(" ")
    birth.write_text(f"{boot} {os.getpid()} {stat.partition(' ')[2]}")
    [found] = await rig.again()
    assert found.exit_code == 137


async def test_what_was_running_when_the_pc_was_switched_off_is_lost(rig: Rig) -> None:
    task = order("sh", "-c", "kill -9 0")
    await rig.executor.start(task)
    await rig.reports.wait(ContainerExited, task)
    [found] = await rig.again()
    assert (found.exit_code, found.is_lost) == (137, False)
    birth = rig.folder / "tasks" / key_of(task) / "birth"
    birth.write_text(f"another-boot {birth.read_text().partition(' ')[2]}")
    [found] = await rig.again()
    assert found.is_lost


async def test_a_folder_without_an_attempt_is_swept(rig: Rig) -> None:
    (rig.folder / "tasks" / "jobaaaa.0.1.aaaaaa").mkdir()
    assert await rig.again() == ()
    assert list((rig.folder / "tasks").iterdir()) == []


async def test_remove_keeps_the_log(rig: Rig) -> None:
    task = order("sh", "-c", "echo out; echo err >&2")
    await rig.executor.start(task)
    await rig.reports.wait(ContainerExited, task)
    await rig.executor.remove(key_of(task))
    await rig.executor.remove(key_of(task))
    assert list((rig.folder / "tasks").iterdir()) == []
    for follow in (False, True):
        assert await printed_by(rig.executor, key_of(task), follow) == {1: "out\n", 2: "err\n"}


async def test_remove_of_a_running_one_ends_it_untold(rig: Rig) -> None:
    task = order("sh", "-c", "echo out; sleep 600")
    await rig.executor.start(task)
    assert await anext(rig.executor.logs(key_of(task), follow=True)) == (1, b"out\n")
    await rig.executor.remove(key_of(task))
    assert await printed_by(rig.executor, key_of(task)) == {1: "out\n", 2: ""}
    assert [type(event) for event in rig.reports.all] == [ContainerStarted]


async def test_keys_lead_out_of_no_folder(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    await rig.executor.remove("../precious")
    assert await printed_by(rig.executor, "../precious") == {1: "", 2: ""}
    assert (tmp_path / "precious").exists()


async def test_a_second_order_for_what_runs_changes_nothing(rig: Rig) -> None:
    task = order("sleep", "600")
    await rig.executor.start(task)
    await rig.executor.start(task)
    assert [type(event) for event in rig.reports.all] == [ContainerStarted]


async def test_what_cannot_be_a_process_fails(rig: Rig) -> None:
    for task, reason in (
        (order("true", image="busybox"), "an image"),
        (order("true", user="root"), "another user"),
        (order("true", network="bridge"), "the network 'bridge'"),
        (order("true", environment=(("A", "\0"),)), "a variable of the job"),
        (order("a\0"), "embedded null"),
        (order("true", secrets=(("../key", b""),)), "a secret of the job"),
        (order("true", volumes=(Volume("/srv", "/d"),)), "a volume"),
    ):
        await rig.executor.start(task)
        failed = await rig.reports.wait(ContainerFailed, task)
        assert failed.ended_unix_ms > 0
        assert (failed.exit_code, failed.refused) == (125, False)
        assert reason in failed.reason
    assert list((rig.folder / "tasks").iterdir()) == []


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel groups no processes by session"
)
async def test_its_whole_session_comes_last(rig: Rig) -> None:
    task = order("sh", "-c", "cat /proc/self/autogroup")
    await rig.executor.start(task)
    await rig.reports.wait(ContainerExited, task)
    assert (await printed_by(rig.executor, key_of(task)))[1].endswith(" nice 19\n")


def test_what_a_process_can_be() -> None:
    assert refusal(JobSpec(command=("true",))) == ""
    assert refusal(JobSpec(command=("true",), network="host")) == ""
    assert refusal(JobSpec(command=())) == "the process executor needs a command"


def test_a_stream_that_is_too_long_starts_anew(tmp_path: Path) -> None:
    stream = tmp_path / "stdout"
    with stream.open("ab", buffering=0) as writer:
        writer.write(b"x" * 10)
        assert not cut(stream, 10)
        writer.write(b"x")
        assert cut(stream, 10)
        writer.write(b"after")
    assert stream.read_bytes() == b"after"
    assert not cut(tmp_path / "none", 10)
    words = b"stdout was too long: only what came last is kept"
    assert remarks(tmp_path) == [(REMARK, words)]
    assert list(frames(tmp_path)) == [frame(REMARK, words), frame(STDOUT, b"after")]


async def test_signals_reach_the_command_with_their_usual_meaning(rig: Rig) -> None:
    """Python ignores SIGPIPE; a task must not inherit that."""
    task = order("sh", "-c", f"kill -{signal.SIGPIPE.value} $$; echo survived")
    await rig.executor.start(task)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 128 + signal.SIGPIPE


async def test_all_that_is_kept_is_private_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        rig = Rig(tmp_path)
        assert await rig.executor.open() == ""
        started = order("sh", "-c", "umask; echo hi", executor="process", secrets=(("k", b"v"),))
        await rig.executor.start(started)
        await rig.reports.wait(ContainerExited, started)
        assert rig.text(key_of(started), "stdout").split() == ["0000", "hi"], "its own umask"
        modes = {path.name: path.stat().st_mode for path in rig.folder.rglob("*")}
        await rig.executor.remove(key_of(started))
        modes |= {path.name: path.stat().st_mode for path in rig.folder.rglob("*")}
        await rig.executor.close()
    finally:
        os.umask(umask)
    assert {"tasks", "work", "attempt.json", "birth", "exit", "stdout", "logs"} <= set(modes)
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


async def test_what_a_removal_has_already_taken_is_read_where_it_is_kept(rig: Rig) -> None:
    """It is moved, then its folder taken away file by file, while somebody reads."""
    task = order("sh", "-c", "echo out; echo err >&2")
    await rig.executor.start(task)
    await rig.reports.wait(ContainerExited, task)
    await rig.executor.remove(key_of(task))
    (rig.folder / "tasks" / key_of(task)).mkdir()
    for follow in (False, True):
        assert await printed_by(rig.executor, key_of(task), follow) == {1: "out\n", 2: "err\n"}
