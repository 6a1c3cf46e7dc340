"""Golden histories: four nodes, their rolls and their keys, told as text."""

from textwrap import dedent

from rain.claims import Departure, KeyPhase, KeyStep
from rain.effects import Answer, MemberDown
from rain.model import MemberState, NodeId, Role
from rain.trust.content import mark_of_key
from rain.trust.messages import RingKey, RollNews
from tests.trust.pool import Pool, admin, bundle, claim_of, key, posted, removal

FOUR = ("n1", "n2", "n3", "n4")


def quiet_pool(admins: tuple[str, ...] = ("n1", "n2"), issuer: str = "n1") -> Pool:
    """All up, with key 1; nothing to tell."""
    pool = Pool(FOUR, admins, issuer=issuer)
    pool.start()
    pool.run(1_000)
    pool.told()
    return pool


def assert_told(pool: Pool, expected: str) -> None:
    assert pool.told() == dedent(expected).strip()


def test_a_kick() -> None:
    pool = quiet_pool()
    pool.claim("n1", removal("n4", 0), key(2), request=7)
    pool.run(9_000)

    assert_told(
        pool,
        """
        1000 n1 -> n4: news removal of n4.1, INSTALL 2
        1000 n1 expels n4
        1000 n1 keys 1 2 use 1
        1000 n1 log barred n4: removed
        1000 n1 bars n4
        1002 n4 log barred n4: removed
        1002 n4 bars n4
        1003 n1 -> n2: news removal of n4.1, INSTALL 2, key 2 #1
        1003 n1 -> n3: news removal of n4.1, INSTALL 2, key 2 #1
        1005 n2 expels n4
        1005 n2 keys 1 2 use 1
        1005 n2 log barred n4: removed
        1005 n2 bars n4
        1005 n3 expels n4
        1005 n3 keys 1 2 use 1
        1005 n3 log barred n4: removed
        1005 n3 bars n4
        1008 n2 -> n1: taken 1
        1008 n2 -> n3: news removal of n4.1, INSTALL 2, key 2
        1008 n3 -> n1: taken 1
        1008 n3 -> n2: news removal of n4.1, INSTALL 2, key 2
        1010 n1 answers 3
        1010 n1 keys 1 2 use 2
        1013 n1 -> n2: news USE 2
        1013 n1 -> n3: news USE 2
        1015 n2 keys 1 2 use 2
        1015 n3 keys 1 2 use 2
        1018 n2 -> n3: news USE 2
        1018 n3 -> n2: news USE 2
        1020 n1 keys 2 use 2
        1023 n1 -> n2: news REMOVE 2
        1023 n1 -> n3: news REMOVE 2
        1025 n2 keys 2 use 2
        1025 n3 keys 2 use 2
        1028 n2 -> n3: news REMOVE 2
        1028 n3 -> n2: news REMOVE 2
        """,
    )
    assert pool.agree()
    assert pool.cores["n3"].ring().progress() == (3, 3)
    assert not any(core.dropped for core in pool.cores.values())


def test_the_driver_of_a_rotation_dies_midway_and_the_next_admin_goes_on() -> None:
    pool = quiet_pool()
    pool.claim("n1", removal("n3", 0), key(2))
    pool.run(8)
    pool.stop("n1")
    pool.told()
    pool.run(12_000)

    assert_told(
        pool,
        """
        7005 n2 keys 1 2 use 2
        7008 n2 -> n4: news USE 2
        7010 n4 keys 1 2 use 2
        7015 n2 keys 2 use 2
        7018 n2 -> n4: news REMOVE 2
        7020 n4 keys 2 use 2
        """,
    )
    pool.start("n1")
    pool.run(3_000)
    assert pool.agree()
    assert pool.rings()["n1"] == ([2], 2)


def test_an_absent_node_returns_and_finds_that_it_lacks_the_key() -> None:
    pool = quiet_pool()
    pool.stop("n4")
    pool.claim("n1", removal("n3", 0), key(2))
    pool.run(8_000)
    pool.told()
    pool.start("n4")
    pool.run(900)

    assert_told(
        pool,
        """
        9000 n4 keys 1 use 1
        9002 n4 -> n1: have
        9002 n1 -> n2: have
        9002 n2 -> n1: have
        9004 n1 -> n4: news removal of n3.1, INSTALL 2, USE 2, REMOVE 2, key 2
        9004 n1 -> n4: have
        9006 n4 expels n3
        9006 n4 keys 2 use 2
        9006 n4 log barred n3: removed
        9006 n4 bars n3
        9009 n4 -> n2: news removal of n3.1, INSTALL 2, USE 2, REMOVE 2, key 2
        """,
    )
    assert pool.agree()


def test_a_slow_member_is_waited_for_two_seconds_and_five() -> None:
    pool = quiet_pool()
    pool.cores.pop("n3")  # gone, and nobody has noticed yet
    pool.claim("n1", KeyStep(2, KeyPhase.INSTALL), key(2), request=8)
    pool.run(9_000)

    own = [line for line in pool.told().splitlines() if " n1 " in line and "->" not in line]
    assert own == [
        "1000 n1 keys 1 2 use 1",
        "3000 n1 answers 3",
        "3000 n1 keys 1 2 use 2",
        "8000 n1 keys 2 use 2",
    ]


def test_a_lone_admin_whose_members_are_off_waits_all_the_same() -> None:
    pool = Pool(FOUR, ("n1",))
    pool.start("n1")
    pool.run(100)
    pool.told()
    pool.claim("n1", removal("n4", 0), key(2), request=1)
    pool.run(8_000)

    assert_told(
        pool,
        """
        100 n1 expels n4
        100 n1 keys 1 2 use 1
        100 n1 log barred n4: removed
        100 n1 bars n4
        103 n1 answers 1
        2100 n1 keys 1 2 use 2
        7100 n1 keys 2 use 2
        """,
    )


def test_two_admins_remove_each_other_and_the_senior_one_stays() -> None:
    pool = quiet_pool(("n1", "n2", "n3"), issuer="n3")
    pool.claim("n2", removal("n1", 0), key(2, "b"))
    pool.claim("n1", removal("n2", 0), key(2, "a"))
    pool.run(9_000)

    assert sorted(pool.cores) == ["n1", "n3", "n4"]
    assert pool.agree()
    assert pool.cores["n4"].role(NodeId("n1")) is Role.ADMIN
    assert list(pool.cores["n4"].removals()) == ["n2"]
    assert pool.cores["n4"].ring().keys == {2: key(2, "a")}


def test_two_sides_that_both_rotated_choose_a_third_key() -> None:
    pool = quiet_pool()
    pool.part("n1", "n3")
    pool.claim("n1", removal("n4", 0), key(2, "a"))
    pool.claim("n2", removal("n3", 0), key(2, "b"))
    pool.run(9_000)
    assert pool.rings()["n1"] == pool.rings()["n2"] == ([2], 2)
    assert pool.cores["n1"].ring().keys != pool.cores["n2"].ring().keys

    pool.heal()
    pool.run(4_000)
    assert sorted(pool.cores) == ["n1", "n2"]
    assert pool.agree()
    assert pool.rings()["n1"] == ([3], 3)


def test_who_is_kicked_may_come_back_with_a_new_certificate() -> None:
    pool = quiet_pool()
    pool.claim("n1", removal("n4", 0), key(2))
    pool.run(1_000)
    generation = pool.cores["n1"].next_generation(NodeId("n4"))
    back = bundle("n4", generation=generation)
    pool.told()
    pool.show("n1", bundle("n4", until=2_100_000_000), back)
    pool.run(100)

    told = pool.told()
    assert "n1 admits n4 MEMBER" in told
    assert "n2 admits n4 MEMBER" in told
    assert all(core.bundle(NodeId("n4")) == back for core in pool.cores.values())


def test_an_admin_is_kicked_and_those_it_let_in_stay() -> None:
    pool = quiet_pool(("n1", "n2"), issuer="n2")
    first = pool.cores["n1"]
    fallen = first.issued_by(NodeId("n2"))
    assert [credential.node_id for credential in fallen] == ["n3", "n4"]
    pool.show("n1", *(bundle(credential.node_id, "n1") for credential in fallen))
    pool.claim("n1", removal("n2", 0), key(2))
    pool.run(9_000)

    told = pool.told()
    assert sorted(pool.cores) == ["n1", "n3", "n4"]
    assert "bars n3" not in told
    assert "bars n4" not in told
    assert pool.agree()


def test_an_admin_that_another_has_made_a_worker_may_still_defend_the_pool() -> None:
    pool = quiet_pool()
    pool.show("n2", bundle("n1", "n2", role=Role.WORKER, until=2_100_000_000))
    pool.run(100)
    assert pool.cores["n3"].role(NodeId("n1")) is Role.WORKER
    pool.claim("n1", removal("n2", 0), key(2), request=3)
    pool.run(9_000)

    assert pool.answers[3] == Answer(3, 3)
    assert pool.cores["n3"].role(NodeId("n1")) is Role.ADMIN
    assert pool.rings()["n3"] == ([2], 2)


def test_a_new_admin_without_the_old_one_rotates_on() -> None:
    pool = quiet_pool()
    pool.show("n1", admin("n3", since=9))
    pool.run(100)
    pool.claim("n3", KeyStep(2, KeyPhase.INSTALL), key(2))
    pool.run(1_000)

    assert pool.agree()
    assert pool.rings()["n4"] == ([2], 2)


def test_who_leaves_waits_until_it_was_heard() -> None:
    pool = quiet_pool()
    pool.claim("n4", Departure(1), request=5)
    pool.run(100)

    assert pool.answers[5].copies == 4
    assert pool.cores["n1"].credential(NodeId("n4")) is None
    assert pool.cores["n1"].next_generation(NodeId("n4")) == 2


def test_mutual_kicks_in_a_partition_and_the_senior_one_is_heard_afterwards() -> None:
    """Nobody is neutral: on the junior's side everybody has barred the senior."""
    pool = Pool(("n1", "n2", "n3"), ("n1", "n2"))
    pool.start()
    pool.run(1_000)
    pool.part("n1")
    pool.show("n2", bundle("n3", "n2"))
    pool.claim("n2", removal("n1", 0), key(2, "b"))
    pool.claim("n1", removal("n2", 0), key(2, "a"))
    pool.run(9_000)
    assert pool.cores["n3"].is_overruled(NodeId("n1"))

    pool.heal()
    pool.run(12_000)
    assert sorted(pool.cores) == ["n1", "n3"]
    assert pool.agree()
    assert pool.cores["n3"].role(NodeId("n1")) is Role.ADMIN
    assert pool.cores["n3"].ring().keys == {2: key(2, "a")}


def test_a_senior_admin_undoes_what_a_junior_one_did_first() -> None:
    pool = Pool(("n1", "n2", "n3"), ("n1", "n2"))
    pool.start()
    pool.run(1_000)
    pool.show("n2", bundle("n3", "n2"))
    pool.claim("n2", removal("n1", 0), key(2))
    pool.run(9_000)
    for one, other in (("n1", "n2"), ("n1", "n3")):
        pool.feed(one, MemberDown(NodeId(other), MemberState.DEAD))
        pool.feed(other, MemberDown(NodeId(one), MemberState.DEAD))
    senior = pool.cores["n1"]
    assert senior.role(NodeId("n1")) is None
    assert senior.is_overruled(NodeId("n1"))
    pool.claim("n1", Departure(1), request=1)
    pool.claim("n1", KeyStep(3, KeyPhase.INSTALL), request=2)
    assert all(pool.answers[number].error for number in (1, 2)), "only a removal"

    pool.claim("n1", removal("n2", 0), key(3), request=3)
    pool.run(100)
    assert sorted(pool.cores) == ["n1", "n3"]
    assert pool.cores["n3"].role(NodeId("n1")) is Role.ADMIN
    assert pool.answers[3] == Answer(3, 2)
    pool.heal()
    pool.run(9_000)
    assert pool.agree()
    assert pool.cores["n3"].ring().keys == {2: key(3)}, (
        "the number is free again: its claims are void"
    )


def test_a_node_that_was_overruled_is_believed_nothing_else() -> None:
    """Its news of others' making do not bring it back, and no key of its own is taken."""
    pool = quiet_pool(("n1", "n2"))
    pool.claim("n2", removal("n1", 0), key(2))
    pool.run(9_000)
    third = pool.cores["n2"]
    step = KeyStep(9, KeyPhase.INSTALL, mark_of_key(key(9)))
    news = RollNews((), (claim_of("n1", 9, step),), (RingKey(9, key(9)),))
    pool.feed("n2", posted("n1", news))
    assert 9 not in third.ring().keys
    assert third.role(NodeId("n1")) is None


def test_with_a_key_travels_who_is_not_to_have_it() -> None:
    """The news of a removal may be lost on its way, and the key that comes later may not be."""
    pool = quiet_pool()
    pool.claim("n1", removal("n4", 0), key(2), request=7)
    pool.run(9_000)
    pool.told()
    pool.claim("n1", KeyStep(3, KeyPhase.INSTALL), key(3), request=8)
    pool.run(20)

    told = pool.told()
    assert " n1 -> n2: news removal of n4.1, INSTALL 3, key 3 #" in told
    assert " n2 -> n3: news removal of n4.1, INSTALL 3, key 3\n" in told
    assert "-> n4" not in told
