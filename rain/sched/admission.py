"""Why a worker says no to an order that it could obey: it has no room, no engine, no disk.

It has room when it knows what runs here, and it knows that of an executor that has listed it in
this life. The own disk is no substitute: an earlier life that was cut short as it left had deleted
the rows of what it was still stopping, an old disk never had them, a damaged one has lost them.

Such a no is remembered and answered as REFUSED. Most of these pass by themselves: they say that
the coordinator knew less than the worker just then, nothing about the job. What an engine refuses
later (its own words, see `ContainerFailed.refused`) may never pass.
"""

from collections.abc import Container, Sequence

from rain.model import Facts, Job
from rain.sched.local_attempt import LocalAttempt

NODE_GOES = "node is going down"
TAKES_NO_WORK = "node takes no work"
DISK_FULL = "disk full"
NO_ROOM = "no room"
TOO_MANY = "too many containers here"
NOT_LISTED = "it is not known yet what runs here"
PASSING = (NODE_GOES, TAKES_NO_WORK, DISK_FULL, NO_ROOM, TOO_MANY, NOT_LISTED)
ATTEMPTS_MAX = 10_000
"""Kept by a worker, ended and not yet acknowledged ones included."""


def refusal_of(
    job: Job,
    facts: Facts,
    kept: Sequence[LocalAttempt],
    listed: Container[str],
    *,
    is_going: bool,
    is_disk_full: bool,
) -> str:
    """Why one more attempt of this job is not taken; '' if it is. `listed`: these executors."""
    if is_going:
        return NODE_GOES
    if not facts.works:
        return TAKES_NO_WORK
    if job.spec.executor not in facts.executors:
        return f"no executor {job.spec.executor}"
    if job.spec.executor not in listed:
        return NOT_LISTED
    if is_disk_full:
        return DISK_FULL
    free = facts.capacity
    for attempt in kept:
        free = free.minus(attempt.need())
    if not free.covers(job.spec.need) or len(kept) >= ATTEMPTS_MAX:
        return NO_ROOM
    return ""
