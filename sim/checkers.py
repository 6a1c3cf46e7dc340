"""The laws that hold at every moment, seen from outside: what is sent, started, written, answered.

S1  one coordinator to an epoch, one epoch to a number of one node, and none announced that is not
    on its owner's disk
S2  the epoch that a node follows never falls, whatever crashes in between
S5  a worker starts only what the reign ordered that it followed, with a fresh heartbeat, and has
    it on disk first
S8  an acknowledgement names no more copies than there are on disks
S9  an outcome is acknowledged when it is on disks; a committed success stays, or gives way to the
    success of a newer reign
S10 what one reign placed on a node never exceeds it
S11 a running container is stopped by a decision, never by ignorance
S13 the pool does not flood its network

What else is watched: who may be in and who may do what (intruders.py).
"""

from collections.abc import Iterator, Sequence

from rain.effects import Answer, Log, Message, Persist, StartContainer
from rain.election.messages import Challenge, Grant, Heartbeat, Objection
from rain.election.records import EpochRecord
from rain.mesh import codec
from rain.mesh.envelope import Opened
from rain.model import AttemptId, Epoch, JobId, NodeId
from rain.sched.cells import is_active
from rain.sched.identity import attempt_key
from rain.sched.messages import Assign, Cell, ReportAck
from rain.sched.records import AttemptRow
from rain.sched.table import Table
from rain.trust.records import RingRow

from .coverage import Coverage
from .forgetting import Forgetting
from .host import Host
from .intruders import Intruders
from .network import Network
from .promises import CancelKept, JobKept, OutcomeKept, Promises, SuccessKept, task_row
from .trace import Trace
from .workload import Workload
from .world import Violation, World

REPLICAS = 3
BEATS_OLD_MAX = 12
HEARTBEAT_OLD_MS = 800
"""Twice what the worker allows: it counts from when it followed, perhaps a disk write later."""
QUIET_US = 8_000_000
"""A host that nothing happened to for so long is known to everybody who coordinates."""
SWEEP_US = 500_000
PACKETS_PER_SECOND = 60
PACKETS_PER_PEER = 20
BYTES_PER_SECOND = 15_000
BYTES_PER_PEER = 6_000
"""Of one node, over ten seconds, whatever happens around it; so much more for every other."""
TRAFFIC_US = 10_000_000
ELECTION_TALK = (Challenge, Grant, Objection)


class Laws:
    """Looks on; raises Violation. One of these watches all hosts of a run."""

    def __init__(
        self,
        world: World,
        network: Network,
        workload: Workload,
        intruders: Intruders,
        coverage: Coverage,
        trace: Trace,
    ) -> None:
        self.epochs: dict[Epoch, int] = {}
        """Every reign that was announced, and by which host."""
        self.committed: set[tuple[JobId, int]] = set()
        """Tasks whose success was acknowledged to its worker."""
        self.settled_ends: dict[AttemptId, bool] = {}
        """Acknowledged outcomes: was a success committed then?"""
        self.election_packets = 0
        """Of candidates and of those who answer them, so far."""
        self._forgetting = Forgetting()
        self.promises = Promises()
        self._forgetful: set[int] = set()
        """Hosts whose disk went back in time: what they had is promised by nobody."""
        self.promises.forgotten = self._forgetting.jobs
        self._intruders = intruders
        self._coverage = coverage
        self._world = world
        self._network = network
        self._workload = workload
        self._trace = trace
        self._hosts: Sequence[Host] = ()
        self._by_id: dict[NodeId, Host] = {}
        self._numbers: dict[tuple[int, int], Epoch] = {}
        self._followed: dict[int, Epoch] = {}
        self._beats: dict[int, tuple[Epoch, int, int]] = {}
        self._orders: dict[tuple[int, str], str] = {}
        self._successes: dict[tuple[int, int, JobId, int], Cell] = {}
        self._swept: dict[tuple[int, int, JobId], bytes] = {}
        self._swept_whole: dict[tuple[int, int], bytes] = {}
        self._traffic: dict[int, tuple[int, int]] = {}

    def connect(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._by_id = {host.node_id: host for host in hosts}
        self._intruders.connect(hosts)
        self.promises.connect(hosts)
        self._forgetting.connect(hosts)
        self._world.after(SWEEP_US, self._sweep)
        self._world.after(TRAFFIC_US, self._count_traffic)

    def note_removal(self, host: Host) -> None:
        """An admin is about to remove that host."""
        self.promises.note_removal(host)
        self._intruders.note_removal(host)

    def note_forgetful(self, host: Host) -> None:
        """Its disk is about to be one of some time ago."""
        self._forgetful.add(host.index)
        self.promises.note_forgetful(host)
        self._followed.pop(host.index, None)
        self._numbers = {
            place: epoch for place, epoch in self._numbers.items() if place[0] != host.index
        }

    # --- what is said --------------------------------------------------------------------------

    def taken(self, host: Host, opened: Opened, packet: bytes) -> None:
        self._intruders.taken(host, opened, packet)

    def posted(self, host: Host, to: NodeId, message: Message) -> None:
        self._intruders.posted(host, to, message)

    def logged(self, log: Log) -> None:
        self._coverage.note_log(log)

    def sent(self, host: Host, message: Message, copies: int) -> None:
        self._coverage.note_message(message)
        if isinstance(message, ELECTION_TALK):
            self.election_packets += copies
        if isinstance(message, Heartbeat):
            if message.epoch not in self.epochs:
                self._announced(host, message.epoch)
        elif isinstance(message, ReportAck):
            for attempt_id in message.attempts:
                self._outcome_acknowledged(host, attempt_id)

    def received(self, host: Host, sender: NodeId, message: Message) -> None:
        self._intruders.received(host, sender, message)
        if isinstance(message, Heartbeat):
            reign, newest, _ = self._beats.get(host.index, (None, 0, 0))
            if message.epoch != reign or message.beat > newest:
                self._beats[host.index] = (message.epoch, message.beat, host.local_ms())
        elif isinstance(message, Assign):
            fault = self._fault_of(host, sender, message)
            for attempt_id in message.attempts:
                key = (host.index, attempt_key(attempt_id))
                if self._orders.get(key) != "":  # one good order is enough
                    self._orders[key] = fault

    def _announced(self, host: Host, epoch: Epoch) -> None:
        self.epochs[epoch] = host.index
        if epoch.node_id != host.node_id:
            raise Violation("S1 one coordinator to an epoch", f"{host.name} says {epoch}")
        earlier = self._numbers.setdefault((host.index, epoch.number), epoch)
        if earlier != epoch:
            raise Violation("S1 no number is announced twice", f"{host.name}: {earlier}, {epoch}")
        if not _keeps_epoch(host, epoch):
            raise Violation(
                "S1 an epoch is durable before it is announced", f"{host.name} says {epoch}"
            )

    def _fault_of(self, host: Host, sender: NodeId, order: Assign) -> str:
        """What is wrong with that order for that worker just now; empty: nothing."""
        if host.node is None:
            return "nobody is up"
        followed = host.node.election.reign()
        if order.epoch != followed:
            return f"of {order.epoch}, while it follows {followed}"
        if sender != order.epoch.node_id:
            return f"of {order.epoch}, but {sender} wrote it"
        if sender == host.node_id:
            return ""
        reign, newest, at_ms = self._beats.get(host.index, (None, 0, 0))
        if reign == order.epoch and newest - order.beat > BEATS_OLD_MAX:
            return f"{newest - order.beat} beats old"
        if reign == order.epoch and host.local_ms() - at_ms > HEARTBEAT_OLD_MS:
            return f"{host.local_ms() - at_ms} ms after the last heartbeat"
        return ""

    # --- what is done --------------------------------------------------------------------------

    def started(self, host: Host, order: StartContainer) -> None:
        attempt_id = order.attempt_id
        key = attempt_key(attempt_id)
        fault = self._orders.get((host.index, key), "that it never got")
        # A coordinator's orders to itself stay inside its node.
        if fault and attempt_id.epoch.node_id != host.node_id:
            raise Violation("S5 fencing", f"{host.name} starts {key} by an order {fault}")
        if AttemptRow(attempt_id).key() not in host.disk.rows:
            raise Violation(
                "S5 an attempt is on disk before its container", f"{host.name} starts {key}"
            )
        if attempt_id.node_id != host.node_id:
            raise Violation("S5 fencing", f"{host.name} starts {key} of {attempt_id.node_id}")
        cpus_milli = order.job.spec.need.cpus_milli
        for container in host.executor.containers.values():
            if container.exit_code is None and container.attempt_id.epoch == attempt_id.epoch:
                cpus_milli += container.need.cpus_milli
        if cpus_milli > host.capacity.cpus_milli:
            raise Violation(
                "S10 no node is overbooked",
                f"{host.name} has {host.capacity.cpus_milli} and runs {cpus_milli} with {key}",
            )

    def stopped(self, host: Host, key: str) -> None:
        self._ended_by_order(host, key, "stops")

    def removed(self, host: Host, key: str) -> None:
        self._ended_by_order(host, key, "removes")

    def wrote(self, host: Host, write: Persist) -> None:
        """A worker forgets an outcome only when others keep it."""
        self._forgetting.wrote(host, write)
        if any(isinstance(put, RingRow) for put in write.puts):
            host.disturbed_us = self._world.now_us  # from now on others understand it
        for key in write.deletes:
            stored = host.disk.rows.get(key) if key.startswith("attempt/") else None
            if stored is not None and not host.is_leaving:
                row = codec.decode_record(stored)
                assert isinstance(row, AttemptRow), f"an attempt row is an attempt row: {row}"
                self._outcome_acknowledged(host, row.attempt_id)

    def answered(self, host: Host, answer: Answer) -> None:
        if host.is_removed:
            return  # it may promise what it likes
        wish = self._workload.take_answer(host, answer)
        if wish is None or answer.error:
            return
        kind = "cancel" if wish.is_cancel else "job"
        row = f"{kind}/{wish.job.job_id}"
        stone = f"forgotten/{wish.job.job_id}"
        holders = [
            one.name
            for one in self._hosts
            if one.is_keeper and (row in one.disk.rows or stone in one.disk.rows)
        ]
        needed = min(REPLICAS, self._quiet_around(self._coordinator_of(host)))
        if not needed <= answer.copies <= len(holders) + len(self._forgetful):
            raise Violation(
                "S8 acknowledged means on disk",
                f"{host.name} says {answer.copies} copies of {row}, there are {holders}, "
                f"at least {needed} are needed",
            )
        job_id = wish.job.job_id
        self.promises.give(CancelKept(job_id) if wish.is_cancel else JobKept(job_id))
        self._trace.line(self._world.now_us, host.name, f"** {row} is on {holders}")

    def ended(self, host: Host) -> None:
        """Its agent is about to be gone."""
        self._intruders.note_own(host)
        self._coverage.note_hosts([host])

    def settled(self, host: Host) -> None:
        """After every event: what the node follows now."""
        assert host.node is not None or not host.is_up
        if host.node is None:
            return
        epoch = host.node.election.reign()
        if epoch is None:
            return
        last = self._followed.get(host.index)
        if epoch == last:
            return
        if last is not None and epoch < last:
            raise Violation("S2 epochs never fall", f"{host.name}: {last}, then {epoch}")
        self._followed[host.index] = epoch
        self._intruders.followed(host, epoch in self.epochs)

    # --- outcomes ------------------------------------------------------------------------------

    def _outcome_acknowledged(self, host: Host, attempt_id: AttemptId) -> None:
        """To its worker, who forgets it now: so others must have it on disk, or moved on."""
        if host.is_removed or attempt_id in self.settled_ends or self._is_forgotten(attempt_id):
            return  # who was removed settles what he likes
        holders, is_success = [], False
        for one in self._hosts:
            if not one.is_keeper:
                continue
            row = task_row(one, attempt_id.job_id, attempt_id.task)
            for entry in row.ends if row is not None else ():
                if entry.attempt_id == attempt_id:
                    holders.append(one)
                    # A success that comes after a cancel or the last retry is noted, no more.
                    is_success = is_success or (row is not None and row.cell.success)
        needed = min(REPLICAS, self._quiet_around(host))
        if len(holders) < needed:
            names = [one.name for one in holders]
            raise Violation(
                "S9 an outcome is on disks before it is acknowledged",
                f"{host.name} settles {attempt_key(attempt_id)}, kept by {names} of {needed}",
            )
        self.settled_ends[attempt_id] = is_success
        self.promises.give(OutcomeKept(attempt_id))
        if is_success:
            self.committed.add((attempt_id.job_id, attempt_id.task))
            self.promises.give(SuccessKept(attempt_id.job_id, attempt_id.task))

    def _coordinator_of(self, host: Host) -> Host:
        epoch = host.node.election.reign() if host.node is not None else None
        return host if epoch is None else self._by_id[epoch.node_id]

    def _quiet_around(self, host: Host) -> int:
        """How many this coordinator must count on: itself, and whom it reaches undisturbed."""
        since_us = self._world.now_us - QUIET_US
        key = _key_in_use(host)
        if host.disturbed_us > since_us or key is None:
            return 1
        return sum(
            1
            for one in self._hosts
            if one.is_awake
            and one.is_keeper
            and not one.is_removed
            and not one.is_leaving
            and one.disturbed_us <= since_us
            and _key_in_use(one) == key
            and self._network.is_open(host.index, one.index)
            and self._network.is_open(one.index, host.index)
        )

    def _ended_by_order(self, host: Host, key: str, verb: str) -> None:
        container = host.executor.containers.get(key)
        if container is None or container.exit_code is not None:
            return
        if container.stopping or host.is_leaving or host.index in self._forgetful:
            return
        job = self._workload.jobs[container.attempt_id.job_id]
        if host.is_removed or job.spec.timeout_ms or self._is_decided(container.attempt_id):
            return
        raise Violation(
            "S11 only a decision stops a container", f"{host.name} {verb} {key}, which runs"
        )

    def _is_forgotten(self, attempt_id: AttemptId) -> bool:
        return attempt_id.job_id in self._forgetting.jobs

    def _is_decided(self, attempt_id: AttemptId) -> bool:
        """Does anybody know that this attempt is not the one that should run?"""
        job_id, task = attempt_id.job_id, attempt_id.task
        if self._is_forgotten(attempt_id):
            return True
        for table in tables(self._hosts):
            cell = table.cell(job_id, task)
            if table.cancelled(job_id) or _moved_on(cell, attempt_id):
                return True
        for host in self._hosts:
            row = task_row(host, job_id, task)
            if f"cancel/{job_id}" in host.disk.rows:
                return True
            if row is not None and _moved_on(row.cell, attempt_id):
                return True
        return False

    # --- sweeps --------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Committed successes stay. Looked at now and then: every event would cost too much."""
        self._world.after(SWEEP_US, self._sweep)
        for host in self._hosts:
            if host.node is None:
                continue
            self._coverage.note_role(host)
            table = host.node.sched.table
            # Mostly the whole table is as it was half a second ago, else most jobs are.
            whole = (host.index, host.boot_epoch), table.digest()
            if self._swept_whole.get(whole[0]) == whole[1]:
                continue
            self._swept_whole[whole[0]] = whole[1]
            for job_id in table.jobs():
                place, digest = (host.index, host.boot_epoch, job_id), table.job_digest(job_id)
                if self._swept.get(place) == digest:
                    continue
                self._swept[place] = digest
                self._intruders.changed_job(host, table, job_id)
                for task in table.decided_tasks(job_id):
                    self._sweep_cell(host, job_id, task, table.cell(job_id, task))

    def _sweep_cell(self, host: Host, job_id: JobId, task: int, cell: Cell) -> None:
        place = (host.index, host.boot_epoch, job_id, task)
        before = self._successes.get(place)
        if cell.success:
            self._successes[place] = cell
        if before is None or before.attempt_id == cell.attempt_id:
            return
        if not cell.success or _epoch_of(cell) <= _epoch_of(before):
            raise Violation("S9 a committed success stays", f"{host.name}: {before}, then {cell}")

    def _count_traffic(self) -> None:
        """Of the whole pool, and of every node: packets and bytes."""
        self._world.after(TRAFFIC_US, self._count_traffic)
        seconds, count = TRAFFIC_US // 1_000_000, len(self._hosts)
        packets, sizes = self._network.packets_of, self._network.bytes_of
        for host in self._hosts:
            packets_before, bytes_before = self._traffic.get(host.index, (0, 0))
            self._traffic[host.index] = packets[host.index], sizes[host.index]
            sent = packets[host.index] - packets_before
            sent_bytes = sizes[host.index] - bytes_before
            if sent > (PACKETS_PER_SECOND + PACKETS_PER_PEER * count) * seconds:
                raise Violation("S13 no flood", f"{host.name}: {sent} packets in {seconds} s")
            if sent_bytes > (BYTES_PER_SECOND + BYTES_PER_PEER * count) * seconds:
                raise Violation("S13 no flood", f"{host.name}: {sent_bytes} bytes in {seconds} s")


def tables(hosts: Sequence[Host]) -> Iterator[Table]:
    """Of everybody who is up."""
    for host in hosts:
        if host.node is not None:
            yield host.node.sched.table


def _key_in_use(host: Host) -> bytes | None:
    """Those who seal with different keys do not understand each other."""
    if host.node is None:
        return None
    ring = host.node.trust.ring()
    return ring.keys[ring.use]


def _moved_on(cell: Cell, attempt_id: AttemptId) -> bool:
    if cell.attempt_id is None and not cell.turn:
        return False
    return cell.attempt_id != attempt_id or not is_active(cell)


def _epoch_of(cell: Cell) -> Epoch:
    assert cell.epoch is not None, "a committed success was decided by a reign"
    return cell.epoch


def _keeps_epoch(host: Host, epoch: Epoch) -> bool:
    stored = host.disk.rows.get("election/epoch")
    if stored is None:
        return False
    record = codec.decode_record(stored)
    assert isinstance(record, EpochRecord), f"the epoch record is an epoch record: {record}"
    return record.floor >= epoch
