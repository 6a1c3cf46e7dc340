"""Any history keeps the invariants, raises nothing, and leaves no deadline that cannot pass."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rain.effects import (
    Barred,
    DeadlinePassed,
    DiskFailed,
    DiskRecovered,
    Event,
    Lagged,
    Notice,
    Received,
    StopRequested,
)
from rain.election.messages import (
    AskHeard,
    Challenge,
    Grant,
    Heartbeat,
    HeartbeatAck,
    Objection,
    Resign,
    Stale,
    Strength,
    Vouch,
)
from rain.model import Epoch, MemberState, NodeId, Role
from tests.election.story import SOURCE, Story, admitted, down, up, view_of

MEMBERS = ("n1", "n2", "n3")
DEADLINES_AT_ONCE_MAX = 8

nodes = st.sampled_from([NodeId(name) for name in (*MEMBERS, "n4")])
epochs = st.builds(Epoch, st.integers(0, 4), nodes, st.integers(0, 1))
strengths = st.builds(Strength, st.integers(0, 3), st.integers(0, 3_000))
counts = st.integers(0, 600)
views = st.sampled_from([view_of(*MEMBERS).hash, b"another"])
heard = st.sampled_from([b"", b"\x07", b"\x05"])
digests = st.just(b"")
messages = st.one_of(
    st.builds(Heartbeat, epochs, counts, strengths, digests, views, heard, st.booleans()),
    st.builds(HeartbeatAck, epochs, counts, digests, views),
    st.builds(Challenge, counts, epochs, counts),
    st.builds(Grant, counts, epochs),
    st.builds(Objection, counts, epochs, counts, strengths),
    st.builds(AskHeard, epochs, counts),
    st.builds(Vouch, epochs, st.integers(0, 3), counts),
    st.builds(Stale, epochs, strengths, nodes),
    st.builds(Resign, epochs, nodes),
)
events: st.SearchStrategy[Event | Notice] = st.one_of(
    st.builds(Received, nodes, messages, st.just(SOURCE)),
    st.just(DeadlinePassed()),
    st.just(DiskFailed("full")),
    st.just(DiskRecovered()),
    st.builds(Lagged, st.integers(0, 3_000)),
    st.builds(up, nodes, st.integers(0, 1)),
    st.builds(down, nodes, st.sampled_from([MemberState.DEAD, MemberState.LEFT])),
    st.just(StopRequested()),
    st.builds(admitted, nodes, st.sampled_from(Role)),
    st.builds(Barred, nodes),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 900), events), max_size=40),
    st.integers(0, 400),
    st.sets(st.sampled_from(MEMBERS), max_size=2),
)
def test_any_history(
    history: list[tuple[int, Event | Notice]], disk_ms: int, workers: set[str]
) -> None:
    story = Story("n2", MEMBERS, workers=sorted(workers))
    story.disk_ms = disk_ms
    for wait_ms, event in history:
        story.until(story.now_ms + wait_ms)
        story.feed(event)
        for _ in range(DEADLINES_AT_ONCE_MAX):
            deadline_ms = story.election.next_deadline_ms()
            if deadline_ms is None or deadline_ms > story.now_ms:
                break
            story.feed(DeadlinePassed())
        else:
            raise AssertionError("a deadline that does not pass")
