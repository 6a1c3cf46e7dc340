"""What one merge into the job table brought: exactly what was not known before."""

from rain.model import AttemptId
from rain.sched.cells import UNDECIDED
from rain.sched.knowledge import JobKnowledge, pack_tasks
from rain.sched.messages import NOT_CANCELLED, PATCH_TASKS_MAX, AttemptEnd, Cell, JobPatch


class News:
    """What one merge brought for one job."""

    def __init__(self) -> None:
        self.job = False
        self.cancelled = False
        self.cells: dict[int, None] = {}
        self.ends: dict[int, dict[AttemptId, None]] = {}

    def tasks(self) -> dict[int, None]:
        return {**self.cells, **dict.fromkeys(self.ends)}

    def patches(self, known: JobKnowledge) -> list[JobPatch]:
        if not (self.job or self.cancelled or self.cells or self.ends):
            return []
        rows = ((task, *self._row(known, task)) for task in sorted(self.tasks()))
        tasks = pack_tasks(rows)
        head = JobPatch.of_parts(
            known.job_id,
            known.job if self.job else None,
            known.cancel() if self.cancelled else NOT_CANCELLED,
            tuple(tasks[:PATCH_TASKS_MAX]),
        )
        rest = range(PATCH_TASKS_MAX, len(tasks), PATCH_TASKS_MAX)
        return [
            head,
            *(
                JobPatch(known.job_id, tasks=tuple(tasks[first : first + PATCH_TASKS_MAX]))
                for first in rest
            ),
        ]

    def _row(self, known: JobKnowledge, task: int) -> tuple[Cell, tuple[AttemptEnd, ...]]:
        fresh = self.ends.get(task, {})
        ends = tuple(entry for entry in known.entries(task) if entry.attempt_id in fresh)
        return known.cell(task) if task in self.cells else UNDECIDED, ends
