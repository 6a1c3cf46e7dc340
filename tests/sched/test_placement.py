from hypothesis import given
from hypothesis import strategies as st

from rain.model import Facts, JobId, JobSpec, NodeId, Resources
from rain.sched.placement import (
    ATTEMPTS_PER_NODE_MAX,
    Offer,
    Pick,
    Wish,
    can_ever_be_placed,
    place,
    why,
    why_never,
)

GIB = 1024**3


def offer(name: str, cpus: int = 4_000, used: int = 0, **changes: object) -> Offer:
    capacity = Resources(cpus, 8 * GIB)
    facts = Facts(1, capacity, ("docker",), works=True)
    free = capacity.minus(Resources(used, 0))
    return Offer(NodeId(name), name, facts, free, **changes)  # type: ignore[arg-type]


def wish(name: str = "j", count: int = 1, **spec: object) -> Wish:
    return Wish(JobId(name), JobSpec(("true",), **spec), count)  # type: ignore[arg-type]


def test_the_freest_node_is_picked_and_equals_by_id() -> None:
    offers = [offer("c", used=3_000), offer("b"), offer("a")]

    assert place([wish(count=5)], offers) == (
        Pick(JobId("j"), NodeId("a"), 3),
        Pick(JobId("j"), NodeId("b"), 2),
    )


def test_wishes_are_served_in_their_order_until_nothing_is_left() -> None:
    picks = place([wish("first", 3), wish("second", 3)], [offer("a")])

    assert picks == (Pick(JobId("first"), NodeId("a"), 3), Pick(JobId("second"), NodeId("a"), 1))


def test_a_smaller_wish_still_fits_beside_one_that_does_not() -> None:
    large = wish("large", need=Resources(8_000, 0))

    assert place([large, wish("small")], [offer("a")]) == (Pick(JobId("small"), NodeId("a"), 1),)


def test_every_rejected_node_is_counted_under_one_reason() -> None:
    spec = JobSpec(("true",), node_name="")
    idle = Facts(1, Resources(4_000, GIB), ("docker",), works=False)
    bare = Facts(1, Resources(4_000, GIB), (), works=True)
    offers = [
        offer("down", is_down=True),
        Offer(NodeId("idle"), "idle", idle, idle.capacity),
        Offer(NodeId("bare"), "bare", bare, bare.capacity),
        offer("full", used=4_000),
        offer("tight", cpus=4_000),
        offer("busy", attempts=ATTEMPTS_PER_NODE_MAX),
        offer("new", is_inventoried=False),
        offer("cross"),
    ]
    asked = Wish(JobId("j"), spec, 1, backing_off=(NodeId("cross"),))

    assert why(asked, offers) == {
        "down": 1,
        "takes_no_work": 1,
        "executor_missing": 1,
        "too_few_cpus": 1,
        "too_many_attempts": 1,
        "not_inventoried": 1,
        "refused_recently": 1,
    }
    assert place([asked], offers) == (Pick(JobId("j"), NodeId("tight"), 1),)


def test_memory_name_and_brake_are_reasons_too() -> None:
    assert why(wish(need=Resources(1, 9 * GIB)), [offer("a")]) == {"too_little_memory": 1}
    assert why(wish(node_name="b"), [offer("a")]) == {"wrong_node": 1}
    braked = Wish(JobId("j"), JobSpec(("true",)), 1, is_braked=True)
    assert why(braked, [offer("a")]) == {"braked": 1}
    assert place([braked], [offer("a")]) == ()


def test_what_no_idle_node_could_take_can_never_be_placed() -> None:
    nodes = [("a", offer("a").facts), ("b", offer("b").facts)]
    giant = JobSpec(("true",), need=Resources(64_000, 0))

    assert can_ever_be_placed(JobSpec(("true",)), nodes)
    assert not can_ever_be_placed(giant, nodes)
    assert not can_ever_be_placed(JobSpec(("true",), node_name="c"), nodes)
    assert can_ever_be_placed(JobSpec(("true",), executor="process"), nodes)
    assert why_never(giant, nodes) == {"too_few_cpus": 2}


def test_tasks_that_need_nothing_are_bounded_all_the_same() -> None:
    picks = place([wish(count=5_000, need=Resources(0, 0))], [offer("a")])

    assert picks == (Pick(JobId("j"), NodeId("a"), ATTEMPTS_PER_NODE_MAX),)


amounts = st.builds(Resources, st.integers(0, 8_000), st.integers(0, 64))


@st.composite
def offers_of(draw: st.DrawFn) -> list[Offer]:
    offers = []
    for number in range(draw(st.integers(0, 6))):
        capacity = draw(amounts)
        facts = Facts(1, capacity, ("docker",), works=draw(st.booleans()))
        free = capacity.minus(draw(amounts))
        offers.append(Offer(NodeId(f"n{number}"), f"n{number}", facts, free))
    return offers


@given(offers_of(), st.lists(st.tuples(amounts, st.integers(0, 40)), max_size=6))
def test_nothing_is_overbooked_and_no_room_is_left_to_a_waiting_task(
    offers: list[Offer], needs: list[tuple[Resources, int]]
) -> None:
    wishes = [wish(f"j{n}", count, need=need) for n, (need, count) in enumerate(needs)]

    picks = place(wishes, offers)

    assert picks == place(wishes, offers)
    left = {entry.node_id: entry for entry in offers}
    by_id = {entry.job_id: entry for entry in wishes}
    placed = dict.fromkeys(by_id, 0)
    for pick in picks:
        assert pick.count > 0
        left[pick.node_id] = left[pick.node_id].less(by_id[pick.job_id].spec.need, pick.count)
        placed[pick.job_id] += pick.count
    for job_id, asked in by_id.items():
        assert placed[job_id] <= asked.count
        if placed[job_id] < asked.count:
            fits = [entry for entry in left.values() if not why(asked, [entry])]
            assert not fits
