"""The worker: carries out the orders of the coordinator it follows, and owes it every outcome.

Roles and messages. The coordinator sends Assign and Stop; the worker answers with Report, and an
InventoryRequest with Inventory. What ended is reported again every second, and at once to every
new reign, until ReportAck says that it is safe on other disks; only then is it forgotten.

Fencing (J2). An order counts only if it carries the epoch this node follows, comes from that
epoch's node, quotes a heartbeat at most BEATS_BEHIND_MAX behind the newest, and a heartbeat was
heard within `silence_ms`: orders wait in TCP buffers, and an old one must not start anything.
Anything else is dropped and counted; who still means it sends it again.

An attempt moves STARTING (accepted) -> RUNNING -> ENDED and never back (J1). It is on disk
before its container is started, so a container that the disk does not know is an orphan, and an
attempt without a container never ran. After a restart of the agent nothing is vouched for until
the executor has listed its containers, or has been silent for `executor_wait_ms` (E11).

Ends. A stop that was ordered makes CANCELLED of whatever exit follows; the time limit makes
TIMEOUT; an engine that was stopped under it makes LOST; then out of memory; then the exit code.
The time limit counts from the start, also for an attempt that an earlier agent started: the
executor says how long it has been running, by the clock of the wall, the only one that spans both
lives. What is on the disk as running when the agent starts, and whose container is gone or was
lost with the PC, *crashed*: a polite end would have deleted its row.

Room (J3). What runs here by orders never needs more than the capacity; what does not fit, or comes
before its executor has listed what runs, is REFUSED: no failure. It is remembered like any other
end: an order that comes twice is answered the same twice. What the job table knows to have ended,
or was forgotten here, is answered likewise: it never runs again.

What it does not do: retry (another attempt is a decision of the coordinator), stop anything that
it merely does not know, keep logs.
"""

from collections.abc import Iterable, Sequence

from rain.effects import (
    ContainerExited,
    ContainerFailed,
    ContainerFound,
    ContainersListed,
    ContainerStarted,
    Effect,
    Output,
    Persist,
    Post,
    RemoveContainer,
    StartContainer,
    StopContainer,
)
from rain.model import (
    AttemptId,
    End,
    EndState,
    Epoch,
    Facts,
    Identity,
    Job,
    JobId,
    NodeId,
    Resources,
    Stage,
    Value,
)
from rain.sched.admission import ATTEMPTS_MAX, DISK_FULL, refusal_of
from rain.sched.identity import attempt_key
from rain.sched.ledger import Ledger, are_too_large
from rain.sched.local_attempt import (
    LocalAttempt,
    end_of,
    end_of_failure,
    end_of_missing,
    end_of_silence,
)
from rain.sched.messages import (
    ORDERS_MAX,
    Assign,
    Inventory,
    InventoryRequest,
    JobPatch,
    Report,
    ReportAck,
    Stop,
)
from rain.sched.records import AttemptRow

BEATS_BEHIND_MAX = 12
DELETED_MAX = 1_000
"""Keys remembered; a row left behind is an outcome told once more after the next start."""


class WorkerConfig(Value, frozen=True):
    silence_ms: int = 400
    """An order that comes so long after the last heartbeat is not carried out."""
    report_interval_ms: int = 1_000
    stop_grace_ms: int = 10_000
    stop_again_ms: int = 15_000
    """A container that outlived its stop by so much is told again."""
    executor_wait_ms: int = 60_000
    """After the first listing: an executor that was off then may still say what became of its
    attempts; after that they are lost."""


class Worker:
    """The attempts of one node."""

    def __init__(
        self,
        identity: Identity,
        facts: Facts,
        config: WorkerConfig,
        ledger: Ledger,
        recovered: Iterable[AttemptRow],
    ) -> None:
        self.dropped: dict[str, int] = {}
        self._node_id, self._life = identity.node_id, identity.boot_epoch
        self._facts, self._config = facts, config
        self._ledger = ledger
        self._epoch: Epoch | None = None
        self._is_mine = False
        self._beat = 0
        self._heard_ms = 0
        self._is_going = False
        self._listed: set[str] = set()
        """Executors that have said, in this life, what they run."""
        self._attempts: dict[AttemptId, LocalAttempt] = {}
        self._deleted: dict[str, None] = {}
        """Keys of rows that were deleted lately: the write may yet fail."""
        self._capacity_max = facts.capacity
        for row in recovered:
            job = ledger.table.job(row.attempt_id.job_id)
            self._attempts[row.attempt_id] = LocalAttempt.recovered(row, job)

    # --- What the agent may look at --------------------------------------------------------------

    def active_attempts(self) -> tuple[AttemptId, ...]:
        """Accepted and not ended, sorted."""
        return tuple(sorted(a.attempt_id for a in self._active()))

    def jobs(self) -> set[JobId]:
        """Of all attempts that are kept here."""
        return {attempt_id.job_id for attempt_id in self._attempts}

    def is_ready(self) -> bool:
        """Is it known what runs here? Not before the executor has listed what an earlier life left.

        A node that owed nothing when it started has nothing to find out.
        """
        return not any(attempt.is_recovered for attempt in self._attempts.values())

    # --- Who coordinates -------------------------------------------------------------------------

    def follow(self, epoch: Epoch | None, is_mine: bool, now_ms: int) -> list[Output]:
        """This reign is followed from now on: tell it at once what it may not know."""
        self._epoch, self._is_mine = epoch, is_mine
        self._beat, self._heard_ms = 0, now_ms
        return [*self._post_reports(self._ended(), now_ms)]

    def heard(self, epoch: Epoch, beat: int, now_ms: int) -> None:
        if epoch == self._epoch:
            self._beat = max(self._beat, beat)
            self._heard_ms = now_ms

    def offer(self, facts: Facts) -> None:
        """What this node offers changed; what runs goes on."""
        self._facts = facts
        self._capacity_max = Resources(
            max(self._capacity_max.cpus_milli, facts.capacity.cpus_milli),
            max(self._capacity_max.memory_bytes, facts.capacity.memory_bytes),
        )

    # --- Orders ----------------------------------------------------------------------------------

    def on_assign(self, sender: NodeId, order: Assign, now_ms: int) -> list[Output]:
        refused = self._is_not_to_be_obeyed(sender, order.epoch, order.beat, now_ms)
        if refused:
            return self._drop(refused)
        if order.life not in (0, self._life):
            return self._drop("order_to_another_life")
        if not all(self._is_meant(attempt_id, order.job) for attempt_id in order.attempts):
            return self._drop("order_not_sound")
        patch = JobPatch(order.job.job_id, order.job)
        news = self._ledger.merge((patch,), is_vouched=True)
        if not self._ledger.is_taken(patch) or self._ledger.table.is_forgotten(patch.job_id):
            return self._drop("order_not_sound")
        known = [self._attempts[a] for a in order.attempts if a in self._attempts]
        fresh: list[LocalAttempt] = []
        for attempt_id in dict.fromkeys(order.attempts):
            if attempt_id not in self._attempts:
                fresh.append(self._accept_or_refuse(attempt_id, order.job, now_ms))
        accepted = [attempt for attempt in fresh if attempt.stage is not Stage.ENDED]
        then: list[Effect] = [StartContainer(a.attempt_id, order.job) for a in accepted]
        write = self._ledger.persist(
            news,
            then + self._post_reports(accepted, now_ms),
            [attempt.row() for attempt in accepted],
        )
        told = known + [attempt for attempt in fresh if attempt.stage is Stage.ENDED]
        return [*write, *self._post_reports(told, now_ms)]

    def on_stop(self, sender: NodeId, order: Stop, now_ms: int) -> list[Output]:
        refused = self._is_not_to_be_obeyed(sender, order.epoch, order.beat, now_ms)
        if refused:
            return self._drop(refused)
        outputs: list[Output] = []
        told: list[LocalAttempt] = []
        for attempt_id in dict.fromkeys(order.attempts):
            attempt = self._attempts.get(attempt_id)
            if attempt is None and attempt_id.node_id == self._node_id:
                # Its Assign was lost on the way: say so once and for all, should it still come.
                end = End(EndState.CANCELLED, reason="it had not been started here")
                told.append(self._refuse(attempt_id, None, end))
            elif attempt is not None and attempt.stage is Stage.ENDED:
                told.append(attempt)
            elif attempt is not None and not attempt.is_stopping:
                outputs += self._stop(attempt, now_ms)
        return [*outputs, *self._post_reports(told, now_ms)]

    def on_report_ack(self, sender: NodeId, ack: ReportAck) -> list[Output]:
        if ack.epoch != self._epoch:
            return self._drop("ack_of_another_reign")
        if sender != ack.epoch.node_id:
            return self._drop("order_not_by_the_coordinator")
        deletes: list[str] = []
        outputs: list[Output] = []
        for attempt_id in ack.attempts:
            attempt = self._attempts.get(attempt_id)
            if attempt is None or attempt.stage is not Stage.ENDED:
                continue
            del self._attempts[attempt_id]
            deletes.append(attempt.row().key())
            if attempt.has_container:
                # Not after the write: should it fail, the outcome is merely reported once more.
                outputs.append(RemoveContainer(attempt_key(attempt_id)))
        return outputs + self._delete(deletes) if deletes else []

    def on_inventory_request(
        self, sender: NodeId, request: InventoryRequest, now_ms: int
    ) -> list[Output]:
        if request.epoch != self._epoch:
            return self._drop("inventory_of_another_reign")
        if sender != request.epoch.node_id:
            return self._drop("order_not_by_the_coordinator")
        if not self.is_ready():
            return [Post(sender, Inventory(request.epoch, request.round, ready=False))]
        reports = tuple(a.report(now_ms) for _, a in sorted(self._attempts.items()))
        jobs = self._wanted(request.wants)
        return [Post(sender, Inventory(request.epoch, request.round, True, reports, jobs))]

    # --- What the executor says ------------------------------------------------------------------

    def on_started(self, event: ContainerStarted, now_ms: int) -> list[Output]:
        attempt = self._attempts.get(event.attempt_id)
        if attempt is None:
            return [RemoveContainer(attempt_key(event.attempt_id))]
        if attempt.stage is Stage.ENDED:
            return [StopContainer(event.attempt_id, 0)]
        if attempt.stage is Stage.RUNNING:
            return []
        attempt.run(now_ms, self._config.stop_again_ms, event.started_unix_ms)
        outputs = self._tell(attempt, now_ms)
        if attempt.is_stopping:
            outputs.append(StopContainer(attempt.attempt_id, self._config.stop_grace_ms))
        return outputs

    def on_exited(self, event: ContainerExited, now_ms: int) -> list[Output]:
        attempt = self._attempts.get(event.attempt_id)
        if attempt is None:
            return [RemoveContainer(attempt_key(event.attempt_id))]
        if attempt.stage is Stage.ENDED:
            return []
        return self._finish(attempt, end_of(attempt, event), now_ms)

    def on_failed(self, event: ContainerFailed, now_ms: int) -> list[Output]:
        attempt = self._attempts.get(event.attempt_id)
        if attempt is None or attempt.stage is Stage.ENDED:
            return []
        return self._finish(attempt, end_of_failure(attempt, event), now_ms)

    def on_listed(self, event: ContainersListed, now_ms: int) -> list[Output]:
        """Adopt what is known, conclude about what is gone, remove what nobody knows."""
        self._listed.update(event.executors)
        found = {container.attempt_key: container for container in event.found}
        outputs: list[Output] = []
        for attempt_id, attempt in sorted(self._attempts.items()):
            container = found.pop(attempt_key(attempt_id), None)
            if container is None:
                if attempt.is_recovered and attempt.is_run_by(event.executors):
                    outputs += self._finish(attempt, end_of_missing(attempt), now_ms)
                elif attempt.is_recovered and attempt.deadline_ms is None:
                    attempt.deadline_ms = now_ms + self._config.executor_wait_ms
            elif attempt.stage is Stage.ENDED:
                attempt.has_container = True  # even if it was said not to have been started here
                if container.exit_code is None:
                    outputs.append(StopContainer(attempt_id, 0))
            else:
                outputs += self._adopt(attempt, container, now_ms)
        return outputs + [RemoveContainer(key) for key in sorted(found)]

    # --- Time, disk, goodbye ---------------------------------------------------------------------

    def on_deadline(self, now_ms: int) -> list[Output]:
        if not self._attempts:
            return []
        outputs: list[Output] = []
        for attempt in self._active():
            if attempt.deadline_ms is None or now_ms < attempt.deadline_ms:
                continue
            if attempt.is_recovered:
                outputs += self._finish(attempt, end_of_silence(attempt), now_ms)
                continue
            if not attempt.is_stopping:
                attempt.is_timed_out = True
            attempt.deadline_ms = now_ms + self._config.stop_again_ms
            outputs.append(StopContainer(attempt.attempt_id, self._config.stop_grace_ms))
        interval_ms = self._config.report_interval_ms
        due = [a for a in self._ended() if now_ms >= a.reported_ms + interval_ms]
        return [*outputs, *self._post_reports(due, now_ms)]

    def next_deadline_ms(self) -> int | None:
        if not self._attempts:
            return None
        interval_ms = self._config.report_interval_ms
        soonest_ms: int | None = None
        for attempt in self._attempts.values():
            at_ms = attempt.deadline_ms
            if attempt.stage is Stage.ENDED:
                at_ms = None if self._epoch is None else attempt.reported_ms + interval_ms
            if at_ms is not None and (soonest_ms is None or at_ms < soonest_ms):
                soonest_ms = at_ms
        return soonest_ms

    def note_ordered(self, attempts: Iterable[AttemptId]) -> None:
        """These are on disk, and the executor has been told to start them."""
        for attempt_id in attempts:
            attempt = self._attempts.get(attempt_id)
            if attempt is not None:
                attempt.is_ordered = True

    def on_disk_failed(self, now_ms: int) -> list[Output]:
        """What was being written down when the write failed is not started, what was is."""
        refused: list[LocalAttempt] = []
        for attempt in self._active():
            if attempt.stage is Stage.STARTING and not (attempt.is_old or attempt.is_ordered):
                attempt.stage = Stage.ENDED
                attempt.end = End(EndState.REFUSED, reason=DISK_FULL)
                attempt.deadline_ms = None
                refused.append(attempt)
        return [*self._post_reports(refused, now_ms)]

    def rewrite(self) -> list[Output]:
        """The disk works again: write anew what must be on it, delete what must not."""
        attempts = [a for _, a in sorted(self._attempts.items())]
        rows = tuple(attempt.row() for attempt in attempts if attempt.has_container)
        if not rows and not self._deleted:
            return []
        return [Persist(rows, tuple(self._deleted))]

    def on_stop_requested(self, now_ms: int) -> list[Output]:
        """This node goes: end what runs, forget it here, tell the coordinator if it can be told."""
        if self._is_going:
            return []
        self._is_going = True
        going = self._active()
        stops = [StopContainer(a.attempt_id, self._config.stop_grace_ms) for a in going]
        deletes = [attempt.row().key() for attempt in going]
        for attempt in going:
            attempt.stage = Stage.ENDED
            attempt.end = End(EndState.LOST, reason="node went down")
        told = self._post_reports(going, now_ms)
        for attempt in going:
            del self._attempts[attempt.attempt_id]
        return [*stops, *self._delete(deletes), *told] if going else []

    def check(self) -> None:
        used = Resources()
        for attempt_id, attempt in self._attempts.items():
            assert attempt_id.node_id == self._node_id, "a worker keeps its own attempts"
            assert (attempt.end is None) == (attempt.stage is not Stage.ENDED), "J1: ended once"
            if not attempt.is_old:
                used = used.plus(attempt.need())
        assert len(self._attempts) <= ATTEMPTS_MAX
        assert self._capacity_max.covers(used), "J3: what was accepted here fits"

    # --- Inside ----------------------------------------------------------------------------------

    def _drop(self, reason: str) -> list[Output]:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        return []

    def _delete(self, keys: Sequence[str]) -> list[Output]:
        self._deleted.update(dict.fromkeys(keys))
        while len(self._deleted) > DELETED_MAX:
            del self._deleted[next(iter(self._deleted))]
        return [Persist(deletes=tuple(keys))]

    def _active(self) -> list[LocalAttempt]:
        return [a for _, a in sorted(self._attempts.items()) if a.stage is not Stage.ENDED]

    def _ended(self) -> list[LocalAttempt]:
        return [a for _, a in sorted(self._attempts.items()) if a.stage is Stage.ENDED]

    def _is_not_to_be_obeyed(self, sender: NodeId, epoch: Epoch, beat: int, now_ms: int) -> str:
        """Why an order is not carried out; empty: it is."""
        if epoch != self._epoch:
            return "order_of_another_reign"
        if sender != epoch.node_id:
            return "order_not_by_the_coordinator"
        if self._is_mine:
            return ""
        if now_ms - self._heard_ms > self._config.silence_ms:
            return "order_after_silence"
        if self._beat - beat > BEATS_BEHIND_MAX:
            return "order_too_old"
        return ""

    def _wanted(self, wants: Iterable[JobId]) -> tuple[Job, ...]:
        """Jobs that nobody else knows, as many as a frame holds; the others are asked for again."""
        jobs = (self._ledger.table.job(job_id) for job_id in wants)
        found = [job for job in jobs if job is not None]
        while len(found) > 1 and are_too_large(JobPatch(job.job_id, job) for job in found):
            found.pop()
        return tuple(found)

    def _is_meant(self, attempt_id: AttemptId, job: Job) -> bool:
        return attempt_id.node_id == self._node_id and attempt_id.job_id == job.job_id

    def _accept_or_refuse(self, attempt_id: AttemptId, job: Job, now_ms: int) -> LocalAttempt:
        end = self._ended_before(attempt_id)
        if end is not None:
            return self._refuse(attempt_id, job, end)
        kept, is_full = tuple(self._attempts.values()), self._ledger.is_disk_failed
        refusal = refusal_of(
            job, self._facts, kept, self._listed, is_going=self._is_going, is_disk_full=is_full
        )
        if refusal:
            return self._refuse(attempt_id, job, End(EndState.REFUSED, reason=refusal))
        attempt = LocalAttempt(attempt_id, job)
        self._attempts[attempt_id] = attempt
        return attempt

    def _ended_before(self, attempt_id: AttemptId) -> End | None:
        """A reign that was away repeats an order for what another one has seen to its end."""
        known = self._ledger.table.ends(attempt_id.job_id, attempt_id.task).get(attempt_id)
        if known is None and AttemptRow(attempt_id).key() in self._deleted:
            return End(EndState.LOST, reason="it has ended here before")
        return known

    def _refuse(self, attempt_id: AttemptId, job: Job | None, end: End) -> LocalAttempt:
        """Say no, and remember it in memory only: nothing is at stake if it is forgotten."""
        attempt = LocalAttempt(attempt_id, job, Stage.ENDED, end, has_container=False)
        if len(self._attempts) < ATTEMPTS_MAX:
            self._attempts[attempt_id] = attempt
        return attempt

    def _stop(self, attempt: LocalAttempt, now_ms: int) -> list[Output]:
        attempt.is_stopping = True
        if not attempt.is_recovered:  # Else it is told again when it is adopted.
            attempt.deadline_ms = now_ms + self._config.stop_again_ms
        stop = StopContainer(attempt.attempt_id, self._config.stop_grace_ms)
        return [Persist((attempt.row(),)), stop]

    def _adopt(self, attempt: LocalAttempt, container: ContainerFound, now_ms: int) -> list[Output]:
        if container.exit_code is not None:
            return self._finish(attempt, end_of(attempt, container), now_ms)
        if not attempt.is_recovered:
            return []
        again_ms = self._config.stop_again_ms
        attempt.run(now_ms, again_ms, container.started_unix_ms, container.running_ms)
        outputs = self._tell(attempt, now_ms)
        if attempt.is_stopping:
            outputs.append(StopContainer(attempt.attempt_id, self._config.stop_grace_ms))
        return outputs

    def _finish(self, attempt: LocalAttempt, end: End, now_ms: int) -> list[Output]:
        assert attempt.end is None, "J1: an ended attempt never changes"
        attempt.stage = Stage.ENDED
        attempt.end = end
        attempt.deadline_ms = None
        attempt.is_recovered = False
        return self._tell(attempt, now_ms)

    def _tell(self, attempt: LocalAttempt, now_ms: int) -> list[Output]:
        """Write it down, then report it. Should the write fail, it is reported by and by."""
        attempt.reported_ms = now_ms
        then: tuple[Post, ...] = ()
        if self._epoch is not None:
            report = Report(self._epoch, (attempt.report(now_ms),))
            then = (Post(self._epoch.node_id, report),)
        return [Persist((attempt.row(),), then=then)]

    def _post_reports(self, attempts: Sequence[LocalAttempt], now_ms: int) -> list[Effect]:
        if self._epoch is None:
            return []
        posts: list[Effect] = []
        for start in range(0, len(attempts), ORDERS_MAX):
            batch = attempts[start : start + ORDERS_MAX]
            for attempt in batch:
                attempt.reported_ms = now_ms
            reports = tuple(attempt.report(now_ms) for attempt in batch)
            posts.append(Post(self._epoch.node_id, Report(self._epoch, reports)))
        return posts
