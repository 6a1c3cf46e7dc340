"""When the absent are rung, and when they are forgotten."""

from rain.gossip.retries import Retries
from rain.model import NodeId

GONE = NodeId("n01")


def rings_until(retries: Retries, end_ms: int) -> list[int]:
    rings: list[int] = []
    while (deadline_ms := retries.next_deadline_ms()) is not None and deadline_ms <= end_ms:
        if retries.due(deadline_ms):
            rings.append(deadline_ms)
        elif retries.forgotten(deadline_ms):
            break
    return rings


def test_the_dead_are_rung_soon_then_rarely_until_they_are_forgotten() -> None:
    retries = Retries(first_ms=2_000, interval_ms=30_000, forget_after_ms=100_000)
    retries.add(GONE, 0, ring=True, delay_ms=2_000)
    assert rings_until(retries, 200_000) == [2_000, 4_000, 8_000, 16_000, 32_000, 62_000, 92_000]
    assert retries.forgotten(100_000) == [GONE]


def test_who_left_is_not_rung() -> None:
    retries = Retries(first_ms=2_000, interval_ms=30_000, forget_after_ms=100_000)
    retries.add(GONE, 0, ring=False, delay_ms=0)
    retries.hasten(GONE, 500)
    assert retries.next_deadline_ms() == 100_000
    assert retries.due(99_999) == []
    retries.drop(GONE)
    assert retries.next_deadline_ms() is None


def test_a_sign_of_life_hastens_but_not_without_end() -> None:
    retries = Retries(first_ms=2_000, interval_ms=30_000, forget_after_ms=10**9)
    retries.add(GONE, 0, ring=True, delay_ms=2_000)
    rings_until(retries, 40_000)
    retries.hasten(GONE, 40_000)
    assert retries.next_deadline_ms() == 40_000
    assert retries.due(40_000) == [GONE]
    retries.hasten(GONE, 40_001)
    assert retries.next_deadline_ms() == 41_000
    retries.hasten(NodeId("nobody"), 40_001)
    assert retries.absent() == [GONE]
