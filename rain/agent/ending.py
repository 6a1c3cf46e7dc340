"""Why an agent ended by itself, kept for whoever asks when it is gone: `ended.json`.

It was in the background perhaps, and nobody read its last words. The next start removes them.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from rain.agent.clock import now_unix_ms
from rain.config import ENDED_FILE, open_private
from rain.sched.civil import rfc3339
from rain.store import StoreError

EXIT_FAILED = 1
EXIT_DISK = 7
"""The disk keeps this PC from starting: damaged, full, or broken."""


class AgentEnded(Exception):
    """Why the agent could not start or go on; `hint` says what to type next."""

    def __init__(self, message: str, hint: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def exit_code_of(error: StoreError) -> int:
    """Of a `rain up` that ends by this."""
    return EXIT_DISK if error.kind else EXIT_FAILED


@contextlib.contextmanager
def kept_end(data_dir: Path) -> Iterator[None]:
    """The life of one agent: where it ends by AgentEnded, why is kept."""
    path = data_dir / ENDED_FILE
    _remove(path)
    try:
        yield
    except AgentEnded as error:
        told = {"message": error.message, "hint": error.hint, "at": rfc3339(now_unix_ms())}
        with contextlib.suppress(OSError), open(path, "x", opener=open_private) as file:
            json.dump(told, file)
        raise
    _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
