"""What the engine itself saw: starts and ends of containers, by their labels.

The witness is independent of Rain: it reads Docker's own event log, so it can contradict what
Rain says of itself.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import docker

JOB_LABEL = "rain.job"


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
    """Listens to the engine from the moment it is made.

    It listens all the time, because an engine remembers no more than its last 256 events.
    """

    def __init__(self, host: str) -> None:
        self._client = docker.APIClient(base_url=host)
        self._seen: list[Seen] = []
        self._events: Any = self._client.events(
            decode=True,
            filters={"type": "container", "event": ["start", "die"], "label": JOB_LABEL},
        )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def close(self) -> None:
        self._events.close()
        self._listening.join(5)
        self._client.close()

    def _listen(self) -> None:
        for event in self._events:
            self._seen.append(_seen(event))

    def seen(self, job: str = "") -> list[Seen]:
        """All starts and deaths of Rain's containers so far, oldest first."""
        found = [one for one in list(self._seen) if not job or one.job == job]
        return sorted(found, key=lambda one: one.at_ns)

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
        label = f"{JOB_LABEL}={job}" if job else JOB_LABEL
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
