"""Stories of whole pools, told by what the nodes say to each other."""

from rain.effects import (
    Answer,
    BrakeChanged,
    ContainerExited,
    DiskRecovered,
    FollowerHeard,
    MemberUnreachable,
    MemberUp,
    Proposed,
    Received,
    ReignChanged,
    StopRequested,
)
from rain.model import AttemptId, End, EndState, Epoch, MemberState, Stage
from rain.sched.messages import (
    Accepted,
    Assign,
    Inventory,
    JobPatch,
    Patch,
    Replicate,
    Replicated,
    Report,
    ReportAck,
)
from tests.sched.samples import id_of
from tests.sched.wire import ADDRESS, Wire, job_of

A, B, C = id_of("a"), id_of("b"), id_of("c")


def pool(*names: str) -> Wire:
    """A pool that `a` coordinates, its inventory taken."""
    wire = Wire(*(names or ("a", "b", "c")))
    wire.reign("a", 1)
    wire.run(100)
    wire.told()
    return wire


def test_a_job_is_acknowledged_when_three_disks_hold_it() -> None:
    wire = pool()
    job = job_of("b")

    wire.submit("b", job)

    assert wire.told() == [
        "b>a Propose",
        "a>b Replicate",
        "a>c Replicate",
        "a starts 0.1",
        "b>a Replicated",
        "c>a Replicated",
        "a>b Accepted",
        "b answers 3",
    ]
    for host in wire.hosts.values():
        assert f"job/{job.job_id}" in host.disk


def test_an_outcome_is_forgotten_by_its_worker_when_three_disks_hold_it() -> None:
    wire = pool()
    job = job_of("a", tasks=3)
    wire.submit("a", job)
    wire.run(1_000)
    assert wire.running() == {"a": 1, "b": 1, "c": 1}
    wire.told()

    wire.exit("b")

    assert wire.told() == [
        "b>a Report",
        "a>b Replicate",
        "a>c Replicate",
        "b>a Replicated",
        "c>a Replicated",
        "a>b ReportAck",
        "b removes a container",
    ]
    wire.run(2_000)
    assert wire.are_equal()
    assert wire.told() == ["a>b Patch", "a>c Patch"]
    cell = wire.hosts[C].core.table.cell(job.job_id, 1)
    assert (cell.success, cell.stage) == (True, Stage.ENDED)


def test_an_outcome_is_repeated_to_the_next_coordinator() -> None:
    wire = pool()
    wire.submit("a", job_of("a", tasks=3))
    wire.run(500)
    wire.lost = lambda _from, _to, message: isinstance(message, ReportAck)
    wire.exit("b")
    wire.run(3_000)
    assert "b removes a container" not in wire.told()
    wire.lost = lambda _from, _to, _message: False
    wire.kill("a")

    wire.reign("c", 2)
    wire.bury("a")
    wire.run(14_000)
    assert "b removes a container" not in wire.told()
    wire.run(1_500)

    assert "b removes a container" in wire.told()


def test_a_new_coordinator_adopts_what_runs() -> None:
    wire = pool()
    job = job_of("c", tasks=3)
    wire.submit("c", job)
    wire.run(500)
    wire.told()
    wire.kill("a")
    for node_id in (B, C):
        wire.feed(node_id, ReignChanged(None))
    wire.run(500)

    wire.reign("b", 2)

    assert wire.told() == [
        "b>a Digests",
        "b>c Digests",
        "b>a InventoryRequest",
        "b>c InventoryRequest",
        "c>b Patch",
        "c>b Inventory",
    ]
    wire.bury("a")
    wire.run(100)
    assert wire.running() == {"a": 1, "b": 2, "c": 1}
    table = wire.hosts[B].core.table
    adopted = table.cell(job.job_id, 2)
    assert adopted.stage is Stage.RUNNING
    assert adopted.attempt_id == AttemptId(job.job_id, 2, 1, Epoch(1, A, 7), C)
    assert adopted.epoch == Epoch(2, B, 7)
    assert adopted.turn == 2
    (lost,) = table.ends(job.job_id, 0).values()
    assert lost.state is EndState.LOST
    assert table.cell(job.job_id, 0).stage is Stage.RUNNING


def test_nothing_is_placed_before_everybody_was_asked() -> None:
    wire = pool()
    wire.lost = lambda _from, _to, message: isinstance(message, Inventory)
    wire.reign("b", 2)
    wire.submit("b", job_of("b"))

    wire.run(1_900)
    assert wire.hosts[B].core.is_taking_inventory()
    assert sum(wire.running().values()) == 0
    wire.run(200)

    assert not wire.hosts[B].core.is_taking_inventory()
    assert wire.running() == {"a": 0, "b": 1, "c": 0}


def test_what_a_node_alone_knows_reaches_the_coordinator() -> None:
    wire = pool()
    job = job_of("c")
    wire.feed(C, ReignChanged(None))
    wire.submit("c", job)
    assert wire.hosts[A].core.table.job(job.job_id) is None
    wire.feed(C, ReignChanged(wire.follows[A]))
    wire.lost = lambda _from, _to, message: isinstance(message, Accepted)

    wire.run(1_000)

    assert wire.hosts[A].core.table.job(job.job_id) == job
    assert wire.are_equal()


def test_a_lost_worker_is_nobodys_failure() -> None:
    wire = pool()
    job = job_of("a", tasks=3)
    wire.submit("a", job)
    wire.run(500)
    wire.kill("b")

    wire.bury("b")
    wire.run(100)

    table = wire.hosts[A].core.table
    (attempt_id, end) = next(iter(table.ends(job.job_id, 1).items()))
    assert (attempt_id.node_id, end.state) == (B, EndState.LOST)
    assert table.failures(job.job_id, 1) == 0
    cell = table.cell(job.job_id, 1)
    assert cell.attempt_id is not None
    assert (cell.attempt_id.node_id, cell.attempt_id.number, cell.turn) == (A, 3, 3)
    assert wire.running() == {"a": 2, "b": 1, "c": 1}


def test_of_two_running_attempts_the_longer_running_one_stays() -> None:
    wire = pool()
    job = job_of("a", tasks=3)
    wire.submit("a", job)
    wire.run(1_000)
    wire.kill("b")
    wire.bury("b")
    wire.run(300)
    assert wire.running() == {"a": 2, "b": 1, "c": 1}
    wire.told()

    wire.cut.discard(B)
    for node_id in (A, C):
        facts = wire.hosts[B].facts
        wire.feed(node_id, MemberUp(B, "b", 1, facts))
    wire.settle()

    assert wire.running() == {"a": 1, "b": 1, "c": 1}
    cell = wire.hosts[A].core.table.cell(job.job_id, 1)
    assert cell.attempt_id is not None
    assert (cell.attempt_id.node_id, cell.stage, cell.turn) == (B, Stage.RUNNING, 4)
    assert "a stops 1.3" in wire.told()


def test_behind_the_brake_nothing_is_touched_and_nothing_of_theirs_is_started() -> None:
    wire = pool("a", "b", "c", "d", "e")
    job = job_of("a", tasks=5)
    wire.submit("a", job)
    wire.run(500)
    vanished = (C, id_of("d"), id_of("e"))
    for node_id in vanished:
        wire.kill(wire.name(node_id))
    wire.feed(A, BrakeChanged(True, vanished))
    for node_id in vanished:
        wire.feed(A, MemberUnreachable(node_id))
        wire.bury(wire.name(node_id))
    theirs, ours = job_of("c", nonce=b"1"), job_of("a", nonce=b"2")
    known = Patch(wire.follows[A], (JobPatch(theirs.job_id, theirs),))
    wire.feed(A, Received(B, known, ADDRESS, by_stream=True))
    wire.submit("a", ours)
    wire.run(1_000)

    table = wire.hosts[A].core.table
    assert [table.cell(job.job_id, task).turn for task in range(5)] == [1] * 5
    assert table.cell(theirs.job_id, 0).stage is Stage.PENDING
    assert table.cell(ours.job_id, 0).stage is Stage.RUNNING
    assert wire.hosts[A].core.why(theirs.job_id) == {"down": 3, "braked": 2}

    wire.feed(A, BrakeChanged(False, ()))
    wire.run(100)

    assert "braked" not in wire.hosts[A].core.why(theirs.job_id)
    assert all(table.ends(job.job_id, task) for task in (2, 3, 4))


def test_copies_are_counted_against_the_view_until_the_grace_is_over() -> None:
    wire = pool()
    wire.kill("b")
    wire.kill("c")
    wire.bury("b")
    wire.bury("c")

    wire.submit("a", job_of("a"))
    wire.run(9_900)
    assert wire.hosts[A].answers == []
    wire.run(200)
    assert wire.hosts[A].answers == [
        Answer(
            1,
            1,
            "no coordinator confirmed it in time; it is kept on this PC and will be sent on",
        )
    ]
    wire.run(5_000)
    wire.submit("a", job_of("a", nonce=b"later"))

    assert wire.hosts[A].answers[1:] == [Answer(1, 1)]


def test_a_cancel_stops_what_runs_and_is_as_safe_as_a_submit() -> None:
    wire = pool()
    job = job_of("a", tasks=9)
    wire.submit("a", job)
    wire.run(300)
    assert wire.running() == {"a": 2, "b": 2, "c": 2}
    wire.told()

    wire.cancel("b", job)

    assert wire.hosts[B].answers == [Answer(2, 3)]
    assert wire.running() == {"a": 0, "b": 0, "c": 0}
    table = wire.hosts[A].core.table
    assert table.is_job_over(job.job_id)
    assert [end.state for end in table.ends(job.job_id, 0).values()] == [EndState.CANCELLED]
    wire.run(2_000)
    assert wire.are_equal()
    assert wire.running() == {"a": 0, "b": 0, "c": 0}


def test_a_failure_is_tried_again_until_its_retries_are_used_up() -> None:
    wire = pool()
    job = job_of("a", retries=1)
    wire.submit("a", job)
    wire.run(100)

    wire.exit("a", 3)
    wire.run(900)
    assert sum(wire.running().values()) == 0
    wire.run(200)
    assert sum(wire.running().values()) == 1
    wire.exit("a", 4)

    table = wire.hosts[A].core.table
    cell = table.cell(job.job_id, 0)
    assert (cell.final, cell.success, table.failures(job.job_id, 0)) == (True, False, 2)
    wire.run(2_000)
    assert sum(wire.running().values()) == 0


def test_running_max_is_respected() -> None:
    wire = pool()
    wire.submit("a", job_of("a", tasks=6, running_max=2))
    wire.run(300)
    assert sum(wire.running().values()) == 2
    wire.exit("a")
    wire.run(300)
    assert sum(wire.running().values()) == 2


def test_messages_of_another_reign_have_no_effect() -> None:
    wire = pool()
    stale = Epoch(9, B, 1)
    job = job_of("b")
    before = wire.hosts[C].core.table.digest()

    for message in (
        Replicate(stale, 1, ()),
        Patch(stale, (), ()),
        Assign(stale, 1, job, (AttemptId(job.job_id, 0, 1, stale, C),)),
        Report(stale, ()),
        Replicated(stale, 1),
        Accepted(1, stale, 3),
        ReportAck(stale, ()),
    ):
        assert wire.feed(C, Received(B, message, ADDRESS)) == []

    assert wire.hosts[C].core.table.digest() == before


def test_a_node_that_leaves_hands_its_tasks_back_at_once() -> None:
    wire = pool()
    wire.submit("a", job_of("a", tasks=3))
    wire.run(300)

    wire.feed(C, StopRequested())
    wire.settle()
    wire.kill("c")
    wire.bury("c", MemberState.LEFT)
    wire.run(1_100)

    assert wire.running() == {"a": 2, "b": 1, "c": 0}


def test_a_full_disk_neither_acknowledges_nor_answers_until_it_works_again() -> None:
    wire = pool()
    wire.hosts[C].is_disk_full = True
    wire.lost = lambda _from, to, _message: to == B
    wire.submit("a", job_of("a"))
    wire.run(3_000)
    assert wire.hosts[A].answers == []

    wire.hosts[C].is_disk_full = False
    wire.feed(C, DiskRecovered())
    wire.lost = lambda _from, _to, _message: False
    wire.run(1_000)

    assert wire.hosts[A].answers == [Answer(1, 3)]
    assert len([key for key in wire.hosts[C].disk if key.startswith("job/")]) == 1


def test_a_whole_pool_that_was_switched_off_carries_on() -> None:
    wire = pool()
    job = job_of("b", tasks=12)
    wire.submit("b", job)
    wire.run(500)
    for name in ("a", "b", "c"):
        wire.kill(name)
        wire.hosts[id_of(name)].containers.clear()
    wire.follows.clear()
    for name in ("c", "b", "a"):
        wire.restart(name)
    wire.reign("c", 5)
    wire.run(500)

    assert wire.running() == {"a": 2, "b": 2, "c": 2}
    for _ in range(8):
        for name in ("a", "b", "c"):
            wire.exit(name, 0, 9)
        wire.run(1_000)
    assert wire.hosts[A].core.table.is_job_over(job.job_id)


def test_a_follower_that_answers_again_is_reachable_again() -> None:
    wire = pool()
    wire.feed(A, MemberUnreachable(B))
    wire.submit("a", job_of("a", tasks=6))
    assert wire.running()["b"] == 0

    wire.feed(A, FollowerHeard(B, wire.hosts[A].core.table.digest()))
    wire.settle()
    wire.run(100)

    assert wire.running()["b"] == 2


def test_proposals_are_ignored_by_those_who_do_not_coordinate() -> None:
    wire = pool()
    wire.feed(C, ReignChanged(Epoch(1, B, 7)))
    wire.feed(C, Proposed(1, (job_of("c"),)))
    wire.settle()

    assert wire.told() == ["c>b Propose"]


def test_what_an_engine_took_along_is_tried_again_and_nobodys_failure() -> None:
    wire = pool()
    job = job_of("a")
    wire.submit("a", job)
    wire.run(500)
    (key, attempt_id), *_ = wire.hosts[A].containers.items()
    del wire.hosts[A].containers[key]

    wire.feed(A, ContainerExited(attempt_id, 137, 5, 6, is_lost=True))
    wire.run(500)

    assert sum(wire.running().values()) == 1
    table = wire.hosts[A].core.table
    (end,) = table.ends(job.job_id, 0).values()
    assert end == End(EndState.LOST, -1, "the engine was stopped under it", 5, 6)
    assert table.failures(job.job_id, 0) == 0


def test_an_outcome_that_was_told_is_told_also_while_it_is_made_safe_anew() -> None:
    wire = pool()
    job = job_of("b")
    wire.submit("b", job)
    wire.lost = lambda _from, _to, message: isinstance(message, ReportAck | Replicated)
    wire.exit("a")
    (attempt_id,) = wire.hosts[A].core.unsettled()
    wire.lost = lambda _from, _to, message: isinstance(message, ReportAck)
    wire.run(500)
    assert wire.hosts[A].core.unsettled() == set()
    assert attempt_id.job_id == job.job_id

    wire.lost = lambda _from, _to, message: isinstance(message, ReportAck | Replicated)
    wire.reign("b", 2)
    wire.run(3_000)

    assert wire.hosts[B].core.table.is_job_over(job.job_id)
    assert wire.hosts[B].core.unsettled() == set()
