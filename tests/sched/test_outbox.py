import random

from msgspec.structs import replace

from rain.effects import Answer, Persist, Post, Proposed
from rain.model import Epoch, Job, Role
from rain.sched.messages import Accepted, JobPatch, Propose
from rain.sched.outbox import PROPOSALS_MAX, Outbox, OutboxConfig
from rain.sched.records import CancelRow, JobRow
from tests.sched.samples import (
    OWNER,
    admitted,
    cancelled,
    id_of,
    key_of,
    make_cancel,
    make_ledger,
    make_people,
)
from tests.sched.wire import job_of

HEAD, NEXT = id_of("head"), id_of("next")
EPOCH, SUCCESSOR = Epoch(3, HEAD, 7), Epoch(4, NEXT, 7)
JOB = job_of("s")
NUMBER = random.Random(1).getrandbits(62)
PROPOSE = Propose(NUMBER, (JobPatch(JOB.job_id, JOB),))


def outbox(epoch: Epoch | None = EPOCH, role: Role = Role.MEMBER) -> Outbox:
    key = key_of("s")
    people = make_people((admitted("s", role, OWNER), admitted("x", Role.MEMBER, "bert")))
    ledger = make_ledger(people=people)
    made = Outbox(OutboxConfig(), ledger, random.Random(1), people, key.public_key, key.sign)
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
    assert post.message.patches == (cancelled(JOB, by="s"),)


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
        assert patch.cancel() == make_cancel(JOB, 1, 7, by="s")


def test_what_is_too_large_for_a_frame_is_refused() -> None:
    job = job_of("s", environment=(("A", "x" * 130_000),) * 9)

    assert outbox().on_proposed(Proposed(1, (job,)), 0) == [
        Answer(1, 0, "command and environment are larger than 1 MiB")
    ]


def wish(*jobs: Job, cancels: tuple[str, ...] = ()) -> Proposed:
    return Proposed(1, jobs, cancels)


def test_a_pc_that_only_lends_neither_submits_nor_cancels() -> None:
    refused = [Answer(1, 0, "this PC may lend work but not submit: its role is worker")]
    assert outbox(role=Role.WORKER).on_proposed(wish(JOB), 0) == refused
    assert outbox(role=Role.WORKER).on_proposed(wish(cancels=(JOB.job_id,)), 0) == refused


def test_a_pc_without_a_certificate_proposes_nothing() -> None:
    key = key_of("s")
    ledger = make_ledger()
    made = Outbox(
        OutboxConfig(), ledger, random.Random(1), make_people(()), key.public_key, key.sign
    )
    assert made.on_proposed(wish(JOB), 0) == [Answer(1, 0, "this PC is not in the pool (any more)")]


def test_nobody_cancels_what_is_not_theirs() -> None:
    made = outbox()
    others = job_of("x", person="bert")
    made._ledger.merge((JobPatch(others.job_id, others),))

    told = f"job {others.job_id} is bert's: only they or an admin may cancel it"
    assert made.on_proposed(wish(cancels=(others.job_id,)), 0) == [Answer(1, 0, told)]
    assert made._ledger.table.cancel_of(others.job_id) is None


def test_an_admin_cancels_anything_in_their_own_name() -> None:
    made = outbox(role=Role.ADMIN)
    others = job_of("x", person="bert")
    made._ledger.merge((JobPatch(others.job_id, others),))

    (write,) = made.on_proposed(wish(cancels=(others.job_id,)), 0)

    cancel = make_cancel(others, by="s")
    assert isinstance(write, Persist)
    assert write.puts == (CancelRow(others.job_id, *cancel),)
    assert made._ledger.table.cancel_of(others.job_id) == cancel


def test_what_is_submitted_is_of_this_pc_and_its_person() -> None:
    def refused(job: Job) -> str:
        (answer,) = outbox().on_proposed(wish(job), 0)
        assert isinstance(answer, Answer)
        return answer.error

    assert refused(job_of("x")) == "the job is signed by another PC"
    unsigned = replace(JOB, signature=bytes(64))
    assert refused(unsigned) == "the job is not signed by this PC"
    for_bert = job_of("s", person="bert")
    assert refused(for_bert) == "this PC is ann's: what is submitted on it cannot be bert's"
    secret = job_of("s", secrets=(("key", bytes(70_000)),))
    assert refused(secret) == "the job is too large: its secrets are larger than 64 KiB"


def test_only_known_jobs_are_cancelled() -> None:
    made = outbox()
    assert made.on_proposed(wish(cancels=(JOB.job_id,)), 0) == []

    looks = [now_ms for now_ms in range(1, 3_000) if made.next_deadline_ms() == now_ms]
    assert looks == [100]
    assert [made.on_deadline(now_ms) for now_ms in range(100, 3_000, 100)] == [[]] * 29
    told = f"job {JOB.job_id} is not known on this PC"
    assert made.on_deadline(3_000) == [Answer(1, 0, told)]
    assert made.next_deadline_ms() is None


def test_a_cancel_waits_for_the_table_that_brings_its_job() -> None:
    made = outbox()
    made.on_proposed(wish(cancels=(JOB.job_id,)), 0)
    made._ledger.merge((JobPatch(JOB.job_id, JOB),))

    assert made.on_deadline(99) == []
    (write,) = made.on_deadline(100)

    assert isinstance(write, Persist)
    (post,) = write.then
    assert isinstance(post, Post)
    assert isinstance(post.message, Propose)
    assert post.message.patches == (cancelled(JOB, by="s"),)


def test_whose_job_comes_is_judged_when_it_is_known() -> None:
    made = outbox()
    others = job_of("x", person="bert")
    made.on_proposed(wish(cancels=(others.job_id,)), 0)
    made._ledger.merge((JobPatch(others.job_id, others),))

    told = f"job {others.job_id} is bert's: only they or an admin may cancel it"
    assert made.on_deadline(100) == [Answer(1, 0, told)]


def test_cancels_that_wait_are_bounded_together_with_proposals() -> None:
    made = outbox()
    asked = wish(cancels=(JOB.job_id,))
    assert [made.on_proposed(asked, 0) for _ in range(PROPOSALS_MAX)] == [[]] * PROPOSALS_MAX

    told = f"job {JOB.job_id} is not known on this PC"
    assert made.on_proposed(asked, 0) == [Answer(1, 0, told)]
    told = "too many requests are waiting on this PC"
    assert made.on_proposed(wish(JOB), 0) == [Answer(1, 0, told)]


def test_who_speaks_for_the_coordinator_is_counted() -> None:
    made = outbox()
    made.on_proposed(wish(JOB), 0)
    assert made.on_accepted(NEXT, Accepted(NUMBER, EPOCH, 3)) == []
    assert made.dropped == {"order_not_by_the_coordinator": 1}
