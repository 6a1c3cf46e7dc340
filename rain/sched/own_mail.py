"""What a node says to itself: now, or when the write before it is on disk.

Messages to itself never leave the scheduling core. So no role needs to know where another sits.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from rain.effects import Message, Output, Persist, Post, StartContainer
from rain.model import AttemptId, NodeId


@dataclass(frozen=True, slots=True)
class AfterWrite:
    """What a write that is on disk now has set off."""

    own: tuple[Message, ...]
    ordered: tuple[AttemptId, ...]


class OwnMail:
    """Sorts outputs; a token in a write says when what must follow it is to be delivered."""

    def __init__(self, node_id: NodeId) -> None:
        self._node_id = node_id
        self._last_token = 0
        self._after: dict[int, AfterWrite] = {}

    def sort(self, fresh: Iterable[Output], outputs: list[Output], local: deque[Message]) -> None:
        """Keep back what is for this node itself."""
        for output in fresh:
            if isinstance(output, Post) and output.to == self._node_id:
                local.append(output.message)
            elif isinstance(output, Persist):
                outputs.append(self._with_token(output))
            else:
                outputs.append(output)

    def take(self, token: int) -> AfterWrite | None:
        """The write with that token is on disk."""
        return self._after.pop(token, None)

    def lose_all(self) -> None:
        """Writes failed, and took what was to follow them along."""
        self._after.clear()

    def _with_token(self, write: Persist) -> Persist:
        own = tuple(
            effect.message
            for effect in write.then
            if isinstance(effect, Post) and effect.to == self._node_id
        )
        ordered = tuple(
            effect.attempt_id for effect in write.then if isinstance(effect, StartContainer)
        )
        if not own and not ordered:
            return write
        self._last_token += 1
        self._after[self._last_token] = AfterWrite(own, ordered)
        then = tuple(
            effect
            for effect in write.then
            if not (isinstance(effect, Post) and effect.to == self._node_id)
        )
        return replace(write, then=then, token=self._last_token)
