"""For how long a container runs, and what ended it, whatever the clock on the wall says."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from rain.effects import ContainerExited, ContainerFound, ContainerStarted
from rain.exec import processes
from rain.exec.circumstances import as_ended, as_running
from rain.exec.hardware import boot_unix_ms, now_unix_ms
from rain.exec.kernel import container_running_ms, read_text, running_ms
from rain.exec.labels import BOOT, ExecLabels, labels_of
from rain.exec.processes import ProcessExecutor
from tests.exec.rig import LABELS, Reports, key_of, order

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
HOUR_MS = 3_600_000


def inspected(boot: str = "", pid: int = 0, container_id: str = "c" * 64) -> dict[str, Any]:
    labels = labels_of(ExecLabels("p", "n", "blue", boot), order("true").attempt_id)
    return {"Id": container_id, "State": {"Pid": pid}, "Config": {"Labels": labels}}


def test_the_boot_is_a_label_where_the_system_has_one() -> None:
    assert inspected("b1")["Config"]["Labels"][BOOT] == "b1"
    assert BOOT not in inspected("")["Config"]["Labels"]


def test_what_failed_in_an_earlier_boot_is_lost_whatever_the_times_say() -> None:
    failed = ContainerFound("k", now_unix_ms(), 1, False, now_unix_ms())
    assert as_ended(failed, inspected("b1"), "b2", False, False).is_lost
    assert not as_ended(failed, inspected("b1"), "b1", False, False).is_lost
    jumped = ContainerFound("k", boot_unix_ms() - HOUR_MS, 1, False, now_unix_ms())
    assert not as_ended(jumped, inspected("b1"), "b1", False, False).is_lost
    assert as_ended(jumped, inspected(""), "b1", False, False).is_lost, "of an earlier Rain"


def test_what_ended_well_or_for_want_of_memory_is_not_lost() -> None:
    for code, out_of_memory in ((0, False), (137, True)):
        ended = ContainerFound("k", 1, code, False, 2)
        found = as_ended(ended, inspected("b1"), "b2", True, out_of_memory)
        assert (found.is_lost, found.out_of_memory) == (False, out_of_memory)


def test_a_running_time_is_the_kernels_where_it_knows_the_container() -> None:
    found = ContainerFound("k", now_unix_ms() - HOUR_MS)
    group = read_text(Path("/proc/self/cgroup")).strip()[-8:]
    own = as_running(found, inspected(pid=os.getpid(), container_id=group)).running_ms
    assert 0 < own < HOUR_MS
    another = as_running(found, inspected(pid=os.getpid(), container_id="c" * 64)).running_ms
    assert another >= HOUR_MS
    assert container_running_ms(0, group) == 0
    assert running_ms("") == running_ms("7 (x) Z 1") == 0


async def test_an_adopted_process_is_as_old_as_it_is_when_the_clock_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Reports()
    executor = ProcessExecutor(LABELS, tmp_path, reports)
    task = order("sh", "-c", "sleep 60")
    assert await executor.open() == ""
    try:
        await executor.start(task)
        await reports.wait(ContainerStarted, task)
        for jump_ms in (HOUR_MS, -HOUR_MS):
            moved = now_unix_ms() + jump_ms
            monkeypatch.setattr(processes, "now_unix_ms", lambda moved=moved: moved)
            (found,) = await executor.list_containers() or ()
            assert found.exit_code is None
            assert 0 <= found.running_ms < 30_000
        await executor.stop(key_of(task), 0)
        await reports.wait(ContainerExited, task)
    finally:
        await executor.close()
