"""What is wrong with single links of the LAN: each direction of each pair for itself.

A link may lose packets, hold them back and let them go later, take packets but no streams or the
other way round, or swallow whatever is too large. A cut is not here: nothing passes one.
"""

import random
from collections import deque
from collections.abc import Iterator

from msgspec import Struct

HELD_MAX = 500
"""Packets that a clogged link keeps; what is more is lost."""


class Link(Struct):
    """One direction. As it is made: nothing is wrong with it."""

    loss_permille: int = 0
    is_clogged: bool = False
    packets_blocked: bool = False
    streams_blocked: bool = False
    bytes_max: int = 0
    """Larger packets and frames vanish; 0: of any size they pass."""


SOUND = Link()


class Links:
    """The rough links of one LAN, by (source, target); all others are sound."""

    def __init__(self, dice: random.Random) -> None:
        self.rough: dict[tuple[int, int], Link] = {}
        self.mute: set[int] = set()
        """Hosts whose broadcasts are lost, while what they send to somebody is not."""
        self.clogs = 0
        """Packets that were held so far."""
        self._held: dict[tuple[int, int], deque[bytes]] = {}
        self._dice = dice

    def spoil(self, source: int, target: int, **wrong: int) -> None:
        """From now on this is wrong with that link too."""
        link = self.rough.setdefault((source, target), Link())
        for name, value in wrong.items():
            setattr(link, name, value)

    def restore(self, source: int, target: int, *names: str) -> None:
        """That is wrong no more."""
        link = self.rough.get((source, target))
        if link is None:
            return
        for name in names:
            setattr(link, name, getattr(SOUND, name))
        if link == SOUND:
            del self.rough[source, target]

    def passes(self, source: int, target: int, packet: bytes) -> bool:
        """Does a packet go through now? What is held counts as not."""
        link = self.rough.get((source, target))
        if link is None:
            return True
        if link.packets_blocked or (link.bytes_max and len(packet) > link.bytes_max):
            return False
        if link.loss_permille and self._dice.random() * 1_000 < link.loss_permille:
            return False
        if not link.is_clogged:
            return True
        held = self._held.setdefault((source, target), deque())
        if len(held) < HELD_MAX:
            self.clogs += 1
            held.append(packet)
        return False

    def stops_streams(self, source: int, target: int) -> bool:
        link = self.rough.get((source, target))
        return link is not None and (link.streams_blocked or link.is_clogged)

    def swallows(self, source: int, target: int, frame_bytes: int) -> bool:
        """Is it a black hole for a frame of that size?"""
        link = self.rough.get((source, target))
        return link is not None and 0 < link.bytes_max < frame_bytes

    def release(self, source: int, target: int) -> Iterator[bytes]:
        """What was held on that link, oldest first; it is clogged no more."""
        self.restore(source, target, "is_clogged")
        yield from self._held.pop((source, target), ())

    def heal(self) -> list[tuple[tuple[int, int], list[bytes]]]:
        """Every link is sound; what was held on which."""
        held = [(link, list(packets)) for link, packets in self._held.items()]
        self._held.clear()
        self.rough.clear()
        self.mute.clear()
        return held
