"""What a job that is over costs every keeper, and a tombstone: memory and disk.

A year of 200 jobs a day, of ten tasks each: by retention the jobs of 30 days, and tombstones of
the rest of the year.
"""

import asyncio
import gc
import tempfile
import tracemalloc
from pathlib import Path

from msgspec.msgpack import decode, encode

from rain.effects import Record
from rain.mesh import codec
from rain.model import AttemptId, End, EndState, Epoch, Job, JobId, JobSpec, Stage
from rain.sched.calendar import DAY_MS
from rain.sched.identity import signed_job
from rain.sched.messages import AttemptEnd, Cell, JobPatch, TaskPatch
from rain.sched.people import People
from rain.sched.retention import RetentionConfig
from rain.sched.table import Table
from rain.sched.warrants import Warrants
from rain.store import Store
from tests.sched.samples import id_of, key_of

TASKS, JOBS_A_DAY = 10, 200
JOBS_MEASURED, STONES_MEASURED = 500, 20_000
DAYS_KEPT = RetentionConfig().kept_ms // DAY_MS
DAYS_REMEMBERED = RetentionConfig().tombstone_days
EPOCH = Epoch(7, id_of("a"), 2**63)
NODES = tuple(id_of(name) for name in "abcde")


def year() -> None:
    """Per job and per tombstone, then what a year comes to."""
    jobs = [finished(number) for number in range(JOBS_MEASURED)]
    job_memory, job_disk = (each // JOBS_MEASURED for each in (memory_of(jobs), disk_of(jobs)))
    stones = [tombstone(number) for number in range(STONES_MEASURED)]
    stone_memory, stone_disk = (
        each // STONES_MEASURED for each in (memory_of(stones), disk_of(stones))
    )
    print(f"a job of {TASKS} tasks that is over: {job_memory:,} B memory, {job_disk:,} B on disk")
    print(f"a tombstone: {stone_memory:,} B memory, {stone_disk:,} B on disk")
    kept, gone = JOBS_A_DAY * DAYS_KEPT, JOBS_A_DAY * DAYS_REMEMBERED
    memory = (kept * job_memory + gone * stone_memory) / 2**20
    disk = (kept * job_disk + gone * stone_disk) / 2**20
    print(
        f"after a year of {JOBS_A_DAY} such jobs a day: {kept:,} jobs and {gone:,} tombstones, "
        f"{memory:.0f} MiB memory, {disk:.0f} MiB on disk"
    )


def finished(number: int) -> JobPatch:
    """An array as a person would submit it: all succeeded, one task at its second try."""
    job = _job(number)
    tasks = tuple(_finished(job, task, 2 if task == 3 else 1) for task in range(TASKS))
    return JobPatch(job.job_id, job, tasks=tasks)


def tombstone(number: int) -> JobPatch:
    letters = "".join(chr(ord("a") + int(digit)) for digit in f"{number:016}")
    return JobPatch(JobId(letters), forgotten=20_000 + number // JOBS_A_DAY)


def memory_of(patches: list[JobPatch]) -> int:
    """Bytes of a table that has merged these, each decoded from the wire."""
    packed = [encode(patch) for patch in patches]
    tracemalloc.start()
    table = _table()
    gc.collect()  # what was garbage before is not to go, or to count, in between
    before = tracemalloc.get_traced_memory()[0]
    for each in packed:
        table.take_back((decode(each, type=JobPatch),))
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert table.patches(patches[0].job_id) or table.is_forgotten(patches[0].job_id)
    return taken


def disk_of(patches: list[JobPatch]) -> int:
    """Bytes of the file that holds their rows."""
    table = _table()
    rows: list[Record] = list(table.records(table.take_back(patches)))
    puts = [(row.key(), codec.encode_record(row)) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rain.db"

        async def write() -> None:
            store = Store.open(path)
            empty = path.stat().st_size
            await store.write(puts, ())
            await store.close()
            sizes.append(path.stat().st_size - empty)

        sizes: list[int] = []
        asyncio.run(write())
        return sizes[0]


def _table() -> Table:
    return Table((), Warrants(lambda *_: False, People()))


def _job(number: int) -> Job:
    words = ("python", "/srv/work/train.py", "--input", f"shard-{number:06}", "--epochs", "12")
    variables = (("OMP_NUM_THREADS", "4"), ("DATASET", "imagenet-small"))
    spec = JobSpec(
        words, "python:3.12", f"train-{number}", tasks=TASKS, is_array=True, environment=variables
    )
    key, nonce = key_of("a"), number.to_bytes(16, "big")
    return signed_job(
        spec, "studio-pc", 1_700_000_000_000, nonce, "ann", key.public_key, lambda _: bytes(64)
    )


def _finished(job: Job, task: int, tries: int) -> TaskPatch:
    ends = tuple(
        AttemptEnd(
            AttemptId(job.job_id, task, number, EPOCH, NODES[(task + number) % len(NODES)]),
            End(EndState.SUCCEEDED if number == tries else EndState.FAILED, 0, "", 10**12, 10**12),
        )
        for number in range(1, tries + 1)
    )
    cell = Cell(True, 1, True, EPOCH, tries + 1, Stage.ENDED, ends[-1].attempt_id)
    return TaskPatch(task, task, cell, ends)
