"""Up is who is both admitted and seen; copies are kept by all but workers."""

import pytest
from msgspec.structs import replace

from rain.effects import BrakeChanged, FactsChanged, MemberDown, MemberUp, ViewChanged
from rain.model import Identity, MemberState, Role
from rain.sched import pool as module
from rain.sched.pool import Pool
from tests.sched.samples import admitted, id_of, make_people
from tests.sched.wire import FACTS

A, B, C, W = (id_of(name) for name in "abcw")


def up(name: str, boot_epoch: int = 1) -> MemberUp:
    return MemberUp(id_of(name), name, boot_epoch, FACTS)


def pool(*names: str) -> Pool:
    """That of `a`; `w` is a worker."""
    people = make_people((admitted("a"), admitted("b"), admitted("c"), admitted("w", Role.WORKER)))
    made = Pool(Identity(A, "a", 1), FACTS, 15_000, people)
    for name in names:
        assert made.on_up(up(name))
    return made


def test_a_worker_is_up_and_keeps_nothing() -> None:
    made = pool("b", "w")
    assert made.up() == sorted((A, B, W))
    assert made.other_keepers() == [B]
    assert [made.is_keeper(each) for each in (A, B, C, W)] == [True, True, False, False]
    assert made.copies_needed(3) == 2


def test_a_worker_of_the_view_is_not_waited_for() -> None:
    made = pool("b", "c", "w")
    made.on_view(ViewChanged(tuple(sorted((A, B, C, W)))))
    for node_id in (C, W):
        made.on_down(MemberDown(node_id, MemberState.DEAD), 100)
    assert made.copies_needed(9) == 3
    assert made.end_grace(15_100)
    assert made.copies_needed(9) == 2


def test_whose_role_changes_becomes_or_ceases_to_be_a_keeper() -> None:
    made = pool("b", "w")
    assert not made.on_admitted(admitted("w"))
    assert made.other_keepers() == [B, W]
    assert not made.on_admitted(admitted("b", Role.WORKER))
    assert made.other_keepers() == [W]


def test_who_is_seen_before_the_roll_knows_them_is_up_once_it_does() -> None:
    made = pool()
    assert not made.on_up(up("d", 4))
    made.on_facts(FactsChanged(id_of("d"), replace(FACTS, works=False)))
    assert not made.is_up(id_of("d"))

    assert made.on_admitted(admitted("d"))

    peer = made.peers[id_of("d")]
    assert (peer.boot_epoch, peer.facts.works) == (4, False)
    assert not made.on_up(up("d", 4)), "neither new nor restarted"


def test_a_stranger_that_went_is_not_up_when_it_is_admitted() -> None:
    made = pool()
    made.on_up(up("d"))
    made.on_down(MemberDown(id_of("d"), MemberState.DEAD), 5)
    assert not made.on_admitted(admitted("d"))
    assert not made.is_up(id_of("d"))
    assert made.grace_until_ms() is None, "nobody was lost"


def test_who_is_removed_has_left_whatever_gossip_sees() -> None:
    made = pool("b", "c")
    made.on_view(ViewChanged((A, B, C)))
    made.on_down(MemberDown(C, MemberState.DEAD), 50)

    made.on_barred(B, 100)

    assert not made.is_up(B)
    assert made.is_gone(B)
    assert B not in made.down, "nothing is to be explained by it"
    assert made.copies_needed(3) == 2, "itself, and who may return"
    assert not made.on_up(up("b", 2))
    assert not made.is_up(B)
    made.on_brake(BrakeChanged(True, (B, C)))
    assert [made.is_behind_the_brake(each) for each in (B, C)] == [False, True]

    assert made.on_admitted(admitted("b")), "let in again while it is seen"
    assert made.is_up(B)
    assert not made.is_gone(B)


def test_strangers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRANGERS_MAX", 1)
    made = pool()
    for name in ("x", "y"):
        made.on_up(up(name))
    assert not made.on_admitted(admitted("x"))
    assert made.on_admitted(admitted("y"))


def test_this_node_is_always_up() -> None:
    made = Pool(Identity(A, "a", 1), FACTS, 15_000, make_people(()))
    made.on_barred(A, 5)
    made.on_down(MemberDown(A, MemberState.DEAD), 5)
    assert made.up() == [A]
    assert made.copies_needed(3) == 1
