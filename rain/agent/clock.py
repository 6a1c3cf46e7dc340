"""The clocks of this PC: no other file of Rain asks for the time."""

import sys
import time


def now_ms() -> int:
    """Monotonic: for everything that is decided."""
    return time.monotonic_ns() // 1_000_000


def now_unix_ms() -> int:
    """The wall's: for people's eyes only."""
    return time.time_ns() // 1_000_000


def asleep_ms() -> int:
    """How long this PC has slept since it was switched on: the monotonic clock stood still then.

    Only its growth means something. Linux tells; elsewhere it is always 0.
    """
    if sys.platform != "linux":
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 - now_ms()
