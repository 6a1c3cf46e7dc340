"""One seed: a pool, its weather, its work; safety all the time, progress after the healing."""

from collections.abc import Callable
from typing import NamedTuple

from .attacks import Attacks
from .cables import Cables
from .checkers import Laws
from .coverage import Coverage
from .credentials import Charter
from .faults import Faults
from .founding import found
from .host import Host, told
from .hostile import Hostile
from .intruders import Intruders
from .kicks import Kicks
from .network import Network
from .old_disks import OldDisks
from .options import Options, draw_options
from .progress import Progress
from .resets import Resets
from .signing import is_ed25519, signer_of, verify_of
from .stage import Stage, Struck
from .tape import Tape
from .trace import Trace
from .troubles import Troubles
from .workload import Workload
from .world import Violation, World

CHECK_EVERY = 192
"""Events of a host between two looks at the invariants inside its node; once more at the end."""


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
    law: str
    """The one that was broken; empty: none."""
    struck: tuple[Struck, ...]
    """Every fault that was carried out."""
    hits: dict[str, int]
    """What was seen how often."""


class Simulation:
    """Builds the pool of one seed and runs it."""

    def __init__(
        self,
        seed: int,
        nodes: int | None,
        seconds: int,
        say: Callable[[str], None] | None = None,
        check_every: int = CHECK_EVERY,
        only: frozenset[int] | None = None,
        options: Options | None = None,
    ) -> None:
        self.seed = seed
        self.world = World(seed)
        self.trace = Trace(say)
        self.coverage = Coverage()
        drawn = draw_options(self.world.dice("options"), nodes, seconds)
        self.options: Options = drawn if options is None else options
        self._seconds = seconds
        self.network = Network(self.world, self.options)
        self.charter = Charter(seed, signer_of(seed, "root"), verify_of(seed))
        self.hosts = [self._host(index, check_every) for index in range(self.options.nodes)]
        self.workload = Workload(self.world, self.hosts, self.options, self.trace)
        tape = Tape(self.world.dice("tape"))
        self.network.tap = tape.record
        self.intruders = Intruders(self.world, self.workload, tape)
        self.laws = Laws(
            self.world, self.network, self.workload, self.intruders, self.coverage, self.trace
        )
        self.stage = Stage(
            self.world,
            self.hosts,
            self.network,
            self.options,
            self.trace,
            self.coverage,
            only,
        )
        self.faults = Faults(self.stage)
        self.troubles = Troubles(
            self.stage,
            Cables(self.stage, tape).kinds,
            Resets(self.stage).kinds,
            OldDisks(self.stage, self.laws.note_forgetful).kinds,
        )
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
        self.hostile = Hostile(self.world, self.stage, self.kicks, attacks, self.options)
        self._connect()

    def _connect(self) -> None:
        self.network.connect(self.hosts)
        self.laws.connect(self.hosts)
        for host in self.hosts:
            host.connect(self.hosts, self.laws)
            self.trace.name(host.node_id, host.name)
        found(self.charter, self.hosts, self.world.dice("founding"))

    def run(self) -> Outcome:
        self.trace.line(0, "all", f"** seed {self.seed}, {self.options!r}")
        violation = law = ""
        try:
            self._play()
        except Exception as broken:  # whatever raises is a finding, and the next seed goes on
            violation = str(broken) if isinstance(broken, Violation) else told(broken)
            law = broken.law if isinstance(broken, Violation) else type(broken).__name__
            self.trace.line(self.world.now_us, "all", f"** VIOLATION {violation}")
            violation = self.trace.named(violation)
        return Outcome(
            seed=self.seed,
            virtual_ms=self.world.now_us // 1_000,
            nodes=self.options.nodes,
            faults=len(self.stage.struck),
            crashes=self.stage.crashes,
            partitions=self.stage.partitions,
            elections=len(self.laws.epochs),
            jobs_submitted=len(self.workload.jobs),
            jobs_acknowledged=len(self.workload.acknowledged),
            results_committed=len(self.laws.committed),
            packets=self.network.packets,
            is_ed25519=is_ed25519(self.seed),
            violation=violation,
            law=law,
            struck=tuple(self.stage.struck),
            hits=self.coverage.hits,
        )

    def count_faults(self) -> int:
        """In the place of `run`: how many faults are planned, numbered from 0."""
        self._plan()
        return self.stage.numbers

    def _plan(self) -> None:
        self.faults.plan()
        self.hostile.plan()
        self.troubles.plan()

    def _play(self) -> None:
        self.coverage.note_options(self.options)
        self._plan()
        self.workload.plan()
        self.world.run(self.options.active_ms * 1_000)
        self.kicks.settle()
        self.stage.heal()
        progress = Progress(
            self.world, self.hosts, self.stage, self.workload, self.laws, self.trace
        )
        progress.judge(self.options.epilogue)
        self.world.run(max(self.world.now_us, self._seconds * 1_000_000))
        self.coverage.note_hosts(self.hosts)
        self.coverage.note_tables(self.hosts)

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


def run_seed(
    seed: int, nodes: int | None, seconds: int, only: frozenset[int] | None = None
) -> Outcome:
    return Simulation(seed, nodes, seconds, only=only).run()
