"""Swarm options: every seed draws its own pool, its own weather and its own kinds of faults.

A run in which everything goes wrong at once hides what a run with one kind of trouble shows, so
each kind is switched off entirely in a good part of the seeds.
"""

import random

from msgspec.structs import replace

from rain.model import Role, Value

from .world import draw_int, exponential_us, pick, pick_some

NODES_MIN = 3
NODES_MAX = 9
"""Of a pool that the seed draws itself."""
SECONDS_DEFAULT = 60
HEALING_S = 20
"""The last part of a run is without faults; the first part has at least FAULTS_MIN of them."""
FAULTS_MIN = 12
JOBS_MIN = 24

FAULT_KINDS = (
    "crash",
    "power_off",
    "pause",
    "stutter",
    "suspend",
    "partition",
    "isolate",
    "one_way",
    "bridge",
    "storm",
    "disk_full",
    "disk_stall",
    "stop",
    "blackout",
)
HOSTILE_KINDS = ("kick", "rotate", "forge", "replay", "liar")
"""Struck beside the others, so that the weather stays what it is."""
HOSTILE_MAX = 8
HOSTILE_SHARE = 0.4
SECOND_ADMIN_SHARE = 0.8
WORKERS_SHARE = 0.3
PERSONS = ("ann", "bob", "cyd")
EPILOGUES = ("none", "return", "failover", "handover", "worker_lost")
"""After the healing: nothing; a follower restarts; the coordinator dies; it stops politely; a PC
that runs tasks loses power."""
HARD_EPILOGUES = (
    "two_deaths",
    "coordinator_cable",
    "worker_cable",
    "deaf_coordinator",
    "deaf_heir",
    "full_disks",
    "sleeping_coordinator",
    "lame_coordinator",
    "returning_reign",
    "worker_judged",
    "old_heir",
)
"""Two die at once, the coordinator one of them; a cable is out for a while, its or another's."""
HARD_EPILOGUE_SHARE = 0.55
WEIGHTS = {"crash": 5, "power_off": 3, "partition": 4, "isolate": 3, "blackout": 1, "suspend": 1}
"""Of the kinds that a seed plays; the others weigh 2."""

TROUBLE_KINDS = (
    "moment",
    "restart_storm",
    "join_storm",
    "leave_cut_short",
    "sleep",
    "starve",
    "disk_slow",
    "wall_jump",
    "readdress",
    "lossy_links",
    "clog",
    "swizzle_clog",
    "flap",
    "black_hole",
    "no_packets",
    "no_streams",
    "wifi_bursts",
    "no_broadcast",
    "echo",
    "reset",
    "old_disk",
)
"""Beside the common faults. A new one goes to the end."""
TROUBLES_SHARE = 0.55
"""Of the seeds that know these at all; the others have the common faults only."""
TROUBLE_SHARE = 0.35
TROUBLE_WEIGHTS = {"moment": 12}
"""Of the kinds that a seed plays; there are many moments. The others weigh 1."""
TROUBLES_MAX = 10
ODD_SHARE = 0.12
"""Of the seeds, for each oddity of clocks, packets and work."""
WIDE_RATE_SHARE = 0.04
WIDE_RATE_PPM = 100_000
TICK_US_COARSE = 15_625
"""The monotonic clock of some systems moves in steps of so much."""
BURST_TASKS_MAX = 300
BURST_TASKS_PER_CORE = 15
HANGS_MAX = 3
JOBS_MAX = 120
FORGETFUL_SHARE = 0.3
"""Of the seeds: their pools forget within seconds what is over."""
JOBS_KEPT_MAX = 12
STEADY_MS_MAX = 3_000


class Options(Value, frozen=True):
    """What one seed plays. Printed first in a trace."""

    nodes: int
    active_ms: int
    faults: int
    kinds: tuple[str, ...]
    coordinator_bias_percent: int
    fault_ms_mean: int
    delay_us_min: int
    delay_us_mean: int
    loss_permille: int
    duplicate_permille: int
    replay_permille: int
    corrupt_permille: int
    heavy_tail_permille: int
    stream_stall_ms_max: int
    clock_rates_ppm: tuple[int, ...]
    timer_late_us_max: int
    stall_permille: int
    start_failure_permille: int
    jobs: int
    submit_ms_mean: int
    cores_milli: tuple[int, ...]
    ranks: tuple[int, ...]
    epilogue: str
    roles: tuple[Role, ...]
    persons: tuple[str, ...]
    hostile_kinds: tuple[str, ...]
    hostile: int
    trouble_kinds: tuple[str, ...] = ()
    troubles: int = 0
    clock_ticks_us: tuple[int, ...] = ()
    """By host; empty: every clock shows every millisecond."""
    truncate_permille: int = 0
    exit_twice_permille: int = 0
    exit_late_permille: int = 0
    submit_twice_percent: int = 0
    hangs: int = 0
    burst_tasks: int = 0
    jobs_kept: int | None = None
    """None: as the product has it; nothing is forgotten within a run."""
    steady_ms: int = 0


def draw_options(dice: random.Random, nodes: int | None, seconds: int) -> Options:
    """What is drawn later is drawn last, so that a new option moves as little as possible."""
    return _draw_keeping(dice, _draw_oddities(dice, _draw_common(dice, nodes, seconds)))


def _draw_keeping(dice: random.Random, drawn: Options) -> Options:
    jobs_kept, steady_ms = draw_int(dice, 0, JOBS_KEPT_MAX), draw_int(dice, 0, STEADY_MS_MAX)
    if dice.random() >= FORGETFUL_SHARE:
        return drawn
    return replace(drawn, jobs_kept=jobs_kept, steady_ms=steady_ms)


def _draw_oddities(dice: random.Random, drawn: Options) -> Options:
    is_troubled = dice.random() < TROUBLES_SHARE
    # Dice of its own for every kind, so that one more moves nothing else.
    draw = dice.random()
    kinds = tuple(
        kind for kind in TROUBLE_KINDS if random.Random(f"{draw}/{kind}").random() < TROUBLE_SHARE
    )
    troubles = draw_int(dice, 2, TROUBLES_MAX)
    epilogue = drawn.epilogue
    if dice.random() < HARD_EPILOGUE_SHARE:
        epilogue = pick(dice, list(HARD_EPILOGUES))
    rates, ticks = drawn.clock_rates_ppm, tuple[int, ...]()
    if dice.random() < WIDE_RATE_SHARE:
        rates = tuple(1_000_000 + draw_int(dice, -WIDE_RATE_PPM, WIDE_RATE_PPM) for _ in rates)
    if dice.random() < ODD_SHARE:
        ticks = tuple((1_000, TICK_US_COARSE)[draw_int(dice, 0, 1)] for _ in rates)
    burst = min(BURST_TASKS_MAX, BURST_TASKS_PER_CORE * sum(drawn.cores_milli) // 1_000)
    return replace(
        drawn,
        epilogue=epilogue,
        clock_rates_ppm=rates,
        clock_ticks_us=ticks,
        trouble_kinds=kinds if is_troubled else (),
        troubles=troubles if is_troubled and kinds else 0,
        truncate_permille=draw_int(dice, 1, 20) if dice.random() < ODD_SHARE else 0,
        exit_twice_permille=draw_int(dice, 20, 300) if dice.random() < ODD_SHARE else 0,
        exit_late_permille=draw_int(dice, 20, 300) if dice.random() < ODD_SHARE else 0,
        submit_twice_percent=draw_int(dice, 10, 60) if dice.random() < ODD_SHARE else 0,
        hangs=draw_int(dice, 1, HANGS_MAX) if dice.random() < ODD_SHARE else 0,
        burst_tasks=burst if dice.random() < ODD_SHARE / 2 else 0,
    )


def _draw_common(dice: random.Random, nodes: int | None, seconds: int) -> Options:
    count = nodes if nodes is not None else draw_int(dice, NODES_MIN, NODES_MAX)
    active_ms = max(1, seconds - HEALING_S) * 1_000
    kinds = tuple(kind for kind in FAULT_KINDS if dice.random() < 0.5)
    calm = dice.random() < 0.4
    skew_ppm = (0, 1_000, 10_000, 30_000)[draw_int(dice, 0, 3)]
    jobs = draw_int(dice, JOBS_MIN, JOBS_MIN + 16)
    faults = draw_int(dice, FAULTS_MIN, FAULTS_MIN + 8)
    return Options(
        nodes=count,
        active_ms=active_ms,
        faults=max(1, faults * active_ms // 40_000),
        kinds=kinds or ("crash", "partition"),
        coordinator_bias_percent=draw_int(dice, 0, 70),
        fault_ms_mean=draw_int(dice, 500, 4_000),
        delay_us_min=draw_int(dice, 50, 1_500),
        delay_us_mean=draw_int(dice, 100, 3_000 if calm else 15_000),
        loss_permille=0 if calm else min(150, exponential_us(dice, 25, 150)),
        duplicate_permille=0 if calm else draw_int(dice, 0, 50),
        replay_permille=0 if calm else draw_int(dice, 0, 5),
        corrupt_permille=0 if calm else draw_int(dice, 0, 5),
        heavy_tail_permille=0 if calm else draw_int(dice, 0, 10),
        stream_stall_ms_max=draw_int(dice, 200, 2_000),
        clock_rates_ppm=tuple(
            1_000_000 + draw_int(dice, -skew_ppm, skew_ppm) for _ in range(count)
        ),
        timer_late_us_max=draw_int(dice, 100, 8_000),
        stall_permille=0 if calm else draw_int(dice, 0, 10),
        start_failure_permille=draw_int(dice, 0, 40),
        jobs=max(1, min(JOBS_MAX, jobs * max(count, NODES_MAX) // NODES_MAX) * active_ms // 40_000),
        submit_ms_mean=max(1, active_ms // (jobs + 8)),
        cores_milli=tuple(1_000 * draw_int(dice, 2, 8) for _ in range(count)),
        ranks=tuple(draw_int(dice, 0, 2) if dice.random() < 0.3 else 0 for _ in range(count)),
        epilogue=pick(dice, list(EPILOGUES)),
        persons=tuple(pick(dice, list(PERSONS)) for _ in range(count)),
        hostile_kinds=(hostile := _draw_hostile(dice)),
        roles=_draw_roles(dice, count, "liar" in hostile),
        hostile=draw_int(dice, 3, HOSTILE_MAX) if hostile else 0,
    )


def _draw_hostile(dice: random.Random) -> tuple[str, ...]:
    return tuple(kind for kind in HOSTILE_KINDS if dice.random() < HOSTILE_SHARE)


def _draw_roles(dice: random.Random, count: int, needs_worker: bool) -> tuple[Role, ...]:
    """The founder is an admin. Most others may coordinate, two at the least."""
    roles = [Role.MEMBER] * count
    roles[0] = Role.ADMIN
    others = list(range(1, count))
    if count > NODES_MIN and dice.random() < SECOND_ADMIN_SHARE:
        roles[others.pop(int(dice.random() * len(others)))] = Role.ADMIN
    if needs_worker or dice.random() < WORKERS_SHARE:
        for index in pick_some(dice, others, draw_int(dice, 1, count // 3)):
            roles[index] = Role.WORKER
    return tuple(roles)
