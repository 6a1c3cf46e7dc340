"""Whatever peers say, in whatever order: invariants hold and packets stay small."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rain.effects import (
    AddressChanged,
    Barred,
    Cast,
    DeadlinePassed,
    Event,
    HandedOver,
    HardwareMeasured,
    Lagged,
    MemberDown,
    MemberSilent,
    MemberUp,
    Message,
    Notice,
    Output,
    Received,
    Send,
    StopRequested,
)
from rain.gossip.member import packed_bytes
from rain.gossip.messages import (
    Ack,
    FactsRecord,
    Join,
    MemberRecord,
    Nack,
    Ping,
    PingRequest,
    Rumours,
    Sync,
)
from rain.gossip.updates import UPDATES_BYTES_MAX
from rain.model import Address, Facts, MemberState, NodeId
from tests.gossip.pool import PACKET_BODY_BYTES_MAX, address_of, member, node_id
from tests.gossip.signing import admitted, signed, signed_facts

node_ids = st.integers(1, 5).map(node_id)
any_claims = st.builds(
    MemberRecord,
    node_id=node_ids,
    name=st.sampled_from(["pc", "🌧" * 128]),
    address=st.builds(Address, st.sampled_from(["", "0.0.0.0", "10.1.1.1"]), st.just(7246)),
    boot_epoch=st.integers(0, 2),
    incarnation=st.integers(0, 3),
    state=st.sampled_from(MemberState),
    accuser=st.one_of(st.just(NodeId("")), node_ids),
)
claims = st.one_of(any_claims.map(signed), any_claims)
any_facts = st.builds(
    FactsRecord,
    node_id=node_ids,
    boot_epoch=st.integers(0, 2),
    facts=st.builds(Facts, version=st.integers(0, 3), rank=st.integers(0, 1)),
)
facts = st.one_of(any_facts.map(signed_facts), any_facts)
claim_lists = st.lists(claims, max_size=4).map(tuple)
facts_lists = st.lists(facts, max_size=2).map(tuple)
sequences = st.integers(0, 12)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Join, claims, facts, st.booleans()),
    st.builds(Ping, sequences, claim_lists, facts_lists),
    st.builds(Ack, sequences, claim_lists, facts_lists),
    st.builds(PingRequest, sequences, node_ids, claim_lists),
    st.builds(Nack, sequences),
    st.builds(Sync, claim_lists, facts_lists, st.booleans(), st.sampled_from([b"", b"12345678"])),
    st.builds(Rumours, claim_lists, facts_lists),
)
events: st.SearchStrategy[Event | Notice] = st.one_of(
    st.builds(
        Received,
        node_ids,
        messages,
        st.integers(1, 5).map(address_of),
        st.integers(0, 2),
        st.booleans(),
    ),
    st.just(DeadlinePassed()),
    st.builds(Lagged, st.integers(0, 600)),
    st.builds(MemberSilent, node_ids),
    st.builds(HardwareMeasured, st.builds(Facts, rank=st.integers(0, 1))),
    st.builds(AddressChanged, st.integers(1, 3).map(address_of)),
    st.builds(admitted, node_ids),
    st.builds(Barred, node_ids),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(events, st.integers(0, 3_000)), max_size=40),
    st.integers(0, 9),
    st.booleans(),
    st.integers(0, 5),
)
def test_invariants_hold_in_random_histories(
    history: list[tuple[Event | Notice, int]], seed: int, stops: bool, admitted_up_to: int
) -> None:
    core = member(1, boot_epoch=1, seed=seed, admitted_up_to=admitted_up_to)
    up: dict[NodeId, bool] = {}
    now_ms = 0
    endings: list[tuple[Event | Notice, int]] = [(StopRequested(), 10), (HandedOver(), 10)]
    for event, wait_ms in history + (endings if stops else []):
        now_ms += wait_ms
        expect_sound(core.handle(event, now_ms), up)
        core.check()
    for _ in range(50):
        deadline_ms = core.next_deadline_ms()
        if deadline_ms is None:
            break
        now_ms = max(now_ms, deadline_ms)
        expect_sound(core.handle(DeadlinePassed(), now_ms), up)
        core.check()
        due_ms = core.next_deadline_ms()
        assert due_ms is None or due_ms > now_ms, "a deadline that was served is served"


def expect_sound(outputs: list[Output], up: dict[NodeId, bool]) -> None:
    for output in outputs:
        match output:
            case Send(to=to, message=message):
                assert to != node_id(1)
                assert packed_bytes(message) <= PACKET_BODY_BYTES_MAX
            case Cast(to=several, message=message):
                assert several
                assert node_id(1) not in several
                assert packed_bytes(message) <= UPDATES_BYTES_MAX + 20
            case MemberUp(node_id=known):
                up[known] = True
            case MemberDown(node_id=known):
                assert known in up, "who never was up does not go down"
            case _:
                pass
