"""The short way of what comes with every heartbeat and mostly changes nothing.

Ten times a second each follower hears its coordinator, and the coordinator each of its followers.
Whatever has an effect beyond a note, or comes when something else is due, goes the long way.
"""

from rain.effects import Beat, CoordinatorHeard, DeadlinePassed, Event, FollowerHeard, Notice
from rain.sched.antientropy import AntiEntropy
from rain.sched.coordinator import Coordinator
from rain.sched.worker import Worker


class Beats:
    """Takes note of heartbeats for the roles of a node."""

    def __init__(self, worker: Worker, coordinator: Coordinator, antientropy: AntiEntropy) -> None:
        self._worker = worker
        self._coordinator = coordinator
        self._antientropy = antientropy

    def took(self, event: Event | Notice, now_ms: int) -> bool:
        """With this note everything is done. Not to be asked when a deadline has passed."""
        match event:
            case CoordinatorHeard(epoch=epoch, beat=beat):
                self._worker.heard(epoch, beat, now_ms)
                return True
            case FollowerHeard(node_id=node_id, digest=digest):
                coordinator = self._coordinator
                is_news = node_id in coordinator.unreachable or coordinator.is_taking_inventory()
                return not is_news and self._antientropy.agrees_with(node_id, digest)
            case Beat(epoch=epoch, beat=beat):
                self._coordinator.note_beat(epoch, beat)
                return True
            case DeadlinePassed():
                return True  # a sibling's
            case _:
                return False
