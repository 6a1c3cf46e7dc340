"""What one event has changed, until it is written and told."""

from dataclasses import dataclass, field

from rain.claims import Signed
from rain.effects import Output
from rain.model import NodeId
from rain.trust.book import Learnt
from rain.trust.messages import RingKey
from rain.trust.roll import News


@dataclass(slots=True)
class Gathered:
    """News of several merges."""

    bundles: list[bytes] = field(default_factory=list)
    claims: list[Signed] = field(default_factory=list)
    keys: list[RingKey] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)

    def add(self, learnt: Learnt) -> None:
        self.bundles += learnt.news.bundles
        self.claims += learnt.news.claims
        self.deletes += learnt.news.deletes
        self.keys += learnt.keys

    def __bool__(self) -> bool:
        return bool(self.bundles or self.claims or self.keys)

    def news(self) -> News:
        return News(tuple(self.bundles), tuple(self.claims), tuple(self.deletes))


@dataclass(slots=True)
class Turn:
    """One call of `handle`."""

    outputs: list[Output] = field(default_factory=list)
    own: Gathered = field(default_factory=Gathered)
    is_defence: bool = False
    """Own news that is told even to those who, by all that is known, have barred this node."""
    heard: Gathered = field(default_factory=Gathered)
    sender: NodeId | None = None
    """Who brought the news."""
    serial: int = 0
    """Of that news; 0: its sender does not wait for a word."""
    request: int = 0
    """Of the person who waits; 0: nobody does."""
    token: int = 0
    """Of the write that the person waits for, and the serial of the news that goes with it."""
