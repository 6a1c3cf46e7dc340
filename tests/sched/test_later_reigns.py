"""Decisions of a reign that this one has not outnumbered block nothing for ever."""

from rain.effects import Received
from rain.model import AttemptId, End, EndState, Epoch, NodeId, Stage
from rain.sched.messages import (
    Assign,
    AttemptEnd,
    Cell,
    Inventory,
    JobPatch,
    Patch,
    Replicated,
    Report,
    TaskPatch,
)
from rain.sched.records import AttemptRow, JobRow, TaskRow
from tests.sched.samples import id_of
from tests.sched.wire import ADDRESS, Wire, job_of

A, B, C = id_of("a"), id_of("b"), id_of("c")
LATER = Epoch(9, C, 3)


def pool() -> tuple[Wire, Epoch]:
    """A pool that `a` coordinates, its inventory taken."""
    wire = Wire("a", "b", "c")
    epoch = wire.reign("a", 1)
    wire.run(100)
    wire.told()
    return wire, epoch


def met(wire: Wire) -> list[str]:
    return [line for line in wire.told() if "has met" in line]


def test_a_waiting_task_goes_on_under_a_number_above_the_one_that_blocked_it() -> None:
    wire, epoch = pool()
    job = job_of("b", tasks=2)
    decided = Cell(epoch=LATER, turn=4)
    patch = JobPatch(job.job_id, job, tasks=(TaskPatch(0, 1, decided),))

    wire.hosts[B].core.table.merge((patch,))
    wire.feed(A, _received(B, Patch(epoch, (patch,))))
    wire.settle()

    assert met(wire) == ["a has met reign 9"], "once, for however many tasks"
    wire.run(1_000)
    assert met(wire) == ["a has met reign 9"], "again while nothing has changed"
    assert sum(wire.running().values()) == 0

    wire.reign("a", 10, takeover=False)
    wire.run(1_100)

    assert met(wire) == []
    assert sum(wire.running().values()) == 2


def test_what_runs_by_a_decision_of_a_later_reign_is_adopted_after_it() -> None:
    wire, epoch = pool()
    job = job_of("b")
    attempt_id = AttemptId(job.job_id, 0, 4, LATER, B)
    placed = Cell(epoch=LATER, turn=4, stage=Stage.PLACED, attempt_id=attempt_id)
    patch = JobPatch(job.job_id, job, tasks=(TaskPatch(0, 0, placed),))

    wire.feed(A, _received(C, Patch(epoch, (patch,))))
    wire.run(500)
    assert met(wire)[:1] == ["a has met reign 9"], "b was asked, and knows nothing of it"

    wire.reign("a", 10, takeover=False)
    wire.run(500)

    cell = wire.hosts[A].core.table.cell(job.job_id, 0)
    assert (cell.stage, cell.epoch) == (Stage.RUNNING, Epoch(10, A, 7))


def test_an_end_that_is_being_made_safe_ends_what_another_reign_says_to_run() -> None:
    """Its worker forgets it as soon as it is safe: nobody would speak of it again."""
    wire = Wire("a", "b", "c")
    job = job_of("b")
    silent = AttemptId(job.job_id, 0, 1, Epoch(2, B, 3), B)
    ended = AttemptId(job.job_id, 0, 1, Epoch(3, C, 3), C)
    gone = AttemptRow(ended, Stage.ENDED, End(EndState.LOST, reason="its container is gone"))
    by_b, by_c = (
        Cell(epoch=each.epoch, turn=1, stage=Stage.RUNNING, attempt_id=each)
        for each in (silent, ended)
    )
    wire.hosts[A].disk = {r.key(): r for r in (JobRow(job), TaskRow(job.job_id, 0, by_b))}
    wire.hosts[C].disk = {gone.key(): gone}
    wire.restart("a")
    wire.restart("c")
    wire.lost = lambda sender, _to, message: (
        (sender == B and isinstance(message, Inventory)) or isinstance(message, Replicated)
    )
    epoch = wire.reign("a", 5)
    wire.run(3_000)
    assert wire.hosts[A].core.unsettled() == {ended}

    patch = JobPatch(job.job_id, tasks=(TaskPatch(0, 0, by_c),))
    wire.feed(A, _received(C, Patch(epoch, (patch,))))
    wire.run(1_000)
    wire.lost = lambda sender, _to, message: sender == B and isinstance(message, Inventory)
    wire.run(3_000)

    cell = wire.hosts[A].core.table.cell(job.job_id, 0)
    assert (cell.stage, cell.epoch) == (Stage.RUNNING, epoch)


def test_what_another_reign_has_seen_to_its_end_is_waited_for_no_longer() -> None:
    wire, epoch = pool()
    job = job_of("b")
    wire.lost = lambda _from, _to, message: isinstance(message, Assign | Report)
    wire.submit("b", job, job_of("b", nonce=b"2"))
    wire.run(100)
    table = wire.hosts[A].core.table
    attempt_id = next(a for n in (B, C) for a in table.attempts_on(n))
    wire.lost = lambda _from, _to, message: isinstance(message, Assign)
    end = AttemptEnd(attempt_id, End(EndState.SUCCEEDED, 0, "", 5, 6))
    patch = JobPatch(attempt_id.job_id, tasks=(TaskPatch(0, 0, Cell(), (end,)),))

    wire.feed(A, _received(C, Patch(epoch, (patch,))))
    wire.settle()

    assert table.cell(attempt_id.job_id, 0).success


def _received(sender: NodeId, message: Patch) -> Received:
    return Received(sender, message, ADDRESS, by_stream=True)
