"""Own health: bounds, and the ban on accusing after a lag."""

from rain.gossip.health import SCORE_MAX, OwnHealth


def test_a_long_lag_forbids_accusations_for_three_clean_intervals() -> None:
    health = OwnHealth(interval_ms=500)
    health.lagged(250, now_ms=1_000)
    assert health.may_accuse(1_000)
    health.lagged(251, now_ms=1_000)
    assert not health.may_accuse(2_499)
    assert health.accuse_from_ms() == 2_500
    assert health.may_accuse(2_500)


def test_a_short_lag_makes_an_interval_unclean() -> None:
    health = OwnHealth(interval_ms=500)
    health.lagged(300, now_ms=1_000)
    health.lagged(60, now_ms=2_000)
    assert not health.may_accuse(3_499)
    assert health.may_accuse(3_500)


def test_a_lag_of_no_account_changes_nothing() -> None:
    health = OwnHealth(interval_ms=500)
    health.lagged(50, now_ms=1_000)
    assert health.score == 0
    health.lagged(51, now_ms=1_000)
    assert health.score == 1


def test_the_score_keeps_its_bounds() -> None:
    health = OwnHealth(interval_ms=500)
    health.improve()
    assert health.score == 0
    health.worsen(20)
    assert health.score == SCORE_MAX
    health.check()
