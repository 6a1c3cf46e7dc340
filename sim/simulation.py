"""One seed: a pool, its weather, its work; safety all the time, progress after the healing."""

from collections.abc import Callable
from typing import NamedTuple

from rain.mesh import codec
from rain.model import Role
from rain.trust.records import rows_of

from .attacks import Attacks
from .checkers import Laws
from .credentials import FIRST_KEY_NUMBER, Charter
from .faults import Faults
from .host import Host, told
from .hostile import Hostile
from .intruders import Intruders
from .kicks import Kicks
from .network import Network
from .options import Options, draw_options
from .progress import Progress
from .signing import is_ed25519, signer_of, verify_of
from .tape import Tape
from .trace import Trace
from .workload import Workload
from .world import Violation, World, pick


class Outcome(NamedTuple):
    """What one seed came to."""

    seed: int
    virtual_ms: int
    nodes: int
    faults: int
    crashes: int
    partitions: int
    elections: int
    jobs_submitted: int
    jobs_acknowledged: int
    results_committed: int
    packets: int
    is_ed25519: bool
    violation: str


class Simulation:
    """Builds the pool of one seed and runs it."""

    def __init__(
        self,
        seed: int,
        nodes: int | None,
        seconds: int,
        say: Callable[[str], None] | None = None,
        check_every: int = 24,
    ) -> None:
        self.seed = seed
        self.world = World(seed)
        self.trace = Trace(say)
        self.options: Options = draw_options(self.world.dice("options"), nodes, seconds)
        self._seconds = seconds
        self.network = Network(self.world, self.options)
        self.charter = Charter(seed, signer_of(seed, "root"), verify_of(seed))
        self.hosts = [self._host(index, check_every) for index in range(self.options.nodes)]
        self.workload = Workload(self.world, self.hosts, self.options, self.trace)
        tape = Tape(self.world.dice("tape"))
        self.network.tap = tape.record
        self.intruders = Intruders(self.world, self.workload, tape)
        self.laws = Laws(self.world, self.network, self.workload, self.intruders, self.trace)
        self.faults = Faults(self.world, self.hosts, self.network, self.options, self.trace)
        self.kicks = Kicks(
            self.world,
            self.hosts,
            self.charter,
            verify_of(seed),
            self.trace,
            self.options.active_ms * 1_000,
            self.laws.note_removal,
        )
        attacks = Attacks(
            self.world, self.hosts, self.network, self.charter, self.workload, tape, self.trace
        )
        self.hostile = Hostile(self.world, self.kicks, attacks, self.options)
        self._connect()

    def _connect(self) -> None:
        self.network.connect(self.hosts)
        self.laws.connect(self.hosts)
        for host in self.hosts:
            host.connect(self.hosts, self.laws)
            self.trace.name(host.node_id, host.name)
        self._found()

    def _found(self) -> None:
        """The pool as it was before the run: everybody let in, everybody knowing everybody."""
        dice = self.world.dice("founding")
        admins = [host for host in self.hosts if host.role is Role.ADMIN]
        for host in admins:
            self.charter.empower(host.signer)
        for host in self.hosts:
            issuer = host if host in admins else pick(dice, admins)
            authority = self.charter.authorities[issuer.node_id]
            self.charter.bundles[host.node_id] = authority.issue(
                host.signer.public_key,
                name=host.name,
                role=host.role,
                person=host.person,
                generation=1,
            )
        rows = rows_of(
            self.charter.bundles.values(), (), [(FIRST_KEY_NUMBER, self.charter.first_key)]
        )
        for host in self.hosts:
            host.disk.rows.update({row.key(): codec.encode_record(row) for row in rows})

    def run(self) -> Outcome:
        self.trace.line(0, "all", f"** seed {self.seed}, {self.options!r}")
        violation = ""
        try:
            self._play()
        except Exception as broken:  # whatever raises is a finding, and the next seed goes on
            violation = str(broken) if isinstance(broken, Violation) else told(broken)
            self.trace.line(self.world.now_us, "all", f"** VIOLATION {violation}")
            violation = self.trace.named(violation)
        return Outcome(
            seed=self.seed,
            virtual_ms=self.world.now_us // 1_000,
            nodes=self.options.nodes,
            faults=self.faults.count + self.hostile.count,
            crashes=self.faults.crashes,
            partitions=self.faults.partitions,
            elections=len(self.laws.epochs),
            jobs_submitted=len(self.workload.jobs),
            jobs_acknowledged=len(self.workload.acknowledged),
            results_committed=len(self.laws.committed),
            packets=self.network.packets,
            is_ed25519=is_ed25519(self.seed),
            violation=violation,
        )

    def _play(self) -> None:
        self.faults.plan()
        self.hostile.plan()
        self.workload.plan()
        self.world.run(self.options.active_ms * 1_000)
        self.kicks.settle()
        self.faults.heal()
        progress = Progress(
            self.world, self.hosts, self.faults, self.workload, self.laws, self.trace
        )
        progress.judge(self.options.epilogue)
        self.world.run(max(self.world.now_us, self._seconds * 1_000_000))

    def _host(self, index: int, check_every: int) -> Host:
        host = Host(
            index,
            self.world,
            self.options,
            self.network,
            self.charter,
            signer_of(self.seed, str(index)),
            verify_of(self.seed),
            self.trace,
        )
        host.check_every = check_every
        return host


def run_seed(seed: int, nodes: int | None, seconds: int) -> Outcome:
    return Simulation(seed, nodes, seconds).run()
