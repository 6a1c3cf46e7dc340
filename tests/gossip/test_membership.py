"""The machine, told as histories: joining, probing, suspicion, the own health."""

import re

from msgspec.structs import replace

from rain.effects import (
    DeadlinePassed,
    Lagged,
    MemberSilent,
)
from rain.gossip.membership import Membership
from rain.gossip.messages import (
    Ack,
    Nack,
    Ping,
    PingRequest,
    Rumours,
    Sync,
)
from rain.gossip.records import MemberRow
from rain.model import Address, MemberState
from tests.gossip.given import believed, facts_record, join_of, member_among, run_until_told
from tests.gossip.pool import address_of, member, node_id, received, record_of
from tests.gossip.telling import lines, told

ALIVE, SUSPECT, DEAD, LEFT = MemberState


# --- Joining -------------------------------------------------------------------------------------


def test_a_lonely_node_announces_itself_quickly_then_patiently() -> None:
    core = member(1)
    at_ms = []
    for _ in range(7):
        deadline_ms = core.next_deadline_ms()
        assert deadline_ms is not None
        at_ms.append(deadline_ms)
        said = told(core.handle(DeadlinePassed(), deadline_ms))
        assert said.removeprefix("persist life=1\n") == "broadcast Join n01/1.0:ALIVE reply"
    assert at_ms == [0, 1_000, 2_000, 3_000, 4_000, 9_000, 14_000]


def test_a_join_makes_a_member_and_answers_with_ones_own_and_the_table() -> None:
    core = member(1)
    core.handle(DeadlinePassed(), 0)
    assert told(core.handle(received(2, join_of(2, reply=True)), 100)) == lines(
        """
        persist n02=ALIVE
        route n02 10.0.0.2
        up n02 life 1 facts 1
        post n02 Sync n01/1.0:ALIVE n02/1.0:ALIVE reply
        send n02 Join n01/1.0:ALIVE
        """
    )
    assert told(core.handle(received(3, join_of(3, reply=True)), 200)) == lines(
        """
        persist n03=ALIVE
        route n03 10.0.0.3
        up n03 life 1 facts 1
        cast n02 Rumours n03/1.0:ALIVE facts:n03/1
        post n03 Sync n01/1.0:ALIVE n02/1.0:ALIVE n03/1.0:ALIVE reply
        send n03 Join n01/1.0:ALIVE
        """
    )
    assert told(core.handle(received(3, join_of(3)), 300)) == "", "no news, no question"
    core.check()


def test_the_packet_tells_the_address_of_who_is_bound_to_all_interfaces() -> None:
    core = member(1)
    unspecified = replace(record_of(2), address=Address("0.0.0.0", 7246))
    core.handle(received(2, join_of(2, unspecified)), 0)
    assert core.members()[1].record.address == address_of(2)
    by_stream = replace(record_of(3), address=Address("", 7246))
    event = received(3, Sync((by_stream,), ()), by_stream=True)
    core.handle(replace(event, source=Address("10.0.0.3", 51_000)), 0)
    assert core.members()[2].record.address == address_of(3), "not the port of the stream"


def test_a_stranger_is_asked_for_its_record_once_a_second() -> None:
    core = member(1)
    core.handle(DeadlinePassed(), 0)
    assert told(core.handle(received(2, Ping(4)), 100)) == lines(
        """
        route n02 10.0.0.2
        send n02 Join n01/1.0:ALIVE reply
        send n02 Ack 4
        """
    )
    assert told(core.handle(received(2, Ping(5)), 1_099)) == "send n02 Ack 5"
    assert "Join" in told(core.handle(received(2, Ping(6)), 1_100))


def test_a_newcomer_introduces_itself_to_those_it_hears_of() -> None:
    core = member(1)
    core.handle(received(2, join_of(2)), 100)
    table = Sync((record_of(2), record_of(3)), (facts_record(3),))
    assert told(core.handle(received(2, table, by_stream=True), 200)) == lines(
        """
        persist n03=ALIVE
        route n03 10.0.0.3
        up n03 life 1 facts 1
        send n03 Join n01/1.0:ALIVE
        """
    )
    table = Sync((record_of(4),), (facts_record(4),))
    later = told(core.handle(received(2, table, by_stream=True), 20_000))
    assert "up n04" in later
    assert "send n04" not in later, "it is no newcomer any more"


def test_a_restart_is_another_life_and_needs_no_refuting() -> None:
    core = member_among(2, 3)
    said = told(core.handle(received(2, join_of(2, record_of(2, boot_epoch=2)), 2), 900))
    assert "up n02 life 2 facts 1" in said
    assert "down" not in said
    # A packet that was late, or one who lives with an older disk: it hears which life is known.
    late = told(core.handle(received(2, Ping(7), boot_epoch=1), 950))
    assert late == "send n02 Rumours n02/2.0:ALIVE"
    assert core.handle(received(2, Ping(8), boot_epoch=1), 960) == []
    assert core.dropped == {"older_life": 2}


def test_nobody_joins_in_anothers_name() -> None:
    core = member(1)
    assert core.handle(received(2, join_of(3)), 10) == []
    assert core.dropped == {"join_of_another": 1}
    assert len(core.members()) == 1


def test_a_restarted_node_rings_whom_it_knew_and_shows_them_dead_till_then() -> None:
    rows = [
        MemberRow(node_id(index), f"pc{index}", address_of(index), 1, 0, state)
        for index, state in ((2, ALIVE), (3, DEAD), (4, LEFT))
    ]
    core = member(1, recovered=tuple(rows), boot_epoch=2)
    assert [believed(core, index) for index in (1, 2, 3, 4)] == [ALIVE, DEAD, DEAD, LEFT]
    assert told(core.handle(DeadlinePassed(), 0)) == lines(
        """
        persist life=2
        broadcast Join n01/2.0:ALIVE reply
        route n02 10.0.0.2
        send n02 Join n01/2.0:ALIVE reply
        route n03 10.0.0.3
        send n03 Join n01/2.0:ALIVE reply
        """
    )
    said = told(core.handle(received(2, join_of(2)), 50))
    assert "up n02 life 1 facts 1" in said
    assert believed(core, 2) is ALIVE
    core.check()


# --- Probing, suspicion, refutation --------------------------------------------------------------


def test_a_probe_widens_and_then_accuses() -> None:
    core = member_among(2, 3)
    at_ms, said = run_until_told(core, "Ping", 10_000)
    target = said.split()[1]
    helper = "n03" if target == "n02" else "n02"
    sequence = said.split()[3]
    widened = told(core.handle(DeadlinePassed(), at_ms + 200))
    assert widened == lines(
        f"""
        send {helper} PingRequest {sequence} {target}
        post {target} Ping {sequence}
        """
    )
    core.handle(received(int(helper[1:]), Nack(int(sequence))), at_ms + 400)
    accused = told(core.handle(DeadlinePassed(), at_ms + 500))
    assert f"send {target} Rumours {target}/1.0:SUSPECT<n01" in accused
    assert "down" not in accused
    assert believed(core, int(target[1:])) is SUSPECT
    # Three members: nobody can confirm, so a sound accuser waits the minimum.
    died_ms, death = run_until_told(core, "down", 20_000)
    assert died_ms == at_ms + 500 + 1_500
    assert f"down {target} DEAD" in death
    assert f"cast {helper} Rumours {target}/1.0:DEAD<n01" in death


def test_an_acknowledgement_by_any_way_is_success() -> None:
    for way in ("direct", "helper", "stream"):
        core = member_among(2, 3)
        at_ms, said = run_until_told(core, "Ping", 10_000)
        target, sequence = int(said.split()[1][1:]), int(said.split()[3])
        core.handle(DeadlinePassed(), at_ms + 200)
        sender = target if way != "helper" else 5 - target
        core.handle(received(sender, Ack(sequence), by_stream=way == "stream"), at_ms + 300)
        assert "SUSPECT" not in told(core.handle(DeadlinePassed(), at_ms + 500)), way


def test_a_helper_pings_for_another_and_says_how_it_went() -> None:
    core = member_among(2, 3)
    request = received(2, PingRequest(40, node_id(3)))
    said = told(core.handle(request, 10))
    assert said.startswith("send n03 Ping ")
    sequence = int(said.split()[3])
    assert told(core.handle(received(3, Ack(sequence)), 20)) == "send n02 Ack 40"
    core.handle(replace(request, message=PingRequest(41, node_id(3))), 30)
    assert "send n02 Nack 41" in told(core.handle(DeadlinePassed(), 190))
    unknown = replace(request, message=PingRequest(42, node_id(9)))
    assert told(core.handle(unknown, 200)) == "send n02 Nack 42"


def test_a_ping_over_the_stream_is_answered_over_the_stream() -> None:
    core = member_among(2)
    assert told(core.handle(received(2, Ping(8), by_stream=True), 10)) == "post n02 Ack 8"


def test_a_suspect_refutes_to_all_and_to_its_accuser() -> None:
    core = member_among(2, 3)
    accusation = record_of(1, SUSPECT, accuser=2)
    assert told(core.handle(received(2, Ping(8, (accusation,))), 10)) == lines(
        """
        cast n03 Rumours n01/1.1:ALIVE
        send n02 Rumours n01/1.1:ALIVE
        send n02 Ack 8 n01/1.1:ALIVE
        """
    )
    again = told(core.handle(received(3, Rumours((accusation,))), 20))
    assert again == "send n03 Rumours n01/1.1:ALIVE", "old news are corrected, not refuted again"
    core.check()


def test_a_refutation_ends_the_suspicion() -> None:
    core = member_among(2, 3)
    core.handle(received(3, Rumours((record_of(2, SUSPECT, accuser=3),))), 10)
    assert believed(core, 2) is SUSPECT
    said = told(core.handle(received(2, Rumours((record_of(2, incarnation=1),))), 20))
    assert said == "", "it never was down"
    assert believed(core, 2) is ALIVE
    core.check()


def test_a_ping_to_a_suspect_carries_the_suspicion() -> None:
    core = member_among(2)
    core.handle(received(2, Rumours((record_of(2, SUSPECT, accuser=3),))), 10)
    for sequence in range(20):  # so that it is no rumour any more
        core.handle(received(3, Ping(sequence)), 20)
    assert told(core.handle(received(2, Ping(50)), 30)) == "send n02 Ack 50 n02/1.0:SUSPECT<n03"
    _, said = run_until_told(core, "Ping", 5_000)
    assert said.endswith("n02/1.0:SUSPECT<n03")


def test_confirmations_shorten_a_suspicion() -> None:
    core = member_among(2, 3, 4, 5)
    for accuser in (3, 4, 5):
        core.handle(received(accuser, Rumours((record_of(2, SUSPECT, accuser=accuser),))), 100)
    for _ in range(200):
        deadline_ms = core.next_deadline_ms()
        assert deadline_ms is not None
        said = told(core.handle(DeadlinePassed(), deadline_ms))
        for line in said.splitlines():  # the others answer
            words = line.split()
            if words[0] == "send" and words[2] == "Ping" and words[1] != "n02":
                core.handle(received(int(words[1][1:]), Ack(int(words[3]))), deadline_ms)
        if "down n02" in said:
            break
    assert deadline_ms == 100 + 1_500 + 100


def test_a_death_found_in_a_table_makes_a_suspect_only() -> None:
    core = member_among(2, 3)
    table = Sync((record_of(3), record_of(2, DEAD, accuser=4)), (), reply=True)
    assert told(core.handle(received(3, table, by_stream=True), 10)) == lines(
        """
        send n02 Rumours n02/1.0:SUSPECT<n04
        post n03 Sync n01/1.0:ALIVE n02/1.0:SUSPECT<n04 n03/1.0:ALIVE
        """
    )
    assert believed(core, 2) is SUSPECT
    assert "down n02 DEAD" in told(core.handle(received(3, Rumours((record_of(2, DEAD),))), 20))


def test_tables_that_are_equal_are_not_sent() -> None:
    core = member_among(2)
    _, said = run_until_told(core, "digest", 5_000)
    assert "send n02 Sync digest reply" in said
    other = member(2)
    other.handle(received(1, join_of(1)), 0)
    while True:
        deadline_ms = other.next_deadline_ms()
        assert deadline_ms is not None
        asked = [
            output.message
            for output in other.handle(DeadlinePassed(), deadline_ms)
            if hasattr(output, "message") and isinstance(output.message, Sync)
        ]
        if asked:
            break
    assert told(core.handle(received(2, asked[0]), 5_000)) == ""
    core.handle(received(2, Rumours((record_of(3),), (facts_record(3),))), 5_001)
    assert told(core.handle(received(2, asked[0]), 5_002)).startswith("post n02 Sync n01")


# --- The own health ------------------------------------------------------------------------------


def test_a_lagging_node_accuses_nobody_until_three_clean_intervals() -> None:
    core = member_among(2, 3)
    at_ms, said = run_until_told(core, "Ping", 10_000)
    target = int(said.split()[1][1:])
    core.handle(DeadlinePassed(), at_ms + 200)
    core.handle(Lagged(300), at_ms + 400)
    core.handle(DeadlinePassed(), at_ms + 500)
    assert believed(core, target) is ALIVE


def test_a_suspicion_does_not_run_out_while_this_node_lags() -> None:
    core = member_among(2, 3)
    core.handle(received(3, Rumours((record_of(2, SUSPECT, accuser=3),))), 10)
    core.handle(DeadlinePassed(), 30_000)  # asleep in between; nobody said so
    assert believed(core, 2) is SUSPECT
    refutation = Rumours((record_of(2, incarnation=1),))
    core.handle(received(2, refutation), 30_020)
    assert believed(core, 2) is ALIVE


def test_silence_is_probed_in_all_ways_at_once() -> None:
    core = member_among(2, 3)
    said = told(core.handle(MemberSilent(node_id(2)), 10))
    sequence = said.split()[3]
    assert said == lines(
        f"""
        send n02 Ping {sequence}
        send n03 PingRequest {sequence} n02
        post n02 Ping {sequence}
        """
    )
    assert core.handle(MemberSilent(node_id(2)), 20) == [], "one such probe at a time"
    core.handle(received(3, Nack(int(sequence))), 200)
    at_ms, verdict = run_until_told(core, "unreachable", 1_000)
    assert at_ms == 510
    assert "unreachable n02" in verdict
    assert believed(core, 2) is SUSPECT


def test_who_is_unknown_or_left_is_unreachable_without_a_probe() -> None:
    core = member_among(2)
    core.handle(received(2, Rumours((record_of(2, LEFT),))), 10)
    assert told(core.handle(MemberSilent(node_id(2)), 20)) == "unreachable n02"
    assert told(core.handle(MemberSilent(node_id(7)), 20)) == "unreachable n07"


def test_a_lagging_coordinator_asks_again_instead_of_judging() -> None:
    core = member_among(2, 3)
    core.handle(MemberSilent(node_id(2)), 10)
    core.handle(Lagged(400), 20)
    at_ms, _ = run_until_told(core, "unreachable", 5_000)
    assert at_ms >= 20 + 1_500


def fail_a_probe(core: Membership, nacks: int) -> tuple[int, int]:
    """A round of which so many helpers say that they did not reach the target either."""
    at_ms, said = run_until_told(core, "Ping", 60_000)
    ping = next(line.split() for line in said.splitlines() if " Ping " in line)
    target, sequence = int(ping[1][1:]), int(ping[3])
    widened = told(core.handle(DeadlinePassed(), at_ms + 200))
    helpers = [line.split()[1] for line in widened.splitlines() if "PingRequest" in line]
    for helper in helpers[:nacks]:
        core.handle(received(int(helper[1:]), Nack(sequence)), at_ms + 300)
    return at_ms, target


def test_helpers_that_keep_silent_slow_this_nodes_own_probing() -> None:
    for nacks, interval_ms in ((3, 500), (2, 1_000), (0, 2_000)):
        core = member_among(2, 3, 4, 5)
        at_ms, _ = fail_a_probe(core, nacks)
        started_ms, _ = run_until_told(core, "Ping", 60_000)
        assert started_ms == at_ms + 500
        next_ms, said = run_until_told(core, " Ping ", 60_000)
        while re.search(r"^send \w+ Ping ", said, re.MULTILINE) is None:  # a round that widens
            next_ms, said = run_until_told(core, " Ping ", 60_000)
        assert next_ms == started_ms + interval_ms, nacks


def test_with_nobody_to_confirm_a_doubtful_accuser_waits_longest() -> None:
    core = member_among(2, 3)
    core.handle(Lagged(60), 10)  # noted, and not enough to forbid an accusation
    at_ms, target = fail_a_probe(core, nacks=1)
    accused_ms, _ = run_until_told(core, "SUSPECT<n01", 60_000)
    assert accused_ms == at_ms + 1_000, "a slower round as well"
    died_ms, death = run_until_told(core, "down", 60_000)
    assert f"down {node_id(target)}" in death
    assert died_ms == accused_ms + 6_000


def test_the_way_to_a_member_is_where_its_packets_come_from() -> None:
    core = member_among(2)
    elsewhere = replace(received(2, Ping(5)), source=Address("10.7.7.7", 7246))
    assert told(core.handle(elsewhere, 10)) == lines(
        """
        route n02 10.7.7.7
        send n02 Ack 5
        """
    )
    assert told(core.handle(elsewhere, 20)) == "send n02 Ack 5"
    by_stream = replace(elsewhere, source=Address("10.6.6.6", 50_000), by_stream=True)
    assert told(core.handle(by_stream, 30)) == "post n02 Ack 5", "a stream's port is its own"
