"""Golden histories: workers follow only, and whose word ceases to count."""

from rain.effects import (
    Barred,
    Beat,
    Cast,
    DeadlinePassed,
    FollowerHeard,
    HandedOver,
    Lagged,
    Received,
    Send,
    StopRequested,
    ViewChanged,
)
from rain.election.epochs import LEAP_MAX
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
from rain.model import NodeId, Role
from tests.election.story import (
    FIRST,
    SOURCE,
    TRIO,
    Story,
    admitted,
    assert_told,
    down,
    epoch,
    following,
    ids,
    reigning,
    up,
    view_of,
)

N3 = NodeId("n3")
FOUR = ("n1", "n2", "n3", "n4")
TRIO_IDS = ids(*TRIO)


def alone_with_workers() -> Story:
    """n1 has coordinated two workers for a while; n3 has never been heard."""
    story = Story("n1", TRIO, workers=("n2", "n3"))
    story.until(1_100)
    assert_told(
        story,
        """
        0 ViewChanged n1
        1000 Persist newest 1.n1 floor 1.n1
        1005 Log reign_began number=1 grants=0
        1005 ReignChanged 1.n1 True True
        1005 -> n2 n3: Heartbeat 1.n1
        """,
    )
    return story


def next_beat(story: Story) -> Heartbeat:
    """The heartbeat that is due next."""
    while True:
        deadline_ms = story.election.next_deadline_ms()
        assert deadline_ms is not None
        story.now_ms = max(story.now_ms, deadline_ms)
        for output in story.feed(DeadlinePassed()):
            if isinstance(output, Cast) and isinstance(output.message, Heartbeat):
                return output.message


# --- Workers -------------------------------------------------------------------------------------


def test_a_worker_follows_acknowledges_asks_electors_and_never_stands() -> None:
    story = Story("n4", FOUR, workers=("n3", "n4"))
    acks = [output for output in story.beat(FIRST) if isinstance(output, Send)]
    assert acks == [Send(NodeId("n1"), HeartbeatAck(FIRST, 1, b"", view_of(*FOUR).hash))]
    story.beats(FIRST, 2_000)
    story.until(60_000)
    assert_told(
        story,
        """
        0 Persist newest 1.n1 floor 1.n1
        0 ViewChanged n1 n2
        5 ReignChanged 1.n1 False False
        2350 -> n1 n2: AskHeard 1.n1
        2500 ReignChanged None False False
        """,
    )
    assert story.election.view() == ids("n1", "n2")
    assert story.election.campaigns == 0


def test_a_worker_that_is_not_heard_lets_go_after_a_second() -> None:
    story = following("n3", TRIO, workers=("n3",))
    story.until(2_100)
    story.beats(FIRST, 3_500, listed=False)
    assert_told(story, "3100 ReignChanged None False False")


def test_a_worker_neither_grants_nor_vouches_nor_succeeds() -> None:
    story = following("n3", TRIO, workers=("n3",))
    assert story.hear("n2", AskHeard(FIRST, 1)) == []
    assert story.hear("n2", Challenge(7, FIRST, 600)) == []
    assert story.hear("n1", Resign(FIRST, NodeId("n3"))) == []
    assert story.election.dropped == {"not_an_elector": 2, "cannot_succeed": 1}


def test_a_lone_elector_coordinates_its_workers_and_is_never_braked() -> None:
    story = alone_with_workers()
    reign = story.election.reign()
    assert reign is not None
    assert story.ack("n2") == [FollowerHeard(NodeId("n2"), b"")]
    story.acks(3_400, "n2")
    assert next_beat(story).strength.followers == 0
    said = story.told()
    assert [line.split()[1:] for line in said.splitlines()] == [["MemberSilent", "n3"]]
    story.until(60_000)
    assert "Brake" not in story.told()
    assert story.election.view() == ids("n1")


def test_the_bits_list_workers_that_are_heard() -> None:
    story = alone_with_workers()
    story.ack("n2")
    heartbeat = next_beat(story)
    common = view_of(*TRIO)
    assert (heartbeat.view, heartbeat.heard) == (common.hash, common.bits(ids("n1", "n2")))


def test_workers_that_come_and_go_are_no_change_of_view() -> None:
    story = Story("n1", ("n1", "n2"), workers=("n9",))
    story.beats(epoch(1, "n2"), 500)
    story.told()
    story.feed(up("n9"))
    story.beats(epoch(1, "n2"), 2_000)
    assert_told(story, "1500 Persist view n1 n2 n9")
    assert story.election.view() == ids("n1", "n2")


def test_workers_that_vanish_together_are_no_lost_world() -> None:
    members = (*TRIO, "n6", "n7", "n8")
    story = Story("n1", members, workers=members[3:])
    story.beats(epoch(1, "n2"), 500)
    story.told()
    for worker in members[3:]:
        story.feed(down(worker))
    story.beats(epoch(1, "n2"), 2_000)
    assert_told(story, "1500 Persist view n1 n2 n3")


def test_nobody_waits_for_a_worker_of_a_smaller_id() -> None:
    story = Story("n3", TRIO, workers=("n1",))
    story.beats(epoch(1, "n2"), 2_000)
    story.until(2_501)
    assert story.told().endswith("2500 -> n2: Challenge newest 1.n2")


def test_what_is_an_electors_to_say_is_dropped_from_a_worker_and_a_stranger() -> None:
    story = following("n2", FOUR, workers=("n4",))
    strong = Strength(9, 90_000)
    beat = Heartbeat(epoch(8, "n4"), 1, strong, b"", b"", b"")
    for message in (
        beat,
        Challenge(1, epoch(9, "n4"), 600),
        Grant(1, epoch(9, "n4")),
        Objection(1, FIRST, 0, strong),
        Vouch(FIRST, 1, 0),
        Stale(epoch(9, "n4"), strong, NodeId("n4")),
        Resign(FIRST, NodeId("n4")),
    ):
        assert story.hear("n4", message) == []
    assert story.hear("stranger", beat) == []
    assert story.feed(up("stranger")) == []
    assert story.election.dropped == {"not_an_elector": 7, "not_admitted": 2}
    story.until(2_510)
    assert story.told().endswith("-> n1 n3: Challenge newest 1.n1"), "its epochs are not seen"


def test_nobody_speaks_for_the_reign_of_a_worker() -> None:
    story = reigning()
    story.feed(admitted("n1", Role.WORKER))
    story.told()
    story.acks(5_000, "n3")
    story.hear("n3", Stale(epoch(9, "n1"), Strength(9, 90_000), NodeId("n1")))
    assert story.election.dropped["not_an_elector"] == 1
    story.hear("n3", Stale(epoch(9, "n1"), Strength(0, 0), NodeId("n1")))
    story.until(5_050)
    assert "ReignChanged 10.n2 True False" in story.told(), "what was once followed is outnumbered"


def test_a_lagged_coordinator_is_not_confirmed_by_a_worker() -> None:
    story = reigning()
    story.feed(up("n4"))
    reign = story.election.reign()
    assert reign is not None
    story.feed(admitted("n4", Role.WORKER))
    story.told()
    story.feed(Lagged(2_000))
    assert story.hear("n4", HeartbeatAck(reign, 9, b"", b"")) == []
    assert story.election.reign() is None
    lone = alone_with_workers()
    assert lone.feed(Lagged(2_000)) == [], "nobody could have chosen otherwise"


def test_what_comes_by_stream_is_none_of_the_elections() -> None:
    story = following()
    for message in (Challenge(1, epoch(9, "n3"), 600), Stale(epoch(9, "n3"), Strength(9, 9), N3)):
        assert story.feed(Received(N3, message, SOURCE, by_stream=True)) == []
    assert story.election.dropped == {"by_stream": 2}
    story.until(2_510)
    assert story.told().endswith("Challenge newest 1.n1"), "its epochs are not seen"


def test_an_objection_counts_though_its_reign_is_too_far_ahead_to_be_believed() -> None:
    story = Story("n2", TRIO)
    story.until(1_360)
    assert story.election.role() == "candidate"
    far = Objection(story.campaign(), epoch(9 * LEAP_MAX, "n1"), 10, Strength(2, 9_000))
    assert story.hear("n3", far) == []
    story.until(1_700)
    assert "campaign_lost reason=objection" in story.told()


# --- A worker that has followed a later reign ----------------------------------------------------


def test_a_worker_says_by_its_acknowledgement_that_it_has_followed_a_later_reign() -> None:
    story = following("n3", TRIO, workers=("n3",))
    story.until(2_600)
    story.beat(epoch(6, "n2"))
    story.until(3_200)
    story.told()
    later = HeartbeatAck(epoch(6, "n2"), 0, b"", view_of(*TRIO).hash)
    assert story.beat(FIRST) == [Send(NodeId("n1"), later)]
    assert story.beat(FIRST) == [], "a few times a second at most"


def test_the_coordinator_lifts_its_number_above_what_a_worker_has_followed() -> None:
    story = alone_with_workers()
    story.until(2_000)
    story.told()
    story.hear("n2", AskHeard(epoch(2**59, "n9"), 1))
    story.hear("n2", HeartbeatAck(epoch(6, "n9"), 0, b"", b""))
    story.hear("n2", HeartbeatAck(epoch(8, "n9"), 0, b"", b""))
    story.hear("n2", HeartbeatAck(epoch(9 + LEAP_MAX, "n9"), 0, b"", b""))
    story.until(2_020)
    assert_told(
        story,
        """
        2000 Persist newest 7.n1 floor 7.n1
        2005 ReignChanged 7.n1 True False
        """,
    )
    assert story.election.dropped == {"epoch_out_of_range": 1}


# --- Roles that change ---------------------------------------------------------------------------


def test_a_coordinator_that_is_made_a_worker_hands_over() -> None:
    story = reigning()
    story.feed(admitted("n2", Role.WORKER))
    story.until(20_000)
    lines = story.told().splitlines()
    assert lines[:4] == [
        "3000 ViewChanged n1 n3",
        "3000 Log reign_ended number=2 reason=no elector",
        "3000 ReignChanged None False False",
        "3000 -> n1 n3: Resign 2.n2 to n3",
    ]
    assert not [line for line in lines if "Challenge" in line]
    lone = Story("n1", ("n1",))
    lone.until(2_000)
    lone.told()
    lone.feed(admitted("n1", Role.WORKER))
    lone.until(60_000)
    assert_told(
        lone,
        """
        2000 ViewChanged
        2000 Log reign_ended number=1 reason=no elector
        2000 ReignChanged None False False
        """,
    )
    assert lone.feed(StopRequested()) == [HandedOver()]


def test_a_candidate_that_is_made_a_worker_gives_up() -> None:
    story = following()
    story.until(2_510)
    assert story.election.role() == "candidate"
    story.feed(admitted("n2", Role.WORKER))
    assert story.election.role() == "follower"


def test_who_follows_a_coordinator_that_is_made_a_worker_elects_at_once() -> None:
    story = following()
    story.feed(admitted("n1", Role.WORKER))
    story.until(2_001)
    assert_told(
        story,
        """
        2000 ViewChanged n2 n3
        2000 ReignChanged None False False
        2000 -> n3: Challenge newest 1.n1
        """,
    )
    story.beat(FIRST)
    assert story.election.reign() is None


def test_a_worker_that_is_made_a_member_elects() -> None:
    story = following("n3", TRIO, workers=("n3",))
    assert story.feed(admitted("n3")) == [ViewChanged(TRIO_IDS)]
    assert story.feed(admitted("n3", Role.ADMIN)) == [], "an elector before and after"
    story.until(2_560)
    assert "2550 -> n1 n2: Challenge newest 1.n1" in story.told()


# --- The barred ----------------------------------------------------------------------------------


def test_a_barred_coordinator_is_silent_at_once() -> None:
    story = following()
    story.feed(Barred(NodeId("n1")))
    story.until(2_001)
    assert_told(
        story,
        """
        2000 ViewChanged n2 n3
        2000 ReignChanged None False False
        2000 Persist view n2 n3
        2000 -> n3: Challenge newest 1.n1
        """,
    )
    story.beat(FIRST)
    story.hear("n3", Objection(story.campaign(), FIRST, 10, Strength(2, 9_000)))
    assert story.election.dropped == {"not_admitted": 1, "not_an_elector": 1}
    story.grant("n3", FIRST)
    story.until(2_100)
    assert story.told().endswith("2006 ReignChanged 2.n2 True True\n2006 -> n3: Heartbeat 2.n2")


def test_a_barred_voter_is_struck_from_the_campaign() -> None:
    story = following("n2", ("n1", "n2", "n3", "n4", "n5"))
    story.until(2_510)
    story.grant("n3", FIRST)
    assert story.election.role() == "candidate"
    story.told()
    story.feed(Barred(NodeId("n1")))
    assert "Persist newest" not in story.told(), "two of four are no majority"
    story.feed(Barred(NodeId("n5")))
    assert "Persist newest 2.n2 floor 2.n2" in story.told()
    other = following("n2", ("n1", "n2", "n3", "n4", "n5"))
    other.until(2_510)
    other.grant("n3", FIRST)
    other.feed(Barred(NodeId("n3")))
    other.grant("n4", FIRST)
    assert other.election.role() == "candidate", "its grant does not count either"


def test_a_barred_follower_is_out_of_the_view_and_the_strength_at_once() -> None:
    story = reigning()
    story.feed(Barred(NodeId("n3")))
    assert story.election.view() == ids("n1", "n2")
    assert next_beat(story).strength.followers == 0
    story.hear("n3", HeartbeatAck(epoch(2, "n2"), 9, b"", b""))
    assert story.election.dropped == {"not_admitted": 1}


def test_a_grant_to_who_is_barred_binds_nobody() -> None:
    story = following("n4", ("n1", "n2", "n3", "n4", "n5"))
    story.until(2_510)
    story.hear("n3", Challenge(7, FIRST, 500))
    story.feed(Barred(NodeId("n3")))
    assert Send(NodeId("n2"), Grant(8, FIRST)) in story.hear("n2", Challenge(8, FIRST, 500))


def test_who_is_barred_itself_says_nothing_more() -> None:
    story = reigning()
    story.feed(Barred(NodeId("n2")))
    assert_told(
        story,
        """
        3000 ViewChanged n1 n3
        3000 Log reign_ended number=2 reason=barred
        3000 ReignChanged None False False
        """,
    )
    assert story.election.next_deadline_ms() is None
    assert story.beat(epoch(5, "n1")) == []
    assert not any(isinstance(o, Beat) for o in story.feed(DeadlinePassed()))


def test_who_was_barred_and_is_let_in_again_counts_again() -> None:
    story = following()
    story.feed(Barred(NodeId("n3")))
    story.beats(FIRST, 2_100)
    assert story.election.view() == ids("n1", "n2")
    story.feed(admitted("n3"))
    story.feed(up("n3"))
    story.beats(FIRST, 3_500)
    assert story.election.view() == TRIO_IDS
