"""What the kernel knows about processes and open files: born, ended, reaped, how many.

Whoever looks may be out of file descriptors itself. That is no news about what it looks at, so
only "there is no such thing" counts as an end; everything else is looked at again later.
"""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from rain.exec.dialect import EXIT_KILLED

WATCH_INTERVAL_S = 0.2
"""Where a process cannot be waited for: how often it is looked after."""
OPEN_FILES_UNKNOWN = 4_096
"""Where the system sets no such limit."""


async def wait_until_ended(pid: int) -> None:
    """Returns when no process has this pid any more, or only one that waits to be reaped."""
    descriptor = None
    while descriptor is None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:
            # A kernel before 5.3, or too many open files: look at it now and then.
            if _has_ended(pid):
                return
            await asyncio.sleep(WATCH_INTERVAL_S)
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    try:
        loop.add_reader(descriptor, lambda: None if ended.done() else ended.set_result(None))
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def birth_of(stat: str) -> tuple[int, str] | None:
    """(pid, start in ticks since boot) out of a line of /proc/PID/stat; None for the dead."""
    pid, _, rest = stat.partition(" ")
    fields = rest.rpartition(")")[2].split()
    if not pid.isdecimal() or len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return int(pid), fields[19]


def running_ms(stat: str) -> int:
    """For how long a process has been running, by a line of its /proc/PID/stat; 0 for the dead.

    By the clock that counts since the boot: the one on the wall may have been set since.
    """
    born = birth_of(stat)
    if born is None or sys.platform != "linux":
        return 0
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    now_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    return max(0, now_ms - int(born[1]) * 1_000 // ticks_per_s)


def container_running_ms(pid: int, container_id: str) -> int:
    """The same of a container of an engine on this PC; 0 where its first process is not to be seen.

    A pid may be one of another machine's: the process must be in that container's own group.
    """
    with suppress(OSError):
        if pid > 0 and container_id and container_id in read_text(Path(f"/proc/{pid}/cgroup")):
            return running_ms(read_text(Path(f"/proc/{pid}/stat")))
    return 0


def boot_id() -> str:
    """Of this boot of the PC."""
    return read_text(Path("/proc/sys/kernel/random/boot_id")).strip()


def reaped(pid: int) -> int | None:
    """The exit code of a child that has ended, as a shell counts it; None: it has not ended."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return EXIT_KILLED
    if not found:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _has_ended(pid: int) -> bool:
    """Whether it is surely dead; what cannot be looked at now may live."""
    try:
        return birth_of(read_text(Path(f"/proc/{pid}/stat"))) is None
    except OSError:
        return False


def signal_group(pid: int, which: signal.Signals) -> None:
    """To the whole group that this process leads; not an error where it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, which)


def raise_open_files_limit() -> None:
    """As many open files as the system allows this process; many systems begin with 1,024."""
    if sys.platform == "win32":
        return
    import resource  # Here and not above: Windows has no such module.

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_files_max() -> int:
    """How many files this process may have open now."""
    if sys.platform == "win32":
        return OPEN_FILES_UNKNOWN
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def keep_open_files_to_ourselves() -> None:
    """What the agent's own shell left open for it is none of the tasks'. Python's own files are
    closed in children anyway."""
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                with suppress(OSError):
                    os.set_inheritable(int(name), False)


def changed_unix_ms(path: Path) -> int:
    """When a file was last written; 0 where nobody knows."""
    with suppress(OSError):
        return path.stat().st_mtime_ns // 1_000_000
    return 0


def read_text(path: Path) -> str:
    """Empty where there is nothing to read. What there is but cannot be read now is an OSError."""
    with suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return path.read_text(errors="replace")
    return ""


def open_private(path: str, flags: int) -> int:
    """An opener: what it makes is this user's alone, whatever the umask is."""
    return os.open(path, flags, 0o600)
