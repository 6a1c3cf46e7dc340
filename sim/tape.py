"""What somebody recorded who has listened on the cable from the beginning. He reads none of it."""

import random
from typing import NamedTuple

KEPT_MAX = 2_000
CLEAR_BYTES = 18
"""So much of a packet tells it from every other, before it is opened."""


class Recording(NamedTuple):
    """One packet that went from host to host."""

    source: int
    target: int
    packet: bytes


class Tape:
    """When every packet was first on the cable, and a fair sample of them as they were."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._heard_us: dict[bytes, int] = {}
        self._kept: list[Recording] = []
        self._count = 0

    def record(self, source: int, target: int, packet: bytes, now_us: int) -> None:
        self._heard_us.setdefault(packet[:CLEAR_BYTES], now_us)
        self._count += 1
        if len(self._kept) < KEPT_MAX:
            self._kept.append(Recording(source, target, packet))
            return
        # Every packet so far is on the tape with the same chance.
        at = int(self._dice.random() * self._count)
        if at < KEPT_MAX:
            self._kept[at] = Recording(source, target, packet)

    def first_heard_us(self, packet: bytes) -> int | None:
        return self._heard_us.get(packet[:CLEAR_BYTES])

    def draw(self, dice: random.Random) -> Recording | None:
        """One of those recorded so far."""
        return self._kept[int(dice.random() * len(self._kept))] if self._kept else None
