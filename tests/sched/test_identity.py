import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rain.model import JobId, JobSpec, NodeId
from rain.sched.identity import attempt_key, is_authentic, job_id_of
from tests.sched.samples import ANNA, BERT, FIRST, JOBS, RIVAL, SECOND, make_attempt, make_job

NONCE = b"0123456789abcdef"


def test_a_job_id_is_the_hash_of_all_the_rest() -> None:
    job = make_job(3, "a")
    assert is_authentic(job)
    assert re.fullmatch("[a-z2-7]{16}", job.job_id)
    for other in (
        replace(job, spec=replace(job.spec, tasks=4)),
        replace(job, submitted_by="pc2"),
        replace(job, submitter_id=BERT),
        replace(job, created_unix_ms=2),
        replace(job, nonce=NONCE[::-1]),
        replace(job, job_id=JobId("a" * 16)),
    ):
        assert not is_authentic(other)


def test_a_job_id_stays_the_same_between_versions() -> None:
    """Golden: ids are kept on disks for a year."""
    spec = JobSpec(("echo", "hi"), image="alpine")
    assert job_id_of(spec, "pc1", NodeId("n1"), 1, NONCE) == "yvvrkzkyuihkk7vw"


@given(st.lists(st.tuples(st.text("ab", max_size=3), st.integers(0, 9)), unique=True, max_size=8))
def test_different_jobs_have_different_ids(contents: list[tuple[str, int]]) -> None:
    ids = {job_id_of(JobSpec((word,)), "pc1", ANNA, at, NONCE) for word, at in contents}
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
