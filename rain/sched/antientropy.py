"""Everybody ends up with the whole table, and what one node alone knows reaches the coordinator.

Roles and messages. Two ways, both over streams, both under the epoch that is followed:

* Spreading: the coordinator posts what is new to all keepers, gathered for `spread_interval_ms`,
  so that reads on any node are fresh. Lost with its stream, and nobody minds.
* Exchange: acknowledgements of heartbeats carry the follower's table digest. One that differs for
  `differs_ms` gets the coordinator's digests job by job, page after page (Digests). It answers
  with all it knows of the jobs that differ and with those it wants (Patch); the coordinator
  merges and sends the wanted. Without this a job that was acknowledged by an earlier reign could
  lie on a live disk, unknown to the coordinator (E5).

A follower is *heard* when all it knows is known here: its digest was the same, or it has answered
every page, to the last frame, with nothing cut off. A takeover waits for that: what succeeded must
not be placed again because its outcome was on the second page.

Jobs that were forgotten are compared by day (tombstones.py), after all others.

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
from rain.sched.messages import DIGESTS_MAX, NOT_A_JOB, Digests, JobPatch, Patch
from rain.sched.pool import Pool

FRAMES_MAX = 16
"""Of patches, in answer to one message."""
FRAMES_TASKS_MAX = 20_000
"""Of one job, in answer to one message."""
STONES_MAX = 10_000
"""Tombstones of one day, in answer to one message."""
DUE_MAX = 4 * FRAMES_MAX
"""Frames that one follower may still send because it was asked; several pages may be under way."""
RESUMES_MAX = 1_000
"""Jobs that were cut, each for one peer, remembered; a forgotten one begins anew."""
SPREAD_MAX = 20_000
"""Patches gathered for spreading; beyond it they are dropped and exchanges make up for it."""
EXCHANGE_BYTES_PER_MS = 1_000

WISHED = 1
"""In the place of a page's number: in answer to a wish."""
UNASKED = "knowledge_unasked"


class AntiEntropyConfig(Value, frozen=True):
    spread_interval_ms: int = 250
    differs_ms: int = 300
    exchange_interval_ms: int = 1_000
    exchange_timeout_ms: int = 2_000
    page_again_ms: int = 600
    """A takeover asks anew when a page was not answered for so long."""
    busy_ms: int = 3_000
    """A follower that is about to answer something else is left alone for so long at most."""


@dataclass(slots=True)
class _Follower:
    """What the coordinator knows of one follower's table."""

    differs_since_ms: int | None = None
    asked_ms: int | None = None
    """When the exchange in flight began; None: there is none."""
    not_before_ms: int = 0
    answered_ms: int | None = None
    """When it last answered a page."""
    next_page: JobId | None = None
    """Where the one after it begins; None: it is the last."""
    page: int = 0
    is_cut: bool = False
    """Something of this exchange was too large to be answered in one go."""
    is_heard: bool = False
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
        self._last_page = WISHED
        self._resumes: dict[tuple[NodeId, JobId], int] = {}
        """Where to go on, in what is too large for one answer: the first task not sent, or so many
        tombstones of a day."""

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
            follower.is_heard = True
            return []
        if follower.differs_since_ms is None:
            follower.differs_since_ms = now_ms
        differs_ms = now_ms - follower.differs_since_ms
        if differs_ms < (self._config.busy_ms if is_busy else self._config.differs_ms):
            return []
        if self._is_under_way(follower, now_ms) or now_ms < follower.not_before_ms:
            return []
        return self._begin(node_id, follower, now_ms)

    def agrees_with(self, node_id: NodeId, digest: bytes) -> bool:
        """Its table was like this one when it was last heard, and is so now."""
        follower = self._followers.get(node_id)
        return (
            follower is not None
            and follower.differs_since_ms is None
            and digest == self._ledger.table.digest()
        )

    def exchange_with(self, node_id: NodeId, now_ms: int) -> list[Output]:
        """A takeover does not wait for digests to differ; what is under way goes on."""
        follower = self._followers.setdefault(node_id, _Follower())
        if follower.page and self._is_under_way(follower, now_ms, self._config.page_again_ms):
            return []
        return self._begin(node_id, follower, now_ms)

    def is_heard(self, node_id: NodeId) -> bool:
        """Is all that it knew known here, in this reign?

        A worker has no table; nor has this node another one.
        """
        if node_id == self._pool.node_id or not self._pool.is_keeper(node_id):
            return True
        follower = self._followers.get(node_id)
        return follower is not None and follower.is_heard

    def is_hearing(self, node_id: NodeId, now_ms: int) -> bool:
        """Is it about to be heard: a page of a large table was answered just now?"""
        follower = self._followers.get(node_id)
        return (
            follower is not None
            and not follower.is_heard
            and follower.answered_ms is not None
            and now_ms - follower.answered_ms < self._config.page_again_ms
        )

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
        posts, sent_bytes = self._wanted(sender, message)
        pause_ms = sent_bytes // EXCHANGE_BYTES_PER_MS
        follower.not_before_ms = max(follower.not_before_ms, now_ms + pause_ms)
        outputs += posts
        # A follower of the last release repeats no number: its first frame counts as its last.
        if message.page not in (0, follower.page) or follower.asked_ms is None:
            return outputs  # in answer to what is asked no more, or to a wish
        follower.asked_ms = follower.answered_ms = now_ms
        follower.is_cut |= message.is_cut
        if message.frames_left:
            return outputs
        if follower.next_page is not None:
            return [*outputs, self._page(sender, follower, follower.next_page)]
        follower.asked_ms = None
        if not follower.is_cut:
            follower.is_heard = True
        elif not follower.is_heard:
            outputs += self._begin(sender, follower, now_ms)
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
        wants = tuple(
            job_id
            for job_id, digest in theirs.items()
            if mine.get(job_id) != digest and not self._ledger.table.is_forgotten(job_id)
        )
        patches = self._patches(sender, message.epoch, told, wants, message.page)
        return [Post(sender, patch) for patch in patches]

    def on_news(self, sender: NodeId, message: Patch) -> list[Output]:
        """The coordinator's knowledge and wishes."""
        news = self._ledger.merge(message.patches, is_vouched=True)
        return [*self._ledger.persist(news), *self._wanted(sender, message)[0]]

    # --- Inside ----------------------------------------------------------------------------------

    def _is_under_way(self, follower: _Follower, now_ms: int, patience_ms: int = 0) -> bool:
        """Is there an exchange, and does it still make progress?"""
        patience_ms = patience_ms or self._config.exchange_timeout_ms
        return follower.asked_ms is not None and now_ms - follower.asked_ms < patience_ms

    def _begin(self, node_id: NodeId, follower: _Follower, now_ms: int) -> list[Output]:
        follower.asked_ms = now_ms
        follower.not_before_ms = now_ms + self._config.exchange_interval_ms
        follower.is_cut = False
        return [self._page(node_id, follower, JobId(""))]

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
        self._last_page += 1
        follower.page = self._last_page
        return Post(node_id, Digests(self._epoch, first, last, digests, follower.page))

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
        patches = self._patches(node_id, message.epoch, known, (), WISHED)
        sent_bytes = sum(patch_bytes(part) for patch in patches for part in patch.patches)
        return [Post(node_id, patch) for patch in patches], sent_bytes

    def _patches(
        self, to: NodeId, epoch: Epoch, entries: list[JobId], wants: tuple[JobId, ...], page: int
    ) -> list[Patch]:
        """Frames with what is known under these ids; the wishes go with the first."""
        begun: dict[JobId, int] = {}
        is_cut = False
        known = (part for each in entries for part in self._from_where_it_was_cut(to, each, begun))
        every = frames(known)
        joined = list(islice(every, FRAMES_MAX))
        for patch in (patch for frame in joined for patch in frame):
            if patch.tasks:
                begun[patch.job_id] = patch.tasks[-1].last + 1
        for job_id, following in begun.items():
            if following and self._ledger.table.patch(job_id, following, 1).tasks:
                self._resume(to, job_id, following)
                is_cut = True
        is_cut = is_cut or next(every, None) is not None
        return [
            Patch(
                epoch, frame, () if index else wants, page, max(0, len(joined) - 1 - index), is_cut
            )
            for index, frame in enumerate(joined or [()])
        ]

    def _from_where_it_was_cut(
        self, to: NodeId, entry_id: JobId, begun: dict[JobId, int]
    ) -> list[JobPatch]:
        """What to send under this id: a job's head, and its tasks from where the last answer ended;
        of a day of forgetting as many tombstones as one answer may hold."""
        start = self._resumes.pop((to, entry_id), 0)
        if not entry_id.startswith(NOT_A_JOB):
            begun[entry_id] = start
            return [self._ledger.table.patch(entry_id, start, FRAMES_TASKS_MAX)]
        stones = self._ledger.table.tombstones.patches(entry_id, start, STONES_MAX)
        if len(stones) == STONES_MAX:
            self._resume(to, entry_id, start + STONES_MAX)
        return stones

    def _resume(self, to: NodeId, job_id: JobId, task: int) -> None:
        self._resumes[(to, job_id)] = task
        while len(self._resumes) > RESUMES_MAX:
            del self._resumes[next(iter(self._resumes))]
