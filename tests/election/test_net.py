"""Whole elections under faults drawn from a seed: safety all the way, then one coordinator."""

import pytest

from rain.effects import HandedOver, Received, StopRequested
from rain.election.epochs import LEAP_MAX, NUMBER_MAX
from rain.election.messages import Challenge
from rain.election.records import EpochRecord
from rain.model import Epoch, NodeId
from tests.election.net import SOURCE, Net

SETTLE_MS = 4_000
HEAL_MS = 6_000
SEEDS_EACH = 25


def assert_epochs_are_sound(net: Net) -> None:
    """Each is announced by its owner only, and every node's rise, across its crashes too."""
    seen: dict[Epoch, NodeId] = {}
    for node, epochs in net.announced.items():
        assert epochs == sorted(epochs), f"epochs of {node} fell"
        assert len({epoch.number for epoch in epochs}) == len(epochs)
        for epoch in epochs:
            assert epoch.node_id == node
            assert seen.setdefault(epoch, node) == node


def assert_settled(net: Net) -> None:
    coordinators = net.coordinators()
    assert len(coordinators) == 1, f"{coordinators}"
    followed = set(net.followed())
    assert len(followed) == 1, f"{followed}"
    assert None not in followed


def settled(seed: int, count: int, ranks: tuple[int, ...] = ()) -> Net:
    net = Net(seed, count, ranks=ranks)
    net.start()
    net.run(SETTLE_MS)
    assert_settled(net)
    assert len(net.takeovers()) == 1
    return net


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_a_cold_start_elects_once(count: int) -> None:
    for seed in range(5):
        net = settled(seed, count)
        assert net.takeovers()[0][0] < 1_300


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_one_reign_change_per_death_and_soon(count: int) -> None:
    for seed in range(20):
        net = settled(seed, count)
        died_ms = SETTLE_MS + seed * 7
        net.run(died_ms)
        net.crash(net.coordinators()[0])
        net.run(died_ms + 3_000)
        takeovers = net.takeovers(died_ms)
        assert len(takeovers) == 1
        assert takeovers[0][0] - died_ms <= 850
        assert_settled(net)


def test_a_death_costs_at_most_eight_messages_a_member() -> None:
    quiet, failing = settled(1, 9), settled(1, 9)
    before = failing.messages
    failing.crash(failing.coordinators()[0])
    while not failing.takeovers(SETTLE_MS):
        failing.run(failing.now_ms + 1)
    # Questions and their few answers, challenges and grants, the successor's first beat.
    assert failing.messages - before <= 8 * 9
    quiet.run(SETTLE_MS + 1_000)
    assert len(quiet.takeovers()) == 1


def test_a_returning_node_unseats_nobody() -> None:
    net = settled(3, 3)
    net.crash("n1")
    net.run(8_000)
    reign = net.coordinators()
    net.start("n1")
    net.run(12_000)
    assert net.coordinators() == reign
    assert len(net.takeovers()) == 2
    assert_settled(net)


def test_partition_and_heal_end_in_the_stronger_reign() -> None:
    for seed in range(10):
        net = settled(seed, 5)
        net.partition(("n1", "n2"))
        net.run(SETTLE_MS + 6_000)
        assert net.coordinators() == ["n1", "n3"]
        net.heal()
        net.run(SETTLE_MS + 12_000)
        assert_settled(net)
        assert net.coordinators() == ["n3"]
        assert_epochs_are_sound(net)


def test_an_isolated_worker_does_not_unseat_the_healthy_coordinator_on_its_return() -> None:
    net = settled(4, 3)
    net.partition(("n3",))
    net.run(SETTLE_MS + 4_000)
    assert net.coordinators() == ["n1", "n3"]
    net.heal()
    net.run(SETTLE_MS + 8_000)
    assert net.coordinators() == ["n1"]
    assert [node for _, node, _ in net.takeovers()] == ["n1", "n3"]
    assert_settled(net)
    # The reign that stays has lifted its number above the other's, without a takeover.
    assert net.announced[NodeId("n1")][-1] > net.announced[NodeId("n3")][-1]


def test_a_deaf_coordinator_is_replaced() -> None:
    net = settled(5, 4)
    deaf = net.coordinators()[0]
    for other in net.hosts:
        if other != deaf:
            net.cut.add((other, deaf))
    net.run(SETTLE_MS + 5_000)
    hearing = [h.election.reign() for h in net.up() if h.election and h.node_id != deaf]
    assert len(set(hearing)) == 1
    assert hearing[0] is not None
    assert hearing[0].node_id != deaf
    net.heal()
    net.run(SETTLE_MS + 9_000)
    assert_settled(net)
    assert net.coordinators() == [hearing[0].node_id]


def test_a_full_disk_neither_stands_nor_blocks() -> None:
    net = settled(6, 3)
    net.fill_disk("n2")
    net.crash("n1")
    net.run(SETTLE_MS + 2_000)
    assert net.coordinators() == ["n3"]
    net.empty_disk("n2")
    net.run(SETTLE_MS + 3_000)
    assert_settled(net)


def test_a_coordinator_with_a_full_disk_hands_over() -> None:
    net = settled(7, 3)
    net.fill_disk("n1")
    net.run(SETTLE_MS + 1_500)
    assert net.coordinators() == ["n2"]


def test_a_slow_disk_lets_another_win() -> None:
    net = settled(8, 3)
    net.hosts[NodeId("n2")].disk_ms = 700
    net.crash("n1")
    net.run(SETTLE_MS + 3_000)
    assert net.coordinators() == ["n3"]
    assert net.announced[NodeId("n2")] == []


def test_slow_disks_everywhere_still_elect() -> None:
    net = Net(9, 3)
    for host in net.hosts.values():
        host.disk_ms = 500
    net.start()
    net.run(15_000)
    assert_settled(net)


def test_a_coordinator_that_was_asleep_wakes_into_the_new_reign() -> None:
    net = settled(10, 4)
    net.pause("n1", 5_000)
    net.run(SETTLE_MS + 4_000)
    assert "n2" in net.coordinators()
    net.run(SETTLE_MS + 8_000)
    assert net.coordinators() == ["n2"]
    assert [node for _, node, _ in net.takeovers()] == ["n1", "n2"]
    assert_settled(net)


def test_loss_of_one_packet_in_ten_unseats_nobody() -> None:
    net = settled(12, 5)
    net.loss_percent = 10
    net.run(SETTLE_MS + 20_000)
    assert len(net.takeovers()) == 1


def test_a_planned_handover_leaves_no_gap() -> None:
    for seed in range(10):
        net = settled(seed, 4)
        coordinator = net.hosts[NodeId("n1")]
        net.feed(coordinator, StopRequested())
        net.run(SETTLE_MS + 600)
        assert net.takeovers(SETTLE_MS)[0][1] == "n2"
        assert net.takeovers(SETTLE_MS)[0][0] - SETTLE_MS <= 30
        over = [at for at, node, told in net.story if isinstance(told, HandedOver)]
        assert len(over) == 1
        assert over[0] - SETTLE_MS <= 40
        net.crash("n1")
        net.run(SETTLE_MS + 5_000)
        assert len(net.takeovers()) == 2
        assert_settled(net)


def test_a_planned_handover_among_lost_packets_leaves_no_gap_of_a_tenth() -> None:
    for seed in range(20):
        net = settled(seed, 5)
        net.loss_percent = 10
        net.feed(net.hosts[NodeId("n1")], StopRequested())
        net.run(SETTLE_MS + 600)
        assert net.takeovers(SETTLE_MS)[0][1] == "n2"
        assert net.takeovers(SETTLE_MS)[0][0] - SETTLE_MS < 100


def test_a_higher_configured_rank_is_handed_the_reign_after_two_quiet_minutes() -> None:
    net = Net(1, 3, ranks=(0, 5, 0))
    net.start("n1", "n3")
    net.run(3_000)
    net.start("n2")
    net.run(110_000)
    assert net.coordinators() == ["n1"]
    net.run(130_000)
    assert net.coordinators() == ["n2"]
    net.run(400_000)
    assert [node for _, node, _ in net.takeovers()] == ["n1", "n2"]


def shake(net: Net, until_ms: int) -> None:
    """Draw a fault every second or so: crash, start, cut, one-way cut, heal, loss, disks."""
    names = sorted(net.hosts)
    while net.now_ms < until_ms:
        net.run(net.now_ms + 200 + int(net.rng.random() * 1_300))
        victim = names[int(net.rng.random() * len(names))]
        other = names[int(net.rng.random() * len(names))]
        is_up = net.hosts[victim].election is not None
        match int(net.rng.random() * 10):
            case 0 | 1:
                net.crash(victim) if is_up else net.start(victim)
            case 2:
                net.partition(tuple(names[: 1 + int(net.rng.random() * (len(names) - 1))]))
            case 3 if victim != other:
                net.cut.add((victim, other))
                net.gossip()
            case 4 | 5:
                net.heal()
            case 6:
                net.loss_percent = int(net.rng.random() * 30)
            case 7:
                net.hosts[victim].disk_ms = 1 + int(net.rng.random() * 500)
            case 8 if is_up and not net.hosts[victim].is_disk_full:
                net.fill_disk(victim)
            case 9:
                net.pause(victim, int(net.rng.random() * 3_000))
            case _:
                net.latency_ms = (1, 1 + int(net.rng.random() * 120))


def quiet_down(net: Net) -> None:
    """Everything heals: what is asked then is one coordinator, known to all."""
    net.loss_percent = 0
    net.latency_ms = (1, 4)
    for host in net.hosts.values():
        host.disk_ms = 4
        if host.is_disk_full:
            net.empty_disk(host.node_id)
        if host.election is None:
            net.start(host.node_id)
    net.heal()
    net.run(net.now_ms + HEAL_MS)


def storm(seed: int) -> Net:
    net = Net(seed, 2 + seed % 4)
    net.start()
    shake(net, 8_000)
    quiet_down(net)
    return net


@pytest.mark.parametrize("first", range(0, 200, SEEDS_EACH))
def test_after_any_storm_there_is_one_coordinator(first: int) -> None:
    for seed in range(first, first + SEEDS_EACH):
        net = storm(seed)
        assert_epochs_are_sound(net)
        assert len(net.coordinators()) == 1, f"seed {seed}: {net.coordinators()}"
        assert len(set(net.followed())) == 1, f"seed {seed}: {net.followed()}"


def test_a_seed_replays_alike() -> None:
    one, other = storm(11), storm(11)
    assert one.story == other.story
    assert one.messages == other.messages


# --- Lies about numbers --------------------------------------------------------------------------

EVIL = NodeId("n4")


def lie(net: Net, number: int) -> None:
    """One member names an epoch of that number to everybody."""
    said = Challenge(1, Epoch(number, EVIL, 0), 600)
    for host in net.up():
        if host.node_id != EVIL:
            net.feed(host, Received(EVIL, said, SOURCE))


@pytest.mark.parametrize("number", [LEAP_MAX, NUMBER_MAX, NUMBER_MAX + 1, 2**62])
def test_a_lie_about_numbers_does_not_outlive_its_teller(number: int) -> None:
    for seed in range(5):
        net = settled(seed, 4)
        lie(net, number)
        net.run(5_000)
        net.bar("n4")
        net.crash("n4")
        net.crash(*net.coordinators())
        net.run(12_000)
        net.crash("n1", "n2", "n3")
        net.start("n1", "n2", "n3")
        net.run(20_000)
        assert_settled(net)
        assert_epochs_are_sound(net)
        assert len(net.takeovers(12_000)) == 1
        newest = net.followed()[0]
        assert newest is not None
        assert newest.number < 3 * LEAP_MAX


def test_lies_without_end_cost_no_reign() -> None:
    net = settled(1, 4)
    if net.coordinators() == [EVIL]:
        net.crash(EVIL)
        net.run(10_000)
        net.start(EVIL)
    began_ms = net.now_ms + 1_000
    net.run(began_ms)
    while net.now_ms < began_ms + 60_000:
        lie(net, NUMBER_MAX)
        net.run(net.now_ms + 50)
    assert_settled(net)
    assert net.takeovers(began_ms) == []
    newest = net.followed()[0]
    assert newest is not None
    assert newest.number < 2 * LEAP_MAX


def test_who_was_away_for_millions_of_reigns_follows_within_seconds() -> None:
    net = settled(1, 3)
    net.crash("n3")
    net.run(8_000)
    ahead = Epoch(20 * LEAP_MAX, NodeId("n1"), 0)
    for name in ("n1", "n2"):
        host = net.hosts[NodeId(name)]
        net.crash(name)
        host.disk["election/epoch"] = EpochRecord(ahead, ahead)
    net.start("n1", "n2")
    net.run(12_000)
    net.start("n3")
    net.run(20_000)
    assert_settled(net)
    assert net.coordinators() != [NodeId("n3")]
