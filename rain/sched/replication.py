"""Acknowledged means on disk at enough nodes: who holds copies, and when they are enough.

Roles and messages. The coordinator `commit`s what must not be lost (a job, a cancel, an outcome)
as a bundle of patches with receipts: to whom it is to be said once it is safe. Replicate carries
bundles to holders, Replicated comes back when they are on the holder's disk. This node is a
holder like any other; its own copy is a write whose follow-up is a Replicated to itself.

A bundle is settled when `Pool.copies_needed` keepers that are up hold it, all counted in this
reign (E8): a copy known from before may be gone with its disk. Then Accepted and ReportAck go out.

Batching. To one holder at most one Replicate is in flight; what is committed meanwhile gathers
and goes with the next. A Replicate is sent again every `resend_ms` with the same number and the
same content under the epoch that holds now (a reign may be renumbered without a takeover). A
holder that does not answer twice is no longer relied upon: another one is asked as well.

A holder obeys only the reign it follows (which is durable by then), writes down all it is asked
to, even what it knows already (knowing is not having on disk), and then answers.

A mere worker keeps no copies: it is neither asked nor counted.

What it does not do: bring the whole table to everybody (antientropy.py), choose what to commit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rain.effects import Effect, Output, Persist, Post
from rain.model import AttemptId, Epoch, JobId, NodeId, Value
from rain.sched.ledger import FRAME_BYTES_MAX, Ledger, patch_bytes
from rain.sched.messages import (
    ORDERS_MAX,
    PATCHES_MAX,
    Accepted,
    JobPatch,
    Replicate,
    Replicated,
    ReportAck,
)
from rain.sched.pool import Pool

BUNDLES_MAX = 20_000
"""Not yet settled; beyond it nothing is taken in: who asks repeats, and is heard later."""
RESENDS_TRUSTED = 2


class ReplicationConfig(Value, frozen=True):
    replicas: int = 3
    resend_ms: int = 300
    own_resend_ms: int = 2_000
    """Of the write on this node: a slow disk is not made faster by asking twice."""


class Receipt(Value, frozen=True):
    """To whom it is said that something is safe: a proposal, or else an attempt's outcome."""

    to: NodeId
    proposal: int = 0
    attempt_id: AttemptId | None = None


@dataclass(slots=True)
class _Bundle:
    patches: tuple[JobPatch, ...]
    patches_bytes: int
    receipt: Receipt
    is_news: bool
    """Else the table knew it before: it has been told, and must stay true."""
    asked: dict[NodeId, None] = field(default_factory=dict)
    copies: dict[NodeId, None] = field(default_factory=dict)


@dataclass(slots=True)
class _Batch:
    holder: NodeId
    bundles: tuple[int, ...]
    sent_ms: int
    resends: int = 0


class Replication:
    """The coordinator's side. Empty while another node reigns."""

    def __init__(self, config: ReplicationConfig, ledger: Ledger, pool: Pool) -> None:
        self.dropped: dict[str, int] = {}
        self._config = config
        self._ledger = ledger
        self._pool = pool
        self._epoch: Epoch | None = None
        self._last_number = 0
        self._bundles: dict[int, _Bundle] = {}
        self._receipts: dict[Receipt, int] = {}
        self._batches: dict[int, _Batch] = {}
        self._in_flight: dict[NodeId, int] = {}
        self._gathering: dict[NodeId, list[int]] = {}
        self._slow: dict[NodeId, None] = {}

    # --- What others may look at -----------------------------------------------------------------

    def unsettled(self) -> set[AttemptId]:
        """Attempts whose outcome this reign was the first to hear of, and is not safe yet."""
        return {
            bundle.receipt.attempt_id
            for bundle in self._bundles.values()
            if bundle.is_news and bundle.receipt.attempt_id is not None
        }

    def is_busy_with(self, node_id: NodeId) -> bool:
        """Is an answer of this holder to be expected soon?

        Who has been silent for longer may lack what it would take to promise anything: the job of
        a cancel, say. Then an exchange is to bring it.
        """
        number = self._in_flight.get(node_id)
        return number is not None and self._batches[number].resends < RESENDS_TRUSTED

    def jobs(self) -> set[JobId]:
        """Of which something is not safe yet."""
        bundles = self._bundles.values()
        return {patch.job_id for bundle in bundles for patch in bundle.patches}

    def is_waiting(self, receipt: Receipt) -> bool:
        """Is this being made safe already?"""
        return receipt in self._receipts

    def is_full(self) -> bool:
        return len(self._bundles) >= BUNDLES_MAX

    # --- The reign -------------------------------------------------------------------------------

    def begin(self, epoch: Epoch, fallen: NodeId | None) -> None:
        """A new reign counts anew, and does not rely on the coordinator that fell before it."""
        self.end()
        self._epoch = epoch
        if fallen is not None:
            self._slow[fallen] = None

    def renumber(self, epoch: Epoch, now_ms: int) -> list[Output]:
        """The same reign under a higher number: what is in flight is asked for under that one."""
        self._epoch = epoch
        return [o for number in list(self._batches) for o in self._send(number, now_ms)]

    def end(self) -> None:
        self._epoch = None
        self._bundles.clear()
        self._receipts.clear()
        self._batches.clear()
        self._in_flight.clear()
        self._gathering.clear()
        self._slow.clear()

    # --- Copies ----------------------------------------------------------------------------------

    def commit(
        self,
        patches: Iterable[JobPatch],
        receipt: Receipt,
        now_ms: int,
        *near: NodeId,
        is_news: bool = True,
    ) -> list[Output]:
        """Make this safe, then say so. `near` know it anyway and are the first to be asked."""
        assert self._epoch is not None, "only a coordinator commits"
        assert not self.is_full(), "the caller has looked"
        assert receipt not in self._receipts, "the caller has looked"
        content = tuple(patches)
        self._last_number += 1
        number = self._last_number
        size = sum(patch_bytes(patch) for patch in content)
        self._bundles[number] = bundle = _Bundle(content, size, receipt, is_news)
        self._receipts[receipt] = number
        outputs = self._ask(number, bundle, self._pool.node_id, now_ms)
        return outputs + self._fill(number, bundle, near, now_ms)

    def on_replicated(self, sender: NodeId, message: Replicated, now_ms: int) -> list[Output]:
        batch = self._batches.get(message.number)
        if message.epoch != self._epoch or batch is None or batch.holder != sender:
            self.dropped["replicated_unasked"] = self.dropped.get("replicated_unasked", 0) + 1
            return []
        self._forget(message.number)
        self._slow.pop(sender, None)
        for number in batch.bundles:
            if number in self._bundles:
                self._bundles[number].copies[sender] = None
        return self._settle(batch.bundles) + self._next(sender, now_ms)

    def on_new_life(self, node_id: NodeId) -> None:
        """Its disk may be an older one (E14): what it held counts no more, and it is asked anew."""
        if node_id in self._in_flight:
            self._forget(self._in_flight[node_id])
        self._gathering.pop(node_id, None)
        for bundle in self._bundles.values():
            bundle.asked.pop(node_id, None)
            bundle.copies.pop(node_id, None)

    def on_members(self, now_ms: int) -> list[Output]:
        """Somebody came or went, or the grace ended: other holders, perhaps enough copies."""
        for node_id in list(self._in_flight):
            if not self._pool.is_keeper(node_id):
                self._forget(self._in_flight[node_id])
        for node_id in list(self._gathering):
            if not self._pool.is_keeper(node_id):
                del self._gathering[node_id]
        outputs = self._settle(tuple(self._bundles))
        for number, bundle in self._bundles.items():
            for node_id in list(bundle.asked):
                if not self._pool.is_keeper(node_id):
                    del bundle.asked[node_id]
                    bundle.copies.pop(node_id, None)
            outputs += self._fill(number, bundle, (), now_ms)
        return outputs

    def on_deadline(self, now_ms: int) -> list[Output]:
        if not self._batches:
            return []
        outputs: list[Output] = []
        lost: dict[int, None] = {}
        for number, batch in list(self._batches.items()):
            if now_ms < self._due_ms(batch):
                continue
            batch.resends += 1
            if batch.resends >= RESENDS_TRUSTED and batch.holder != self._pool.node_id:
                self._slow[batch.holder] = None
                lost.update(dict.fromkeys(batch.bundles + self._gathered_for(batch.holder)))
            outputs += self._send(number, now_ms)
        for number in sorted(lost):
            if number in self._bundles:
                outputs += self._fill(number, self._bundles[number], (), now_ms)
        return outputs

    def next_deadline_ms(self) -> int | None:
        if not self._batches:
            return None
        return min(self._due_ms(batch) for batch in self._batches.values())

    def check(self) -> None:
        assert len(self._bundles) <= BUNDLES_MAX
        for node_id, number in self._in_flight.items():
            assert self._batches[number].holder == node_id, "one batch in flight per holder"
        for number, bundle in self._bundles.items():
            assert self._receipts[bundle.receipt] == number
            held = [n for n in bundle.copies if self._pool.is_keeper(n)]
            assert len(held) < self._needed(), "what is safe is settled at once"

    # --- Inside ----------------------------------------------------------------------------------

    def _needed(self) -> int:
        return self._pool.copies_needed(self._config.replicas)

    def _gathered_for(self, holder: NodeId) -> tuple[int, ...]:
        return tuple(self._gathering.get(holder, ()))

    def _due_ms(self, batch: _Batch) -> int:
        is_own = batch.holder == self._pool.node_id
        return batch.sent_ms + (self._config.own_resend_ms if is_own else self._config.resend_ms)

    def _fill(
        self, number: int, bundle: _Bundle, near: Sequence[NodeId], now_ms: int
    ) -> list[Output]:
        """Ask as many more holders as are missing, near ones first, else in order after this."""
        outputs: list[Output] = []
        others = self._pool.other_keepers()
        after = [n for n in others if n > self._pool.node_id]
        order = [n for n in near if n in others] + after + others
        for node_id in dict.fromkeys(order):
            relied = sum(1 for n in bundle.asked if n not in self._slow or n in bundle.copies)
            if relied >= self._needed():
                break
            if node_id not in bundle.asked:
                outputs += self._ask(number, bundle, node_id, now_ms)
        return outputs

    def _ask(self, number: int, bundle: _Bundle, holder: NodeId, now_ms: int) -> list[Output]:
        bundle.asked[holder] = None
        if holder == self._pool.node_id:
            return self._dispatch(holder, (number,), now_ms)
        self._gathering.setdefault(holder, []).append(number)
        return self._next(holder, now_ms)

    def _next(self, holder: NodeId, now_ms: int) -> list[Output]:
        """Send what has gathered for a holder, if nothing is in flight to it."""
        if holder in self._in_flight or holder == self._pool.node_id:
            return []
        gathered = [n for n in self._gathering.pop(holder, []) if n in self._bundles]
        taken: list[int] = []
        size, count = 0, 0
        for number in gathered:
            bundle = self._bundles[number]
            size += bundle.patches_bytes
            count += len(bundle.patches)
            if taken and (size > FRAME_BYTES_MAX or count > PATCHES_MAX):
                break
            taken.append(number)
        if gathered[len(taken) :]:
            self._gathering[holder] = gathered[len(taken) :]
        return self._dispatch(holder, tuple(taken), now_ms) if taken else []

    def _dispatch(self, holder: NodeId, bundles: tuple[int, ...], now_ms: int) -> list[Output]:
        self._last_number += 1
        self._batches[self._last_number] = _Batch(holder, bundles, now_ms)
        if holder != self._pool.node_id:
            self._in_flight[holder] = self._last_number
        return self._send(self._last_number, now_ms)

    def _send(self, number: int, now_ms: int) -> list[Output]:
        assert self._epoch is not None, "nothing is in flight without a reign"
        batch = self._batches[number]
        batch.sent_ms = now_ms
        patches = tuple(
            patch
            for bundle in batch.bundles
            if bundle in self._bundles
            for patch in self._bundles[bundle].patches
        )
        replicate = Replicate(self._epoch, number, patches)
        if batch.holder == self._pool.node_id:
            return [*hold(self._ledger, batch.holder, replicate)]
        return [Post(batch.holder, replicate)]

    def _forget(self, number: int) -> None:
        batch = self._batches.pop(number)
        if self._in_flight.get(batch.holder) == number:
            del self._in_flight[batch.holder]

    def _settle(self, numbers: Iterable[int]) -> list[Output]:
        """Say what has become safe; acknowledgements to one worker go in one message."""
        assert self._epoch is not None, "nothing is settled without a reign"
        outputs: list[Output] = []
        acks: dict[NodeId, list[AttemptId]] = {}
        for number in numbers:
            bundle = self._bundles.get(number)
            if bundle is None:
                continue
            copies = sum(1 for node_id in bundle.copies if self._pool.is_keeper(node_id))
            if copies < self._needed():
                continue
            del self._bundles[number], self._receipts[bundle.receipt]
            receipt = bundle.receipt
            if receipt.attempt_id is not None:
                acks.setdefault(receipt.to, []).append(receipt.attempt_id)
            else:
                outputs.append(Post(receipt.to, Accepted(receipt.proposal, self._epoch, copies)))
        for node_id, attempts in acks.items():
            for start in range(0, len(attempts), ORDERS_MAX):
                batch = tuple(attempts[start : start + ORDERS_MAX])
                outputs.append(Post(node_id, ReportAck(self._epoch, batch)))
        return outputs


def hold(ledger: Ledger, coordinator: NodeId, message: Replicate) -> list[Persist]:
    """A holder's side: write it all down, then say so. Silent where that cannot be promised."""
    news = ledger.merge(message.patches, is_vouched=True)
    if ledger.is_disk_failed:
        return []  # when it works again, all that is known is written
    if not all(ledger.is_taken(p) for p in message.patches):
        return ledger.persist(news)  # who compares tables takes what is known for kept
    answer: tuple[Effect, ...] = (Post(coordinator, Replicated(message.epoch, message.number)),)
    return ledger.persist(ledger.known_part(message.patches), answer)
