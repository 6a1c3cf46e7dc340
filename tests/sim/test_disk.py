"""Writes are durable in order or not at all, and nothing that depends on one overtakes it."""

from collections.abc import Callable
from typing import Any

from rain.effects import DiskFailed, DiskRecovered, Effect, Event, Log, Persist, Persisted
from rain.election.records import EpochRecord
from rain.model import Epoch, NodeId
from sim.disk import SLOW_US_MAX, SLOW_US_MIN, Disk
from sim.world import World

KEY = "election/epoch"


class Agent:
    def __init__(self) -> None:
        self.story: list[Event | Effect] = []
        self.asleep: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = None

    def feed(self, event: Event) -> None:
        self.story.append(event)

    def carry_out(self, effect: Effect) -> None:
        self.story.append(effect)

    def when_awake(self, call: Callable[..., None], *arguments: Any) -> None:
        if self.asleep is None:
            call(*arguments)
        else:
            self.asleep.append((call, arguments))


def record(number: int) -> EpochRecord:
    epoch = Epoch(number, NodeId("n1"), 0)
    return EpochRecord(epoch, epoch)


def given() -> tuple[World, Disk, Agent]:
    world = World(1)
    disk, agent = Disk(world, world.dice("disk"), 0), Agent()
    disk.attach(agent)
    return world, disk, agent


def test_what_depends_on_a_write_follows_it() -> None:
    world, disk, agent = given()
    disk.write(Persist((record(1),), then=(Log("told"),), token=5))
    world.run(900)
    assert agent.story == []
    world.run(1_000_000)
    assert agent.story[0] == Log("told")
    assert isinstance(agent.story[1], Persisted)
    assert agent.story[1].token == 5
    assert list(disk.rows) == [KEY]
    disk.write(Persist(deletes=(KEY,)))
    world.run(2_000_000)
    assert disk.rows == {}


def test_a_crash_keeps_a_prefix_of_what_was_written() -> None:
    kept = set()
    for seed in range(30):
        world = World(seed)
        disk, agent = Disk(world, world.dice("disk"), 0), Agent()
        disk.attach(agent)
        disk.write(Persist((record(1),), then=(Log("told"),)))
        disk.write(Persist((EpochRecord(record(2).newest, record(2).floor),)))
        disk.detach()
        world.run(1_000_000)
        assert agent.story == []
        kept.add(len(disk.rows))
    assert kept == {0, 1}


def test_a_full_disk_drops_what_depended_on_it_and_still_owes_the_row() -> None:
    world, disk, agent = given()
    disk.is_full = True
    disk.write(Persist((record(1),), then=(Log("told"),), token=5))
    world.run(1_000_000)
    assert agent.story
    assert set(map(type, agent.story)) == {DiskFailed}
    assert disk.rows == {}
    disk.is_full = False
    world.run(3_000_000)
    assert agent.story[-1] == DiskRecovered()
    assert list(disk.rows) == [KEY]


def test_a_write_ends_while_its_agent_sleeps_but_is_told_later() -> None:
    world, disk, agent = given()
    agent.asleep = []
    disk.write(Persist((record(1),), then=(Log("told"),)))
    world.run(1_000_000)
    assert list(disk.rows) == [KEY]
    assert agent.story == []
    for call, arguments in agent.asleep:
        call(*arguments)
    assert agent.story == [Log("told")]


def test_a_slow_disk_takes_a_tenth_of_a_second_at_least() -> None:
    world, disk, agent = given()
    disk.is_slow = True
    disk.write(Persist((record(1),), then=(Log("told"),)))
    world.run(SLOW_US_MIN - 1)
    assert agent.story == []
    world.run(SLOW_US_MAX)
    assert agent.story == [Log("told")]


def test_a_torn_tail_is_never_on_disk() -> None:
    for seed in range(30):
        world = World(seed)
        disk = Disk(world, world.dice("disk"), 0)
        disk.attach(Agent())
        disk.write(Persist((record(1),)))
        disk.loses_tail = True
        disk.detach()
        assert disk.rows == {}
        assert not disk.loses_tail


def test_somebody_may_strike_between_the_disk_and_what_depends_on_it() -> None:
    world, disk, agent = given()
    disk.on_durable = disk.detach
    disk.write(Persist((record(1),), then=(Log("told"),), token=5))
    world.run(1_000_000)
    assert list(disk.rows) == [KEY]
    assert agent.story == []
