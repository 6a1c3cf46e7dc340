"""A pool of schedulers in one process: streams, disks and containers that tell what they did.

Time moves only when a test says so; messages arrive in the order they were posted; every step
ends with `check`. What happened is kept as lines of text, for golden histories.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from rain.effects import (
    Admitted,
    Answer,
    Barred,
    Beat,
    ClockTold,
    ContainerExited,
    ContainerFailed,
    ContainerFound,
    ContainersListed,
    ContainerStarted,
    CoordinatorHeard,
    DeadlinePassed,
    DiskFailed,
    Effect,
    EpochSeen,
    Event,
    FollowerHeard,
    MemberDown,
    MemberUp,
    Message,
    Notice,
    Output,
    Persist,
    Persisted,
    Post,
    Proposed,
    Received,
    Record,
    ReignChanged,
    RemoveContainer,
    StartContainer,
    StopContainer,
    StopRequested,
    ViewChanged,
)
from rain.model import (
    Address,
    AttemptId,
    Epoch,
    Facts,
    Identity,
    Job,
    JobSpec,
    MemberState,
    NodeId,
    Resources,
    Role,
)
from rain.sched.identity import attempt_key, signed_job
from rain.sched.scheduler import SchedConfig, Scheduler
from tests.sched.samples import OWNER, admitted, id_of, key_of, verify

GIB = 1024**3
ADDRESS = Address("10.0.0.1", 7246)
FACTS = Facts(1, Resources(2_000, 4 * GIB), ("docker",), works=True)


def job_of(
    submitter: str = "a", tasks: int = 1, nonce: bytes = b"n", person: str = OWNER, **spec: object
) -> Job:
    wish = JobSpec(("true",), "image", tasks=tasks, **spec)  # type: ignore[arg-type]
    key = key_of(submitter)
    return signed_job(wish, submitter, 1_000, nonce, person, key.public_key, key.sign)


class Host:
    """One node: its scheduler, its disk, its containers."""

    def __init__(
        self, name: str, facts: Facts, boot_epoch: int = 1, config: SchedConfig | None = None
    ) -> None:
        self._config = config or SchedConfig()
        self.key = key_of(name)
        self.identity = Identity(self.key.node_id, name, boot_epoch)
        self.facts = facts
        self.disk: dict[str, Record] = {}
        self.containers: dict[str, AttemptId] = {}
        self.answers: list[Answer] = []
        self.is_disk_full = False
        self.engine_refuses = ""
        """What the engine says to every start; empty: it starts them."""
        self.core = self.fresh(0)

    def fresh(self, now_ms: int) -> Scheduler:
        recovered = tuple(self.disk.values())
        rng = random.Random(self.identity.name)
        return Scheduler(
            self.identity,
            self.facts,
            self._config,
            rng,
            now_ms,
            recovered,
            sign=self.key.sign,
            public_key=self.key.public_key,
            verify=verify,
        )


class Wire:
    """The pool. `lines` tells its story; `cut` holds nodes that nobody hears."""

    def __init__(
        self,
        *names: str,
        facts: Facts = FACTS,
        roles: Mapping[str, Role] | None = None,
        persons: Mapping[str, str] | None = None,
        config: SchedConfig | None = None,
    ) -> None:
        self.now_ms = 0
        self.hosts = {id_of(name): Host(name, facts, config=config) for name in names}
        roles, persons = roles or {}, persons or {}
        self.roll: dict[NodeId, Admitted | Barred] = {
            id_of(name): admitted(name, roles.get(name, Role.MEMBER), persons.get(name, OWNER))
            for name in names
        }
        self.cut: set[NodeId] = set()
        self.lines: list[str] = []
        self.lost: Callable[[NodeId, NodeId, Message], bool] = lambda _from, _to, _message: False
        self.beat = 0
        self.follows: dict[NodeId, Epoch] = {}
        self._mail: deque[tuple[NodeId, NodeId, Message]] = deque()
        for node_id in self.hosts:
            for notice in self.roll.values():
                self.feed(node_id, notice)
            self.feed(node_id, ContainersListed(()))
            for other, host in self.hosts.items():
                if other != node_id:
                    self.feed(node_id, MemberUp(other, host.identity.name, 1, host.facts))
            self.feed(node_id, ViewChanged(tuple(sorted(self.hosts))))

    # --- What tests do ---------------------------------------------------------------------------

    def reign(self, name: str, number: int, side: str = "", *, takeover: bool = True) -> Epoch:
        """Everybody alive (on that side, one letter a node) follows this reign from now on."""
        epoch = Epoch(number, id_of(name), 7)
        for node_id in self.alive():
            is_mine = node_id == epoch.node_id
            if side and self.name(node_id) not in side:
                continue
            self.follows[node_id] = epoch
            self.feed(node_id, ReignChanged(epoch, is_mine, takeover and is_mine))
        self.settle()
        return epoch

    def submit(self, name: str, *jobs: Job) -> None:
        self.feed(id_of(name), Proposed(1, jobs))
        self.settle()

    def cancel(self, name: str, *jobs: Job) -> None:
        self.feed(id_of(name), Proposed(2, (), tuple(job.job_id for job in jobs)))
        self.settle()

    def exit(self, name: str, exit_code: int = 0, count: int = 1) -> None:
        """The first `count` containers of a node end."""
        for key, attempt_id in list(self.hosts[id_of(name)].containers.items())[:count]:
            del self.hosts[id_of(name)].containers[key]
            self.feed(id_of(name), ContainerExited(attempt_id, exit_code, 5, 6))
        self.settle()

    def tell(self, notice: Admitted | Barred) -> None:
        """The roll has changed; everybody alive hears of it."""
        self.roll[notice.node_id] = notice
        for node_id in self.alive():
            self.feed(node_id, notice)
        self.settle()

    def kill(self, name: str) -> None:
        """Gone, with all that was in memory; gossip tells the others when the test says so."""
        self.cut.add(id_of(name))

    def stop(self, name: str) -> None:
        """`rain down`."""
        self.feed(id_of(name), StopRequested())
        self.settle()

    def bury(self, name: str, state: MemberState = MemberState.DEAD, side: str = "") -> None:
        for node_id in self.alive():
            if side and self.name(node_id) not in side:
                continue
            self.feed(node_id, MemberDown(id_of(name), state))
        self.settle()

    def tell_clock(self, unix_ms: int, names: str = "") -> None:
        """What the walls of everybody alive (or of these, one letter a node) say."""
        for node_id in self.alive():
            if not names or self.name(node_id) in names:
                self.feed(node_id, ClockTold(unix_ms))
        self.settle()

    def restart(
        self, name: str, *, lists: bool = True, power_lost: bool = False, unix_ms: int = 0
    ) -> None:
        """The agent of a node starts again over its disk; its containers ran on, or not."""
        node_id = id_of(name)
        self.cut.discard(node_id)
        host = self.hosts[node_id]
        if power_lost:
            host.containers.clear()
        host.identity = Identity(node_id, name, host.identity.boot_epoch + 1)
        host.core = host.fresh(self.now_ms)
        if unix_ms:
            self.feed(node_id, ClockTold(unix_ms))
        for notice in self.roll.values():
            self.feed(node_id, notice)
        for other in self.alive():
            if other != node_id:
                there = self.hosts[other]
                life = there.identity.boot_epoch
                self.feed(node_id, MemberUp(other, self.name(other), life, there.facts))
                up = MemberUp(node_id, name, host.identity.boot_epoch, host.facts)
                self.feed(other, up)
        if node_id in self.follows:
            epoch = self.follows[node_id]
            self.feed(node_id, ReignChanged(epoch, epoch.node_id == node_id))
        if lists:
            self.list_containers(name)
        self.settle()

    def list_containers(self, name: str) -> None:
        found = tuple(ContainerFound(key, 5) for key in self.hosts[id_of(name)].containers)
        self.feed(id_of(name), ContainersListed(found))

    def run(self, duration_ms: int) -> None:
        """Let time pass in steps of 50 ms, with a heartbeat and its echo every 100 ms."""
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms += 50
            if self.now_ms % 100 == 0:
                self._heartbeat()
            for node_id in self.alive():
                deadline_ms = self.hosts[node_id].core.next_deadline_ms()
                if deadline_ms is not None and deadline_ms <= self.now_ms:
                    self.feed(node_id, DeadlinePassed())
            self.settle()

    def feed(self, node_id: NodeId, event: Event | Notice) -> list[Output]:
        core = self.hosts[node_id].core
        outputs = core.handle(event, self.now_ms)
        core.check()
        self._carry_out(node_id, outputs)
        return outputs

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        for _ in range(10_000):
            if not self._mail:
                return
            sender, to, message = self._mail.popleft()
            if {sender, to} & self.cut or self.lost(sender, to, message):
                continue
            self.feed(to, Received(sender, message, ADDRESS, by_stream=True))
        raise AssertionError("the pool never comes to rest")

    # --- What tests look at ----------------------------------------------------------------------

    def name(self, node_id: NodeId) -> str:
        return self.hosts[node_id].identity.name if node_id in self.hosts else str(node_id)

    def alive(self) -> list[NodeId]:
        return [node_id for node_id in self.hosts if node_id not in self.cut]

    def running(self) -> dict[str, int]:
        """Containers per node."""
        return {host.identity.name: len(host.containers) for host in self.hosts.values()}

    def told(self) -> list[str]:
        """The story since it was last told."""
        lines, self.lines = self.lines, []
        return lines

    def are_equal(self) -> bool:
        return len({self.hosts[n].core.table.digest() for n in self.alive()}) == 1

    # --- Inside ----------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        self.beat += 1
        for node_id, epoch in self.follows.items():
            coordinator = epoch.node_id
            if {node_id, coordinator} & self.cut or self.follows[coordinator] != epoch:
                continue
            if node_id == coordinator:
                self.feed(coordinator, Beat(epoch, self.beat))
                continue
            digest = self.hosts[coordinator].core.table.digest()
            self.feed(node_id, CoordinatorHeard(epoch, self.beat, digest))
            own = self.hosts[node_id].core.table.digest()
            self.feed(coordinator, FollowerHeard(node_id, own))

    def _carry_out(self, node_id: NodeId, outputs: Iterable[Output | Effect]) -> None:
        host = self.hosts[node_id]
        name = host.identity.name
        for output in outputs:
            match output:
                case Persist():
                    if host.is_disk_full:
                        self.feed(node_id, DiskFailed("full"))
                        continue
                    host.disk.update((row.key(), row) for row in output.puts)
                    for key in output.deletes:
                        host.disk.pop(key, None)
                    self._carry_out(node_id, output.then)
                    if output.token:
                        self.feed(node_id, Persisted(output.token, 1))
                case Post(to=to, message=message):
                    self.lines.append(f"{name}>{self.name(to)} {type(message).__name__}")
                    self._mail.append((node_id, to, message))
                case StartContainer(attempt_id=attempt_id):
                    if host.engine_refuses:
                        said = host.engine_refuses
                        self.feed(node_id, ContainerFailed(attempt_id, 125, said, refused=True))
                        continue
                    self.lines.append(f"{name} starts {attempt_id.task}.{attempt_id.number}")
                    host.containers[attempt_key(attempt_id)] = attempt_id
                    self.feed(node_id, ContainerStarted(attempt_id, 5))
                case StopContainer(attempt_id=attempt_id):
                    self.lines.append(f"{name} stops {attempt_id.task}.{attempt_id.number}")
                    if host.containers.pop(attempt_key(attempt_id), None) is not None:
                        self.feed(node_id, ContainerExited(attempt_id, 143, 5, 6))
                case RemoveContainer(attempt_key=key):
                    host.containers.pop(key, None)
                    self.lines.append(f"{name} removes a container")
                case EpochSeen(epoch=epoch):
                    self.lines.append(f"{name} has met reign {epoch.number}")
                case Answer():
                    host.answers.append(output)
                    self.lines.append(f"{name} answers {output.copies} {output.error}".strip())
                case _:
                    pass
