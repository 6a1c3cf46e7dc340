"""The clocks of this PC: no other file of Rain asks for the time."""

import time


def now_ms() -> int:
    """Monotonic: for everything that is decided."""
    return time.monotonic_ns() // 1_000_000


def now_unix_ms() -> int:
    """The wall's: for people's eyes only."""
    return time.time_ns() // 1_000_000
