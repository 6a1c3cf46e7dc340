"""The laws about who may be in and who may do what, seen from outside.

S20 a packet is taken at most once by a host, whatever restarts and rotates; none that was on the
    cable before the host's last start, and none that nobody sent
S21 who was removed is heard by nobody who knows of it, a stranger by nobody; and only an admin's
    word removes
S22 nobody follows a reign that its owner did not announce, and no worker reigns
S23 the tables hold what people asked for: no job of anybody's invention, no cancel by a person who
    may not; and a worker's disk holds no more of it than what it was to run
S24 an outcome is what the engine of its worker saw
S2  the incarnation of a node never falls within a boot, whoever believes what; and S6: nobody
    believes in one that is beyond what its owner has said
S25 nobody is believed to be in a boot that it never had, or to have left without its word
S26 no pool key goes to who was removed
"""

from collections.abc import Sequence

from rain.effects import Message
from rain.gossip.messages import MemberRecord
from rain.mesh.envelope import Opened
from rain.model import End, EndState, JobId, MemberState, NodeId, Role
from rain.sched.identity import attempt_key
from rain.sched.messages import Assign
from rain.sched.table import Table
from rain.trust.messages import RollNews

from .executor import Container
from .host import Host
from .tape import Tape
from .workload import Workload
from .world import Violation, World

SWEEP_US = 500_000
ENGINE_STATES = (EndState.SUCCEEDED, EndState.FAILED)
"""Ends that tell the exit code of a container which ended by itself."""


class Intruders:
    """Looks on beside the other laws; raises Violation."""

    def __init__(self, world: World, workload: Workload, tape: Tape) -> None:
        self._world = world
        self._workload = workload
        self._tape = tape
        self._hosts: Sequence[Host] = ()
        self._by_id: dict[NodeId, Host] = {}
        self._taken: dict[tuple[int, NodeId, int], set[int]] = {}
        self._ever_removed: set[NodeId] = set()
        self._ordered: set[tuple[int, JobId]] = set()
        self._incarnations: dict[tuple[NodeId, int], int] = {}
        """The highest that each node had in each boot, by its own word."""
        self._believed: dict[tuple[int, int, NodeId], tuple[int, int]] = {}

    def connect(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._by_id = {host.node_id: host for host in hosts}
        self._world.after(SWEEP_US, self._sweep)

    def note_removal(self, host: Host) -> None:
        """An admin is about to remove that host."""
        self._ever_removed.add(host.node_id)

    # --- what comes in -------------------------------------------------------------------------

    def taken(self, host: Host, opened: Opened, packet: bytes) -> None:
        place = (host.index, opened.sender, opened.boot_epoch)
        taken = self._taken.setdefault(place, set())
        if opened.sequence in taken:
            raise Violation(
                "S20 a packet is taken once",
                f"{host.name} takes {opened.sequence} of boot {opened.boot_epoch} of "
                f"{opened.sender} again",
            )
        taken.add(opened.sequence)
        heard_us = self._tape.first_heard_us(packet)
        if heard_us is None:
            raise Violation(
                "S20 only what its sender sent is taken", f"{host.name} hears {opened.sender}"
            )
        if heard_us < host.started_us:
            raise Violation(
                "S20 nothing recorded before a start counts",
                f"{host.name} started at {host.started_us} us and takes a packet of {heard_us} us",
            )

    def received(self, host: Host, sender: NodeId, message: Message) -> None:
        if isinstance(message, Assign):
            self._ordered.add((host.index, message.job.job_id))
        if sender not in self._by_id:
            raise Violation("S21 no stranger is heard", f"{host.name} takes {message}")
        if sender not in self._ever_removed or sender == host.node_id:
            return
        if self._known_removal(host, sender):
            raise Violation(
                "S21 who was removed is not heard",
                f"{host.name} knows that {sender} was removed and takes {message}",
            )

    def posted(self, host: Host, to: NodeId, message: Message) -> None:
        if to not in self._ever_removed or not isinstance(message, RollNews):
            return
        if message.keys and self._known_removal(host, to):
            raise Violation("S26 no key goes to the removed", f"{host.name} tells {to} a pool key")

    def followed(self, host: Host, is_announced: bool) -> None:
        """After every event in which the reign that it follows has changed."""
        assert host.node is not None
        epoch = host.node.election.reign()
        if epoch is None:
            return
        owner = self._by_id.get(epoch.node_id)
        if owner is None or owner.role is Role.WORKER:
            raise Violation("S22 no worker reigns", f"{host.name} follows {epoch}")
        if owner is not host and not is_announced:
            raise Violation("S22 a reign is announced by its owner", f"{host.name}: {epoch}")

    def _known_removal(self, host: Host, node_id: NodeId) -> bool:
        """Does this node know that claim, and no certificate that is newer than it?

        An admin whom a junior one has removed may still have the last word: it is let speak, and
        what it may say the node itself decides.
        """
        assert host.node is not None
        trust = host.node.trust
        if trust.is_overruled(node_id):
            return False
        removal = trust.removals().get(node_id)
        known = trust.known(node_id)
        if removal is None:
            return False
        return known is None or known.generation <= removal[0].generation

    def note_own(self, host: Host) -> None:
        """What that node says of itself just now."""
        if host.node is None:
            return
        for member in host.node.gossip.members():
            if member.record.node_id == host.node_id:
                place = host.node_id, member.record.boot_epoch
                before = self._incarnations.get(place, 0)
                if member.record.incarnation < before:
                    raise Violation("S2 incarnations never fall", f"{host.name}: {member.record}")
                self._incarnations[place] = member.record.incarnation

    # --- what is believed ----------------------------------------------------------------------

    def changed_job(self, host: Host, table: Table, job_id: JobId) -> None:
        """That job of that host's table is not what it was."""
        asked = self._workload.jobs.get(job_id)
        job = table.job(job_id)
        if asked is None or (job is not None and job != asked):
            raise Violation("S23 no job is invented", f"{host.name} holds {job_id}: {job}")
        if table.cancelled(job_id) and job_id not in self._workload.cancel_asked:
            raise Violation("S23 nobody cancels what is not theirs", f"{host.name}: {job_id}")
        for task in table.decided_tasks(job_id):
            for attempt_id, end in table.ends(job_id, task).items():
                if end.state not in ENGINE_STATES and not end.crashed:
                    continue
                worker = self._by_id.get(attempt_id.node_id)
                key = attempt_key(attempt_id)
                container = worker.executor.begun.get(key) if worker is not None else None
                if container is None or not _is_end_of(container, end):
                    raise Violation(
                        "S24 an outcome is what its engine saw",
                        f"{host.name} believes {end} of {key}, there is {container}",
                    )

    def _sweep(self) -> None:
        self._world.after(SWEEP_US, self._sweep)
        for host in self._hosts:
            self.note_own(host)
        for host in self._hosts:
            if host.role is Role.WORKER:
                self._sweep_worker(host)
            if host.node is not None:
                self._sweep_members(host)
                self._sweep_removals(host)

    def _sweep_worker(self, host: Host) -> None:
        """It keeps the jobs that it was to run something of, until it may forget them."""
        for key in host.disk.rows:
            kind, _, job_id = key.partition("/")
            if kind == "cancel" or (kind == "job" and (host.index, job_id) not in self._ordered):
                raise Violation("S23 workers hold no copies", f"{host.name} has {key} on disk")

    def _sweep_removals(self, host: Host) -> None:
        assert host.node is not None
        for node_id, (claim, _, _) in host.node.trust.removals().items():
            if node_id not in self._ever_removed:
                raise Violation("S21 only admins remove", f"{host.name} believes {claim}")

    def _sweep_members(self, host: Host) -> None:
        assert host.node is not None
        for member in host.node.gossip.members():
            record = member.record
            subject = self._by_id.get(record.node_id)
            if subject is None or record.boot_epoch > subject.boot_epoch:
                raise Violation(
                    "S25 nobody is in a boot it never had", f"{host.name} believes {record}"
                )
            self._sweep_incarnation(host, record)
            if record.state is not MemberState.LEFT or record.boot_epoch in subject.goodbyes:
                continue
            if not self._known_removal(host, subject.node_id):
                raise Violation("S25 who left said so itself", f"{host.name} believes {record}")

    def _sweep_incarnation(self, host: Host, record: MemberRecord) -> None:
        place = host.index, host.boot_epoch, record.node_id
        claim = record.boot_epoch, record.incarnation
        if claim < self._believed.get(place, claim):
            raise Violation("S2 no member falls back", f"{host.name} believes {record}")
        self._believed[place] = claim
        highest = self._incarnations.get((record.node_id, record.boot_epoch))
        if highest is not None and record.incarnation > highest:
            raise Violation(
                "S6 only its owner raises an incarnation",
                f"{host.name} believes {record}, its owner said {highest}",
            )


def _is_end_of(container: Container, end: End) -> bool:
    """A crash: its PC lost power, or it was over already when an older disk said that it ran."""
    if end.crashed:
        return container.is_dark or container.exit_code is not None
    return container.exit_code == end.exit_code
