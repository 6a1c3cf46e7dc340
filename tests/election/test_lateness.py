"""The own load: the worst gap of the last second, and whether it never ends."""

from hypothesis import given
from hypothesis import strategies as st

from rain.election.config import ElectionConfig
from rain.election.lateness import LOAD_MAX_MS, Lateness

CONFIG = ElectionConfig()


def test_the_worst_gap_of_the_last_second_counts() -> None:
    lateness = Lateness(CONFIG)
    assert lateness.worst_ms(0) == 0
    lateness.note(90, 100)
    lateness.note(300, 200)
    lateness.note(60, 900)
    assert lateness.worst_ms(1_000) == 300
    assert lateness.worst_ms(1_199) == 300
    assert lateness.worst_ms(1_200) == 60
    assert lateness.worst_ms(1_900) == 0


def test_a_day_of_sleep_is_told_as_a_minute() -> None:
    lateness = Lateness(CONFIG)
    lateness.note(86_400_000, 0)
    assert lateness.worst_ms(0) == LOAD_MAX_MS


def test_lame_is_who_never_has_a_second_of_rest() -> None:
    lateness = Lateness(CONFIG)
    for at_ms in range(0, 10_000, 900):
        lateness.note(251, at_ms)
        assert not lateness.is_lame(at_ms)
    lateness.note(251, 10_000)
    assert lateness.is_lame(10_000)
    assert not lateness.is_lame(11_000)
    # One second of rest, and it begins anew.
    lateness.note(251, 11_000)
    assert not lateness.is_lame(11_000)


def test_small_gaps_make_nobody_lame() -> None:
    lateness = Lateness(CONFIG)
    for at_ms in range(0, 20_000, 100):
        lateness.note(250, at_ms)
    assert not lateness.is_lame(20_000)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2_000)), max_size=40))
def test_it_is_the_maximum_over_the_window(gaps: list[tuple[int, int]]) -> None:
    lateness, now_ms, noted = Lateness(CONFIG), 0, []
    for pause_ms, lag_ms in gaps:
        now_ms += pause_ms
        lateness.note(lag_ms, now_ms)
        noted.append((now_ms, lag_ms))
        expected = max(lag for at, lag in noted if now_ms - at < CONFIG.load_window_ms)
        assert lateness.worst_ms(now_ms) == expected
