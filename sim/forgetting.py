"""S27: only what is over is forgotten, and a coordinator decides it.

What was known of the job before is put together from every table and every disk, that of the
forgetful one too, with the writes that it still has in hand: by all of that together the job must
be over. From then on nothing is owed of it.
"""

from collections.abc import Sequence

from rain.effects import Persist, Record
from rain.mesh import codec
from rain.model import JobId
from rain.sched.people import People
from rain.sched.records import CancelRow, JobRow, TaskRow, TombstoneRow
from rain.sched.table import Table
from rain.sched.warrants import Warrants

from .host import Host
from .world import Violation


class Forgetting:
    """Looks at every tombstone when it is first written."""

    def __init__(self) -> None:
        self.jobs: set[JobId] = set()
        """Of which nothing is owed any more."""
        self._by_removed: set[JobId] = set()
        """Who was removed may forget what it likes, as long as it is heard."""
        self._hosts: Sequence[Host] = ()

    def connect(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts

    def wrote(self, host: Host, write: Persist) -> None:
        for put in write.puts:
            if not isinstance(put, TombstoneRow) or put.job_id in self.jobs:
                continue
            if host.is_removed:
                self._by_removed.add(put.job_id)
                continue
            if put.job_id not in self._by_removed:
                self._judge(host, put.job_id)
            self.jobs.add(put.job_id)

    def _judge(self, host: Host, job_id: JobId) -> None:
        # Who resigned in this very event may have decided in it as well.
        is_resigning = host.node is not None and host.node.election.role() == "resigning"
        if not host.is_coordinator and not is_resigning:
            raise Violation("S27 a coordinator decides", f"{host.name} forgets {job_id}")
        known = Table(self._rows(job_id), Warrants(lambda *_: False, People()))
        for one in self._hosts:
            patch = one.node.sched.table.patch(job_id) if one.node is not None else None
            if patch is not None and not patch.forgotten:
                known.take_back((patch,))
        if not known.is_job_over(job_id):
            raise Violation("S27 only what is over is forgotten", f"{host.name}: {job_id}")

    def _rows(self, job_id: JobId) -> list[Record]:
        """Of that job, on all disks."""
        found: list[Record] = []
        for one in self._hosts:
            for key, row in one.disk.coming().items():
                if row is not None and _job_of(key) == job_id:
                    record = codec.decode_record(row)
                    assert isinstance(record, JobRow | CancelRow | TaskRow), f"{key}: {record}"
                    found.append(record)
        return found


def _job_of(key: str) -> str:
    kind, _, rest = key.partition("/")
    return rest.partition("/")[0] if kind in ("job", "cancel", "task") else ""
