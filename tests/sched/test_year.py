"""A year of jobs stays small: what retention leaves is bounded in memory and on disk."""

from rain.model import TASKS_MAX
from rain.sched.retention import RetentionConfig
from tests.bench.table_figures import TASKS, disk_of, finished, memory_of, tombstone

MIB = 2**20
JOBS, STONES = 100, 5_000
JOB_MEMORY_MAX, JOB_DISK_MAX = 10_000, 7_000
"""Bytes of a job of ten tasks that is over. Measured: 8,300 and 4,700."""
STONE_MEMORY_MAX, STONE_DISK_MAX = 250, 120
"""Measured: 151 and 77."""


def test_a_job_that_is_over_and_a_tombstone_cost_what_they_may() -> None:
    jobs = [finished(number) for number in range(JOBS)]
    stones = [tombstone(number) for number in range(STONES)]

    assert memory_of(jobs) < JOBS * JOB_MEMORY_MAX
    assert disk_of(jobs) < JOBS * JOB_DISK_MAX
    assert memory_of(stones) < STONES * STONE_MEMORY_MAX
    assert disk_of(stones) < STONES * STONE_DISK_MAX


def test_however_many_jobs_there_were_the_table_stays_below_these() -> None:
    config = RetentionConfig()
    jobs = (config.tasks_kept + TASKS_MAX) / TASKS  # the one that crosses the bound stays

    memory = jobs * JOB_MEMORY_MAX + config.tombstones_kept * STONE_MEMORY_MAX
    disk = jobs * JOB_DISK_MAX + config.tombstones_kept * STONE_DISK_MAX

    assert memory < 170 * MIB
    assert disk < 115 * MIB
