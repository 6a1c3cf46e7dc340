"""The coordinator: decides for every task what becomes of it, and sees to it that it happens.

Every node has this core; it is idle while another one reigns. It composes what is taken in
(intake), who runs what (takeover asks, judgement concludes), who holds copies (replication), who
lacks what (antientropy), what is ordered (orders) and where a task may go (placement).

A reign begins with an inventory; until it is closed nothing is judged and nothing placed. Then
every change may make room or work, so one pass of placement follows every event, at most one
each `place_interval_ms`; what it decides is on this disk before the order leaves.

Messages. In: Propose, Report, Inventory, Replicated, Patch. Out: Accepted, Assign, Stop,
ReportAck, InventoryRequest, Replicate, Digests, Patch.

A node counts as gone by gossip's word, by this node's own evidence (MemberUnreachable: E19), when
nothing was seen of it for `absent_ms`, or once it is removed from the pool: then its tasks go
elsewhere, and the jobs that were submitted on it go on. While it is behind the brake its tasks
are left alone, and jobs of those behind the brake are not started.

Invariants.
J3 What one reign places on a node never exceeds what the node said to have.
J6 Every task that is not over waits for a named thing (`why`): a report, an instant, room.
The others are those of the parts.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from rain.effects import (
    BrakeChanged,
    Effect,
    EpochSeen,
    FactsChanged,
    FollowerHeard,
    MemberUnreachable,
    Output,
)
from rain.model import AttemptId, Epoch, Job, JobId, NodeId, Resources, Value
from rain.sched import decisions
from rain.sched.antientropy import AntiEntropy, AntiEntropyConfig
from rain.sched.calendar import Calendar
from rain.sched.capacities import Capacities
from rain.sched.cells import is_active
from rain.sched.intake import Intake
from rain.sched.judgement import Judgement, JudgementConfig
from rain.sched.ledger import Ledger
from rain.sched.messages import (
    Inventory,
    JobPatch,
    Patch,
    Propose,
    Replicated,
    Report,
)
from rain.sched.orders import Orders, OrdersConfig, Reign
from rain.sched.placement import Offer, Pick, Wish, place, why
from rain.sched.pool import Pool
from rain.sched.refusals import Refusals, RefusalsConfig
from rain.sched.replication import Replication, ReplicationConfig
from rain.sched.retention import Retention, RetentionConfig
from rain.sched.takeover import Inventories, TakeoverConfig

PASS_JOBS_MAX = 1_000
"""Jobs looked at in one pass of placement."""


class CoordinatorConfig(Value, frozen=True):
    place_interval_ms: int = 10
    sweep_interval_ms: int = 500
    absent_ms: int = 15_000
    blocked_ms: int = 1_000
    """A task that a later reign has decided on is looked at again after so long."""
    hearing_ms: int = 10_000
    """A takeover waits so long at most for those who are telling of a large table."""
    antientropy: AntiEntropyConfig = AntiEntropyConfig()
    judgement: JudgementConfig = JudgementConfig()
    orders: OrdersConfig = OrdersConfig()
    refusals: RefusalsConfig = RefusalsConfig()
    replication: ReplicationConfig = ReplicationConfig()
    retention: RetentionConfig = RetentionConfig()
    takeover: TakeoverConfig = TakeoverConfig()


class Coordinator:
    """The decisions of this node's reign."""

    def __init__(
        self,
        config: CoordinatorConfig,
        ledger: Ledger,
        pool: Pool,
        antientropy: AntiEntropy,
        calendar: Calendar,
    ) -> None:
        self.dropped: dict[str, int] = {}
        self._config = config
        self._ledger = ledger
        self._table = ledger.table
        self._board = ledger.board
        self._pool = pool
        self._reign = Reign()
        self._antientropy = antientropy
        self._replication = Replication(config.replication, ledger, pool)
        self._intake = Intake(ledger, pool, self._replication)
        self._inventories = Inventories(config.takeover, pool)
        self._refusals = Refusals(config.refusals)
        self._orders = Orders(config.orders, self._table, self._reign, pool)
        self.judgement = Judgement(
            config.judgement,
            ledger,
            self._reign,
            self._orders,
            self._replication,
            antientropy,
            self._refusals,
            self._inventories,
            pool,
        )
        self._calendar = calendar
        self._retention = Retention(config.retention, ledger, calendar, self._concerned)
        self._hearing_until_ms = 0
        self._absent: dict[NodeId, int] = {}
        self.unreachable: dict[NodeId, None] = {}
        self._capacities = Capacities(pool)
        self._is_dirty = False
        self._placed_ms = 0
        self._swept_ms = 0

    def counters(self) -> tuple[dict[str, int], ...]:
        """What was dropped here and in the parts."""
        return (
            self.dropped,
            self._intake.dropped,
            self._replication.dropped,
            self._antientropy.dropped,
            self.judgement.dropped,
        )

    # --- What others may look at -----------------------------------------------------------------

    def is_reigning(self) -> bool:
        return self._reign.epoch is not None

    def is_taking_inventory(self) -> bool:
        return self._inventories.is_taking()

    def unsettled(self) -> set[AttemptId]:
        """Attempts whose outcome is not yet on enough disks."""
        return self._replication.unsettled()

    def why(self, job: Job, now_ms: int) -> dict[str, int]:
        """Why no more of its tasks run, as nodes by reason; empty while there is room."""
        return why(self._wish(job, 1, now_ms), self._offers(with_down=True))

    # --- The reign -------------------------------------------------------------------------------

    def begin(self, epoch: Epoch, fallen: NodeId | None, now_ms: int) -> list[Output]:
        """A new reign: take inventory before anything else, and whatever the others know."""
        self.end()
        self._reign.epoch = epoch
        self._reign.epochs[epoch] = None
        self._pool.note_loss(now_ms)
        self._replication.begin(epoch, fallen)
        self._antientropy.reign(epoch)
        self._inventories.begin(epoch, fallen, now_ms)
        self._retention.begin(now_ms)
        self._hearing_until_ms = now_ms + self._config.hearing_ms
        self._swept_ms = now_ms
        self._capacities.note()
        return []

    def renumber(self, epoch: Epoch, now_ms: int) -> list[Output]:
        """The same reign under a higher number: nothing is forgotten."""
        assert self._reign.epoch is not None, "what is renumbered has begun"
        self._reign.epoch = epoch
        self._reign.epochs[epoch] = None
        self._antientropy.reign(epoch)
        self._inventories.renumber(epoch)
        self._is_dirty = True
        outputs = self._replication.renumber(epoch, now_ms)
        for job_id, task in self._reign.take_blocked():
            outputs += self._doubt(job_id, task, now_ms)
        return outputs

    def end(self) -> None:
        """Another one reigns, or nobody."""
        self._reign.end()
        self._antientropy.reign(None)
        self._replication.end()
        self._inventories.end()
        self._retention.end()
        self._refusals.clear()
        self._orders.clear()
        self.judgement.clear()
        self._absent.clear()
        self.unreachable.clear()
        self._capacities.clear()
        self._is_dirty = False

    def note_beat(self, epoch: Epoch, beat: int) -> None:
        self._reign.note_beat(epoch, beat)

    # --- What members say ------------------------------------------------------------------------

    def on_propose(self, sender: NodeId, message: Propose, now_ms: int) -> list[Output]:
        if self._reign.epoch is None:
            return self._drop("proposal_not_taken")
        return self._intake.on_propose(sender, message, self._reign.epoch, now_ms)

    def on_report(self, sender: NodeId, message: Report, now_ms: int) -> list[Output]:
        if message.epoch not in self._reign.epochs:
            return self._drop("report_to_another_reign")
        if self._inventories.is_taking():
            return self._drop("report_before_inventory")
        return self.judgement.on_reports(sender, message.attempts, now_ms)

    def on_inventory(self, sender: NodeId, message: Inventory) -> list[Output]:
        if message.epoch != self._reign.epoch:
            return self._drop("inventory_of_another_reign")
        outputs = self.judgement.take_in(sender, message.jobs)
        # What a worker no longer knows may have succeeded: its table has to speak first.
        if self._antientropy.is_heard(sender):
            own = tuple(each for each in message.attempts if each.attempt_id.node_id == sender)
            if len(own) < len(message.attempts):
                self._drop("not_its_attempt")
            self._inventories.on_inventory(sender, replace(message, attempts=own))
            if self._inventories.is_inventoried(sender):  # Asked after it was given up: it is back.
                self.unreachable.pop(sender, None)
        return outputs

    def on_replicated(self, sender: NodeId, message: Replicated, now_ms: int) -> list[Output]:
        return self._replication.on_replicated(sender, message, now_ms)

    def on_patch(self, sender: NodeId, message: Patch, now_ms: int) -> list[Output]:
        return self._antientropy.on_answer(sender, message, now_ms)

    # --- What siblings say -----------------------------------------------------------------------

    def on_member_up(self, node_id: NodeId, is_new: bool, now_ms: int) -> list[Output]:
        """It is here, or its role is another one now."""
        if not self.is_reigning():
            return []
        self._is_dirty = True
        self._capacities.note()
        if is_new:
            self.unreachable.pop(node_id, None)
            self._inventories.forget(node_id)
            self._antientropy.forget(node_id)
            self._replication.on_new_life(node_id)
        return self._replication.on_members(now_ms)

    def on_member_gone(self, node_id: NodeId, reason: str, now_ms: int) -> list[Output]:
        self._calendar.forget(node_id)
        if not self.is_reigning():
            return []
        self._inventories.forget(node_id)
        self._antientropy.forget(node_id)
        outputs = self._replication.on_members(now_ms)
        return outputs + self._lose(node_id, reason, now_ms)

    def on_unreachable(self, notice: MemberUnreachable, now_ms: int) -> list[Output]:
        if not self.is_reigning() or not self._pool.is_up(notice.node_id):
            return []
        self.unreachable[notice.node_id] = None
        self._inventories.forget(notice.node_id)
        return self._lose(notice.node_id, "node unreachable", now_ms)

    def on_facts(self, notice: FactsChanged) -> None:
        self._is_dirty = True
        if self.is_reigning():
            self._capacities.note()

    def on_brake(self, notice: BrakeChanged, now_ms: int) -> list[Output]:
        self._is_dirty = True
        return self._sweep(now_ms) if self.is_reigning() else []

    def on_members_counted(self, now_ms: int) -> list[Output]:
        """The view changed: other numbers of copies may be enough."""
        return self._replication.on_members(now_ms) if self.is_reigning() else []

    def on_follower_heard(self, notice: FollowerHeard, now_ms: int) -> list[Output]:
        node_id = notice.node_id
        if self.unreachable.pop(node_id, 0) is None:
            self._is_dirty = True
        self._inventories.hear(node_id)
        is_busy = self._replication.is_busy_with(node_id)
        return self._antientropy.on_follower_heard(node_id, notice.digest, is_busy, now_ms)

    # --- What follows every event ----------------------------------------------------------------

    def on_news(self, news: Iterable[JobPatch], now_ms: int) -> list[Output]:
        """The table has grown, by whatever way: spread it, and see what it asks for."""
        outputs: list[Output] = []
        for patch in news:
            self._is_dirty = True
            if patch.forgotten:
                outputs += self.judgement.bury(patch.job_id, now_ms)
            if patch.cancelled_through and self._table.cancelled(patch.job_id):
                outputs += self.judgement.cancel(patch.job_id, now_ms)
            if patch.job is not None and not self._inventories.is_taking():
                outputs += self.judgement.learn(patch.job_id, now_ms)
            for part in patch.tasks:
                if part.ends and not self._inventories.is_taking():
                    outputs += self.judgement.conclude(patch.job_id, part.first, now_ms)
                if part.cell.epoch is not None and part.cell.epoch not in self._reign.epochs:
                    for task in range(part.first, part.last + 1):
                        outputs += self._doubt(patch.job_id, task, now_ms)
            self._antientropy.gather((patch,), now_ms)
        return outputs

    def advance(self, now_ms: int) -> list[Output]:
        """Ask, judge, repeat, place: whatever has become due."""
        if not self.is_reigning():
            return []
        outputs = self._ask(now_ms)
        if self._is_hearing(now_ms):
            self._inventories.extend(now_ms + self._config.takeover.ask_interval_ms)
        is_closed = self._inventories.close(now_ms)
        for node_id, inventory in self._inventories.to_judge():
            self._is_dirty = True
            outputs += self.judgement.on_inventory(node_id, inventory.attempts, now_ms)
        outputs += self._ledger.after_writes(self._orders.on_deadline(now_ms))
        outputs += self._replication.on_deadline(now_ms)
        if self._pool.end_grace(now_ms):
            outputs += self._replication.on_members(now_ms)
        if is_closed or now_ms >= self._swept_ms + self._config.sweep_interval_ms:
            outputs += self._sweep(now_ms)
        outputs += self._antientropy.on_deadline(now_ms)
        outputs += self._retention.advance(now_ms)
        outputs += self._maybe_place(now_ms)
        later = self._reign.take_later()
        return outputs if later is None else [*outputs, EpochSeen(later)]

    def _ask(self, now_ms: int) -> list[Output]:
        """Tables, then inventories: streams keep that order, and the answers come in it."""
        requests = self._inventories.ask(self._reign.beat, now_ms)
        outputs: list[Output] = []
        for request in requests:
            if not self._antientropy.is_heard(request.to):
                outputs += self._antientropy.exchange_with(request.to, now_ms)
        return [*outputs, *requests]

    def next_deadline_ms(self) -> int | None:
        if not self.is_reigning():
            return None
        soonest_ms: int | None = None
        if self._board.nodes():
            soonest_ms = self._swept_ms + self._config.sweep_interval_ms
        if self._is_dirty and not self._inventories.is_taking():
            placing_ms = self._placed_ms + self._config.place_interval_ms
            soonest_ms = placing_ms if soonest_ms is None else min(soonest_ms, placing_ms)
        for at_ms in (
            self._inventories.next_deadline_ms(),
            self._orders.next_deadline_ms(),
            self._replication.next_deadline_ms(),
            self._antientropy.next_deadline_ms(),
            self._retention.next_deadline_ms(),
            self._pool.grace_until_ms(),
            self._board.next_release_ms(),
            self._refusals.next_release_ms(),
        ):
            if at_ms is not None and (soonest_ms is None or at_ms < soonest_ms):
                soonest_ms = at_ms
        return soonest_ms

    def check(self) -> None:
        self._replication.check()
        self._inventories.check()
        is_asked_anew = not any(map(self._inventories.is_inventoried, self.unreachable))
        assert is_asked_anew, "whoever is given up is asked anew what it runs"
        self.judgement.check()
        self._capacities.check(self._board, self._table, self._reign.epochs)

    # --- Inside ----------------------------------------------------------------------------------

    def _drop(self, reason: str) -> list[Output]:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        return []

    def _is_hearing(self, now_ms: int) -> bool:
        """Would the takeover end while somebody is telling what the tables here lack?"""
        if not self._inventories.is_taking() or now_ms >= self._hearing_until_ms:
            return False
        return any(self._antientropy.is_hearing(n, now_ms) for n in self._pool.other_keepers())

    def _concerned(self) -> set[JobId]:
        """Jobs of which something runs, is ordered, or is not safe yet."""
        under_way = self.judgement.jobs() | self._orders.jobs() | self._replication.jobs()
        return under_way | self._board.active_jobs()

    def _doubt(self, job_id: JobId, task: int, now_ms: int) -> list[Output]:
        """Another reign has decided: ask that node what it runs, look again at what runs here."""
        if self._inventories.is_taking():
            return []
        cell = self._table.cell(job_id, task)
        if is_active(cell) and cell.attempt_id is not None:
            self._inventories.forget(cell.attempt_id.node_id)
        if self._table.job(job_id) is None:
            return []
        return self.judgement.review(job_id, task, now_ms)

    def _lose(self, node_id: NodeId, reason: str, now_ms: int) -> list[Output]:
        if self._inventories.is_taking() or self._pool.is_behind_the_brake(node_id):
            return []
        self._is_dirty = True
        self._absent.pop(node_id, None)
        return self.judgement.lose_node(node_id, reason, now_ms)

    def _sweep(self, now_ms: int) -> list[Output]:
        """Nodes that cells name and that are not here: gone, or not seen for too long?"""
        self._swept_ms = now_ms
        self._is_dirty = True
        outputs: list[Output] = []
        for node_id in self._board.nodes():
            is_gone = self._pool.is_gone(node_id) or node_id in self.unreachable
            if self._pool.is_up(node_id) and not is_gone:
                self._absent.pop(node_id, None)
                continue
            since_ms = self._absent.setdefault(node_id, now_ms)
            if is_gone or now_ms - since_ms >= self._config.absent_ms:
                outputs += self._lose(node_id, "node gone", now_ms)
        return outputs

    def _maybe_place(self, now_ms: int) -> list[Output]:
        if self._board.release(now_ms) | self._refusals.release(now_ms):
            self._is_dirty = True
        is_early = now_ms < self._placed_ms + self._config.place_interval_ms
        if not self._is_dirty or is_early or self._inventories.is_taking():
            return []
        self._is_dirty = False
        self._placed_ms = now_ms
        known = self._ledger.known_jobs(self._board.waiting_jobs()[:PASS_JOBS_MAX])
        wishes = [self._wish(job, self._startable(job), now_ms) for job in known]
        return self._carry_out(place(wishes, self._offers()), now_ms) if wishes else []

    def _carry_out(self, picks: Iterable[Pick], now_ms: int) -> list[Output]:
        """Turn counts into decisions: the first waiting tasks go to the first nodes, in runs."""
        epoch = self._reign.current()
        news: list[JobPatch] = []
        born: list[AttemptId] = []
        spared: list[Output] = []
        for pick in picks:
            for task in self._board.first_waiting(pick.job_id, pick.count):
                if self.judgement.is_at_crash_limit(pick.job_id, task):
                    spared += self.judgement.review(pick.job_id, task, now_ms)
                    continue
                cell = self._table.cell(pick.job_id, task)
                if not decisions.may_decide(cell, epoch):
                    self._drop("decided_by_a_later_reign")
                    self._reign.block(pick.job_id, task, cell)
                    until_ms = now_ms + self._config.blocked_ms
                    self._board.hold_back(pick.job_id, task, until_ms)
                    continue
                attempt_id = decisions.birth(cell, epoch, pick.job_id, task, pick.node_id)
                after = decisions.placed(cell, epoch, attempt_id)
                news += self._ledger.decide(after, pick.job_id, task)
                born.append(attempt_id)
        then: list[Effect] = [*self._orders.assign(born, now_ms)]
        return [*spared, *self._ledger.persist(news, then)]

    def _startable(self, job: Job) -> int:
        """How many of its waiting tasks its own bound lets start now."""
        waiting = self._board.waiting_count(job.job_id)
        if not job.spec.running_max:
            return waiting
        room = job.spec.running_max - self._board.active_count(job.job_id)
        return max(0, min(waiting, room))

    def _wish(self, job: Job, count: int, now_ms: int) -> Wish:
        return Wish(
            job.job_id,
            job.spec,
            count,
            self._pool.is_behind_the_brake(job.submitter_id),
            self._refusals.backing_off(job.job_id, now_ms),
        )

    def _free_on(self, node_id: NodeId, capacity: Resources) -> Resources:
        used = self._board.used_on(node_id).plus(self.judgement.stray_need(node_id))
        return capacity.minus(used)

    def _offers(self, *, with_down: bool = False) -> list[Offer]:
        offers = [
            Offer(
                node_id,
                peer.name,
                peer.facts,
                self._free_on(node_id, peer.facts.capacity),
                self._board.count_on(node_id),
                node_id in self.unreachable,
                self._inventories.is_inventoried(node_id),
            )
            for node_id, peer in sorted(self._pool.peers.items())
        ]
        if with_down:
            offers += [
                Offer(peer.node_id, peer.name, peer.facts, Resources(), 0, True)
                for _, peer in sorted(self._pool.down.items())
            ]
        return offers
