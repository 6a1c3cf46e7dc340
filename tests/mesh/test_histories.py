"""What the envelope does over time, told: starts, restarts, recordings, rotations, doubles."""

from rain.mesh.envelope import Envelope, Reply
from tests.mesh.rig import POOL_KEY
from tests.mesh.sealing import Wire, envelope

KEYS = [(1, POOL_KEY), (2, b"2" * 32), (3, b"3" * 32)]


def acquainted() -> Wire:
    """a and b have come to terms and have spoken; all of it is recorded."""
    wire = Wire(a=envelope("a"), b=envelope("b"))
    wire.say("a", "b", b"join", everybody=True)
    wire.say("a", "b", b"order")
    wire.say("b", "a", b"report")
    wire.lines.clear()
    wire.taken.clear()
    return wire


def play_all(wire: Wire, target: str) -> None:
    """Everything that was ever sent, to whom it was meant for, twice, each way round."""
    packets = [packet for _, to, packet in wire.record if to == target]
    for packet in [*packets, *reversed(packets)]:
        wire.play(packet, target)


def test_two_get_acquainted() -> None:
    wire = Wire(a=envelope("a"), b=envelope("b"))
    wire.say("a", "b", b"join", everybody=True)
    wire.say("a", "b", b"join again", everybody=True)
    wire.say("b", "a", b"welcome")

    wire.told("""\
a to b: join
  b: unproven, replies
  a: challenge, replies
  b: challenge and proof, replies
  a: proof
a to b: join again
  b takes join again
b to a: welcome
  a takes welcome
""")


def test_two_that_start_in_the_same_moment() -> None:
    wire = Wire(a=envelope("a"), b=envelope("b"))
    join_a = wire.stations["a"].seal(b"join", None)
    join_b = wire.stations["b"].seal(b"join", None)
    challenge_of_b, challenge_of_a = wire.play(join_a, "b"), wire.play(join_b, "a")
    assert challenge_of_a is not None
    assert challenge_of_b is not None
    wire.deliver("a", "b", challenge_of_a.packet)
    wire.deliver("b", "a", challenge_of_b.packet)
    wire.say("a", "b", b"hello")
    wire.say("b", "a", b"hello")

    wire.told("""\
  b: unproven, replies
  a: unproven, replies
  b: challenge, replies
  a: challenge and proof, replies
  b: proof
  a: replayed
a to b: hello
  b takes hello
b to a: hello
  a takes hello
""")


def test_a_lost_challenge_and_a_lost_proof_heal() -> None:
    wire = Wire(a=envelope("a"), b=envelope("b"))
    a = wire.stations["a"]
    wire.play(a.seal(b"1", None), "b")  # nobody hears the challenge
    challenge = wire.play(a.seal(b"2", None), "b")
    assert challenge is not None
    wire.play(challenge.packet, "a")  # nobody hears the proof
    wire.say("a", "b", b"3")
    wire.say("a", "b", b"4")

    wire.told("""\
  b: unproven, replies (2 times)
  a: challenge, replies
a to b: 3
  b: unproven, replies
  a: challenge, replies
  b: challenge and proof, replies
  a: proof
a to b: 4
  b takes 4
""")


def test_a_challenge_that_is_lost_often_is_repeated_now_and_then() -> None:
    wire = Wire(a=envelope("a"), b=envelope("b"))
    a = wire.stations["a"]
    for number in range(6):
        wire.play(a.seal(b"%d" % number, None), "b")
    wire.say("a", "b", b"7")
    wire.say("a", "b", b"8")
    wire.say("a", "b", b"9")

    wire.told("""\
  b: unproven, replies (4 times)
  b: unproven (2 times)
a to b: 7
  b: unproven
a to b: 8
  b: unproven, replies
  a: challenge, replies
  b: challenge and proof, replies
  a: proof
a to b: 9
  b takes 9
""")


def test_the_receiver_restarts_and_all_that_was_recorded_is_played() -> None:
    wire = acquainted()
    wire.stations["b"] = envelope("b", 2)
    play_all(wire, "b")
    wire.say("a", "b", b"order 2")
    wire.say("a", "b", b"order 3")
    play_all(wire, "b")

    assert wire.taken == [b"order 3"]
    wire.told("""\
  b: unproven, replies
  b: challenge and proof, replies
  b: unproven, replies
  b: replayed (3 times)
a to b: order 2
  b: unproven, replies
  a: challenge, replies
  b: challenge and proof, replies
  a: proof
a to b: order 3
  b takes order 3
  b: replayed (12 times)
""")


def test_the_sender_restarts() -> None:
    wire = acquainted()
    wire.stations["a"] = envelope("a", 2)
    wire.say("a", "b", b"join", everybody=True)
    play_all(wire, "b")
    wire.say("a", "b", b"order 2")
    wire.say("b", "a", b"report 2")

    assert wire.taken == [b"order 2", b"report 2"]
    wire.told("""\
a to b: join
  b: unproven, replies
  a: challenge, replies
  b: challenge and proof, replies
  a: proof
  b: old_boot, replies
  b: old_boot (2 times)
  b: replayed (4 times)
  b: old_boot (3 times)
a to b: order 2
  b takes order 2
b to a: report 2
  a takes report 2
""")


def test_both_restart_at_once() -> None:
    wire = acquainted()
    wire.stations.update(a=envelope("a", 2), b=envelope("b", 2))
    play_all(wire, "a")
    play_all(wire, "b")
    wire.say("b", "a", b"join", everybody=True)
    wire.say("a", "b", b"order 2")
    play_all(wire, "a")
    play_all(wire, "b")

    assert wire.taken == [b"order 2"]
    wire.told("""\
  a: challenge, replies
  a: proof
  a: unproven, replies
  a: replayed (3 times)
  b: unproven, replies
  b: challenge and proof, replies
  b: unproven, replies
  b: replayed (3 times)
b to a: join
  a: unproven, replies
  b: challenge, replies
  a: challenge and proof, replies
  b: proof
a to b: order 2
  b takes order 2
  a: old_boot, replies
  a: old_boot (2 times)
  a: replayed (4 times)
  a: old_boot (3 times)
  b: old_boot, replies
  b: old_boot (2 times)
  b: replayed (6 times)
  b: old_boot (3 times)
""")


def test_the_key_rotates_and_what_was_sealed_before_is_played() -> None:
    wire = acquainted()
    a, b = wire.stations["a"], wire.stations["b"]
    late = a.seal(b"late", b.node_id)
    for station, use in ((a, 1), (b, 1), (a, 2), (b, 2)):
        station.set_ring(KEYS[:2], use)
    wire.say("a", "b", b"under the new key")
    wire.play(late, "b")
    play_all(wire, "b")
    for station in (a, b):
        station.set_ring(KEYS[1:2], 2)
    wire.lines.append("the old key is gone")
    wire.say("a", "b", b"still here")
    wire.play(late, "b")
    play_all(wire, "b")

    assert wire.taken == [b"under the new key", b"late", b"still here"]
    wire.told("""\
a to b: under the new key
  b takes under the new key
  b takes late
  b: replayed (8 times)
the old key is gone
a to b: still here
  b takes still here
  b: old_key (4 times)
  b: replayed (4 times)
  b: old_key (3 times)
""")


def test_packets_are_reflected() -> None:
    wire = acquainted()
    for source, _, packet in list(wire.record):
        reply = wire.play(packet, source)
        assert reply is None
    reflected = wire.stations["a"].seal(b"for everybody", None)
    wire.play(reflected, "a")

    assert wire.stations["a"].clone_epoch is None
    wire.told("""\
  a: own
  b: recipient
  a: recipient
  b: recipient
  a: recipient
  b: recipient
  a: own
""")


def with_clone(boot_epoch: int) -> Wire:
    """a's data folder was copied; the copy runs elsewhere."""
    wire = acquainted()
    wire.stations["copy"] = envelope("a", boot_epoch, chance="elsewhere")
    return wire


def test_a_clone_is_heard_by_the_original() -> None:
    wire = with_clone(2)
    wire.say("copy", "a", b"join", everybody=True)

    assert wire.stations["a"].clone_epoch == 2
    assert wire.stations["copy"].clone_epoch == 1
    wire.told("""\
copy to a: join
  a: clone, replies
  copy: challenge, replies
  a: challenge and proof, replies
  copy: proof
""")


def test_the_original_is_heard_by_a_clone() -> None:
    wire = with_clone(2)
    wire.say("a", "copy", b"join", everybody=True)

    assert wire.stations["a"].clone_epoch == 2
    assert wire.stations["copy"].clone_epoch == 1
    wire.told("""\
a to copy: join
  copy: clone, replies
  a: challenge, replies
  copy: challenge and proof, replies
  a: proof
""")


def test_both_are_heard_by_a_peer() -> None:
    wire = with_clone(2)
    wire.say("copy", "b", b"join", everybody=True)
    wire.say("a", "b", b"still taken?")
    wire.say("copy", "b", b"hello")
    wire.say("a", "b", b"and now?")

    assert wire.stations["a"].superseded_by == 2
    assert wire.stations["a"].clone_epoch is None
    assert wire.taken == [b"hello"]
    wire.told("""\
copy to b: join
  b: unproven, replies
  copy: challenge, replies
  b: challenge and proof, replies
  copy: proof
a to b: still taken?
  b: old_boot, replies
  a: superseded
copy to b: hello
  b takes hello
a to b: and now?
  b: old_boot
""")


def test_a_clone_of_the_same_boot_is_noticed_by_its_numbers() -> None:
    wire = with_clone(1)
    wire.say("copy", "a", b"join", everybody=True)
    assert wire.stations["a"].clone_epoch is None  # it might be an echo
    wire.say("a", "copy", b"join", everybody=True)

    assert wire.stations["a"].clone_epoch == 1
    assert wire.stations["copy"].clone_epoch == 1
    wire.told("""\
copy to a: join
  a: own
a to copy: join
  copy: clone, replies
  a: challenge, replies
  copy: challenge and proof, replies
  a: proof
""")


def test_ones_own_former_life_is_no_clone() -> None:
    wire = acquainted()
    wire.stations["a"] = envelope("a", 2)
    said = [packet for source, _, packet in wire.record if source == "a"]
    asked = [reply for packet in said * 9 if (reply := wire.play(packet, "a"))]
    reflected = [wire.play(reply.packet, "a") for reply in asked]

    assert len(asked) == 5
    assert reflected == [None] * 5
    assert wire.stations["a"].clone_epoch is None
    assert wire.stations["a"].dropped == {"recipient": 18, "clone": 9, "own": 5}


def test_no_reply_follows_on_replies_for_ever() -> None:
    """Whatever two envelopes answer each other, in whatever state they are."""

    def states(name: str) -> list[Envelope]:
        fresh, met = envelope(name, 3), acquainted().stations[name]
        met.open(envelope("b" if name == "a" else "a", 3).seal(b"later", None))
        return [fresh, met, acquainted().stations[name], envelope(name, 0)]

    for at in range(4):
        for of in range(4):
            a, b = states("a")[at], states("b")[of]
            packets, turns = [(a, b.seal(b"x", None)), (b, a.seal(b"x", None))], 0
            while packets:
                turns += 1
                target, packet = packets.pop(0)
                answer = target.open(packet)
                if isinstance(answer, Reply):
                    packets.append((a if target is b else b, answer.packet))
            assert turns <= 8
