"""Whole pools in virtual time: convergence, no false death, partitions, restarts, idle cost."""

from rain.effects import (
    HandedOver,
    HardwareMeasured,
    MemberDown,
    MemberSilent,
    MemberUnreachable,
    StopRequested,
)
from rain.gossip.membership import GossipConfig
from rain.model import MemberState
from tests.gossip.pool import Pool, facts_of, node_id

FIVE = [1, 2, 3, 4, 5]


def pool_of(indexes: list[int], seed: int, loss: float = 0.0) -> Pool:
    pool = Pool(seed, loss)
    for index in indexes:
        pool.start(index)
    return pool


def test_five_find_each_other_within_a_second() -> None:
    pool = pool_of(FIVE, seed=1)
    pool.run(1_000)
    assert pool.agree(FIVE)
    assert pool.downs() == []
    assert sorted(pool.ups(3)) == [node_id(index) for index in (1, 2, 4, 5)], "each once"


def test_five_find_each_other_and_nobody_dies_at_a_fifth_of_packets_lost() -> None:
    for seed in range(5):
        pool = pool_of(FIVE, seed, loss=0.2)
        pool.run(5_000)
        assert pool.agree(FIVE), seed
        pool.run(180_000)
        assert pool.downs() == [], seed


def test_a_dead_member_is_missed_by_all_and_a_restart_brings_it_back() -> None:
    pool = pool_of(FIVE, seed=2)
    pool.run(10_000)
    pool.kill(4)
    pool.run(12_000)
    rest = [1, 2, 3, 5]
    assert pool.agree(rest)
    assert sorted(pool.downs()) == [(i, node_id(4), MemberState.DEAD) for i in rest]
    pool.start(4)
    pool.run(2_000)
    assert pool.agree(FIVE)


def test_two_of_three_switched_off_together_are_both_missed() -> None:
    pool = pool_of([1, 2, 3], seed=3)
    pool.run(10_000)
    pool.kill(2)
    pool.kill(3)
    pool.run(25_000)
    assert pool.states(1) == {1: MemberState.ALIVE, 2: MemberState.DEAD, 3: MemberState.DEAD}


def test_a_silent_member_is_proved_unreachable_in_half_a_second() -> None:
    pool = pool_of(FIVE, seed=4)
    pool.run(10_000)
    pool.kill(2)
    pool.feed(1, MemberSilent(node_id(2)))
    pool.feed(1, MemberSilent(node_id(3)))
    pool.run(500)
    said = [n for _, at, n in pool.notices if at == 1 and isinstance(n, MemberUnreachable)]
    assert said == [MemberUnreachable(node_id(2))]


def test_a_cut_link_between_two_members_kills_nobody() -> None:
    pool = pool_of(FIVE, seed=5)
    pool.run(5_000)
    pool.split({1}, {2})
    pool.run(120_000)
    assert pool.downs() == []


def test_a_partition_heals_by_itself() -> None:
    for seed in range(4):
        pool = pool_of(FIVE, seed)
        pool.run(5_000)
        pool.split({1, 2}, {3, 4, 5})
        pool.run(90_000)
        assert pool.agree([1, 2]), seed
        assert pool.agree([3, 4, 5]), seed
        pool.cut.clear()
        pool.run(32_000)
        assert pool.agree(FIVE), seed


def test_a_leaver_is_left_everywhere_and_never_dead() -> None:
    pool = pool_of(FIVE, seed=6, loss=0.2)
    pool.run(20_000)
    pool.feed(3, StopRequested())
    pool.feed(3, HandedOver())
    pool.run(3_000)
    rest = [1, 2, 4, 5]
    assert pool.agree(rest)
    assert sorted(pool.downs()) == [(i, node_id(3), MemberState.LEFT) for i in rest]
    pool.start(3)
    pool.run(3_000)
    assert pool.agree(FIVE)


def test_a_pool_switched_off_and_on_finds_itself_without_broadcast_of_the_old() -> None:
    pool = pool_of(FIVE, seed=7)
    pool.run(5_000)
    for index in FIVE:
        pool.kill(index)
    pool.notices.clear()
    for index in FIVE:
        pool.start(index)
        assert set(pool.states(index).values()) == {MemberState.ALIVE, MemberState.DEAD}
    pool.run(1_000)
    assert pool.agree(FIVE)
    assert pool.downs() == [], "remembered is not known to be alive"


def test_changed_facts_reach_all_at_once() -> None:
    pool = pool_of(FIVE, seed=8)
    pool.run(5_000)
    pool.feed(1, HardwareMeasured(facts_of(9)))
    pool.run(100)
    for index in FIVE:
        first = pool.members[index].members()[0]
        assert (first.facts.version, first.facts.capacity) == (2, facts_of(9).capacity)


def test_thirty_two_members_cost_little_when_idle() -> None:
    indexes = list(range(1, 33))
    pool = pool_of(indexes, seed=9)
    pool.run(33_000)
    assert pool.agree(indexes)
    pool.bytes_sent.clear()
    pool.run(30_000)
    sent_per_second = [total // 30 for total in pool.bytes_sent.values()]
    print("idle bytes/s sent per node:", max(sent_per_second), sum(sent_per_second) // 32)
    # What one sends another receives, so both ways cost twice the mean.
    assert 2 * sum(sent_per_second) // len(indexes) <= 2_500
    assert pool.downs() == []


def test_one_seed_is_one_history() -> None:
    histories = []
    for _ in range(2):
        pool = pool_of(FIVE, seed=10, loss=0.2)
        pool.run(20_000)
        histories.append((pool.notices, pool.bytes_sent, pool.logs))
    assert histories[0] == histories[1]


def test_a_starved_member_accuses_nobody() -> None:
    pool = pool_of([1, 2, 3], seed=11)
    pool.run(5_000)
    pool.split({1}, {2, 3})
    starved_ms = 1_400
    sleeper = pool.members.pop(1)
    pool.run(starved_ms)
    pool.cut.clear()
    pool.members[1] = sleeper
    pool.run(20_000)
    assert not [down for down in pool.downs() if down[0] == 1]
    assert pool.agree([1, 2, 3])


def test_a_large_pool_learns_of_a_death_by_rumours_alone() -> None:
    few = GossipConfig(tell_all_members_max=1)
    pool = Pool(seed=12)
    indexes = list(range(1, 13))
    for index in indexes:
        pool.start(index, few)
    pool.run(10_000)
    pool.kill(7)
    pool.run(12_000)
    assert pool.agree([index for index in indexes if index != 7])
    assert {notice for _, _, notice in pool.notices if isinstance(notice, MemberDown)} == {
        MemberDown(node_id(7), MemberState.DEAD)
    }
