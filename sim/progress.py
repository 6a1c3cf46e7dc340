"""What must come to pass once everything is mended, and how soon.

L1 one coordinator, followed by all             5 s after the healing
L2 the same view of who is here, everywhere     10 s; both 5 s later where pool keys have changed,
                                                which whoever was away must fetch first
L7 the same roll and the same pool keys, none of which anybody has who was removed    20 s
L4 every acknowledged job is over               JOBS_BOUND_S, all of them known to everybody;
                                                time in which the pool is full does not count
                                                (backlog.py)
L5 no container is left, the tables are equal   SETTLE_BOUND_S after that

What comes after that, one more death or one more cable: epilogues.py.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b

from rain.mesh import codec
from rain.model import Epoch, JobId, MemberState
from rain.trust.core import Trust
from rain.trust.records import RingRow

from .backlog import is_full, work_us
from .checkers import Laws
from .credentials import FIRST_KEY_NUMBER
from .epilogues import Epilogues, told_reigns
from .host import Host
from .promises import CancelKept, JobKept, OutcomeKept, SuccessKept
from .stage import Stage
from .trace import Trace
from .workload import Workload
from .world import Violation, World

STEP_US = 50_000
WRITTEN_US = 50_000
"""So long after all is settled everything has been written down."""
TABLE_PREFIXES = ("job/", "task/", "cancel/", "forgotten/", "horizon")
COORDINATOR_BOUND_US = 5_000_000
VIEW_BOUND_US = 10_000_000
KEY_BOUND_US = 5_000_000
ROLL_BOUND_US = 20_000_000
JOBS_BOUND_US = 75_000_000
SETTLE_BOUND_US = 20_000_000


class Progress:
    """Judges the second part of a run."""

    def __init__(
        self,
        world: World,
        hosts: Sequence[Host],
        stage: Stage,
        workload: Workload,
        laws: Laws,
        trace: Trace,
    ) -> None:
        self._world = world
        self._hosts = hosts
        self._stage = stage
        self._workload = workload
        self._laws = laws
        self._trace = trace
        self._full_us = 0
        self._epilogues = Epilogues(world, stage, workload, laws, self)

    def judge(self, epilogue: str) -> None:
        """Run on until all has come to pass; raise Violation for what has not."""
        healed_us = self._world.now_us
        keyed_us = healed_us + (KEY_BOUND_US if self._have_keys_changed() else 0)
        self.wait("L1 one coordinator", keyed_us + COORDINATOR_BOUND_US, self.many_reigns)
        self.wait("L2 one view", keyed_us + VIEW_BOUND_US, self.different_views)
        self.wait("L7 one roll", healed_us + ROLL_BOUND_US, self._different_rolls)
        self._workload.end_hangs()
        jobs_us = healed_us + JOBS_BOUND_US
        self.wait("L4 every job ends", jobs_us, self.open_jobs, self._is_full)
        self.wait("L5 all is settled", self._world.now_us + SETTLE_BOUND_US, self._unsettled)
        self._lost()
        self._same_rows()
        self._epilogues.play(epilogue)
        self.wait("L5 all is settled", self._world.now_us + SETTLE_BOUND_US, self._unsettled)
        self._lost()

    def wait(
        self,
        law: str,
        until_us: int,
        what_is_wrong: Callable[[], str],
        is_excused: Callable[[], bool] = lambda: False,
    ) -> None:
        """Until nothing is wrong; Violation when time is up, whatever is excused apart."""
        while True:
            wrong = what_is_wrong()
            if not wrong:
                self._trace.line(self._world.now_us, "all", f"** {law}")
                return
            if self._world.now_us >= until_us:
                raise Violation(law, wrong)
            until_us += STEP_US if is_excused() else 0
            self._world.run(self._world.now_us + STEP_US)

    # --- what may still be wrong ---------------------------------------------------------------

    def reigns(self) -> dict[str, Epoch | None]:
        """Whom everybody follows."""
        return {
            host.name: host.node.election.reign() for host in self.up() if host.node is not None
        }

    def many_reigns(self) -> str:
        """Empty when one coordinates and everybody follows it."""
        reigns = self.reigns()
        reigning = [host.name for host in self._stage.coordinators()]
        if len(reigning) == 1 and None not in reigns.values() and len(set(reigns.values())) == 1:
            return ""
        return f"{reigning} coordinate, followed are {told_reigns(reigns)}"

    def different_views(self) -> str:
        """Empty when all believe the same, and rightly, of who is here."""
        everybody = {host.node_id: host.boot_epoch for host in self.up()}
        for host in self.up():
            assert host.node is not None
            here = {
                member.record.node_id: member.record.boot_epoch
                for member in host.node.gossip.members()
                if member.record.state is MemberState.ALIVE
            }
            if here != everybody:
                missing = [one.name for one in self.up() if one.node_id not in here]
                removed = [one.name for one in self._hosts if one.is_removed]
                return f"{host.name} does not see {missing}, or an old boot; removed: {removed}"
        return ""

    def _different_rolls(self) -> str:
        rolls = {}
        for host in self.up():
            assert host.node is not None
            trust, ring = host.node.trust, host.node.trust.ring()
            rolls[host.name] = (_digest_of(trust), sorted(ring.keys), ring.use)
        if len({str(roll) for roll in rolls.values()}) > 1:
            return f"the rolls differ: {rolls}"
        in_use = self._key_in_use()
        for host in self._hosts:
            if host.is_removed and in_use in _keys_on_disk(host):
                return f"{host.name} was removed and has the pool key in use"
        return ""

    def _have_keys_changed(self) -> bool:
        return any(
            max(host.node.trust.ring().keys, default=0) > FIRST_KEY_NUMBER
            for host in self.up()
            if host.node is not None
        )

    def _key_in_use(self) -> bytes:
        node = self.up()[0].node
        assert node is not None
        ring = node.trust.ring()
        return ring.keys[ring.use]

    def open_jobs(self) -> str:
        """Empty when every job is over, for everybody."""
        owed = self._owed_jobs()
        for host in self.keepers():
            assert host.node is not None
            table = host.node.sched.table
            for job_id in owed:
                if not table.is_job_over(job_id):
                    return f"{host.name} holds {self._story_of(host, job_id)}"
            # What was never acknowledged may have arrived all the same; then it ends too.
            for job_id in table.jobs():
                if not table.is_job_over(job_id):
                    return f"{host.name} holds {self._story_of(host, job_id)}"
        return ""

    def _is_full(self) -> bool:
        """Can the pool do no more at once than it does? For as long as it has work at most."""
        reigning = self._stage.coordinators()
        if len(reigning) != 1 or self._full_us >= work_us(self._workload.jobs.values()):
            return False
        assert reigning[0].node is not None
        table = reigning[0].node.sched.table
        jobs = [job for one in table.jobs() if (job := table.job(one)) is not None]
        left = [(job, task) for job in jobs for task in table.open_tasks(job.job_id)]
        pcs = [(host.capacity, host.executor.containers.values()) for host in self.up()]
        if not is_full(left, pcs):
            return False
        self._full_us += STEP_US
        return True

    def _story_of(self, host: Host, job_id: JobId) -> str:
        assert host.node is not None
        table = host.node.sched.table
        if table.job(job_id) is None:
            return f"nothing of {job_id}"
        tasks = table.open_tasks(job_id)
        return (
            f"{job_id}, tasks {tasks} open, first {table.cell(job_id, tasks[0])}" if tasks else ""
        )

    def _unsettled(self) -> str:
        wrong = self.many_reigns() or self.different_views()
        if wrong:
            return wrong
        digests = {
            host.name: host.node.sched.table.digest().hex()
            for host in self.keepers()
            if host.node is not None
        }
        if len(set(digests.values())) > 1:
            return f"the tables differ: {digests}"
        for host in self.up():
            for key, container in host.executor.containers.items():
                if self._is_orphaned(host, container.attempt_id.job_id):
                    continue
                state = "runs" if container.exit_code is None else "is not removed"
                return f"{host.name}: container {key} {state}"
            owed = [
                key
                for key in host.disk.rows
                if key.startswith("attempt/")
                and not self._is_orphaned(host, JobId(key.split("/")[1]))
            ]
            if owed:
                return f"{host.name} still owes {owed[0]}"
        return ""

    def _same_rows(self) -> None:
        """What lies on the disks is the same as well, byte for byte, and says the same."""
        self._world.run(self._world.now_us + WRITTEN_US)
        kept = [(host, _table_rows(host)) for host in self._keepers_settled()]
        for host, rows in kept[1:]:
            first, expected = kept[0]
            for key in sorted(rows.keys() | expected.keys()):
                if rows.get(key) != expected.get(key):
                    raise Violation(
                        "L5 the disks hold the same",
                        f"{key}: {first.name} {expected.get(key)!r}, {host.name} {rows.get(key)!r}",
                    )

    def _keepers_settled(self) -> list[Host]:
        """Those whose disk has had the time to hold what their table says."""
        digests = [
            (host, host.node.sched.table.digest())
            for host in self.keepers()
            if host.node is not None
        ]
        return [host for host, digest in digests if digest == digests[0][1]]

    def _is_orphaned(self, host: Host, job_id: JobId) -> bool:
        """A worker keeps the outcome of a job that only a removed node knew: nobody takes it."""
        keepers = self.keepers()
        return host not in keepers and not any(
            one.node is not None and one.node.sched.table.job(job_id) is not None for one in keepers
        )

    def _lost(self) -> None:
        """What was promised is there, in every table."""
        for host in self.up():
            assert host.node is not None
            host.node.check()
        owed = self._owed_jobs()
        for host in self.keepers():
            assert host.node is not None
            table = host.node.sched.table
            for job_id in owed:
                if table.job(job_id) != self._workload.jobs[job_id]:
                    raise Violation("S8 nothing accepted is lost", f"{host.name} lacks {job_id}")
            for job_id in sorted(self._workload.cancelled):
                if not self._laws.promises.is_owed(CancelKept(job_id)):
                    continue
                if not table.cancelled(job_id) and not self._had_ended(host, job_id):
                    raise Violation("S8 nothing accepted is lost", f"the cancel of {job_id} is")
            for job_id, task in sorted(self._laws.committed):
                if not self._laws.promises.is_owed(SuccessKept(job_id, task)):
                    continue
                if not table.cell(job_id, task).success:
                    raise Violation(
                        "S9 a committed success stays",
                        f"{host.name}: {job_id}.{task} is {table.cell(job_id, task)}",
                    )
            self._outcomes_known(host)

    def _had_ended(self, host: Host, job_id: JobId) -> bool:
        """A cancel of a job that was over already may be accepted without a trace."""
        assert host.node is not None
        table, job = host.node.sched.table, self._workload.jobs[job_id]
        cells = [table.cell(job_id, task) for task in range(job.spec.tasks)]
        return all(cell.success or cell.final for cell in cells)

    def _outcomes_known(self, host: Host) -> None:
        assert host.node is not None
        table = host.node.sched.table
        for attempt_id in sorted(self._laws.settled_ends):
            if not self._laws.promises.is_owed(OutcomeKept(attempt_id)):
                continue
            if attempt_id not in table.ends(attempt_id.job_id, attempt_id.task):
                cell = table.cell(attempt_id.job_id, attempt_id.task)
                if cell.attempt_id != attempt_id:
                    raise Violation(
                        "S9 no outcome is lost", f"{host.name} knows no end of {attempt_id}"
                    )

    # --- who is there --------------------------------------------------------------------------

    def coordinator(self) -> str:
        """By name."""
        return ", ".join(host.name for host in self._stage.coordinators())

    def followed(self) -> Epoch | None:
        """The reign of whoever coordinates."""
        reigning = self._stage.coordinators()
        node = reigning[0].node if reigning else None
        return node.election.reign() if node is not None else None

    def _owed_jobs(self) -> list[JobId]:
        """Acknowledged, and kept by somebody who is still in."""
        is_owed = self._laws.promises.is_owed
        return [one for one in sorted(self._workload.acknowledged) if is_owed(JobKept(one))]

    def up(self) -> list[Host]:
        """Those that are in, and running."""
        return [host for host in self._hosts if host.is_up and not host.is_removed]

    def keepers(self) -> list[Host]:
        """Those that keep the job table: workers do not."""
        return [host for host in self.up() if host.is_keeper]


def _table_rows(host: Host) -> dict[str, bytes]:
    return {key: row for key, row in host.disk.rows.items() if key.startswith(TABLE_PREFIXES)}


def _keys_on_disk(host: Host) -> set[bytes]:
    """Pool keys that whoever opens this PC finds."""
    found = set[bytes]()
    for key, row in host.disk.rows.items():
        record = codec.decode_record(row) if key.startswith("trust/") else None
        if isinstance(record, RingRow):
            found.update(ring_key.key for ring_key in record.keys)
    return found


def _digest_of(trust: Trust) -> str:
    """The same for two rolls if they hold the same."""
    content = repr((sorted(trust.bundles()), trust.claims()))
    return blake2b(content.encode(), digest_size=8).hexdigest()
