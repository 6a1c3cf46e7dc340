"""What is done to a pool that has healed: one thing each, with nothing else in its way.

L3 nothing moves without a cause: a follower that restarts unseats nobody, a coordinator that dies
   is replaced once within 5 s, one that stops politely within 1 s, and whoever comes back takes
   nothing over; a follower's cable changes nothing, wherever it was plugged in
L6 what a PC ran that lost its power runs elsewhere within 9 s
S12 who said goodbye has left and did not die, whoever is asked
S13 an election takes at most MESSAGES_PER_ELECTION packets for each node
"""

from typing import TYPE_CHECKING

from rain.model import Epoch, Job, MemberState

from .checkers import Laws
from .host import Host
from .ordeals import Ordeals
from .stage import Stage
from .workload import Workload
from .world import Violation, World, draw_int, pick, pick_some

if TYPE_CHECKING:
    from .progress import Progress

FAILOVER_BOUND_US = 5_000_000
HANDOVER_BOUND_US = 1_000_000
CALM_US = 3_000_000
STOP_BOUND_US = 10_000_000
LONG_RUNNING_US = 1_500_000
RERUN_BOUND_US = 9_000_000
"""Detection, a start of the container, and a start that fails and is tried again."""
JOBS_BOUND_US = 75_000_000
VIEW_BOUND_US = 10_000_000
REUNION_BOUND_US = 5_000_000
GONE_US_MIN = 300_000
GONE_US_MAX = 4_000_000
CABLE_US_MIN = 600_000
CABLE_US_MAX = 8_000_000
MESSAGES_PER_ELECTION = 6


class Epilogues:
    """Plays the one that the seed has drawn; raises Violation."""

    def __init__(
        self,
        world: World,
        stage: Stage,
        workload: Workload,
        laws: Laws,
        progress: "Progress",
    ) -> None:
        self._world = world
        self._stage = stage
        self._workload = workload
        self._laws = laws
        self._progress = progress
        self._dice = world.dice("epilogue")
        self._ordeals = Ordeals(world, stage, progress, workload, laws.note_forgetful)

    def play(self, name: str) -> None:
        {
            "none": self._nothing_moves,
            "return": self._follower_returns,
            "failover": self._coordinator_dies,
            "handover": self._coordinator_stops,
            "worker_lost": self._worker_dies,
            "two_deaths": self._two_die,
            "coordinator_cable": self._coordinator_cut_off,
            "worker_cable": self._follower_cut_off,
            **self._ordeals.kinds,
        }[name]()

    def _nothing_moves(self) -> None:
        epoch = self._progress.followed()
        self._run(CALM_US)
        if self._progress.followed() != epoch:
            told = told_reigns(self._progress.reigns())
            raise Violation("L3 nothing moves", f"{epoch}, then {told}")

    # --- a follower ----------------------------------------------------------------------------

    def _follower_returns(self) -> None:
        """One of the others restarts: it may have a better rank, and still takes nothing over."""
        reigning = self._reigning()
        before = reigning.boot_epoch, self._progress.coordinator()
        host = pick(self._dice, self._others(reigning))
        self._stage.kill(host)
        self._run(draw_int(self._dice, GONE_US_MIN, GONE_US_MAX))
        host.start()
        self._run(VIEW_BOUND_US)
        after = reigning.boot_epoch, self._progress.coordinator()
        if before != after:
            raise Violation("L3 who returns unseats nobody", f"{before}, then {after}")

    def _follower_cut_off(self) -> None:
        """The cable of one of the others is out, and back: nobody else's reign comes of it."""
        reigning = self._reigning()
        host: Host = pick(self._dice, self._others(reigning))
        before = set(self._laws.epochs)
        self._unplug(host)
        self._run(draw_int(self._dice, CABLE_US_MIN, CABLE_US_MAX))
        self._plug_in(host)
        self._reunited()
        self._run(CALM_US)
        if not reigning.is_coordinator:
            told = told_reigns(self._progress.reigns())
            raise Violation("L3 a follower's cable unseats nobody", f"{reigning.name}, then {told}")
        strangers = {self._laws.epochs[epoch] for epoch in self._laws.epochs if epoch not in before}
        if not strangers <= {host.index, reigning.index}:
            raise Violation("L3 a follower's cable unseats nobody", f"{sorted(strangers)} announce")

    def _worker_dies(self) -> None:
        """Its tasks run elsewhere before anybody has gone for coffee."""
        reigning = self._reigning()
        job = self._workload.submit_long(reigning)
        self._run(LONG_RUNNING_US)
        busy = [host for host in self._others(reigning) if self._tasks_on(host, job)]
        if not busy:
            return
        host = pick(self._dice, busy)
        lost = self._tasks_on(host, job)
        self._stage.power_off(host)
        self._progress.wait(
            "L6 what a lost node ran is placed elsewhere",
            self._world.now_us + RERUN_BOUND_US,
            lambda: self._not_rerun(job, lost),
        )
        host.start()
        until_us = self._world.now_us + JOBS_BOUND_US
        self._progress.wait("L4 every job ends", until_us, self._progress.open_jobs)

    def _tasks_on(self, host: Host, job: Job) -> list[int]:
        return [
            container.attempt_id.task
            for container in host.executor.used()
            if container.attempt_id.job_id == job.job_id
        ]

    def _not_rerun(self, job: Job, tasks: list[int]) -> str:
        running = {task for host in self._progress.up() for task in self._tasks_on(host, job)}
        reigning = self._stage.coordinators()
        node = reigning[0].node if reigning else None
        over = [
            task
            for task in tasks
            if node is not None
            and (
                node.sched.table.is_task_over(job.job_id, task)
                or node.sched.table.is_forgotten(job.job_id)
            )
        ]
        missing = [task for task in tasks if task not in running and task not in over]
        return f"tasks {missing} of {job.job_id} do not run" if missing else ""

    # --- the coordinator -----------------------------------------------------------------------

    def _coordinator_dies(self) -> None:
        reigning = self._reigning()
        before = set(self._laws.epochs)
        talk_before = self._laws.election_packets
        self._stage.kill(reigning)
        self._replaced()
        self._one_successor(before)
        talk = self._laws.election_packets - talk_before
        if talk > MESSAGES_PER_ELECTION * len(self._stage.hosts):
            raise Violation("S13 an election is short", f"{talk} packets, {self._stage.hosts}")
        self._returns([reigning])

    def _two_die(self) -> None:
        """The coordinator and another one, in the same instant."""
        reigning = self._reigning()
        electors = [host for host in self._others(reigning) if host.is_keeper]
        if len(electors) < 2:  # nobody would be left to coordinate
            self._coordinator_dies()
            return
        other: Host = pick(self._dice, electors)
        before = set(self._laws.epochs)
        for host in (reigning, other):
            self._stage.power_off(host)
        self._replaced()
        self._one_successor(before)
        self._returns(pick_some(self._dice, [reigning, other], 2))

    def _coordinator_cut_off(self) -> None:
        """Its cable is out: the others go on under one of theirs, and afterwards there is one."""
        reigning = self._reigning()
        before = set(self._laws.epochs)
        self._unplug(reigning)
        self._run(draw_int(self._dice, CABLE_US_MIN, CABLE_US_MAX))
        self._plug_in(reigning)
        self._reunited()
        successors = {
            index
            for epoch, index in self._laws.epochs.items()
            if epoch not in before and index != reigning.index
        }
        if len(successors) > 1:
            names = [self._stage.hosts[index].name for index in sorted(successors)]
            raise Violation("L3 one death, one change", f"{names} announce reigns")

    def _coordinator_stops(self) -> None:
        reigning = self._reigning()
        before = set(self._laws.epochs)
        stopped_us = self._world.now_us
        reigning.request_stop()
        self._progress.wait(
            "L3 a polite stop ends",
            stopped_us + STOP_BOUND_US,
            lambda: f"{reigning.name} does not stop" if reigning.is_up else "",
        )
        self._progress.wait(
            "L3 a handover leaves no gap",
            self._world.now_us + HANDOVER_BOUND_US,
            self._progress.many_reigns,
        )
        self._one_successor(before)
        self._run(CALM_US)
        self._has_left(reigning)
        reigning.start()
        self._run(CALM_US)

    def _has_left(self, gone: Host) -> None:
        for host in self._progress.up():
            assert host.node is not None
            for member in host.node.gossip.members():
                record = member.record
                if record.node_id == gone.node_id and record.state is not MemberState.LEFT:
                    raise Violation(
                        "S12 who leaves does not fail", f"{host.name} believes {record}"
                    )

    def _replaced(self) -> None:
        until_us = self._world.now_us + FAILOVER_BOUND_US
        self._progress.wait(
            "L3 a dead coordinator is replaced", until_us, self._progress.many_reigns
        )

    def _one_successor(self, before: set[Epoch]) -> None:
        successors = [
            self._stage.hosts[index].name
            for epoch, index in self._laws.epochs.items()
            if epoch not in before
        ]
        if not successors and len(self._progress.up()) == 1:
            return  # there is nobody to announce it to
        if len(set(successors)) != 1:
            raise Violation("L3 one death, one change", f"{successors} announce reigns")

    def _returns(self, gone: list[Host]) -> None:
        before = self._progress.coordinator()
        for host in gone:
            host.start()
        self._run(VIEW_BOUND_US)
        if self._progress.coordinator() != before:
            told = told_reigns(self._progress.reigns())
            raise Violation("L3 who returns unseats nobody", f"{before}, then {told}")

    # --- what they share -----------------------------------------------------------------------

    def _unplug(self, host: Host) -> None:
        self._stage.say(f"the cable of {host.name} is out")
        for source, target in self._stage.links_of([host]):
            self._stage.disturb(source, target)
            self._stage.network.cut(source, target)

    def _plug_in(self, host: Host) -> None:
        self._stage.say(f"the cable of {host.name} is in")
        for source, target in self._stage.links_of([host]):
            self._stage.disturb(source, target)
            self._stage.network.mend(source, target)

    def _reunited(self) -> None:
        now_us = self._world.now_us
        progress = self._progress
        progress.wait("L1 one coordinator", now_us + REUNION_BOUND_US, progress.many_reigns)
        progress.wait("L2 one view", now_us + VIEW_BOUND_US, progress.different_views)

    def _reigning(self) -> Host:
        return self._stage.coordinators()[0]

    def _others(self, reigning: Host) -> list[Host]:
        return [host for host in self._progress.up() if host is not reigning]

    def _run(self, span_us: int) -> None:
        self._world.run(self._world.now_us + span_us)


def told_reigns(reigns: dict[str, Epoch | None]) -> str:
    return ", ".join(
        f"{name}: {'nobody' if epoch is None else f'{epoch.number} of {epoch.node_id}'}"
        for name, epoch in reigns.items()
    )
