"""One worker on its own: given, when, exactly these effects."""

from rain.effects import (
    ContainerExited,
    ContainerFailed,
    ContainerFound,
    ContainersListed,
    ContainerStarted,
    Output,
    Persist,
    Post,
    RemoveContainer,
    StartContainer,
    StopContainer,
)
from rain.model import (
    AttemptId,
    End,
    EndState,
    Epoch,
    Facts,
    Identity,
    Job,
    Resources,
    Stage,
)
from rain.sched.identity import attempt_key
from rain.sched.messages import (
    Assign,
    AttemptEnd,
    AttemptReport,
    Cell,
    Inventory,
    InventoryRequest,
    JobPatch,
    Report,
    ReportAck,
    Stop,
    TaskPatch,
)
from rain.sched.records import AttemptRow, JobRow
from rain.sched.worker import Worker, WorkerConfig
from tests.sched.samples import id_of, make_ledger
from tests.sched.wire import FACTS, job_of

HEAD = id_of("head")
EPOCH = Epoch(3, HEAD, 7)
JOB = job_of("head", 3)


def attempt(task: int = 0, number: int = 1, job: Job = JOB) -> AttemptId:
    return AttemptId(job.job_id, task, number, EPOCH, id_of("w"))


def worker(*rows: AttemptRow, facts: Facts = FACTS) -> Worker:
    """Follows EPOCH, heard beat 100 at instant 1,000; without rows nothing runs here, as listed."""
    made = unlisted(*rows, facts=facts)
    if not rows:
        made.on_listed(ContainersListed(()), 1_000)
    return made


def unlisted(*rows: AttemptRow, facts: Facts = FACTS) -> Worker:
    """No executor has said yet what it runs."""
    ledger = make_ledger([JobRow(JOB)] if rows else [])
    made = Worker(Identity(id_of("w"), "w", 1), facts, WorkerConfig(), ledger, rows)
    made.follow(EPOCH, False, 1_000)
    made.heard(EPOCH, 100, 1_000)
    return made


def assign(*tasks: int, epoch: Epoch = EPOCH, beat: int = 100, job: Job = JOB) -> Assign:
    return Assign(epoch, beat, job, tuple(attempt(task, job=job) for task in tasks))


def report(stage: Stage, end: End | None = None, running_ms: int = 0, task: int = 0) -> Post:
    started_unix_ms = 5 if stage is Stage.RUNNING else 0
    words = (AttemptReport(attempt(task), stage, running_ms, end, started_unix_ms),)
    return Post(HEAD, Report(EPOCH, words))


def running() -> Worker:
    made = worker()
    made.on_assign(HEAD, assign(0), 1_000)
    made.on_started(ContainerStarted(attempt(), 5), 1_100)
    return made


def test_an_order_is_written_down_before_its_container_starts() -> None:
    made = worker()

    assert made.on_assign(HEAD, assign(0), 1_000) == [
        Persist(
            (AttemptRow(attempt(), Stage.STARTING), JobRow(JOB)),
            then=(StartContainer(attempt(), JOB), report(Stage.STARTING)),
        )
    ]
    assert made.on_started(ContainerStarted(attempt(), 5), 1_100) == [
        Persist((AttemptRow(attempt(), Stage.RUNNING),), then=(report(Stage.RUNNING),))
    ]
    made.check()


def test_an_order_that_comes_twice_is_answered_and_starts_nothing() -> None:
    made = running()

    assert made.on_assign(HEAD, assign(0), 1_300) == [report(Stage.RUNNING, running_ms=200)]


def test_orders_that_are_stale_are_dropped() -> None:
    made = worker()
    older, newer = Epoch(2, HEAD, 7), Epoch(4, id_of("x"), 7)

    assert made.on_assign(HEAD, assign(0, epoch=older), 1_000) == []
    assert made.on_assign(id_of("x"), assign(0, epoch=newer), 1_000) == []
    assert made.on_assign(id_of("x"), assign(0), 1_000) == []
    assert made.on_assign(HEAD, assign(0, beat=87), 1_000) == []
    assert made.on_assign(HEAD, assign(0), 1_401) == []
    assert made.on_stop(HEAD, Stop(older, 100, (attempt(),), ""), 1_000) == []

    assert made.active_attempts() == ()
    assert made.dropped == {
        "order_of_another_reign": 3,
        "order_not_by_the_coordinator": 1,
        "order_too_old": 1,
        "order_after_silence": 1,
    }
    assert made.on_assign(HEAD, assign(0, beat=88), 1_400) != []


def test_an_own_reign_needs_no_heartbeat() -> None:
    made = worker()
    mine = Epoch(4, id_of("w"), 7)
    made.follow(mine, True, 1_000)

    outputs = made.on_assign(id_of("w"), assign(0, epoch=mine, beat=0), 9_000)

    assert [type(output) for output in outputs] == [Persist]


def test_an_outcome_is_repeated_until_it_is_acknowledged() -> None:
    made = running()
    end = End(EndState.SUCCEEDED, 0, "", 5, 9)
    told = report(Stage.ENDED, end)

    assert made.on_exited(ContainerExited(attempt(), 0, 5, 9), 2_000) == [
        Persist((AttemptRow(attempt(), Stage.ENDED, end),), then=(told,))
    ]
    assert made.next_deadline_ms() == 3_000
    assert made.on_deadline(2_999) == []
    assert made.on_deadline(3_000) == [told]
    assert made.on_deadline(3_500) == []
    successor = Epoch(4, id_of("s"), 7)
    assert made.follow(successor, False, 3_600) == [
        Post(id_of("s"), Report(successor, (AttemptReport(attempt(), Stage.ENDED, 0, end),)))
    ]
    assert made.on_report_ack(HEAD, ReportAck(EPOCH, (attempt(),))) == []
    assert made.on_report_ack(id_of("s"), ReportAck(successor, (attempt(),))) == [
        RemoveContainer(attempt_key(attempt())),
        Persist(deletes=(AttemptRow(attempt()).key(),)),
    ]
    assert made.next_deadline_ms() is None


def test_how_an_exit_is_judged() -> None:
    def judged(exit_code: int, *, out_of_memory: bool = False, is_lost: bool = False) -> End | None:
        made = running()
        event = ContainerExited(attempt(), exit_code, 5, 9, out_of_memory, is_lost)
        return end_in(made.on_exited(event, 2_000))

    assert judged(0) == End(EndState.SUCCEEDED, 0, "", 5, 9)
    assert judged(3) == End(EndState.FAILED, 3, "", 5, 9)
    assert judged(137, out_of_memory=True) == End(EndState.OUT_OF_MEMORY, 137, "", 5, 9)
    lost = End(EndState.LOST, -1, "the engine was stopped under it", 5, 9)
    assert judged(137, is_lost=True) == lost


def end_in(outputs: list[Output]) -> End | None:
    """What is written down about the end of the one attempt."""
    (write,) = outputs
    assert isinstance(write, Persist)
    (row,) = write.puts
    assert isinstance(row, AttemptRow)
    return row.end


def test_a_stop_makes_cancelled_of_whatever_exit_follows() -> None:
    made = running()

    assert made.on_stop(HEAD, Stop(EPOCH, 100, (attempt(),), "cancelled"), 1_200) == [
        Persist((AttemptRow(attempt(), Stage.RUNNING, None, True),)),
        StopContainer(attempt(), 10_000),
    ]
    assert made.on_stop(HEAD, Stop(EPOCH, 100, (attempt(),), "cancelled"), 1_300) == []
    end = end_in(made.on_exited(ContainerExited(attempt(), 0, 5, 9), 1_400))
    assert end == End(EndState.CANCELLED, 0, "", 5, 9)


def test_a_stop_before_its_order_refuses_that_order_for_good() -> None:
    made = worker()
    end = End(EndState.CANCELLED, reason="it had not been started here")

    assert made.on_stop(HEAD, Stop(EPOCH, 100, (attempt(),), ""), 1_000) == [
        report(Stage.ENDED, end)
    ]
    assert made.on_assign(HEAD, assign(0), 1_000)[1:] == [report(Stage.ENDED, end)]


def test_the_time_limit_is_enforced_here() -> None:
    job = job_of("head", timeout_ms=500)
    made = worker()
    made.on_assign(HEAD, assign(0, job=job), 1_000)
    made.on_started(ContainerStarted(attempt(job=job), 5), 1_100)

    assert made.next_deadline_ms() == 1_600
    assert made.on_deadline(1_600) == [StopContainer(attempt(job=job), 10_000)]
    end = end_in(made.on_exited(ContainerExited(attempt(job=job), 143, 5, 9), 1_700))
    assert end == End(EndState.TIMEOUT, 124, "", 5, 9)


def test_what_does_not_fit_is_refused_and_stays_refused() -> None:
    made = worker()
    made.on_assign(HEAD, assign(0, 1), 1_000)
    refused = report(Stage.ENDED, End(EndState.REFUSED, reason="no room"), task=2)

    assert made.on_assign(HEAD, assign(2), 1_000) == [refused]
    made.on_exited(ContainerExited(attempt(0), 0, 5, 9), 1_100)
    assert made.on_assign(HEAD, assign(2), 1_100) == [refused]
    made.check()


def test_nothing_is_started_before_its_executor_has_said_what_it_runs() -> None:
    """An earlier life that was cut short as it left had deleted the rows of what still runs."""
    made = unlisted()
    end = End(EndState.REFUSED, reason="it is not known yet what runs here")

    assert made.on_assign(HEAD, assign(0), 1_000)[1:] == [report(Stage.ENDED, end)]
    made.on_listed(ContainersListed((), ("process",)), 1_100)
    assert made.on_assign(HEAD, assign(1), 1_100) == [report(Stage.ENDED, end, task=1)]

    left = ContainersListed((ContainerFound("stray", 5),), ("docker",))
    assert made.on_listed(left, 1_200) == [RemoveContainer("stray")]
    # What was listed once is known from then on.
    made.on_listed(ContainersListed((), ()), 1_300)
    accepted = AttemptRow(attempt(2), Stage.STARTING)
    assert made.on_assign(HEAD, assign(2), 1_400) == [
        Persist(
            (accepted,),
            then=(StartContainer(attempt(2), JOB), report(Stage.STARTING, task=2)),
        )
    ]


def test_what_is_found_though_said_not_to_have_been_started_goes_with_its_report() -> None:
    """An earlier life that was cut short as it left had deleted its row."""
    made = unlisted()
    made.on_stop(HEAD, Stop(EPOCH, 100, (attempt(),), "cancelled"), 1_000)
    found = ContainerFound(attempt_key(attempt()), 5, exit_code=137)
    assert made.on_listed(ContainersListed((found,), ("docker",)), 1_100) == []
    acked = made.on_report_ack(HEAD, ReportAck(EPOCH, (attempt(),)))
    assert RemoveContainer(attempt_key(attempt())) in acked


def test_an_executor_that_cannot_refuses_and_a_broken_image_fails() -> None:
    made = running()
    gone = ContainerFailed(attempt(), -1, "engine gone", refused=True)
    assert end_in(made.on_failed(gone, 1_200)) == End(EndState.REFUSED, -1, "engine gone")

    made = running()
    broken = ContainerFailed(attempt(), 127, "no such command")
    assert end_in(made.on_failed(broken, 1_200)) == End(EndState.FAILED, 127, "no such command")


def test_inventory_is_not_ready_until_containers_are_listed() -> None:
    made = worker(
        AttemptRow(attempt(0), Stage.RUNNING),
        AttemptRow(attempt(1), Stage.STARTING),
        AttemptRow(attempt(2), Stage.RUNNING),
    )
    request = InventoryRequest(EPOCH, 100, 1)
    assert made.on_inventory_request(HEAD, request, 1_000) == [
        Post(HEAD, Inventory(EPOCH, 1, ready=False))
    ]

    outputs = made.on_listed(
        ContainersListed((ContainerFound(attempt_key(attempt(0)), 5), ContainerFound("stray", 5))),
        1_100,
    )

    never = End(EndState.LOST, reason="the agent restarted before it could start")
    gone = End(EndState.LOST, reason="its PC went down under it", crashed=True)
    assert outputs == [
        Persist((AttemptRow(attempt(0), Stage.RUNNING),), then=(report(Stage.RUNNING),)),
        Persist(
            (AttemptRow(attempt(1), Stage.ENDED, never),),
            then=(report(Stage.ENDED, never, task=1),),
        ),
        Persist(
            (AttemptRow(attempt(2), Stage.ENDED, gone),),
            then=(report(Stage.ENDED, gone, task=2),),
        ),
        RemoveContainer("stray"),
    ]
    assert made.on_inventory_request(HEAD, request, 1_300) == [
        Post(
            HEAD,
            Inventory(
                EPOCH,
                1,
                True,
                (
                    AttemptReport(attempt(0), Stage.RUNNING, 200, None, 5),
                    AttemptReport(attempt(1), Stage.ENDED, 0, never),
                    AttemptReport(attempt(2), Stage.ENDED, 0, gone),
                ),
            ),
        )
    ]


def test_a_container_that_ended_while_the_agent_was_away_is_an_outcome() -> None:
    made = worker(AttemptRow(attempt(), Stage.RUNNING))
    found = ContainerFound(attempt_key(attempt()), 5, 0, False, 9)

    end = end_in(made.on_listed(ContainersListed((found,)), 1_100))

    assert end == End(EndState.SUCCEEDED, 0, "", 5, 9)


def test_what_was_running_when_the_pc_went_down_has_crashed() -> None:
    crashed = End(EndState.LOST, -1, "its PC went down under it", 5, 9, crashed=True)
    found = ContainerFound(attempt_key(attempt()), 5, 255, False, 9, is_lost=True)
    made = worker(AttemptRow(attempt(), Stage.RUNNING))
    assert end_in(made.on_listed(ContainersListed((found,)), 1_100)) == crashed

    made = worker(AttemptRow(attempt(), Stage.STARTING))
    assert end_in(made.on_listed(ContainersListed((found,)), 1_100)) == crashed

    # Told by the engine before it has listed what there is.
    exited = ContainerExited(attempt(), 255, 5, 9, is_lost=True)
    made = worker(AttemptRow(attempt(), Stage.RUNNING))
    assert end_in(made.on_exited(exited, 1_100)) == crashed


def test_what_nobody_crashed_under_is_not_said_to_have_crashed() -> None:
    lost = ContainerFound(attempt_key(attempt()), 5, 255, False, 9, is_lost=True)
    adopted = ContainerFound(attempt_key(attempt()), 5)
    # The agent restarted, its container went on, then the engine was restarted.
    made = worker(AttemptRow(attempt(), Stage.RUNNING))
    made.on_listed(ContainersListed((adopted,)), 1_100)
    end = end_in(made.on_exited(ContainerExited(attempt(), 255, 5, 9, is_lost=True), 1_200))
    assert end == End(EndState.LOST, -1, "the engine was stopped under it", 5, 9)
    # It was being stopped anyway.
    made = worker(AttemptRow(attempt(), Stage.RUNNING, None, True))
    end = end_in(made.on_listed(ContainersListed((lost,)), 1_100))
    assert end == End(EndState.CANCELLED, 255, "", 5, 9)
    # It ended by itself while the agent was away.
    made = worker(AttemptRow(attempt(), Stage.RUNNING))
    ended = ContainerFound(attempt_key(attempt()), 5, 3, False, 9)
    end = end_in(made.on_listed(ContainersListed((ended,)), 1_100))
    assert end == End(EndState.FAILED, 3, "", 5, 9)


def test_a_life_that_ends_politely_leaves_nothing_that_could_have_crashed() -> None:
    made = running()
    outputs = made.on_stop_requested(1_200)

    assert Persist(deletes=(AttemptRow(attempt()).key(),)) in outputs
    assert not [o for o in outputs if isinstance(o, Persist) and o.puts]


def test_the_time_limit_of_an_adopted_attempt_counts_from_its_start() -> None:
    job = job_of("head", 3, timeout_ms=5_000)
    row = AttemptRow(attempt(job=job), Stage.RUNNING)
    made = Worker(
        Identity(id_of("w"), "w", 1), FACTS, WorkerConfig(), make_ledger([JobRow(job)]), (row,)
    )
    made.follow(EPOCH, False, 1_000)
    found = ContainerFound(attempt_key(attempt(job=job)), 5, running_ms=4_000)

    told = (AttemptReport(attempt(job=job), Stage.RUNNING, 4_000, None, 5),)
    assert made.on_listed(ContainersListed((found,)), 1_100) == [
        Persist((row,), then=(Post(HEAD, Report(EPOCH, told)),))
    ]
    assert made.next_deadline_ms() == 2_100
    assert made.on_deadline(2_100) == [StopContainer(attempt(job=job), 10_000)]


def test_what_could_not_be_started_ended_when_the_executor_said_so() -> None:
    made = worker()
    made.on_assign(HEAD, assign(0), 1_000)
    failed = ContainerFailed(attempt(), 127, "no such command", ended_unix_ms=9)
    end = End(EndState.FAILED, 127, "no such command", 0, 9)
    assert end_in(made.on_failed(failed, 1_200)) == end


def test_what_has_ended_here_never_starts_again_whoever_orders_it() -> None:
    made = running()
    made.on_exited(ContainerExited(attempt(), 0, 5, 9), 1_200)
    made.on_report_ack(HEAD, ReportAck(EPOCH, (attempt(),)))
    before = End(EndState.LOST, reason="it has ended here before")
    assert made.on_assign(HEAD, assign(0), 1_300) == [report(Stage.ENDED, before)]

    told = worker()
    end = End(EndState.SUCCEEDED, 0, "", 5, 9)
    patch = TaskPatch(1, 1, Cell(), (AttemptEnd(attempt(1), end),))
    told._ledger.merge((JobPatch(JOB.job_id, JOB, tasks=(patch,)),))
    assert told.on_assign(HEAD, assign(1), 1_000) == [report(Stage.ENDED, end, task=1)]


def test_a_full_disk_refuses_what_was_being_written_down() -> None:
    made = worker()
    made.on_assign(HEAD, assign(0), 1_000)

    assert made.on_disk_failed(1_050) == [
        report(Stage.ENDED, End(EndState.REFUSED, reason="disk full"))
    ]
    assert made.on_started(ContainerStarted(attempt(), 5), 1_100) == [StopContainer(attempt(), 0)]


def test_a_node_that_goes_stops_all_and_says_so() -> None:
    made = running()

    lost = End(EndState.LOST, reason="node went down")
    assert made.on_stop_requested(1_200) == [
        StopContainer(attempt(), 10_000),
        Persist(deletes=(AttemptRow(attempt()).key(),)),
        report(Stage.ENDED, lost),
    ]
    refused = End(EndState.REFUSED, reason="node is going down")
    assert made.on_assign(HEAD, assign(1), 1_300) == [report(Stage.ENDED, refused, task=1)]


def test_a_node_that_offers_less_goes_on_with_what_runs() -> None:
    made = running()

    made.offer(Facts(2, Resources(0, 0), ("docker",), works=False, idle_reason="paused"))
    made.check()

    refused = End(EndState.REFUSED, reason="node takes no work")
    assert made.on_assign(HEAD, assign(1), 1_200) == [report(Stage.ENDED, refused, task=1)]
    assert made.active_attempts() == (attempt(),)


def test_what_an_executor_runs_that_did_not_answer_is_not_concluded_about() -> None:
    made = worker(AttemptRow(attempt(), Stage.RUNNING))
    request = InventoryRequest(EPOCH, 100, 1)

    assert made.on_listed(ContainersListed((), ("process",)), 1_100) == []
    assert made.on_inventory_request(HEAD, request, 1_200) == [
        Post(HEAD, Inventory(EPOCH, 1, ready=False))
    ]
    assert made.on_stop(HEAD, Stop(EPOCH, 100, (attempt(),), ""), 1_300)[1:] == [
        StopContainer(attempt(), 10_000)
    ]
    assert made.on_deadline(30_000) == []
    # Its engine is back: it is adopted, and hears of the stop that it missed.
    found = ContainerFound(attempt_key(attempt()), 5, running_ms=4_000)
    told = (AttemptReport(attempt(), Stage.RUNNING, 4_000, None, 5),)
    assert made.on_listed(ContainersListed((found,), ("docker",)), 40_000) == [
        Persist(
            (AttemptRow(attempt(), Stage.RUNNING, None, True),),
            then=(Post(HEAD, Report(EPOCH, told)),),
        ),
        StopContainer(attempt(), 10_000),
    ]
    assert made.is_ready()


def test_an_executor_that_stays_silent_is_waited_for_no_longer_than_a_minute() -> None:
    made = worker(AttemptRow(attempt(), Stage.RUNNING))
    made.on_listed(ContainersListed((), ()), 1_100)
    made.on_listed(ContainersListed((), ("process",)), 50_000)

    assert made.next_deadline_ms() == 61_100
    assert made.on_deadline(61_099) == []
    gone = End(EndState.LOST, reason="its executor does not answer")
    assert end_in(made.on_deadline(61_100)) == gone
    assert made.is_ready()
    found = ContainerFound(attempt_key(attempt()), 5, running_ms=4_000)
    assert made.on_listed(ContainersListed((found,)), 70_000) == [StopContainer(attempt(), 0)]


def test_an_attempt_adopted_late_has_no_deadline_of_its_executor_left() -> None:
    made = worker(AttemptRow(attempt(), Stage.RUNNING))
    made.on_listed(ContainersListed((), ()), 1_100)
    found = ContainerFound(attempt_key(attempt()), 5, running_ms=4_000)
    made.on_listed(ContainersListed((found,), ("docker",)), 2_000)
    assert made.next_deadline_ms() is None


def test_what_is_owed_of_a_forgotten_job_is_concluded_when_every_executor_has_answered() -> None:
    other = job_of("head", 1, nonce=b"forgotten")
    made = worker(AttemptRow(attempt(0, job=other), Stage.RUNNING))

    made.on_listed(ContainersListed((), ("process",)), 1_050)
    assert made.active_attempts() == (attempt(0, job=other),)
    made.on_listed(ContainersListed((), ("docker", "process")), 1_100)

    assert made.active_attempts() == ()
