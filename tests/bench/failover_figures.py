"""What it costs when a PC goes: the coordinator, two at once, a worker, one that says goodbye.

Measured from the instant of the fault to three others: the first order that a surviving node
gives in the next reign, as it tells in its diary; the start of the container of a job that was
submitted at that instant on a survivor, by the engine's events; and the acknowledgement of that
job. Order minus fault is Rain's own figure; the engine's create and start come on top.
"""

from collections.abc import Callable, Sequence

from tests.bench.rounds import (
    FIGURE_WAIT_S,
    Asking,
    Json,
    client,
    column,
    first_order,
    measured,
    now_unix_s,
    pool,
    quiet,
    say,
    spec,
    spread,
    told,
)
from tests.testbed.engine import Engine
from tests.testbed.lan import Pc, wait_until
from tests.testbed.witness import Witness

POOL = 5
WORKER_TASKS = 10
WORKER_SLEEP_S = 60
HANDOVER_WAIT_S = 20.0


def coordinator_killed(engine: Engine, rounds: int) -> list[Json]:
    """kill -9 of the coordinator's agent."""
    return _lost(engine, rounds, "coordinator's process killed", 1, Pc.kill, Pc.up)


def coordinator_cut(engine: Engine, rounds: int) -> list[Json]:
    """The coordinator's cable: nothing is refused or reset, there is only silence."""
    title = "coordinator's cable cut"
    return _lost(engine, rounds, title, 1, Pc.cut_cable, Pc.mend_cable)


def two_deaths(engine: Engine, rounds: int) -> list[Json]:
    """The coordinator and the one that would have stood first, cables out at the same moment."""
    title = "coordinator and next in rank, cables cut"
    return _lost(engine, rounds, title, 2, Pc.cut_cable, Pc.mend_cable)


def _lost(
    engine: Engine,
    rounds: int,
    title: str,
    deaths: int,
    strike: Callable[[Pc], object],
    mend: Callable[[Pc], object],
) -> list[Json]:
    with pool(engine, POOL) as (net, witness):

        def once() -> Json:
            status = quiet(net.pcs, witness)
            dying = _in_rank(net.pcs, status)[:deaths]
            others = [pc for pc in net.pcs if pc not in dying]
            number = int(status["epoch"]["number"])
            struck_s = now_unix_s()
            for pc in dying:
                strike(pc)
            asking = Asking(others[0])
            found = _figures(others, witness, asking, number, struck_s)
            for pc in dying:
                mend(pc)
            for pc in dying:
                pc.wait_ready()
            return found

        figures = measured(title, rounds, once)
    say(f"{title}: first order of the next reign", spread(column(figures, "order")))
    say("  a job submitted then: acknowledged", spread(column(figures, "acknowledged")))
    say("  its container started (engine's events)", spread(column(figures, "container")))
    return figures


def _figures(
    others: Sequence[Pc], witness: Witness, asking: Asking, number: int, struck_s: float
) -> Json:
    job = asking.wait()
    starts = wait_until(lambda: witness.starts(job), FIGURE_WAIT_S, "the job's container starts")
    order_s = wait_until(
        lambda: first_order(others, number, struck_s), FIGURE_WAIT_S, "an order of the next reign"
    )
    return {
        "order": order_s - struck_s,
        "acknowledged": asking.acknowledged_s - struck_s,
        "container": starts[0].at_ns / 1e9 - struck_s,
    }


def _in_rank(pcs: Sequence[Pc], status: Json) -> list[Pc]:
    """The coordinator, then the others as they would stand: equal ranks, so by id."""
    ids = {row["name"]: row["id"] for row in client(pcs[0]).call("nodes")["nodes"]}
    chief = status["coordinator"]["name"]
    return sorted(pcs, key=lambda pc: (pc.name != chief, ids[pc.name]))


def worker_cut(engine: Engine, rounds: int) -> list[Json]:
    """A worker's cable: its task runs elsewhere, by the engine's events."""
    title = "worker's cable cut"
    with pool(engine, POOL) as (net, witness):

        def once() -> Json:
            status = quiet(net.pcs, witness)
            chief, *others = _in_rank(net.pcs, status)
            words = ["sleep", str(WORKER_SLEEP_S)]
            job = client(chief).call("submit", spec=spec(words, WORKER_TASKS))["job_id"]
            wait_until(lambda: len(witness.starts(job)) == WORKER_TASKS, FIGURE_WAIT_S, "all run")
            busy = {seen.node for seen in witness.starts(job)}
            cut = next(pc for pc in reversed(others) if pc.name in busy)
            theirs = {seen.task for seen in witness.starts(job) if seen.node == cut.name}
            struck_s = now_unix_s()
            cut.cut_cable()

            def again() -> list[int]:
                starts = [s for s in witness.starts(job) if s.task in theirs]
                moved = {s.task: s.at_ns for s in reversed(starts) if s.node != cut.name}
                return sorted(moved.values()) if set(moved) == theirs else []

            moved = wait_until(again, FIGURE_WAIT_S, "its tasks run elsewhere")
            cut.mend_cable()
            client(chief).call("cancel", ids=[job])
            return {
                "first task": moved[0] / 1e9 - struck_s,
                "last task": moved[-1] / 1e9 - struck_s,
            }

        figures = measured(title, rounds, once)
    say(f"{title}: its first task runs elsewhere", spread(column(figures, "first task")))
    say("  the last of its tasks", spread(column(figures, "last task")))
    return figures


def handover(engine: Engine, rounds: int) -> list[Json]:
    """`rain down` of the coordinator: how long nobody coordinates, by the two diaries."""
    title = "planned handover (rain down)"
    with pool(engine, POOL) as (net, witness):

        def once() -> Json:
            status = quiet(net.pcs, witness)
            leaving, *others = _in_rank(net.pcs, status)
            number = int(status["epoch"]["number"])
            struck_s = now_unix_s()
            asking = Asking(others[0])
            client(leaving).call("down")

            def reigns() -> tuple[list[Json], list[Json]]:
                began = [li for pc in others for li in told(pc, "reign_began", struck_s)]
                ended = told(leaving, "reign_ended", struck_s)
                return [li for li in began if li["number"] > number], ended

            wait_until(lambda: all(reigns()), HANDOVER_WAIT_S, "one reign ended, one began")
            began, ended = reigns()
            gap_s = min(li["at_s"] for li in began) - min(li["at_s"] for li in ended)
            asking.wait()
            assert leaving.agent is not None
            leaving.agent.wait(HANDOVER_WAIT_S)
            leaving.agent = None
            leaving.up()
            leaving.wait_ready()
            return {
                "nobody": max(0.0, gap_s),
                "acknowledged": asking.acknowledged_s - struck_s,
            }

        figures = measured(title, rounds, once)
    say(f"{title}: without a coordinator", spread(column(figures, "nobody")))
    say("  a job submitted at that moment: acknowledged", spread(column(figures, "acknowledged")))
    return figures
