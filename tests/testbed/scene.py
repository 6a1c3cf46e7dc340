"""A pool to be attacked: who is in it, what its PCs refuse, and whether it still works."""

import contextlib
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.lan import Lan, Pc, lan, wait_agreed, wait_until

SHARE = ("--executor", "process", "--cpus", "2", "--memory", "1g")
RUN = ("--executor", "process", "--cpus", "0.1")
DEADLINE_S = 30.0
UNREADABLE = ("msgpack", "unknown_tag", "bad_field")


@dataclass
class Scene:
    """A pool of four and two PCs that are not in it."""

    lan: Lan
    admin: Pc
    second: Pc
    """Of the founder's person, a member."""
    mia: Pc
    """A member of another person's."""
    worker: Pc
    eve: Pc
    guest: Pc
    folder: Path

    @property
    def pool(self) -> list[Pc]:
        return [self.admin, self.second, self.mia, self.worker]

    def stolen(self, pc: Pc) -> Path:
        """A copy of that PC's data folder, in the hands of a thief."""
        copy = self.folder / f"stolen-{next(_numbers)}"
        shutil.copytree(pc.data_dir, copy, ignore=shutil.ignore_patterns("*.sock", "exec"))
        return copy


_numbers = itertools.count(1)


@contextlib.contextmanager
def attacked_pool(folder: Path) -> Iterator[Scene]:
    """The pool, ready and agreed; torn down whatever happens."""
    with lan(folder, 6) as one:
        admin, second, mia, worker, eve, guest = one.pcs
        made = Scene(one, admin, second, mia, worker, eve, guest, folder)
        made.admin.up("--new", "--pool", "home", *SHARE)
        made.admin.wait_ready()
        join(made, made.second, "member", "")
        join(made, made.mia, "member", "hermione")
        join(made, made.worker, "worker", "wilhelmina")
        for pc in made.pool[1:]:
            pc.wait_ready()
        wait_agreed(made.pool)
        yield made


def join(scene: Scene, pc: Pc, role: str, person: str) -> None:
    """Up, by a token for that role and person."""
    words = ["--role", role, *(["--for", person] if person else [])]
    token = scene.admin.rain("invite", "--token", "-q", *words)
    assert token.returncode == 0, token.stderr
    file = pc.folder / "token"
    file.write_text(token.stdout)
    pc.up("--join-file", str(file), *SHARE)


def refused(pc: Pc) -> Counter[str]:
    """What that PC has refused so far, by `where.why`."""
    told = pc.ask("status")["refused"]
    return Counter(
        {f"{where}.{why}": times for where, whys in told.items() for why, times in whys.items()}
    )


class Count:
    """What a PC refuses from now on."""

    def __init__(self, pc: Pc) -> None:
        self._pc = pc
        self._before = refused(pc)

    def rose(self, *names: str, by: int = 1) -> None:
        """Wait until each of these has gone up by so much."""

        def all_rose() -> bool:
            now = refused(self._pc)
            return all(now[name] - self._before[name] >= by for name in names)

        try:
            wait_until(all_rose, DEADLINE_S, "")
        except AssertionError:
            rest = refused(self._pc) - self._before
            told = f"{names} did not go up by {by} at {self._pc.name}: {rest}"
            raise AssertionError(told) from None

    def garbled(self, before: str, by: int) -> None:
        """Wait until so much more of what came there could not be read, whatever is wrong in it."""
        names = [f"{before}{why}" for why in UNREADABLE]

        def rose() -> bool:
            now = refused(self._pc)
            return sum(now[name] - self._before[name] for name in names) >= by

        wait_until(rose, DEADLINE_S, f"{by} of {names} at {self._pc.name}")


def assert_works(*pcs: Pc) -> None:
    """A job that is submitted now succeeds."""
    for pc in pcs:
        done = pc.rain("run", *RUN, "--", "echo", "fine")
        assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def node_id(pc: Pc) -> str:
    told: str = pc.ask("status")["node"]["id"]
    return told


def submit(pc: Pc, *words: str) -> str:
    done = pc.rain("submit", *RUN, "-d", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_running(pc: Pc, job_id: str) -> None:
    def is_running() -> bool:
        job = pc.try_ask("job", job_id)
        return job is not None and job["state"] == "RUNNING"

    wait_until(is_running, DEADLINE_S, f"job {job_id} runs")
