"""Could the pool do more than it does? What is left of the work, and what room there is for it.

No pool ends more than it has room for. Many faults leave a long queue, a removed PC leaves less
room, and a container that pays no heed to a polite stop keeps its room for the whole grace. So time
counts against the pool only while it could do better: while a task waits that would fit on a PC,
or while nothing runs that anybody waits for. Whoever forgets a task, or believes no report, soon
stands there with room to spare.
"""

from collections.abc import Collection, Iterable, Sequence

from rain.model import Job, JobId, Resources
from rain.sched.worker import WorkerConfig

from .executor import START_US_MAX, Container
from .workload import HANG_MS

GRACE_MS = WorkerConfig().stop_grace_ms
Task = tuple[JobId, int]
Pc = tuple[Resources, Collection[Container]]
"""What it has, and what lies there."""


def is_full(left: Sequence[tuple[Job, int]], pcs: Sequence[Pc]) -> bool:
    """Something of it runs, and of what waits nothing fits on any PC."""
    taking = [[one for one in containers if one.exit_code is None] for _, containers in pcs]
    running = {_task_of(container) for containers in taking for container in containers}
    free = [
        _free(capacity, containers) for (capacity, _), containers in zip(pcs, taking, strict=True)
    ]
    active: dict[JobId, int] = {}
    for job_id, _ in running:
        active[job_id] = active.get(job_id, 0) + 1
    works = False
    for job, task in left:
        if (job.job_id, task) in running:
            # What hangs is nobody's work: it runs for ever if nobody ends it.
            works = works or not _hangs(job)
        elif job.spec.running_max and active.get(job.job_id, 0) >= job.spec.running_max:
            continue
        elif any(room.covers(job.spec.need) for room in free):
            return False
    return works


def work_us(jobs: Iterable[Job]) -> int:
    """What they take one after the other if all attempts fail and no stop is heeded.

    A pool that is full for longer does the same again and again.
    """
    return sum(_work_ms(job) for job in jobs if not _hangs(job)) * 1_000


def _work_ms(job: Job) -> int:
    spec = job.spec
    run_ms = int(spec.command[1])
    if spec.timeout_ms:
        run_ms = min(run_ms, spec.timeout_ms) + GRACE_MS
    return spec.tasks * (spec.retries + 1) * (run_ms + START_US_MAX // 1_000)


def _free(capacity: Resources, containers: Iterable[Container]) -> Resources:
    for container in containers:
        capacity = capacity.minus(container.need)
    return capacity


def _task_of(container: Container) -> Task:
    return container.attempt_id.job_id, container.attempt_id.task


def _hangs(job: Job) -> bool:
    return job.spec.command[1] == str(HANG_MS)
