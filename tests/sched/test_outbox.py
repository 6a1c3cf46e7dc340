import random

from rain.effects import Answer, Persist, Post, Proposed
from rain.model import Epoch, NodeId
from rain.sched.ledger import Ledger
from rain.sched.messages import Accepted, JobPatch, Propose
from rain.sched.outbox import Outbox, OutboxConfig
from rain.sched.records import JobRow
from tests.sched.wire import job_of

HEAD, NEXT = NodeId("head"), NodeId("next")
EPOCH, SUCCESSOR = Epoch(3, HEAD, 7), Epoch(4, NEXT, 7)
JOB = job_of("s")
NUMBER = random.Random(1).getrandbits(62)
PROPOSE = Propose(NUMBER, (JobPatch(JOB.job_id, JOB),))


def outbox(epoch: Epoch | None = EPOCH) -> Outbox:
    made = Outbox(OutboxConfig(), Ledger(()), random.Random(1))
    made.follow(epoch, 0)
    return made


def test_a_wish_is_written_down_here_before_it_is_proposed() -> None:
    assert outbox().on_proposed(Proposed(1, (JOB,)), 0) == [
        Persist((JobRow(JOB),), then=(Post(HEAD, PROPOSE),))
    ]


def test_it_is_repeated_with_the_same_content_to_whoever_coordinates() -> None:
    made = outbox()
    made.on_proposed(Proposed(1, (JOB,)), 0)

    assert made.next_deadline_ms() == 500
    assert made.on_deadline(499) == []
    assert made.on_deadline(500) == [Post(HEAD, PROPOSE)]
    assert made.follow(None, 600) == []
    assert made.on_deadline(1_100) == []
    assert made.follow(SUCCESSOR, 1_200) == [Post(NEXT, PROPOSE)]


def test_only_the_followed_reign_accepts() -> None:
    made = outbox()
    made.on_proposed(Proposed(1, (JOB,)), 0)

    assert made.on_accepted(NEXT, Accepted(NUMBER, SUCCESSOR, 3)) == []
    assert made.on_accepted(NEXT, Accepted(NUMBER, EPOCH, 3)) == []
    assert made.on_accepted(HEAD, Accepted(NUMBER, EPOCH, 3)) == [Answer(1, 3)]
    assert made.on_accepted(HEAD, Accepted(NUMBER, EPOCH, 3)) == []
    assert made.next_deadline_ms() is None


def test_patience_ends_with_an_honest_answer() -> None:
    made = outbox(None)
    assert made.on_proposed(Proposed(1, (JOB,)), 0) == [Persist((JobRow(JOB),))]
    assert made.next_deadline_ms() == 10_000

    assert made.on_deadline(10_000) == [
        Answer(
            1,
            1,
            "no coordinator confirmed it in time; it is kept on this PC and will be sent on",
        )
    ]


def test_a_cancel_is_a_patch_through_the_newest_generation() -> None:
    made = outbox()
    made.on_proposed(Proposed(1, (JOB,)), 0)

    (write,) = made.on_proposed(Proposed(2, (), (JOB.job_id,)), 100)

    assert isinstance(write, Persist)
    (post,) = write.then
    assert isinstance(post, Post)
    assert isinstance(post.message, Propose)
    assert post.message.patches == (JobPatch(JOB.job_id, cancelled_through=1),)


def test_a_second_cancel_is_as_old_as_the_first() -> None:
    made = outbox()
    made.on_proposed(Proposed(1, (JOB,)), 0)
    for at_unix_ms in (7, 9):
        (write,) = made.on_proposed(Proposed(2, (), (JOB.job_id,), at_unix_ms), 100)
        assert isinstance(write, Persist)
        (post,) = write.then
        assert isinstance(post, Post)
        assert isinstance(post.message, Propose)
        (patch,) = post.message.patches
        assert patch.cancel() == (1, 7)


def test_what_is_too_large_for_a_frame_is_refused() -> None:
    job = job_of("s", environment=(("A", "x" * 130_000),) * 9)

    assert outbox().on_proposed(Proposed(1, (job,)), 0) == [
        Answer(1, 0, "command and environment are larger than 1 MiB")
    ]
