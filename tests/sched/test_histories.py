"""Golden histories of scheduling: what broke the first draft, told line by line.

Each is named by the rule that mends it (E11, E17, E18, ...); a line is what one node did.
"""

from rain.effects import (
    DiskRecovered,
    MemberUnreachable,
    MemberUp,
    Message,
    Received,
    StopRequested,
)
from rain.model import AttemptId, Epoch, Job, MemberState, NodeId, Resources, Stage
from rain.sched.messages import Assign, Inventory, Report
from rain.sched.records import TaskRow
from rain.sched.views import job_view
from tests.sched.samples import id_of
from tests.sched.wire import ADDRESS, GIB, Wire, job_of

A, B, C = id_of("a"), id_of("b"), id_of("c")
NAMES = {A: "a", B: "b", C: "c"}
WHOLE = Resources(2_000, GIB)


def pool(*names: str) -> Wire:
    """`a` coordinates."""
    wire = Wire(*(names or ("a", "b", "c")))
    wire.reign("a", 1)
    wire.run(100)
    wire.told()
    return wire


def running_on_b() -> tuple[Wire, Job]:
    """`a` is full, `c` is free."""
    wire = pool()
    wire.submit("a", job_of("a", nonce=b"fills a", need=WHOLE, node_name="a"))
    wire.run(100)
    job = job_of("a", need=WHOLE)
    wire.submit("a", job)
    wire.run(500)
    assert deeds(wire) == ["a starts 0.1", "b starts 0.1"]
    return wire, job


def deeds(wire: Wire) -> list[str]:
    """What was done with containers since the story was last told."""
    verbs = (" starts ", " stops ", " removes ")
    return [line for line in wire.told() if any(verb in line for verb in verbs)]


def attempts(wire: Wire, name: str, job: Job) -> list[tuple[int, str, str]]:
    """As `rain job --tasks` shows those of the first task on that node."""
    table = wire.hosts[id_of(name)].core.table
    (task, *_) = job_view(table, job.job_id, NAMES, with_tasks=True)["task_list"]
    return [(each["number"], each["node"], each["state"]) for each in task["attempts"]]


def test_e11_an_executor_that_has_not_listed_its_containers_has_no_say_yet() -> None:
    """Its agent restarts during a takeover: what it runs must not be taken for lost."""
    wire = pool()
    wire.submit("a", job_of("a", node_name="c"))
    wire.run(500)
    wire.kill("c")
    wire.told()

    wire.restart("c", lists=False)
    wire.kill("a")
    wire.reign("b", 2)
    wire.bury("a")
    wire.run(1_000)
    assert wire.hosts[B].core.is_taking_inventory()
    assert deeds(wire) == []
    wire.list_containers("c")
    wire.run(1_000)

    assert deeds(wire) == []
    assert wire.running()["c"] == 1
    (attempt_id,) = wire.hosts[B].core.table.attempts_on(C)
    assert attempt_id.epoch == Epoch(1, A, 7), "adopted, not started anew"


def test_e17_failures_that_two_sides_counted_are_added_up() -> None:
    """One failure on each side and two retries: as numbers they would merge to one."""
    wire = pool("a", "b")
    job = job_of("a", retries=2)
    wire.submit("a", job)
    wire.run(500)
    part(wire, "a", "b")
    wire.reign("b", 2, "b")
    wire.exit("a", 3)
    wire.run(500)
    assert wire.running() == {"a": 0, "b": 1}
    wire.exit("b", 4)
    wire.run(1_200)
    assert wire.running() == {"a": 1, "b": 1}, "each side tries again"
    assert [wire.hosts[n].core.table.failures(job.job_id, 0) for n in (A, B)] == [1, 1]

    heal(wire, "a", "b")
    wire.reign("a", 3, takeover=False)
    wire.run(3_000)
    assert wire.hosts[A].core.table.failures(job.job_id, 0) == 2
    (left,) = [name for name, count in wire.running().items() if count]
    wire.exit(left, 5)
    wire.run(10_000)

    assert wire.running() == {"a": 0, "b": 0}
    view = job_view(wire.hosts[A].core.table, job.job_id, NAMES)
    assert (view["state"], view["exit_code"]) == ("FAILED", 5)
    assert wire.are_equal()


def part(wire: Wire, left: str, right: str) -> None:
    """Cut the pool in two; each side buries the other."""
    wire.lost = lambda sender, to, _message: (wire.name(sender) in left) != (wire.name(to) in left)
    for one, other in ((left, right), (right, left)):
        for name in other:
            wire.bury(name, side=one)


def heal(wire: Wire, left: str, right: str) -> None:
    wire.lost = lambda _from, _to, _message: False
    for one in left:
        for other in right:
            for node, seen in ((one, other), (other, one)):
                facts = wire.hosts[id_of(seen)].facts
                wire.feed(id_of(node), MemberUp(id_of(seen), seen, 1, facts))


def test_e18_an_order_that_waited_in_a_tcp_buffer_starts_nothing() -> None:
    wire = pool()
    waiting: list[Message] = []

    def lost(_sender: NodeId, to: NodeId, message: Message) -> bool:
        if to == C and isinstance(message, Assign):
            waiting.append(message)
            return True
        return False

    wire.lost = lost
    wire.submit("a", job_of("a", node_name="c"))
    wire.run(2_500)
    assert len(waiting) == 3
    wire.told()

    for order in waiting[:1]:
        wire.feed(C, Received(A, order, ADDRESS, by_stream=True))
    assert deeds(wire) == [], "thirteen heartbeats old"
    wire.run(500)
    wire.kill("a")
    wire.reign("b", 2)
    for order in waiting[:3]:
        wire.feed(C, Received(A, order, ADDRESS, by_stream=True))
    assert deeds(wire) == [], "of a reign that is over"

    dropped = wire.hosts[C].core.dropped_by_reason()
    assert (dropped["order_too_old"], dropped["order_of_another_reign"]) == (1, 3)


def test_two_successes_with_one_number_stay_two_attempts_and_one_of_them_stands() -> None:
    """Neither side has heard of the other's decision: both give their attempt the number 1."""
    wire = pool("a", "b")
    job = job_of("a")
    wire.submit("a", job)
    wire.run(50)
    part(wire, "a", "b")
    wire.reign("b", 2, "b")
    wire.run(500)
    assert deeds(wire) == ["a starts 0.1", "b starts 0.1"]
    wire.exit("a")
    wire.exit("b")
    wire.run(16_000)

    heal(wire, "a", "b")
    wire.reign("b", 3, takeover=False)
    wire.run(3_000)

    assert wire.are_equal()
    told = [(1, "a", "SUPERSEDED"), (1, "b", "SUCCEEDED")]
    assert attempts(wire, "a", job) == attempts(wire, "b", job) == told
    assert wire.running() == {"a": 0, "b": 0}
    assert deeds(wire) == ["a removes a container", "b removes a container"]


def test_the_attempt_of_a_worker_whose_cable_comes_back_goes_on_and_no_third_one_starts() -> None:
    wire, job = running_on_b()
    wire.cut.add(B)
    wire.bury("b")
    wire.run(500)
    assert deeds(wire) == ["c starts 0.3"]

    wire.cut.discard(B)
    wire.feed(A, MemberUp(B, "b", 1, wire.hosts[B].facts))
    wire.run(1_000)

    assert deeds(wire) == ["c stops 0.3", "c removes a container"]
    wire.exit("b")
    wire.run(2_000)
    assert deeds(wire) == ["b removes a container"]
    assert attempts(wire, "a", job) == [(1, "b", "SUCCEEDED"), (3, "c", "CANCELLED")]
    assert wire.are_equal()


def test_who_has_said_what_it_runs_is_not_lost_before_its_next_heartbeat() -> None:
    """The answer comes on a stream that is there again, and a sweep before the next heartbeat."""
    wire, job = running_on_b()
    wire.cut.add(B)
    wire.feed(A, MemberUnreachable(B))
    wire.run(500)
    assert deeds(wire) == ["c starts 0.3"]

    wire.cut.discard(B)
    followed = wire.follows.pop(B)  # no heartbeat comes back yet
    wire.run(2_000)
    assert deeds(wire) == ["c stops 0.3", "c removes a container"]
    wire.follows[B] = followed
    wire.run(5_000)

    assert deeds(wire) == []
    wire.cancel("a", job)
    wire.run(2_000)
    assert wire.running() == {"a": 1, "b": 0, "c": 0}
    assert attempts(wire, "a", job) == [(1, "b", "CANCELLED"), (3, "c", "CANCELLED")]


def test_the_attempt_of_a_worker_that_comes_back_too_late_is_superseded() -> None:
    wire, job = running_on_b()
    wire.cut.add(B)
    wire.bury("b")
    wire.run(500)
    wire.exit("c")
    wire.exit("b")
    wire.run(16_000)
    assert deeds(wire) == ["c starts 0.3", "c removes a container"]

    wire.cut.discard(B)
    for node_id in (A, C):
        wire.feed(node_id, MemberUp(B, "b", 1, wire.hosts[B].facts))
    wire.run(3_000)

    assert deeds(wire) == ["b removes a container"]
    told = [(1, "b", "SUPERSEDED"), (3, "c", "SUCCEEDED")]
    assert [attempts(wire, name, job) for name in "abc"] == [told] * 3


def test_which_of_two_stays_is_on_disk_before_the_other_is_stopped() -> None:
    wire, job = running_on_b()
    wire.cut.add(B)
    wire.bury("b")
    wire.run(500)
    wire.told()

    wire.cut.discard(B)
    wire.hosts[A].is_disk_full = True
    wire.feed(A, MemberUp(B, "b", 1, wire.hosts[B].facts))
    wire.run(5_000)
    assert wire.running() == {"a": 1, "b": 1, "c": 1}, "it is decided, but nowhere written down"
    assert [line for line in wire.told() if "Stop" in line or "stops" in line] == []

    wire.hosts[A].is_disk_full = False
    wire.feed(A, DiskRecovered())
    wire.run(1_500)
    assert deeds(wire) == ["c stops 0.3", "c removes a container"]
    cell = wire.hosts[A].core.table.cell(job.job_id, 0)
    row = wire.hosts[A].disk[f"task/{job.job_id}/0"]
    assert isinstance(row, TaskRow)
    assert row.cell == cell
    assert (cell.attempt_id, cell.stage, cell.turn) == (
        AttemptId(job.job_id, 0, 1, Epoch(1, A, 7), B),
        Stage.RUNNING,
        4,
    )


def test_a_success_is_on_disk_before_what_runs_besides_is_stopped() -> None:
    wire, _ = running_on_b()
    wire.cut.add(B)
    wire.bury("b")
    wire.run(500)
    wire.exit("b")
    wire.told()

    wire.cut.discard(B)
    wire.hosts[A].is_disk_full = True
    wire.feed(A, MemberUp(B, "b", 1, wire.hosts[B].facts))
    wire.run(3_000)
    assert deeds(wire) == []
    wire.hosts[A].is_disk_full = False
    wire.feed(A, DiskRecovered())
    wire.run(3_000)

    assert sorted(deeds(wire)) == ["b removes a container", "c removes a container", "c stops 0.3"]


def test_an_orphan_is_reconciled_as_soon_as_its_node_is_back() -> None:
    """Three kinds: without a row, without a job that goes on, and one that another stands for."""
    wire = pool()
    cancelled = job_of("a", nonce=b"1", node_name="b")
    other = job_of("a", nonce=b"2", node_name="b")
    wire.submit("a", cancelled, other)
    wire.run(500)
    (doomed,) = (a for a in wire.hosts[B].containers.values() if a.job_id == cancelled.job_id)
    wire.kill("b")
    wire.bury("b")
    wire.cancel("a", cancelled)
    host = wire.hosts[B]
    host.containers["nobody.0.1.abcdef"] = doomed
    wire.told()

    wire.restart("b")
    wire.run(2_000)

    assert deeds(wire) == ["b removes a container", "b stops 0.1", "b removes a container"]
    assert [a.job_id for a in host.containers.values()] == [other.job_id]


def test_an_order_to_one_life_of_a_worker_is_not_carried_out_by_the_next() -> None:
    """It had started and given up the task when it stopped, and nobody heard of either."""
    wire = pool()
    orders: list[Assign] = []

    def lost(sender: NodeId, to: NodeId, message: Message) -> bool:
        orders.extend([message] if to == C and isinstance(message, Assign) else [])
        return sender == C and isinstance(message, Report | Inventory)

    wire.lost = lost
    wire.submit("a", job_of("a", node_name="c"))
    wire.run(100)
    wire.stop("c")
    wire.kill("c")
    assert deeds(wire)[:2] == ["c starts 0.1", "c stops 0.1"]

    wire.restart("c", power_lost=True)
    wire.run(100)
    wire.feed(C, Received(A, orders[0], ADDRESS, by_stream=True))
    wire.run(1_000)
    assert deeds(wire) == []
    wire.lost = lambda _sender, _to, _message: False
    wire.run(3_000)

    assert [line for line in deeds(wire) if "starts" in line] == ["c starts 0.3"]


def test_who_was_cut_short_as_it_left_starts_nothing_beside_what_it_left_running() -> None:
    """Its rows are gone, its containers are not: only their listing says what room there is."""
    wire = pool()
    job = job_of("a", need=WHOLE, node_name="c")
    wire.submit("a", job)
    wire.run(500)
    ((left, attempt_id),) = wire.hosts[C].containers.items()
    wire.feed(C, StopRequested())
    wire.kill("c")
    wire.hosts[C].containers[left] = attempt_id  # it takes its time to end, and is told no more
    wire.bury("c", MemberState.LEFT)
    wire.told()

    wire.restart("c", lists=False)
    wire.run(500)
    assert deeds(wire) == []
    assert list(wire.hosts[C].containers) == [left]
    wire.list_containers("c")
    wire.run(3_000)

    assert [line for line in deeds(wire) if "starts" not in line] == ["c removes a container"]
    assert wire.running()["c"] == 1
    assert left not in wire.hosts[C].containers
