"""What the engine itself saw: starts and ends of containers, by their labels.

The witness is independent of Rain: it reads Docker's own event log, so it can contradict what
Rain says of itself.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import docker

POOL_LABEL = "rain.job"


@dataclass(frozen=True)
class Seen:
    """One start or end of one container."""

    at_ns: int
    what: str
    job: str
    task: int
    attempt: str
    node: str
    epoch: int


class Witness:
    """Remembers when it began to watch; reads the engine's events since then."""

    def __init__(self, host: str) -> None:
        self._client = docker.APIClient(base_url=host)
        self._since = int(time.time_ns() // 1_000_000_000)

    def close(self) -> None:
        self._client.close()

    def seen(self, job: str = "") -> list[Seen]:
        """All starts and deaths of Rain's containers so far, oldest first."""
        label = f"{POOL_LABEL}={job}" if job else POOL_LABEL
        events: Iterator[Any] = self._client.events(
            since=self._since,
            until=int(time.time_ns() // 1_000_000_000) + 1,
            filters={"type": "container", "event": ["start", "die"], "label": label},
        )
        text = b"".join(events).decode()
        return sorted(
            (_seen(json.loads(line)) for line in text.splitlines() if line.strip()),
            key=lambda one: one.at_ns,
        )

    def starts(self, job: str) -> list[Seen]:
        return [one for one in self.seen(job) if one.what == "start"]

    def running_at_most(self, job: str, node: str) -> int:
        """The most containers of a job that ran on a node at the same time."""
        running = most = 0
        for one in self.seen(job):
            if one.node == node:
                running += 1 if one.what == "start" else -1
                most = max(most, running)
        return most

    def starts_per_task(self, job: str) -> Counter[int]:
        return Counter(one.task for one in self.starts(job))

    def now(self, job: str = "") -> list[dict[str, Any]]:
        """Containers that exist at this moment, running or not."""
        label = f"{POOL_LABEL}={job}" if job else POOL_LABEL
        found: list[dict[str, Any]] = self._client.containers(all=True, filters={"label": label})
        return found

    def running_tasks(self, job: str) -> dict[int, str]:
        """Task -> attempt label of the containers that run now."""
        return {
            int(one["Labels"]["rain.task"]): one["Labels"]["rain.attempt"]
            for one in self.now(job)
            if one["State"] == "running"
        }


def nodes_of(seen: Sequence[Seen]) -> set[str]:
    return {one.node for one in seen}


def _seen(event: dict[str, Any]) -> Seen:
    labels = event["Actor"]["Attributes"]
    return Seen(
        at_ns=int(event["timeNano"]),
        what=str(event["Action"]),
        job=labels["rain.job"],
        task=int(labels["rain.task"]),
        attempt=labels["rain.attempt"],
        node=labels["rain.node"],
        epoch=int(labels["rain.epoch"]),
    )
