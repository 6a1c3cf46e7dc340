"""What a person is told when this PC takes part: in which pool it is, and what it shares."""

from rain.agent.driver import Driver
from rain.agent.executors import Executors
from rain.mesh.pool import Pool
from rain.model import MemberState


def ready_words(driver: Driver, pool: Pool, executors: Executors) -> list[str]:
    """One line each; the first has the word `ready`."""
    alive = [
        member
        for member in driver.node.gossip.members()
        if member.record.state is MemberState.ALIVE
    ]
    own = driver.node.identity
    facts = next(m.facts for m in alive if m.record.node_id == own.node_id)
    told = [f"ready: {own.name} is in pool {pool.name!r} with {len(alive)} PC(s)"]
    if facts.works:
        capacity = facts.capacity
        told.append(
            f"shares {capacity.cpus_milli / 1_000:g} cpus and "
            f"{capacity.memory_bytes / 2**30:.1f} GiB by {' and '.join(facts.executors)}"
        )
    else:
        told.append(f"takes no work: {facts.idle_reason}")
    told += [f"GPU: {each} (shown, not yet shared)" for each in facts.accelerators]
    state, reason = driver.writer.health.told()
    if reason:
        told.append(f"disk: {state}: {reason}")
    return told + [f"note: {each}" for each in executors.notes()]
