"""Which role a sender must have for which message: one table, and what is not in it is refused.

Roles come from certificates (rain/trust). What a message may say beyond its kind (an order only
from the coordinator that is followed, a report only about one's own attempts, a cancel only for
one's own person) is checked by the core that acts on it.
"""

from rain.effects import Message
from rain.election.messages import (
    AskHeard,
    Challenge,
    Grant,
    Heartbeat,
    HeartbeatAck,
    Objection,
    Resign,
    Stale,
    Vouch,
)
from rain.gossip.messages import Ack, Join, Nack, Ping, PingRequest, Rumours, Sync
from rain.model import Role
from rain.sched.messages import (
    Accepted,
    Assign,
    ClockReading,
    Digests,
    Inventory,
    InventoryRequest,
    Patch,
    Propose,
    Replicate,
    Replicated,
    Report,
    ReportAck,
    Stop,
)
from rain.trust.messages import RollDigest, RollHave, RollNews

_MINIMAL: dict[type[Message], Role] = {
    **dict.fromkeys((Join, Ping, Ack, PingRequest, Nack, Sync, Rumours), Role.WORKER),
    **dict.fromkeys((RollDigest, RollHave, RollNews), Role.WORKER),
    **dict.fromkeys((HeartbeatAck, AskHeard, Report, Inventory), Role.WORKER),
    **dict.fromkeys((Heartbeat, Challenge, Grant, Objection, Vouch, Stale, Resign), Role.MEMBER),
    **dict.fromkeys((Propose, Accepted, Replicate, Replicated, Digests, Patch), Role.MEMBER),
    ClockReading: Role.MEMBER,
    **dict.fromkeys((Assign, Stop, ReportAck, InventoryRequest), Role.MEMBER),
}


def refusal(role: Role | None, message: Message) -> str:
    """Why a message of this kind counts for nothing from a sender of this role; '' when it counts.

    None: the sender is not, or no longer, in the pool.
    """
    if role is None:
        return "not_a_member"
    minimal = _MINIMAL.get(type(message))
    return "role" if minimal is None or role < minimal else ""
