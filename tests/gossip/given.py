"""Where histories begin: a member that knows some others."""

from msgspec.structs import replace

from rain.effects import (
    DeadlinePassed,
    Send,
)
from rain.gossip.membership import Membership
from rain.gossip.messages import (
    Ack,
    FactsRecord,
    Join,
    MemberRecord,
    Ping,
)
from rain.model import MemberState
from tests.gossip.pool import facts_of, member, node_id, received, record_of
from tests.gossip.signing import signed_facts
from tests.gossip.telling import told


def facts_record(index: int, version: int = 1, boot_epoch: int = 1) -> FactsRecord:
    facts = replace(facts_of(index), version=version)
    return signed_facts(FactsRecord(node_id(index), boot_epoch, facts))


def join_of(index: int, record: MemberRecord | None = None, reply: bool = False) -> Join:
    record = record or record_of(index)
    return Join(record, facts_record(index, boot_epoch=record.boot_epoch), reply)


def member_among(*others: int, at_ms: int = 0) -> Membership:
    """n01, which has met the others and has nothing more to tell."""
    core = member(1)
    core.handle(DeadlinePassed(), 0)
    for index in others:
        core.handle(received(index, join_of(index)), at_ms)
    while core.handle(received(others[0], Ping(9)), at_ms)[-1] != quiet_ack(others[0]):
        core.check()
    return core


def quiet_ack(index: int) -> Send:
    return Send(node_id(index), Ack(9))


def run_until_told(core: Membership, word: str, end_ms: int) -> tuple[int, str]:
    """When the core first says something with that word, and all it says then."""
    while (deadline_ms := core.next_deadline_ms()) is not None and deadline_ms <= end_ms:
        said = told(core.handle(DeadlinePassed(), deadline_ms))
        core.check()
        if word in said:
            return deadline_ms, said
    raise AssertionError(f"never said {word}")


def believed(core: Membership, index: int) -> MemberState:
    return {m.record.node_id: m.record.state for m in core.members()}[node_id(index)]
