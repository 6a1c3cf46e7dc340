from rain.effects import MemberDown, MemberUp, Output, Persist, Post, ViewChanged
from rain.model import Epoch, Identity, MemberState, NodeId
from rain.sched.messages import Accepted, JobPatch, Replicate, Replicated
from rain.sched.pool import Pool
from rain.sched.records import JobRow
from rain.sched.replication import Receipt, Replication, ReplicationConfig, hold
from tests.sched.samples import OWNER, admitted, id_of, make_ledger, make_people
from tests.sched.wire import FACTS, job_of

A, B, C, D = (id_of(name) for name in "abcd")
EPOCH = Epoch(3, A, 7)
JOB = job_of("d")
PATCH = JobPatch(JOB.job_id, JOB)
RECEIPT = Receipt(D, 5)


def parts(*others: NodeId) -> tuple[Replication, Pool]:
    """`a` coordinates a pool of `a` and these."""
    people = make_people(admitted(name, person=OWNER) for name in "abcd")
    pool = Pool(Identity(A, "a", 1), FACTS, 15_000, people)
    for node_id in others:
        pool.on_up(MemberUp(node_id, node_id, 1, FACTS))
    pool.on_view(ViewChanged((A, *others)))
    replication = Replication(ReplicationConfig(), make_ledger(), pool)
    replication.begin(EPOCH, None)
    return replication, pool


def own_write(number: int) -> Persist:
    return Persist((JobRow(JOB),), then=(Post(A, Replicated(EPOCH, number)),))


def committed(replication: Replication, now_ms: int = 0) -> list[Output]:
    return replication.commit((PATCH,), RECEIPT, now_ms, D)


def test_the_submitter_is_asked_first_and_three_disks_are_enough() -> None:
    replication, _ = parts(B, C, D)

    assert committed(replication) == [
        own_write(2),
        Post(D, Replicate(EPOCH, 3, (PATCH,))),
        Post(B, Replicate(EPOCH, 4, (PATCH,))),
    ]
    assert replication.on_replicated(A, Replicated(EPOCH, 2), 5) == []
    assert replication.on_replicated(D, Replicated(EPOCH, 3), 10) == []
    assert replication.on_replicated(C, Replicated(EPOCH, 4), 15) == []
    assert replication.on_replicated(B, Replicated(EPOCH, 4), 20) == [
        Post(D, Accepted(5, EPOCH, 3))
    ]
    replication.check()
    assert replication.next_deadline_ms() is None


def test_the_coordinator_that_fell_is_asked_and_another_one_besides() -> None:
    replication, _ = parts(B, C, D)
    replication.begin(EPOCH, D)

    asked = [output.to for output in committed(replication) if isinstance(output, Post)]

    assert asked == [D, B, C]


def test_alone_one_disk_is_all_there_is() -> None:
    replication, _ = parts()
    assert committed(replication) == [own_write(2)]
    assert replication.on_replicated(A, Replicated(EPOCH, 2), 5) == [Post(D, Accepted(5, EPOCH, 1))]


def test_who_does_not_answer_is_asked_again_and_then_another_one_too() -> None:
    replication, _ = parts(B, C, D)
    committed(replication)
    replication.on_replicated(A, Replicated(EPOCH, 2), 5)
    replication.on_replicated(D, Replicated(EPOCH, 3), 10)

    assert replication.on_deadline(300) == [Post(B, Replicate(EPOCH, 4, (PATCH,)))]
    assert replication.on_deadline(600) == [
        Post(B, Replicate(EPOCH, 4, (PATCH,))),
        Post(C, Replicate(EPOCH, 5, (PATCH,))),
    ]


def test_one_batch_is_in_flight_per_holder_and_the_rest_gathers() -> None:
    replication, _ = parts(B)
    committed(replication)
    others = [job_of("d", nonce=bytes([n])) for n in range(3)]
    for number, job in enumerate(others):
        patch = JobPatch(job.job_id, job)
        outputs = replication.commit((patch,), Receipt(D, 10 + number), 0)
        assert [type(output) for output in outputs] == [Persist]

    outputs = replication.on_replicated(B, Replicated(EPOCH, 3), 10)

    (post,) = outputs
    assert isinstance(post, Post)
    assert isinstance(post.message, Replicate)
    assert [patch.job for patch in post.message.patches] == others


def test_after_a_loss_the_view_counts_until_the_grace_is_over() -> None:
    replication, pool = parts(B, C)
    committed(replication)
    replication.on_replicated(A, Replicated(EPOCH, 2), 5)
    replication.on_replicated(B, Replicated(EPOCH, 3), 5)
    down = MemberDown(C, MemberState.DEAD)
    pool.on_down(down, 100)
    assert replication.on_members(100) == []

    assert not pool.end_grace(15_099)
    assert pool.end_grace(15_100)
    assert replication.on_members(15_100) == [Post(D, Accepted(5, EPOCH, 2))]


def test_who_left_is_not_waited_for() -> None:
    replication, pool = parts(B, C)
    committed(replication)
    replication.on_replicated(A, Replicated(EPOCH, 2), 5)
    replication.on_replicated(B, Replicated(EPOCH, 3), 5)
    pool.on_down(MemberDown(C, MemberState.LEFT), 100)

    assert replication.on_members(100) == [Post(D, Accepted(5, EPOCH, 2))]


def test_a_renumbered_reign_asks_again_under_its_new_number() -> None:
    replication, _ = parts(B)
    committed(replication)
    higher = Epoch(9, A, 8)

    outputs = replication.renumber(higher, 50)

    assert Post(B, Replicate(higher, 3, (PATCH,))) in outputs
    assert replication.on_replicated(B, Replicated(EPOCH, 3), 60) == []
    assert replication.dropped == {"replicated_unasked": 1}


def test_a_holder_writes_down_even_what_it_knows() -> None:
    ledger = make_ledger()
    ledger.merge((PATCH,))
    write = Persist((JobRow(JOB),), then=(Post(A, Replicated(EPOCH, 3)),))

    assert hold(ledger, A, Replicate(EPOCH, 3, (PATCH,))) == [write]
    ledger.is_disk_failed = True
    assert hold(ledger, A, Replicate(EPOCH, 3, (PATCH,))) == []


def test_a_holder_does_not_vouch_for_what_it_could_not_take_in() -> None:
    forged = JobPatch(JOB.job_id, job_of("x"))

    assert hold(make_ledger(), A, Replicate(EPOCH, 3, (forged,))) == []


def test_a_holder_keeps_what_it_takes_in_beside_what_it_cannot() -> None:
    """Its digest tells others that it knows that, and nobody would send it again."""
    forged = JobPatch(job_of("y").job_id, job_of("x"))

    effects = hold(make_ledger(), A, Replicate(EPOCH, 3, (forged, PATCH)))

    assert effects == [Persist((JobRow(JOB),))]


def test_what_a_holder_held_in_an_earlier_life_counts_no_more_and_it_is_asked_anew() -> None:
    """E14: it may have come back with an older disk."""
    replication, pool = parts(B, C)
    committed(replication)
    replication.on_replicated(A, Replicated(EPOCH, 2), 5)
    replication.on_replicated(B, Replicated(EPOCH, 3), 10)
    assert pool.on_up(MemberUp(B, B, 2, FACTS))
    replication.on_new_life(B)

    # Its copy is written and counted again, and only then is that of the third enough.
    assert Post(B, Replicate(EPOCH, 5, (PATCH,))) in replication.on_members(15)
    assert replication.on_replicated(C, Replicated(EPOCH, 4), 20) == []
    assert replication.on_replicated(B, Replicated(EPOCH, 5), 25) == [
        Post(D, Accepted(5, EPOCH, 3))
    ]
    replication.check()
