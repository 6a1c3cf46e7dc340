"""A follower sees each byte once, whatever happens to the reading."""

import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from rain.agent import logs
from rain.agent.executors import Executors
from rain.agent.log_copies import LogCopies, copy_name
from rain.agent.logs import FOLLOWED_MAX, Logs
from rain.agent.reads import Reads
from rain.exec.executor import LOG_READERS_MAX
from rain.exec.logs import LogsUnavailable, Tail, frame
from rain.model import AttemptId, End, EndState, Epoch, JobSpec, NodeId, Stage
from rain.sched.identity import attempt_key
from rain.sched.messages import AttemptEnd, Cell, JobPatch, TaskPatch
from tests.agent.desk import OneNode, logger

Reading = Callable[[], AsyncIterator[tuple[int, bytes]]]


class Readings:
    """What each reading of the attempt gives, one after the other; the last one again and again."""

    def __init__(self, *readings: Reading) -> None:
        self._waiting = list(readings)
        self.taken = 0

    def logs(self, attempt_id: AttemptId, follow: bool) -> AsyncIterator[tuple[int, bytes]]:
        self.taken += 1
        return (self._waiting.pop(0) if len(self._waiting) > 1 else self._waiting[0])()


LAB = NodeId("lab")
WENT_UNIX_MS = 1_700_000_000_000
AWAY = "the log is on desk, which does not answer; no other PC has a copy of its end"


def reading(*pieces: tuple[int, bytes], then: Callable[[], None] | None = None) -> Reading:
    async def read() -> AsyncIterator[tuple[int, bytes]]:
        for piece in pieces:
            yield piece
        if then is not None:
            then()

    return read


def breaks() -> None:
    raise LogsUnavailable("the engine is gone")


class Desk:
    """The logs of one task whose attempt runs on this very PC."""

    def __init__(self, folder: Path, readings: Readings, ran_on: NodeId | None = None) -> None:
        node = OneNode(folder)
        self.store, driver, streams = node.store, node.driver, node.streams()
        reads = Reads(driver, streams, node.identity)
        self.copies = folder / "copies"
        copies = LogCopies(self.copies, driver, streams, logger())
        executors = cast(Executors, readings)
        self.logs = Logs(
            driver, streams, node.identity, reads, executors, copies, {LAB: WENT_UNIX_MS}.get
        )
        job = node.job(JobSpec(("true",)))
        self.job_id = job.job_id
        self._table = driver.node.sched.table
        self._epoch = Epoch(1, node.identity.node_id, 7)
        ran_on = ran_on or node.identity.node_id
        self._attempt = AttemptId(self.job_id, 0, 1, self._epoch, ran_on)
        cell = Cell(epoch=self._epoch, turn=1, stage=Stage.RUNNING, attempt_id=self._attempt)
        self._table.merge((JobPatch(self.job_id, job, tasks=(TaskPatch(0, 0, cell),)),))

    def end(self) -> None:
        cell = Cell(True, 1, True, self._epoch, 2, Stage.ENDED, self._attempt)
        end = AttemptEnd(self._attempt, End(EndState.SUCCEEDED, 0))
        self._table.merge((JobPatch(self.job_id, tasks=(TaskPatch(0, 0, cell, (end,)),)),))

    def lose(self) -> None:
        """Its PC went down: it waits for another one, and a third one has just said no."""
        refused = AttemptId(self.job_id, 0, 2, self._epoch, NodeId("third"))
        ends = (
            AttemptEnd(self._attempt, End(EndState.LOST)),
            AttemptEnd(refused, End(EndState.REFUSED)),
        )
        cell = Cell(False, 1, False, self._epoch, 3, Stage.PENDING)
        self._table.merge((JobPatch(self.job_id, tasks=(TaskPatch(0, 0, cell, ends),)),))

    def keep_copy(self, left_out: tuple[int, int], *frames: bytes) -> None:
        """As if it had been brought here: where no copy of its own PC's is looked for."""
        self.copies.mkdir()
        name = copy_name(attempt_key(self._attempt), self._attempt.node_id)
        (self.copies / f"{name}.log").write_bytes(Tail(left_out, b"".join(frames)).packed())

    async def told(self, follow: bool = True) -> tuple[bytes, list[str]]:
        """What was printed, and the notes between."""
        printed, notes = b"", []
        job: dict[str, Any] = {"id": self.job_id, "tasks_total": 1}
        async for item in self.logs.follow(job, None, follow):
            assert item["task"] == 0
            if "note" in item:
                notes.append(item["note"])
            else:
                printed += base64.b64decode(item["data"])
        await self.store.close()
        return printed, notes


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_MS", 1)
    monkeypatch.setattr(logs, "READ_AGAIN_MS", 2)


async def test_a_reading_that_breaks_off_is_taken_up_where_it_was(tmp_path: Path) -> None:
    desk: Desk
    readings = Readings(
        reading((1, b"one "), (2, b"err "), then=breaks),
        reading(then=breaks),
        # An agent that has only just started again does not know yet that the attempt runs.
        reading(),
        reading((1, b"one two "), (2, b"err "), then=lambda: desk.end()),
    )
    desk = Desk(tmp_path, readings)
    assert await desk.told() == (b"one err two ", [])
    assert readings.taken == 4


async def test_a_log_that_stays_away_is_given_up_with_one_note(tmp_path: Path) -> None:
    readings = Readings(reading((1, b"one "), then=breaks), reading(then=breaks))
    desk = Desk(tmp_path, readings)
    desk.end()
    assert await desk.told() == (b"one ", [AWAY])
    # The first one showed something new and does not count.
    assert readings.taken == 1 + logs.READS_MAX


async def test_of_an_attempt_that_is_over_the_copy_is_shown_where_its_pc_does_not_answer(
    tmp_path: Path,
) -> None:
    readings = Readings(reading((1, b"one "), (2, b"err "), then=breaks))
    desk = Desk(tmp_path, readings)
    desk.end()
    desk.keep_copy((2, 0), frame(1, b"e two "), frame(2, b"err more "), frame(1, b"end"))
    # What was shown before the reading broke off is not shown again.
    assert await desk.told() == (b"one err two more end", [])
    assert readings.taken == 1


async def test_where_only_the_end_is_left_that_is_said(tmp_path: Path) -> None:
    readings = Readings(reading((1, b"one "), then=breaks))
    desk = Desk(tmp_path, readings)
    desk.end()
    desk.keep_copy((100, 20), frame(1, b"end"))
    words = (
        "desk does not answer: only the end of its log is left, 116 bytes before it are on that PC"
    )
    assert await desk.told(follow=False) == (b"one end", [words])


async def test_what_runs_still_is_not_looked_for_in_copies(tmp_path: Path) -> None:
    readings = Readings(reading(then=breaks))
    desk = Desk(tmp_path, readings)
    desk.keep_copy((0, 0), frame(1, b"of long ago"))
    words = "the log is on desk, which does not answer"
    assert await desk.told(follow=False) == (b"", [words])


async def test_who_does_not_follow_waits_for_a_few_readings_only(tmp_path: Path) -> None:
    readings = Readings(reading(then=breaks))
    desk = Desk(tmp_path, readings)
    assert (await desk.told(follow=False))[1] == ["the log is on desk, which does not answer"]
    assert readings.taken == logs.READS_ONCE_MAX


async def test_of_a_pc_that_went_down_before_its_log_was_copied_that_is_said(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, Readings(reading()), ran_on=LAB)
    desk.lose()
    words = (
        "the log is on lab, which is down since 2023-11-14T22:13:20.000Z; no other PC has a copy "
        "of its end; it may come back with that PC"
    )
    assert await desk.told(follow=False) == (b"", [words])


async def test_of_a_pc_that_was_down_before_nobody_knows_since_when(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Readings(reading()), ran_on=NodeId("attic"))
    desk.end()
    words = (
        "the log is on attic, which is down; no other PC has a copy of its end; it may come back "
        "with that PC"
    )
    assert await desk.told(follow=False) == (b"", [words])


def test_one_follower_alone_cannot_take_all_readers() -> None:
    assert LOG_READERS_MAX > FOLLOWED_MAX
