"""Whether a job or a cancel counts: signed by its author, for this pool, and the author may.

Judged wherever one is about to be taken into a table, whoever brings it, once: what a table holds
already is not judged again.

A signature alone proves little, since anybody can draw a key. So the submitter of a job must have
been let into the pool once, as a member at least, and for the very person the job is said to be
of: by the last certificate that was seen. That may have become another one since: a PC is given to
somebody else, a member is made a worker. Its old jobs are in every table but a newcomer's, which
has to get them from somewhere or never agree with the others. So what the coordinator that is
followed brings (`is_vouched`) is not asked for role and person. It is believed in what it decides
anyway, and it in turn believes nobody; what remains asked is the signature, and that the pool has
ever heard of the key. (A newcomer that coordinates before it has caught up lacks such jobs until
somebody else does: they wait.)
"""

from rain.claims import Verify, node_id_of
from rain.model import Job
from rain.sched.identity import is_authentic, is_cancel_authentic
from rain.sched.messages import Cancel
from rain.sched.people import People

JOB_BY_UNKNOWN = "job_by_unknown"
CANCEL_OF_UNKNOWN_JOB = "cancel_of_unknown_job"
CANCEL_BY_UNKNOWN = "cancel_by_unknown"
"""These three are reasons not to take it *now*: tables that differ are compared again."""
JOB_NOT_ALLOWED = "job_not_allowed"
JOB_NOT_AUTHENTIC = "job_not_authentic"
CANCEL_NOT_ALLOWED = "cancel_not_allowed"
CANCEL_NOT_AUTHENTIC = "cancel_not_authentic"


class Warrants:
    """Judges by the signature and by the roll."""

    def __init__(self, verify: Verify, people: People, pool_id: bytes = b"") -> None:
        self._verify = verify
        self._people = people
        self._pool_id = pool_id

    def job_refusal(self, job: Job, *, is_new: bool = True, is_vouched: bool = False) -> str:
        """Why this job is not taken; '' if it is. One that is not `is_new` is in the table."""
        may = self._people.may_submit(job) if is_new else True
        if may is None:
            return JOB_BY_UNKNOWN
        if not (may or is_vouched):
            return JOB_NOT_ALLOWED
        return "" if is_authentic(job, self._verify, self._pool_id) else JOB_NOT_AUTHENTIC

    def author_refusal(self, job: Job | None, cancel: Cancel) -> str:
        """Why who seems to have signed this may not cancel it; '' if they may."""
        if job is None:
            return CANCEL_OF_UNKNOWN_JOB
        may = self._people.may_cancel(node_id_of(cancel.cancelled_by), job)
        if may is None:
            return CANCEL_BY_UNKNOWN
        return "" if may else CANCEL_NOT_ALLOWED

    def cancel_refusal(self, job: Job | None, cancel: Cancel) -> str:
        """Why this cancel is not taken; '' if it is."""
        refusal = self.author_refusal(job, cancel)
        if refusal or job is None:
            return refusal
        is_signed = is_cancel_authentic(job.job_id, cancel, self._verify, self._pool_id)
        return "" if is_signed else CANCEL_NOT_AUTHENTIC
