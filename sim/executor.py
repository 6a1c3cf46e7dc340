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
TWICE_US_MAX = 3_000_000
LATE_US_MAX = 8_000_000
"""An end may be reported again after so long, or not before so long."""
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
    is_dark: bool = False
    """Its PC lost power under it, or after its end."""

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
        self.is_disk_old = False
        """Its agent may have forgotten what it has begun."""
        """Every container that ever was, for the checkers."""
        self._world = world
        self._dice = dice
        self.wall_error_ms = wall_error_ms
        """The wall clock of this PC is so far off; it may jump."""
        self.twice_permille = 0
        self.late_permille = 0
        """Of the ends: so many are reported twice, so many late."""
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

    def heal(self) -> None:
        """From here on every end is reported once, and at once."""
        self.twice_permille = self.late_permille = 0

    def finish_stops(self) -> None:
        """An agent that stops politely waits for the stops it ordered before its process ends."""
        for container in self.containers.values():
            if container.stopping and container.is_running:
                container.exit_code = EXIT_KILL
                container.ended_unix_ms = self.unix_ms()

    def power_off(self) -> None:
        for container in self.containers.values():
            container.is_dark = True
        self.containers.clear()

    def start(self, order: StartContainer) -> None:
        key = attempt_key(order.attempt_id)
        is_known = key in self.begun
        if is_known and not self.is_disk_old:
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
        if is_known:  # ordered again by who was told that it is unknown here: its name is taken
            self._world.after(START_US_MIN, self._fail, self._boot, container, True)
            return
        self.begun[key] = container
        latency_us = draw_int(self._dice, START_US_MIN, START_US_MAX)
        if failed:
            refused = self._dice.random() < 0.5
            self._world.after(latency_us, self._fail, self._boot, container, refused)
        else:
            self.containers[key] = container
            self._world.after(latency_us, self._begin, container)

    def carry_on(self, attempt_id: AttemptId, need: Resources, left_us: int) -> None:
        """One that runs since before the run began."""
        key = attempt_key(attempt_id)
        container = Container(attempt_id, key, need, left_us, 0, starting=False)
        container.started_unix_ms = self.unix_ms()
        self.containers[key] = self.begun[key] = container
        self._world.after(left_us, self._end, container, container.ends)

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
        container.started_unix_ms = self.unix_ms()
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
        container.ended_unix_ms = self.unix_ms()
        exited = ContainerExited(
            container.attempt_id,
            container.exit_code,
            container.started_unix_ms,
            container.ended_unix_ms,
        )
        if self.late_permille and self._dice.random() * 1_000 < self.late_permille:
            late_us = draw_int(self._dice, 0, LATE_US_MAX)
            self._world.after(late_us, self._tell_end, self._boot, container, exited)
        else:
            self._tell_end(self._boot, container, exited)
        if self.twice_permille and self._dice.random() * 1_000 < self.twice_permille:
            again_us = draw_int(self._dice, 0, TWICE_US_MAX)
            self._world.after(again_us, self._tell_end, self._boot, container, exited)

    def _tell_end(self, boot: int, container: Container, exited: ContainerExited) -> None:
        if boot == self._boot and self._report is not None:
            container.told = True
            self._report(exited)

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

    def unix_ms(self) -> int:
        """By the wall clock of this PC."""
        return UNIX_MS + self._world.now_us // 1_000 + self.wall_error_ms


def _flaky_code(key: str) -> int:
    return blake2b(key.encode(), digest_size=1).digest()[0] % 2
