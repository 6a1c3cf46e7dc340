"""`make chaos`: a storm of faults over a real pool under work, then every promise is checked.

    python -m tests.chaos [--seed N] [--seconds 600] [--history FILE]

Five PCs in namespaces, a real engine, jobs typed on all of them, faults drawn from the seed; some
PCs begin with the last release and are upgraded in the middle of it. Then all is mended, and the
checker judges the history from the outside. Exit 0: every promise was kept. Else 1, and what was
not is told with the history and the agents' folders, which are kept.
"""

import argparse
import heapq
import itertools
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

from tests.chaos import aftermath
from tests.chaos.checker import check
from tests.chaos.history import History, read
from tests.chaos.people import People
from tests.chaos.schedule import UPGRADE, Blow, blows, old_pcs, tasks
from tests.chaos.storm import Storm
from tests.chaos.world import (
    SHARE,
    Listener,
    World,
    builds,
    containers_left,
    last_release,
    load,
    new_folder,
    world,
)
from tests.testbed.engine import why_impossible
from tests.testbed.lan import found_pool, missing, wait_agreed

SECONDS = 600
SECONDS_MAX = 7_200
LOOK_EVERY_S = 2.5
REVIVE_EVERY_S = 1.0
READY_WAIT_S = 60.0
UPGRADE_AGAIN_S = 2.0
"""When the agent in question is out of order just then."""

Work = Callable[[], object]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds", type=int, default=SECONDS)
    parser.add_argument("--history", type=Path, default=None)
    given = parser.parse_args(words)
    seconds = min(given.seconds, SECONDS_MAX)
    if reason := why_impossible() or missing():
        print(f"no chaos here: {reason}", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    signal.signal(signal.SIGTERM, _interrupted)
    folder = new_folder()
    path = given.history or folder / "history.jsonl"
    print(f"chaos: seed {seed}, {seconds} s, history {path}, load {load()}", flush=True)
    history = History(path)
    reason = "interrupted"
    try:
        _run(folder, history, seed, seconds)
        reason = ""
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    finally:
        history.note("ended", reason=reason, load=load())
        history.close()
    return _judge(folder, path, seed, seconds)


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _judge(folder: Path, path: Path, seed: int, seconds: int) -> int:
    lines = read(path)
    violations = check(lines)
    counts = Counter(line["kind"] for line in lines if line["what"] == "blow")
    acknowledged = sum(line["what"] == "submitted" and line["code"] == 0 for line in lines)
    cancels = len({li["number"] for li in lines if li["what"] == "cancelled" and li["code"] == 0})
    print(f"faults: {', '.join(f'{kind} {n}' for kind, n in sorted(counts.items()))}")
    print(f"acknowledged: {acknowledged} jobs, {cancels} cancels")
    for each in violations:
        print(f"NOT KEPT {each.law}: {each.what}")
    if violations:
        print(f"{len(violations)} violations; kept: {folder}; history: {path}")
        print(f"again: python -m tests.chaos --seed {seed} --seconds {seconds}")
        return 1
    print("every promise was kept")
    for left in folder.iterdir():
        if left != path:
            shutil.rmtree(left, ignore_errors=True)
    return 0


def _run(folder: Path, history: History, seed: int, seconds: int) -> None:
    with world(folder) as one:
        release, why_not = last_release(folder)
        old = old_pcs(seed) if release is not None else []
        for number in old:
            one.pcs[number].use_build(release)
        names = [pc.name for pc in one.pcs]
        history.note(
            "began",
            seed=seed,
            seconds=seconds,
            pcs=names,
            old=[names[number] for number in old],
            no_release=why_not,
            builds=builds(one.pcs),
            load=load(),
        )
        try:
            found_pool(one.pcs, *SHARE)
        finally:
            _note_ended(one, history)
        history.note("formed", epoch=wait_agreed(one.pcs)["epoch"])
        listener = Listener(one.engine, history)
        storm = Storm(one, history)
        people = People(one, storm, history, seed)
        try:
            _blow(storm, people, seed, seconds, has_old=bool(old))
            _heal(one, storm, people, history, seed)
        finally:
            people.close()
            storm.close()
            listener.close()
            _keep_disks(one)


def _note_ended(one: World, history: History) -> None:
    """Agents that did not even live through the beginning."""
    for pc in one.pcs:
        if pc.agent is not None and pc.agent.poll() is not None:
            history.note("died", pc=pc.name, said=pc.output.read_text(errors="replace")[-1_000:])


def _blow(storm: Storm, people: People, seed: int, seconds: int, *, has_old: bool) -> None:
    """The schedule, from its first to its last instant, and what each fault's end adds to it."""
    order = itertools.count()
    due: list[tuple[float, int, Work]] = []

    def at(when_s: float, work: Work) -> None:
        heapq.heappush(due, (when_s, next(order), work))

    def strike(blow: Blow) -> None:
        mend = storm.strike(blow)
        if mend is not None:
            at(blow.at_s + blow.lasts_s, mend)
        elif blow.kind == UPGRADE:
            later = blow._replace(at_s=blow.at_s + UPGRADE_AGAIN_S)
            at(later.at_s, partial(strike, later))

    for blow in blows(seed, seconds):
        if has_old or blow.kind != UPGRADE:
            at(blow.at_s, partial(strike, blow))
    for task in tasks(seed, seconds):
        at(task.at_s, partial(people.submit, task))
        if task.cancel_at_s:
            at(task.cancel_at_s, partial(people.cancel, task))
    for every_s, look in ((LOOK_EVERY_S, people.look), (REVIVE_EVERY_S, storm.revive)):
        for step in range(1, int(seconds / every_s)):
            at(step * every_s, look)
    began_s = time.monotonic()
    while due and due[0][0] <= seconds:
        when_s, _, work = heapq.heappop(due)
        time.sleep(max(0.0, began_s + when_s - time.monotonic()))
        work()


def _heal(one: World, storm: Storm, people: People, history: History, seed: int) -> None:
    storm.mend_all()
    storm.revive()
    storm.upgrade_the_rest()
    for pc in one.pcs:
        if pc.agent is None:
            pc.up()
    history.note("healed")
    for pc in one.pcs:
        pc.wait_ready(READY_WAIT_S)
    people.finish()
    people.cancel_the_rest(aftermath.all_jobs(one))
    jobs = aftermath.wait_over(one, history)
    aftermath.wait_settled(one, history)
    aftermath.ask_all(one, history, 1)
    aftermath.ask_tasks(one, history, jobs, seed)
    time.sleep(aftermath.QUIET_S)
    aftermath.ask_all(one, history, 2)
    history.note("containers", left=containers_left(one.engine))


def _keep_disks(one: World) -> None:
    """Logs on disks that go with their mount are copied out, for whoever has to read them."""
    for pc in one.pcs:
        log = pc.data_dir / "agent.log"
        if log.exists():
            shutil.copy(log, pc.folder / "agent.log")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
