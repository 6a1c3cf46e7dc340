"""One election, fed by hand, and its history as text that reads like a protocol."""

import random
from collections.abc import Sequence
from textwrap import dedent

from rain.effects import (
    Admitted,
    Cast,
    DeadlinePassed,
    Event,
    Log,
    MemberDown,
    MemberUp,
    Message,
    Notice,
    Output,
    Persist,
    Persisted,
    Received,
    Record,
    Send,
)
from rain.election.core import Election, ElectionConfig
from rain.election.electors import Electors
from rain.election.messages import (
    AskHeard,
    Challenge,
    Grant,
    Heartbeat,
    HeartbeatAck,
    Objection,
    Resign,
    Stale,
    Strength,
    Vouch,
)
from rain.election.records import BehindRecord, EpochRecord, ViewRecord
from rain.election.view import View
from rain.model import Address, Epoch, Facts, Identity, MemberState, NodeId, Role

SOURCE = Address("192.0.2.1", 7246)
ADMITTED = tuple(f"n{i}" for i in range(1, 10))
"""Members of the pool in every story; others are where they are named."""


def ids(*names: str) -> tuple[NodeId, ...]:
    return tuple(NodeId(name) for name in names)


def epoch(number: int, node_id: str) -> Epoch:
    return Epoch(number, NodeId(node_id), 0)


def view_of(*members: str) -> View:
    """A view as its members have it, for hashes and bits."""
    rows = (ViewRecord(ids(*members)),)
    return View(NodeId(members[0]), 0, Electors(), ElectionConfig(), 0, rows)


def admitted(node_id: str, role: Role = Role.MEMBER) -> Admitted:
    return Admitted(NodeId(node_id), node_id, role, "ann")


def up(node_id: str, rank: int = 0) -> MemberUp:
    return MemberUp(NodeId(node_id), node_id, 1, Facts(rank=rank))


def down(node_id: str, state: MemberState = MemberState.DEAD) -> MemberDown:
    return MemberDown(NodeId(node_id), state)


class Story:
    """Feeds one election and writes down what it says. Writes are durable after `disk_ms`."""

    def __init__(
        self,
        me: str,
        members: Sequence[str],
        *,
        newest: Epoch | None = None,
        present: Sequence[str] | None = None,
        ranks: dict[str, int] | None = None,
        workers: Sequence[str] = (),
        is_old: bool = False,
    ) -> None:
        self.me = NodeId(me)
        self.members = tuple(sorted(members))
        self.ranks = ranks or {}
        recovered: list[Record] = [ViewRecord(ids(*self.members))]
        if newest is not None:
            recovered.append(EpochRecord(newest, newest))
        if is_old:
            recovered.append(BehindRecord())
        self.now_ms = 0
        self.lines: list[str] = []
        self.disk_ms = 5
        self._writes: list[tuple[int, Event]] = []
        self._beats: dict[str, int] = {}
        self._campaign = 0
        self.election = Election(
            Identity(self.me, me, 1),
            self.ranks.get(me, 0),
            ElectionConfig(),
            random.Random(1),
            0,
            recovered,
        )
        for peer in sorted({*ADMITTED, *members}):
            self.feed(admitted(peer, Role.WORKER if peer in workers else Role.MEMBER))
        for peer in members if present is None else present:
            if peer != me:
                self.feed(up(peer, self.ranks.get(peer, 0)))
        self.lines.clear()

    def feed(self, event: Event | Notice) -> list[Output]:
        """Feed one event now; keep what it says."""
        outputs = self.election.handle(event, self.now_ms)
        self.election.check()
        for output in outputs:
            self._note(output)
            if isinstance(output, Persist) and self.disk_ms >= 0:
                due_ms = self.now_ms + self.disk_ms
                self._writes.append((due_ms, Persisted(output.token, self.disk_ms)))
        return outputs

    def hear(self, sender: str, message: Message) -> list[Output]:
        return self.feed(Received(NodeId(sender), message, SOURCE))

    def until(self, now_ms: int) -> None:
        """Pass the time: deadlines and finished writes in their order."""
        while True:
            deadline_ms = self.election.next_deadline_ms()
            due = [(at, event) for at, event in self._writes[:1]]
            if deadline_ms is not None and (not due or deadline_ms < due[0][0]):
                due = [(max(self.now_ms, deadline_ms), DeadlinePassed())]
            elif due:
                del self._writes[0]
            if not due or due[0][0] > now_ms:
                if due and not isinstance(due[0][1], DeadlinePassed):
                    self._writes.insert(0, due[0])
                self.now_ms = now_ms
                return
            self.now_ms = max(self.now_ms, due[0][0])
            self.feed(due[0][1])

    def beat(
        self,
        of: Epoch,
        *,
        followers: int = 2,
        age_ms: int = 60_000,
        listed: bool = True,
        handover: bool = False,
    ) -> list[Output]:
        """A heartbeat of `of` arrives, under the common view."""
        view = view_of(*self.members)
        heard = [node for node in view.members if listed or node != self.me]
        number = self._beats[of.node_id] = self._beats.get(of.node_id, 0) + 1
        return self.hear(
            of.node_id,
            Heartbeat(
                of, number, Strength(followers, age_ms), b"t", view.hash, view.bits(heard), handover
            ),
        )

    def beats(self, of: Epoch, until_ms: int, *, listed: bool = True) -> None:
        """Heartbeats every 100 ms from now to `until_ms`, inclusive."""
        while self.now_ms <= until_ms:
            self.beat(of, listed=listed)
            next_ms = self.now_ms + 100
            self.until(min(next_ms, until_ms))
            if next_ms > until_ms:
                return

    def ack(
        self, sender: str, beat: int = 1, digest: bytes = b"", *, load: int = 0
    ) -> list[Output]:
        """A follower acknowledges the present reign."""
        reign = self.election.reign()
        assert reign is not None
        view = view_of(*self.members).hash
        return self.hear(sender, HeartbeatAck(reign, beat, digest, view, load))

    def acks(self, until_ms: int, *senders: str, load: int = 0) -> None:
        """These followers acknowledge every 100 ms up to `until_ms`."""
        while self.now_ms < until_ms:
            for sender in senders:
                self.ack(sender, load=load)
            self.until(min(self.now_ms + 100, until_ms))

    def campaign(self) -> int:
        """The number of the last campaign."""
        return self._campaign

    def grant(self, sender: str, newest: Epoch) -> list[Output]:
        return self.hear(sender, Grant(self.campaign(), newest))

    def told(self) -> str:
        """The history since the last call, without the plain beats."""
        text = "\n".join(self.lines)
        self.lines.clear()
        return text

    def _note(self, output: Output) -> None:
        if type(output).__name__ in ("Beat", "CoordinatorHeard", "FollowerHeard"):
            return
        message = getattr(output, "message", None)
        if isinstance(message, Challenge):
            self._campaign = message.campaign
        if isinstance(message, HeartbeatAck):
            return
        if isinstance(message, Heartbeat) and message.beat > 1:
            return
        self.lines.append(f"{self.now_ms} {describe(output)}")


def describe(output: Output) -> str:
    """One line for one output."""
    match output:
        case Send(to=to, message=message):
            return f"-> {to}: {describe_message(message)}"
        case Cast(to=to, message=message):
            return f"-> {' '.join(to)}: {describe_message(message)}"
        case Persist(puts=(EpochRecord(newest=newest, floor=floor),)):
            return f"Persist newest {name(newest)} floor {name(floor)}"
        case Persist(puts=(ViewRecord(members=members),)):
            return f"Persist view {' '.join(members)}"
        case Persist(puts=(BehindRecord(),)):
            return "Persist behind"
        case Persist(deletes=(key,)):
            return f"Persist no {key}"
        case Log(event=event, fields=pairs):
            return " ".join(["Log", event, *(f"{key}={value}" for key, value in pairs)])
        case _:
            values = [getattr(output, field) for field in output.__struct_fields__]
            return " ".join([type(output).__name__, *map(show, values)]).rstrip()


def show(value: object) -> str:
    """A field of a notice."""
    if isinstance(value, Epoch):
        return name(value)
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def describe_message(message: Message) -> str:
    match message:
        case Heartbeat():
            return f"Heartbeat {name(message.epoch)}" + (" handover" if message.handover else "")
        case Challenge():
            return f"Challenge newest {name(message.newest)}"
        case Grant():
            return f"Grant newest {name(message.newest)}"
        case Objection():
            return f"Objection {name(message.epoch)} heard {message.heartbeat_age_ms} ms ago"
        case AskHeard():
            return f"AskHeard {name(message.epoch)}"
        case Vouch():
            return f"Vouch {name(message.epoch)} heard {message.heartbeat_age_ms} ms ago"
        case Stale():
            return f"Stale {name(message.epoch)} followers {message.strength.followers}"
        case Resign():
            return f"Resign {name(message.epoch)} to {message.successor}"
        case _:
            raise AssertionError(f"no words for {message!r}")


def name(of: Epoch) -> str:
    """The salt is left out."""
    return f"{of.number}.{of.node_id}" if of.node_id else "0"


FIRST = epoch(1, "n1")
TRIO = ("n1", "n2", "n3")


def following(
    me: str = "n2", members: tuple[str, ...] = TRIO, workers: tuple[str, ...] = ()
) -> Story:
    """A follower of n1, whose last heartbeat came at 2,000."""
    story = Story(me, members, workers=workers)
    story.beats(FIRST, 2_000)
    story.told()
    return story


def reigning(ranks: dict[str, int] | None = None) -> Story:
    """n2 after the death of n1: coordinator of 2.n2 since 2,515, acknowledged by n3 at 3,000."""
    story = Story("n2", TRIO, ranks=ranks)
    story.beats(FIRST, 2_000)
    story.until(2_510)
    story.grant("n3", FIRST)
    story.until(2_520)
    story.acks(3_000, "n3")
    story.ack("n3")
    story.told()
    return story


def assert_told(story: Story, expected: str) -> None:
    assert story.told() == dedent(expected).strip()
