"""Deaths at chosen moments: an agent ends between two of its effects, where it hurts most.

Moments are told by the effects of a host, which are watched on their way to its devices; nothing
in the product knows of them. Whoever comes to that moment first dies; most of them are moments of
a coordinator.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from rain.effects import Answer, Cast, Effect, Persist, Post, StartContainer
from rain.election.messages import Heartbeat
from rain.election.records import EpochRecord
from rain.sched.messages import Accepted, Assign, InventoryRequest, Replicate, Report, ReportAck
from rain.sched.records import AttemptRow, TaskRow

from .host import Host
from .stage import Stage


class Moment(NamedTuple):
    """Before such an effect is carried out, or right after it."""

    name: str
    fits: Callable[[Effect], bool]
    is_after: bool = False
    is_torn: bool = False
    """Power fails in the middle of the write, and nothing of it is on disk."""
    is_durable: bool = False
    """Told by the disk: the write is done, and what depends on it never happens."""


def _never(effect: Effect) -> bool:
    return False


def _posts(kind: type) -> Callable[[Effect], bool]:
    return lambda effect: isinstance(effect, Post) and isinstance(effect.message, kind)


def _writes(kind: type) -> Callable[[Effect], bool]:
    return lambda effect: (
        isinstance(effect, Persist) and any(isinstance(put, kind) for put in effect.puts)
    )


def _commits(effect: Effect) -> bool:
    """A result has come, and is about to be written down."""
    return isinstance(effect, Persist) and any(
        isinstance(put, TaskRow) and bool(put.ends) for put in effect.puts
    )


def _beats(effect: Effect) -> bool:
    return isinstance(effect, Cast) and isinstance(effect.message, Heartbeat)


def _is_write(effect: Effect) -> bool:
    return isinstance(effect, Persist)


def _is_start(effect: Effect) -> bool:
    return isinstance(effect, StartContainer)


def _is_answer(effect: Effect) -> bool:
    return isinstance(effect, Answer)


MOMENTS = (
    Moment("before a write", _is_write),
    Moment("write under way", _is_write, is_after=True),
    Moment("torn tail", _is_write, is_after=True, is_torn=True),
    Moment("between disk and effects", _never, is_durable=True),
    Moment("before an epoch is written", _writes(EpochRecord)),
    Moment("before the first heartbeat", _beats),
    Moment("before an acceptance is told", _posts(Accepted)),
    Moment("after an acceptance is told", _posts(Accepted), is_after=True),
    Moment("before the answer", _is_answer),
    Moment("after the answer", _is_answer, is_after=True),
    Moment("after a copy is sent", _posts(Replicate), is_after=True),
    Moment("after an order", _posts(Assign), is_after=True),
    Moment("before a result is written", _commits),
    Moment("before a result is settled", _posts(ReportAck)),
    Moment("before a report", _posts(Report)),
    Moment("during inventory", _posts(InventoryRequest), is_after=True),
    Moment("before an attempt is written", _writes(AttemptRow)),
    Moment("before a container starts", _is_start),
    Moment("after a container starts", _is_start, is_after=True),
)
TAKEOVERS = ("during inventory", "before the first heartbeat", "before an epoch is written")
"""Moments that come only when another coordinator has just gone."""


class Fuse:
    """Lies at every host until it went off at one of them, or was taken back."""

    def __init__(self, stage: Stage, moment: Moment, end: Callable[[Host], None]) -> None:
        self._stage = stage
        self._moment = moment
        self._end = end

    def lay(self) -> None:
        for host in self._stage.hosts:
            if self._moment.is_durable:
                host.disk.on_durable = partial(self._go_off, host)
            else:
                host.fuse = self

    def take_back(self) -> None:
        for host in self._stage.hosts:
            if self._moment.is_durable:
                host.disk.on_durable = None
            elif host.fuse is self:
                host.fuse = None

    def burns(self, host: Host, effect: Effect) -> bool:
        if not self._moment.fits(effect):
            return False
        self.take_back()
        if self._moment.is_after:
            host.carry_out(effect)
        self._go_off(host)
        return True

    def _go_off(self, host: Host) -> None:
        self.take_back()
        host.disk.loses_tail = self._moment.is_torn
        if host.is_up:
            self._end(host)
