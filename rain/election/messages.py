"""What members tell each other about who coordinates. All travel in packets."""

from typing import Annotated

from msgspec import Meta

from rain.effects import Message
from rain.model import Count, Epoch, NodeId, OrderedValue

HEARD_MAX = 512
LOAD_UNFIT = 1_000_000
"""The load of a node that is about to sleep, or whose disk is old: no load is like it."""
Digest = Annotated[bytes, Meta(max_length=16)]
HeardBits = Annotated[bytes, Meta(max_length=HEARD_MAX // 8)]


class Strength(OrderedValue, frozen=True):
    """Of a reign: how many followers acknowledge it, then how long it has lasted."""

    followers: Count
    age_ms: Count


class Heartbeat(Message, frozen=True, tag="eh"):
    """The coordinator lives. `heard` are the members it heard within a second.

    A large pool does not fit ids into a packet, so `view` is a hash of the sorted member ids and
    `heard` a bit per position; a receiver with another view asks by acknowledging with its own.
    """

    epoch: Epoch
    beat: Count
    strength: Strength
    digest: Digest
    view: Digest
    heard: HeardBits
    handover: bool = False
    load: Count = 0
    """The sender's worst lateness within the last second, ms."""


class HeartbeatAck(Message, frozen=True, tag="ea"):
    """`load`: how late the sender was of late, ms; LOAD_UNFIT: it must not be made coordinator."""

    epoch: Epoch
    beat: Count
    digest: Digest
    view: Digest
    load: Count = 0


class Challenge(Message, frozen=True, tag="ec"):
    """I stand. To every member. `campaign` tells this campaign's answers from older ones."""

    campaign: Count
    newest: Epoch
    silence_ms: Count


class Grant(Message, frozen=True, tag="eg"):
    campaign: Count
    newest: Epoch


class Objection(Message, frozen=True, tag="eo"):
    """I hear a coordinator; `heartbeat_age_ms`: how old the last beat is that I received myself."""

    campaign: Count
    epoch: Epoch
    heartbeat_age_ms: Count
    strength: Strength


class AskHeard(Message, frozen=True, tag="eq"):
    """Did you yourself hear the coordinator of this reign?"""

    epoch: Epoch
    sequence: Count


class Vouch(Message, frozen=True, tag="ev"):
    """Yes, so long ago. Never passed on: second-hand life signs would echo for ever."""

    epoch: Epoch
    sequence: Count
    heartbeat_age_ms: Count


class Stale(Message, frozen=True, tag="es"):
    """You speak for a weaker or older reign than the one I follow."""

    epoch: Epoch
    strength: Strength
    coordinator: NodeId


class Resign(Message, frozen=True, tag="er"):
    """A coordinator that stops hands over: `successor` stands at once, everybody grants."""

    epoch: Epoch
    successor: NodeId


ElectionMessage = (
    Heartbeat | HeartbeatAck | Challenge | Grant | Objection | AskHeard | Vouch | Stale | Resign
)


def epoch_of(message: Message) -> Epoch | None:
    """The epoch that a message names; None if it is none of the election's."""
    match message:
        case Challenge(newest=epoch) | Grant(newest=epoch):
            return epoch
        case Heartbeat() | HeartbeatAck() | Objection() | AskHeard() | Vouch() | Stale() | Resign():
            return message.epoch
        case _:
            return None
