"""Which role may say what: every message is in the table, and the rest is refused."""

import random
from typing import Any, get_args

import pytest

from rain import rights
from rain.effects import Message
from rain.election.messages import AskHeard, ElectionMessage, HeartbeatAck
from rain.gossip.messages import GossipMessage
from rain.model import Role
from rain.sched.messages import Inventory, Report, SchedMessage
from rain.trust.messages import TrustMessage
from tests.mesh.drawing import draw

WORKERS_MAY = {
    *get_args(GossipMessage),
    *get_args(TrustMessage),
    HeartbeatAck,
    AskHeard,
    Report,
    Inventory,
}
ALL = [
    kind
    for union in (TrustMessage, GossipMessage, ElectionMessage, SchedMessage)
    for kind in get_args(union)
]


class Unheard(Message, frozen=True, tag="zz"):
    """A kind that no table knows."""


def blank(kind: Any) -> Message:
    """One of that kind; what it says is no matter of the table."""
    message: Message = draw(kind, random.Random(1))
    return message


@pytest.mark.parametrize("kind", ALL)
def test_a_worker_says_what_it_must_and_nothing_else(kind: type[Message]) -> None:
    refusal = rights.refusal(Role.WORKER, blank(kind))
    assert refusal == ("" if kind in WORKERS_MAY else "role")


@pytest.mark.parametrize("kind", ALL)
def test_members_and_admins_say_it_all_and_strangers_nothing(kind: type[Message]) -> None:
    assert rights.refusal(Role.MEMBER, blank(kind)) == ""
    assert rights.refusal(Role.ADMIN, blank(kind)) == ""
    assert rights.refusal(None, blank(kind)) == "not_a_member"


def test_what_is_not_in_the_table_is_refused_from_everybody() -> None:
    assert rights.refusal(Role.ADMIN, Unheard()) == "role"
