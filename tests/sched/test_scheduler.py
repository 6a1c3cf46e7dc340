"""Stories of whole pools, told by what the nodes say to each other."""

from rain.effects import Answer
from rain.model import EndState, MemberState, NodeId, Stage
from rain.sched.messages import Assign, Replicated, Report, ReportAck
from tests.sched.wire import Wire, job_of


def test_a_job_runs_to_its_end() -> None:
    wire = Wire("a", "b", "c")
    wire.reign("a", 1)
    wire.told()
    job = job_of("b")

    wire.submit("b", job)

    assert wire.hosts[NodeId("b")].answers == [Answer(1, 3)]
    print(wire.told())
    wire.run(100)
    print(wire.told(), wire.running())
    assert sum(wire.running().values()) == 1
    runner = next(name for name, count in wire.running().items() if count)
    wire.exit(runner)
    wire.run(3_000)
    print(wire.told())
    for host in wire.hosts.values():
        assert host.core.table.cell(job.job_id, 0).success
    assert wire.are_equal()
    assert 0
