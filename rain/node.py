"""One node: four cores and the notices between them. Pure; the agent and the simulator drive it.

The node owns no state of its own but the map of write tokens (a core numbers its own writes; two
cores may choose the same number) and the order in which cores hear of things: trust first, then
gossip, election and sched, so that who may be here is known before who is, that before who
coordinates, and that before what runs where. A core hears of a sibling's notice only if it wants
that kind (`NOTICES`): most of them come with every heartbeat and concern one core.

It is also the gate: a message from somebody who is not in the pool, or whose role does not cover
it (rights.py), reaches no core. It is counted, and told to the log at its 1st, 2nd, 4th, 8th …
time, so that whoever floods the node does not flood its log.
"""

import random
from collections import deque
from collections.abc import Sequence
from typing import ClassVar, Protocol, get_args

from msgspec.structs import replace

from rain import rights
from rain.claims import Signer, Verify
from rain.effects import (
    DeadlinePassed,
    Effect,
    Event,
    Log,
    Notice,
    Output,
    Persist,
    Persisted,
    Received,
    Record,
    SiblingNotice,
)
from rain.election.core import Election, ElectionConfig
from rain.election.messages import ElectionMessage
from rain.gossip.membership import GossipConfig, Membership
from rain.gossip.messages import GossipMessage
from rain.model import Address, Facts, Identity, NodeId, Value
from rain.sched.messages import SchedMessage
from rain.sched.scheduler import SchedConfig, Scheduler
from rain.trust.config import TrustConfig
from rain.trust.core import Trust
from rain.trust.credential import Inspect
from rain.trust.messages import RollNews, TrustMessage

NOTICES_MAX = 10_000
"""Notices that one event may set off; more means that the cores feed each other without end."""


REFUSED_MAX = 4_096
"""Senders and reasons with a count of their own; the longest known gives way."""


class Core(Protocol):
    """A state machine that never waits, reads no clock and touches no device."""

    NOTICES: ClassVar[frozenset[type[SiblingNotice]]]
    """What it wants to hear from its siblings. The others would change nothing in it."""

    def handle(self, event: Event | Notice, now_ms: int) -> list[Output]:
        """The only way to change the core. Runs to completion; never raises on a peer's input."""

    def next_deadline_ms(self) -> int | None:
        """When the core next wants DeadlinePassed; None: only an event can wake it."""

    def check(self) -> None:
        """Assert every invariant of this core."""


class NodeConfig(Value, frozen=True):
    trust: TrustConfig = TrustConfig()
    gossip: GossipConfig = GossipConfig()
    election: ElectionConfig = ElectionConfig()
    sched: SchedConfig = SchedConfig()


class Node:
    """Routes events to the cores and notices between them; collects their effects in order."""

    def __init__(  # the union of what the four cores need, by name
        self,
        identity: Identity,
        address: Address,
        facts: Facts,
        config: NodeConfig,
        rng: random.Random,
        now_ms: int,
        recovered: Sequence[Record],
        inspect: Inspect,
        signer: Signer,
        verify: Verify,
    ) -> None:
        sign = signer.sign
        self.identity = identity
        self.trust = Trust(identity, config.trust, inspect, sign, verify, rng, now_ms, recovered)
        self.gossip = Membership(
            identity,
            address,
            facts,
            config.gossip,
            rng,
            now_ms,
            recovered,
            sign=sign,
            verify=verify,
        )
        self.election = Election(identity, facts.rank, config.election, rng, now_ms, recovered)
        self.sched = Scheduler(
            identity,
            facts,
            config.sched,
            rng,
            now_ms,
            recovered,
            sign=sign,
            public_key=signer.public_key,
            verify=verify,
        )
        self.refused: dict[tuple[NodeId, str], int] = {}
        """Messages that reached no core, by sender and by kind and reason."""
        self._cores: tuple[Core, ...] = (self.trust, self.gossip, self.election, self.sched)
        unions = (TrustMessage, GossipMessage, ElectionMessage, SchedMessage)
        self._owner_of = {
            message: index for index, union in enumerate(unions) for message in get_args(union)
        }
        self._wanted_by = {notice: self._who_wants(notice) for notice in get_args(Notice)}
        self._deadlines: list[int | None] = [core.next_deadline_ms() for core in self._cores]
        self._is_fed = [False] * len(self._cores)
        """Which cores were fed by the event at hand."""
        self._soonest_ms: int | None = None
        self._tokens: dict[int, tuple[int, int]] = {}
        self._last_token = 0
        self._opening: list[Effect] = []
        known: deque[tuple[int, Notice]] = deque()
        for notice in self.trust.initial_notices():
            known.append((0, notice))
        self._settle(known, now_ms, self._opening)
        self._ask_deadlines()

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Feed one event to the cores that it concerns, then their notices, until none is left."""
        effects, self._opening = self._opening, []
        notices: deque[tuple[int, Notice]] = deque()
        if isinstance(event, Received):
            message = event.message
            refusal = rights.refusal(self.trust.role(event.sender), message)
            # An admin who was removed by a junior may bring the claim that undoes it.
            if refusal and not (isinstance(message, RollNews) and self.trust.hears(event.sender)):
                return [*effects, *self._refuse(event, refusal)]
            self._feed(self._owner_of[type(message)], event, now_ms, effects, notices)
        elif isinstance(event, DeadlinePassed):
            # Whose deadline it is not would do nothing.
            for index, at_ms in enumerate(self._deadlines):
                if at_ms is not None and at_ms <= now_ms:
                    self._feed(index, event, now_ms, effects, notices)
        else:
            for index, routed in self._route(event):
                self._feed(index, routed, now_ms, effects, notices)
        if notices:
            self._settle(notices, now_ms, effects)
        self._ask_deadlines()
        return effects

    def next_deadline_ms(self) -> int | None:
        return self._soonest_ms

    def check(self) -> None:
        for core, deadline_ms in zip(self._cores, self._deadlines, strict=True):
            core.check()
            assert core.next_deadline_ms() == deadline_ms, "a core changed outside of handle"

    def _refuse(self, event: Received, refusal: str) -> list[Effect]:
        kind = type(event.message).__name__
        times = self.refused.pop((event.sender, f"{kind} {refusal}"), 0) + 1
        # Put back at the end: the dict's order is the order of the last refusal.
        self.refused[event.sender, f"{kind} {refusal}"] = times
        if len(self.refused) > REFUSED_MAX:
            del self.refused[next(iter(self.refused))]
        if times & (times - 1):
            return []
        said = (("sender", event.sender), ("kind", kind), ("reason", refusal), ("times", times))
        return [Log("refused", said)]

    def _settle(
        self, notices: deque[tuple[int, Notice]], now_ms: int, effects: list[Effect]
    ) -> None:
        """Let the cores hear of each other's notices until there are none."""
        for _ in range(NOTICES_MAX):
            if not notices:
                return
            origin, notice = notices.popleft()
            for index in self._wanted_by[type(notice)]:
                if index != origin:
                    self._feed(index, notice, now_ms, effects, notices)
        raise AssertionError("the cores feed each other notices without end")

    def _who_wants(self, notice: type[SiblingNotice]) -> tuple[int, ...]:
        return tuple(i for i, core in enumerate(self._cores) if notice in core.NOTICES)

    def _route(self, event: Event) -> list[tuple[int, Event]]:
        if isinstance(event, Persisted):
            index, token = self._tokens.pop(event.token)
            return [(index, Persisted(token, event.took_ms))]
        return [(index, event) for index in range(len(self._cores))]

    def _feed(
        self,
        index: int,
        event: Event | Notice,
        now_ms: int,
        effects: list[Effect],
        notices: deque[tuple[int, Notice]],
    ) -> None:
        core = self._cores[index]
        for output in core.handle(event, now_ms):
            if isinstance(output, SiblingNotice):
                notices.append((index, output))
            elif isinstance(output, Persist) and output.token:
                self._last_token += 1
                self._tokens[self._last_token] = (index, output.token)
                effects.append(replace(output, token=self._last_token))
            else:
                effects.append(output)
        self._is_fed[index] = True

    def _ask_deadlines(self) -> None:
        """A core changes in `handle` only, so only who was fed is asked when it wants to be."""
        soonest_ms: int | None = None
        for index, core in enumerate(self._cores):
            if self._is_fed[index]:
                self._is_fed[index] = False
                self._deadlines[index] = core.next_deadline_ms()
            at_ms = self._deadlines[index]
            if at_ms is not None and (soonest_ms is None or at_ms < soonest_ms):
                soonest_ms = at_ms
        self._soonest_ms = soonest_ms
