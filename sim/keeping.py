"""How long the pool of a seed keeps what is over."""

from rain.sched.calendar import CalendarConfig
from rain.sched.coordinator import CoordinatorConfig
from rain.sched.retention import RetentionConfig
from rain.sched.scheduler import SchedConfig

from .options import Options

ROUND_MS = 1_500


def sched_config(pool_id: bytes, options: Options) -> SchedConfig:
    """Where the seed has it: a pool that forgets within seconds what is over."""
    if options.jobs_kept is None:
        return SchedConfig(pool_id=pool_id)
    retention = RetentionConfig(
        jobs_kept=options.jobs_kept,
        jobs_spared=0,
        round_ms=ROUND_MS,
        calendar=CalendarConfig(steady_ms=options.steady_ms),
    )
    return SchedConfig(pool_id=pool_id, coordinator=CoordinatorConfig(retention=retention))
