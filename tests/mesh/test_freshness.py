"""Windows and proofs: each number once, nothing of who has not answered, all of it bounded."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rain.mesh.freshness import (
    CHALLENGE_EVERY,
    CHALLENGES_AT_ONCE,
    SENDERS_MAX,
    WINDOW,
    Doubles,
    Freshness,
)
from tests.mesh.sealing import dice

A = b"a" * 32
B = b"b" * 32


def proven(boot_epoch: int = 1, sequence: int = 0) -> Freshness:
    freshness = Freshness(dice("1"))
    assert not freshness.take(A, boot_epoch, sequence)
    assert freshness.prove(A, boot_epoch, sequence, freshness.open_nonce(A))
    return freshness


@given(st.lists(st.integers(1, 40), max_size=60))
def test_every_number_after_the_proof_is_taken_exactly_once(order: list[int]) -> None:
    freshness = proven(sequence=10)
    taken = []
    for sequence in order:
        if freshness.refusal(A, 1, sequence):
            assert freshness.refusal(A, 1, sequence) == "replayed"
        else:
            assert freshness.take(A, 1, sequence)
            taken.append(sequence)

    assert taken == [sequence for sequence in dict.fromkeys(order) if sequence > 10]
    freshness.check()


def test_the_window_takes_what_is_late_but_not_too_late() -> None:
    freshness = proven()
    freshness.take(A, 1, WINDOW + 1)

    assert freshness.refusal(A, 1, 1) == "replayed"
    assert freshness.refusal(A, 1, 2) == ""
    assert freshness.take(A, 1, 2)
    assert freshness.refusal(A, 1, 2) == "replayed"
    freshness.take(A, 1, 2**64 - 1)
    assert freshness.refusal(A, 1, WINDOW + 2) == "replayed"
    freshness.check()


def test_only_the_nonce_that_this_sender_was_asked_with_proves_it() -> None:
    freshness = Freshness(dice("1"))
    freshness.take(A, 1, 1)
    freshness.take(B, 1, 1)
    nonce_a, nonce_b = freshness.open_nonce(A), freshness.open_nonce(B)

    assert nonce_a != nonce_b
    assert not freshness.prove(A, 1, 2, nonce_b)
    assert not freshness.prove(A, 1, 2, b"")
    assert not freshness.prove(A, 0, 2, nonce_a)
    assert freshness.prove(A, 1, 2, nonce_a)
    assert not freshness.prove(A, 1, 3, nonce_a)
    assert freshness.open_nonce(A) == b""


def test_a_later_boot_may_answer_what_an_earlier_one_was_asked() -> None:
    freshness = Freshness(dice("1"))
    freshness.take(A, 5, 1)

    assert freshness.prove(A, 6, 9, freshness.open_nonce(A))
    assert freshness.refusal(A, 5, 2) == "old_boot"
    assert freshness.take(A, 6, 10)


def test_a_newer_boot_displaces_the_older_only_when_it_is_proven() -> None:
    freshness = proven(boot_epoch=1)

    assert not freshness.take(A, 2, 1)
    assert freshness.take(A, 1, 1)
    assert freshness.prove(A, 2, 2, freshness.open_nonce(A))
    assert freshness.refusal(A, 1, 2) == "old_boot"
    assert freshness.take(A, 2, 3)


def test_the_unproven_are_looked_at_once_and_asked_now_and_then() -> None:
    freshness = Freshness(dice("1"))
    asked = []
    for sequence in range(1, 33):
        assert freshness.refusal(A, 1, sequence) == ""
        freshness.take(A, 1, sequence)
        if freshness.challenge(A):
            asked.append(sequence)
        assert freshness.refusal(A, 1, sequence) == "replayed"

    assert asked == [*range(1, CHALLENGES_AT_ONCE + 1), *range(CHALLENGE_EVERY, 33, 8)]
    assert freshness.refusal(A, 0, 99) == "old_boot"


def test_the_older_boot_is_told_now_and_then() -> None:
    freshness = proven(boot_epoch=7)

    told = [freshness.newer_to_tell(A, 6) for _ in range(17)]

    assert [at for at, newer in enumerate(told) if newer == 7] == [0, 8, 16]
    assert set(told) == {7, None}


def test_who_is_forgotten_proves_again_and_the_unproven_displace_nobody() -> None:
    freshness = proven(sequence=5)
    keys = [at.to_bytes(32, "big") for at in range(SENDERS_MAX * 2)]
    for key in keys:
        freshness.take(key, 1, 1)
    freshness.check()
    assert freshness.take(A, 1, 6)

    for key in keys[-SENDERS_MAX:]:
        assert freshness.prove(key, 1, 2, freshness.open_nonce(key))
    freshness.check()

    assert not freshness.take(A, 1, 6)
    assert freshness.open_nonce(keys[0]) == b""


def test_a_double_is_who_answers_ones_own_nonce() -> None:
    doubles = Doubles(dice("1"))
    nonce = doubles.challenge()

    assert doubles.is_own(nonce)
    assert not doubles.prove(9, b"other")
    assert doubles.epoch is None
    assert doubles.prove(3, nonce)
    assert doubles.prove(2, nonce)
    assert doubles.epoch == 3


class Play(RuleBasedStateMachine):
    """A sender that restarts, a receiver that restarts, and a recording of all there ever was."""

    def __init__(self) -> None:
        super().__init__()
        self.life = 1
        self.receiver = Freshness(dice("life 1"))
        self.boot_epoch = 1
        self.sequence = 0
        self.recorded: list[tuple[int, int]] = []
        self.taken: set[tuple[int, int]] = set()

    def arrive(self, boot_epoch: int, sequence: int) -> None:
        if self.receiver.refusal(A, boot_epoch, sequence):
            return
        if self.receiver.take(A, boot_epoch, sequence):
            assert (boot_epoch, sequence) not in self.taken, "M1: taken twice"
            self.taken.add((boot_epoch, sequence))

    @rule(lost=st.booleans())
    def speaks(self, lost: bool) -> None:
        self.sequence += 1
        self.recorded.append((self.boot_epoch, self.sequence))
        if not lost:
            self.arrive(self.boot_epoch, self.sequence)

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        if self.recorded:
            self.arrive(*data.draw(st.sampled_from(self.recorded)))

    @rule()
    def proves(self) -> None:
        nonce = self.receiver.open_nonce(A)
        if nonce:
            self.sequence += 1
            self.recorded.append((self.boot_epoch, self.sequence))
            assert not self.receiver.refusal(A, self.boot_epoch, self.sequence)
            assert self.receiver.prove(A, self.boot_epoch, self.sequence, nonce)
            self.speaks(lost=False)
            assert self.recorded[-1] in self.taken, "what is said after a proof is taken"

    @rule()
    def sender_restarts(self) -> None:
        self.boot_epoch += 1
        self.sequence = 0

    @rule()
    def receiver_restarts(self) -> None:
        self.life += 1
        self.receiver = Freshness(dice(f"life {self.life}"))

    @invariant()
    def is_sound(self) -> None:
        self.receiver.check()


TestPlay = Play.TestCase
