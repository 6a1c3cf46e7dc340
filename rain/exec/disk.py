"""How much disk a running task uses, looked at now and then: who uses too much is ended.

The look costs what there is to look at, so it is bounded twice: a folder is counted up to a number
of entries, and between two rounds there is a pause of at least twenty times what the round took.
A task can write more than its share before anybody looks; it cannot go on doing so.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable

ROUND_PAUSE_S = 5.0
ROUND_SHARE = 20
"""A round takes one part in so many of the time at most."""
ENTRIES_MAX = 200_000
"""Of one task's folder; what is beyond is not counted."""
BLOCK_BYTES = 512

_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


async def watch_disk(
    bytes_max: int,
    running: Callable[[], Iterable[str]],
    used: Callable[[str], Awaitable[int]],
    over: Callable[[str, str], Awaitable[None]],
) -> None:
    """For ever: asks what each running attempt uses, and tells `over` which one used too much."""
    loop = asyncio.get_running_loop()
    took_s = 0.0
    while True:
        await asyncio.sleep(max(ROUND_PAUSE_S, took_s * ROUND_SHARE))
        began_s = loop.time()
        for key in list(running()):
            used_bytes = await used(key)
            if used_bytes > bytes_max:
                await over(key, excess(used_bytes, bytes_max))
        took_s = loop.time() - began_s


def excess(used_bytes: int, bytes_max: int) -> str:
    """Why such a task was ended."""
    return (
        f"used more than {in_words(bytes_max)} of disk ({in_words(used_bytes)}); "
        "the owner of this PC sets the limit: rain up --task-disk SIZE"
    )


def in_words(amount: int) -> str:
    """10 GiB, 1.5 MiB, 17 bytes."""
    for unit, name in _UNITS:
        if amount >= unit:
            return f"{round(amount / unit, 1):g} {name}"
    return f"{amount} bytes"


def folder_bytes(folder: str, entries_max: int = ENTRIES_MAX) -> int:
    """What a folder takes on its disk. Links are not followed; what cannot be read counts as 0."""
    total, seen, pending = 0, 0, [folder]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                seen += 1
                if seen > entries_max:
                    return total
                try:
                    total += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                except OSError:
                    continue
    return total
