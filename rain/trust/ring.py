"""The pool keys of this node, and how far the newest one has come.

What the claims say (`follow`) and what this node has (`take`) are two things: a step of a key may
be known before the key, never the other way round, as a key is taken only if a claim that counts
names it by its mark. When two admins have given one number to two keys, the larger mark wins
everywhere, and rotation.py sees to a new key.

The key in use is the highest that has come to USE and that this node has. It is never one that was
passed over before: keys whose claims have become void leave a gap into which an older number must
not step. When the key in use has come to REMOVE, the older ones are forgotten.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from rain.claims import KeyPhase
from rain.model import NodeId
from rain.trust.content import mark_of_key
from rain.trust.messages import RING_KEYS_MAX, RingKey
from rain.trust.records import RingRow

SANE_NUMBER_MAX = 2**32
"""A number beyond it was made up to leave no room above; it counts only while its claim does."""

KEY_NUMBER_MAX = 2**62


class Step(NamedTuple):
    """One claim about one key, as far as it matters here."""

    number: int
    mark: bytes
    phase: KeyPhase
    author: NodeId
    at_unix_ms: int


@dataclass(slots=True)
class Course:
    """How far one key has come, and by whose word."""

    number: int
    mark: bytes
    phase: KeyPhase
    authors: tuple[NodeId, ...]
    at_unix_ms: int
    is_clashing: bool = False
    """Another key has this number too."""


@dataclass(slots=True)
class RingView:
    """What others may know of it."""

    keys: dict[int, bytes] = field(repr=False)
    use: int
    newest: int
    phase: KeyPhase | None
    """Of the newest; None: no claim speaks of a key."""
    have: int
    alive: int

    def progress(self) -> tuple[int, int]:
        """So many members have the newest key, of so many that are up; this one included."""
        return self.have, self.alive


class Ring:
    """Keys by number, and the number in use."""

    def __init__(self, row: RingRow | None) -> None:
        keys = row.keys if row else ()
        self._keys = {ring_key.number: ring_key.key for ring_key in keys}
        self.use = row.use if row and row.use in self._keys else 0
        self._spent = set(row.spent) & set(self._keys) if row else set()
        self._courses: dict[int, Course] = {}

    # --- What the claims say ---------------------------------------------------------------------

    def follow(self, steps: Iterable[Step]) -> None:
        """The steps that count now, all of them."""
        found: dict[int, dict[bytes, list[Step]]] = {}
        for step in steps:
            found.setdefault(step.number, {}).setdefault(step.mark, []).append(step)
        self._courses = {number: _course_of(marks) for number, marks in found.items()}
        self._settle()

    def newest(self) -> Course | None:
        """The key with the highest number that counts."""
        return self._courses[max(self._courses)] if self._courses else None

    def next_number(self) -> int:
        """A number that no other key has, as far as is known here."""
        sane = [number for number in self._keys if number <= SANE_NUMBER_MAX]
        number = 1 + max([0, *self._courses, *sane])
        while number in self._keys:
            number += 1
        return number

    # --- What this node has ----------------------------------------------------------------------

    def take(self, ring_key: RingKey) -> str:
        """'' if it is new and was taken; else why not."""
        number, key = ring_key.number, ring_key.key
        if self._keys.get(number) == key:
            return "known"
        course = self._courses.get(number)
        if course is None or course.mark != mark_of_key(key):
            return "unbacked_key"
        in_use = self._courses.get(self.use)
        if in_use and in_use.phase is KeyPhase.REMOVE and number < self.use:
            return "removed_key"
        self._keys[number] = key
        self._spent.discard(number)
        self._settle()
        return "" if number in self._keys else "ring_full"

    def has(self, course: Course) -> bool:
        key = self._keys.get(course.number)
        return key is not None and mark_of_key(key) == course.mark

    def held(self) -> tuple[int, bytes]:
        """Number and mark of the highest key that this node has and that counts, else of the one
        in use."""
        backed = [number for number, course in self._courses.items() if self.has(course)]
        number = max(backed, default=self.use)
        return number, mark_of_key(self._keys[number]) if number in self._keys else b""

    def kept(self) -> tuple[RingKey, ...]:
        return tuple(RingKey(number, key) for number, key in sorted(self._keys.items()))

    def marks(self) -> tuple[bytes, ...]:
        return tuple(mark_of_key(key) for _, key in sorted(self._keys.items()))

    def beyond(self, marks: Iterable[bytes]) -> tuple[RingKey, ...]:
        """Those with other marks, as far as a receiver would take them."""
        theirs = set(marks)
        return tuple(
            RingKey(number, key)
            for number, key in sorted(self._keys.items())
            if number in self._courses and mark_of_key(key) not in theirs
        )

    def row(self) -> RingRow:
        return RingRow(self.kept(), self.use, tuple(sorted(self._spent)))

    def _settle(self) -> None:
        ready = [
            number
            for number, course in self._courses.items()
            if course.phase >= KeyPhase.USE and number in self._keys and number not in self._spent
        ]
        use = max(ready, default=self.use if self.use in self._keys else 0)
        if not use and self._keys:
            # Nobody has said anything of any of them: what a newcomer was given at the door.
            use = max(self._keys)
        if use != self.use:
            self._spent |= {number for number in self._keys if number < use or number == self.use}
            self._spent.discard(use)
            self.use = use
        in_use = self._courses.get(self.use)
        if in_use and in_use.phase is KeyPhase.REMOVE:
            self._keep(
                [n for n in self._keys if n == self.use or (n > self.use and n in self._courses)]
            )
        if len(self._keys) > RING_KEYS_MAX:
            others = sorted((n for n in self._keys if n != self.use), reverse=True)
            self._keep([self.use, *others[: RING_KEYS_MAX - 1]])

    def _keep(self, numbers: list[int]) -> None:
        self._keys = {number: self._keys[number] for number in sorted(numbers)}
        self._spent &= set(numbers)

    def check(self) -> None:
        assert len(self._keys) <= RING_KEYS_MAX, "T4: pool keys bounded"
        assert (self.use in self._keys) == bool(self._keys), "T5: the key in use is held"
        assert self.use not in self._spent, "T5: a spent key is not used"
        assert self._spent <= set(self._keys), "T4: spent numbers bounded"


def _course_of(marks: dict[bytes, list[Step]]) -> Course:
    mark = max(marks)
    steps = marks[mark]
    phase = max(step.phase for step in steps)
    latest = [step for step in steps if step.phase == phase]
    return Course(
        latest[0].number,
        mark,
        phase,
        tuple(sorted({step.author for step in latest})),
        max(step.at_unix_ms for step in latest),
        is_clashing=len(marks) > 1,
    )
