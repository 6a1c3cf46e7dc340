"""The storm: carries the drawn faults out, and mends each after its time.

One thread keeps the schedule. What takes long (an engine that stops, an agent that says goodbye)
runs beside it, so that nothing else is late. A PC whose agent is out of order already gets no
second fault of that kind: the next one takes its place, and the history says which it was.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from tests.chaos.history import History
from tests.chaos.schedule import ANYWHERE, COORDINATOR, PCS, UPGRADE, Blow
from tests.chaos.world import World, fill, free, remove_containers
from tests.testbed import faults
from tests.testbed.lan import Pc

OF_AGENTS = ("kill", "power", "freeze", "down", UPGRADE)
"""These need the agent for themselves."""
LOSS_SHARE = 0.3
MEND_WAIT_S = 120.0
BESIDE_MAX = 8
STOP_WAIT_S = 40.0
NO_AGENT = 3
DOWN_TRIES = 20
DOWN_PAUSE_S = 0.5

Mend = Callable[[], object]


class Storm:
    """Faults under way on one world."""

    def __init__(self, world: World, history: History) -> None:
        self._world = world
        self._history = history
        self._busy: set[str] = set()
        self._full: set[str] = set()
        self._lock = threading.Lock()
        self._numbers = 0
        self._under_way: dict[int, Mend] = {}
        self._beside = ThreadPoolExecutor(BESIDE_MAX, thread_name_prefix="storm")
        self._engine_thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._started: list[Future[None]] = []
        self.coordinator = 0
        """The PC that was last said to coordinate."""

    def is_out_of_order(self, pc: Pc) -> bool:
        """No agent answers there now, by the storm's own doing."""
        with self._lock:
            return pc.name in self._busy

    def strike(self, blow: Blow) -> Mend | None:
        """Begin a fault; the answer ends it. None: there is nobody to suffer it now."""
        if blow.kind == "engine" and any(pc.has_other_build for pc in self._world.pcs):
            # The last release takes what an engine kills on its way down for the task's failure.
            return None
        pc = self._target(blow)
        if pc is None:
            return None
        with self._lock:
            self._numbers += 1
            number = self._numbers
        touched = [pc.name] if blow.on != ANYWHERE else []
        told = {"kind": blow.kind, "on": touched, "lasts_s": blow.lasts_s}
        others = [self._world.pcs[other].name for other in blow.others]
        self._history.note("blow", number=number, **told, others=others)
        undo = self._begin(blow, pc)

        def mended(_: object = None) -> None:
            self._history.note("mended", number=number)

        def mend() -> None:
            with self._lock:
                self._under_way.pop(number, None)
            running = undo()
            if isinstance(running, Future):
                running.add_done_callback(mended)
            else:
                mended()

        with self._lock:
            self._under_way[number] = mend
        return mend

    def mend_all(self) -> None:
        """Whatever is still wrong is put right; returns when it is."""
        with self._lock:
            outstanding = list(self._under_way.values())
        for mend in outstanding:
            mend()
        _, late = wait(self._started, MEND_WAIT_S)
        assert not late, "a fault was not mended in time"
        for future in self._started:
            future.result()
        for pc in self._world.pcs:
            faults.clear(pc)
            pc.mend_cable()

    def upgrade_the_rest(self) -> None:
        """Those whose turn came while their agent was out of order anyway."""
        for pc in self._world.pcs:
            if pc.has_other_build:
                if pc.agent is not None:
                    self._say_goodbye(pc)
                pc.use_build(None)

    def revive(self) -> None:
        """Agents that ended by themselves are told of and started again."""
        for pc in self._world.pcs:
            with self._lock:
                is_ours = pc.name not in self._busy
            if not is_ours or pc.agent is None or pc.agent.poll() is None:
                continue
            said = pc.output.read_text(errors="replace")[-1_000:]
            pc.agent = None
            if pc.name in self._full:
                # It had to start on a full disk, and said why it cannot.
                self._history.note("refused to start", pc=pc.name, said=said)
                continue
            self._history.note("died", pc=pc.name, said=said)
            pc.up()

    def close(self) -> None:
        self._beside.shutdown(cancel_futures=True)
        self._engine_thread.shutdown(cancel_futures=True)

    # --- the faults ------------------------------------------------------------------------------

    def _target(self, blow: Blow) -> Pc | None:
        chosen = self.coordinator if blow.on == COORDINATOR else max(blow.on, 0)
        if blow.kind not in OF_AGENTS:
            return self._world.pcs[chosen]
        with self._lock:
            for step in range(1 if blow.kind == UPGRADE else PCS):
                pc = self._world.pcs[(chosen + step) % PCS]
                if pc.name not in self._busy and pc.agent is not None:
                    self._busy.add(pc.name)
                    return pc
        return None

    def _begin(self, blow: Blow, pc: Pc) -> Mend:
        pcs = self._world.pcs
        others = [pcs[number] for number in blow.others]
        match blow.kind:
            case "kill":
                pc.kill()
                return partial(self._start_again, pc)
            case "power":
                pc.kill()
                remove_containers(self._world.engine, pc.name)
                return partial(self._start_again, pc)
            case "blackout":
                return partial(self._start_all_again, self._kill_all())
            case "freeze":
                pc.kill(signal.SIGSTOP)
                return partial(self._thaw, pc)
            case "cut":
                pc.cut_cable()
                return pc.mend_cable
            case "deaf":
                return faults.deafen(pc, others).lift
            case "split":
                rest = [each for each in pcs if each not in others]
                return faults.split(others, rest).lift
            case "no datagrams":
                return faults.drop_datagrams(pc).lift
            case "loss":
                return faults.lose(pcs, LOSS_SHARE).lift
            case "engine":
                self._run(self._engine_thread, self._world.engine.stop)
                return partial(self._run, self._engine_thread, self._world.engine.start)
            case "disk full":
                self._full.add(pc.name)
                fill(pc.data_dir)
                return partial(self._free, pc)
            case "down":
                gone = self._run(self._beside, partial(self._say_goodbye, pc))
                return partial(self._run, self._beside, partial(self._follow, gone, pc))
            case _:
                assert blow.kind == UPGRADE, blow.kind
                gone = self._run(self._beside, partial(self._say_goodbye, pc))
                return partial(self._run, self._beside, partial(self._upgrade, gone, pc))

    def _run(self, pool: ThreadPoolExecutor, work: Callable[[], None]) -> Future[None]:
        future = pool.submit(work)
        self._started.append(future)
        return future

    def _start_again(self, pc: Pc) -> None:
        pc.up()
        with self._lock:
            self._busy.discard(pc.name)

    def _kill_all(self) -> list[Pc]:
        with self._lock:
            here = [pc for pc in self._world.pcs if pc.name not in self._busy]
            here = [pc for pc in here if pc.agent is not None]
            self._busy.update(pc.name for pc in here)
        for pc in here:
            pc.kill()
        return here

    def _start_all_again(self, pcs: list[Pc]) -> None:
        for pc in pcs:
            self._start_again(pc)

    def _follow(self, gone: Future[None], pc: Pc) -> None:
        gone.result(MEND_WAIT_S)
        self._start_again(pc)

    def _upgrade(self, gone: Future[None], pc: Pc) -> None:
        gone.result(MEND_WAIT_S)
        pc.use_build(None)
        self._start_again(pc)

    def _thaw(self, pc: Pc) -> None:
        pc.kill(signal.SIGCONT)
        with self._lock:
            self._busy.discard(pc.name)

    def _free(self, pc: Pc) -> None:
        free(pc.data_dir)
        self._full.discard(pc.name)
        with self._lock:
            is_ours = pc.name not in self._busy
        if is_ours and pc.agent is None:
            pc.up()

    def _say_goodbye(self, pc: Pc) -> None:
        """`rain down` as its owner types it, again while no agent is there yet to hear it."""
        agent = pc.agent
        assert agent is not None
        for _ in range(DOWN_TRIES):
            done = pc.rain("down", timeout_s=STOP_WAIT_S)
            told = {"code": done.returncode, "said": done.stderr.strip()[-500:]}
            self._history.note("goodbye", pc=pc.name, **told)
            if done.returncode != NO_AGENT or agent.poll() is not None:
                break
            time.sleep(DOWN_PAUSE_S)
        try:
            agent.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self._history.note("died", pc=pc.name, said="rain down did not end it")
            agent.kill()
            agent.wait(STOP_WAIT_S)
        pc.agent = None
