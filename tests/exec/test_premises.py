"""What of a PC its tasks get to see: asked of a real engine, looked at from inside."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from rain.effects import ContainerExited, ContainerFailed, StartContainer
from rain.exec import disk
from rain.exec.logs import STDOUT
from rain.model import Volume
from tests.exec.engine_rig import Rig, text_of
from tests.exec.rig import key_of, order
from tests.testbed.engine import IMAGE

pytestmark = pytest.mark.engine


def volume(source: object, target: str, read_only: bool = False) -> Volume:
    return Volume(str(source), target, read_only)


async def printed(rig: Rig, task: StartContainer) -> str:
    await rig.executor.start(task)
    exited = await rig.reports.wait(ContainerExited, task)
    told = await text_of(rig.executor, key_of(task))
    assert exited.exit_code == 0, told
    return told[1]


async def refused(rig: Rig, task: StartContainer) -> str:
    """Why this PC does not run it, which leaves nothing behind."""
    await rig.executor.start(task)
    failed = await rig.reports.wait(ContainerFailed, task)
    assert (failed.exit_code, failed.refused) == (125, True)
    assert f"rain-{key_of(task)}" not in rig.names()
    return failed.reason


async def test_an_owner_who_said_nothing_refuses_and_names_the_option(rig: Rig) -> None:
    for fields, option in (
        ({"network": "host"}, "--allow-network host"),
        ({"user": "0"}, "--allow-user"),
        ({"volumes": (volume("/srv", "/d"),)}, "--allow-volume /srv"),
    ):
        reason = await refused(rig, order("true", image=IMAGE, **fields))
        assert reason.endswith(f"they could: rain up {option}")


async def test_only_the_images_that_the_owner_likes(rig: Rig) -> None:
    await rig.allow(images=("rain-test:*",))
    assert await printed(rig, order("echo", "here", image=IMAGE)) == "here\n"
    reason = await refused(rig, order("true", image="other:1"))
    assert reason.endswith("rain up --allow-image other:1")
    # An image's id is a name that nobody allowed.
    image_id: str = rig.client.images(IMAGE)[0]["Id"]
    short_id = image_id.removeprefix("sha256:")[:12]
    assert "--allow-image" in await refused(rig, order("true", image=short_id))


async def test_another_user_where_the_owner_allows_it(rig: Rig) -> None:
    await rig.allow(allows_users=True)
    task = order("sh", "-c", "id -u; id -g", image=IMAGE, user="1234:5678")
    assert await printed(rig, task) == "1234\n5678\n"


async def test_the_owners_network_where_the_owner_allows_it(rig: Rig) -> None:
    await rig.allow(network="host")
    task = order("sh", "-c", "readlink /proc/self/ns/net", image=IMAGE, network="host")
    assert (await printed(rig, task)).strip() == os.readlink("/proc/thread-self/ns/net")


async def test_volumes_are_the_folders_that_were_lent(rig: Rig, lent: Path) -> None:
    await rig.allow(volumes=(str(lent),), private_folders=(str(lent / "agent"),))
    for name in ("agent", "in", "out"):
        (lent / name).mkdir()
    (lent / "out").chmod(0o777)
    (lent / "in/file").write_text("text")
    (lent / "way-out").symlink_to("/etc")
    task = order(
        "sh", "-c", "cat /in/file; touch /in/x || echo no; echo made > /out/file",
        image=IMAGE, volumes=(volume(lent / "in", "/in", True), volume(lent / "out", "/out")),
    )  # fmt: skip
    assert await printed(rig, task) == "textno\n"
    assert (lent / "out/file").read_text() == "made\n"
    mounts = {one["Target"]: one for one in rig.inspect(key_of(task))["HostConfig"]["Mounts"]}
    assert {target: one["Source"] for target, one in mounts.items()} == {
        "/in": str(lent / "in"),
        "/out": str(lent / "out"),
    }
    await rig.executor.remove(key_of(task))
    sockets = Path(os.environ["DOCKER_HOST"].removeprefix("unix://")).parent
    await rig.allow(volumes=(str(lent), str(sockets)), private_folders=(str(lent / "agent"),))
    reason = await refused(rig, order("true", image=IMAGE, volumes=(volume(sockets, "/d"),)))
    assert "is never given to a task" in reason
    for source in (lent / "way-out", lent / "agent", lent, lent / "in/../..", lent / "none"):
        await refused(rig, order("true", image=IMAGE, volumes=(volume(source, "/d"),)))


@pytest.mark.parametrize("target", ["/", "d", "/proc/x", "/run/secrets/x", "/run", "/d/../proc"])
async def test_what_a_volume_cannot_cover_is_the_jobs_fault(rig: Rig, target: str) -> None:
    task = order("true", image=IMAGE, volumes=(volume("/srv", target),))
    await rig.executor.start(task)
    failed = await rig.reports.wait(ContainerFailed, task)
    assert (failed.exit_code, failed.refused) == (125, False)


SECRETS = (("db.pass", b"hush one\n"), ("key", b"hush two"))


async def test_a_task_alone_reads_its_secrets(rig: Rig) -> None:
    task = order(
        "sh", "-c", "cat $db_pass_FILE $key_FILE; ls -ln /run/secrets; echo x > $key_FILE || echo "
        "no; while [ ! -e /tmp/go ]; do sleep 0.05; done",
        image=IMAGE, secrets=SECRETS, private_environment=(("TOKEN", "quiet"),),
    )  # fmt: skip
    await rig.executor.start(task)
    stream = rig.executor.logs(key_of(task), follow=True)
    text = ""
    while "no\n" not in text:
        kind, printed = await anext(stream)
        text += printed.decode() if kind == STDOUT else ""  # the two come in any order
    await stream.aclose()  # type: ignore[attr-defined]
    lines = text.splitlines()
    user = "65534" if os.getuid() == 0 else str(os.getuid())
    assert lines[0] == "hush one"
    assert [line.split()[:3] for line in lines if line.endswith(("key", "db.pass"))] == [
        ["-r--------", "1", user],
        ["-r--------", "1", user],
    ]
    inspected = rig.inspect(key_of(task))
    assert "hush" not in str(inspected)
    assert "key_FILE=/run/secrets/key" in inspected["Config"]["Env"]
    mounts = {one["Target"]: one for one in inspected["HostConfig"]["Mounts"]}
    assert sorted(mounts) == ["/run/secrets/db.pass", "/run/secrets/key"]
    assert all(one["ReadOnly"] for one in mounts.values())
    folder = Path(mounts["/run/secrets/key"]["Source"]).parent
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    made = rig.client.exec_create(f"rain-{key_of(task)}", ["touch", "/tmp/go"])
    rig.client.exec_start(made["Id"])
    await rig.reports.wait(ContainerExited, task)
    await rig.executor.remove(key_of(task))
    assert not folder.exists()
    assert "hush" not in str(rig.reports.all)


async def test_another_user_reads_its_secrets_too(rig: Rig) -> None:
    await rig.allow(allows_users=True)
    task = order("cat", "/run/secrets/key", image=IMAGE, user="1234:1", secrets=SECRETS)
    assert await printed(rig, task) == "hush two"


async def test_secrets_go_when_the_task_has_ended_or_never_started(rig: Rig) -> None:
    ended = order("true", image=IMAGE, secrets=SECRETS)
    failed = order("true", image="localhost:9/no/such:thing", secrets=SECRETS)
    folder = rig.executor._premises._secrets.folder
    await rig.executor.start(ended)
    await rig.reports.wait(ContainerExited, ended)
    await rig.executor.start(failed)
    await rig.reports.wait(ContainerFailed, failed)
    async with asyncio.timeout(10):
        while any((folder / key_of(task)).exists() for task in (ended, failed)):
            await asyncio.to_thread(rig.client.ping)


async def test_a_restarted_agent_removes_what_nobody_needs(rig: Rig) -> None:
    runs = order("sleep", "60", image=IMAGE, secrets=SECRETS)
    await rig.executor.start(runs)
    folder = rig.executor._premises._secrets.folder
    (folder / "gone.0.1").mkdir()
    await rig.allow()
    await rig.executor.list_containers()
    assert [entry.name for entry in folder.iterdir()] == [key_of(runs)]
    await rig.executor.remove(key_of(runs))
    await rig.executor.close()
    assert not folder.exists()


async def test_a_task_sees_nothing_of_the_agent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, lent: Path
) -> None:
    monkeypatch.setenv("RAIN_DATA_DIR", str(lent))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    (lent / "node-key.pem").write_text("hush")
    host = os.environ["DOCKER_HOST"].removeprefix("unix://")
    looks = " ".join(
        f"'{path}'" for path in (lent, lent / "node-key.pem", host, "/var/run/docker.sock",
                                 "/run/docker.sock", rig.folder, "/run/secrets", "/dev/kmsg")
    )  # fmt: skip
    task = order(
        "sh", "-c", f"for f in {looks}; do ls -d $f 2>/dev/null; done; env; "
        "grep -c . /proc/mounts >/dev/null; ls /proc | grep -c '^[0-9]'; "
        "nc -w 2 169.254.169.254 80 2>/dev/null || echo none",
        image=IMAGE,
    )  # fmt: skip
    lines = (await printed(rig, task)).splitlines()
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names - {"PATH", "HOME", "HOSTNAME", "SHLVL", "PWD"} == {
        "RAIN_JOB_ID", "RAIN_TASK_INDEX", "RAIN_ARRAY_SIZE", "RAIN_ATTEMPT", "RAIN_NODE_NAME",
    }  # fmt: skip
    rest = [line for line in lines if "=" not in line]
    assert len(rest) == 2
    assert int(rest[0]) < 10, "it sees the processes of its own container only"
    assert rest[1] == "none"


async def test_a_task_that_fills_the_disk_is_ended_and_told_why(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "ROUND_PAUSE_S", 0.05)
    await rig.allow(task_disk_bytes=4 * 2**20)
    small = order("sh", "-c", "head -c 1000000 /dev/zero > /tmp/x; sleep 60", image=IMAGE)
    large = order("sh", "-c", "head -c 9000000 /dev/zero > /tmp/x; sleep 60", image=IMAGE)
    await rig.executor.start(small)
    await rig.executor.start(large)
    exited = await rig.reports.wait(ContainerExited, large)
    assert (exited.exit_code, exited.out_of_memory, exited.is_lost) == (137, False, False)
    assert exited.reason.startswith("used more than 4 MiB of disk (")
    await rig.executor.stop(key_of(small), 0)
    assert (await rig.reports.wait(ContainerExited, small)).reason == ""
