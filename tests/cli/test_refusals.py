"""Why no PC runs a job is told while somebody waits for it, in the words of the PC that refused."""

import time
from collections.abc import Iterable, Iterator

import pytest

from rain.cli import follow
from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, Json, end, job, output

FORBIDDEN = "the owner of this PC does not allow --network host"
WAITS: Json = {"state": "PENDING", "tasks": {"PENDING": 1}, "exit_code": None}
TOLD = f"rain: refused by pc1: {FORBIDDEN}\n"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "REFUSALS_PAUSE_S", 0.01)


@pytest.fixture
def asked(agent: FakeAgent) -> list[int]:
    """How often the job was asked for; pc1 refuses it for ever."""
    seen: list[int] = []

    def told(_args: Json) -> list[Json]:
        seen.append(len(seen))
        return [end(**job(**WAITS, refusals={"pc1": FORBIDDEN}))]

    agent.on("submit", end(job_id="abc", copies=3, members=3))
    agent.on_call("job", told)
    return seen


def until_asked(asked: list[int], *lines: Json, times: int = 3) -> Iterator[Json]:
    """These lines, when the job was asked for a few times."""
    deadline_s = time.monotonic() + 10
    while len(asked) < times and time.monotonic() < deadline_s:
        time.sleep(0.005)
    yield from lines


def test_a_job_shows_who_refused_it(rain: Rain, agent: FakeAgent) -> None:
    agent.on("job", end(**job(**WAITS, waiting_for={"x": 1}, refusals={"pc1": FORBIDDEN})))
    assert f"refused by pc1: {FORBIDDEN}\n" in rain("job", "abc").out


@pytest.mark.parametrize("words", [["run"], ["submit", "--wait"]])
def test_who_waits_is_told_each_refusal_once(
    rain: Rain, agent: FakeAgent, asked: list[int], words: list[str]
) -> None:
    agent.on_call("logs", lambda _: until_asked(asked, output(b"hi\n"), end()))
    agent.on("wait", end(exit_code=0, jobs=[job()]))
    told = rain(*words, "--image", "i", "--", "x")
    assert (told.code, told.out) == (0, "hi\n")
    assert told.err.replace("submitted abc\n", "") == TOLD


@pytest.mark.parametrize("words", [["-q"], ["--json"], ["--array", "0-1"]])
def test_it_is_told_however_the_job_is_waited_for(
    rain: Rain, agent: FakeAgent, asked: list[int], words: list[str]
) -> None:
    over = end(exit_code=0, jobs=[job()])

    def wait(_args: Json) -> Iterable[Json]:
        return until_asked(asked, over)

    agent.on_call("wait", wait)
    agent.on("logs", end())
    told = rain("submit", "--wait", *words, "--image", "i", "--", "x")
    assert told.code == 0
    assert told.err.count(TOLD) == 1


def test_not_more_are_told_than_a_screenful(
    rain: Rain, agent: FakeAgent, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "REFUSALS_SHOWN_MAX", 2)

    def told(_args: Json) -> list[Json]:
        asked.append(len(asked))
        return [end(**job(**WAITS, refusals={"pc1": f"no {len(asked)}"}))]

    agent.on_call("job", told)
    agent.on_call("logs", lambda _: until_asked(asked, end(), times=2))
    agent.on("wait", end(exit_code=0, jobs=[job()]))
    err = rain("run", "--image", "i", "--", "x").err
    assert err == "rain: refused by pc1: no 1\nrain: refused by pc1: no 2\n"
