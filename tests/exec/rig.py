"""What the tests of executors share: orders, a list of reports, and waiting for one."""

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any, TypeVar

from rain.effects import Event, StartContainer
from rain.exec.labels import ExecLabels
from rain.model import AttemptId, Epoch, Job, JobId, JobSpec, NodeId, Resources
from rain.sched.identity import attempt_key

LABELS = ExecLabels("attic", "nodeaaaa", "blue")
WAIT_S = 30.0

_jobs = itertools.count()

T = TypeVar("T", bound=Event)


def order(
    *command: str, job: str = "", task: int = 0, number: int = 1, **fields: Any
) -> StartContainer:
    """An order to run this command; `fields` are those of JobSpec.

    Attempts are never reused, so every order is of a job of its own unless one is named.
    """
    job = job or f"job{os.getpid()}x{next(_jobs)}"
    spec = JobSpec(command=command, **{"need": Resources(500, 64 << 20), **fields})
    attempt_id = AttemptId(JobId(job), task, number, Epoch(7, NodeId("n1"), 2**63), NodeId("n2"))
    return StartContainer(attempt_id, Job(JobId(job), spec, "blue", NodeId("n1"), 1, b"nonce"))


def key_of(started: StartContainer) -> str:
    return attempt_key(started.attempt_id)


class Reports:
    """Everything an executor told, in order; a test waits for what it expects."""

    def __init__(self) -> None:
        self.all: list[Event] = []
        self._news = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.all.append(event)
        self._news.set()

    async def wait(self, kind: type[T], which: StartContainer, timeout_s: float = WAIT_S) -> T:
        """The first report of this kind about this attempt."""

        def find() -> T | None:
            for event in self.all:
                if isinstance(event, kind) and event.attempt_id == which.attempt_id:  # type: ignore[union-attr]
                    return event
            return None

        return await self.until(find, timeout_s)

    async def until(self, find: Callable[[], T | None], timeout_s: float = WAIT_S) -> T:
        async with asyncio.timeout(timeout_s):
            while (found := find()) is None:
                self._news.clear()
                await self._news.wait()
        return found
