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
are joined too: LOST < REFUSED < CANCELLED < crashed < TIMEOUT < OUT_OF_MEMORY < FAILED <
SUCCEEDED, then exit code, reason, start, end, and whether it is marked as crashed. SUCCEEDED is
the top because no later word may change a committed success; LOST is the bottom because it is a
conclusion, not an observation. *Crashed* is LOST with that mark: its worker's own word that the PC
went down under it.

The map is capped at ENDS_PER_TASK_MAX entries: the largest by (rank of the state, number of the
attempt, attempt id, rest of the end) stay, so successes, failures and crashes first, newest
first. That is still a join. For one attempt this order agrees with the order of ends, so an entry
can only rise; an entry was dropped because ENDS_PER_TASK_MAX others were larger; those rise too
and never sink below it; so whoever had kept it would drop it as well.

The cap does not lose count of what a task is given up for (E17), whoever has joined what. Crashes
are dropped before failures, and failures before successes. Where a crash was dropped, all 32 that
stay are crashes, failures or successes; without a success either more than RETRIES_MAX = 20 of
them are failures or more than CRASH_LIMIT_MAX = 10 are crashes (20 + 10 < 32), so one of the
limits is reached by what stays alone. Where a failure was dropped, 32 failures or successes stay.
"""

from collections.abc import Iterable

from rain.model import (
    CRASH_LIMIT_MAX,
    ENDS_PER_TASK_MAX,
    NO_EPOCH,
    RETRIES_MAX,
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
    EndState.TIMEOUT: 4,
    EndState.OUT_OF_MEMORY: 5,
    EndState.FAILED: 6,
    EndState.SUCCEEDED: 7,
}
_RANK_OF_CRASH = 3
assert RETRIES_MAX + CRASH_LIMIT_MAX < ENDS_PER_TASK_MAX, "the cap would lose count"

CellKey = tuple[bool, int, bool, bool, Epoch, int, Stage, bool, AttemptId]
EndKey = tuple[int, int, str, int, int, bool]
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


def is_crash(end: End) -> bool:
    """Did its PC go down under it, by the word of that PC?"""
    return end.crashed and end.state is EndState.LOST


def is_conclusion(end: End) -> bool:
    """Said because its node was not there to say it: whatever that says later stands instead."""
    return end.state is EndState.LOST and not end.crashed


def crashes(ends: Iterable[End]) -> int:
    """How often a PC went down under a task."""
    return sum(is_crash(end) for end in ends)


def end_key(end: End) -> EndKey:
    """Total: equal keys mean equal ends."""
    return (
        _rank(end),
        end.exit_code,
        end.reason,
        end.started_unix_ms,
        end.ended_unix_ms,
        end.crashed,
    )


def entry_key(entry: AttemptEnd) -> EntryKey:
    """What the cap keeps the largest by. For one attempt it orders as `end_key` does."""
    attempt_id, end = entry.attempt_id, entry.end
    return (_rank(end), attempt_id.number, attempt_id, end_key(end))


def _rank(end: End) -> int:
    return _RANK_OF_CRASH if is_crash(end) else _RANK[end.state]


def join_ends(mine: Iterable[AttemptEnd], theirs: Iterable[AttemptEnd]) -> tuple[AttemptEnd, ...]:
    """Both in one, the larger end where both know one, capped, in order of attempt id."""
    joined = {entry.attempt_id: entry for entry in mine}
    for entry in theirs:
        known = joined.get(entry.attempt_id)
        if known is None or end_key(entry.end) > end_key(known.end):
            joined[entry.attempt_id] = entry
    kept = sorted(joined.values(), key=entry_key)[-ENDS_PER_TASK_MAX:]
    return tuple(sorted(kept, key=lambda entry: entry.attempt_id))
