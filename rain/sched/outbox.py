"""The submitter's side: a person's wish is written down here, then handed to whoever coordinates.

Any node takes a proposal. It merges it into its own table, writes it down and posts Propose to
the coordinator it follows (to itself, if that is the one), every `retry_ms` again with the same
number and the same content, whoever coordinates by then, until Accepted says on how many disks
it is. After `patience_ms` the person gets an answer nonetheless: it is kept here, and
anti-entropy will bring it to the next coordinator.

What a person may not do is refused here, at once and in plain words; that this node could be made
to think otherwise does not matter, since the coordinator and every table judge again. A job comes
here signed; a cancel is signed here, with the key of this node, for the person it belongs to. Who
cancels on one PC what was accepted a moment ago on another is not told that there is no such job:
the wish waits `unknown_ms` for the tables to be exchanged.

What it does not do: remember proposals over a restart; the table does.
"""

import random
from dataclasses import dataclass

from rain.claims import Sign, node_id_of
from rain.effects import Answer, Output, Post, Proposed
from rain.model import Epoch, JobId, NodeId, Role, Value
from rain.sched.identity import oversize, signed_cancel
from rain.sched.ledger import Ledger, are_too_large
from rain.sched.messages import PATCHES_MAX, Accepted, JobPatch, Propose
from rain.sched.people import WORKER_REFUSAL, People, not_for_them, not_theirs

PROPOSALS_MAX = 1_000
PROPOSAL_BITS = 62


class OutboxConfig(Value, frozen=True):
    retry_ms: int = 500
    patience_ms: int = 10_000
    # Three exchanges of a table with a neighbour (antientropy.py).
    unknown_ms: int = 3_000
    look_ms: int = 100


@dataclass(slots=True)
class _Unknown:
    """A cancel whose job no table has brought here yet."""

    event: Proposed
    deadline_ms: int
    look_ms: int


@dataclass(slots=True)
class _Proposal:
    request: int
    patches: tuple[JobPatch, ...]
    deadline_ms: int
    sent_ms: int


class Outbox:
    """What people on this node proposed and were not yet answered."""

    def __init__(
        self,
        config: OutboxConfig,
        ledger: Ledger,
        rng: random.Random,
        people: People,
        public_key: bytes,
        sign: Sign,
        pool_id: bytes = b"",
    ) -> None:
        self.dropped: dict[str, int] = {}
        self._node_id = node_id_of(public_key)
        self._people = people
        self._public_key = public_key
        self._sign = sign
        self._pool_id = pool_id
        self._config = config
        self._ledger = ledger
        self._rng = rng
        self._epoch: Epoch | None = None
        self._proposals: dict[int, _Proposal] = {}
        self._unknown: list[_Unknown] = []

    def follow(self, epoch: Epoch | None, now_ms: int) -> list[Output]:
        """Whoever coordinates now is told at once what waits."""
        is_another = epoch != self._epoch
        self._epoch = epoch
        if not is_another or epoch is None:
            return []
        return [self._post(number, epoch, now_ms) for number in self._proposals]

    def on_proposed(self, event: Proposed, now_ms: int) -> list[Output]:
        if self._is_unknown(event) and self._waiting() < PROPOSALS_MAX:
            config = self._config
            looks = _Unknown(event, now_ms + config.unknown_ms, now_ms + config.look_ms)
            self._unknown.append(looks)
            return []
        return self._propose(event, now_ms)

    def _propose(self, event: Proposed, now_ms: int) -> list[Output]:
        refusal = self._right_refusal(event)
        if refusal:
            return [Answer(event.request, 0, refusal)]
        patches = tuple(JobPatch(job.job_id, job) for job in event.jobs) + tuple(
            self._cancel(JobId(job_id), event.at_unix_ms) for job_id in event.cancels
        )
        refusal = self._room_refusal(patches)
        if refusal:
            return [Answer(event.request, 0, refusal)]
        news = self._ledger.merge(patches)
        if not all(self._ledger.is_taken(patch) for patch in patches):
            reasons = [self._ledger.table.refusal(patch) for patch in patches]
            refusal = (
                "the job is not signed by this PC"
                if any(reasons)
                else "the job table of this node takes no more jobs"
            )
            return [*self._ledger.persist(news), Answer(event.request, 0, refusal)]
        # Drawn, not counted: a restarted node must not seem to repeat an older proposal.
        number = self._rng.getrandbits(PROPOSAL_BITS)
        deadline_ms = now_ms + self._config.patience_ms
        self._proposals[number] = _Proposal(event.request, patches, deadline_ms, now_ms)
        then = () if self._epoch is None else (self._post(number, self._epoch, now_ms),)
        return [*self._ledger.persist(self._ledger.known_part(patches), then)]

    def on_accepted(self, sender: NodeId, message: Accepted) -> list[Output]:
        proposal = self._proposals.get(message.proposal)
        if message.epoch != self._epoch or proposal is None:
            return self._drop("accepted_unasked")
        if sender != message.epoch.node_id:
            return self._drop("order_not_by_the_coordinator")
        del self._proposals[message.proposal]
        return [Answer(proposal.request, message.copies, message.error)]

    def on_deadline(self, now_ms: int) -> list[Output]:
        outputs = self._look_again(now_ms)
        for number, proposal in list(self._proposals.items()):
            if now_ms >= proposal.deadline_ms:
                del self._proposals[number]
                outputs.append(self._give_up(proposal))
            elif self._epoch is not None and now_ms >= proposal.sent_ms + self._config.retry_ms:
                outputs.append(self._post(number, self._epoch, now_ms))
        return outputs

    def next_deadline_ms(self) -> int | None:
        deadlines = [proposal.deadline_ms for proposal in self._proposals.values()]
        deadlines += [min(unknown.look_ms, unknown.deadline_ms) for unknown in self._unknown]
        if self._epoch is not None:
            retry_ms = self._config.retry_ms
            deadlines += [proposal.sent_ms + retry_ms for proposal in self._proposals.values()]
        return min(deadlines, default=None)

    def check(self) -> None:
        assert self._waiting() <= PROPOSALS_MAX

    def _waiting(self) -> int:
        return len(self._proposals) + len(self._unknown)

    def _is_unknown(self, event: Proposed) -> bool:
        """Nothing but a job that is not known here (yet) is in the way of this wish."""
        role, table = self._people.role(self._node_id), self._ledger.table
        may = role is not None and role >= Role.MEMBER
        return may and any(table.job(JobId(job_id)) is None for job_id in event.cancels)

    def _look_again(self, now_ms: int) -> list[Output]:
        """What has become known goes on, what has waited long enough is refused."""
        outputs: list[Output] = []
        unknown, self._unknown = self._unknown, []
        for wish in unknown:
            if now_ms < min(wish.look_ms, wish.deadline_ms):
                self._unknown.append(wish)
            elif now_ms < wish.deadline_ms and self._is_unknown(wish.event):
                wish.look_ms = now_ms + self._config.look_ms
                self._unknown.append(wish)
            else:
                outputs += self._propose(wish.event, now_ms)
        return outputs

    def _drop(self, reason: str) -> list[Output]:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        return []

    def _cancel(self, job_id: JobId, at_unix_ms: int) -> JobPatch:
        """Of the newest generation; one that is cancelled already stays so from when it was."""
        table = self._ledger.table
        cancel, through = table.cancel_of(job_id), table.generation(job_id)
        if cancel is None or cancel.cancelled_through < through:
            by = self._public_key, self._sign
            cancel = signed_cancel(job_id, through, at_unix_ms, *by, self._pool_id)
        return JobPatch.of_parts(job_id, cancel=cancel)

    def _right_refusal(self, event: Proposed) -> str:
        """Why the person of this node may not wish for this; '' if they may."""
        role = self._people.role(self._node_id)
        if role is None:
            return "this PC is not in the pool (any more)"
        if role < Role.MEMBER:
            return WORKER_REFUSAL
        person = self._people.person(self._node_id)
        for job in event.jobs:
            if job.submitter_id != self._node_id:
                return "the job is signed by another PC"
            if job.person != person:
                return not_for_them(job, person)
        for job_id in event.cancels:
            known = self._ledger.table.job(JobId(job_id))
            if known is None:
                return f"job {job_id} is not known on this PC"
            if not self._people.may_cancel(self._node_id, known):
                return not_theirs(known)
        return ""

    def _room_refusal(self, patches: tuple[JobPatch, ...]) -> str:
        if self._ledger.is_disk_failed:
            return "the disk of this PC takes no writes"
        if self._waiting() >= PROPOSALS_MAX:
            return "too many requests are waiting on this PC"
        if len(patches) > PATCHES_MAX:
            return f"more than {PATCHES_MAX} jobs in one request"
        if are_too_large(patches):
            return "command and environment are larger than 1 MiB"
        excess = next((e for p in patches if p.job is not None and (e := oversize(p.job))), "")
        return f"the job is too large: {excess}" if excess else ""

    def _post(self, number: int, epoch: Epoch, now_ms: int) -> Post:
        proposal = self._proposals[number]
        proposal.sent_ms = now_ms
        return Post(epoch.node_id, Propose(number, proposal.patches))

    def _give_up(self, proposal: _Proposal) -> Answer:
        if self._ledger.is_disk_failed:
            return Answer(proposal.request, 0, "nobody confirmed, and this PC cannot write it down")
        return Answer(
            proposal.request,
            1,
            "no coordinator confirmed it in time; it is kept on this PC and will be sent on",
        )
