"""What `rain status` warns of."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rain.agent.people import People
from rain.agent.pool_verbs import PoolVerbs, namesake_warning
from rain.agent.reads import Reads
from rain.gossip.member import Member
from rain.gossip.messages import MemberRecord
from rain.model import Address, MemberState, NodeId, Role
from tests.agent.asking import asked, certify
from tests.agent.desk import Nowhere, OneNode


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[OneNode]:
    one = OneNode(tmp_path)
    one.driver.connect(Nowhere(), Nowhere())
    yield one
    await one.store.close()


async def warnings(node: OneNode) -> list[str]:
    people = People(node.driver, node.admission, itertools.count(1).__next__)
    reads = Reads(node.driver, node.streams(), node.identity)
    verbs = PoolVerbs(
        node.driver, node.admission, people, reads, lambda *_: None, lambda: {}, lambda: []
    )
    told = await asked(verbs.by_name(), "status")
    return [text for text in told["warnings"] if "certificate" not in text]


async def test_a_single_admin_is_warned_of(node: OneNode) -> None:
    assert await warnings(node) == []
    certify(node, "lab-3", Role.MEMBER, "bert")
    (told,) = await warnings(node)
    assert told.startswith("desk is the only admin")


async def test_where_no_admin_is_left_the_phrase_helps(node: OneNode) -> None:
    certify(node, "lab-3", Role.MEMBER, "bert")
    certify(node, "desk", Role.MEMBER, "anna", is_itself=True)
    assert await warnings(node) == [
        "no admin is left: bring the root back with the twelve words: rain recover"
    ]


def test_two_pcs_of_one_name_are_warned_of() -> None:
    def member(node_id: str, name: str, state: MemberState = MemberState.ALIVE) -> Member:
        return Member(MemberRecord(NodeId(node_id), name, Address("10.0.0.1", 1), 1, 0, state))

    own, other = member("a", "desk"), member("b", "lab")
    left = member("c", "desk", MemberState.LEFT)
    assert namesake_warning([own, other, left], NodeId("a")) == []
    (told,) = namesake_warning([own, other, member("d", "desk")], NodeId("a"))
    assert told.startswith("another PC is called desk too")
    assert "rain up --name" in told
    assert namesake_warning([], NodeId("a")) == []
