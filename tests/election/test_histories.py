"""The histories that broke the first draft, told in whole pools; docs/rules.md has the list."""

from functools import partial

import pytest

from rain.effects import DiskOld, PeerReset, SleepComing, StopRequested
from rain.election.epochs import FORGOTTEN_MAX
from rain.election.messages import Challenge
from rain.model import NodeId
from tests.election.net import Net
from tests.election.story import FIRST, down, epoch, following, reigning
from tests.election.test_net import SETTLE_MS, assert_epochs_are_sound, assert_settled, settled

RESET_MS_MAX = 3


def tell_resets(net: Net, gone: str) -> None:
    """The kernel of that PC ends all streams of its dead agent."""
    for host in net.up():
        if host.node_id != gone:
            delay_ms = 1 + int(net.rng.random() * RESET_MS_MAX)
            net.at(net.now_ms + delay_ms, partial(net.feed, host, PeerReset(NodeId(gone))))


def deafen(net: Net, deaf: str) -> None:
    for other in net.hosts:
        if other != deaf:
            net.cut.add((other, NodeId(deaf)))
    net.gossip()


# --- E1: the first by rank sends, but cannot hear


@pytest.mark.parametrize("seed", range(5))
def test_the_first_by_rank_that_hears_nobody_keeps_nobody_waiting(seed: int) -> None:
    net = settled(seed, 5)
    assert net.coordinators() == ["n1"]
    deafen(net, "n2")
    net.crash("n1")
    net.run(SETTLE_MS + 6_000)
    followed = {h.election.reign() for h in net.up() if h.election and h.node_id != "n2"}
    assert len(followed) == 1
    reign = followed.pop()
    assert reign is not None
    assert reign.node_id in ("n3", "n4", "n5")
    net.heal()
    net.run(SETTLE_MS + 12_000)
    assert_settled(net)
    assert net.coordinators() == [reign.node_id]
    assert_epochs_are_sound(net)


def test_a_candidate_asks_everybody_whatever_the_rank() -> None:
    story = following("n4", ("n1", "n2", "n3", "n4", "n5"))
    story.until(2_610)
    # The others had their turns, at 2,500 and 2,550, and nobody was heard of.
    assert "2600 -> n1 n2 n3 n5: Challenge newest 1.n1" in story.told()


# --- one campaign, one cut


def test_deaths_of_one_moment_are_one_cut_of_the_view() -> None:
    story = following("n2", ("n1", "n2", "n3", "n4", "n5"))
    story.feed(down("n4"))
    story.beats(FIRST, 2_300)
    story.feed(down("n5"))
    story.beats(FIRST, 3_400)
    told = [line for line in story.told().splitlines() if "view" in line or "ViewChanged" in line]
    assert told == ["3300 Persist view n1 n2 n3", "3305 ViewChanged n1 n2 n3"]


def test_who_has_granted_lets_that_campaign_end() -> None:
    story = following("n3")
    story.until(2_505)
    story.hear("n2", Challenge(7, FIRST, 500))
    story.until(2_550)
    story.beat(epoch(2, "n2"), followers=0, age_ms=0)
    story.until(3_000)
    assert story.election.campaigns == 0
    assert story.election.reign() == epoch(2, "n2")


# --- broken streams


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_a_killed_process_is_one_change_and_sooner_than_a_cut_cable(count: int) -> None:
    spans = []
    for seed in range(10):
        net = settled(seed, count)
        died_ms = SETTLE_MS + seed * 7
        net.run(died_ms)
        gone = net.coordinators()[0]
        net.crash(gone)
        tell_resets(net, gone)
        net.run(died_ms + 3_000)
        takeovers = net.takeovers(died_ms)
        assert len(takeovers) == 1
        spans.append(takeovers[0][0] - died_ms)
        assert_settled(net)
    # A view of two has no majority to win at once with, so its campaign runs its 300 ms.
    assert max(spans) <= (530 if count == 2 else 260)


def test_streams_that_break_under_a_living_coordinator_cost_no_reign() -> None:
    for seed in range(5):
        net = settled(seed, 5)
        net.loss_percent = 5
        for _ in range(40):
            tell_resets(net, net.coordinators()[0])
            net.run(net.now_ms + 500)
        assert len(net.takeovers()) == 1
        assert_settled(net)


# --- sleep


def test_a_coordinator_that_will_sleep_leaves_no_gap() -> None:
    for seed in range(10):
        net = settled(seed, 4)
        sleeper = net.hosts[NodeId("n1")]
        net.feed(sleeper, SleepComing())
        net.run(SETTLE_MS + 100)
        takeovers = net.takeovers(SETTLE_MS)
        assert [node for _, node, _ in takeovers] == ["n2"]
        assert takeovers[0][0] - SETTLE_MS <= 30
        assert net.may_sleep_ms["n1"] - SETTLE_MS <= 40
        net.pause("n1", 30_000)
        net.run(SETTLE_MS + 40_000)
        assert_settled(net)
        assert net.coordinators() == ["n2"]


def test_all_that_will_sleep_leave_the_pool_to_the_first_that_wakes() -> None:
    net = settled(1, 3)
    for host in net.up():
        net.feed(host, SleepComing())
    assert sorted(net.may_sleep_ms) == ["n2", "n3"]
    net.run(SETTLE_MS + 600)
    assert sorted(net.may_sleep_ms) == ["n1", "n2", "n3"]
    net.run(SETTLE_MS + 12_000)
    assert_settled(net)


def test_a_stop_that_meets_a_sleep_says_both() -> None:
    story = reigning()
    story.feed(SleepComing())
    outputs = story.feed(StopRequested())
    assert outputs == []
    story.until(3_500)
    text = story.told()
    assert "3500 HandedOver" in text
    assert "3500 MaySleep" in text


# --- E14: old disks


def test_an_old_disk_that_reigns_passes_its_reign_on_and_is_taken_back_later() -> None:
    net = settled(2, 4)
    net.feed(net.hosts[NodeId("n1")], DiskOld(9))
    net.run(SETTLE_MS + 3_000)
    assert net.coordinators() == ["n2"]
    assert [node for _, node, _ in net.takeovers(SETTLE_MS)] == ["n2"]
    # Their tables are alike, so it is a follower like any other.
    host = net.hosts[NodeId("n1")]
    assert host.election is not None
    assert not host.election.is_behind()


def test_where_all_disks_are_old_somebody_stands_with_room_for_what_was_forgotten() -> None:
    net = settled(3, 3)
    net.crash("n1", "n2", "n3")
    net.run(6_000)
    for host in net.hosts.values():
        host.mark_behind()
    net.start()
    net.run(6_000 + 15_000)
    assert_settled(net)
    newest = net.followed()[0]
    assert newest is not None
    assert newest.number > FORGOTTEN_MAX
