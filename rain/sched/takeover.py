"""Inventory: what really runs where, asked before anything is decided about it.

Roles and messages. A new reign asks every member that is up (InventoryRequest), again every
`ask_interval_ms`, until all have answered that they are ready or `takeover_ms` are over. Only
then are the answers judged, all together (one node's table may explain what runs on another), and
only then is anything placed. Members that were silent, and those that come or come back later,
are asked on; until one has answered nothing is placed there and what it runs is left alone. The
coordinator whose silence began this reign is asked but not waited for: it is probably dead, and
waiting for the dead would cost every failover the full time. Nor is, after `silent_ms`, whoever
has not acknowledged one heartbeat of this reign: several PCs may have died at once.

Who was given up as unreachable is asked anew, and is reachable again with its answer, as with the
next heartbeat it acknowledges: what it has just said it runs is not lost once more.

Not ready means: its executor has not listed its containers yet (E11); it is asked again.

A mere worker may speak of a job that no keeper knows (any more): only a node that has been removed
did, say. It has no table to ask for, so with the next request the job itself is wanted of it.

What it does not do: judge an answer (coordinator.py), or conclude that somebody is gone.
"""

from collections.abc import Iterable
from itertools import islice

from rain.effects import Post
from rain.model import Epoch, JobId, NodeId, Value
from rain.sched.messages import INVENTORY_JOBS_MAX, Inventory, InventoryRequest
from rain.sched.pool import Pool


class TakeoverConfig(Value, frozen=True):
    ask_interval_ms: int = 200
    takeover_ms: int = 2_000
    silent_ms: int = 600
    """Who has not acknowledged a single heartbeat of this reign by then is not waited for: it fell
    together with the coordinator, or cannot be heard."""
    ask_later_interval_ms: int = 1_000
    """Of those who did not answer in time."""


class Inventories:
    """Who has been asked, who has answered, and the answers that are not judged yet."""

    def __init__(self, config: TakeoverConfig, pool: Pool) -> None:
        self._config = config
        self._pool = pool
        self._epoch: Epoch | None = None
        self._deadline_ms: int | None = None
        self._round = 0
        self._fallen: NodeId | None = None
        """The coordinator before this reign, which fell silent: asked, but not waited for."""
        self._silent_at_ms = 0
        self._heard: dict[NodeId, None] = {}
        """Who has acknowledged a heartbeat of this reign."""
        self._asked_ms: dict[NodeId, int] = {}
        self._first_round: dict[NodeId, int] = {}
        """Answers to earlier rounds are of an earlier life of that node, or of an earlier doubt."""
        self._answered: dict[NodeId, None] = {}
        self._answers: dict[NodeId, Inventory] = {}
        self._wants: dict[NodeId, dict[JobId, None]] = {}
        """Jobs that only this worker knows."""

    def begin(self, epoch: Epoch, fallen: NodeId | None, now_ms: int) -> None:
        """A new reign knows nothing."""
        self.end()
        self._fallen = fallen
        self._epoch = epoch
        self._deadline_ms = now_ms + self._config.takeover_ms
        self._silent_at_ms = now_ms + self._config.silent_ms

    def renumber(self, epoch: Epoch) -> None:
        """The same reign: what was answered stands, what was asked is asked again."""
        self._epoch = epoch
        self._asked_ms.clear()
        self._first_round.clear()

    def end(self) -> None:
        self._epoch = None
        self._deadline_ms = None
        self._asked_ms.clear()
        self._first_round.clear()
        self._answered.clear()
        self._answers.clear()
        self._wants.clear()
        self._heard.clear()

    def hear(self, node_id: NodeId) -> None:
        """It follows this reign."""
        if self.is_taking():
            self._heard[node_id] = None

    def is_taking(self) -> bool:
        return self._deadline_ms is not None

    def is_inventoried(self, node_id: NodeId) -> bool:
        return node_id in self._answered

    def forget(self, node_id: NodeId) -> None:
        """It came back, restarted, or runs what others have decided: ask it anew."""
        self._answered.pop(node_id, None)
        self._answers.pop(node_id, None)
        self._wants.pop(node_id, None)
        self._asked_ms.pop(node_id, None)
        self._first_round.pop(node_id, None)

    def ask(self, beat: int, now_ms: int) -> list[Post]:
        """Requests to all whose turn it is."""
        if self._epoch is None:
            return []
        due = [n for n in self._to_ask() if now_ms >= self._due_ms(n)]
        if not due:
            return []
        self._round += 1
        for node_id in due:
            self._asked_ms[node_id] = now_ms
            self._first_round.setdefault(node_id, self._round)
        wants = {n: tuple(self._wants.pop(n, {})) for n in due}
        return [Post(n, InventoryRequest(self._epoch, beat, self._round, wants[n])) for n in due]

    def want(self, node_id: NodeId, job_ids: Iterable[JobId]) -> None:
        """It spoke of jobs that are not known: it is to tell them, by and by."""
        if self._epoch is not None:
            wants = self._wants.setdefault(node_id, {})
            room = INVENTORY_JOBS_MAX - len(wants)
            wants.update(dict.fromkeys(islice(job_ids, max(0, room))))

    def on_inventory(self, sender: NodeId, answer: Inventory) -> None:
        if answer.epoch != self._epoch or not self._pool.is_up(sender):
            return
        self.hear(sender)
        if not answer.ready:
            return
        first_round = self._first_round.get(sender)
        if first_round is None or answer.round < first_round:
            return
        if sender not in self._answered:
            self._answered[sender] = None
            self._answers[sender] = answer

    def extend(self, until_ms: int) -> None:
        """Somebody is just telling what its table has: he is waited for."""
        if self._deadline_ms is not None:
            self._deadline_ms = max(self._deadline_ms, until_ms)
            self._silent_at_ms = max(self._silent_at_ms, until_ms)

    def close(self, now_ms: int) -> bool:
        """Is the takeover over with this? True once, when it is."""
        if self._deadline_ms is None:
            return False
        if now_ms < self._deadline_ms and self._awaited(now_ms):
            return False
        self._deadline_ms = None
        return True

    def to_judge(self) -> list[tuple[NodeId, Inventory]]:
        """Answers by node, once it is time to judge them."""
        if not self._answers or self.is_taking():
            return []
        answers, self._answers = self._answers, {}
        return sorted(answers.items())

    def next_deadline_ms(self) -> int | None:
        if self._epoch is None:
            return None
        deadlines = [self._due_ms(node_id) for node_id in self._to_ask()]
        if self._deadline_ms is not None:
            deadlines.append(self._deadline_ms)
        return min(deadlines, default=None)

    def check(self) -> None:
        assert not self._answers or self.is_taking(), "answers are judged when they can be"

    def _to_ask(self) -> list[NodeId]:
        """Who has not answered, and who has still to tell a job, once the takeover is over."""
        if self.is_taking():
            return self._missing()
        return [n for n in self._pool.up() if n not in self._answered or n in self._wants]

    def _awaited(self, now_ms: int) -> list[NodeId]:
        """Whose answer the takeover waits for. Looked at with every round of questions."""
        missing = [node_id for node_id in self._missing() if node_id != self._fallen]
        if now_ms < self._silent_at_ms:
            return missing
        return [node_id for node_id in missing if node_id in self._heard]

    def _missing(self) -> list[NodeId]:
        return [node_id for node_id in self._pool.up() if node_id not in self._answered]

    def _due_ms(self, node_id: NodeId) -> int:
        """When it is to be asked (again); 0: at once."""
        asked_ms = self._asked_ms.get(node_id)
        if asked_ms is None:
            return 0
        config = self._config
        return asked_ms + (
            config.ask_interval_ms if self.is_taking() else config.ask_later_interval_ms
        )
