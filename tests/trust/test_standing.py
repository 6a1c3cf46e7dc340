"""Who may be here, judged from a set."""

from rain.claims import Departure, Invitation, KeyPhase, KeyStep, Signed, Withdrawal
from rain.model import NodeId, Role
from rain.trust.roll import Roll
from rain.trust.standing import Standing, standing
from tests.trust.pool import POOL_ID, admin, bundle, claim_of, inspect, removal, verify


def judged(bundles: list[bytes], *claims: Signed) -> Standing:
    roll = Roll(POOL_ID, inspect, verify)
    roll.merge(bundles, claims)
    assert not roll.dropped
    return standing(roll.held(), roll.claims())


def here(stands: Standing) -> list[str]:
    return sorted(stands.credentials)


def invitation(invite_id: str = "i") -> Invitation:
    return Invitation(invite_id, Role.MEMBER, "bob", 1, 2_000_000_000)


TRIO = [admin("n1"), admin("n2"), bundle("n3")]


def test_a_removed_node_is_not_here_but_known() -> None:
    stands = judged(TRIO, claim_of("n1", 1, removal("n3")))

    assert here(stands) == ["n1", "n2"]
    assert sorted(stands.known) == ["n1", "n2", "n3"]


def test_only_a_higher_generation_brings_a_removed_node_back() -> None:
    out = claim_of("n1", 1, removal("n3"))
    renewed = bundle("n3", until=2_100_000_000, serial=9)

    assert here(judged([*TRIO, renewed], out)) == ["n1", "n2"]
    assert here(judged([*TRIO, bundle("n3", generation=2)], out)) == ["n1", "n2", "n3"]


def test_what_a_removed_admin_issued_falls_with_it() -> None:
    nodes = [admin("n1"), admin("n2"), bundle("n3", "n2"), bundle("n4", "n2")]
    out = claim_of("n1", 1, removal("n2"))

    assert here(judged(nodes, out)) == ["n1"]
    assert here(judged([*nodes, bundle("n3", "n1")], out)) == ["n1", "n3"]


def test_a_bad_issuer_displaces_nothing_once_it_is_removed() -> None:
    forged = bundle("n3", "n2", role=Role.WORKER, generation=9, until=2_100_000_000)
    nodes = [*TRIO, forged]

    assert judged(nodes).credentials[NodeId("n3")].credential.role is Role.WORKER
    stands = judged(nodes, claim_of("n1", 1, removal("n2")))
    assert stands.credentials[NodeId("n3")].credential.role is Role.MEMBER


def test_of_two_admins_who_remove_each_other_the_senior_one_stays() -> None:
    mutual = [claim_of("n2", 1, removal("n1")), claim_of("n1", 1, removal("n2"))]

    assert here(judged(TRIO, *mutual)) == ["n1", "n3"]
    assert here(judged(TRIO, mutual[0])) == ["n2"]  # n1 issued n3's certificate


def test_who_was_removed_by_juniors_only_is_still_heard() -> None:
    by_junior = claim_of("n3", 1, removal("n2"))
    by_senior = claim_of("n1", 1, removal("n2"))
    nodes = [admin("n1"), admin("n2"), admin("n3")]

    assert judged(nodes, by_junior).overruled == {"n2"}
    assert judged(nodes, by_senior).overruled == set()
    assert judged(nodes, by_junior, by_senior).overruled == set()
    back, again = admin("n2", generation=2, since=2), claim_of("n3", 2, removal("n2", 2))
    assert judged([*nodes, back], by_senior, again).overruled == {"n2"}, "it had come back"


def test_a_removal_that_the_senior_one_knew_of_holds_too() -> None:
    stands = judged(
        TRIO, claim_of("n2", 1, removal("n1")), claim_of("n1", 1, removal("n2", through=1))
    )

    assert here(stands) == []


def test_claims_beyond_through_are_void_and_earlier_ones_hold() -> None:
    early, late = claim_of("n2", 1, removal("n3")), claim_of("n2", 2, removal("n4"))
    stands = judged([*TRIO, bundle("n4")], early, late, claim_of("n1", 1, removal("n2", through=1)))

    assert here(stands) == ["n1", "n4"]


def test_what_a_removed_admin_says_after_its_return_counts() -> None:
    out = claim_of("n1", 1, removal("n2", through=0))
    void = claim_of("n2", 7, removal("n3"))
    anew = claim_of("n2", 8, removal("n3"), generation=2)
    back = admin("n2", generation=2, since=50)

    assert here(judged([*TRIO, back], out, void)) == ["n1", "n2", "n3"]
    assert here(judged([*TRIO, back], out, void, anew)) == ["n1", "n2"]


def test_what_an_evicted_admin_left_open_is_closed() -> None:
    left_open = [
        claim_of("n2", 1, invitation()),
        claim_of("n2", 2, KeyStep(2, KeyPhase.USE, bytes(16))),
        claim_of("n2", 3, Withdrawal("other")),
    ]
    out = claim_of("n1", 1, removal("n2", through=3))

    assert len(judged(TRIO, *left_open).claims) == 3
    counted = [type(signed.claim) for signed in judged(TRIO, *left_open, out).claims.values()]
    assert sorted(kind.__name__ for kind in counted) == ["Removal", "Withdrawal"]


def test_an_admin_whose_certificate_fell_says_nothing_until_it_is_issued_anew() -> None:
    crony = bundle("n4", "n2", role=Role.ADMIN)
    nodes = [*TRIO, crony]
    claims = [claim_of("n4", 1, removal("n3")), claim_of("n1", 1, removal("n2"))]

    assert here(judged(nodes, claims[0])) == ["n1", "n2", "n4"]
    assert here(judged(nodes, *claims)) == ["n1", "n3"]
    vouched = bundle("n4", "n1", role=Role.ADMIN)
    assert here(judged([*nodes, vouched], *claims)) == ["n1", "n4"]


def test_an_admin_without_an_issue_of_its_own_is_junior_to_all() -> None:
    crony = bundle("n0", "n1", role=Role.ADMIN)
    mutual = [claim_of("n0", 1, removal("n2")), claim_of("n2", 1, removal("n0"))]

    assert here(judged([*TRIO, crony], *mutual)) == ["n1", "n2", "n3"]


def test_who_left_is_gone_and_what_it_issued_stays() -> None:
    nodes = [*TRIO, bundle("n4", "n2")]
    stands = judged(nodes, claim_of("n2", 1, Departure(1)), claim_of("n3", 1, Departure(1)))

    assert here(stands) == ["n1", "n4"]


def test_why_a_certificate_is_refused() -> None:
    nodes = [*TRIO, bundle("n4", "n2"), bundle("n5"), bundle("n6", "n2"), bundle("n6", "n1")]
    stands = judged(nodes, claim_of("n1", 1, removal("n2")), claim_of("n5", 1, Departure(1)))

    def refusal(certificate: bytes) -> str:
        credential = inspect(certificate)
        assert credential is not None
        return stands.refusal(credential)

    assert refusal(bundle("n3")) == ""
    assert refusal(admin("n2")) == "removed"
    assert refusal(bundle("n5")) == "left"
    assert refusal(bundle("n4", "n2")) == "issuer_removed"
    assert refusal(bundle("n9", "n2")) == "issuer_removed"
    assert refusal(bundle("n6", "n2")) == "", "another admin has vouched for it since"


def test_a_departure_is_the_last_word_of_an_admin() -> None:
    early, late = claim_of("n2", 1, removal("n3")), claim_of("n2", 9, removal("n4"))
    open_one, token = claim_of("n2", 2, invitation()), claim_of("n2", 10, invitation("late"))
    step = claim_of("n2", 3, KeyStep(2, KeyPhase.USE, bytes(16)))
    gone = claim_of("n2", 5, Departure(1))
    nodes = [*TRIO, bundle("n4")]

    stands = judged(nodes, late, token, early, open_one, step, gone)
    assert here(stands) == ["n1", "n4"]
    assert sorted(signed.number for signed in stands.claims.values()) == [1, 3, 5]


def test_who_comes_back_after_it_left_may_speak_again() -> None:
    gone, anew = claim_of("n2", 5, Departure(1)), claim_of("n2", 6, invitation(), generation=2)
    stands = judged([*TRIO, admin("n2", generation=2)], gone, anew)

    assert here(stands) == ["n1", "n2", "n3"]
    assert len(stands.claims) == 2
