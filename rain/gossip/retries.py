"""Members that are not here: when to ring them again, and when to forget them.

A dead member is rung soon, then ever more rarely, but for long: that is how partitions heal. One
that left by its own word is not rung; it comes back by itself.
"""

from dataclasses import dataclass

from rain.model import NodeId


@dataclass(slots=True)
class _Absence:
    since_ms: int
    due_ms: int | None
    interval_ms: int
    rung_ms: int


class Retries:
    def __init__(self, first_ms: int, interval_ms: int, forget_after_ms: int) -> None:
        self._first_ms = first_ms
        self._interval_ms = interval_ms
        self._forget_after_ms = forget_after_ms
        self._absences: dict[NodeId, _Absence] = {}

    def add(self, node_id: NodeId, now_ms: int, ring: bool, delay_ms: int) -> None:
        due_ms = now_ms + delay_ms if ring else None
        self._absences[node_id] = _Absence(now_ms, due_ms, self._first_ms, now_ms)

    def drop(self, node_id: NodeId) -> None:
        self._absences.pop(node_id, None)

    def hasten(self, node_id: NodeId, now_ms: int) -> None:
        """Somebody says that it lives: ring it now, unless that was just done."""
        absence = self._absences.get(node_id)
        if absence is None or absence.due_ms is None:
            return
        absence.interval_ms = self._first_ms
        absence.due_ms = min(absence.due_ms, max(now_ms, absence.rung_ms + self._first_ms // 2))

    def due(self, now_ms: int) -> list[NodeId]:
        """Whom to ring now; each is due again after twice the time, up to the interval."""
        due: list[NodeId] = []
        for node_id, absence in self._absences.items():
            if absence.due_ms is not None and absence.due_ms <= now_ms:
                due.append(node_id)
                absence.rung_ms = now_ms
                absence.due_ms = now_ms + absence.interval_ms
                absence.interval_ms = min(self._interval_ms, 2 * absence.interval_ms)
        return due

    def forgotten(self, now_ms: int) -> list[NodeId]:
        return [
            node_id
            for node_id, absence in self._absences.items()
            if absence.since_ms + self._forget_after_ms <= now_ms
        ]

    def next_deadline_ms(self) -> int | None:
        if not self._absences:
            return None
        deadlines = [a.since_ms + self._forget_after_ms for a in self._absences.values()]
        deadlines += [a.due_ms for a in self._absences.values() if a.due_ms is not None]
        return min(deadlines)

    def absent(self) -> list[NodeId]:
        return sorted(self._absences)
