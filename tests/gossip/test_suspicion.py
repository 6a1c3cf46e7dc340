"""How long a suspect has to refute."""

from rain.gossip.suspicion import SECOND_HAND_MS, Suspicion, confirmations_possible
from rain.model import NodeId


def suspicion(wanted: int = 2, minimum_ms: int = 1_500, first_hand: bool = True) -> Suspicion:
    return Suspicion(1_000, minimum_ms, 6_000, (NodeId("n01"),), wanted, first_hand)


def test_a_lone_accuser_waits_longest_and_each_confirmation_shortens_it() -> None:
    doubted = suspicion()
    assert doubted.deadline_ms() == 7_000
    assert doubted.confirm(NodeId("n02"))
    assert doubted.deadline_ms() == 4_160
    assert doubted.confirm(NodeId("n03"))
    assert doubted.deadline_ms() == 2_500
    doubted.check()


def test_one_accuser_counts_once_and_more_than_wanted_change_nothing() -> None:
    doubted = suspicion()
    assert not doubted.confirm(NodeId("n01"))
    assert doubted.confirm(NodeId("n02"))
    assert doubted.confirm(NodeId("n03"))
    assert not doubted.confirm(NodeId("n04"))
    assert doubted.accusers == ("n01", "n02", "n03")


def test_hearsay_waits_for_the_accusers_own_verdict() -> None:
    assert suspicion(first_hand=False).deadline_ms() == 7_000 + SECOND_HAND_MS


def test_where_nobody_can_confirm_the_minimum_holds_at_once() -> None:
    assert [confirmations_possible(n) for n in (1, 2, 3, 4, 32)] == [0, 0, 0, 2, 2]
    assert suspicion(wanted=0).deadline_ms() == 2_500
    assert suspicion(wanted=0, minimum_ms=6_000).deadline_ms() == 7_000


def test_a_sick_judge_postpones() -> None:
    doubted = suspicion(wanted=0)
    doubted.not_before_ms = 9_000
    assert doubted.deadline_ms() == 9_000
