"""Whose clock is believed, and since when."""

import pytest

from rain.model import NodeId
from rain.sched import calendar as module
from rain.sched.calendar import DAY_MS, Calendar, CalendarConfig
from tests.sched.samples import id_of

A, B, C, D = (id_of(name) for name in "abcd")
TODAY_MS = 20_000 * DAY_MS
IN_2099_MS = 47_200 * DAY_MS
STEADY_MS = 1_000


def told(*clocks: tuple[NodeId, int], at_ms: int = 0, voters: tuple[NodeId, ...] = ()) -> Calendar:
    """In a pool of those that tell theirs, if no other voters are named."""
    entitled = voters or tuple(node_id for node_id, _ in clocks)
    calendar = Calendar(CalendarConfig(STEADY_MS), A, lambda: entitled)
    for node_id, unix_ms in clocks:
        calendar.tell(node_id, unix_ms, at_ms)
    return calendar


def test_a_clock_is_believed_when_it_has_gone_on_for_a_while() -> None:
    calendar = told((A, TODAY_MS))

    assert calendar.believed_unix_ms(STEADY_MS - 1) is None
    assert calendar.believed_unix_ms(STEADY_MS) == TODAY_MS + STEADY_MS
    assert calendar.own_unix_ms(5) == TODAY_MS + 5


def test_one_that_jumps_begins_anew() -> None:
    calendar = told((A, TODAY_MS))

    calendar.tell(A, IN_2099_MS, 900)
    calendar.tell(A, TODAY_MS + 1_500, 1_500)

    assert calendar.believed_unix_ms(2_499) is None
    assert calendar.believed_unix_ms(2_500) == TODAY_MS + 2_500


def test_one_that_merely_drifts_goes_on() -> None:
    calendar = told((A, TODAY_MS))

    calendar.tell(A, TODAY_MS + 900 + module.DRIFT_MS, 900)

    assert calendar.believed_unix_ms(1_000) == TODAY_MS + 1_000 + module.DRIFT_MS


@pytest.mark.parametrize(
    ("others", "believed_ms"),
    [
        ((), IN_2099_MS),
        (((B, TODAY_MS),), TODAY_MS),
        (((B, TODAY_MS), (C, TODAY_MS)), TODAY_MS),
        (((B, TODAY_MS), (C, 0)), TODAY_MS),
        (((B, IN_2099_MS), (C, TODAY_MS), (D, TODAY_MS)), TODAY_MS),
    ],
)
def test_who_is_wrong_with_less_than_half_of_the_others_changes_nothing(
    others: tuple[tuple[NodeId, int], ...], believed_ms: int
) -> None:
    assert told((A, IN_2099_MS), *others).believed_unix_ms(STEADY_MS) == believed_ms + STEADY_MS


def test_who_went_counts_no_longer() -> None:
    calendar = told((A, TODAY_MS), (B, 0), (C, TODAY_MS))

    calendar.forget(B)
    calendar.forget(A)

    assert calendar.believed_unix_ms(STEADY_MS) == TODAY_MS + STEADY_MS


def test_who_is_cut_off_from_the_others_believes_no_clock_not_even_its_own() -> None:
    calendar = told((A, IN_2099_MS), (B, TODAY_MS), (C, TODAY_MS))

    calendar.forget(B)
    calendar.forget(C)

    assert calendar.believed_unix_ms(STEADY_MS) is None
    assert calendar.is_own_steady(STEADY_MS)


@pytest.mark.parametrize(("others", "is_believed"), [((B,), False), ((B, C), True)])
def test_more_than_half_of_all_voters_must_have_told_theirs(
    others: tuple[NodeId, ...], is_believed: bool
) -> None:
    clocks = [(node_id, TODAY_MS) for node_id in (A, *others)]
    calendar = told(*clocks, voters=(A, B, C, D))

    assert (calendar.believed_unix_ms(STEADY_MS) is not None) is is_believed


def test_the_clock_of_who_may_not_be_here_counts_for_nothing() -> None:
    calendar = told((A, TODAY_MS), (B, IN_2099_MS), (C, IN_2099_MS), voters=(A,))

    assert calendar.believed_unix_ms(STEADY_MS) == TODAY_MS + STEADY_MS


def test_readings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READINGS_MAX", 2)
    calendar = told((B, 0), (A, TODAY_MS), (C, TODAY_MS))

    assert calendar.believed_unix_ms(STEADY_MS) == TODAY_MS + STEADY_MS
