"""What tasks printed outlives the PC that they ran on."""

import base64
import subprocess
import sys
from pathlib import Path

from rain.client import Json
from tests.testbed.loopback import Node, loopback_pool, wait_for

TASKS = 6
"""As many as run at once: some on each PC."""
LONG_LINES = 60_000


def submit(node: Node, script: str, tasks: int) -> str:
    spec: Json = {
        "command": ["sh", "-c", f"{script}; sleep 1"],
        "need": {"cpus_milli": 1_000, "memory_bytes": 1024 * 1024},
        "executor": "process",
        "tasks": tasks,
        "is_array": tasks > 1,
    }
    return str(node.ask("submit", spec=spec)["job_id"])


def rain_logs(node: Node, job: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "rain", "--data-dir", str(node.data_dir), "logs", job]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def output(node: Node, job_id: str) -> tuple[dict[int, bytes], list[str]]:
    """What each task printed, and the notes."""
    printed: dict[int, bytes] = {}
    notes = []
    for item in node.client.stream("logs", id=job_id, task=None, follow=False):
        if "note" in item:
            notes.append(str(item["note"]))
        else:
            task = int(item["task"])
            printed[task] = printed.get(task, b"") + base64.b64decode(item["data"])
    return printed, notes


def waiting(node: Node) -> int:
    """Logs that are not yet where they should be."""
    return int(node.ask("status")["log_copies"]["waiting"])


def test_logs_of_a_dead_pc_are_read_from_copies(tmp_path: Path) -> None:
    with loopback_pool(tmp_path, 3) as nodes:
        first, second, third = nodes
        job_id = submit(
            first, 'echo "task $RAIN_TASK_INDEX on $RAIN_NODE_NAME"; echo oh >&2', TASKS
        )
        long_id = submit(first, f"seq {LONG_LINES}", TASKS)
        silent_id = submit(first, "true", TASKS)
        for one in (job_id, long_id, silent_id):
            first.ask("wait", ids=[one])
        before, _ = output(first, job_id)
        long_before, _ = output(first, long_id)
        assert len(before) == TASKS
        wait_for(lambda: not any(waiting(node) for node in nodes), "all is copied")
        assert {"pc1", "pc2", "pc3"} == {text.split()[3].decode() for text in before.values()}

        third.end()
        assert output(first, job_id) == (before, [])
        assert output(second, job_id) == (before, [])

        printed, notes = output(second, long_id)
        on_third = [task for task in printed if printed[task] != long_before[task]]
        assert on_third
        assert len(notes) == len(on_third)
        assert all("only the end of its log is left" in note for note in notes), notes
        for task in on_third:
            assert long_before[task].endswith(printed[task])
            assert len(printed[task]) > 150 * 1024

        silent = rain_logs(second, silent_id)
        assert silent.returncode == 1
        assert b"; no other PC has a copy" in silent.stderr
        found = rain_logs(second, job_id)
        assert found.returncode == 0, found.stderr


def test_logs_reach_others_before_a_pc_is_switched_off(tmp_path: Path) -> None:
    with loopback_pool(tmp_path, 3) as (first, second, third):
        job_id = submit(first, 'echo "task $RAIN_TASK_INDEX"', TASKS)
        first.ask("wait", ids=[job_id])
        third.ask("down")
        wait_for(lambda: not third.client.is_agent_there(), "it is gone")
        printed, notes = output(second, job_id)
        assert notes == []
        assert len(printed) == TASKS
