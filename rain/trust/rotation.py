"""When the newest pool key takes its next step, and who says so.

INSTALL until all members that are up have the key, or 2 s; USE until all of them seal with it, or
5 s; then REMOVE, and the older keys are gone. The author of the last step says the next one; if
nothing moved for 6 s, the first admin by id among those that are up does. It also chooses a new
key where two have one number, or where nobody who is left has the newest.
"""

from enum import Enum

from rain.claims import KeyPhase
from rain.model import NodeId, Value
from rain.trust.config import TrustConfig
from rain.trust.ring import Course


class Move(Enum):
    USE = KeyPhase.USE
    REMOVE = KeyPhase.REMOVE
    FRESH = 0
    """Another key, with the next number."""


class Scene(Value, frozen=True):
    """What a decision depends on, besides the key's course."""

    has_key: bool
    admins: tuple[NodeId, ...]
    """Those that are up, this node included if it is one; sorted."""
    have_all: bool
    """All members that are up have the key."""
    use_all: bool


class Rotation:
    """Watches the course of the newest key."""

    def __init__(self, me: NodeId, config: TrustConfig, now_ms: int) -> None:
        self._me, self._config = me, config
        self._seen: tuple[int, bytes, KeyPhase, bool] | None = None
        self.moved_ms = now_ms

    def watch(self, course: Course | None, now_ms: int) -> None:
        """Note when it moves."""
        seen = None
        if course is not None:
            seen = (course.number, course.mark, course.phase, course.is_clashing)
        if seen != self._seen:
            self._seen, self.moved_ms = seen, now_ms

    def decide(self, course: Course, scene: Scene, now_ms: int) -> Move | None:
        """What this node shall say now."""
        due_ms = self.due_ms(course, scene)
        if due_ms is None or now_ms < due_ms:
            return None
        if course.is_clashing or not scene.has_key:
            return Move.FRESH
        return Move.USE if course.phase is KeyPhase.INSTALL else Move.REMOVE

    def due_ms(self, course: Course, scene: Scene) -> int | None:
        """When this node shall speak, if nothing else happens; None: it is not its turn."""
        config, is_first = self._config, scene.admins[:1] == (self._me,)
        if course.is_clashing:
            return self.moved_ms + config.clash_ms if is_first else None
        if course.phase is KeyPhase.REMOVE:
            return None
        drivers = [author for author in course.authors if author in scene.admins]
        if drivers[:1] == [self._me] and scene.has_key:
            return self.moved_ms + self._patience_ms(course, scene)
        return self.moved_ms + config.takeover_ms if is_first else None

    def _patience_ms(self, course: Course, scene: Scene) -> int:
        if course.phase is KeyPhase.INSTALL:
            return 0 if scene.have_all else self._config.install_ms
        return 0 if scene.use_all else self._config.use_ms
