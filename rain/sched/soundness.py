"""Whether what a patch says of a task can be true of any task. A property of the patch alone."""

from rain.model import JobId
from rain.sched.cells import is_sound
from rain.sched.messages import TaskPatch

NODE_ID_CHARS_MAX = 128


def fault_of(part: TaskPatch, job_id: JobId) -> str:
    """What is nonsense in it; '' if nothing is."""
    first, last = part.first, part.last
    if not _are_ids_short(part) or not is_sound(part.cell, job_id, first, last):
        return "cell_not_sound"
    own = (job_id, first)
    if part.ends and (
        first != last or any((e.attempt_id.job_id, e.attempt_id.task) != own for e in part.ends)
    ):
        return "end_not_sound"
    return ""


def _are_ids_short(part: TaskPatch) -> bool:
    """Whatever is kept travels on: a name without end would make a message without end."""
    attempts = [entry.attempt_id for entry in part.ends]
    if part.cell.attempt_id is not None:
        attempts.append(part.cell.attempt_id)
    names = [name for each in attempts for name in (each.node_id, each.epoch.node_id)]
    if part.cell.epoch is not None:
        names.append(part.cell.epoch.node_id)
    return all(len(name) <= NODE_ID_CHARS_MAX for name in names)
