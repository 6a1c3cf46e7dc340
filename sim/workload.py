"""What people ask of the pool: submits from any node, arrays, cancels, and asking again.

A person who gets no answer in ten seconds asks again, with the same job, on the same PC (a job is
signed there); that is why a job's id is the hash of what was asked. Whatever was answered without
an error is remembered here: it is what the pool has promised. Some ask for what is not theirs to
ask: a job from a PC that only lends work, an end of somebody else's job.
"""

import random
from collections.abc import Sequence

from msgspec import Struct

from rain.effects import Answer, Proposed
from rain.model import Job, JobId, JobSpec, Resources, Role
from rain.sched.identity import signed_job

from .executor import FLAKY, UNIX_MS
from .host import Host
from .options import Options
from .trace import Trace
from .world import Violation, World, draw_int, exponential_us, pick

ASK_AGAIN_US = 10_000_000
ASKS_MAX = 4
CANCEL_PERCENT = 12
WRONGFUL_PERCENT = 8
"""Of the jobs: somebody tries to end it whose it is not."""
ARRAY_PERCENT = 40
TASKS_MAX = 10
DURATION_MS_MEAN = 1_200
DURATION_MS_MAX = 6_000
FIRST_SUBMIT_US = 2_000_000
LONG_MS = 5_000
HANG_MS = 100_000_000
"""Nobody has ever seen it end."""
HANG_LIMIT_MS = 2_000
BURST_MS_MAX = 250
TWICE_US_MAX = 40_000
NOTICE_US = 2_000_000
"""So often people look whether a task of theirs hangs, once everything is mended."""


class Wish(Struct):
    """One request of a person and what became of it."""

    job: Job
    is_cancel: bool = False
    is_wrongful: bool = False
    """Nobody may do that: it is to be refused."""
    asks: int = 0
    copies: int = 0
    """Of the acknowledgement; 0: none came."""
    error: str = ""


class Workload:
    """Draws the requests of one run and keeps what was promised."""

    def __init__(self, world: World, hosts: Sequence[Host], options: Options, trace: Trace) -> None:
        self.jobs: dict[JobId, Job] = {}
        """Everything anybody asked for, acknowledged or not."""
        self.acknowledged: dict[JobId, int] = {}
        """Copies promised, by job."""
        self.cancelled: set[JobId] = set()
        """Whose cancel was acknowledged."""
        self.cancel_asked: set[JobId] = set()
        """By somebody who may."""
        self._world = world
        self._hosts = hosts
        self._options = options
        self._trace = trace
        self._dice = world.dice("workload")
        self._hanging: set[JobId] = set()
        """Jobs without a limit that never end by themselves: somebody has to end them."""
        self._open: dict[tuple[int, int, int], Wish] = {}
        self._requests = 0

    def plan(self) -> None:
        end_us = self._options.active_ms * 1_000
        first_us = min(FIRST_SUBMIT_US, end_us)
        for _ in range(self._options.jobs):
            self._world.at(draw_int(self._dice, first_us, end_us), self._submit)
        odd = self._world.dice("odd work")
        for _ in range(self._options.hangs):
            limit_ms = HANG_LIMIT_MS if odd.random() < 0.5 else 0
            spec = _spec(("work", str(HANG_MS), "0"), timeout_ms=limit_ms)
            self._world.at(draw_int(odd, first_us, end_us), self._submit_odd, spec, odd)
        if self._options.burst_tasks:
            command = ("work", str(draw_int(odd, 1, BURST_MS_MAX)), "0")
            spec = _spec(command, tasks=self._options.burst_tasks, is_array=True, retries=3)
            self._world.at(draw_int(odd, first_us, end_us), self._submit_odd, spec, odd)

    def end_hangs(self) -> None:
        """People end what hangs, from now on, as often as it takes."""
        self._world.after(NOTICE_US, self.end_hangs)
        for job_id in sorted(self._hanging - self.cancelled):
            job = self.jobs[job_id]
            able = [host for host in self._awake() if _may_cancel(host, job) and _shows(host, job)]
            if able:
                self.cancel_asked.add(job_id)
                self._ask(Wish(job, is_cancel=True), able[0])

    def take_answer(self, host: Host, answer: Answer) -> Wish | None:
        """Who asked this; None: nobody who still waits."""
        wish = self._open.pop((host.index, host.boot_epoch, answer.request), None)
        if wish is None:
            return None
        job_id = wish.job.job_id
        if answer.error:
            wish.error = answer.error
        elif wish.is_wrongful:
            raise Violation(
                "S23 nobody gets what is not theirs", f"{host.name} grants {wish}: {answer}"
            )
        elif wish.is_cancel:
            self.cancelled.add(job_id)
        else:
            wish.copies = answer.copies
            self.acknowledged[job_id] = max(answer.copies, self.acknowledged.get(job_id, 0))
        return wish

    def submit_long(self, host: Host) -> Job:
        """An array of tasks that run for a while, to see what becomes of them."""
        spec = JobSpec(
            command=("work", str(LONG_MS), "0"),
            image="sim",
            need=Resources(500, 64 * 1024 * 1024),
            tasks=2 * len(self._hosts),
            is_array=True,
            priority=9,
        )
        job = self._job(host, spec)
        self.jobs[job.job_id] = job
        self._ask(Wish(job), host)
        return job

    # --- asking --------------------------------------------------------------------------------

    def _submit(self) -> None:
        awake = self._awake()
        if not awake:
            self._world.after(500_000, self._submit)
            return
        host = pick(self._dice, awake)
        job = self._draw_job(host)
        if host.role is Role.WORKER:
            self._ask(Wish(job, is_wrongful=True), host)
            self._world.after(500_000, self._submit)
            return
        self.jobs[job.job_id] = job
        self._ask(Wish(job), host)
        if self._dice.random() * 100 < CANCEL_PERCENT:
            delay_us = exponential_us(self._dice, 1_500_000, 8_000_000)
            self._world.after(delay_us, self._cancel, job)
        if self._dice.random() * 100 < WRONGFUL_PERCENT:
            delay_us = exponential_us(self._dice, 1_500_000, 8_000_000)
            self._world.after(delay_us, self._cancel_wrongfully, job)

        if self._options.submit_twice_percent:
            self._submit_again(job, host)

    def _submit_again(self, job: Job, host: Host) -> None:
        """Somebody strikes a key twice."""
        odd = self._world.dice(f"again {job.job_id}")
        if odd.random() * 100 < self._options.submit_twice_percent:
            self._world.after(draw_int(odd, 0, TWICE_US_MAX), self._ask_up, Wish(job), host)

    def _ask_up(self, wish: Wish, host: Host) -> None:
        if host in self._awake():
            self._ask(wish, host)

    def _submit_odd(self, spec: JobSpec, odd: random.Random) -> None:
        """Work that is unlike all other: it hangs, or there is very much of it."""
        able = [host for host in self._awake() if host.is_keeper]
        if not able:
            self._world.after(500_000, self._submit_odd, spec, odd)
            return
        host = pick(odd, able)
        job = self._job(host, spec, odd)
        self.jobs[job.job_id] = job
        if spec.command[1] == str(HANG_MS) and not spec.timeout_ms:
            self._hanging.add(job.job_id)
        self._ask(Wish(job), host)

    def _cancel(self, job: Job) -> None:
        # A person cancels what `rain jobs` shows, and needs its id: an acknowledged job.
        able = [host for host in self._awake() if _may_cancel(host, job) and _shows(host, job)]
        if able and job.job_id in self.acknowledged:
            self.cancel_asked.add(job.job_id)
            self._ask(Wish(job, is_cancel=True), pick(self._dice, able))

    def _cancel_wrongfully(self, job: Job) -> None:
        others = [host for host in self._awake() if not _may_cancel(host, job)]
        if others:
            wish = Wish(job, is_cancel=True, is_wrongful=True)
            self._ask(wish, pick(self._dice, others))

    def _awake(self) -> list[Host]:
        """PCs that a person can ask: those removed have nobody to ask."""
        return [host for host in self._hosts if host.is_awake and not host.is_removed]

    def _ask(self, wish: Wish, host: Host) -> None:
        self._requests += 1
        wish.asks += 1
        key = (host.index, host.boot_epoch, self._requests)
        self._open[key] = wish
        what = "cancels" if wish.is_cancel else "submits"
        self._say(f"{what} {wish.job.job_id} on {host.name}, request {self._requests}")
        jobs = () if wish.is_cancel else (wish.job,)
        cancels = (wish.job.job_id,) if wish.is_cancel else ()
        at_unix_ms = UNIX_MS + self._world.now_us // 1_000
        host.when_awake(host.feed, Proposed(self._requests, jobs, cancels, at_unix_ms))
        self._world.after(ASK_AGAIN_US, self._ask_again, key)

    def _ask_again(self, key: tuple[int, int, int]) -> None:
        wish = self._open.get(key)
        if wish is None or wish.asks >= ASKS_MAX or wish.is_wrongful:
            return
        host = self._hosts[key[0]]
        if host in self._awake():
            self._ask(wish, host)

    # --- drawing -------------------------------------------------------------------------------

    def _draw_job(self, host: Host) -> Job:
        dice = self._dice
        duration_ms = 50 + exponential_us(dice, DURATION_MS_MEAN, DURATION_MS_MAX)
        is_array = dice.random() * 100 < ARRAY_PERCENT
        draw = dice.random()
        exit_code = "0" if draw < 0.8 else FLAKY if draw < 0.93 else str(draw_int(dice, 1, 3))
        cpus_milli = (500, 1_000, 1_000, 2_000)[draw_int(dice, 0, 3)]
        tasks = draw_int(dice, 2, TASKS_MAX) if is_array else 1
        retries = draw_int(dice, 0, 3)
        running_max = 0
        if is_array and dice.random() < 0.2:
            # One after the other: kept short, so that a whole run has an end.
            running_max, retries, duration_ms = draw_int(dice, 1, 4), 0, min(duration_ms, 1_000)
        spec = JobSpec(
            command=("work", str(duration_ms), exit_code),
            image="sim",
            need=Resources(cpus_milli, 64 * 1024 * 1024),
            tasks=tasks,
            is_array=is_array,
            running_max=running_max,
            retries=retries,
            priority=draw_int(dice, 0, 2),
            timeout_ms=draw_int(dice, 300, 2_000) if dice.random() < 0.1 else 0,
        )
        return self._job(host, spec)

    def _job(self, host: Host, spec: JobSpec, dice: random.Random | None = None) -> Job:
        created_unix_ms = UNIX_MS + self._world.now_us // 1_000
        dice = self._dice if dice is None else dice
        nonce = bytes(int(dice.random() * 256) for _ in range(16))
        signer = host.signer
        return signed_job(
            spec,
            host.name,
            created_unix_ms,
            nonce,
            host.person,
            signer.public_key,
            signer.sign,
            host.pool_id,
        )

    def _say(self, text: str) -> None:
        self._trace.line(self._world.now_us, "who", f"** {text}")


def _spec(
    command: tuple[str, ...],
    tasks: int = 1,
    is_array: bool = False,
    retries: int = 0,
    timeout_ms: int = 0,
) -> JobSpec:
    return JobSpec(
        command=command,
        image="sim",
        need=Resources(500, 64 * 1024 * 1024),
        tasks=tasks,
        is_array=is_array,
        retries=retries,
        timeout_ms=timeout_ms,
    )


def _may_cancel(host: Host, job: Job) -> bool:
    """Members what is their person's, admins anything, workers nothing."""
    return host.role is Role.ADMIN or (host.role is Role.MEMBER and host.person == job.person)


def _shows(host: Host, job: Job) -> bool:
    return host.node is not None and host.node.sched.table.job(job.job_id) is not None
