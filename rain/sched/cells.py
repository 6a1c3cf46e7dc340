"""The two orders that make the job table a join-semilattice.

A table is merged cell by cell and end by end, each time by taking a maximum; a maximum under a
total order is commutative, associative and idempotent, so copies agree in whatever order, how
often and in what pieces they hear of each other's knowledge.

Cells: one per task, the decision that stands. The order, most significant field first:

1. success     a committed success; nothing but another success can ever be larger
2. generation  `rain retry` opens the next one, which beats whatever the earlier ones came to
3. final       nothing more will be tried in this generation
4. epoch       of the reign that decided (none: nobody has); a newer reign overrules an older
5. turn        raised by every decision (place, give up, adopt, finish) on this task
6. stage       within one decision an attempt only moves on
7. attempt id  never decides between honest cells ((epoch, turn) names one decision); makes
               the order total

Ends: beside each cell a map attempt -> End that only grows. One attempt has one end, but a
coordinator may conclude LOST before the worker's own word arrives, so two ends of one attempt
are joined too: LOST < REFUSED < CANCELLED < TIMEOUT < OUT_OF_MEMORY < FAILED < SUCCEEDED, then
exit code, reason, start, end. SUCCEEDED is the top because no later word may change a committed
success; LOST is the bottom because it is a conclusion, not an observation.

The map is capped at ENDS_PER_TASK_MAX entries: the largest by (rank of the state, number of the
attempt, attempt id, rest of the end) stay, so successes and failures first, newest first. That
is still a join. For one attempt this order agrees with the order of ends, so an entry can only
rise; an entry was dropped because ENDS_PER_TASK_MAX others were larger; those rise too and never
sink below it; so whoever had kept it would drop it as well. At most RETRIES_MAX + 1 failures
happen in one generation: the cap does not lose count of them.
"""

from collections.abc import Iterable

from rain.model import (
    ENDS_PER_TASK_MAX,
    NO_EPOCH,
    AttemptId,
    End,
    EndState,
    Epoch,
    JobId,
    NodeId,
    Stage,
)
from rain.sched.messages import AttemptEnd, Cell

UNDECIDED = Cell()
"""The smallest cell: of a task nobody has decided on. It is implicit, never stored or sent."""

ACTIVE_STAGES = (Stage.PLACED, Stage.STARTING, Stage.RUNNING)
FAILURES = (EndState.FAILED, EndState.TIMEOUT, EndState.OUT_OF_MEMORY)
"""What counts against the retries: the task's own doing, never the node's."""

_NO_ATTEMPT = AttemptId(JobId(""), 0, 0, NO_EPOCH, NodeId(""))
_RANK = {
    EndState.LOST: 0,
    EndState.REFUSED: 1,
    EndState.CANCELLED: 2,
    EndState.TIMEOUT: 3,
    EndState.OUT_OF_MEMORY: 4,
    EndState.FAILED: 5,
    EndState.SUCCEEDED: 6,
}

CellKey = tuple[bool, int, bool, bool, Epoch, int, Stage, bool, AttemptId]
EndKey = tuple[int, int, str, int, int]
EntryKey = tuple[int, int, AttemptId, EndKey]


def cell_key(cell: Cell) -> CellKey:
    """Total: equal keys mean equal cells."""
    epoch, attempt_id = cell.epoch, cell.attempt_id
    return (
        cell.success,
        cell.generation,
        cell.final,
        epoch is not None,
        NO_EPOCH if epoch is None else epoch,
        cell.turn,
        cell.stage,
        attempt_id is not None,
        _NO_ATTEMPT if attempt_id is None else attempt_id,
    )


def join_cells(one: Cell, other: Cell) -> Cell:
    """The larger; `one` where they are equal."""
    return other if cell_key(other) > cell_key(one) else one


def is_active(cell: Cell) -> bool:
    """Does an attempt hold a place on a node by this cell?"""
    return cell.stage in ACTIVE_STAGES and not cell.final and not cell.success


def is_sound(cell: Cell, job_id: JobId, first: int, last: int) -> bool:
    """Can this cell be that of tasks `first` to `last`? A peer may send any nonsense."""
    attempt_id = cell.attempt_id
    if cell.generation < UNDECIDED.generation:
        return False
    if attempt_id is None:
        return not cell.success and cell.stage not in ACTIVE_STAGES
    return first == last and attempt_id.job_id == job_id and attempt_id.task == first


def end_key(end: End) -> EndKey:
    """Total: equal keys mean equal ends."""
    return (
        _RANK[end.state],
        end.exit_code,
        end.reason,
        end.started_unix_ms,
        end.ended_unix_ms,
    )


def entry_key(entry: AttemptEnd) -> EntryKey:
    """What the cap keeps the largest by. For one attempt it orders as `end_key` does."""
    attempt_id, end = entry.attempt_id, entry.end
    return (_RANK[end.state], attempt_id.number, attempt_id, end_key(end))


def join_ends(mine: Iterable[AttemptEnd], theirs: Iterable[AttemptEnd]) -> tuple[AttemptEnd, ...]:
    """Both in one, the larger end where both know one, capped, in order of attempt id."""
    joined = {entry.attempt_id: entry for entry in mine}
    for entry in theirs:
        known = joined.get(entry.attempt_id)
        if known is None or end_key(entry.end) > end_key(known.end):
            joined[entry.attempt_id] = entry
    kept = sorted(joined.values(), key=entry_key)[-ENDS_PER_TASK_MAX:]
    return tuple(sorted(kept, key=lambda entry: entry.attempt_id))
