"""Whole elections with workers among the nodes, and with roles that change meanwhile."""

import pytest

from rain.effects import ReignChanged
from rain.model import Epoch, NodeId, Role
from tests.election.net import Net
from tests.election.test_net import (
    SETTLE_MS,
    assert_epochs_are_sound,
    assert_settled,
    quiet_down,
    shake,
)


def settled(seed: int, count: int, workers: tuple[str, ...]) -> Net:
    net = Net(seed, count, workers=workers)
    net.start()
    net.run(SETTLE_MS)
    assert_settled(net)
    assert len(net.takeovers()) == 1
    return net


def assert_no_worker_stood(net: Net) -> None:
    for node, role in net.roll.items():
        if role is Role.WORKER:
            assert net.announced[node] == []


def test_one_elector_and_its_workers_are_a_pool() -> None:
    net = settled(1, 4, ("n1", "n2", "n4"))
    assert net.coordinators() == ["n3"]
    assert [host.election.view() for host in net.up() if host.election] == [("n3",)] * 4
    net.crash("n3")
    net.run(SETTLE_MS + 5_000)
    assert net.coordinators() == []
    assert net.followed() == [None] * 3
    net.start("n3")
    net.run(SETTLE_MS + 9_000)
    assert net.coordinators() == ["n3"]
    assert_settled(net)
    assert_no_worker_stood(net)


def test_workers_do_not_slow_a_failover() -> None:
    for seed in range(10):
        net = settled(seed, 9, ("n4", "n5", "n6", "n7", "n8", "n9"))
        died_ms = SETTLE_MS + seed * 7
        net.run(died_ms)
        net.crash("n1")
        net.run(died_ms + 3_000)
        takeovers = net.takeovers(died_ms)
        assert [node for _, node, _ in takeovers] == ["n2"]
        assert takeovers[0][0] - died_ms <= 850
        assert_settled(net)


def test_a_side_with_more_workers_is_not_the_stronger_one() -> None:
    net = settled(2, 7, ("n4", "n5", "n6", "n7"))
    net.partition(("n1", "n4", "n5", "n6", "n7"))
    net.run(SETTLE_MS + 6_000)
    assert net.coordinators() == ["n1", "n2"]
    net.heal()
    net.run(SETTLE_MS + 12_000)
    assert_settled(net)
    assert net.coordinators() == ["n2"]


def test_a_worker_that_followed_a_later_reign_comes_back_though_nobody_else_remembers() -> None:
    net = settled(3, 3, ("n3",))
    net.partition(("n1",))
    net.run(SETTLE_MS + 3_000)
    assert net.coordinators() == ["n1", "n2"]
    net.crash("n2")
    net.run(SETTLE_MS + 9_000)
    net.heal()
    net.run(SETTLE_MS + 12_000)
    assert net.coordinators() == ["n1"]
    assert_settled(net)
    assert len(net.takeovers()) == 2, "its number was lifted, no reign was lost"


def test_a_barred_coordinator_is_replaced_at_once() -> None:
    for seed in range(10):
        net = settled(seed, 4, ("n4",))
        net.bar("n1")
        net.run(SETTLE_MS + 250)
        assert [node for _, node, _ in net.takeovers(SETTLE_MS)] == ["n2"], seed
        net.run(SETTLE_MS + 3_000)
        assert net.coordinators() == ["n2"]
        assert net.followed()[0] is None
        assert len(set(net.followed()[1:])) == 1
        views = [host.election.view() for host in net.up() if host.election]
        assert views[1:] == [("n2", "n3")] * 3


def test_a_coordinator_that_is_made_a_worker_follows_its_successor() -> None:
    for seed in range(10):
        net = settled(seed, 4, ("n4",))
        net.appoint("n1", Role.WORKER)
        net.run(SETTLE_MS + 2_000)
        assert [node for _, node, _ in net.takeovers(SETTLE_MS)] in (["n2"], ["n3"])
        assert_settled(net)
        net.appoint("n4", Role.MEMBER)
        for node in net.coordinators():
            net.crash(node)
        net.run(SETTLE_MS + 6_000)
        assert_settled(net)
        views = {host.election.view() for host in net.up() if host.election}
        assert len(views) == 1
        assert NodeId("n4") in views.pop()


def test_the_only_elector_is_made_one_by_another() -> None:
    net = settled(4, 2, ("n2",))
    net.appoint("n2", Role.ADMIN)
    net.appoint("n1", Role.WORKER)
    net.run(SETTLE_MS + 3_000)
    assert net.coordinators() == ["n2"]
    assert_settled(net)


def storm(seed: int) -> Net:
    """Two or three electors, one or two workers; halfway, one of the workers is made a member."""
    count = 3 + seed % 3
    workers = ("n1", "n3")[: 1 + seed % 2]
    net = Net(seed, count, workers=workers)
    net.start()
    shake(net, 6_000)
    assert_no_worker_stood(net)
    net.appoint("n1", Role.MEMBER)
    net.appoint("n2", Role.WORKER)
    shake(net, 10_000)
    quiet_down(net)
    return net


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_after_any_storm_one_elector_coordinates(first: int) -> None:
    for seed in range(first, first + 20):
        net = storm(seed)
        assert_epochs_are_sound(net)
        assert len(net.coordinators()) == 1, f"seed {seed}: {net.coordinators()}"
        assert net.roll[net.coordinators()[0]] is not Role.WORKER
        assert len(set(net.followed())) == 1, f"seed {seed}: {net.followed()}"


def test_what_a_worker_follows_never_falls() -> None:
    for seed in range(20):
        net = storm(seed)
        followed: dict[NodeId, list[Epoch]] = {node: [] for node in net.hosts}
        for _, node, notice in net.story:
            if isinstance(notice, ReignChanged) and notice.epoch is not None:
                followed[node].append(notice.epoch)
        assert all(epochs == sorted(epochs) for epochs in followed.values()), seed
