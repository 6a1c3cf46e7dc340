"""A pool of several people, one admin and one worker; and what it says of what it refuses."""

from rain.effects import Log, Message, Output, Received
from rain.model import Epoch, Job, Role
from tests.sched.samples import id_of
from tests.sched.wire import ADDRESS, Wire, job_of

A, B, C, W = (id_of(name) for name in "abcw")
PERSONS = {"a": "ann", "b": "bob", "c": "cleo", "w": "will"}
ROLES = {"a": Role.ADMIN, "w": Role.WORKER}


def pool(*names: str) -> tuple[Wire, Epoch]:
    """`b` coordinates; `a` is an admin's, `w` a worker; every PC is of a person of its own."""
    wire = Wire(*(names or ("a", "b", "c", "w")), roles=ROLES, persons=PERSONS)
    epoch = wire.reign("b", 1)
    wire.run(100)
    wire.told()
    return wire, epoch


def said(wire: Wire, to: str, sender: str, message: Message) -> list[Output]:
    """What comes of it at once."""
    return wire.feed(id_of(to), Received(id_of(sender), message, ADDRESS, by_stream=True))


def logged(sender: str, kind: str, reason: str, times: int = 1) -> Log:
    fields = (("sender", id_of(sender)), ("kind", kind), ("reason", reason), ("times", times))
    return Log("refused", fields)


def dropped(wire: Wire, name: str, reason: str) -> int:
    return wire.hosts[id_of(name)].core.dropped_by_reason().get(reason, 0)


def bobs(**rest: object) -> Job:
    return job_of("b", person="bob", **rest)  # type: ignore[arg-type]
