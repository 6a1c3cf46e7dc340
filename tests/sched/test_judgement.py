"""What a coordinator makes of failures, refusals and of attempts that nobody else knows."""

from rain.effects import Barred, Message, Received
from rain.model import EndState, Epoch, Job, NodeId, Resources, Role, Stage
from rain.sched.admission import DISK_FULL
from rain.sched.messages import Inventory, InventoryRequest, Report
from rain.sched.refusals import IN_A_ROW_MAX
from rain.sched.table import Table
from rain.sched.views import job_view, task_list
from tests.sched.samples import id_of
from tests.sched.wire import ADDRESS, FACTS, GIB, Wire, job_of

A, B, W = (id_of(name) for name in "abw")


def pool(*names: str) -> Wire:
    wire = Wire(*names)
    wire.reign(names[0], 1)
    wire.run(100)
    return wire


def table(wire: Wire, node_id: NodeId = A) -> Table:
    return wire.hosts[node_id].core.table


def waited_ms(wire: Wire, name: str) -> int:
    """Until something runs there again."""
    since_ms = wire.now_ms
    while not wire.running()[name]:
        wire.run(50)
    return wire.now_ms - since_ms


# --- Failures ------------------------------------------------------------------------------------


def test_after_each_failure_a_task_waits_twice_as_long_up_to_a_minute() -> None:
    wire = pool("a")
    wire.submit("a", job_of("a", retries=9))
    wire.run(100)

    waits: list[int] = []
    for _ in range(9):
        wire.exit("a", 3)
        waits.append(waited_ms(wire, "a"))

    assert [round(wait_ms / 1_000) for wait_ms in waits] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_takeover_knows_how_long_the_next_wait_is() -> None:
    wire = pool("a", "b")
    wire.submit("a", job_of("a", retries=9, node_name="b"))
    wire.run(500)
    for _ in range(3):
        wire.exit("b", 3)
        waited_ms(wire, "b")
    wire.exit("b", 3)
    wire.kill("a")

    wire.reign("b", 2)
    wire.bury("a")
    assert waited_ms(wire, "b") < 8_000, "the wait under way is forgotten"
    wire.exit("b", 3)

    assert round(waited_ms(wire, "b") / 1_000) == 16


# --- Refusals ------------------------------------------------------------------------------------


def refused(said: str, minutes: int) -> tuple[Wire, Job]:
    wire = pool("a")
    wire.hosts[A].engine_refuses = said
    job = job_of("a", retries=3)
    wire.submit("a", job)
    wire.run(minutes * 60_000)
    return wire, job


def test_what_every_engine_refuses_for_long_is_given_up() -> None:
    wire, job = refused("it has no such runtime", 7)
    assert job_view(table(wire), job.job_id, {A: "a"})["state"] in ("PENDING", "STARTING")

    wire.run(120_000)

    view = job_view(table(wire), job.job_id, {A: "a"}, with_tasks=True)
    assert (view["state"], view["exit_code"]) == ("ABORTED", 125)
    (task,) = view["task_list"]
    assert task["reason"] == (
        "refused by every PC that could take it, last: it has no such runtime"
    )
    assert len(task["attempts"]) == IN_A_ROW_MAX + 1
    assert table(wire).failures(job.job_id, 0) == 0
    wire.run(60_000)
    assert len(table(wire).ends(job.job_id, 0)) == IN_A_ROW_MAX + 1


def test_a_refusal_that_will_pass_is_not_counted_with_those_that_may_not() -> None:
    wire, job = refused(DISK_FULL, 12)
    wire.hosts[A].engine_refuses = "it has no such runtime"
    wire.run(120_000)
    assert not table(wire).is_task_over(job.job_id, 0)

    wire, job = refused("it has no such runtime", 7)
    while len(table(wire).ends(job.job_id, 0)) < IN_A_ROW_MAX:
        wire.run(1_000)
    wire.hosts[A].engine_refuses = DISK_FULL
    wire.run(120_000)
    assert not table(wire).is_task_over(job.job_id, 0)


def test_a_refusal_that_will_pass_is_waited_out() -> None:
    wire, job = refused(DISK_FULL, 12)
    wire.hosts[A].engine_refuses = ""
    wire.run(31_000)

    assert wire.running() == {"a": 1}
    assert not table(wire).is_task_over(job.job_id, 0)


def test_while_somebody_else_could_take_it_nothing_is_given_up() -> None:
    """`b` is busy, and would take it."""
    wire = pool("a", "b")
    wire.hosts[A].engine_refuses = "it has no such runtime"
    whole = Resources(2_000, GIB)
    wire.submit("b", job_of("b", nonce=b"long", need=whole, node_name="b"))
    wire.run(500)
    job = job_of("a", need=whole)
    wire.submit("a", job)
    wire.run(11 * 60_000)
    assert not table(wire).is_task_over(job.job_id, 0)

    wire.exit("b")
    wire.run(1_000)

    assert table(wire).cell(job.job_id, 0).stage is Stage.RUNNING
    assert wire.running() == {"a": 0, "b": 1}


def test_a_large_array_that_is_refused_is_given_up_as_a_whole() -> None:
    wire = pool("a")
    wire.hosts[A].engine_refuses = "it has no such runtime"
    job = job_of("a", tasks=50)
    wire.submit("a", job)
    wire.run(12 * 60_000)

    assert job_view(table(wire), job.job_id, {A: "a"})["tasks"] == {"ABORTED": 50}


# --- What only a worker knows --------------------------------------------------------------------


def orphans(*, has_ended: bool) -> tuple[Wire, Job]:
    """`b` gave `w` a job while it saw nobody else, and is removed: only `w` knows that job."""
    wire = Wire("a", "b", "w", roles={"w": Role.WORKER})
    wire.reign("b", 1, "bw")
    wire.cut.add(A)
    wire.bury("a")
    wire.run(16_000)
    job = job_of("b", tasks=2, node_name="w")
    wire.submit("b", job)
    wire.run(500)
    assert wire.running() == {"a": 0, "b": 0, "w": 2}
    wire.kill("b")
    wire.cut.discard(A)
    if has_ended:
        wire.exit("w", 0, 2)
    wire.tell(Barred(B))
    wire.told()
    return wire, job


def test_what_a_worker_runs_of_a_job_that_only_it_knows_is_adopted() -> None:
    wire, job = orphans(has_ended=False)
    assert table(wire).job(job.job_id) is None

    wire.reign("a", 2)
    wire.run(3_000)

    assert table(wire).job(job.job_id) == job
    assert [table(wire).cell(job.job_id, task).stage for task in (0, 1)] == [Stage.RUNNING] * 2
    assert not [line for line in wire.told() if "starts" in line or "stops" in line]
    wire.exit("w", 0, 2)
    assert table(wire).state_counts(job.job_id)[3] == 2
    assert wire.told().count("w removes a container") == 2


def test_an_outcome_of_a_job_that_only_a_worker_knows_is_taken_in() -> None:
    wire, job = orphans(has_ended=True)

    wire.reign("a", 2)
    wire.run(3_000)

    assert [end.state for end in table(wire).ends(job.job_id, 0).values()] == [EndState.SUCCEEDED]
    lines = wire.told()
    assert lines.count("w removes a container") == 2
    assert not [line for line in lines if "starts" in line]
    # No more is said of it.
    wire.run(5_000)
    assert [line for line in wire.told() if line.startswith("w>")] == []


def test_who_is_asked_for_a_job_in_vain_is_asked_once_a_second_and_given_work() -> None:
    """Its job is not taken: nobody here has ever heard of who submitted it."""
    wire, _ = orphans(has_ended=True)
    wire.hosts[A].core = wire.hosts[A].fresh(wire.now_ms)
    wire.roll = {node_id: notice for node_id, notice in wire.roll.items() if node_id != B}
    wire.restart("a")
    asked: list[InventoryRequest] = []
    reported: list[Report] = []

    def lost(_sender: NodeId, _to: NodeId, message: Message) -> bool:
        """Nothing is; only counted."""
        if isinstance(message, InventoryRequest) and message.wants:
            asked.append(message)
        elif isinstance(message, Report):
            reported.append(message)
        return False

    wire.lost = lost
    wire.reign("a", 2)
    wire.run(10_000)

    assert 8 <= len(asked) <= 11
    assert 8 <= len(reported) <= 11
    wire.submit("a", job_of("a", node_name="w"))
    wire.run(500)
    assert wire.running()["w"] == 1


def test_a_job_that_a_worker_was_not_asked_for_has_no_effect() -> None:
    wire = Wire("a", "w", roles={"w": Role.WORKER})
    epoch = wire.reign("a", 1)
    wire.run(100)
    told = Inventory(epoch, 1, True, (), (job_of("a"),))

    wire.feed(A, Received(W, told, ADDRESS, by_stream=True))

    assert table(wire).jobs() == ()


# --- What is shown -------------------------------------------------------------------------------


def test_what_runs_has_a_start() -> None:
    wire = pool("a", "b")
    job = job_of("a", tasks=2, need=Resources(2_000, GIB))
    wire.submit("a", job)
    wire.run(500)
    core = wire.hosts[A].core

    def starts() -> list[str]:
        told = task_list(
            core.table, job.job_id, {}, core.unsettled(), 0, 1, core.starts(job.job_id, 0, 1)
        )
        return [task["attempts"][-1]["started_at"] for task in told]

    assert starts() == ["1970-01-01T00:00:00.005Z"] * 2
    assert core.starts(job.job_id, 1, 1).keys() == {
        attempt_id for attempt_id in core.starts(job.job_id, 0, 1) if attempt_id.task == 1
    }
    wire.exit("b")
    assert starts() == ["1970-01-01T00:00:00.005Z"] * 2, "told by its end now"


def test_a_takeover_hears_when_what_runs_was_started() -> None:
    wire = pool("a", "b")
    job = job_of("a", node_name="b")
    wire.submit("a", job)
    wire.run(500)
    wire.kill("a")

    wire.reign("b", 2)
    wire.bury("a")
    wire.run(500)

    (attempt_id,) = wire.hosts[B].core.starts(job.job_id, 0, 0)
    assert attempt_id.epoch == Epoch(1, A, 7)


assert FACTS.capacity == Resources(2_000, 4 * GIB), "two tasks of one cpu, or one of two"
