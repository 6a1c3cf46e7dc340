"""One attempt on its worker, from acceptance until its end is acknowledged."""

from dataclasses import dataclass

from rain.model import AttemptId, End, EndState, Job, Resources, Stage
from rain.sched.messages import AttemptReport
from rain.sched.records import AttemptRow

EXIT_TIMEOUT = 124
EXIT_KILLED = 137


@dataclass(slots=True)
class LocalAttempt:
    """One attempt on this node, from acceptance until its end is acknowledged."""

    attempt_id: AttemptId
    job: Job | None
    stage: Stage = Stage.STARTING
    end: End | None = None
    started_ms: int = 0
    is_old: bool = False
    """Accepted in an earlier life of the agent."""
    is_recovered: bool = False
    """Old, and the executor has not said yet what became of it."""
    is_stopping: bool = False
    is_timed_out: bool = False
    deadline_ms: int | None = None
    """Of its time limit; once it is stopping: when to tell it again."""
    reported_ms: int = 0
    has_container: bool = True

    def need(self) -> Resources:
        if self.stage is Stage.ENDED or self.job is None:
            return Resources()
        return self.job.spec.need

    def row(self) -> AttemptRow:
        return AttemptRow(self.attempt_id, self.stage, self.end, self.is_stopping)

    def report(self, now_ms: int) -> AttemptReport:
        running_ms = now_ms - self.started_ms if self.stage is Stage.RUNNING else 0
        return AttemptReport(self.attempt_id, self.stage, running_ms, self.end)


def end_of(
    attempt: LocalAttempt,
    exit_code: int,
    out_of_memory: bool,
    started_unix_ms: int,
    ended_unix_ms: int,
) -> End:
    """What an exit means: a stop that was ordered explains it before anything else does."""
    if attempt.is_stopping:
        state, code = EndState.CANCELLED, exit_code_of(exit_code)
    elif attempt.is_timed_out:
        state, code = EndState.TIMEOUT, EXIT_TIMEOUT
    elif out_of_memory:
        state, code = EndState.OUT_OF_MEMORY, EXIT_KILLED
    elif exit_code == 0:
        state, code = EndState.SUCCEEDED, 0
    else:
        state, code = EndState.FAILED, exit_code_of(exit_code)
    return End(state, code, "", started_unix_ms, ended_unix_ms)


def exit_code_of(exit_code: int) -> int:
    """Whatever an engine says, as an exit code: -1 where it is none."""
    return exit_code if -1 <= exit_code <= 255 else -1
