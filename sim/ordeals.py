"""What is done to the coordinator, or to who would be the next, in a pool that has healed.

Each breaks a pool whose election lacks one rule (docs/rules.md names them by E1 to E20):

L6 the coordinator's own evidence suffices: who lost its power is judged within 2.7 s (E19)
L3 a coordinator that hears nobody is replaced within 6 s, and nobody follows it then (E2); the
   first by rank, when it sends but hears nothing, keeps nobody else from coordinating (E1); nor do
   those whose disks are full (E12); a coordinator whose PC will sleep is replaced before it does;
   one that has no time for itself passes its reign on, though it never falls silent; whose cable
   was out, and who reigned alone meanwhile, is followed by nobody when it is back (E3); whose
   disk is an old one is told so, does not reign, and is like the others once it has the table (E14)
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rain.model import Epoch

from .host import Host
from .stage import Stage
from .workload import Workload
from .world import Violation, World

if TYPE_CHECKING:
    from .progress import Progress

DEAF_BOUND_US = 6_000_000
HEIR_BOUND_US = 8_000_000
FULL_BOUND_US = 8_000_000
SLEEP_BOUND_US = 350_000
AWAY_US = 3_000_000
LAG_US = 380_000
"""Too short for silence; and bad though the beat that is late was due a tenth of a second later."""
LAG_EVERY_US = 700_000
LAME_BOUND_US = 50_000_000
LOST_US = 6_000_000
MEETING_US = 2_500_000
STEP_US = 2_000
RUNNING_US = 1_500_000
JUDGED_BOUND_US = 2_700_000
LIFE_US = 2_000_000
RESTART_US = 300_000
NOTICED_BOUND_US = 5_000_000
CAUGHT_UP_BOUND_US = 15_000_000
REUNION_BOUND_US = 5_000_000


class Ordeals:
    """Plays one of them; raises Violation."""

    def __init__(
        self,
        world: World,
        stage: Stage,
        progress: "Progress",
        workload: Workload,
        note_forgetful: Callable[[Host], None],
    ) -> None:
        self._world = world
        self._stage = stage
        self._progress = progress
        self._workload = workload
        self._note_forgetful = note_forgetful
        self.kinds: dict[str, Callable[[], None]] = {
            "deaf_coordinator": self._deaf_coordinator,
            "deaf_heir": self._deaf_heir,
            "full_disks": self._full_disks,
            "sleeping_coordinator": self._sleeping_coordinator,
            "lame_coordinator": self._lame_coordinator,
            "returning_reign": self._returning_reign,
            "worker_judged": self._worker_judged,
            "old_heir": self._old_heir,
        }

    def _deaf_coordinator(self) -> None:
        reigning = self._reigning()
        if len(self._electors([reigning])) < 1:
            return
        self._deafen(reigning)
        self._wait("L3 who hears nobody does not coordinate", DEAF_BOUND_US, [reigning])
        self._hears_again(reigning)

    def _deaf_heir(self) -> None:
        reigning = self._reigning()
        electors = self._electors([reigning])
        if len(electors) < 2:
            return
        heir = min(electors, key=self._place)
        self._deafen(heir)
        self._stage.power_off(reigning)
        self._wait("L3 a deaf heir keeps nobody waiting", HEIR_BOUND_US, [reigning, heir])
        self._hears_again(heir)
        reigning.start()
        self._reunited()

    def _full_disks(self) -> None:
        """All but one could not write down that they coordinate."""
        reigning = self._reigning()
        electors = self._electors([reigning])
        if not electors:
            return
        electors.sort(key=self._place)
        for host in electors[:-1]:
            self._stage.disturb(host.index)
            host.disk.is_full = True
        self._stage.power_off(reigning)
        self._progress.wait(
            "L3 full disks keep nobody waiting",
            self._world.now_us + FULL_BOUND_US,
            lambda: "" if electors[-1].is_coordinator else f"not {electors[-1].name}",
        )
        for host in electors[:-1]:
            host.disk.is_full = False
        reigning.start()
        self._reunited()

    def _sleeping_coordinator(self) -> None:
        reigning = self._reigning()
        if not self._electors([reigning]):
            return
        reigning.doze()
        self._wait("L3 who will sleep hands over before", SLEEP_BOUND_US, [reigning])
        self._run(AWAY_US)
        reigning.resume()
        self._reunited()

    def _lame_coordinator(self) -> None:
        """It has gaps that are too short to be silent, one after the other."""
        reigning = self._reigning()
        if not self._electors([reigning]):
            return
        boot_epoch = reigning.boot_epoch
        for number in range(LAME_BOUND_US // LAG_EVERY_US):
            self._world.after(number * LAG_EVERY_US, self._lag, reigning, boot_epoch)
        self._progress.wait(
            "L3 a lame coordinator passes its reign on",
            self._world.now_us + LAME_BOUND_US,
            lambda: f"{reigning.name} coordinates" if reigning.is_coordinator else "",
        )
        self._reunited()

    def _returning_reign(self) -> None:
        """Its cable was out for so long that it reigns, under a number above all others."""
        reigning = self._reigning()
        electors = self._electors([reigning])
        if not electors:
            return
        lost = electors[0]
        for source, target in self._stage.links_of([lost]):
            self._stage.disturb(source, target)
            self._stage.network.cut(source, target)
        self._run(LOST_US)
        own = lost.node.election.reign() if lost.node is not None else None
        for source, target in self._stage.links_of([lost]):
            self._stage.disturb(source, target)
            self._stage.network.mend(source, target)
        for _ in range(MEETING_US // STEP_US):
            self._run(STEP_US)
            if own is not None and own.node_id == lost.node_id:
                self._refuse_followers(lost, own)
        self._reunited()

    def _worker_judged(self) -> None:
        """Who has lost its power is known to be gone soon, by the coordinator's own evidence."""
        reigning = self._reigning()
        self._workload.submit_long(reigning)
        self._run(RUNNING_US)
        busy = [host for host in self._progress.up() if self._attempts_on(reigning, host)]
        busy = [host for host in busy if host is not reigning]
        if not busy:
            return
        lost = busy[-1]
        self._stage.power_off(lost)
        self._progress.wait(
            "L6 who is gone is judged soon",
            self._world.now_us + JUDGED_BOUND_US,
            lambda: "" if not self._attempts_on(reigning, lost) else f"{lost.name} has tasks",
        )
        lost.start()
        self._reunited()

    def _attempts_on(self, reigning: Host, host: Host) -> int:
        """What the coordinator believes to be there."""
        if reigning.node is None:
            return 0
        return len(reigning.node.sched.table.attempts_on(host.node_id))

    def _refuse_followers(self, lost: Host, own: Epoch) -> None:
        for host in self._progress.up():
            if host is not lost and host.node is not None and host.node.election.reign() == own:
                story = f"{host.name} follows {own}, whose cable was out"
                raise Violation("L3 who returns unseats nobody", story)

    def _lag(self, host: Host, boot_epoch: int) -> None:
        if host.is_awake and host.boot_epoch == boot_epoch:
            host.pause()
            self._world.after(LAG_US, self._stage.resume, host, boot_epoch)

    # --- an old disk ---------------------------------------------------------------------------

    def _old_heir(self) -> None:
        """The first by rank comes back with a disk of before its last life, and gets no table."""
        reigning = self._reigning()
        electors = sorted(self._electors([reigning]), key=self._place)
        if len(electors) < 2:
            return
        heir = electors[0]
        rows = dict(heir.disk.rows)
        self._restart(heir)
        self._workload.submit_long(reigning)
        self._run(LIFE_US)
        self._restart(heir, rows)
        for source, target in self._stage.links_of([heir]):
            self._stage.network.links.spoil(source, target, streams_blocked=True)
        self._until("L3 an old disk is noticed", NOTICED_BOUND_US, lambda: _is_behind(heir))
        self._run(LIFE_US)
        self._stage.power_off(reigning)
        self._wait("L3 an old disk leaves it to others", HEIR_BOUND_US, [reigning, heir])
        for source, target in self._stage.links_of([heir]):
            self._stage.network.links.restore(source, target, "streams_blocked")
            self._stage.network.flush(source, target)
        self._until("L3 an old disk catches up", CAUGHT_UP_BOUND_US, lambda: not _is_behind(heir))
        reigning.start()
        self._reunited()

    def _restart(self, host: Host, rows: dict[str, bytes] | None = None) -> None:
        self._stage.power_off(host)
        if rows is not None:
            self._note_forgetful(host)
            host.disk.rows = dict(rows)
            host.executor.is_disk_old = True
        self._run(RESTART_US)
        host.start()

    def _until(self, law: str, bound_us: int, holds: Callable[[], bool]) -> None:
        until_us = self._world.now_us + bound_us
        self._progress.wait(law, until_us, lambda: "" if holds() else "not yet")

    # --- what they share -----------------------------------------------------------------------

    def _reigning(self) -> Host:
        return self._stage.coordinators()[0]

    def _electors(self, but: list[Host]) -> list[Host]:
        return [host for host in self._progress.up() if host.is_keeper and host not in but]

    def _place(self, host: Host) -> tuple[int, str]:
        """Who has the smaller stands before."""
        return -self._stage.options.ranks[host.index], host.node_id

    def _deafen(self, host: Host) -> None:
        """Nothing reaches it any more; what it sends does."""
        self._stage.say(f"{host.name} hears nothing")
        for source, target in self._stage.links_of([host], both=False):
            self._stage.disturb(source, target)
            self._stage.network.cut(source, target)

    def _hears_again(self, host: Host) -> None:
        self._stage.say(f"{host.name} hears again")
        for source, target in self._stage.links_of([host], both=False):
            self._stage.disturb(source, target)
            self._stage.network.mend(source, target)
        self._reunited()

    def _wait(self, law: str, bound_us: int, but: list[Host]) -> None:
        """Until all others follow one of themselves."""
        until_us = self._world.now_us + bound_us
        self._progress.wait(law, until_us, lambda: self._no_reign_of(but))

    def _no_reign_of(self, but: list[Host]) -> str:
        others = [host for host in self._progress.up() if host not in but]
        followed = {host.node.election.reign() for host in others if host.node is not None}
        names = {host.node_id for host in others if host.is_coordinator}
        if len(followed) == 1 and None not in followed and len(names) == 1:
            reign = next(iter(followed))
            if reign is not None and reign.node_id in names:
                return ""
        words = sorted("nobody" if each is None else str(each) for each in followed)
        return f"{[host.name for host in others]} follow {words}"

    def _reunited(self) -> None:
        until_us = self._world.now_us + REUNION_BOUND_US
        self._progress.wait("L1 one coordinator", until_us, self._progress.many_reigns)

    def _run(self, span_us: int) -> None:
        self._world.run(self._world.now_us + span_us)


def _is_behind(host: Host) -> bool:
    return host.node is not None and host.node.election.is_behind()
