"""What will happen, drawn from a seed before anything does: faults, jobs, cancels.

The same seed and length give the same schedule. What is left to the moment is only who
coordinates then, and which PC stands in where the chosen one is out of order already; the history
says what it came to.
"""

import random
from typing import NamedTuple

PCS = 5
OLD_PCS_MAX = 3
GAP_S = (1.0, 4.0)
CALM_S = (10.0, 30.0)
"""After one round of all kinds nothing new breaks for so long: what was mended must be well then,
and nobody may be accused."""
JOB_GAP_S = (1.0, 4.0)
COORDINATOR_SHARE = 0.35
"""So many of the faults of one PC hit the one that coordinates then."""
ARRAY_TASKS_MAX = 6
RETRIES = 3
FAILING_CODE = 3
CANCELLED_SLEEP_S = 900
"""Longer than any run: such a job never ends by itself."""


class Kind(NamedTuple):
    """A kind of fault: how long it lasts, and how many numbers of reigns it may cost."""

    lasts_s: tuple[float, float]
    reigns: int


KINDS: dict[str, Kind] = {
    "kill": Kind((0.2, 10.0), 1),
    "power": Kind((0.5, 8.0), 1),
    "blackout": Kind((0.5, 5.0), 3),
    "freeze": Kind((0.5, 8.0), 2),
    "cut": Kind((0.5, 12.0), 2),
    "deaf": Kind((2.0, 12.0), 2),
    "split": Kind((3.0, 15.0), 2),
    "no datagrams": Kind((2.0, 10.0), 2),
    "loss": Kind((5.0, 12.0), 3),
    "engine": Kind((0.5, 4.0), 0),
    "disk full": Kind((4.0, 12.0), 1),
    "down": Kind((0.5, 8.0), 1),
}
"""A death costs one reign; power takes the containers along, and a blackout all agents, of which
several may stand when they are back. What may tear the pool or only seem a death costs one, and
one more when two reigns meet and the stronger goes on above both; heavy loss may do it once again.
"""

UPGRADE = "upgrade"
UPGRADED = (0.05, 0.4)
"""The share of the run by which an upgrade comes: first both releases meet faults together."""
UPGRADE_REIGNS = 1
"""An agent of the last release is stopped and started as today's, on its old data folder."""
FULL_PCS = (3, 4)
"""Their data folders are on small disks of their own."""
ANYWHERE = -1
COORDINATOR = -2


class Blow(NamedTuple):
    """One fault: `on` is a PC by number from 0, or who coordinates then."""

    at_s: float
    kind: str
    on: int
    lasts_s: float
    others: tuple[int, ...] = ()
    """The PCs on the other side, for what tears the network."""


class Task(NamedTuple):
    """A job to be submitted, and what must become of it."""

    at_s: float
    number: int
    kind: str
    on: int
    tasks: int
    sleep_s: float
    nonce: str
    cancel_at_s: float = 0.0
    cancel_on: int = 0


def old_pcs(seed: int) -> list[int]:
    """The PCs that begin with the last release."""
    rng = random.Random(f"{seed}:old")
    return sorted(rng.sample(range(PCS), rng.randint(1, OLD_PCS_MAX)))


def blows(seed: int, seconds: float) -> list[Blow]:
    """All faults, by time; every kind comes once before any comes again, with a calm between."""
    rng = random.Random(f"{seed}:blows")
    made = [
        Blow(round(rng.uniform(*UPGRADED) * seconds, 2), UPGRADE, pc, 0.5) for pc in old_pcs(seed)
    ]
    at_s, bag = rng.uniform(*GAP_S), list[str]()
    while at_s < seconds:
        if not bag:
            bag = list(KINDS)
            rng.shuffle(bag)
        made.append(_blow(rng, bag.pop(), at_s))
        at_s += rng.uniform(*GAP_S) if bag else rng.uniform(*CALM_S)
    return sorted(made)


def _blow(rng: random.Random, kind: str, at_s: float) -> Blow:
    on = rng.randrange(PCS)
    others: tuple[int, ...] = ()
    if kind == "split":
        others = tuple(sorted(rng.sample(range(PCS), rng.randint(1, 2))))
        on = ANYWHERE
    elif kind == "deaf":
        peers = [pc for pc in range(PCS) if pc != on]
        others = tuple(sorted(rng.sample(peers, rng.randint(1, len(peers)))))
    elif kind in ("loss", "engine", "blackout"):
        on = ANYWHERE
    elif kind == "disk full":
        on = rng.choice(FULL_PCS)
    elif rng.random() < COORDINATOR_SHARE:
        on = COORDINATOR
    lasts_s = round(rng.uniform(*KINDS[kind].lasts_s), 2)
    return Blow(round(at_s, 2), kind, on, lasts_s, others)


JOB_KINDS = ("fine", "fine", "array", "array", "long", "flaky", "failing", "mixed", "cancelled")


def tasks(seed: int, seconds: float) -> list[Task]:
    """All jobs, by time."""
    rng = random.Random(f"{seed}:tasks")
    made: list[Task] = []
    at_s = 0.5
    while at_s < seconds:
        made.append(_task(rng, len(made), at_s, seconds))
        at_s += rng.uniform(*JOB_GAP_S)
    return made


def _task(rng: random.Random, number: int, at_s: float, seconds: float) -> Task:
    kind = rng.choice(JOB_KINDS)
    count = rng.randint(2, ARRAY_TASKS_MAX) if kind in ("array", "mixed") else 1
    sleep_s = round(rng.uniform(8.0, 20.0) if kind == "long" else rng.uniform(0.0, 3.0), 1)
    nonce = f"{rng.getrandbits(64):016x}"
    cancel_at_s = 0.0
    if kind == "cancelled":
        count, sleep_s = rng.randint(1, 3), float(CANCELLED_SLEEP_S)
        cancel_at_s = round(min(at_s + rng.uniform(0.2, 15.0), seconds), 2)
    on, cancel_on = rng.randrange(PCS), rng.randrange(PCS)
    return Task(round(at_s, 2), number, kind, on, count, sleep_s, nonce, cancel_at_s, cancel_on)


def name_of(seed: int, task: Task) -> str:
    """A job's name: how a job is known again whose submit brought no id back."""
    return f"chaos-{seed}-{task.number}"


def script_of(task: Task) -> str:
    """The shell words of its tasks: each says who it is and what was drawn for it."""
    said = f'echo {task.nonce} "$RAIN_JOB_ID" "$RAIN_TASK_INDEX"'
    slept = f"sleep {task.sleep_s:g}"
    match task.kind:
        case "flaky":
            return f'{said}; {slept}; test "$RAIN_ATTEMPT" -gt 1'
        case "failing":
            return f"{said}; {slept}; exit {FAILING_CODE}"
        case "mixed":
            return f'{said}; {slept}; test "$RAIN_TASK_INDEX" -ne 1 || exit {FAILING_CODE}'
        case _:
            return f"{said}; {slept}"


def retries_of(task: Task) -> int:
    return {"flaky": RETRIES, "failing": 1}.get(task.kind, 0)
