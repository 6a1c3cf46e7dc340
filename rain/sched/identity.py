"""Names that are derived, never drawn: of jobs and of attempts; and what is signed under them.

A job's id is the hash of everything else about it, so nobody can hang another wish on a known
id, and whoever holds a job can check that it is the one that was accepted. Its submitter signs
that id: nobody else can make a job in its name, whichever way the job travels. A cancel is
signed likewise by whoever gave it. A node's key outlives its pool, so the pool is part of what is
signed: what was signed for one counts in no other. An attempt's key is what its container, its
folder and its log are called.
"""

from base64 import b32encode
from hashlib import blake2b

from msgspec.msgpack import Encoder

from rain.claims import Sign, Verify, lasting_fields, node_id_of
from rain.model import ENVIRONMENT_MAX, AttemptId, Job, JobId, JobSpec, NodeId
from rain.sched.messages import Cancel

JOB_ID_CHARS = 16
"""80 bits: after a million jobs the chance that any two share an id is below one in 10^12."""

JOB_BYTES_MAX = 1_048_576
"""Of a job in its packed form: whatever message carries one job stays far below a frame."""
SECRETS_BYTES_MAX = 65_536
"""Of all secrets of a job: they are kept in memory where its tasks run."""
SPEC_FIELDS_FIRST = 21
"""Of a spec when ids were first made of it; later ones count where they are not the default."""
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

_JOB_PREFIX = b"rain job"
_CANCEL_PREFIX = b"rain cancel"
"""A signature under one of these never counts for anything else that the same key signs."""

_encode = Encoder().encode


def job_id_of(
    spec: JobSpec,
    submitted_by: str,
    submitter_id: NodeId,
    created_unix_ms: int,
    nonce: bytes,
    person: str,
) -> JobId:
    """16 characters of a-z and 2-7, the same on every machine."""
    wish = lasting_fields(spec, SPEC_FIELDS_FIRST)
    content = _encode((wish, submitted_by, submitter_id, created_unix_ms, nonce, person))
    digest = blake2b(content, digest_size=JOB_ID_CHARS * 5 // 8).digest()
    return JobId(b32encode(digest).decode("ascii").lower())


def job_content(pool_id: bytes, job_id: JobId) -> bytes:
    """What the submitter of a job signs."""
    return _JOB_PREFIX + _encode((pool_id, job_id))


def cancel_content(
    pool_id: bytes, job_id: JobId, cancelled_through: int, cancelled_unix_ms: int
) -> bytes:
    """What the author of a cancel signs."""
    return _CANCEL_PREFIX + _encode((pool_id, job_id, cancelled_through, cancelled_unix_ms))


def signed_job(
    spec: JobSpec,
    submitted_by: str,
    created_unix_ms: int,
    nonce: bytes,
    person: str,
    public_key: bytes,
    sign: Sign,
    pool_id: bytes = b"",
) -> Job:
    """A wish of `person`, made in that pool on the node that has this key."""
    submitter_id = node_id_of(public_key)
    job_id = job_id_of(spec, submitted_by, submitter_id, created_unix_ms, nonce, person)
    return Job(
        job_id,
        spec,
        submitted_by,
        submitter_id,
        created_unix_ms,
        nonce,
        person,
        public_key,
        sign(job_content(pool_id, job_id)),
    )


def signed_cancel(
    job_id: JobId,
    through: int,
    at_unix_ms: int,
    public_key: bytes,
    sign: Sign,
    pool_id: bytes = b"",
) -> Cancel:
    """Of all generations of a job up to `through`."""
    content = cancel_content(pool_id, job_id, through, at_unix_ms)
    return Cancel(through, at_unix_ms, public_key, sign(content))


def oversize(job: Job) -> str:
    """What of a job is too large; '' if nothing is.

    A property of the job alone: every node refuses the same ones.
    """
    spec = job.spec
    if sum(len(content) for _, content in spec.secrets) > SECRETS_BYTES_MAX:
        return f"its secrets are larger than {SECRETS_BYTES_MAX // 1_024} KiB"
    if len(spec.environment) + len(spec.private_environment) > ENVIRONMENT_MAX:
        return f"it has more than {ENVIRONMENT_MAX} environment variables"
    if len(_encode(job)) > JOB_BYTES_MAX:
        return f"it is larger than {JOB_BYTES_MAX // 1_048_576} MiB"
    return ""


def is_named_rightly(job: Job) -> bool:
    """Is its id the hash of its content? Cheap, and enough for what this node once verified."""
    return job.job_id == job_id_of(
        job.spec,
        job.submitted_by,
        job.submitter_id,
        job.created_unix_ms,
        job.nonce,
        job.person,
    )


def is_authentic(job: Job, verify: Verify, pool_id: bytes = b"") -> bool:
    """Did its submitter wish for exactly this, in this pool?"""
    return (
        is_named_rightly(job)
        and _fits(job.public_key, job.signature)
        and node_id_of(job.public_key) == job.submitter_id
        and verify(job.public_key, job.signature, job_content(pool_id, job.job_id))
    )


def is_cancel_authentic(
    job_id: JobId, cancel: Cancel, verify: Verify, pool_id: bytes = b""
) -> bool:
    """Did the holder of that key cancel exactly this, in this pool?"""
    through, at_unix_ms = cancel.cancelled_through, cancel.cancelled_unix_ms
    content = cancel_content(pool_id, job_id, through, at_unix_ms)
    return _fits(cancel.cancelled_by, cancel.cancel_signature) and verify(
        cancel.cancelled_by, cancel.cancel_signature, content
    )


def attempt_key(attempt_id: AttemptId) -> str:
    """`<job>.<task>.<number>.<6 hex>`: fit for a container's name, a label and a file's name.

    (job, task, number) is unique within one reign; the last part, over epoch and node, keeps
    two sides of a partition apart that gave the same number to different attempts.
    """
    birth = blake2b(_encode((attempt_id.epoch, attempt_id.node_id)), digest_size=3).hexdigest()
    return f"{attempt_id.job_id}.{attempt_id.task}.{attempt_id.number}.{birth}"


def _fits(public_key: bytes, signature: bytes) -> bool:
    return len(public_key) == PUBLIC_KEY_BYTES and len(signature) == SIGNATURE_BYTES
