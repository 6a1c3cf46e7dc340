"""A new coordinator's first questions arrive before the reign is on the follower's disk."""

from rain.effects import ReignChanged
from rain.model import Epoch
from rain.sched.early import EARLY_MAX, Early
from rain.sched.messages import Assign, Digests, InventoryRequest
from tests.sched.samples import id_of
from tests.sched.wire import Wire, job_of

FIRST, SECOND = Epoch(1, id_of("a"), 7), Epoch(2, id_of("c"), 7)


def test_what_was_asked_while_the_reign_was_being_written_is_answered_when_it_is_followed() -> None:
    wire = Wire("a", "b", "c")
    wire.reign("a", 1)
    wire.kill("a")
    wire.follows[id_of("c")] = SECOND
    wire.feed(id_of("c"), ReignChanged(SECOND, mine=True, takeover=True))
    wire.settle()
    wire.told()
    assert wire.hosts[id_of("c")].core.is_taking_inventory()

    wire.feed(id_of("b"), ReignChanged(SECOND))
    wire.settle()

    assert [line for line in wire.told() if line.startswith("b>")] == ["b>c Patch", "b>c Inventory"]
    assert not wire.hosts[id_of("c")].core.is_taking_inventory()


def test_only_questions_wait_and_only_those_of_the_node_whose_reign_it_is() -> None:
    early = Early()

    assert not early.keep(id_of("c"), Assign(SECOND, 1, job_of("b"), ()), FIRST)
    assert not early.keep(id_of("b"), InventoryRequest(SECOND, 1, 1), FIRST)
    assert early.keep(id_of("c"), InventoryRequest(SECOND, 1, 1), FIRST)
    assert early.keep(id_of("c"), InventoryRequest(SECOND, 1, 1), None)


def test_a_question_of_the_followed_reign_or_of_an_older_one_does_not_wait() -> None:
    early = Early()

    assert not early.keep(id_of("c"), InventoryRequest(SECOND, 1, 1), SECOND)
    assert not early.keep(id_of("a"), InventoryRequest(FIRST, 1, 1), SECOND)


def test_another_reign_empties_the_place() -> None:
    early = Early()
    early.keep(id_of("c"), InventoryRequest(SECOND, 1, 1), FIRST)

    assert early.take(Epoch(3, id_of("b"), 7)) == []
    assert early.take(SECOND) == []


def test_the_oldest_gives_way() -> None:
    early = Early()
    for number in range(EARLY_MAX + 1):
        early.keep(id_of("c"), InventoryRequest(SECOND, number, number), FIRST)

    kept = early.take(SECOND)

    assert len(kept) == EARLY_MAX
    assert not isinstance(kept[0][1], Digests)
    assert kept[0][1].round == 1
