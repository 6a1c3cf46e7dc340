"""Where members are, by what was told and what was seen."""

from rain.agent.address_book import SEEN_FRESH_S, STEADY_S, AddressBook
from rain.model import Address, NodeId

PEER = NodeId("p" * 26)
HOME = Address("10.0.0.1", 7246)
MOVED = Address("10.0.0.2", 7246)
FALSE = Address("10.0.0.66", 7246)


class Scene:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.book = AddressBook(lambda: self.now_s)


def test_what_was_seen_wins_over_what_was_told_while_it_is_fresh() -> None:
    scene = Scene()
    scene.book.learn(PEER, HOME)
    assert scene.book.find(PEER) == HOME
    scene.book.saw(PEER, MOVED)
    assert scene.book.find(PEER) == MOVED
    scene.now_s += SEEN_FRESH_S
    assert scene.book.find(PEER) == HOME


def test_a_packet_from_elsewhere_moves_nobody_who_was_seen_a_moment_ago() -> None:
    scene = Scene()
    scene.book.saw(PEER, HOME)
    scene.now_s += STEADY_S - 0.1
    scene.book.saw(PEER, FALSE)
    assert scene.book.find(PEER) == HOME


def test_who_moved_is_found_there_soon() -> None:
    scene = Scene()
    scene.book.saw(PEER, HOME)
    scene.now_s += STEADY_S
    scene.book.saw(PEER, MOVED)
    assert scene.book.find(PEER) == MOVED


def test_an_address_where_the_member_is_not_is_forgotten() -> None:
    scene = Scene()
    scene.book.learn(PEER, HOME)
    scene.book.saw(PEER, FALSE)
    scene.book.misled(PEER, FALSE)
    assert scene.book.find(PEER) == HOME


def test_the_only_known_address_is_kept_whatever_happens_there() -> None:
    scene = Scene()
    scene.book.saw(PEER, HOME)
    scene.book.misled(PEER, HOME)
    assert scene.book.find(PEER) == HOME
    scene.book.learn(PEER, HOME)
    scene.book.misled(PEER, HOME)
    assert scene.book.find(PEER) == HOME


def test_a_hint_counts_where_nothing_is_known_or_nobody_answers() -> None:
    scene = Scene()
    scene.book.hint(PEER, HOME)
    assert scene.book.find(PEER) == HOME
    scene.book.hint(PEER, MOVED)
    assert scene.book.find(PEER) == HOME, "anybody may have said so"
    scene.book.misled(PEER, HOME)
    assert scene.book.find(PEER) == MOVED
    scene.book.misled(PEER, HOME)
    assert scene.book.find(PEER) == MOVED, "a dial that was under way says nothing of this one"


def test_a_false_hint_hides_no_true_address_for_good() -> None:
    scene = Scene()
    scene.book.learn(PEER, HOME)
    scene.book.hint(PEER, FALSE)
    scene.book.misled(PEER, HOME)
    assert scene.book.find(PEER) == FALSE
    scene.book.misled(PEER, FALSE)
    assert scene.book.find(PEER) == HOME


def test_a_hint_is_followed_from_where_the_member_was_seen() -> None:
    scene = Scene()
    scene.book.saw(PEER, HOME)
    scene.book.hint(PEER, MOVED)
    scene.book.misled(PEER, HOME)
    assert scene.book.find(PEER) == MOVED


def test_what_a_member_said_is_tried_before_a_hint() -> None:
    scene = Scene()
    scene.book.saw(PEER, HOME)
    scene.book.learn(PEER, MOVED)
    scene.book.hint(PEER, FALSE)
    scene.book.misled(PEER, HOME)
    assert scene.book.find(PEER) == MOVED


def test_who_said_that_it_moves_is_followed_at_once() -> None:
    scene = Scene()
    scene.book.saw(PEER, HOME)
    scene.book.learn(PEER, MOVED)
    scene.now_s += 0.1
    scene.book.saw(PEER, FALSE)
    assert scene.book.find(PEER) == HOME
    scene.book.saw(PEER, MOVED)
    assert scene.book.find(PEER) == MOVED
