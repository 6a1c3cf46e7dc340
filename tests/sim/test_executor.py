"""The simulated engine: containers outlive the agent and not the power."""

import pytest

from rain.effects import (
    ContainerExited,
    ContainersListed,
    ContainerStarted,
    Event,
    StartContainer,
    StopContainer,
)
from rain.model import AttemptId, Epoch, Job, JobId, JobSpec, NodeId
from rain.sched.identity import attempt_key
from sim.executor import EXIT_KILL, EXIT_TERM, Executor
from sim.world import Violation, World

NODE = NodeId("n1")
ATTEMPT = AttemptId(JobId("job"), 0, 1, Epoch(1, NODE, 7), NODE)
SECOND = 1_000_000


def order(exit_code: str = "3") -> StartContainer:
    spec = JobSpec(command=("work", "2000", exit_code))
    return StartContainer(ATTEMPT, Job(ATTEMPT.job_id, spec, "n1", NODE, 0, b""))


def given() -> tuple[World, Executor, list[Event]]:
    world, story = World(1), list[Event]()
    executor = Executor(world, world.dice("engine"), 0, 0)
    executor.attach(story.append)
    return world, executor, story


def test_a_container_starts_runs_and_exits_as_its_command_says() -> None:
    world, executor, story = given()
    executor.start(order())
    world.run(5 * SECOND)
    assert [type(event) for event in story if not isinstance(event, ContainersListed)] == [
        ContainerStarted,
        ContainerExited,
    ]
    ended = next(event for event in story if isinstance(event, ContainerExited))
    assert (ended.exit_code, ended.ended_unix_ms - ended.started_unix_ms) == (3, 2_000)
    executor.remove(attempt_key(ATTEMPT))
    assert executor.containers == {}


def test_an_attempt_is_started_once() -> None:
    _, executor, _ = given()
    executor.start(order())
    with pytest.raises(Violation, match="never reused"):
        executor.start(order())


def test_a_stop_ends_it_early_even_before_it_began() -> None:
    world, executor, story = given()
    executor.start(order())
    executor.stop(StopContainer(ATTEMPT, 100))
    world.run(SECOND)
    assert any(
        isinstance(event, ContainerExited) and event.exit_code in (EXIT_TERM, EXIT_KILL)
        for event in story
    )


def test_an_agent_that_comes_back_finds_what_went_on_without_it() -> None:
    world, executor, story = given()
    executor.start(order())
    world.run(SECOND)
    executor.detach()
    world.run(4 * SECOND)
    story.clear()
    executor.attach(story.append)
    world.run(6 * SECOND)
    assert isinstance(story[0], ContainersListed)
    assert [found.exit_code for found in story[0].found] == [3]


def test_without_power_nothing_is_left() -> None:
    world, executor, story = given()
    executor.start(order())
    world.run(SECOND)
    executor.detach()
    executor.power_off()
    executor.attach(story.append)
    world.run(6 * SECOND)
    assert story[-1] == ContainersListed(())


def ends_of(world: World, executor: Executor, story: list[Event]) -> list[ContainerExited]:
    executor.start(order())
    world.run(30 * SECOND)
    return [event for event in story if isinstance(event, ContainerExited)]


def test_an_end_may_be_told_twice_or_late() -> None:
    world, executor, story = given()
    executor.twice_permille = 1_000
    first, second = ends_of(world, executor, story)
    assert first == second
    world, executor, story = given()
    executor.late_permille = 1_000
    executor.heal()
    at_once = ends_of(world, executor, story)
    assert len(at_once) == 1


def test_the_wall_clock_may_jump() -> None:
    _, executor, _ = given()
    before_ms = executor.unix_ms()
    executor.wall_error_ms += 3_600_000
    assert executor.unix_ms() == before_ms + 3_600_000
