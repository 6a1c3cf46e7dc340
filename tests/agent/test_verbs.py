"""What a person may ask for is looked at before anything is done with it."""

import itertools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from rain.agent.control import Json, Verb, VerbError
from rain.agent.executors import Executors
from rain.agent.log_copies import LogCopies
from rain.agent.logs import Logs
from rain.agent.reads import Reads
from rain.agent.verbs import Verbs, _spec
from rain.config import UpOptions
from rain.model import AttemptId, End, EndState, Epoch, JobId, JobSpec, Role, Stage
from rain.sched.messages import AttemptEnd, Cell, JobPatch, TaskPatch
from tests.agent.asking import asked, certify, refused
from tests.agent.desk import Nowhere, OneNode, logger
from tests.exec.rig import LABELS


@pytest.mark.parametrize(
    "wish",
    [
        {"command": ["echo", "\udcff"]},
        {"command": ["echo"], "environment": [["NAME", "\ud800"]]},
        {"command": ["echo"], "environment": [["\ud800", "value"]]},
        {"command": ["echo"], "name": "\udc80"},
    ],
)
def test_words_that_are_no_text_are_refused(wish: dict[str, object]) -> None:
    with pytest.raises(VerbError, match="not UTF-8") as refused:
        _spec(wish)
    assert (refused.value.code, refused.value.exit_code) == ("usage", 2)


def test_any_text_is_fine() -> None:
    wish = {"command": ["echo", "größe 🌧"], "environment": [["NAME", "\x7f"]]}
    assert _spec(wish).command == ("echo", "größe 🌧")


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(VerbError) as refused:
        _spec({"command": ["x" * 200_000]})
    assert str(refused.value).startswith("the job does not fit: command: ")
    assert "$" not in str(refused.value)


# --- Who may ask ---------------------------------------------------------------------------------

PROCESS: Json = {
    "command": ["true"],
    "executor": "process",
    "need": {"cpus_milli": 0, "memory_bytes": 0},
}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[OneNode]:
    one = OneNode(tmp_path)
    one.driver.connect(Nowhere(), Nowhere())
    yield one
    await one.store.close()


@pytest.fixture
def verbs(node: OneNode) -> Mapping[str, Verb]:
    reads = Reads(node.driver, node.streams(), node.identity)
    executors = Executors(UpOptions(node.folder), LABELS, node.folder, node.driver.feed, logger())
    copies = LogCopies(node.folder / "copies", node.driver, node.streams(), logger())
    logs = Logs(node.driver, node.streams(), node.identity, reads, executors, copies)
    ids = itertools.count(1).__next__
    return Verbs(node.driver, node.signer, reads, logs, ids, node.pool.pool_id).by_name()


def with_job(node: OneNode) -> str:
    """One of Anna's."""
    job = node.job(JobSpec(("true",)))
    node.driver.node.sched.table.merge((JobPatch(job.job_id, job),))
    return job.job_id


@pytest.mark.parametrize("verb", ["submit", "cancel"])
async def test_a_worker_is_told_what_it_may_not_and_where_it_may_be_typed(
    node: OneNode, verbs: Mapping[str, Verb], verb: str
) -> None:
    job_id = with_job(node)
    certify(node, "studio", Role.ADMIN, "bert")
    certify(node, "desk", Role.WORKER, "anna", is_itself=True)
    error = await refused(verbs, verb, spec=PROCESS, ids=[job_id])
    assert str(error) == f"this PC may lend work but not {verb}: its role is worker"
    assert error.hint == "type it on an admin's PC (studio), or on one of a member"


async def test_who_may_not_cancel_is_told_whose_pc_may(
    node: OneNode, verbs: Mapping[str, Verb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rain.agent.reads.READ_WAIT_MS", 0)
    job_id = with_job(node)
    certify(node, "studio", Role.ADMIN, "bert")
    certify(node, "annas", Role.MEMBER, "anna")
    certify(node, "desk", Role.MEMBER, "carl", is_itself=True)
    error = await refused(verbs, "cancel", ids=[job_id])
    assert str(error) == f"job {job_id} is anna's: only they or an admin may cancel it"
    assert error.hint == "type it on anna's PC (annas) or on an admin's (studio)"


async def test_what_is_over_is_not_cancelled(
    node: OneNode, verbs: Mapping[str, Verb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rain.agent.reads.READ_WAIT_MS", 0)
    job_id = with_job(node)
    epoch = Epoch(1, node.identity.node_id, 7)
    attempt_id = AttemptId(JobId(job_id), 0, 1, epoch, node.identity.node_id)
    cell = Cell(True, 1, True, epoch, 2, Stage.ENDED, attempt_id)
    end = AttemptEnd(attempt_id, End(EndState.SUCCEEDED, 0))
    patch = JobPatch(JobId(job_id), tasks=(TaskPatch(0, 0, cell, (end,)),))
    node.driver.node.sched.table.merge((patch,))
    told = await asked(verbs, "cancel", ids=[job_id])
    assert told == {"cancelled": [], "over": [{"id": job_id, "state": "SUCCEEDED"}]}
    assert not node.driver.node.sched.table.cancelled(JobId(job_id))


async def test_a_refused_job_has_no_id(node: OneNode, verbs: Mapping[str, Verb]) -> None:
    """Whoever reads of one looks for it, and it was never kept."""
    spec = {**PROCESS, "command": ["x" * 100_000] * 15}
    error = await refused(verbs, "submit", spec=spec)
    assert str(error) == "command and environment are larger than 1 MiB"


async def test_a_job_that_may_be_kept_is_named(
    node: OneNode, verbs: Mapping[str, Verb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rain.agent.verbs.ANSWER_WAIT_MS", 10)
    error = await refused(verbs, "submit", spec=PROCESS)
    (job_id,) = node.driver.node.sched.table.jobs()
    assert str(error) == f"job {job_id}: nobody coordinates the pool now"
    assert error.hint == "see who is there: rain status"


async def test_copies_are_counted_among_those_who_keep_them(
    node: OneNode, verbs: Mapping[str, Verb]
) -> None:
    certify(node, "lab-3", Role.WORKER, "bert")
    writing = node.writing()
    told = await asked(verbs, "submit", spec=PROCESS)
    await node.stop(writing)
    assert (told["copies"], told["members"]) == (1, 1)
