"""Names that are derived, never drawn: of jobs and of attempts.

A job's id is the hash of everything else about it, so nobody can hang another wish on a known
id, and whoever holds a job can check that it is the one that was accepted. An attempt's key is
what its container, its folder and its log are called.
"""

from base64 import b32encode
from hashlib import blake2b

from msgspec.msgpack import Encoder

from rain.model import AttemptId, Job, JobId, JobSpec, NodeId

JOB_ID_CHARS = 16
"""80 bits: after a million jobs the chance that any two share an id is below one in 10^12."""

JOB_BYTES_MAX = 1_048_576
"""Of a job in its packed form: whatever message carries one job stays far below a frame."""

_encode = Encoder().encode


def job_id_of(
    spec: JobSpec,
    submitted_by: str,
    submitter_id: NodeId,
    created_unix_ms: int,
    nonce: bytes,
) -> JobId:
    """16 characters of a-z and 2-7, the same on every machine."""
    content = _encode((spec, submitted_by, submitter_id, created_unix_ms, nonce))
    digest = blake2b(content, digest_size=JOB_ID_CHARS * 5 // 8).digest()
    return JobId(b32encode(digest).decode("ascii").lower())


def is_too_large(job: Job) -> bool:
    """A property of the job alone: every node refuses the same ones."""
    return len(_encode(job)) > JOB_BYTES_MAX


def is_authentic(job: Job) -> bool:
    """Is its id the hash of its content?"""
    return job.job_id == job_id_of(
        job.spec, job.submitted_by, job.submitter_id, job.created_unix_ms, job.nonce
    )


def attempt_key(attempt_id: AttemptId) -> str:
    """`<job>.<task>.<number>.<6 hex>`: fit for a container's name, a label and a file's name.

    (job, task, number) is unique within one reign; the last part, over epoch and node, keeps
    two sides of a partition apart that gave the same number to different attempts.
    """
    birth = blake2b(_encode((attempt_id.epoch, attempt_id.node_id)), digest_size=3).hexdigest()
    return f"{attempt_id.job_id}.{attempt_id.task}.{attempt_id.number}.{birth}"
