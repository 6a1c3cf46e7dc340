"""Jobs and cancels count by who signed them, whoever brings them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rain.effects import Admitted
from rain.model import Role
from rain.sched.identity import job_content
from rain.sched.messages import NOT_CANCELLED, Cancel, JobPatch
from rain.sched.table import Table
from rain.sched.warrants import Warrants
from tests.sched.samples import (
    admitted,
    cancelled,
    cancels,
    id_of,
    key_of,
    make_cancel,
    make_job,
    make_people,
    make_table,
    verify,
)

JOB = make_job(3)


def table_with_job() -> Table:
    table = make_table()
    table.merge((JobPatch(JOB.job_id, JOB),))
    return table


@pytest.mark.parametrize(
    ("cancel", "reason"),
    [
        (make_cancel(JOB, by="bert"), "cancel_not_allowed"),
        (make_cancel(JOB, by="stranger"), "cancel_by_unknown"),
        (make_cancel(JOB)._replace(cancel_signature=bytes(64)), "cancel_not_authentic"),
        (make_cancel(JOB)._replace(cancelled_through=9), "cancel_not_authentic"),
        (make_cancel(make_job(1)), "cancel_not_authentic"),
        (make_cancel(JOB)._replace(cancelled_by=b""), "cancel_by_unknown"),
        (
            make_cancel(JOB, by="bert")._replace(cancelled_by=key_of("carl").public_key),
            "cancel_not_authentic",
        ),
        (Cancel(1, 0, b"", b""), "cancel_by_unknown"),
    ],
)
def test_a_cancel_by_who_may_not_is_not_taken(cancel: Cancel, reason: str) -> None:
    table = table_with_job()
    before = table.digest()

    assert table.merge((JobPatch.of_parts(JOB.job_id, cancel=cancel),)) == ()

    assert table.dropped == {reason: 1}
    assert table.cancel_of(JOB.job_id) is None
    assert not table.cancelled(JOB.job_id)
    assert table.digest() == before


@pytest.mark.parametrize("by", ["anna", "carl"])
def test_a_cancel_by_who_may_is_taken_and_says_who(by: str) -> None:
    table = table_with_job()
    patch = cancelled(JOB, 1, 7, by)

    assert table.merge((patch,)) == (patch,)

    assert table.cancelled(JOB.job_id)
    assert table.cancel_of(JOB.job_id) == Cancel(
        1, 7, key_of(by).public_key, make_cancel(JOB, 1, 7, by).cancel_signature
    )


def test_the_rest_of_a_patch_with_a_bad_cancel_is_taken() -> None:
    table = make_table()
    whole = JobPatch.of_parts(JOB.job_id, JOB, make_cancel(JOB, by="bert"))
    assert table.merge((whole,)) == (JobPatch(JOB.job_id, JOB),)


def test_a_cancel_that_cannot_be_judged_yet_is_taken_when_it_comes_again() -> None:
    people = make_people((admitted("anna"),))
    table = make_table(people=people)
    cancel = cancelled(JOB, by="carl")

    table.merge((cancel,))
    table.merge((JobPatch(JOB.job_id, JOB), cancel))
    assert table.dropped == {"cancel_of_unknown_job": 1, "cancel_by_unknown": 1}
    people.admit(admitted("carl", Role.ADMIN))

    assert table.merge((cancel,)) == (cancel,)


def test_what_was_taken_stays_whatever_becomes_of_its_author() -> None:
    people = make_people()
    table = make_table(people=people)
    whole = JobPatch.of_parts(JOB.job_id, JOB, make_cancel(JOB, by="carl"))
    table.merge((whole,))
    people.bar(id_of("carl"))
    people.admit(admitted("dora"))

    rows = table.records((table.patch(JOB.job_id),))
    recovered = make_table(rows, make_people(()))

    assert recovered.digest() == table.digest()
    assert recovered.cancelled(JOB.job_id)
    other = make_table(people=people)
    assert other.merge((whole,)) == (whole,), "a newcomer believes it too"


def test_a_job_is_verified_once() -> None:
    verified: list[bytes] = []

    def counting(public_key: bytes, signature: bytes, content: bytes) -> bool:
        verified.append(content)
        return verify(public_key, signature, content)

    table = Table((), Warrants(counting, make_people()))
    for _ in range(3):
        table.merge((JobPatch.of_parts(JOB.job_id, JOB, make_cancel(JOB)),))
    assert verified == [job_content(b"", JOB.job_id), verified[1]]
    assert verified[0].startswith(b"rain job")
    assert verified[1].startswith(b"rain cancel")


def test_a_job_in_the_name_of_another_is_never_merged() -> None:
    table = make_table()
    bert = key_of("bert")
    for forged in (
        replace(JOB, signature=bytes(64)),
        replace(JOB, signature=bert.sign(job_content(b"", JOB.job_id))),
        replace(JOB, submitted_by="pc9"),
    ):
        assert table.merge((JobPatch(JOB.job_id, forged),)) == ()
    assert table.dropped == {"job_not_authentic": 3}
    assert table.jobs() == ()


@pytest.mark.parametrize(
    ("roll", "reason"),
    [
        ((), "job_by_unknown"),
        ((admitted("anna", Role.MEMBER, "bert"),), "job_not_allowed"),
        ((admitted("anna", Role.WORKER),), "job_not_allowed"),
    ],
)
def test_a_signature_alone_makes_no_job(roll: tuple[Admitted, ...], reason: str) -> None:
    people = make_people(roll)
    table = make_table(people=people)
    whole = JobPatch(JOB.job_id, JOB)

    assert table.merge((whole,)) == ()
    assert table.dropped == {reason: 1}
    people.admit(admitted("anna"))

    assert table.merge((whole,)) == (whole,), "it was only put off"
    people.admit(admitted("anna", Role.WORKER, "bert"))
    assert table.merge((whole,)) == ()
    assert table.dropped == {reason: 1}, "what is known is not judged again"


def test_the_coordinator_brings_what_was_submitted_before_a_pc_became_another_person_s() -> None:
    people = make_people((admitted("anna", Role.WORKER, "bert"),))
    whole = JobPatch(JOB.job_id, JOB)
    assert make_table(people=people).merge((whole,), is_vouched=True) == (whole,)
    forged = JobPatch(JOB.job_id, replace(JOB, signature=bytes(64)))
    assert make_table(people=people).merge((forged,), is_vouched=True) == ()
    assert make_table(people=make_people(())).merge((whole,), is_vouched=True) == ()


def test_a_second_signature_of_its_submitter_changes_nothing() -> None:
    """Whoever signs may do so twice; the first that came stays, and tables agree all the same."""
    table = table_with_job()
    again = replace(JOB, signature=bytes(64))
    assert table.merge((JobPatch(JOB.job_id, again),)) == ()
    assert table.job(JOB.job_id) == JOB


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(cancels(JOB), max_size=6), st.booleans())
def test_merging_signed_cancels_in_any_order_is_a_join(
    data: st.DataObject, drawn: list[Cancel], is_at_once: bool
) -> None:
    """Commutative, associative, idempotent: all that matters is which ones there were."""
    people = make_people()
    sound = [
        cancel
        for cancel in drawn
        if not Warrants(verify, people).cancel_refusal(JOB, cancel)
        and cancel.cancelled_by in (key_of("anna").public_key, key_of("carl").public_key)
    ]
    largest = max(sound, default=NOT_CANCELLED)
    shuffled = data.draw(st.permutations(drawn + drawn[::2]))
    middle = data.draw(st.integers(0, len(shuffled)))
    tables = []
    for part in (shuffled, shuffled[:middle], shuffled[middle:]):
        table = table_with_job()
        pieces = [JobPatch.of_parts(JOB.job_id, cancel=cancel) for cancel in part]
        for batch in [pieces] if is_at_once else [[piece] for piece in pieces]:
            table.merge(batch)
        table.check()
        tables.append(table)
    whole, one, other = tables
    one.merge((other.patch(JOB.job_id),))
    one.check()
    assert whole.patch(JOB.job_id).cancel() == largest
    assert one.patch(JOB.job_id) == whole.patch(JOB.job_id)
    assert one.digest() == whole.digest()
    assert whole.merge((one.patch(JOB.job_id),)) == ()


def test_an_author_of_lower_role_may_for_their_own_person() -> None:
    people = make_people((admitted("anna"), admitted("lent", Role.WORKER, "anna")))
    table = make_table(people=people)
    table.merge((JobPatch(JOB.job_id, JOB), cancelled(JOB, by="lent")))
    assert table.cancelled(JOB.job_id), "the way in is barred to workers, not what they signed"
