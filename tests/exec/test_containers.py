"""Containers for real: each test asks a Docker engine, and looks at what it did."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rain.effects import ContainerExited, ContainerFailed, ContainerStarted
from rain.exec.containers import DockerExecutor
from rain.exec.labels import ExecLabels
from rain.model import Resources
from tests.exec.engine_rig import Rig, text_of
from tests.exec.rig import LABELS, Reports, key_of, order
from tests.testbed.engine import IMAGE, Engine, why_impossible

pytestmark = pytest.mark.engine


async def test_success_is_told_with_the_engines_times(rig: Rig) -> None:
    task = order("true", image=IMAGE)
    await rig.executor.start(task)
    exited = await rig.reports.wait(ContainerExited, task)
    assert rig.reports.all == [
        ContainerStarted(task.attempt_id, exited.started_unix_ms),
        ContainerExited(task.attempt_id, 0, exited.started_unix_ms, exited.ended_unix_ms, False),
    ]
    assert 1_600_000_000_000 < exited.started_unix_ms <= exited.ended_unix_ms


async def test_exit_code_and_both_streams(rig: Rig) -> None:
    task = order("sh", "-c", "echo out; echo err >&2; exit 7", image=IMAGE)
    await rig.executor.start(task)
    exited = await rig.reports.wait(ContainerExited, task)
    assert exited.exit_code == 7
    assert await text_of(rig.executor, key_of(task)) == {1: "out\n", 2: "err\n"}


async def test_a_task_knows_who_it_is(rig: Rig) -> None:
    task = order(
        "env",
        image=IMAGE,
        tasks=3,
        task=2,
        is_array=True,
        array_start=10,
        array_step=5,
        environment=(("COLOUR", "green = 1"), ("RAIN_JOB_ID", "forged")),
    )
    await rig.executor.start(task)
    await rig.reports.wait(ContainerExited, task)
    lines = (await text_of(rig.executor, key_of(task)))[1].splitlines()
    assert {
        f"RAIN_JOB_ID={task.attempt_id.job_id}",
        "RAIN_TASK_INDEX=20",
        "RAIN_ARRAY_SIZE=3",
        "RAIN_ATTEMPT=1",
        "RAIN_NODE_NAME=blue",
        "COLOUR=green = 1",
    } <= set(lines)


async def test_live_logs_are_followed_until_the_end(rig: Rig) -> None:
    task = order(
        "sh",
        "-c",
        "echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last",
        image=IMAGE,
    )
    await rig.executor.start(task)
    stream = rig.executor.logs(key_of(task), follow=True)
    assert await anext(stream) == (1, b"first\n")
    made = rig.client.exec_create(f"rain-{key_of(task)}", ["touch", "/tmp/go"])
    rig.client.exec_start(made["Id"])
    assert [chunk async for chunk in stream] == [(1, b"last\n")]
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 0


async def test_a_follower_who_leaves_early_leaves_nothing_behind(rig: Rig) -> None:
    task = order("sh", "-c", "echo first; sleep 60", image=IMAGE)
    await rig.executor.start(task)
    stream = rig.executor.logs(key_of(task), follow=True)
    assert await anext(stream) == (1, b"first\n")
    await stream.aclose()  # type: ignore[attr-defined]
    await rig.executor.stop(key_of(task), 0)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code in (137, 143)


async def test_more_output_than_is_read_ahead_arrives_whole(rig: Rig) -> None:
    task = order("sh", "-c", "seq 1 20000", image=IMAGE)
    await rig.executor.start(task)
    text = (await text_of(rig.executor, key_of(task), follow=True))[1]
    assert text == "".join(f"{n}\n" for n in range(1, 20_001))


async def test_too_much_memory_is_out_of_memory(rig: Rig) -> None:
    task = order(
        "sh",
        "-c",
        "x=a; while true; do x=$x$x; done",
        image=IMAGE,
        need=Resources(1_000, 16 << 20),
    )
    await rig.executor.start(task)
    exited = await rig.reports.wait(ContainerExited, task)
    assert (exited.exit_code, exited.out_of_memory) == (137, True)


async def test_unknown_image_fails_with_125(rig: Rig) -> None:
    task = order("true", image="localhost:9/no/such:thing")
    await rig.executor.start(task)
    failed = await rig.reports.wait(ContainerFailed, task)
    assert (failed.exit_code, failed.refused) == (125, False)
    assert failed.reason.startswith(
        "no image localhost:9/no/such:thing here, and it could not be pulled: "
    )
    assert rig.names() == []


async def test_unknown_command_is_127(rig: Rig) -> None:
    task = order("no-such-command", image=IMAGE)
    await rig.executor.start(task)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 127


async def test_a_file_that_is_no_program_is_126(rig: Rig) -> None:
    task = order("/etc", image=IMAGE)
    await rig.executor.start(task)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 126


async def test_a_memory_limit_the_engine_refuses_is_the_jobs_fault(rig: Rig) -> None:
    task = order("true", image=IMAGE, need=Resources(1_000, 1 << 20))
    await rig.executor.start(task)
    failed = await rig.reports.wait(ContainerFailed, task)
    assert (failed.exit_code, failed.refused) == (125, False)
    assert "memory" in failed.reason


async def test_a_network_nobody_knows_is_refused_before_the_engine_hears_of_it(rig: Rig) -> None:
    task = order("true", image=IMAGE, network="container:other")
    await rig.executor.start(task)
    assert (await rig.reports.wait(ContainerFailed, task)).exit_code == 125
    assert rig.names() == []


async def test_stop_with_term(rig: Rig) -> None:
    task = order(
        "sh",
        "-c",
        "trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.05; done",
        image=IMAGE,
    )
    await rig.executor.start(task)
    assert await anext(rig.executor.logs(key_of(task), follow=True)) == (1, b"up\n")
    await rig.executor.stop(key_of(task), 20_000)
    assert (await rig.reports.wait(ContainerExited, task)).exit_code == 3
    assert (await text_of(rig.executor, key_of(task)))[1] == "up\nbye\n"


async def test_stop_with_kill_when_the_grace_is_over(rig: Rig) -> None:
    task = order("sh", "-c", "trap '' TERM; echo up; while true; do sleep 0.05; done", image=IMAGE)
    await rig.executor.start(task)
    assert await anext(rig.executor.logs(key_of(task), follow=True)) == (1, b"up\n")
    await rig.executor.stop(key_of(task), 200)
    exited = await rig.reports.wait(ContainerExited, task)
    assert (exited.exit_code, exited.out_of_memory) == (137, False)


async def test_stop_before_it_started_starts_nothing(rig: Rig) -> None:
    task = order("sleep", "60", image=IMAGE)
    await asyncio.gather(rig.executor.start(task), rig.executor.stop(key_of(task), 0))
    await rig.reports.until(
        lambda: next(
            (e for e in rig.reports.all if isinstance(e, ContainerFailed | ContainerExited)), None
        )
    )
    assert not any(rig.inspect(key_of(task))["State"]["Running"] for _ in rig.names())


async def test_remove_keeps_the_log(rig: Rig) -> None:
    task = order("sh", "-c", "echo out; echo err >&2", image=IMAGE)
    await rig.executor.start(task)
    await rig.reports.wait(ContainerExited, task)
    await rig.executor.remove(key_of(task))
    assert rig.names() == []
    for follow in (False, True):
        assert await text_of(rig.executor, key_of(task), follow) == {1: "out\n", 2: "err\n"}
    await rig.executor.remove(key_of(task))


async def test_remove_of_a_running_one_ends_it_untold(rig: Rig) -> None:
    task = order("sh", "-c", "echo out; sleep 60", image=IMAGE)
    await rig.executor.start(task)
    assert await anext(rig.executor.logs(key_of(task), follow=True)) == (1, b"out\n")
    await rig.executor.remove(key_of(task))
    assert rig.names() == []
    assert (await text_of(rig.executor, key_of(task)))[1] == "out\n"
    assert [type(event) for event in rig.reports.all] == [ContainerStarted]


async def test_no_log_of_what_never_ran(rig: Rig) -> None:
    for key in ("jobaaaa.9.9.ffffff", "../../etc/passwd"):
        for follow in (False, True):
            assert await text_of(rig.executor, key, follow) == {1: "", 2: ""}


async def test_a_restarted_agent_adopts_what_runs_and_learns_what_ended(rig: Rig) -> None:
    runs = order("sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 4", image=IMAGE)
    ended = order("sh", "-c", "exit 5", image=IMAGE, task=1, tasks=2)
    await rig.executor.start(runs)
    await rig.executor.start(ended)
    await rig.reports.wait(ContainerExited, ended)
    await rig.executor.close()
    second = rig.another()
    try:
        assert await second.open() == ""
        found = {one.attempt_key: one for one in await second.list_containers() or ()}
        assert 0 < found[key_of(runs)].running_ms < 60_000
        assert found[key_of(ended)].running_ms == 0
        assert not found[key_of(ended)].is_lost
        assert sorted(found) == sorted([key_of(runs), key_of(ended)])
        assert (found[key_of(runs)].exit_code, found[key_of(ended)].exit_code) == (None, 5)
        assert found[key_of(ended)].ended_unix_ms >= found[key_of(ended)].started_unix_ms > 0
        made = rig.client.exec_create(f"rain-{key_of(runs)}", ["touch", "/tmp/go"])
        rig.client.exec_start(made["Id"])
        assert (await rig.reports.wait(ContainerExited, runs)).exit_code == 4
    finally:
        await second.close()


async def test_a_second_order_for_what_runs_changes_nothing(rig: Rig) -> None:
    task = order("sleep", "60", image=IMAGE)
    await rig.executor.start(task)
    await rig.executor.start(task)
    assert [type(event) for event in rig.reports.all] == [ContainerStarted]
    assert len(rig.names()) == 1


async def test_other_nodes_containers_are_not_listed(rig: Rig) -> None:
    task = order("sleep", "60", image=IMAGE)
    await rig.executor.start(task)
    stranger = rig.another(ExecLabels("attic", "nodebbbb", "red"))
    try:
        assert await stranger.open() == ""
        assert await stranger.list_containers() == ()
    finally:
        await stranger.close()


async def test_what_was_made_but_never_started_is_no_attempt(rig: Rig) -> None:
    labels = {"rain.node_id": LABELS.node_id, "rain.attempt": "jobaaaa.0.1.aaaaaa"}
    rig.client.create_container(IMAGE, ["true"], name="rain-jobaaaa.0.1.aaaaaa", labels=labels)
    assert await rig.executor.list_containers() == ()
    async with asyncio.timeout(10):
        while await asyncio.to_thread(rig.names):
            await asyncio.to_thread(rig.client.ping)


async def test_what_a_container_may_not_do(rig: Rig) -> None:
    task = order(
        "sh",
        "-c",
        "id -u; id -g; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; "
        "ls /sys/class/net; touch /tmp/x || echo no; sleep 60",
        image=IMAGE,
        need=Resources(500, 64 << 20),
        workdir="/tmp",
    )
    await rig.executor.start(task)
    inspected = rig.inspect(key_of(task))
    config, limits = inspected["Config"], inspected["HostConfig"]
    owner = "65534:65534" if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"
    assert (config["User"], config["WorkingDir"]) == (owner, "/tmp")
    assert limits["CapDrop"] == ["ALL"]
    assert limits["SecurityOpt"] == ["no-new-privileges"]
    assert (limits["PidsLimit"], limits["NanoCpus"]) == (512, 500_000_000)
    assert (limits["Memory"], limits["MemorySwap"]) == (64 << 20, 64 << 20)
    assert (limits["CpuShares"], limits["NetworkMode"], limits["Init"]) == (128, "none", True)
    assert limits["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-file": "5", "max-size": "20m"},
    }
    assert (limits["Privileged"], limits["IpcMode"], limits["CapAdd"]) == (False, "private", None)
    assert (limits["PidMode"], limits["UTSMode"], limits["UsernsMode"]) == ("", "", "")
    assert (limits["Binds"], limits.get("Mounts"), inspected["Mounts"]) == (None, None, [])
    assert not any(limits[name] for name in ("Devices", "DeviceRequests", "PortBindings"))
    assert not any(limits[name] for name in ("GroupAdd", "VolumesFrom", "Links", "ExtraHosts"))
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(limits["ReadonlyPaths"])
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(limits["MaskedPaths"])
    labels = {name: text for name, text in config["Labels"].items() if name != "rain.attempt_id"}
    assert labels == {
        "rain.pool": "attic",
        "rain.job": task.attempt_id.job_id,
        "rain.task": "0",
        "rain.attempt": key_of(task),
        "rain.epoch": "7",
        "rain.node": "blue",
        "rain.node_id": "nodeaaaa",
    }
    stream = rig.executor.logs(key_of(task), follow=True)
    text = ""
    while text.count("\n") < 7:
        text += (await anext(stream))[1].decode()
    uid, gid = owner.split(":")
    none = "0000000000000000"
    assert text.split() == [
        uid, gid, "CapEff:", none, "CapBnd:", none, "NoNewPrivs:", "1", "Seccomp:", "2", "lo",
    ]  # fmt: skip


@pytest.fixture
def own_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine that this test may end."""
    if reason := why_impossible():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the engine tests may not be skipped here: {reason}")
        pytest.skip(reason)
    engine = Engine(Path(tempfile.mkdtemp(prefix="rain-engine-")))
    try:
        engine.start()
        engine.make_image()
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine
    finally:
        engine.discard()


async def test_ends_while_the_engine_was_away_are_told(own_engine: Engine, tmp_path: Path) -> None:
    rig = Rig(own_engine.host, tmp_path)
    tasks = [order("sleep", "600", image=IMAGE, task=n, tasks=3) for n in range(3)]
    try:
        assert await rig.executor.open() == ""
        for task in tasks[:2]:
            await rig.executor.start(task)
        await asyncio.to_thread(own_engine.stop)
        await rig.executor.start(tasks[2])
        refused = await rig.reports.wait(ContainerFailed, tasks[2])
        assert (refused.exit_code, refused.refused) == (125, True)
        assert refused.ended_unix_ms > 0
        assert "not running" in refused.reason
        assert rig.states == [refused.reason]
        await asyncio.to_thread(own_engine.start)
        for task in tasks[:2]:
            exited = await rig.reports.wait(ContainerExited, task)
            assert exited.exit_code != 0
            assert exited.is_lost
            assert exited.ended_unix_ms >= exited.started_unix_ms > 0
        assert rig.states == [refused.reason, ""]
        again = order("true", image=IMAGE, task=2, tasks=3, number=2)
        await rig.executor.start(again)
        assert (await rig.reports.wait(ContainerExited, again)).exit_code == 0
    finally:
        await rig.executor.close()
        rig.client.close()


async def test_only_what_an_engine_took_along_is_lost(own_engine: Engine, tmp_path: Path) -> None:
    rig = Rig(own_engine.host, tmp_path)
    taken = order("sleep", "600", image=IMAGE)
    failing = order("sh", "-c", "exit 3", image=IMAGE)
    try:
        assert await rig.executor.open() == ""
        await rig.executor.start(taken)
        await rig.executor.start(failing)
        exited = await rig.reports.wait(ContainerExited, failing)
        assert (exited.exit_code, exited.is_lost) == (3, False)
        await asyncio.to_thread(own_engine.stop)
        await asyncio.to_thread(own_engine.start)
        exited = await rig.reports.wait(ContainerExited, taken)
        assert exited.is_lost
        later = order("sh", "-c", "exit 3", image=IMAGE)
        await rig.executor.start(later)
        exited = await rig.reports.wait(ContainerExited, later)
        assert (exited.exit_code, exited.is_lost) == (3, False)
        listed = {one.attempt_key: one for one in await rig.executor.list_containers() or ()}
        assert not listed[key_of(later)].is_lost
    finally:
        await rig.executor.close()
        rig.client.close()


async def test_an_engine_that_appears_later_is_noticed(own_engine: Engine, tmp_path: Path) -> None:
    await asyncio.to_thread(own_engine.stop)
    reports = Reports()
    states: list[str] = []
    is_back = asyncio.Event()

    def on_state(reason: str) -> None:
        states.append(reason)
        is_back.set()

    executor = DockerExecutor(LABELS, tmp_path, reports, on_state)
    try:
        assert "not running; start it" in await executor.open()
        assert await executor.list_containers() is None
        await asyncio.to_thread(own_engine.start)
        async with asyncio.timeout(20):
            await is_back.wait()
        assert states == [""]
        task = order("true", image=IMAGE)
        await executor.start(task)
        assert (await reports.wait(ContainerExited, task)).exit_code == 0
    finally:
        await executor.close()
