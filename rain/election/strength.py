"""Which of two reigns stands."""

from rain.election.messages import Strength
from rain.model import NodeId

NO_STRENGTH = Strength(0, 0)
"""Of a reign that is only remembered: no living one yields to it."""


def is_stronger(
    mine: Strength, mine_id: NodeId, theirs: Strength, theirs_id: NodeId, age_tolerance_ms: int
) -> bool:
    """More followers; else clearly older; else the smaller id.

    Each side knows the other's age only as old as the packet: without the tolerance two reigns of
    nearly one age would both feel older, and neither would yield.
    """
    if theirs == NO_STRENGTH:
        return True
    if mine.followers != theirs.followers:
        return mine.followers > theirs.followers
    if abs(mine.age_ms - theirs.age_ms) > age_tolerance_ms:
        return mine.age_ms > theirs.age_ms
    return mine_id <= theirs_id
