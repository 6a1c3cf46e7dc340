"""Which waiting tasks go to which nodes: a pure pipeline of filter, score and pick.

A *wish* is a class of equal tasks (all waiting tasks of one job), an *offer* is one node as the
coordinator sees it now. Wishes are served in the order they come in; for each the pipeline

1. filters: every node that cannot take one more task of it is counted under a named reason,
   the first that applies in the order of `REASONS`: the same words explain a waiting job;
2. scores: the node with the largest free share of its cpus first, so that load spreads; nodes
   that are equally free in the order of their ids;
3. picks: one task at a time from a heap, so n tasks over m nodes cost n log m, and what comes
   out is a count per node, not a list of tasks.

Invariant J3: what is picked for a node, all wishes together, never exceeds what it had free.
Nothing here knows of epochs, time or messages; backing off and braking reach it as reasons.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from rain.model import Facts, JobId, JobSpec, NodeId, Resources, Value

DOWN = "down"
NOT_INVENTORIED = "not_inventoried"
BRAKED = "braked"
REFUSED_RECENTLY = "refused_recently"
TAKES_NO_WORK = "takes_no_work"
WRONG_NODE = "wrong_node"
EXECUTOR_MISSING = "executor_missing"
TOO_FEW_CPUS = "too_few_cpus"
TOO_LITTLE_MEMORY = "too_little_memory"
TOO_MANY_ATTEMPTS = "too_many_attempts"
REASONS = (
    DOWN,
    BRAKED,
    WRONG_NODE,
    TAKES_NO_WORK,
    EXECUTOR_MISSING,
    TOO_FEW_CPUS,
    TOO_LITTLE_MEMORY,
    TOO_MANY_ATTEMPTS,
    NOT_INVENTORIED,
    REFUSED_RECENTLY,
)

ATTEMPTS_PER_NODE_MAX = 1_000
"""Of tasks that need nothing a node could else be given any number."""
PICKS_MAX = 10_000
"""Placements of one call; what is left waits for the next."""
SHARE_UNIT = 1_000_000


class Offer(Value, frozen=True):
    """One node: what it says about itself, and what is not yet placed there."""

    node_id: NodeId
    name: str
    facts: Facts
    free: Resources
    attempts: int = 0
    is_down: bool = False
    is_inventoried: bool = True

    def less(self, need: Resources, count: int) -> "Offer":
        """After `count` tasks of that need were placed on it."""
        placed = Resources(need.cpus_milli * count, need.memory_bytes * count)
        assert self.free.covers(placed), "J3: a node is never overbooked"
        return Offer(
            self.node_id,
            self.name,
            self.facts,
            self.free.minus(placed),
            self.attempts + count,
            self.is_down,
            self.is_inventoried,
        )


class Wish(Value, frozen=True):
    """`count` equal tasks of one job that may start now."""

    job_id: JobId
    spec: JobSpec
    count: int
    is_braked: bool = False
    """Its submitter is on the other side of a partition: it may not start here yet."""
    backing_off: tuple[NodeId, ...] = ()
    """Nodes that refused this job a short while ago."""


class Pick(Value, frozen=True):
    """So many tasks of that job on that node."""

    job_id: JobId
    node_id: NodeId
    count: int


def place(wishes: Iterable[Wish], offers: Sequence[Offer]) -> tuple[Pick, ...]:
    """Serve the wishes in order; nothing is overbooked, nothing is placed twice."""
    left = {offer.node_id: offer for offer in offers}
    fruitless: set[tuple[Resources, str, str]] = set()
    picks: list[Pick] = []
    picked = 0
    for wish in wishes:
        need, kind = wish.spec.need, _kind(wish)
        if picked >= PICKS_MAX:
            break
        if wish.count <= 0 or wish.is_braked or kind in fruitless:
            continue
        counts = _spread(wish, left.values(), min(wish.count, PICKS_MAX - picked))
        for node_id in sorted(counts):
            left[node_id] = left[node_id].less(need, counts[node_id])
            picks.append(Pick(wish.job_id, node_id, counts[node_id]))
            picked += counts[node_id]
        if sum(counts.values()) < wish.count and not wish.backing_off:
            # No room for one more of this kind, so neither for the next wish of the same kind.
            fruitless.add(kind)
    return tuple(picks)


def why(wish: Wish, offers: Iterable[Offer]) -> dict[str, int]:
    """How many nodes cannot take one more task of it, by reason, in the order of REASONS."""
    counts = dict.fromkeys(REASONS, 0)
    for offer in offers:
        reason = rejection(wish, offer)
        if reason:
            counts[reason] += 1
    return {reason: count for reason, count in counts.items() if count}


def why_never(spec: JobSpec, nodes: Iterable[tuple[str, Facts]]) -> dict[str, int]:
    """How many nodes (name, facts) are too small or another one for such a task, by reason."""
    return why(Wish(JobId(""), spec, 1), _at_best(nodes, spec.executor))


def can_ever_be_placed(spec: JobSpec, nodes: Iterable[tuple[str, Facts]]) -> bool:
    """Is there a node (name, facts) that could take such a task if it were idle and willing?

    An owner may lend again, an engine may be started: only the size and the name of a PC last.
    """
    wish = Wish(JobId(""), spec, 1)
    return any(not rejection(wish, offer) for offer in _at_best(nodes, spec.executor))


def able(spec: JobSpec, nodes: Iterable[tuple[NodeId, str, Facts]]) -> list[NodeId]:
    """Those (id, name, facts) that could take such a task as soon as they are idle."""
    wish = Wish(JobId(""), spec, 1)
    return [
        node_id
        for node_id, name, facts in nodes
        if not rejection(wish, Offer(node_id, name, facts, facts.capacity))
    ]


def rejection(wish: Wish, offer: Offer) -> str:
    """Why this node cannot take one more task of this wish; empty: it can."""
    spec, facts = wish.spec, offer.facts
    if offer.is_down:
        return DOWN
    if wish.is_braked:
        return BRAKED
    if spec.node_name and spec.node_name != offer.name:
        return WRONG_NODE
    if not facts.works:
        return TAKES_NO_WORK
    if spec.executor not in facts.executors:
        return EXECUTOR_MISSING
    if offer.free.cpus_milli < spec.need.cpus_milli:
        return TOO_FEW_CPUS
    if offer.free.memory_bytes < spec.need.memory_bytes:
        return TOO_LITTLE_MEMORY
    if offer.attempts >= ATTEMPTS_PER_NODE_MAX:
        return TOO_MANY_ATTEMPTS
    if not offer.is_inventoried:
        return NOT_INVENTORIED
    if offer.node_id in wish.backing_off:
        return REFUSED_RECENTLY
    return ""


def _kind(wish: Wish) -> tuple[Resources, str, str]:
    """Wishes of one kind fit on the same nodes, but for backing off."""
    return (wish.spec.need, wish.spec.executor, wish.spec.node_name)


def _at_best(nodes: Iterable[tuple[str, Facts]], executor: str) -> Iterable[Offer]:
    for name, facts in nodes:
        willing = replace(facts, works=True, executors=(executor,))
        yield Offer(NodeId(name), name, willing, facts.capacity)


def _spread(wish: Wish, offers: Iterable[Offer], count_max: int) -> Mapping[NodeId, int]:
    """How many tasks each node gets, always giving the next to the one that is freest then."""
    need = wish.spec.need
    heap = [
        (-_share(offer.free.cpus_milli, offer), offer.node_id, offer, 0)
        for offer in offers
        if not rejection(wish, offer)
    ]
    heapq.heapify(heap)
    counts: dict[NodeId, int] = {}
    for _ in range(count_max):
        if not heap:
            break
        _, node_id, offer, placed = heap[0]
        placed += 1
        counts[node_id] = placed
        cpus = offer.free.cpus_milli - placed * need.cpus_milli
        memory = offer.free.memory_bytes - placed * need.memory_bytes
        has_room = Resources(max(0, cpus), max(0, memory)).covers(need)
        if has_room and offer.attempts + placed < ATTEMPTS_PER_NODE_MAX:
            heapq.heapreplace(heap, (-_share(cpus, offer), node_id, offer, placed))
        else:
            heapq.heappop(heap)
    return counts


def _share(cpus_milli: int, offer: Offer) -> int:
    """The free share of its cpus, in millionths: integers compare the same everywhere."""
    return cpus_milli * SHARE_UNIT // max(1, offer.facts.capacity.cpus_milli)
