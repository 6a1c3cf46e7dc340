"""One attempt on its worker, from acceptance until its end is acknowledged."""

from dataclasses import dataclass

from rain.effects import ContainerExited, ContainerFailed, ContainerFound
from rain.model import REASON_CHARS_MAX, AttemptId, End, EndState, Job, Resources, Stage
from rain.sched.messages import AttemptReport
from rain.sched.records import AttemptRow

EXECUTORS = ("docker", "process")
"""All that there are."""
EXIT_TIMEOUT = 124
EXIT_KILLED = 137
CRASH_REASON = "its PC went down under it"


@dataclass(slots=True)
class LocalAttempt:
    """One attempt on this node, from acceptance until its end is acknowledged."""

    attempt_id: AttemptId
    job: Job | None
    stage: Stage = Stage.STARTING
    end: End | None = None
    started_ms: int = 0
    started_unix_ms: int = 0
    is_old: bool = False
    """Accepted in an earlier life of the agent."""
    is_recovered: bool = False
    """Old, and the executor has not said yet what became of it."""
    is_ordered: bool = False
    """Its row is on disk and its start was ordered: only the executor can say no any more."""
    is_stopping: bool = False
    is_timed_out: bool = False
    deadline_ms: int | None = None
    """Of its time limit; once it is stopping: when to tell it again; while it is recovered: when
    its executor has been silent for too long."""
    reported_ms: int = 0
    has_container: bool = True

    @classmethod
    def recovered(cls, row: AttemptRow, job: Job | None) -> "LocalAttempt":
        """As an earlier life of the agent wrote it down."""
        return cls(
            row.attempt_id,
            job,
            row.stage,
            row.end,
            is_old=True,
            is_recovered=row.stage is not Stage.ENDED,
            is_stopping=row.is_stopping,
        )

    def need(self) -> Resources:
        if self.stage is Stage.ENDED or self.job is None:
            return Resources()
        return self.job.spec.need

    def is_run_by(self, executors: tuple[str, ...]) -> bool:
        """Whether one of these would know about it: of a job that was forgotten, all together."""
        if self.job is None:
            return all(each in executors for each in EXECUTORS)
        return self.job.spec.executor in executors

    def run(
        self, now_ms: int, stop_again_ms: int, started_unix_ms: int, running_ms: int = 0
    ) -> None:
        """Its container runs, for so long already: its time limit counts from the start."""
        self.stage = Stage.RUNNING
        self.started_unix_ms = started_unix_ms
        self.started_ms = now_ms - running_ms
        self.is_recovered = False
        self.deadline_ms = None
        timeout_ms = self.job.spec.timeout_ms if self.job is not None else 0
        if self.is_stopping:
            self.deadline_ms = now_ms + stop_again_ms
        elif timeout_ms:
            self.deadline_ms = self.started_ms + timeout_ms

    def row(self) -> AttemptRow:
        return AttemptRow(self.attempt_id, self.stage, self.end, self.is_stopping)

    def report(self, now_ms: int) -> AttemptReport:
        if self.stage is not Stage.RUNNING:
            return AttemptReport(self.attempt_id, self.stage, 0, self.end)
        running_ms = now_ms - self.started_ms
        return AttemptReport(self.attempt_id, self.stage, running_ms, None, self.started_unix_ms)


def end_of(attempt: LocalAttempt, exited: ContainerExited | ContainerFound) -> End:
    """What an exit means: a stop that was ordered explains it before anything else does."""
    assert exited.exit_code is not None, "it has ended"
    code, reason, crashed = exit_code_of(exited.exit_code), "", False
    if attempt.is_stopping:
        state = EndState.CANCELLED
    elif attempt.is_timed_out:
        state, code = EndState.TIMEOUT, EXIT_TIMEOUT
    elif exited.is_lost:
        state, code, reason = EndState.LOST, -1, "the engine was stopped under it"
        if attempt.is_recovered:
            reason, crashed = CRASH_REASON, True
    elif exited.out_of_memory:
        state, code = EndState.OUT_OF_MEMORY, EXIT_KILLED
    else:
        state = EndState.SUCCEEDED if exited.exit_code == 0 else EndState.FAILED
        if isinstance(exited, ContainerExited) and state is EndState.FAILED:
            reason = exited.reason[:REASON_CHARS_MAX]
    return End(state, code, reason, exited.started_unix_ms, exited.ended_unix_ms, crashed)


def end_of_failure(attempt: LocalAttempt, failed: ContainerFailed) -> End:
    """What it means that it could not be started."""
    code = exit_code_of(failed.exit_code)
    if attempt.is_stopping:
        state = EndState.CANCELLED
    elif failed.refused:
        state, code = EndState.REFUSED, -1
    else:
        state = EndState.FAILED
    reason = failed.reason[:REASON_CHARS_MAX]
    return End(state, code, reason, ended_unix_ms=failed.ended_unix_ms)


def end_of_missing(attempt: LocalAttempt) -> End:
    """On disk, but no container: it never started, or went down with its PC.

    A life of the agent that ends politely deletes what it has running from the disk, with the same
    write by which it gives it up: what is still there as running was running when that life was
    cut off.
    """
    if attempt.is_stopping:
        return End(EndState.CANCELLED)
    if attempt.stage is not Stage.RUNNING:
        return End(EndState.LOST, reason="the agent restarted before it could start")
    return End(EndState.LOST, reason=CRASH_REASON, crashed=True)


def end_of_silence(attempt: LocalAttempt) -> End:
    """On disk, and its executor never said what became of it: it may be off, nobody crashed."""
    if attempt.is_stopping:
        return End(EndState.CANCELLED)
    return End(EndState.LOST, reason="its executor does not answer")


def exit_code_of(exit_code: int) -> int:
    """Whatever an engine says, as an exit code: -1 where it is none."""
    return exit_code if -1 <= exit_code <= 255 else -1
