"""What a node keeps from its cores concerns none of them."""

import random
from collections.abc import Callable
from typing import get_args

import pytest

from rain.effects import (
    Beat,
    BrakeChanged,
    CoordinatorHeard,
    FollowerHeard,
    HandedOver,
    MemberSilent,
    MemberUnreachable,
    Notice,
    ReignChanged,
    SiblingNotice,
    TableChanged,
    ViewChanged,
)
from rain.election.core import Election, ElectionConfig
from rain.gossip.membership import GossipConfig, Membership
from rain.model import Address, Epoch, Facts, Identity, NodeId
from rain.node import Core
from rain.sched.scheduler import SchedConfig, Scheduler
from rain.trust.config import TrustConfig
from rain.trust.core import Trust
from tests.sched.samples import id_of, key_of, verify

ME = Identity(id_of("n1"), "n1", 1)
OTHER = NodeId("b" * 26)
EPOCH = Epoch(3, OTHER, 7)
NOW_MS = 1_000


def _membership() -> Core:
    dice = random.Random(1)
    address, key = Address("10.0.0.1", 7246), key_of("n1")
    return Membership(
        ME, address, Facts(), GossipConfig(), dice, NOW_MS, sign=key.sign, verify=verify
    )


def _election() -> Core:
    return Election(ME, 0, ElectionConfig(), random.Random(1), NOW_MS)


def _scheduler() -> Core:
    key = key_of("n1")
    dice, sign, public_key = random.Random(1), key.sign, key.public_key
    config = SchedConfig()
    return Scheduler(
        ME, Facts(), config, dice, NOW_MS, sign=sign, public_key=public_key, verify=verify
    )


def _trust() -> Core:
    dice = random.Random(1)
    return Trust(ME, TrustConfig(), lambda _: None, key_of("n1").sign, verify, dice, NOW_MS)


MAKERS = [_membership, _election, _scheduler, _trust]
FREQUENT: list[Notice] = [
    CoordinatorHeard(EPOCH, 9, b""),
    Beat(EPOCH, 9),
    FollowerHeard(OTHER, b"12345678"),
    TableChanged(b"12345678"),
    HandedOver(),
    MemberSilent(OTHER),
    MemberUnreachable(OTHER),
    ReignChanged(EPOCH),
    ViewChanged((ME.node_id, OTHER)),
    BrakeChanged(True, (OTHER,)),
]


def test_somebody_wants_every_notice() -> None:
    wanted: frozenset[type[SiblingNotice]] = frozenset()
    for make in MAKERS:
        wanted |= make().NOTICES
    assert wanted == set(get_args(Notice))


UNWANTED = [
    (make, notice) for make in MAKERS for notice in FREQUENT if type(notice) not in make().NOTICES
]


@pytest.mark.parametrize(("make", "notice"), UNWANTED)
def test_a_notice_that_a_core_does_not_want_changes_nothing(
    make: Callable[[], Core], notice: Notice
) -> None:
    core, same = make(), make()
    for one in (core, same):
        one.handle(ReignChanged(EPOCH), NOW_MS)  # not as fresh as it was made
    assert core.handle(notice, NOW_MS) == []
    assert core.next_deadline_ms() == same.next_deadline_ms()
    core.check()
