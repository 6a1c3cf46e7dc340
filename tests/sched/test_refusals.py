"""How long nodes that refuse a job are left alone, and when they are taken at their word."""

from rain.model import JobId
from rain.sched.refusals import IN_A_ROW_MAX, REFUSALS_MAX, Refusals, RefusalsConfig
from tests.sched.samples import id_of

A, B = id_of("a"), id_of("b")
JOB, OTHER = JobId("one"), JobId("other")


def refused(times: int, *, is_passing: bool = False) -> tuple[Refusals, int]:
    """By A, so often in a row, each time as soon as it was asked again; and when that was over."""
    made, now_ms = Refusals(RefusalsConfig()), 0
    for _ in range(times):
        made.note(JOB, A, now_ms, is_passing=is_passing)
        until_ms = made.next_release_ms()
        assert until_ms is not None
        now_ms = until_ms
        made.release(now_ms)
    return made, now_ms


def test_each_time_twice_as_long_up_to_half_a_minute() -> None:
    assert [refused(times)[1] for times in range(1, 8)] == [
        1_000,
        3_000,
        7_000,
        15_000,
        31_000,
        61_000,
        91_000,
    ]


def test_what_is_refused_in_one_moment_counts_once() -> None:
    made = Refusals(RefusalsConfig())
    for now_ms in (0, 1, 2, 999):
        made.note(JOB, A, now_ms)

    assert made.next_release_ms() == 1_000
    assert made.backing_off(JOB, 999) == (A,)
    assert made.backing_off(JOB, 1_000) == ()
    assert made.backing_off(OTHER, 0) == ()


def test_a_node_that_refuses_again_and_again_is_taken_at_its_word() -> None:
    patient, _ = refused(IN_A_ROW_MAX - 1)
    made, now_ms = refused(IN_A_ROW_MAX)

    assert not patient.is_for_good(JOB, A, (A,))
    assert made.is_for_good(JOB, A, (A,))
    assert not made.is_for_good(JOB, A, (A, B)), "another one that could take it was not asked"
    assert not made.is_for_good(OTHER, A, (A,))
    assert 7 * 60_000 < now_ms < 9 * 60_000


def test_a_refusal_that_passes_is_waited_out_and_not_counted() -> None:
    made, now_ms = refused(IN_A_ROW_MAX, is_passing=True)

    assert not made.is_for_good(JOB, A, (A,))
    assert now_ms > 60_000


def test_who_runs_one_begins_anew() -> None:
    made, now_ms = refused(IN_A_ROW_MAX)
    made.forgive(JOB, A)
    made.note(JOB, A, now_ms)

    assert not made.is_for_good(JOB, A, (A,))
    assert made.backing_off(JOB, now_ms + 999) == (A,)
    assert made.backing_off(JOB, now_ms + 1_000) == ()


def test_refusals_are_remembered_in_bounds() -> None:
    made = Refusals(RefusalsConfig())
    for number in range(REFUSALS_MAX + 1):
        made.note(JobId(f"job{number}"), A, 0)

    assert made.backing_off(JobId("job0"), 0) == ()
    assert made.backing_off(JobId("job1"), 0) == (A,)
