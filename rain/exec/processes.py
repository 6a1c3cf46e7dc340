"""Attempts as plain processes of this PC: no isolation, for whoever asks for that by name.

Each attempt has a folder `tasks/<key>/`: `attempt.json` (its id), `birth` (pid and birth of its
first process), `work/` (where it runs), `secrets/`, `stdout`, `stderr`, and `exit` (its exit
code). A few lines of sh around the command write `birth` before it begins and `exit` after it
ended, so an agent that was away finds out what became of its attempts. Every attempt is a session
and process group of its own; what is left of the group is killed when the command ends.

It runs as the agent's user, with a low priority and without the agent's environment. It limits
neither memory nor CPUs nor the network, so what asks for an image, a user, a bridge or a volume is
refused. Its secrets are files in its folder until it ends; the disk that the folder takes is
watched, and what a task writes elsewhere is not.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rain.effects import (
    ContainerExited,
    ContainerFailed,
    ContainerFound,
    ContainerStarted,
    Event,
    StartContainer,
)
from rain.exec import secret_files
from rain.exec.dialect import EXIT_KILLED, EXIT_RAIN_FAILED, clipped
from rain.exec.disk import folder_bytes, watch_disk
from rain.exec.full_disk import FullDisk
from rain.exec.hardware import now_unix_ms
from rain.exec.kernel import (
    WATCH_INTERVAL_S,
    birth_of,
    boot_id,
    changed_unix_ms,
    keep_open_files_to_ourselves,
    open_files_max,
    open_private,
    read_text,
    reaped,
    running_ms,
    signal_group,
    wait_until_ended,
)
from rain.exec.labels import (
    ExecLabels,
    decode_attempt_id,
    encode_attempt_id,
    environment_of,
    is_key,
)
from rain.exec.logs import REMARK, STDERR, STDOUT, KeptLogs
from rain.exec.policy import OwnerPolicy
from rain.exec.printed import STREAM_BYTES_MAX, STREAMS_BY_NAME, cut, frames, read_from, remarks
from rain.exec.secret_files import write_files
from rain.model import AttemptId, JobSpec
from rain.sched.admission import DISK_FULL
from rain.sched.identity import attempt_key

LIVE_MAX = 1_024
LIVE_SHARE = 4
"""Of the files this agent may have open, watching attempts takes one part in so many at
most; the rest is for peers, disk and logs."""
NICE = "39"
"""Added to the agent's own, whatever that is: the last there is. The owner goes first, and Rain.
Where the kernel groups processes by session, the task's whole session is put last as well."""
FOLLOW_INTERVAL_S = 0.1
KILL_WAIT_S = 10.0
YOUNG_S = 1.0
"""A TERM this soon after the start may come before the command is there to hear it: it is sent once
more."""
SWEEP_INTERVAL_S = 5.0

# TERM goes to the whole group. Deaf while it writes down birth and end, the shell hears it (and
# does nothing) while the command runs: a command inherits deafness, but no deed.
_SCRIPT = """
trap '' HUP INT TERM; mask=$(umask); umask 077
move=$1; folder=$2; work=$3; files=$4; shift 4
ulimit -S -n "$files" 2>/dev/null
[ ! -w /proc/$$/autogroup ] || echo 19 > /proc/$$/autogroup
read -r stat < /proc/$$/stat
read -r boot < /proc/sys/kernel/random/boot_id
echo "$boot $stat" > "$folder/birth.new" && "$move" "$folder/birth.new" "$folder/birth" || exit 125
trap : HUP INT TERM
(umask "$mask"; cd "$work" 2>&3 || exit 125; exec "$@" 2>&3 3>&-)
code=$?
trap '' HUP INT TERM
echo $code > "$folder/exit.new" && "$move" "$folder/exit.new" "$folder/exit" && kill -KILL 0
exit $code
"""


@dataclass(slots=True)
class _Live:
    """An attempt whose end is still to be told."""

    attempt_id: AttemptId
    pid: int
    is_child: bool
    since_s: float
    """By the loop's clock: when it was started or adopted."""
    overrun: str = ""
    """Which limit of its owner's it went over and is ended for."""
    is_stopped: bool = False
    """It ends because somebody wants it to."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ProcessExecutor:
    """Runs attempts as processes."""

    def __init__(
        self,
        labels: ExecLabels,
        folder: Path,
        report: Callable[[Event], None],
        policy: OwnerPolicy | None = None,
    ) -> None:
        self._policy = policy or OwnerPolicy()
        self._labels = labels
        self._report = report
        self._tasks_folder = folder.resolve() / "tasks"
        self._kept = KeptLogs(folder / "logs")
        self._disk = FullDisk(self._tasks_folder)
        self._live: dict[str, _Live] = {}
        self._live_max = LIVE_MAX
        self._files_max = open_files_max()
        """As the agent was started with, before it was raised: tasks get no more."""
        self._turn = asyncio.Lock()
        """Of one start after the other; it is fair, so a later stop finds what was started."""
        self._work: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.Task[None] | None = None

    async def open(self) -> str:
        """Empty when processes can be run here, else why not."""
        if not sys.platform.startswith("linux"):
            return "the process executor needs Linux; use --executor docker"
        for program in ("sh", "mv"):
            if shutil.which(program) is None:
                return f"the process executor needs the program {program}"
        try:
            self._tasks_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._tasks_folder.chmod(0o700)  # an older Rain made it for everybody to look at
        except OSError as error:
            return f"no folder for tasks can be made: {error}"
        keep_open_files_to_ourselves()
        self._live_max = min(LIVE_MAX, max(1, open_files_max() // LIVE_SHARE))
        if self._sweep is None:
            self._sweep = asyncio.create_task(self._keep_streams_short())
            limit = self._policy.task_disk_bytes
            self._begin(watch_disk(limit, lambda: self._live, self._disk_bytes, self._overrun))
        return ""

    async def close(self) -> None:
        """Stops watching; the processes live on."""
        going = [*self._work, *([self._sweep] if self._sweep else [])]
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        self._sweep = None

    async def list_containers(self) -> tuple[ContainerFound, ...] | None:
        """All attempts with a folder here; the running ones are watched from here on.

        None when the folders cannot be read now: nothing is known then.
        """
        try:
            return await self._list()
        except OSError:
            return None

    async def _list(self) -> tuple[ContainerFound, ...]:
        found: list[ContainerFound] = []
        keys = sorted(entry.name for entry in self._tasks_folder.glob("*") if is_key(entry.name))
        for key in keys:
            attempt_id = decode_attempt_id(read_text(self._tasks_folder / key / "attempt.json"))
            if attempt_id is None:
                # Its agent died before it could start anything.
                await self.remove(key)
                continue
            live = self._live.get(key)
            pid = 0 if self._exit_code(key) is not None else self._running_pid(key)
            if live is not None:
                # One that was started a moment ago may not have written down its birth yet.
                pid = live.pid
            if not pid:
                found.append(self._found(key))
                continue
            started_unix_ms = self._started_unix_ms(key)
            since_ms = running_ms(read_text(Path(f"/proc/{pid}/stat")))
            found.append(ContainerFound(key, started_unix_ms, running_ms=since_ms))
            if live is None:
                self._watch(key, _Live(attempt_id, pid, False, _now_s()))
        return tuple(found)

    # --- Start and end ------------------------------------------------------------------------

    async def start(self, order: StartContainer) -> None:
        """Starts the attempt and reports; never raises. A second order for it changes nothing."""
        async with self._turn:
            # A start blocks for some milliseconds: a hundred of them must let the loop breathe.
            await asyncio.sleep(0)
            self._start(order)

    def _start(self, order: StartContainer) -> None:
        key = attempt_key(order.attempt_id)
        folder = self._tasks_folder / key
        if key in self._live or folder.exists():
            return
        if len(self._live) >= self._live_max:
            self._fail(order.attempt_id, "too many processes here", refused=True)
            return
        if reason := refusal(order.job.spec):
            self._fail(order.attempt_id, reason)
            return
        if self._disk.is_full():
            self._fail(order.attempt_id, DISK_FULL, refused=True)
            return
        try:
            pid = self._spawn(order, folder)
        except (OSError, ValueError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            # A ValueError is about the job's own words: a NUL in them, a variable named "=".
            is_ours = isinstance(error, OSError)
            self._fail(order.attempt_id, f"no process could be started: {error}", refused=is_ours)
            return
        self._report(ContainerStarted(order.attempt_id, self._started_unix_ms(key)))
        self._watch(key, _Live(order.attempt_id, pid, True, _now_s()))

    def _spawn(self, order: StartContainer, folder: Path) -> int:
        spec = order.job.spec
        work, secrets = folder / "work", folder / "secrets"
        for made in (folder, work, *([secrets] if spec.secrets else [])):
            made.mkdir(mode=0o700)
        if spec.secrets:
            write_files(secrets, spec.secrets, (os.getuid(), os.getgid()))
        with open(folder / "attempt.json", "w", opener=open_private) as file:
            file.write(encode_attempt_id(order.attempt_id))
        nice, shell, move = (shutil.which(name) for name in ("nice", "sh", "mv"))
        assert shell is not None, "open() looked for it"
        assert move is not None, "open() looked for it"
        told = [move, str(folder), str(work / spec.workdir), str(self._files_max)]
        arguments = [shell, "-c", _SCRIPT, "rain", *told]
        if nice is not None:
            arguments = [nice, "-n", NICE, *arguments]
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.posix_spawn(
            arguments[0],
            [*arguments, *spec.command],
            {**_base_environment(work), **environment_of(self._labels, order, str(secrets))},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(folder / "stdout"), append, 0o600),
                # The shell's own remarks ("Killed") go nowhere; the task's go through 3.
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 3, str(folder / "stderr"), append, 0o600),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )

    def _watch(self, key: str, live: _Live) -> None:
        self._live[key] = live
        self._begin(self._see_off(key, live))

    async def _see_off(self, key: str, live: _Live) -> None:
        """Waits until it has ended, and tells."""
        await wait_until_ended(live.pid)
        code = EXIT_KILLED
        while live.is_child:
            exit_code = reaped(live.pid)
            if exit_code is not None:
                code = exit_code
                break
            await asyncio.sleep(WATCH_INTERVAL_S)
        found = await self._found_soon(key, code)
        if self._live.pop(key, None) is None:
            return
        live.ended.set()
        shutil.rmtree(self._tasks_folder / key / "secrets", ignore_errors=True)
        self._tell_end(live, found)

    def _tell_end(self, live: _Live, found: ContainerFound) -> None:
        code, started, ended = found.exit_code, found.started_unix_ms, found.ended_unix_ms
        assert code is not None, "only what has ended is told as ended"
        reason = live.overrun if code else ""
        if code and not reason and not live.is_stopped:
            if self._disk.is_to_blame(live.attempt_id):
                self._fail(live.attempt_id, DISK_FULL, refused=True)
                return
            reason = DISK_FULL if self._disk.is_full() else ""
        self._report(ContainerExited(live.attempt_id, code, started, ended, reason=reason))

    async def _found_soon(self, key: str, code: int) -> ContainerFound:
        """Its exit code is on disk, but there may be no file descriptor left to read it with."""
        while True:
            with suppress(OSError):
                return self._found(key, code)
            await asyncio.sleep(WATCH_INTERVAL_S)

    def _fail(self, attempt_id: AttemptId, reason: str, refused: bool = False) -> None:
        at_unix_ms = now_unix_ms()
        self._report(
            ContainerFailed(attempt_id, EXIT_RAIN_FAILED, clipped(reason), refused, at_unix_ms)
        )

    # --- Stop, remove, logs -------------------------------------------------------------------

    async def stop(self, attempt_key: str, grace_ms: int) -> None:
        """TERM to the whole group, and KILL when the grace is over; returns when it has ended."""
        async with self._turn:
            live = self._live.get(attempt_key)
        if live is None:
            return
        live.is_stopped = True
        grace_s = grace_ms / 1_000
        signal_group(live.pid, signal.SIGTERM)
        if _now_s() - live.since_s < YOUNG_S < grace_s:
            if await _is_set_within(live.ended, YOUNG_S):
                return
            grace_s -= YOUNG_S
            signal_group(live.pid, signal.SIGTERM)
        if await _is_set_within(live.ended, grace_s):
            return
        signal_group(live.pid, signal.SIGKILL)
        await _is_set_within(live.ended, KILL_WAIT_S)

    async def remove(self, attempt_key: str) -> None:
        """Keeps the log, then removes the folder; what runs is killed, its end is not told."""
        if not is_key(attempt_key):
            return
        async with self._turn:
            live = self._live.pop(attempt_key, None)
        if live is not None:
            signal_group(live.pid, signal.SIGKILL)
            with suppress(TimeoutError):
                async with asyncio.timeout(KILL_WAIT_S):
                    await wait_until_ended(live.pid)
            live.ended.set()
        await asyncio.to_thread(self._remove, attempt_key)

    def _remove(self, attempt_key: str) -> None:
        folder = self._tasks_folder / attempt_key
        if not folder.exists():
            return
        # First, so that there is room for the log where its files have filled the disk.
        shutil.rmtree(folder / "work", ignore_errors=True)
        with suppress(OSError):
            if not self._kept.has(attempt_key):
                self._kept.keep(attempt_key, frames(folder))
        shutil.rmtree(folder, ignore_errors=True)

    async def logs(self, attempt_key: str, follow: bool) -> AsyncIterator[tuple[int, bytes]]:
        """What it printed; with `follow` until it ends. Nothing for what never ran here."""
        if not is_key(attempt_key):
            return
        folder = self._tasks_folder / attempt_key
        offsets, told = {STDOUT: 0, STDERR: 0, REMARK: 0}, 0
        while folder.exists():
            # Asked before the reading: what it prints until it ends is read after it ended.
            is_running = attempt_key in self._live
            any_read = False
            for remark in remarks(folder)[told:]:
                told += 1
                yield remark
            for stream, name in STREAMS_BY_NAME:
                content = read_from(folder / name, offsets[stream])
                if content is None:
                    offsets[stream] = 0
                elif content:
                    offsets[stream] += len(content)
                    any_read = True
                    yield stream, content
            if any_read:
                continue
            if self._kept.has(attempt_key):
                break  # the folder is being removed: what is missing here is kept
            if not (follow and is_running):
                return
            await asyncio.sleep(FOLLOW_INTERVAL_S)
        if self._kept.has(attempt_key):
            for chunks in self._kept.chunks(attempt_key):
                for stream, content in chunks:
                    skipped = min(offsets[stream], len(content))
                    offsets[stream] -= skipped
                    if skipped < len(content):
                        yield stream, content[skipped:]

    async def _keep_streams_short(self) -> None:
        """A task that prints for ever must not fill the disk."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            for key in list(self._live):
                for _, name in STREAMS_BY_NAME:
                    cut(self._tasks_folder / key / name, STREAM_BYTES_MAX)

    async def _disk_bytes(self, key: str) -> int:
        return await asyncio.to_thread(folder_bytes, str(self._tasks_folder / key))

    async def _overrun(self, key: str, reason: str) -> None:
        live = self._live.get(key)
        if live is not None:
            live.overrun = reason
            signal_group(live.pid, signal.SIGKILL)

    # --- What is written in the folder --------------------------------------------------------

    def _found(self, key: str, unwritten: int = EXIT_KILLED) -> ContainerFound:
        """Of one that has ended; `unwritten` is its code if it, or the PC, was killed."""
        folder = self._tasks_folder / key
        code = self._exit_code(key)
        started_unix_ms = self._started_unix_ms(key)
        last = "exit" if code is not None else "stdout"
        ended_unix_ms = max(started_unix_ms, changed_unix_ms(folder / last))
        # Its shell was there to the end, and could not write its code: then the disk was full.
        is_unwritten = (folder / "exit.new").exists()
        return ContainerFound(
            attempt_key=key,
            started_unix_ms=started_unix_ms,
            exit_code=unwritten if code is None else code,
            ended_unix_ms=ended_unix_ms,
            is_lost=code is None and (is_unwritten or self._born(key)[0] not in ("", boot_id())),
        )

    def _exit_code(self, key: str) -> int | None:
        text = read_text(self._tasks_folder / key / "exit").strip()
        return min(255, int(text)) if text.isascii() and text.isdecimal() else None

    def _started_unix_ms(self, key: str) -> int:
        return changed_unix_ms(self._tasks_folder / key / "attempt.json")

    def _running_pid(self, key: str) -> int:
        """The pid, if the process that was born under it still runs; else 0."""
        boot, stat = self._born(key)
        born = birth_of(stat)
        if born is None or boot != boot_id():
            return 0
        now = birth_of(read_text(Path(f"/proc/{born[0]}/stat")))
        return born[0] if now == born else 0

    def _born(self, key: str) -> tuple[str, str]:
        """The boot in which it began, and the process that it was; empty where nobody wrote."""
        boot, _, stat = read_text(self._tasks_folder / key / "birth").partition(" ")
        return boot, stat

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


def refusal(spec: JobSpec) -> str:
    """Why a process cannot be what this job asks for; empty where it can."""
    if not spec.command:
        return "the process executor needs a command"
    for is_asked, what in (
        (bool(spec.image), "an image"),
        (bool(spec.user), "another user"),
        (spec.network not in ("none", "host"), f"the network {spec.network!r}"),
        (bool(spec.volumes), "a volume"),
    ):
        if is_asked:
            return f"the process executor cannot give a task {what}; use --executor docker"
    return secret_files.refusal(spec)


def _base_environment(work: Path) -> dict[str, str]:
    """All that is taken from the agent's environment."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "HOME": str(work),
    }


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _is_set_within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True
