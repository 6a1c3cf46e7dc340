"""A disk that is slow, stalls, fills up and loses what was in flight when its PC went away.

It commits as the store of the agent does: everything that waits goes in one transaction, in order;
rows that it refused are owed and go with the next transaction that works.
"""

import random
from collections.abc import Callable
from typing import Any, Protocol

from rain.effects import DiskFailed, DiskRecovered, Effect, Event, Persist, Persisted
from rain.mesh import codec

from .world import World, draw_int

RETRY_US = 1_000_000
WRITE_US_MIN = 1_000
WRITE_US_MAX = 5_000
STALL_US_MAX = 2_000_000
SLOW_US_MIN = 100_000
SLOW_US_MAX = 5_000_000
"""What a write takes on a disk that is about to die."""

Rows = dict[str, bytes | None]


class Owner(Protocol):
    """The agent above the disk. A write ends by itself; its agent may be asleep just then."""

    def feed(self, event: Event) -> None: ...
    def carry_out(self, effect: Effect) -> None: ...
    def when_awake(self, call: Callable[..., None], *arguments: Any) -> None: ...


def rows_of(write: Persist) -> Rows:
    """What one write changes: None deletes."""
    rows: Rows = {put.key(): codec.encode_record(put) for put in write.puts}
    rows.update(dict.fromkeys(write.deletes))
    return rows


class Disk:
    """`rows` is what survives anything. The rest belongs to the agent that is up just now."""

    def __init__(self, world: World, dice: random.Random, stall_permille: int) -> None:
        self.rows: dict[str, bytes] = {}
        self.is_full = False
        self.stall_until_us = 0
        self.is_slow = False
        self.loses_tail = False
        """When its PC goes away, the transaction in flight does not make it."""
        self.on_durable: Callable[[], None] | None = None
        """Whoever strikes between a write and what depends on it."""
        self._world = world
        self._dice = dice
        self.stall_permille = stall_permille
        self._waiting: list[tuple[Persist, Rows]] = []
        self._in_flight: Rows | None = None
        self._owed: Rows = {}
        self._has_failed = False
        self._boot = 0
        self._owner: Owner | None = None

    def attach(self, owner: Owner) -> None:
        """An agent starts: nothing waits, nothing is owed."""
        self._owner = owner
        self._boot += 1
        self._has_failed = False

    def detach(self) -> None:
        """The agent is gone. The transaction in flight is on disk or it is not."""
        self._boot += 1
        if self._in_flight is not None and not self.is_full:
            makes_it = self._dice.random() < 0.5
            if makes_it and not self.loses_tail:
                self._apply(self._in_flight)
        self.loses_tail = False
        self._in_flight = None
        self._waiting.clear()
        self._owed = {}

    def heal(self) -> None:
        """From here on it works as a disk should."""
        self.is_full = self.is_slow = self.loses_tail = False
        self.stall_until_us = self.stall_permille = 0
        self.on_durable = None

    def coming(self) -> Rows:
        """What it holds once all that waits is written."""
        rows: Rows = {**self.rows, **self._owed, **(self._in_flight or {})}
        for _, changed in self._waiting:
            rows.update(changed)
        return rows

    def write(self, write: Persist) -> None:
        self._waiting.append((write, rows_of(write)))
        if self._in_flight is None:
            self._begin()

    def _begin(self) -> None:
        batch, self._waiting = self._waiting, []
        rows = dict(self._owed)
        for _, changed in batch:
            rows.update(changed)
        self._in_flight = rows
        self._world.after(self._latency_us(), self._finish, self._boot, batch, self._world.now_us)

    def _latency_us(self) -> int:
        latency_us = draw_int(self._dice, WRITE_US_MIN, WRITE_US_MAX)
        if self._dice.random() * 1_000 < self.stall_permille:
            latency_us = draw_int(self._dice, WRITE_US_MAX, STALL_US_MAX)
        if self.is_slow:
            latency_us = draw_int(self._dice, SLOW_US_MIN, SLOW_US_MAX)
        return max(latency_us, self.stall_until_us - self._world.now_us)

    def _finish(self, boot: int, batch: list[tuple[Persist, Rows]], began_us: int) -> None:
        if boot != self._boot:
            return
        rows, self._in_flight = self._in_flight, None
        assert rows is not None, "a transaction ends once"
        assert self._owner is not None, "an agent is attached before it writes"
        if self.is_full:
            self._owed = rows
            self._owner.when_awake(self._tell_failed, boot)
        else:
            self._apply(rows)
            self._owed = {}
            took_ms = (self._world.now_us - began_us) // 1_000
            self._owner.when_awake(self._follow_up, boot, batch, took_ms)
        if boot == self._boot and self._waiting and self._in_flight is None:
            self._begin()

    def _tell_failed(self, boot: int) -> None:
        if boot != self._boot or self._owner is None:
            return
        if not self._has_failed:
            self._world.after(RETRY_US, self._retry, boot)
        self._has_failed = True
        self._owner.feed(DiskFailed("no space left on device"))

    def _follow_up(self, boot: int, batch: list[tuple[Persist, Rows]], took_ms: int) -> None:
        if boot != self._boot or self._owner is None:
            return
        if self.on_durable is not None:
            self.on_durable()
            if boot != self._boot:
                return  # on disk, and nobody heard of it
        if self._has_failed:
            self._has_failed = False
            self._owner.feed(DiskRecovered())
        for write, _ in batch:
            if boot != self._boot:
                return
            for effect in write.then:
                self._owner.carry_out(effect)
            if write.token:
                self._owner.feed(Persisted(write.token, took_ms))

    def _retry(self, boot: int) -> None:
        if boot != self._boot or not self._has_failed:
            return
        self._world.after(RETRY_US, self._retry, boot)
        if self._in_flight is None:
            self._begin()

    def _apply(self, rows: Rows) -> None:
        for key, value in rows.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
