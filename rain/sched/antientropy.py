"""Everybody ends up with the whole table, and what one node alone knows reaches the coordinator.

Roles and messages. Two ways, both over streams, both under the epoch that is followed:

* Spreading: the coordinator posts what is new to all keepers, gathered for `spread_interval_ms`,
  so that reads on any node are fresh. Lost with its stream, and nobody minds.
* Exchange: acknowledgements of heartbeats carry the follower's table digest. One that differs for
  `differs_ms` gets the coordinator's digests job by job, page after page (Digests). It answers
  with all it knows of the jobs that differ and with those it wants (Patch); the coordinator
  merges and sends the wanted. Without this a job that was acknowledged by an earlier reign could
  lie on a live disk, unknown to the coordinator (E5).

Bounds. With one follower one exchange is in flight, the next begins `exchange_interval_ms` later
at the earliest, or so much later that no more than EXCHANGE_BYTES_PER_MS flow on average; at most
FRAMES_MAX frames are sent at a time (what differs still will differ the next time). A job that is
larger than that goes on, the next time, where it was cut.

Nobody brings the coordinator what it has not asked for: such a Patch is dropped and counted.

Workers take no part: they keep no copies, and whatever digest they acknowledge is ignored.

What it does not do: count copies. Knowledge that arrives this way is acknowledged to nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from rain.effects import Output, Post
from rain.model import Epoch, JobId, NodeId, Value
from rain.sched.ledger import Ledger, frames, gathered, patch_bytes
from rain.sched.messages import DIGESTS_MAX, Digests, JobPatch, Patch
from rain.sched.pool import Pool

FRAMES_MAX = 16
"""Of patches, in answer to one message."""
FRAMES_TASKS_MAX = 20_000
"""Of one job, in answer to one message."""
DUE_MAX = 4 * FRAMES_MAX
"""Frames that one follower may still send because it was asked; several pages may be under way."""
RESUMES_MAX = 1_000
"""Jobs that were cut, each for one peer, remembered; a forgotten one begins anew."""
SPREAD_MAX = 20_000
"""Patches gathered for spreading; beyond it they are dropped and exchanges make up for it."""
EXCHANGE_BYTES_PER_MS = 1_000

UNASKED = "knowledge_unasked"


class AntiEntropyConfig(Value, frozen=True):
    spread_interval_ms: int = 250
    differs_ms: int = 300
    exchange_interval_ms: int = 1_000
    exchange_timeout_ms: int = 2_000


@dataclass(slots=True)
class _Follower:
    """What the coordinator knows of one follower's table."""

    differs_since_ms: int | None = None
    asked_ms: int | None = None
    """When the exchange in flight began; None: there is none."""
    not_before_ms: int = 0
    next_page: JobId | None = None
    has_answered: bool = False
    due: int = 0
    """Frames it may still answer with."""

    def ask(self) -> None:
        self.due = min(self.due + FRAMES_MAX, DUE_MAX)


class AntiEntropy:
    """Both sides; the coordinator's is idle while another node reigns."""

    def __init__(self, config: AntiEntropyConfig, ledger: Ledger, pool: Pool) -> None:
        self.dropped: dict[str, int] = {}
        self._config = config
        self._ledger = ledger
        self._pool = pool
        self._epoch: Epoch | None = None
        self._followers: dict[NodeId, _Follower] = {}
        self._news: list[JobPatch] = []
        self._spread_ms: int | None = None
        self._resumes: dict[tuple[NodeId, JobId], int] = {}
        """Where to go on, in jobs too large for one answer: the first task not sent."""

    # --- The coordinator's side ------------------------------------------------------------------

    def reign(self, epoch: Epoch | None) -> None:
        """This node reigns under that epoch now, or does not."""
        if epoch is None or self._epoch is None:
            self._followers.clear()
            self._news.clear()
            self._spread_ms = None
        self._epoch = epoch

    def gather(self, news: Iterable[JobPatch], now_ms: int) -> None:
        """News to be spread with the next batch."""
        self._news.extend(news)
        del self._news[SPREAD_MAX:]
        if self._news and self._spread_ms is None:
            self._spread_ms = now_ms + self._config.spread_interval_ms

    def on_follower_heard(
        self, node_id: NodeId, digest: bytes, is_busy: bool, now_ms: int
    ) -> list[Output]:
        """It acknowledged a heartbeat: does its table differ, and for how long?"""
        if self._epoch is None or not self._pool.is_keeper(node_id):
            return []
        follower = self._followers.setdefault(node_id, _Follower())
        if digest == self._ledger.table.digest():
            follower.differs_since_ms = None
            return []
        if follower.differs_since_ms is None:
            follower.differs_since_ms = now_ms
        if is_busy or now_ms - follower.differs_since_ms < self._config.differs_ms:
            return []
        is_over = follower.asked_ms is None or (
            now_ms - follower.asked_ms >= self._config.exchange_timeout_ms
        )
        if not is_over or now_ms < follower.not_before_ms:
            return []
        return self.exchange_with(node_id, now_ms)

    def exchange_with(self, node_id: NodeId, now_ms: int) -> list[Output]:
        """Begin an exchange now; a takeover does not wait for digests to differ."""
        follower = self._followers.setdefault(node_id, _Follower())
        follower.asked_ms = now_ms
        follower.not_before_ms = now_ms + self._config.exchange_interval_ms
        follower.next_page = None
        return [self._page(node_id, follower, JobId(""))]

    def is_heard(self, node_id: NodeId) -> bool:
        """Has it said, in this reign, what its table has that this one lacks?

        A worker has no table; nor has this node another one.
        """
        if node_id == self._pool.node_id or not self._pool.is_keeper(node_id):
            return True
        follower = self._followers.get(node_id)
        return follower is not None and follower.has_answered

    def forget(self, node_id: NodeId) -> None:
        """It went; should it return, everything begins anew."""
        self._followers.pop(node_id, None)

    def on_answer(self, sender: NodeId, message: Patch, now_ms: int) -> list[Output]:
        """A follower's knowledge and wishes."""
        follower = self._followers.get(sender)
        if follower is None or not follower.due:
            self.dropped[UNASKED] = self.dropped.get(UNASKED, 0) + 1
            return []
        follower.due -= 1
        outputs: list[Output] = [*self._ledger.persist(self._ledger.merge(message.patches))]
        if follower.asked_ms is not None:
            follower.has_answered = True
        posts, sent_bytes = self._wanted(sender, message)
        pause_ms = sent_bytes // EXCHANGE_BYTES_PER_MS
        follower.not_before_ms = max(follower.not_before_ms, now_ms + pause_ms)
        follower.asked_ms = None
        outputs += posts
        if follower.next_page is not None:
            follower.asked_ms = now_ms
            outputs.append(self._page(sender, follower, follower.next_page))
        return outputs

    def want(self, node_id: NodeId, jobs: Iterable[JobId]) -> list[Output]:
        """Ask a member for jobs that it spoke of and this table lacks."""
        wants = tuple(islice(jobs, DIGESTS_MAX))
        if self._epoch is None or not wants or not self._pool.is_keeper(node_id):
            return []
        self._followers.setdefault(node_id, _Follower()).ask()
        return [Post(node_id, Patch(self._epoch, (), wants))]

    def on_deadline(self, now_ms: int) -> list[Output]:
        if self._epoch is None or self._spread_ms is None or now_ms < self._spread_ms:
            return []
        news, self._news, self._spread_ms = self._news, [], None
        return [
            Post(node_id, Patch(self._epoch, frame))
            for frame in frames(gathered(news))
            for node_id in self._pool.other_keepers()
        ]

    def next_deadline_ms(self) -> int | None:
        return self._spread_ms

    # --- The follower's side ---------------------------------------------------------------------

    def on_digests(self, sender: NodeId, message: Digests) -> list[Output]:
        """Answer with what differs here, and with what is wanted from there."""
        theirs = {entry.job_id: entry.digest for entry in message.digests}
        mine = self._digests_between(message.first, message.last)
        told = [job_id for job_id, digest in mine.items() if theirs.get(job_id) != digest]
        wants = tuple(job_id for job_id, digest in theirs.items() if mine.get(job_id) != digest)
        return [Post(sender, patch) for patch in self._patches(sender, message.epoch, told, wants)]

    def on_news(self, sender: NodeId, message: Patch) -> list[Output]:
        """The coordinator's knowledge and wishes."""
        news = self._ledger.merge(message.patches, is_vouched=True)
        return [*self._ledger.persist(news), *self._wanted(sender, message)[0]]

    # --- Inside ----------------------------------------------------------------------------------

    def _page(self, node_id: NodeId, follower: _Follower, first: JobId) -> Post:
        assert self._epoch is not None, "only a coordinator begins an exchange"
        digests = self._ledger.table.digests(first, DIGESTS_MAX)
        last = JobId("")
        follower.ask()
        follower.next_page = None
        if len(digests) == DIGESTS_MAX:
            last = digests[-1].job_id
            # The smallest string after it: no job between two pages is left out.
            follower.next_page = JobId(last + "\0")
        return Post(node_id, Digests(self._epoch, first, last, digests))

    def _digests_between(self, first: JobId, last: JobId) -> dict[JobId, bytes]:
        found: dict[JobId, bytes] = {}
        while True:
            page = self._ledger.table.digests(first, DIGESTS_MAX)
            for entry in page:
                if last and entry.job_id > last:
                    return found
                found[entry.job_id] = entry.digest
            if len(page) < DIGESTS_MAX:
                return found
            first = JobId(page[-1].job_id + "\0")

    def _wanted(self, node_id: NodeId, message: Patch) -> tuple[list[Output], int]:
        known = [job_id for job_id in message.wants if self._ledger.is_known(job_id)]
        if not known:
            return [], 0
        patches = self._patches(node_id, message.epoch, known, ())
        sent_bytes = sum(patch_bytes(part) for patch in patches for part in patch.patches)
        return [Post(node_id, patch) for patch in patches], sent_bytes

    def _patches(
        self, to: NodeId, epoch: Epoch, job_ids: list[JobId], wants: tuple[JobId, ...]
    ) -> list[Patch]:
        """Frames with what is known of these jobs; the wishes go with the first."""
        begun: dict[JobId, int] = {}
        known = (self._from_where_it_was_cut(to, job_id, begun) for job_id in job_ids)
        joined = list(islice(frames(known), FRAMES_MAX))
        for patch in (patch for frame in joined for patch in frame):
            if patch.tasks:
                begun[patch.job_id] = patch.tasks[-1].last + 1
        for job_id, following in begun.items():
            if following and self._ledger.table.patch(job_id, following, 1).tasks:
                self._resume(to, job_id, following)
        first = joined[0] if joined else ()
        return [Patch(epoch, first, wants), *(Patch(epoch, frame) for frame in joined[1:])]

    def _from_where_it_was_cut(
        self, to: NodeId, job_id: JobId, begun: dict[JobId, int]
    ) -> JobPatch:
        """What to send of this job: its head, and its tasks from where the last answer ended."""
        begun[job_id] = self._resumes.pop((to, job_id), 0)
        return self._ledger.table.patch(job_id, begun[job_id], FRAMES_TASKS_MAX)

    def _resume(self, to: NodeId, job_id: JobId, task: int) -> None:
        self._resumes[(to, job_id)] = task
        while len(self._resumes) > RESUMES_MAX:
            del self._resumes[next(iter(self._resumes))]
