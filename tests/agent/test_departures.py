"""Since when a PC is down, as another one saw it."""

from pathlib import Path

from rain.agent.departures import Departures
from rain.gossip.member import Member
from rain.gossip.messages import MemberRecord
from rain.model import Address, MemberState, NodeId
from tests.agent.desk import OneNode

LAB = NodeId("lab")


def lab(state: MemberState) -> list[Member]:
    return [Member(MemberRecord(LAB, "lab", Address("10.0.0.1", 1), 1, 0, state))]


async def test_the_moment_in_which_it_went_is_kept_until_it_is_back(tmp_path: Path) -> None:
    node = OneNode(tmp_path)
    departures = Departures(node.driver)
    told = []
    for at, state in enumerate(
        (
            MemberState.DEAD,  # before anybody looked
            MemberState.ALIVE,
            MemberState.SUSPECT,
            MemberState.DEAD,
            MemberState.DEAD,
            MemberState.ALIVE,
        )
    ):
        departures.look(lab(state), at)
        told.append(departures.since_unix_ms(LAB))
    assert told == [None, None, None, 3, 3, None]
    departures.look(lab(MemberState.LEFT), 6)
    departures.look([], 7)
    assert departures.since_unix_ms(LAB) is None, "whom nobody remembers is forgotten here too"
    await node.store.close()
