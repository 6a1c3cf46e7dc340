"""Whose nodes these are and what they may, by the roll: what rights over jobs are judged by.

Trust tells who may be here (Admitted) and who may no longer (Barred). Whoever was here once is
remembered with the role and the person of the last certificate seen, so that what such a node
signed while it was here stays valid: its jobs go on, its cancels stand.

Rights over jobs. Members submit, and cancel what is their person's, from whichever of their PCs;
admins cancel anything; workers do neither.
"""

from rain.effects import Admitted
from rain.model import Job, NodeId, Role, Value

PEOPLE_MAX = 10_000
"""Nodes remembered; beyond it the one told of longest ago is forgotten."""

WORKER_REFUSAL = "this PC may lend work but not submit: its role is worker"


class Standing(Value, frozen=True):
    """What one node's newest certificate says."""

    role: Role
    person: str


class People:
    """Everybody ever told of."""

    def __init__(self) -> None:
        self._standings: dict[NodeId, Standing] = {}
        self._barred: dict[NodeId, None] = {}

    def admit(self, notice: Admitted) -> None:
        self._barred.pop(notice.node_id, None)
        self._standings.pop(notice.node_id, None)
        self._standings[notice.node_id] = Standing(notice.role, notice.person)
        while len(self._standings) > PEOPLE_MAX:
            del self._standings[next(iter(self._standings))]

    def bar(self, node_id: NodeId) -> None:
        """Whatever it says from now on counts for nothing; what it signed before does."""
        self._barred[node_id] = None
        while len(self._barred) > PEOPLE_MAX:
            del self._barred[next(iter(self._barred))]

    def role(self, node_id: NodeId) -> Role | None:
        """None: it may not be here, by all that is known."""
        known = self._standings.get(node_id)
        return None if known is None or node_id in self._barred else known.role

    def keepers(self) -> list[NodeId]:
        """All that may be here and keep copies, whether they are up or not."""
        return [
            node_id
            for node_id, known in self._standings.items()
            if known.role >= Role.MEMBER and node_id not in self._barred
        ]

    def person(self, node_id: NodeId) -> str:
        """'' of a node never heard of."""
        known = self._standings.get(node_id)
        return known.person if known is not None else ""

    def is_barred(self, node_id: NodeId) -> bool:
        return node_id in self._barred

    def is_at_least(self, node_id: NodeId, role: Role) -> bool:
        """Is it here, and in this role or a higher one?"""
        own = self.role(node_id)
        return own is not None and own >= role

    def may_cancel(self, author_id: NodeId, job: Job) -> bool | None:
        """None: nobody knows that node."""
        author = self._standings.get(author_id)
        if author is None:
            return None
        return author.role is Role.ADMIN or (bool(author.person) and author.person == job.person)

    def may_submit(self, job: Job) -> bool | None:
        """By the last that is known of its submitter; None: nobody knows that node."""
        author = self._standings.get(job.submitter_id)
        if author is None:
            return None
        return author.role >= Role.MEMBER and author.person == job.person


def not_theirs(job: Job) -> str:
    """What somebody is told who may not cancel this job."""
    return f"job {job.job_id} is {job.person}'s: only they or an admin may cancel it"


def not_for_them(job: Job, person: str) -> str:
    """What somebody is told who submits in another person's name."""
    return f"this PC is {person}'s: what is submitted on it cannot be {job.person}'s"


def may_read_log(role: Role, person: str, job: Job | None) -> bool:
    """May the person of a node in this role read what the tasks of a job print?

    Members may read everything, workers only what is their own person's; and of a job that is
    not known here (any more) nobody knows whose it is.
    """
    if role >= Role.MEMBER:
        return True
    return job is not None and bool(person) and job.person == person
