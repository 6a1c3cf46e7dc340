"""Roles as the election reads them."""

from rain.election.electors import Electors
from rain.model import NodeId, Role
from tests.election.story import ids

NODE = NodeId("n1")


def test_who_is_not_admitted_is_no_elector() -> None:
    electors = Electors()
    assert not electors.is_admitted(NODE)
    assert not electors.is_elector(NODE)


def test_only_a_change_of_the_right_to_elect_is_told() -> None:
    electors = Electors()
    assert not electors.admit(NODE, Role.WORKER)
    assert electors.admit(NODE, Role.MEMBER)
    assert not electors.admit(NODE, Role.ADMIN)
    assert electors.admit(NODE, Role.WORKER)
    electors.admit(NODE, Role.ADMIN)
    electors.bar(NODE)
    assert not electors.is_admitted(NODE)
    assert electors.admit(NODE, Role.MEMBER)


def test_the_order_is_kept() -> None:
    electors = Electors()
    for node_id in ids("n1", "n3"):
        electors.admit(node_id, Role.MEMBER)
    electors.admit(NodeId("n2"), Role.WORKER)
    assert electors.among(ids("n3", "n2", "n1")) == ids("n3", "n1")
