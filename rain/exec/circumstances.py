"""What an engine does not say of a container: for how long it runs, and what it was that ended it.

The clock on the wall may have been set meanwhile, so it is asked only where the kernel
says nothing.
"""

from typing import Any

from msgspec.structs import replace

from rain.effects import ContainerFound
from rain.exec.hardware import began_unix_ms, boot_unix_ms, now_unix_ms
from rain.exec.kernel import container_running_ms
from rain.exec.labels import BOOT

Inspected = dict[str, Any] | None
"""What the engine told of the container; None: it is there no more."""


def as_running(found: ContainerFound, inspected: Inspected) -> ContainerFound:
    """With the time that it has been running: by the kernel, where the engine is on this PC."""
    one = inspected or {}
    known = container_running_ms(int(one.get("State", {}).get("Pid", 0)), str(one.get("Id", "")))
    return replace(found, running_ms=known or max(0, now_unix_ms() - found.started_unix_ms))


def as_ended(
    found: ContainerFound, inspected: Inspected, boot: str, is_cut: bool, out_of_memory: bool
) -> ContainerFound:
    """With the reason for its end: what failed when its engine or its PC went down is lost."""
    is_lost = is_cut or _is_older_than_boot(found, inspected, boot)
    return replace(
        found,
        out_of_memory=out_of_memory,
        is_lost=is_lost and found.exit_code != 0 and not out_of_memory,
    )


def ended_before(found: ContainerFound, engine_pid: int) -> bool:
    """Did it end before the engine that is here now began? Then the one before took it along."""
    return found.ended_unix_ms < began_unix_ms(engine_pid)


def _is_older_than_boot(found: ContainerFound, inspected: Inspected, boot: str) -> bool:
    """Did the PC go down under it? By the boot that it was started in, where that was kept."""
    labels = inspected["Config"]["Labels"] if inspected is not None else {}
    began_in = str(labels.get(BOOT, ""))
    if began_in and boot:
        return began_in != boot
    return found.started_unix_ms < boot_unix_ms() <= found.ended_unix_ms
