"""The history of a run: a JSON object a line, in the order of what was done and seen.

Every line has `at` (seconds since the beginning) and `what`; the rest follows from `what`:

    began      seed, seconds, pcs, old (names of PCs that begin with the last release), builds
    blow       number, kind, on (names), lasts_s, others; mended: number
    submit     number, pc, name, kind, tasks, nonce, failures (expected exit codes by task)
    submitted  number, job (id, or '' when none came back), code, said
    cancel     number, job, pc; cancelled: number, job, code, said
    seen       pc, status, nodes, jobs ({id: state}): what a PC answered in the middle of it
    started    job, task, attempt, node, epoch: by the engine's own events
    goodbye    pc, code, said: `rain down` was typed; died: pc, said: an agent ended by itself
    healed     everything is mended from here on
    waited     is_over: whether all jobs were told over within the bound
    final      pc, status, nodes, jobs, round (1 and 2: some seconds between)
    tasks      job, pc, told (the whole job with its tasks)
    output     job, task, pc, code, text
    containers left (labels of what is still there)
    ended      reason ('' when the run came to its end)
"""

import json
import threading
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class History:
    """Written by several threads at once; a line is on the disk when the call returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        return time.monotonic() - self._began_s

    def note(self, what: str, **told: Any) -> None:
        line = {"at": round(self.now_s(), 3), "what": what, **told}
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> list[Json]:
    """All lines; one that was torn off at the end is left out."""
    lines: list[Json] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
