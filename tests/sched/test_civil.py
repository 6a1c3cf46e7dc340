from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.sched.civil import civil_from_days, rfc3339

EPOCH = date(1970, 1, 1)


@given(st.dates())
def test_dates_are_those_of_the_calendar(day: date) -> None:
    assert civil_from_days((day - EPOCH).days) == (day.year, day.month, day.day)


def test_every_day_of_four_centuries() -> None:
    for days in range(-1_000, 146_097):
        day = EPOCH + timedelta(days)
        assert civil_from_days(days) == (day.year, day.month, day.day)


@given(st.integers(0, 253_402_300_799_999))
def test_times_are_those_of_the_calendar(unix_ms: int) -> None:
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=unix_ms)
    expected = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert rfc3339(unix_ms) == expected


@pytest.mark.parametrize(
    ("unix_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_741_536_300_250, "2025-03-09T16:05:00.250Z"),
    ],
)
def test_some_times(unix_ms: int, text: str) -> None:
    assert rfc3339(unix_ms) == text
