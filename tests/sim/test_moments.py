"""An agent can be ended before an effect, after it, and between the disk and what depends on it."""

import pytest

from sim.host import Host
from sim.moments import MOMENTS, Fuse, Moment
from sim.simulation import Simulation


def pool() -> Simulation:
    """Three hosts under way, with work and without faults."""
    played = Simulation(2, 3, 40, only=frozenset())
    played.faults.plan()
    played.workload.plan()
    played.world.run(4_000_000)
    return played


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_who_comes_to_a_moment_first_dies_there(moment: Moment) -> None:
    played, ended = pool(), list[Host]()

    def end(host: Host) -> None:
        ended.append(host)
        played.stage.kill(host)

    Fuse(played.stage, moment, end).lay()
    if "inventory" in moment.name or "epoch" in moment.name:
        for host in played.stage.coordinators():
            host.kill()
    played.world.run(20_000_000)
    assert len(ended) == 1
    assert all(host.fuse is None and host.disk.on_durable is None for host in played.hosts)


def test_a_fuse_that_is_taken_back_never_goes_off() -> None:
    played, ended = pool(), list[Host]()
    fuse = Fuse(played.stage, MOMENTS[0], ended.append)
    fuse.lay()
    fuse.take_back()
    played.world.run(8_000_000)
    assert ended == []
