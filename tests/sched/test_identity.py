import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rain.model import ENVIRONMENT_MAX, JobId, JobSpec, NodeId
from rain.sched.identity import (
    SECRETS_BYTES_MAX,
    attempt_key,
    is_authentic,
    is_cancel_authentic,
    is_named_rightly,
    job_content,
    job_id_of,
    oversize,
    signed_cancel,
    signed_job,
)
from tests.sched.samples import (
    ANNA,
    BERT,
    FIRST,
    JOBS,
    RIVAL,
    SECOND,
    job_with,
    key_of,
    make_attempt,
    make_cancel,
    make_job,
    verify,
)

NONCE = b"0123456789abcdef"


def test_a_job_id_is_the_hash_of_all_the_rest() -> None:
    job = make_job(3, "a")
    assert is_authentic(job, verify)
    assert re.fullmatch("[a-z2-7]{16}", job.job_id)
    for other in (
        replace(job, spec=replace(job.spec, tasks=4)),
        replace(job, submitted_by="pc2"),
        replace(job, submitter_id=BERT),
        replace(job, created_unix_ms=2),
        replace(job, nonce=NONCE[::-1]),
        replace(job, job_id=JobId("a" * 16)),
        replace(job, person="bert"),
    ):
        assert not is_named_rightly(other)
        assert not is_authentic(other, verify)


def test_a_job_counts_by_the_signature_of_its_submitter_alone() -> None:
    job, bert = make_job(), key_of("bert")
    content = job_content(b"", job.job_id)
    of_another = make_job(name="another")
    assert is_authentic(job, verify)
    for other in (
        replace(job, signature=bert.sign(content)),
        replace(job, public_key=bert.public_key, signature=bert.sign(content)),
        replace(job, signature=of_another.signature),
        replace(job, signature=key_of("anna").sign(job.job_id.encode())),
        replace(job, signature=b""),
        replace(job, public_key=b"", signature=b""),
        replace(job, public_key=job.public_key[:31]),
    ):
        assert is_named_rightly(other), "none of this is part of the id"
        assert not is_authentic(other, verify)


def test_what_was_signed_for_one_pool_counts_in_no_other() -> None:
    key = key_of("anna")
    by = key.public_key, key.sign
    job = signed_job(JobSpec(("true",)), "pc1", 1, NONCE, "anna", *by, b"one")
    cancel = signed_cancel(job.job_id, 1, 9, *by, b"one")
    assert is_authentic(job, verify, b"one")
    assert is_cancel_authentic(job.job_id, cancel, verify, b"one")
    for pool_id in (b"other", b""):
        assert not is_authentic(job, verify, pool_id)
        assert not is_cancel_authentic(job.job_id, cancel, verify, pool_id)


def test_a_cancel_is_signed_with_all_it_says() -> None:
    job, other = make_job(), make_job(name="another")
    cancel = make_cancel(job, 2, 9)
    assert is_cancel_authentic(job.job_id, cancel, verify)
    assert not is_cancel_authentic(other.job_id, cancel, verify)
    for forged in (
        cancel._replace(cancelled_through=3),
        cancel._replace(cancelled_unix_ms=8),
        cancel._replace(cancelled_by=key_of("bert").public_key),
        cancel._replace(cancelled_by=b""),
        cancel._replace(cancel_signature=job.signature),
        cancel._replace(cancel_signature=b"short"),
    ):
        assert not is_cancel_authentic(job.job_id, forged, verify)


@pytest.mark.parametrize(
    ("spec", "excess"),
    [
        (JobSpec((), secrets=(("a", bytes(SECRETS_BYTES_MAX)),)), ""),
        (JobSpec((), secrets=(("a", bytes(SECRETS_BYTES_MAX)), ("b", b"x"))), "64 KiB"),
        (JobSpec((), private_environment=(("A", "x"),) * ENVIRONMENT_MAX), ""),
        (
            JobSpec((), environment=(("B", ""),), private_environment=(("A", "x"),) * 1_024),
            "1024 environment variables",
        ),
        (JobSpec((), private_environment=(("A", "x" * 130_000),) * 9), "1 MiB"),
    ],
)
def test_what_is_private_is_bounded_too(spec: JobSpec, excess: str) -> None:
    told = oversize(job_with(spec))
    assert excess in told
    assert bool(excess) == bool(told)


def test_a_job_id_stays_the_same_between_versions() -> None:
    """Golden: ids are kept on disks for a year."""
    spec = JobSpec(("echo", "hi"), image="alpine")
    assert job_id_of(spec, "pc1", NodeId("n1"), 1, NONCE, "ann") == "xs7bmje2jxypw7pi"


@given(st.lists(st.tuples(st.text("ab", max_size=3), st.integers(0, 9)), unique=True, max_size=8))
def test_different_jobs_have_different_ids(contents: list[tuple[str, int]]) -> None:
    ids = {job_id_of(JobSpec((word,)), "pc1", ANNA, at, NONCE, "ann") for word, at in contents}
    assert len(ids) == len(contents)


def test_an_attempt_key_is_fit_for_a_container_and_unique() -> None:
    job = JOBS[0]
    attempts = [
        make_attempt(which, task, number, epoch, node)
        for which in JOBS
        for task in (0, 1)
        for number in (1, 2)
        for epoch in (FIRST, SECOND, RIVAL)
        for node in (ANNA, BERT)
    ]
    keys = [attempt_key(attempt_id) for attempt_id in attempts]
    assert len(dict.fromkeys(keys)) == len(attempts)
    assert all(re.fullmatch("[a-z2-7]{16}[.][0-9]+[.][0-9]+[.][0-9a-f]{6}", key) for key in keys)
    assert attempt_key(make_attempt(job, 4, 2)).startswith(f"{job.job_id}.4.2.")


@pytest.mark.parametrize("task", [0, 99_999])
def test_an_attempt_key_depends_on_nothing_else(task: int) -> None:
    assert attempt_key(make_attempt(JOBS[0], task)) == attempt_key(make_attempt(JOBS[0], task))
