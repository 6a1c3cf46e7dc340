"""What is believed about epochs: a leap at once, then a pace that uses up nothing."""

from hypothesis import given
from hypothesis import strategies as st

from rain.election.epochs import (
    CATCH_UP_PER_MS,
    LEAP_MAX,
    NUMBER_MAX,
    SETTLED_PER_MS,
    Epochs,
)
from rain.election.records import EpochRecord
from rain.model import Epoch, NodeId
from tests.election.story import epoch

YEAR_MS = 365 * 24 * 3_600_000


def recovered(number: int) -> Epochs:
    newest = epoch(number, "n1")
    return Epochs(NodeId("n1"), (EpochRecord(newest, newest),))


def test_a_leap_is_believed_once() -> None:
    epochs = recovered(7)

    assert epochs.see(epoch(7 + LEAP_MAX, "n2"), 0, is_settled=True)
    assert not epochs.see(epoch(8 + LEAP_MAX, "n2"), 0, is_settled=True)
    assert epochs.see(epoch(7 + LEAP_MAX, "n3"), 0, is_settled=True), "no number above the newest"
    assert epochs.newest == epoch(7 + LEAP_MAX, "n3")


def test_what_is_not_believed_is_approached() -> None:
    epochs = recovered(7)

    assert not epochs.see(epoch(NUMBER_MAX, "n2"), 0, is_settled=True)
    assert epochs.newest == Epoch(7 + LEAP_MAX, NodeId(""), 0)
    assert not epochs.see(epoch(NUMBER_MAX, "n2"), 10, is_settled=True)
    assert epochs.newest.number == 7 + LEAP_MAX + 10 * SETTLED_PER_MS
    assert not epochs.see(epoch(NUMBER_MAX, "n2"), 20, is_settled=False)
    assert epochs.newest.number == 7 + LEAP_MAX + 10 * (SETTLED_PER_MS + CATCH_UP_PER_MS)


def test_who_follows_nobody_catches_up_with_a_long_separate_life() -> None:
    epochs, far = recovered(7), epoch(20 * LEAP_MAX, "n2")

    reached_ms = next(at for at in range(0, 60_000, 100) if epochs.see(far, at, is_settled=False))

    assert reached_ms == 4_800
    assert epochs.newest == far


def test_a_disk_far_ahead_stays_valid() -> None:
    for number in (2**40, NUMBER_MAX, NUMBER_MAX + 5):
        epochs = recovered(number)
        assert epochs.see(epoch(3, "n2"), 0, is_settled=False)
        assert epochs.newest == epoch(number, "n1")
        epochs.check()


def test_the_last_numbers_are_never_believed() -> None:
    epochs = recovered(NUMBER_MAX - 5)

    assert not epochs.see(epoch(NUMBER_MAX + 1, "n2"), 0, is_settled=True)
    assert epochs.newest.number == NUMBER_MAX
    assert not epochs.see(epoch(NUMBER_MAX + 1, "n2"), 9, is_settled=False)


def test_to_use_up_the_numbers_takes_millennia() -> None:
    assert NUMBER_MAX // CATCH_UP_PER_MS > 1_000 * YEAR_MS
    # A year's lies, and how long a newcomer needs to catch up with them.
    assert YEAR_MS * SETTLED_PER_MS // CATCH_UP_PER_MS < 3 * 3_600_000


@given(
    st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 5_000), st.booleans()), max_size=30)
)
def test_the_newest_rises_and_no_faster_than_that(said: list[tuple[int, int, bool]]) -> None:
    epochs, now_ms, bound = recovered(7), 0, 7 + LEAP_MAX
    for number, pause_ms, is_settled in said:
        now_ms += pause_ms
        bound += pause_ms * (SETTLED_PER_MS if is_settled else CATCH_UP_PER_MS)
        before = epochs.newest
        is_believed = epochs.see(epoch(number, "n2"), now_ms, is_settled=is_settled)
        assert before <= epochs.newest
        assert epochs.newest.number <= min(bound, NUMBER_MAX)
        assert is_believed == (epochs.newest >= epoch(number, "n2"))
