"""What the election keeps on disk: three records, each replaced as a whole."""

from typing import Annotated

from msgspec import Meta

from rain.effects import Record
from rain.election.messages import HEARD_MAX
from rain.model import Epoch, NodeId


class EpochRecord(Record, frozen=True, tag="ep"):
    """`newest`: the highest epoch seen; a new one lies above it. `floor`: the highest that this
    node followed or may have announced; it never follows one below."""

    newest: Epoch
    floor: Epoch

    def key(self) -> str:
        return "election/epoch"


class ViewRecord(Record, frozen=True, tag="evw"):
    """The last stable membership, this node included, sorted."""

    members: Annotated[tuple[NodeId, ...], Meta(max_length=HEARD_MAX)]

    def key(self) -> str:
        return "election/view"


class BehindRecord(Record, frozen=True, tag="eb"):
    """This disk is older than what the pool has seen of it (E14): put by whoever restored or
    repaired it, or by the election when peers say so; gone when the table was whole once."""

    def key(self) -> str:
        return "election/behind"


ElectionRecord = EpochRecord | ViewRecord | BehindRecord
