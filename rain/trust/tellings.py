"""News of this node's own making: which members have it on disk, and the person who waits for it.

Several changes of one event travel in one RollNews under one serial. The person is answered when
this node has written it and every member that was told has too, or 2 s later with as many as have.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rain.effects import Answer, Output
from rain.model import NodeId

TELLINGS_MAX = 64
"""Waiting persons; further ones are answered at once, with what can be known then."""


@dataclass(slots=True)
class _Telling:
    request: int
    told: set[NodeId]
    taken: int
    is_written: bool
    until_ms: int


class Tellings:
    """By serial; the serial is also the token of the write."""

    def __init__(self, told_ms: int) -> None:
        self._told_ms = told_ms
        self._open: dict[int, _Telling] = {}
        self._last = 0

    def is_full(self) -> bool:
        return len(self._open) >= TELLINGS_MAX

    def begin(self, request: int, told: Iterable[NodeId], now_ms: int) -> int:
        """The serial of news that these members are told now."""
        assert not self.is_full(), "T7: tellings bounded"
        serial = self.next_serial()
        self._open[serial] = _Telling(request, set(told), 0, False, now_ms + self._told_ms)
        return serial

    def next_serial(self) -> int:
        """For a write that nobody waits for."""
        self._last += 1
        return self._last

    def written(self, serial: int) -> list[Output]:
        telling = self._open.get(serial)
        if telling is None:
            return []
        telling.is_written = True
        return self._maybe_answer(serial, telling)

    def taken(self, sender: NodeId, serial: int) -> list[Output]:
        telling = self._open.get(serial)
        if telling is None or sender not in telling.told:
            return []
        telling.told.discard(sender)
        telling.taken += 1
        return self._maybe_answer(serial, telling)

    def gone(self, node_id: NodeId) -> list[Output]:
        """That member is down: nobody waits for it."""
        outputs: list[Output] = []
        for serial, telling in list(self._open.items()):
            telling.told.discard(node_id)
            outputs += self._maybe_answer(serial, telling)
        return outputs

    def expire(self, now_ms: int) -> list[Output]:
        outputs: list[Output] = []
        for serial, telling in list(self._open.items()):
            if now_ms >= telling.until_ms:
                outputs.append(self._answer(serial, telling))
        return outputs

    def fail(self, reason: str) -> list[Output]:
        """The disk takes no writes: what was not written yet was told to nobody."""
        outputs: list[Output] = []
        for serial, telling in list(self._open.items()):
            if not telling.is_written:
                del self._open[serial]
                outputs.append(Answer(telling.request, 0, reason))
        return outputs

    def next_deadline_ms(self) -> int | None:
        return min((telling.until_ms for telling in self._open.values()), default=None)

    def check(self) -> None:
        assert len(self._open) <= TELLINGS_MAX, "T7: tellings bounded"

    def _maybe_answer(self, serial: int, telling: _Telling) -> list[Output]:
        if telling.told or not telling.is_written:
            return []
        return [self._answer(serial, telling)]

    def _answer(self, serial: int, telling: _Telling) -> Answer:
        del self._open[serial]
        return Answer(telling.request, telling.taken + int(telling.is_written))
