"""A task under which PCs go down: who counts as crashed, and when it is given up."""

import pytest

from rain.effects import FollowerHeard, Received
from rain.model import AttemptId, End, EndState, Epoch, Job, MemberState, Stage
from rain.sched.cells import crashes
from rain.sched.messages import Cell, JobPatch, Patch
from rain.sched.table import Table
from rain.sched.views import job_view
from tests.sched.samples import id_of, task_patch
from tests.sched.wire import ADDRESS, Wire, job_of

A, B, C = id_of("a"), id_of("b"), id_of("c")
CRASHED = End(EndState.LOST, reason="its PC went down under it", crashed=True)
NAMES = {A: "a", B: "b", C: "c"}


def pool() -> Wire:
    wire = Wire("a", "b", "c")
    wire.reign("a", 1)
    wire.run(100)
    wire.told()
    return wire


def table(wire: Wire) -> Table:
    return wire.hosts[A].core.table


def counted(wire: Wire, job: Job) -> int:
    return crashes(table(wire).ends(job.job_id, 0).values())


def lose_power(wire: Wire, name: str) -> None:
    """And find it again three seconds later."""
    wire.kill(name)
    wire.bury(name)
    wire.run(3_000)
    wire.restart(name, power_lost=True)
    wire.run(1_500)


def test_a_task_under_which_pcs_go_down_is_given_up() -> None:
    wire = pool()
    job = job_of("a", crash_limit=2, retries=5, node_name="b")
    wire.submit("a", job)
    wire.run(500)

    lose_power(wire, "b")
    assert counted(wire, job) == 1
    assert wire.running()["b"] == 1, "it is tried again"
    lose_power(wire, "b")

    assert counted(wire, job) == 2
    assert wire.running()["b"] == 0
    view = job_view(table(wire), job.job_id, NAMES, with_tasks=True)
    assert (view["state"], view["exit_code"]) == ("ABORTED", 125)
    (task,) = view["task_list"]
    assert task["reason"] == "PCs went down under it 2 times, its crash limit is 2"
    assert [each["state"] for each in task["attempts"]] == ["LOST", "LOST"]
    assert {each["reason"] for each in task["attempts"]} == {CRASHED.reason}
    assert table(wire).failures(job.job_id, 0) == 0
    named = table(wire).cell(job.job_id, 0).attempt_id
    assert named == max(table(wire).ends(job.job_id, 0)), "the newest one"
    wire.run(5_000)
    assert wire.running()["b"] == 0
    assert wire.are_equal()


def test_whoever_runs_it_is_spared_once_the_last_crash_is_known() -> None:
    wire = pool()
    job = job_of("a", crash_limit=1)
    wire.submit("a", job)
    wire.run(500)
    first = table(wire).cell(job.job_id, 0).attempt_id
    assert first is not None
    assert first.node_id == A
    wire.reign("b", 2, "bc")
    wire.kill("a")
    wire.bury("a")
    wire.run(3_000)
    assert wire.running() == {"a": 1, "b": 1, "c": 0}, "one of them is dark"
    wire.told()

    wire.follows[A] = wire.follows[B]
    wire.restart("a", power_lost=True)
    wire.run(300)

    lines = wire.told()
    assert lines.index("a>b Report") < lines.index("b stops 0.3")
    assert sum(wire.running().values()) == 0
    cell = wire.hosts[B].core.table.cell(job.job_id, 0)
    assert (cell.final, cell.success, cell.attempt_id) == (True, False, first)
    assert wire.hosts[B].disk[f"task/{job.job_id}/0"].cell == cell  # type: ignore[attr-defined]


def test_a_cut_cable_a_restarted_agent_and_a_polite_end_are_nobody_s_crash() -> None:
    wire = pool()
    job = job_of("a", crash_limit=1, node_name="b")
    wire.submit("a", job)
    wire.run(500)
    # The cable: it is lost, and comes back running.
    wire.kill("b")
    wire.bury("b")
    wire.run(3_000)
    wire.cut.discard(B)
    wire.restart("b")
    wire.run(1_500)
    assert (counted(wire, job), wire.running()["b"]) == (0, 1)
    # The agent alone.
    wire.restart("b")
    wire.run(1_500)
    assert (counted(wire, job), wire.running()["b"]) == (0, 1)
    # Its owner switches it off.
    wire.stop("b")
    wire.kill("b")
    wire.bury("b", MemberState.LEFT)
    wire.restart("b", power_lost=True)
    wire.run(1_500)
    assert (counted(wire, job), wire.running()["b"]) == (0, 1)
    assert not table(wire).is_task_over(job.job_id, 0)


def test_without_a_limit_it_is_tried_for_ever() -> None:
    wire = pool()
    job = job_of("a", crash_limit=0, node_name="b")
    wire.submit("a", job)
    wire.run(500)
    for _ in range(4):
        lose_power(wire, "b")

    assert counted(wire, job) == 4
    assert wire.running()["b"] == 1


def crash(job: Job, number: int, epoch: Epoch) -> tuple[AttemptId, End]:
    return AttemptId(job.job_id, 0, number, epoch, C), CRASHED


def test_crashes_that_two_sides_counted_are_added_up() -> None:
    """E17: a number in each table would have said one, whichever of the two is the larger."""
    wire = pool()
    job = job_of("a", crash_limit=2)
    wire.submit("a", job)
    wire.run(200)
    left = task_patch(job, 0, Cell(), crash(job, 7, Epoch(1, A, 7)))
    right = task_patch(job, 0, Cell(), crash(job, 7, Epoch(1, B, 7)))
    for name, patch in (("b", left), ("c", right)):
        learn(wire, name, patch)

    wire.run(2_000)

    assert counted(wire, job) == 2
    cell = table(wire).cell(job.job_id, 0)
    assert (cell.final, cell.success, cell.stage) == (True, False, Stage.ENDED)
    assert sum(wire.running().values()) == 0
    assert wire.are_equal()


def learn(wire: Wire, name: str, patch: JobPatch) -> None:
    """By whatever way; its digest tells the coordinator that there is something to be learnt."""
    node_id = id_of(name)
    brought = Patch(wire.follows[node_id], (patch,))
    wire.feed(node_id, Received(A, brought, ADDRESS, by_stream=True))
    wire.feed(A, FollowerHeard(node_id, wire.hosts[node_id].core.table.digest()))


@pytest.mark.parametrize(
    "cell",
    [Cell(), Cell(epoch=Epoch(1, A, 7), turn=9)],
    ids=["it ran there", "it waited"],
)
def test_a_takeover_finds_what_had_been_counted(cell: Cell) -> None:
    wire = pool()
    job = job_of("a", crash_limit=1)
    wire.submit("a", job)
    wire.run(500)
    wire.kill("a")
    wire.told()
    learnt = task_patch(job, 0, cell, crash(job, 7, Epoch(1, B, 7)))
    for name in ("b", "c"):
        learn(wire, name, learnt)

    wire.reign("b", 2)
    wire.bury("a")
    wire.run(3_000)

    cell = wire.hosts[B].core.table.cell(job.job_id, 0)
    assert (cell.final, cell.success) == (True, False)
    assert not [line for line in wire.told() if "starts" in line]
