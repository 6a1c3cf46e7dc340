"""What happens in a real pool if some of its PCs go off: one run, on the product's own cores.

The pool is built as it is told of (premises.py): its PCs with their names, roles and amounts, its
open jobs on every keeper's disk, and what runs as containers that have run since before. All
agents start at once; whoever coordinates now starts first, so that it most likely does again.
Then plugs and cables are pulled, and everything goes its way in a calm LAN. How long tasks take
is assumed.

LOST_US after the beginning they go off; what is seen up to SEEN_US after that is told in a Course.
"""

from collections.abc import Callable
from typing import NamedTuple

from rain.effects import Record
from rain.election.records import EpochRecord, ViewRecord
from rain.mesh import codec
from rain.model import AttemptId, Epoch, Job, JobId, JobSpec, Stage, Value
from rain.sched.identity import signed_job
from rain.sched.messages import Cell
from rain.sched.records import AttemptRow, JobRow, TaskRow
from rain.sched.states import TaskState
from rain.sched.table import Table

from .credentials import Charter
from .executor import UNIX_MS
from .founding import found
from .host import Host
from .network import Network
from .onlooker import Onlooker
from .options import Options
from .premises import OpenJob, Pc, Premises
from .signing import TagSigner, verify_tag
from .trace import Trace
from .world import World, draw_int

LEAD_US = 500_000
LEAD_US_PER_PC = 50_000
"""So much earlier than the others the coordinator of now is started."""
LOST_US = 12_000_000
"""When the PCs go off: by then the agents have found each other, and what waited and fits runs."""
LOST_US_PER_PC = 100_000
SEEN_US = 30_000_000
"""After this what was lost runs elsewhere, where there is room."""
GLANCE_US = 10_000
LOOK_US = 1_000_000
SETTLE_US = 60_000_000
"""Nothing has run for so long, and nobody is expected back: the rest waits for ever."""
NONCE_BYTES = 16

CALM_DELAY_US_MIN = 200
CALM_DELAY_US_MEAN = 300
CALM_TIMER_LATE_US = 2_000


class Plan(Value, frozen=True):
    """What is to happen, in milliseconds from when the PCs go off."""

    off: tuple[str, ...]
    cut: tuple[str, ...]
    back_ms: int | None
    """None: not within what is looked at."""
    look_ms: int
    """How far ahead."""


class Rerun(NamedTuple):
    """A task that ran on a PC which went off, and was started again."""

    job_id: str
    task: int
    lost_on: str
    runs_on: str
    after_ms: int


class Course(NamedTuple):
    """What came of it in one run."""

    before: str
    """Who coordinates; '' nobody."""
    after: str
    gap_ms: int | None
    """How long nobody did; None: to the end of what was looked at."""
    lost: dict[str, list[int]]
    """Tasks that ran on the PCs that went off, by job."""
    reruns: tuple[Rerun, ...]
    waiting: dict[str, list[int]]
    """Tasks that run nowhere SEEN_US later."""
    copies_before: int
    """Of the job of which there are fewest."""
    copies_after: int
    finished_ms: dict[str, int]
    """Jobs that ended, and when."""


class Scenario:
    """One run of one forecast. Jobs and tasks go by the names that the pool gave them."""

    def __init__(self, premises: Premises, plan: Plan, seed: int) -> None:
        self._premises = premises
        self._plan = plan
        self._world = World(seed)
        self._onlooker = Onlooker(lambda: self._world.now_us)
        options = _calm(premises.pcs)
        self._network = Network(self._world, options)
        self._charter = Charter(seed, TagSigner(f"{seed}/root"), verify_tag)
        self._hosts = [
            self._host(index, pc, seed, options) for index, pc in enumerate(premises.pcs)
        ]
        self._by_name = {host.name: host for host in self._hosts}
        self._lost_us = LOST_US + LOST_US_PER_PC * len(self._hosts)
        self._gone = [self._by_name[name] for name in (*plan.off, *plan.cut)]
        self._jobs: dict[JobId, OpenJob] = {}
        self._network.connect(self._hosts)
        for host in self._hosts:
            host.connect(self._hosts, self._onlooker)
        found(self._charter, self._hosts, self._world.dice("founding"))
        self._remember()

    def _host(self, index: int, pc: Pc, seed: int, options: Options) -> Host:
        host = Host(
            index,
            self._world,
            options,
            self._network,
            self._charter,
            TagSigner(f"{seed}/{index}"),
            verify_tag,
            Trace(),
        )
        host.name, host.capacity = pc.name, pc.capacity
        return host

    # --- the pool as it is ---------------------------------------------------------------------

    def _remember(self) -> None:
        """What its disks and engines hold."""
        dice = self._world.dice("jobs")
        keepers = [host for host in self._hosts if host.is_keeper]
        reigning = self._first()
        epoch = Epoch(1, reigning.node_id, 1)
        view = ViewRecord(tuple(sorted(host.node_id for host in self._hosts)))
        for host in self._hosts:
            _write(host, view, EpochRecord(epoch, epoch))
        for job in self._premises.jobs:
            nonce = dice.randbytes(NONCE_BYTES)
            wish = self._wish(job, keepers[0], nonce)
            self._jobs[wish.job_id] = job
            for host in keepers:
                _write(host, JobRow(wish))
            for task, told in enumerate(job.tasks):
                if told.node:
                    self._carry_on(wish, task, told.node, told.left_ms, epoch)

    def _first(self) -> Host:
        """Whoever coordinates now."""
        for host, pc in zip(self._hosts, self._premises.pcs, strict=True):
            if pc.is_coordinator and host.is_keeper:
                return host
        return next(host for host in self._hosts if host.is_keeper)

    def _wish(self, job: OpenJob, host: Host, nonce: bytes) -> Job:
        spec = JobSpec(
            command=("work", str(job.task_ms), "0"),
            name=job.name,
            image="sim",
            need=job.need,
            tasks=len(job.tasks),
            is_array=len(job.tasks) > 1,
            node_name=job.node_name,
        )
        signer = host.signer
        return signed_job(
            spec,
            host.name,
            UNIX_MS,
            nonce,
            host.person,
            signer.public_key,
            signer.sign,
            host.pool_id,
        )

    def _carry_on(self, wish: Job, task: int, name: str, left_ms: int, epoch: Epoch) -> None:
        """That task runs there."""
        worker = self._by_name[name]
        attempt_id = AttemptId(wish.job_id, task, 1, epoch, worker.node_id)
        cell = Cell(epoch=epoch, turn=1, stage=Stage.RUNNING, attempt_id=attempt_id)
        for host in self._hosts:
            if host.is_keeper:
                _write(host, TaskRow(wish.job_id, task, cell))
        _write(worker, JobRow(wish), AttemptRow(attempt_id, Stage.RUNNING))
        left_us = left_ms * 1_000 + self._lost_us
        worker.executor.carry_on(attempt_id, wish.spec.need, left_us)

    # --- the run -------------------------------------------------------------------------------

    def play(self, say: Callable[[int], None] | None = None, is_long: bool = False) -> Course:
        """`is_long`: on until all jobs have ended, or as far ahead as is to be looked. `say` hears
        how many milliseconds have passed since the PCs went off."""
        self._start()
        self._world.run(self._lost_us)
        before = self._coordinator(self._hosts)
        copies_before = self._copies(self._hosts)
        lost = self._lost()
        self._lose()
        gap_us = self._gap_us()
        self._world.run(self._lost_us + SEEN_US)
        after = self._coordinator(self._staying())
        waiting, copies_after = self._waiting(), self._copies(self._staying())
        reruns = self._reruns(lost)
        finished = self._look_on(say) if is_long else {}
        return Course(
            before,
            after,
            None if gap_us is None else gap_us // 1_000,
            self._told(lost),
            reruns,
            waiting,
            copies_before,
            copies_after,
            finished,
        )

    def _start(self) -> None:
        dice, first = self._world.dice("start"), self._first()
        lead_us = LEAD_US + LEAD_US_PER_PC * len(self._hosts)
        for host in self._hosts:
            at_us = 0 if host is first else lead_us + draw_int(dice, 0, LEAD_US)
            self._world.at(at_us, host.start)

    def _lose(self) -> None:
        """Plugs and cables are pulled, all in one moment; later all is as it was."""
        cut = [self._by_name[name] for name in self._plan.cut]
        off = [self._by_name[name] for name in self._plan.off]
        for host in off:
            host.power_off()
        pairs = [(a.index, b.index) for a in cut for b in self._hosts if a is not b]
        pairs += [(b, a) for a, b in pairs]
        for one, other in pairs:
            self._network.cut(one, other)
        if self._plan.back_ms is not None:
            at_us = self._lost_us + self._plan.back_ms * 1_000
            for host in off:
                self._world.at(at_us, host.start)
            for one, other in pairs:
                self._world.at(at_us, self._network.mend, one, other)

    def _gap_us(self) -> int | None:
        """How long nobody coordinates whom the others can hear."""
        while not self._coordinator(self._staying()):
            if self._world.now_us >= self._lost_us + SEEN_US:
                return None
            self._world.run(self._world.now_us + GLANCE_US)
        return self._world.now_us - self._lost_us

    def _look_on(self, say: Callable[[int], None] | None) -> dict[str, int]:
        """Until all is over that can be."""
        finished: dict[str, int] = {}
        idle_since_us = self._world.now_us
        back_ms = self._plan.back_ms
        while True:
            passed_ms = (self._world.now_us - self._lost_us) // 1_000
            table = self._table()
            for job_id, job in self._jobs.items():
                if job.job_id not in finished and table and table.is_job_over(job_id):
                    finished[job.job_id] = passed_ms
            if any(host.executor.containers for host in self._staying()):
                idle_since_us = self._world.now_us
            is_idle = self._world.now_us - idle_since_us > SETTLE_US
            if len(finished) == len(self._jobs) or passed_ms >= self._plan.look_ms:
                return finished
            if is_idle and (back_ms is None or passed_ms > back_ms + SETTLE_US // 1_000):
                return finished
            if say is not None:
                say(passed_ms)
            self._world.run(self._world.now_us + LOOK_US)

    # --- what is seen --------------------------------------------------------------------------

    def _staying(self) -> list[Host]:
        return [host for host in self._hosts if host not in self._gone]

    def _coordinator(self, hosts: list[Host]) -> str:
        return ", ".join(host.name for host in hosts if host.is_coordinator)

    def _table(self) -> Table | None:
        """Of whoever coordinates, or of anybody who keeps one; None: nobody is there."""
        keepers = [host for host in self._staying() if host.is_keeper]
        for host in sorted(keepers, key=lambda host: not host.is_coordinator):
            if host.node is not None:
                return host.node.sched.table
        return None

    def _copies(self, hosts: list[Host]) -> int:
        """On how many disks of PCs that are on is the job of which there are fewest copies?"""
        rows = [f"job/{job_id}" for job_id in self._jobs]
        on = [h for h in hosts if h.node is not None and h.is_keeper]
        return min((sum(row in host.disk.rows for host in on) for row in rows), default=len(on))

    def _lost(self) -> dict[tuple[JobId, int], Host]:
        """What runs on those that go off, just before."""
        return {
            (container.attempt_id.job_id, container.attempt_id.task): host
            for host in self._gone
            for container in host.executor.used()
        }

    def _told(self, lost: dict[tuple[JobId, int], Host]) -> dict[str, list[int]]:
        told: dict[str, list[int]] = {}
        for job_id, task in lost:
            job = self._jobs[job_id]
            told.setdefault(job.job_id, []).append(job.tasks[task].index)
        return {job_id: sorted(tasks) for job_id, tasks in told.items()}

    def _reruns(self, lost: dict[tuple[JobId, int], Host]) -> tuple[Rerun, ...]:
        found = []
        for at_us, host, job_id, task in self._onlooker.starts:
            if at_us > self._lost_us and (job_id, task) in lost and host not in self._gone:
                job = self._jobs[job_id]
                was = lost[job_id, task].name
                after_ms = (at_us - self._lost_us) // 1_000
                found.append(Rerun(job.job_id, job.tasks[task].index, was, host.name, after_ms))
        return tuple(found)

    def _waiting(self) -> dict[str, list[int]]:
        table = self._table()
        told: dict[str, list[int]] = {}
        for job_id, job in self._jobs.items():
            tasks = [
                job.tasks[task].index
                for task in (range(len(job.tasks)) if table is None else table.open_tasks(job_id))
                if table is None or table.state(job_id, task) is TaskState.PENDING
            ]
            if tasks:
                told[job.job_id] = tasks
        return told


def _write(host: Host, *records: Record) -> None:
    host.disk.rows.update({record.key(): codec.encode_record(record) for record in records})


def _calm(pcs: tuple[Pc, ...]) -> Options:
    """A LAN in which nothing goes wrong by itself."""
    return Options(
        nodes=len(pcs),
        active_ms=0,
        faults=0,
        kinds=(),
        coordinator_bias_percent=0,
        fault_ms_mean=0,
        delay_us_min=CALM_DELAY_US_MIN,
        delay_us_mean=CALM_DELAY_US_MEAN,
        loss_permille=0,
        duplicate_permille=0,
        replay_permille=0,
        corrupt_permille=0,
        heavy_tail_permille=0,
        stream_stall_ms_max=1_000,
        clock_rates_ppm=(1_000_000,) * len(pcs),
        timer_late_us_max=CALM_TIMER_LATE_US,
        stall_permille=0,
        start_failure_permille=0,
        jobs=0,
        submit_ms_mean=0,
        cores_milli=tuple(pc.capacity.cpus_milli for pc in pcs),
        ranks=tuple(pc.rank for pc in pcs),
        epilogue="none",
        roles=tuple(pc.role for pc in pcs),
        persons=tuple(pc.person for pc in pcs),
        hostile_kinds=(),
        hostile=0,
    )
