"""A new coordinator that lacks what others have on disk must hear them before it judges."""

from rain.effects import Message
from rain.model import NodeId
from rain.sched.messages import Digests
from tests.sched.wire import Wire, job_of


def test_what_succeeded_is_not_run_again_by_a_coordinator_that_has_not_heard_of_it() -> None:
    wire = Wire("a", "b", "c", "d")
    wire.reign("a", 1)
    job = job_of("b")
    wire.submit("b", job)
    wire.run(300)
    runner = next(name for name, count in wire.running().items() if count)
    wire.exit(runner)
    ignorant = next(
        node_id
        for node_id in wire.hosts
        if not wire.hosts[node_id].core.table.cell(job.job_id, 0).success
    )
    dropped: list[NodeId] = []

    def lost(sender: NodeId, to: NodeId, message: Message) -> bool:
        """Who does not follow the new reign yet does not answer its first question."""
        if isinstance(message, Digests) and sender == ignorant and to not in dropped:
            dropped.append(to)
            return True
        return False

    wire.lost = lost
    wire.told()
    wire.reign(wire.name(ignorant), 2)
    wire.run(3_000)

    assert len(dropped) == 3
    assert sum(wire.running().values()) == 0
    assert not [line for line in wire.told() if "starts" in line]
    assert wire.hosts[ignorant].core.table.cell(job.job_id, 0).success
