"""Golden histories of what was acknowledged: none of it is lost, whoever comes to coordinate."""

import pytest

from rain.effects import Message
from rain.model import AttemptId, Epoch, Job, NodeId, Stage
from rain.sched import antientropy as antientropy_module
from rain.sched.messages import Cell, Patch, Replicate, Replicated
from rain.sched.records import JobRow, TaskRow
from tests.sched.samples import id_of
from tests.sched.wire import Wire, job_of

A, B, C, D, E = (id_of(name) for name in "abcde")


def pool(names: str) -> tuple[Wire, Epoch]:
    """`a` coordinates it; its inventory is taken."""
    wire = Wire(*names)
    epoch = wire.reign("a", 1)
    wire.run(200)
    wire.told()
    return wire, epoch


def deaf(*names: str) -> "Lost":
    """Nobody brings these any knowledge of jobs."""
    return Lost({id_of(name) for name in names})


class Lost:
    def __init__(self, to: set[NodeId]) -> None:
        self._to = to

    def __call__(self, _sender: NodeId, to: NodeId, message: Message) -> bool:
        return to in self._to and isinstance(message, Patch | Replicate)


def nothing_lost(_sender: NodeId, _to: NodeId, _message: Message) -> bool:
    return False


def knows(wire: Wire, name: str, job: Job) -> bool:
    return wire.hosts[id_of(name)].core.table.job(job.job_id) is not None


def holders(wire: Wire, job: Job) -> str:
    row = JobRow(job).key()
    return "".join(wire.name(n) for n in wire.alive() if row in wire.hosts[n].disk)


def end_all(wire: Wire) -> None:
    for _ in range(3):
        for host in list(wire.hosts.values()):
            if host.identity.node_id not in wire.cut:
                wire.exit(host.identity.name, 0, 99)
        wire.run(500)


# --- E5: the table that nobody merged ------------------------------------------------------------


def test_the_table_that_nobody_merged() -> None:
    """E5: a job that an earlier reign acknowledged lies on one live disk; it is found and run."""
    wire, _ = pool("abc")
    job = job_of("c")
    wire.kill("c")
    wire.bury("c")
    wire.hosts[C].disk[JobRow(job).key()] = JobRow(job)
    wire.restart("c")
    wire.run(1_000)

    assert holders(wire, job) == "abc"
    assert sum(wire.running().values()) == 1


def test_what_only_a_follower_knows_is_fetched_without_any_takeover() -> None:
    """E5: digests ride on acknowledgements; a reign that goes on learns what it lacks."""
    wire, _ = pool("abc")
    job = job_of("b")
    wire.lost = lambda sender, to, message: to == A
    wire.submit("b", job)
    wire.run(11_000)
    assert "b answers 1" in " ".join(wire.told()), "its person has given up"
    assert not knows(wire, "a", job)

    wire.lost = nothing_lost
    wire.run(3_000)

    told = wire.told()
    assert "a>b Digests" in told
    assert "b>a Propose" not in told
    assert knows(wire, "a", job)


# --- E6: the larger cell -------------------------------------------------------------------------


def test_an_old_copy_undoes_no_success() -> None:
    """E6: merging takes the larger cell: what still ran when a node left stays over on return."""
    wire, _ = pool("abc")
    job = job_of("b")
    wire.submit("b", job)
    wire.run(300)
    end_all(wire)
    success = wire.hosts[A].core.table.cell(job.job_id, 0)
    assert success.success
    old = AttemptId(job.job_id, 0, 7, Epoch(9, C, 7), C)
    row = TaskRow(job.job_id, 0, Cell(False, 1, False, old.epoch, 7, Stage.RUNNING, old))
    wire.kill("c")
    wire.bury("c")
    wire.hosts[C].disk[row.key()] = row
    wire.told()

    wire.restart("c")
    wire.run(2_000)

    assert wire.are_equal()
    assert wire.hosts[C].core.table.cell(job.job_id, 0) == success
    assert not [line for line in wire.told() if "starts" in line]


# --- E7: what is counted after a loss ------------------------------------------------------------


def test_after_a_loss_nothing_is_acknowledged_on_fewer_disks_for_fifteen_seconds() -> None:
    """E7: the view counts, for jobs and for cancels; after that all that are alive do."""
    wire, _ = pool("abc")
    job = job_of("b")
    wire.submit("b", job)
    wire.run(300)
    wire.kill("c")
    wire.bury("c")
    wire.run(500)
    wire.told()

    wire.cancel("b", job)
    wire.submit("b", job_of("b", nonce=b"2"))
    wire.run(9_000)
    assert not [line for line in wire.told() if line.startswith("b answers")]

    wire.run(6_000)
    wire.told()
    wire.cancel("b", job)
    wire.submit("b", job_of("b", nonce=b"2"))
    wire.run(1_000)

    assert [line for line in wire.told() if "answers" in line] == ["b answers 2"] * 2


# --- E8: counted anew by every reign -------------------------------------------------------------


def test_a_known_job_is_acknowledged_again_only_when_this_reign_has_counted_its_copies() -> None:
    """E8: a holder of the reign before may have lost its disk since."""
    wire, _ = pool("abc")
    job = job_of("b")
    wire.submit("b", job)
    wire.run(500)
    assert holders(wire, job) == "abc"
    wire.kill("c")
    wire.hosts[C].disk.clear()
    wire.restart("c")
    wire.lost = lambda _from, to, message: (
        isinstance(message, Replicated) or deaf("c")(A, to, message)
    )
    wire.reign("b", 2)
    wire.run(300)
    wire.told()

    wire.submit("b", job)
    wire.run(2_000)
    assert not [line for line in wire.told() if "answers" in line]

    wire.lost = nothing_lost
    wire.run(1_000)

    assert "b answers 3" in wire.told()
    assert holders(wire, job) == "abc"


# --- The cancel that was forgotten ---------------------------------------------------------------


def test_the_cancel_that_was_forgotten() -> None:
    """An acknowledged cancel holds under a coordinator that had never heard of it."""
    wire, _ = pool("abcde")
    job = job_of("a", 20)
    wire.submit("a", job)
    wire.run(1_000)
    wire.lost = deaf("d", "e")
    wire.told()
    wire.cancel("a", job)
    assert "a answers 3" in wire.told()
    wire.kill("a")
    wire.bury("a")
    assert not wire.hosts[E].core.table.cancelled(job.job_id)
    wire.lost = nothing_lost

    wire.reign("e", 2)
    wire.run(3_000)
    end_all(wire)
    wire.restart("a")
    wire.follows[A] = wire.follows[E]
    wire.restart("a")
    wire.run(3_000)

    assert not [
        line for line in wire.told() if line.startswith(("b starts", "c starts", "e starts"))
    ]
    assert wire.are_equal()
    for host in wire.hosts.values():
        assert host.core.table.cancelled(job.job_id)
        assert not host.containers


# --- Copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [2_000, 3])
def test_copies_are_restored_within_five_seconds_of_a_holder_s_loss(
    monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Nobody counts them job by job: every keeper gets the whole table, of however many pages."""
    monkeypatch.setattr(antientropy_module, "DIGESTS_MAX", page)
    wire, _ = pool("abcde")
    wire.lost = deaf("d", "e")
    jobs = [job_of("b", nonce=bytes([n]), node_name="a") for n in range(20)]
    wire.submit("b", *jobs)
    wire.run(300)
    assert "b answers 3" in wire.told()
    assert {holders(wire, job) for job in jobs} == {"abc"}

    wire.kill("c")
    wire.bury("c")
    wire.lost = nothing_lost
    wire.run(5_000)

    assert {holders(wire, job) for job in jobs} == {"abde"}


def test_a_follower_that_is_always_busy_gets_what_it_lacks_all_the_same() -> None:
    """Whoever is about to answer is left alone, but not for ever."""
    wire, _ = pool("abc")
    missed = job_of("b", node_name="a")
    wire.lost = deaf("c")
    wire.submit("b", missed)
    wire.run(200)
    answers: list[int] = []

    def lost(sender: NodeId, to: NodeId, message: Message) -> bool:
        """It says that it has written something only when it is asked a second time."""
        if sender == C and isinstance(message, Replicated):
            answers.append(message.number)
            return answers.count(message.number) < 2
        return to == C and isinstance(message, Patch)

    wire.lost = lost
    wire.told()
    for number in range(40):
        wire.submit("b", job_of("b", nonce=bytes([number]), node_name="a"))
        wire.run(100)

    assert "a>c Digests" in wire.told()


# --- Takeovers hear all pages --------------------------------------------------------------------


def test_a_takeover_places_nothing_whose_success_lies_on_the_last_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(antientropy_module, "DIGESTS_MAX", 2)
    wire, _ = pool("abcd")
    jobs = [job_of("b", nonce=bytes([n])) for n in range(7)]
    wire.submit("b", *jobs)
    wire.run(1_000)
    wire.lost = deaf("d")
    end_all(wire)
    assert all(wire.hosts[A].core.table.is_job_over(job.job_id) for job in jobs)
    wire.kill("a")
    wire.bury("a")
    wire.lost = nothing_lost
    assert wire.hosts[D].core.table.open_tasks(jobs[0].job_id) == [0]
    wire.told()

    wire.reign("d", 2)
    wire.run(3_000)

    told = wire.told()
    assert not [line for line in told if "starts" in line]
    assert told.count("d>b Digests") == 4
    assert all(wire.hosts[D].core.table.is_job_over(job.job_id) for job in jobs)


def test_a_takeover_waits_longer_than_two_seconds_for_who_is_still_telling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page each 400 ms: the last one comes after the end of an ordinary takeover."""
    monkeypatch.setattr(antientropy_module, "DIGESTS_MAX", 1)
    wire, _ = pool("abc")
    jobs = [job_of("b", nonce=bytes([n])) for n in range(9)]
    wire.submit("b", *jobs)
    wire.run(2_000)
    wire.lost = deaf("c")
    for _ in range(4):
        end_all(wire)
    assert all(wire.hosts[A].core.table.is_job_over(job.job_id) for job in jobs)
    wire.kill("a")
    wire.bury("a")
    slow: list[int] = []

    def lost(sender: NodeId, to: NodeId, message: Message) -> bool:
        """One answer in 400 ms gets through, of both ways."""
        if sender != B or not isinstance(message, Patch):
            return False
        if slow and wire.now_ms - slow[-1] < 400:
            return True
        slow.append(wire.now_ms)
        return False

    wire.lost = lost
    wire.told()
    wire.reign("c", 2)
    wire.run(9_000)

    assert not [line for line in wire.told() if "starts" in line]
    assert slow[-1] - slow[0] > 2_000


def test_a_takeover_waits_for_what_was_too_large_for_one_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an answer could not hold is asked for again before anything is placed."""
    monkeypatch.setattr(antientropy_module, "FRAMES_TASKS_MAX", 3)
    wire, _ = pool("abc")
    job = job_of("b", 10, node_name="a")
    wire.submit("b", job)
    wire.run(1_000)
    wire.lost = deaf("c")
    for _ in range(4):
        end_all(wire)
    assert wire.hosts[A].core.table.is_job_over(job.job_id)
    wire.kill("a")
    wire.bury("a")
    wire.lost = nothing_lost
    wire.told()

    wire.reign("c", 2)

    assert wire.hosts[C].core.table.is_job_over(job.job_id)
    assert wire.told().count("c>b Digests") == 4
