"""Containers that are only numbers: how long they run and how they end is in their command.

A command is `work DURATION_MS EXIT_CODE`; the exit code `flaky` fails every other attempt. They
live outside the agent: it can be killed and they go on; when the power fails they are gone.
"""

import random
from collections.abc import Callable
from hashlib import blake2b

from msgspec import Struct

from rain.effects import (
    ContainerExited,
    ContainerFailed,
    ContainerFound,
    ContainersListed,
    ContainerStarted,
    Event,
    StartContainer,
    StopContainer,
)
from rain.model import AttemptId, Resources
from rain.sched.identity import attempt_key

from .world import Violation, World, draw_int

START_US_MIN = 50_000
START_US_MAX = 500_000
LIST_US_MAX = 1_500_000
UNIX_MS = 1_700_000_000_000
"""The wall clock when true time begins; every host adds its own error."""
FLAKY = "flaky"
EXIT_TERM = 143
EXIT_KILL = 137


class Container(Struct):
    """One attempt on this PC. `starting` until the engine has it, then running, then ended."""

    attempt_id: AttemptId
    key: str
    need: Resources
    duration_us: int
    planned_exit: int
    starting: bool = True
    started_unix_ms: int = 0
    started_us: int = 0
    exit_code: int | None = None
    ended_unix_ms: int = 0
    ends: int = 0
    """Which planned end counts: a stop plans an earlier one."""
    stopping: bool = False
    told: bool = False
    """Its end was handed to a living agent."""

    @property
    def is_running(self) -> bool:
        return not self.starting and self.exit_code is None


class Executor:
    """The engine of one PC."""

    def __init__(
        self, world: World, dice: random.Random, wall_error_ms: int, failure_permille: int
    ) -> None:
        self.containers: dict[str, Container] = {}
        self.begun: dict[str, Container] = {}
        """Every container that ever was, for the checkers."""
        self._world = world
        self._dice = dice
        self._wall_error_ms = wall_error_ms
        self._failure_permille = failure_permille
        self._report: Callable[[Event], None] | None = None
        self._boot = 0

    def attach(self, report: Callable[[Event], None]) -> None:
        """An agent starts: it hears of everything from now on, and soon of what there is."""
        self._report = report
        self._boot += 1
        self._world.after(draw_int(self._dice, 10_000, LIST_US_MAX), self._list, self._boot)

    def detach(self) -> None:
        """The agent is gone. Half of the starts under way had not reached the engine yet."""
        self._report = None
        self._boot += 1
        for key, container in list(self.containers.items()):
            if container.starting and self._dice.random() < 0.5:
                del self.containers[key]
            elif container.starting:
                self._begin(container)

    def finish_stops(self) -> None:
        """An agent that stops politely waits for the stops it ordered before its process ends."""
        for container in self.containers.values():
            if container.stopping and container.is_running:
                container.exit_code = EXIT_KILL
                container.ended_unix_ms = self._unix_ms()

    def power_off(self) -> None:
        self.containers.clear()

    def start(self, order: StartContainer) -> None:
        key = attempt_key(order.attempt_id)
        if key in self.begun:
            raise Violation("an attempt is never reused", f"{key} was started twice")
        _, duration_ms, code = order.job.spec.command
        failed = self._dice.random() * 1_000 < self._failure_permille
        container = Container(
            attempt_id=order.attempt_id,
            key=key,
            need=order.job.spec.need,
            duration_us=int(duration_ms) * 1_000,
            planned_exit=_flaky_code(key) if code == FLAKY else int(code),
        )
        self.begun[key] = container
        latency_us = draw_int(self._dice, START_US_MIN, START_US_MAX)
        if failed:
            refused = self._dice.random() < 0.5
            self._world.after(latency_us, self._fail, self._boot, container, refused)
        else:
            self.containers[key] = container
            self._world.after(latency_us, self._begin, container)

    def stop(self, order: StopContainer) -> None:
        container = self.containers.get(attempt_key(order.attempt_id))
        if container is None or container.stopping or container.exit_code is not None:
            return
        container.stopping = True
        if container.starting:
            return  # it is stopped as soon as it has begun
        self._plan_stop(container, order.grace_ms)

    def remove(self, key: str) -> None:
        container = self.containers.pop(key, None)
        if container is not None and container.exit_code is None:
            container.exit_code = EXIT_KILL

    def used(self) -> list[Container]:
        """What takes up room on this PC now."""
        return [one for one in self.containers.values() if one.is_running]

    def _plan_stop(self, container: Container, grace_ms: int) -> None:
        polite = self._dice.random() < 0.8
        delay_us = draw_int(self._dice, 1_000, 100_000) if polite else grace_ms * 1_000
        container.planned_exit = EXIT_TERM if polite else EXIT_KILL
        container.ends += 1
        self._world.after(delay_us, self._end, container, container.ends)

    def _fail(self, boot: int, container: Container, refused: bool) -> None:
        container.exit_code = 125
        if boot == self._boot and self._report is not None:
            reason = "the engine is gone" if refused else "no such image"
            container.told = True
            self._report(ContainerFailed(container.attempt_id, 125, reason, refused))

    def _begin(self, container: Container) -> None:
        if self.containers.get(container.key) is not container or not container.starting:
            return
        container.starting = False
        container.started_us = self._world.now_us
        container.started_unix_ms = self._unix_ms()
        self._world.after(container.duration_us, self._end, container, container.ends)
        if container.stopping:
            self._plan_stop(container, 0)
        if self._report is not None:
            self._report(ContainerStarted(container.attempt_id, container.started_unix_ms))

    def _end(self, container: Container, ends: int) -> None:
        if self.containers.get(container.key) is not container or container.ends != ends:
            return
        if container.exit_code is not None:
            return
        container.exit_code = container.planned_exit
        container.ended_unix_ms = self._unix_ms()
        if self._report is not None:
            container.told = True
            self._report(
                ContainerExited(
                    container.attempt_id,
                    container.exit_code,
                    container.started_unix_ms,
                    container.ended_unix_ms,
                )
            )

    def _list(self, boot: int) -> None:
        if boot != self._boot or self._report is None:
            return
        found = []
        for key, container in self.containers.items():
            if container.starting:
                continue  # this agent has just begun it itself
            container.told = container.told or container.exit_code is not None
            found.append(
                ContainerFound(
                    key,
                    container.started_unix_ms,
                    container.exit_code,
                    ended_unix_ms=container.ended_unix_ms,
                )
            )
        self._report(ContainersListed(tuple(found)))

    def _unix_ms(self) -> int:
        return UNIX_MS + self._world.now_us // 1_000 + self._wall_error_ms


def _flaky_code(key: str) -> int:
    return blake2b(key.encode(), digest_size=1).digest()[0] % 2
