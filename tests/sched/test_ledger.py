"""What is written anew after a time in which writes failed."""

from rain.model import AttemptId, Epoch, JobId, NodeId, Stage
from rain.sched.ledger import Ledger, gathered
from rain.sched.messages import Cell, JobPatch, TaskPatch
from rain.sched.table import Table
from tests.sched.wire import job_of

EPOCH = Epoch(1, NodeId("a"), 7)


def test_everything_is_written_anew_also_of_jobs_whose_spec_is_unknown() -> None:
    ledger = Ledger(())
    job, unknown = job_of("a"), job_of("b").job_id
    attempt_id = AttemptId(unknown, 0, 1, EPOCH, NodeId("a"))
    cell = Cell(epoch=EPOCH, turn=1, stage=Stage.PLACED, attempt_id=attempt_id)
    ledger.merge(
        (
            JobPatch(job.job_id, job),
            JobPatch(unknown, cancelled_through=1, cancelled_unix_ms=5),
            JobPatch(unknown, tasks=(TaskPatch(0, 0, cell),)),
        )
    )

    rows = [row for write in ledger.rewrite() for row in write.puts]

    assert Table(rows).digest() == ledger.table.digest()


def test_gathered_news_keeps_the_larger_cancel() -> None:
    job_id = JobId("j")
    cancels = [(1, 9), (2, 3), (2, 1)]
    news = [JobPatch(job_id, None, through, (), at) for through, at in cancels]
    (patch,) = gathered(news)
    assert patch.cancel() == (2, 3)
