"""What the coordinator takes in from submitters: their own jobs, and cancels by who may.

A proposal counts only from a member. A job in it must be signed by the sender itself, in the name
of the person that the sender's certificate names: whoever proposes speaks for nobody else. A job
that is known already is not asked again whose it is: its submitter may have been certified for
another person since. A cancel may be anybody's who may (warrants.py); proposing one that was
given on another node changes nothing.

What a person should hear of is answered (Accepted with an error). What this node cannot judge
yet (it has not heard of the job, or of the cancel's author) is dropped: the submitter repeats it,
and meanwhile tables and rolls are compared. Everything else is dropped and counted.
"""

from collections.abc import Iterable

from rain.effects import Output, Post
from rain.model import Epoch, Job, JobId, NodeId, Role, Value
from rain.sched.identity import oversize
from rain.sched.ledger import Ledger, are_too_large
from rain.sched.messages import Accepted, JobPatch, Propose
from rain.sched.people import WORKER_REFUSAL, not_for_them, not_theirs
from rain.sched.pool import Pool
from rain.sched.replication import Receipt, Replication
from rain.sched.warrants import CANCEL_NOT_ALLOWED


class Refusal(Value, frozen=True):
    """Why a proposal is not taken: a name to count it by, and what the person is told, if so."""

    reason: str
    error: str = ""


class Intake:
    """The coordinator's ear for submitters."""

    def __init__(self, ledger: Ledger, pool: Pool, replication: Replication) -> None:
        self.dropped: dict[str, int] = {}
        self._ledger = ledger
        self._people = pool.people
        self._replication = replication

    def on_propose(
        self, sender: NodeId, message: Propose, epoch: Epoch, now_ms: int
    ) -> list[Output]:
        receipt = Receipt(sender, message.proposal)
        if self._replication.is_waiting(receipt):
            return []
        # A submitter has no say over cells: only jobs and cancels are taken from it.
        patches = tuple(patch.head() for patch in message.patches)
        refusal = self._refusal(sender, patches)
        if refusal is not None:
            return self._refuse(refusal, receipt, epoch)
        news = self._ledger.merge(patches)
        if all(self._ledger.is_taken(patch) for patch in patches):
            known = self._ledger.known_part(patches)
            return self._replication.commit(known, receipt, now_ms, sender)
        refusal = self._why_not_taken(patches)
        return [*self._ledger.persist(news), *self._refuse(refusal, receipt, epoch)]

    def _refuse(self, refusal: Refusal, receipt: Receipt, epoch: Epoch) -> list[Output]:
        self.dropped[refusal.reason] = self.dropped.get(refusal.reason, 0) + 1
        if not refusal.error:
            return []
        return [Post(receipt.to, Accepted(receipt.proposal, epoch, 0, refusal.error))]

    def _refusal(self, sender: NodeId, patches: tuple[JobPatch, ...]) -> Refusal | None:
        """Judged before anything is taken in; signatures are verified when it is."""
        if self._replication.is_full():
            return Refusal("proposal_not_taken")
        role = self._people.role(sender)
        if role is None:
            return Refusal("proposal_by_unknown")
        if role < Role.MEMBER:
            return Refusal("proposal_by_worker", WORKER_REFUSAL)
        if are_too_large(patches):
            return Refusal("proposal_too_large", "the jobs are larger than 1 MiB")
        jobs = {patch.job_id: patch.job for patch in patches if patch.job is not None}
        return next(
            (
                refusal
                for patch in patches
                for refusal in (self._job_refusal(sender, patch), self._cancel_refusal(patch, jobs))
                if refusal is not None
            ),
            None,
        )

    def _job_refusal(self, sender: NodeId, patch: JobPatch) -> Refusal | None:
        job = patch.job
        if job is None:
            return None
        if job.submitter_id != sender:
            return Refusal("job_of_another_node", "a job is submitted by the PC that signed it")
        excess = oversize(job)
        if excess:
            return Refusal("job_too_large", f"job {job.job_id}: {excess}")
        person = self._people.person(sender)
        if job.person != person and self._ledger.table.job(job.job_id) is None:
            return Refusal("job_of_another_person", not_for_them(job, person))
        return None

    def _cancel_refusal(self, patch: JobPatch, jobs: dict[JobId, Job]) -> Refusal | None:
        if self._ledger.is_cancel_known(patch):
            return None
        job = self._ledger.table.job(patch.job_id) or jobs.get(patch.job_id)
        reason = self._ledger.warrants.author_refusal(job, patch.cancel())
        if reason == CANCEL_NOT_ALLOWED and job is not None:
            return Refusal(reason, not_theirs(job))
        return Refusal(reason) if reason else None

    def _why_not_taken(self, patches: Iterable[JobPatch]) -> Refusal:
        """What is not signed as it should be is no person's mistake; the table has counted why."""
        table = self._ledger.table
        for patch in patches:
            is_cancel_refused = table.job(patch.job_id) and not self._ledger.is_cancel_known(patch)
            if table.refusal(patch) or is_cancel_refused:
                return Refusal("proposal_not_sound")
        return Refusal("proposal_not_taken", "the pool takes no more jobs")
