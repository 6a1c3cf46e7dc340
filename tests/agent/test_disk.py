"""How a disk does, in a word: told once when it gets slow, and once when it is well again."""

from rain.agent.disk import SAMPLES, SAMPLES_MIN, DiskHealth, DiskState, Pace


def test_half_of_the_writes_slow_is_slow_once() -> None:
    pace = Pace()
    assert [pace.took(300) for _ in range(SAMPLES_MIN + 5)] == [
        *[False] * (SAMPLES_MIN - 1),
        True,
        *[False] * 5,
    ]
    assert pace.is_slow


def test_one_write_that_hangs_is_slow_at_once() -> None:
    pace = Pace()
    assert not any(pace.took(5) for _ in range(40))
    assert pace.took(2_500)
    assert pace.is_slow


def test_at_the_border_nothing_is_said() -> None:
    pace = Pace()
    for _ in range(SAMPLES_MIN):
        pace.took(300)
    assert not any(pace.took(150) for _ in range(3 * SAMPLES)), "not slow enough, nor well"
    assert pace.is_slow
    assert sum(pace.took(20) for _ in range(SAMPLES)) == 1
    assert not pace.is_slow


def test_the_worst_is_told() -> None:
    health = DiskHealth(repair="mended")
    assert health.told() == (DiskState.REPAIRED, "mended")
    health.pace.took(9_000)
    assert health.told() == (DiskState.SLOW, "writes take 9000 ms, the slowest 9000 ms")
    health.refused("no room", "full")
    assert health.told() == (DiskState.FULL, "no room")
    health.refused("no such device", "failing")
    assert health.told() == (DiskState.FAILING, "no such device")
    health.works()
    assert health.told()[0] is DiskState.SLOW
    assert DiskHealth(damage="rows", repair="mended").told() == (DiskState.FAILING, "rows")
    assert DiskHealth().told() == (DiskState.OK, "")
