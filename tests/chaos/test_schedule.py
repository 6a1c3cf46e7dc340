"""What is drawn from a seed: the same for the same seed, bounded, and of every kind."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.schedule import (
    CALM_S,
    COORDINATOR,
    FULL_PCS,
    JOB_KINDS,
    KINDS,
    OLD_PCS_MAX,
    PCS,
    UPGRADE,
    blows,
    old_pcs,
    retries_of,
    script_of,
    tasks,
)

SEEDS = st.integers(0, 10**6)


@given(SEEDS, st.integers(60, 600))
@settings(max_examples=50, deadline=None)
def test_the_same_seed_gives_the_same_schedule_within_its_time(seed: int, seconds: int) -> None:
    drawn = blows(seed, seconds)
    assert drawn == blows(seed, seconds)
    assert tasks(seed, seconds) == tasks(seed, seconds)
    assert [blow.at_s for blow in drawn] == sorted(blow.at_s for blow in drawn)
    for blow in drawn:
        assert 0 < blow.at_s <= seconds
        if blow.kind in KINDS:
            low, high = KINDS[blow.kind].lasts_s
            assert low - 0.01 <= blow.lasts_s <= high + 0.01
        if blow.kind == "disk full":
            assert blow.on in FULL_PCS
        if blow.kind in ("split", "deaf"):
            assert 0 < len(blow.others) < PCS
            assert blow.on not in blow.others
    for task in tasks(seed, seconds):
        assert bool(task.cancel_at_s) == (task.kind == "cancelled")
        assert task.cancel_at_s <= seconds


@given(SEEDS)
@settings(max_examples=50, deadline=None)
def test_ninety_seconds_have_every_kind_and_a_calm(seed: int) -> None:
    drawn = blows(seed, 90)
    assert {blow.kind for blow in drawn} == {*KINDS, UPGRADE}
    struck = [blow.at_s for blow in drawn if blow.kind != UPGRADE]
    assert max(b - a for a, b in pairwise(struck)) >= CALM_S[0] - 0.02
    assert 1 <= len(old_pcs(seed)) <= OLD_PCS_MAX
    assert sum(blow.kind == UPGRADE for blow in drawn) == len(old_pcs(seed))


def test_ten_minutes_have_every_kind_of_job_and_hit_the_coordinator() -> None:
    assert {task.kind for task in tasks(1, 600)} == set(JOB_KINDS)
    assert any(blow.on == COORDINATOR for blow in blows(1, 600))


def test_every_task_says_who_it_is() -> None:
    for task in tasks(2, 600):
        assert script_of(task).startswith(f'echo {task.nonce} "$RAIN_JOB_ID" "$RAIN_TASK_INDEX"')
        assert retries_of(task) >= (1 if task.kind in ("flaky", "failing") else 0)
