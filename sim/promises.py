"""What the pool has promised, and on whose disks it was seen to lie.

A disk is never destroyed, but an admin may remove its host with all that only it had. So a promise
is owed as long as somebody was seen to keep it who was never removed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rain.mesh import codec
from rain.model import AttemptId, JobId
from rain.sched.records import TaskRow

from .host import Host


class JobKept(NamedTuple):
    job_id: JobId


class CancelKept(NamedTuple):
    job_id: JobId


class OutcomeKept(NamedTuple):
    attempt_id: AttemptId


class SuccessKept(NamedTuple):
    job_id: JobId
    task: int


Promise = JobKept | CancelKept | OutcomeKept | SuccessKept


class Promises:
    """Every promise with the hosts that were seen to keep it."""

    def __init__(self) -> None:
        self._keepers: dict[Promise, set[int]] = {}
        self._removed: set[int] = set()
        self._hosts: Sequence[Host] = ()
        self.forgotten: set[JobId] = set()
        """They were over: nothing is owed of them any more."""

    def connect(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts

    def give(self, promise: Promise) -> None:
        """It is given now, or again."""
        keeps = _looker(promise)
        kept_by = {host.index for host in self._hosts if host.is_keeper and keeps(host)}
        self._keepers.setdefault(promise, set()).update(kept_by)

    def note_removal(self, host: Host) -> None:
        """All who keep something just now are asked, before one of them is sent away."""
        for promise in self._keepers:
            self.give(promise)
        self._removed.add(host.index)

    def note_forgetful(self, host: Host) -> None:
        """Its disk will be another one: the others owe what it has kept so far."""
        for promise, keepers in self._keepers.items():
            self.give(promise)
            keepers.discard(host.index)

    def is_owed(self, promise: Promise) -> bool:
        if _job_of(promise) in self.forgotten:
            return False
        return bool(self._keepers.get(promise, set()) - self._removed)


def _job_of(promise: Promise) -> JobId:
    match promise:
        case OutcomeKept(attempt_id):
            return attempt_id.job_id
        case JobKept(job_id) | CancelKept(job_id) | SuccessKept(job_id):
            return job_id


def _looker(promise: Promise) -> Callable[[Host], bool]:
    """How to see whether a host has it on disk."""
    match promise:
        case JobKept(job_id):
            return lambda host: f"job/{job_id}" in host.disk.rows
        case CancelKept(job_id):
            return lambda host: f"cancel/{job_id}" in host.disk.rows
        case OutcomeKept(attempt_id):
            return lambda host: _has_end(host, attempt_id)
        case SuccessKept(job_id, task):
            return lambda host: _has_success(host, job_id, task)


def _has_end(host: Host, attempt_id: AttemptId) -> bool:
    row = task_row(host, attempt_id.job_id, attempt_id.task)
    return row is not None and any(entry.attempt_id == attempt_id for entry in row.ends)


def _has_success(host: Host, job_id: JobId, task: int) -> bool:
    row = task_row(host, job_id, task)
    return row is not None and row.cell.success


def task_row(host: Host, job_id: JobId, task: int) -> TaskRow | None:
    """What its disk holds of that task."""
    stored = host.disk.rows.get(f"task/{job_id}/{task}")
    if stored is None:
        return None
    row = codec.decode_record(stored)
    assert isinstance(row, TaskRow), f"a task row is a task row: {row}"
    return row
