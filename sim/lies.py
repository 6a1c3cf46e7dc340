"""What somebody says who has no right to: every kind of message that could change something.

A lie is well formed and knows the truth: it names reigns, jobs and attempts that there are. A
member is believed in much (that it reigns, what the table holds), so of members only such lies are
told that speak for somebody else; workers, strangers and the removed tell all.
"""

import random
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from rain.claims import KeyPhase, KeyStep, Removal, Signed, Signer, Withdrawal
from rain.effects import Message
from rain.election.messages import (
    Challenge,
    Grant,
    Heartbeat,
    Objection,
    Resign,
    Stale,
    Strength,
)
from rain.gossip.messages import FactsRecord, MemberRecord, Rumours, Sync
from rain.model import (
    AttemptId,
    End,
    EndState,
    Epoch,
    Facts,
    Job,
    JobSpec,
    MemberState,
    Role,
    Stage,
)
from rain.sched.identity import signed_cancel, signed_job
from rain.sched.messages import (
    Assign,
    AttemptEnd,
    AttemptReport,
    Cell,
    JobPatch,
    Patch,
    Propose,
    Replicate,
    Report,
    ReportAck,
    Stop,
    TaskPatch,
)
from rain.trust.content import mark_of_key, signed_content
from rain.trust.messages import RingKey, RollNews

from .credentials import Authority, Charter
from .executor import UNIX_MS
from .host import Host
from .signing import TagSigner
from .workload import Workload
from .world import draw_int, pick

BEAT_FAR = 1_000_000
STRENGTH_GREAT = Strength(100, 10_000_000)
NUMBER_AHEAD_MAX = 50
NO_SIGNATURE = bytes(64)


class Liar:
    """Somebody with one key who says one untruth after another."""

    def __init__(
        self,
        signer: Signer,
        host: Host,
        hosts: Sequence[Host],
        workload: Workload,
        charter: Charter,
        dice: random.Random,
        may_reign: bool,
    ) -> None:
        self._signer = signer
        self._host = host
        self._hosts = hosts
        self._workload = workload
        self._charter = charter
        self._dice = dice
        # What is refused from everybody, since it is not theirs to say.
        self._packets: list[Callable[[Host], Message | None]] = [
            self._rumour,
            self._false_facts,
        ]
        self._frames: list[Callable[[Host], Message | None]] = [
            self._order,
            self._stop,
            self._report,
            self._report_ack,
            self._job_in_another_name,
            self._cancel,
            self._cancel_in_another_name,
            self._full_table,
            self._removal,
            self._removal_in_another_name,
            self._certificate,
            self._pool_key,
        ]
        if may_reign:
            return
        # And what a member might say.
        self._packets += [
            self._heartbeat,
            self._heartbeat_of_another,
            self._challenge,
            self._grant,
            self._objection,
            self._stale,
            self._resign,
        ]
        self._frames += [self._result, self._invented_job]

    def packet(self, target: Host) -> Message | None:
        return self._say(self._packets, target)

    def frame(self, target: Host) -> Message | None:
        return self._say(self._frames, target)

    def _say(self, lies: list[Callable[[Host], Message | None]], target: Host) -> Message | None:
        lie: Callable[[Host], Message | None] = pick(self._dice, list(lies))
        return lie(target)

    # --- who coordinates -----------------------------------------------------------------------

    def _reign(self, target: Host) -> Epoch | None:
        """The one that the target follows."""
        return target.node.election.reign() if target.node is not None else None

    def _own_reign(self, target: Host) -> Epoch:
        followed = self._reign(target)
        number = followed.number if followed is not None else 0
        number += draw_int(self._dice, 1, NUMBER_AHEAD_MAX)
        return Epoch(number, self._host.node_id, draw_int(self._dice, 1, 2**60))

    def _heartbeat(self, target: Host) -> Message:
        return self._beat(self._own_reign(target))

    def _heartbeat_of_another(self, target: Host) -> Message | None:
        followed = self._reign(target)
        return None if followed is None else self._beat(replace(followed, salt=followed.salt + 1))

    def _beat(self, epoch: Epoch) -> Message:
        return Heartbeat(epoch, BEAT_FAR, STRENGTH_GREAT, bytes(8), bytes(8), b"\xff")

    def _challenge(self, target: Host) -> Message:
        return Challenge(draw_int(self._dice, 1, 9), self._own_reign(target), 60_000)

    def _grant(self, target: Host) -> Message:
        return Grant(draw_int(self._dice, 1, 9), self._own_reign(target))

    def _objection(self, target: Host) -> Message:
        return Objection(draw_int(self._dice, 1, 9), self._own_reign(target), 0, STRENGTH_GREAT)

    def _stale(self, target: Host) -> Message:
        return Stale(self._own_reign(target), STRENGTH_GREAT, self._host.node_id)

    def _resign(self, target: Host) -> Message | None:
        followed = self._reign(target)
        return None if followed is None else Resign(followed, self._host.node_id)

    # --- who is here ---------------------------------------------------------------------------

    def _another(self, target: Host) -> Host | None:
        others = [host for host in self._hosts if host not in (target, self._host) and host.is_up]
        return pick(self._dice, others) if others else None

    def _rumour(self, target: Host) -> Message | None:
        """Somebody has left; somebody restarted; somebody is elsewhere: none of it his own word."""
        about = self._another(target)
        record = _record(about) if about is not None else None
        if record is None:
            return None
        lies = [
            replace(record, state=MemberState.LEFT, incarnation=record.incarnation + 1),
            replace(record, boot_epoch=record.boot_epoch + 5, incarnation=0),
            replace(record, boot_epoch=record.boot_epoch + 5, signature=NO_SIGNATURE),
            replace(record, state=MemberState.LEFT),
            replace(record, incarnation=record.incarnation + 2**30),
            replace(
                record,
                state=MemberState.DEAD,
                boot_epoch=record.boot_epoch + 5,
                accuser=self._host.node_id,
            ),
        ]
        lie: MemberRecord = pick(self._dice, lies)
        return Rumours((lie,))

    def _false_facts(self, target: Host) -> Message | None:
        about = self._another(target)
        if about is None:
            return None
        facts = Facts(version=2**40, capacity=replace(about.capacity, cpus_milli=10**6), works=True)
        return Rumours((), (FactsRecord(about.node_id, about.boot_epoch, facts, NO_SIGNATURE),))

    def _full_table(self, target: Host) -> Message | None:
        about = self._another(target)
        record = _record(about) if about is not None else None
        if record is None:
            return None
        return Sync((replace(record, boot_epoch=record.boot_epoch + 1),), ())

    # --- what runs where -----------------------------------------------------------------------

    def _job(self) -> Job | None:
        jobs = list(self._workload.jobs.values())
        return pick(self._dice, jobs) if jobs else None

    def _job_of_another(self) -> Job | None:
        job = self._job()
        return None if job is None or job.public_key == self._signer.public_key else job

    def _order(self, target: Host) -> Message | None:
        followed, job = self._reign(target), self._job()
        if followed is None or job is None:
            return None
        epoch = followed if self._dice.random() < 0.7 else self._own_reign(target)
        attempt_id = AttemptId(job.job_id, 0, BEAT_FAR, epoch, target.node_id)
        return Assign(epoch, BEAT_FAR, job, (attempt_id,))

    def _running(self) -> AttemptId | None:
        running = [one.attempt_id for host in self._hosts for one in host.executor.used()]
        return pick(self._dice, running) if running else None

    def _stop(self, target: Host) -> Message | None:
        followed = self._reign(target)
        running = [one.attempt_id for one in target.executor.used()]
        return Stop(followed, BEAT_FAR, tuple(running), "enough") if followed and running else None

    def _report(self, target: Host) -> Message | None:
        """That somebody else's attempt is over."""
        followed, attempt_id = self._reign(target), self._running()
        if followed is None or attempt_id is None or attempt_id.node_id == self._host.node_id:
            return None
        state = EndState.SUCCEEDED if self._dice.random() < 0.5 else EndState.FAILED
        end = End(state, 0 if state is EndState.SUCCEEDED else 77)
        return Report(followed, (AttemptReport(attempt_id, Stage.ENDED, 10, end),))

    def _report_ack(self, target: Host) -> Message | None:
        """That an outcome is safe, which nobody has."""
        followed = self._reign(target)
        held = [one.attempt_id for one in target.executor.containers.values()]
        return ReportAck(followed, tuple(held)) if followed is not None and held else None

    def _result(self, target: Host) -> Message | None:
        """A committed success of an attempt that runs, as if it were a decision."""
        followed, attempt_id = self._reign(target), self._running()
        if followed is None or attempt_id is None:
            return None
        cell = Cell(True, 1, True, attempt_id.epoch, BEAT_FAR, Stage.ENDED, attempt_id)
        ends = (AttemptEnd(attempt_id, End(EndState.SUCCEEDED, 0)),)
        task = attempt_id.task
        return self._told(
            followed, JobPatch(attempt_id.job_id, tasks=(TaskPatch(task, task, cell, ends),))
        )

    def _invented_job(self, target: Host) -> Message | None:
        followed = self._reign(target)
        nonce = bytes(int(self._dice.random() * 256) for _ in range(16))
        job = signed_job(
            JobSpec(command=("work", "100", "0"), image="sim"),
            self._host.name,
            UNIX_MS,
            nonce,
            self._host.person,
            self._signer.public_key,
            self._signer.sign,
            self._charter.pool_id,
        )
        return None if followed is None else self._told(followed, JobPatch(job.job_id, job))

    def _job_in_another_name(self, target: Host) -> Message | None:
        """A known job with another command, or a new one as if another node had asked for it."""
        followed, known = self._reign(target), self._job_of_another()
        if followed is None or known is None:
            return None
        spec = JobSpec(command=("work", "100", "0"), image="sim")
        job = replace(known, spec=spec)
        if self._dice.random() < 0.7:
            job = signed_job(
                spec,
                known.submitted_by,
                UNIX_MS,
                known.nonce,
                known.person,
                known.public_key,
                self._signer.sign,
                self._charter.pool_id,
            )
        return self._told(followed, JobPatch(job.job_id, job))

    def _cancel(self, target: Host) -> Message | None:
        """Of a job that is somebody else's, honestly signed by the wrong node."""
        followed, job = self._reign(target), self._job()
        is_own = job is not None and job.person == self._host.person
        if followed is None or job is None or is_own or self._host.role is Role.ADMIN:
            return None
        by = self._signer.public_key, self._signer.sign
        cancel = signed_cancel(job.job_id, 1, UNIX_MS, *by, self._charter.pool_id)
        return self._told(followed, JobPatch.of_parts(job.job_id, cancel=cancel))

    def _cancel_in_another_name(self, target: Host) -> Message | None:
        followed, job = self._reign(target), self._job_of_another()
        if followed is None or job is None:
            return None
        by = job.public_key, self._signer.sign
        cancel = signed_cancel(job.job_id, 1, UNIX_MS, *by, self._charter.pool_id)
        return self._told(followed, JobPatch.of_parts(job.job_id, cancel=cancel))

    def _told(self, epoch: Epoch, patch: JobPatch) -> Message:
        """In one of the three ways that a patch travels."""
        draw = draw_int(self._dice, 0, 3)
        if draw == 0:
            return Propose(draw_int(self._dice, 1, 2**60), (patch,))
        return Replicate(epoch, 1, (patch,)) if draw == 1 else Patch(epoch, (patch,))

    # --- who may be here -----------------------------------------------------------------------

    def _removal(self, target: Host) -> Message:
        return RollNews(claims=(self._claim(target, self._signer.public_key),))

    def _removal_in_another_name(self, target: Host) -> Message | None:
        admins = [host for host in self._hosts if host.role is Role.ADMIN]
        author: Host = pick(self._dice, admins)
        return RollNews(claims=(self._claim(target, author.signer.public_key),))

    def _claim(self, target: Host, author_key: bytes) -> Signed:
        about = self._another(target) or target
        claim = Removal(about.node_id, 9) if self._dice.random() < 0.7 else Withdrawal("invited")
        signed = Signed(author_key, draw_int(self._dice, 1, 20), UNIX_MS, claim)
        content = signed_content(signed, self._charter.pool_id)
        return replace(signed, signature=self._signer.sign(content))

    def _certificate(self, target: Host) -> Message:
        """It makes itself an admin, by its own word or by that of a root of its own."""
        root = self._signer if self._dice.random() < 0.5 else TagSigner("another root")
        authority = Authority(root, self._signer, 1, 0)
        bundle = authority.issue(
            self._signer.public_key,
            name=self._host.name,
            role=Role.ADMIN,
            person=target.person,
            generation=9,
        )
        return RollNews((bundle,), (self._claim(target, self._signer.public_key),))

    def _pool_key(self, target: Host) -> Message:
        """A key that everybody shall use, and the claim that goes with it."""
        key = bytes(int(self._dice.random() * 256) for _ in range(32))
        number = draw_int(self._dice, 1, 9)
        step = KeyStep(number, KeyPhase.USE, mark_of_key(key))
        signed = Signed(self._signer.public_key, 1, UNIX_MS, step)
        content = signed_content(signed, self._charter.pool_id)
        claim = replace(signed, signature=self._signer.sign(content))
        return RollNews(claims=(claim,), keys=(RingKey(number, key),))


def _record(host: Host) -> MemberRecord | None:
    """What that host says of itself, truly signed."""
    if host.node is None:
        return None
    for member in host.node.gossip.members():
        if member.record.node_id == host.node_id:
            return member.record
    return None
