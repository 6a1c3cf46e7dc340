"""The roll as a join-semilattice: laws, and what it does not take."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rain.claims import (
    Claim,
    Departure,
    Invitation,
    KeyPhase,
    KeyStep,
    Removal,
    Signed,
    Withdrawal,
)
from rain.model import NodeId, Role
from rain.trust import roll as roll_module
from rain.trust.records import BundleRow, ClaimRow
from rain.trust.roll import PER_AUTHOR_MAX, News, Roll
from rain.trust.standing import Standing, standing
from tests.trust.pool import POOL_ID, admin, bundle, claim_of, inspect, removal, verify

Part = tuple[list[bytes], list[Signed]]

ADMINS = ("n1", "n2", "n3")
NODES = (*ADMINS, "n4", "n5")


def new_roll() -> Roll:
    return Roll(POOL_ID, inspect, verify)


BASE = [admin(name) for name in ADMINS]

bundles = st.builds(
    bundle,
    st.sampled_from(NODES),
    st.sampled_from(ADMINS),
    role=st.sampled_from(Role),
    generation=st.integers(1, 3),
    issuer_generation=st.integers(1, 2),
    until=st.sampled_from((100, 200)),
    serial=st.integers(1, 3),
)
some_claims: st.SearchStrategy[Claim] = st.one_of(
    st.builds(Removal, st.sampled_from(NODES).map(NodeId), st.integers(1, 2), st.integers(0, 3)),
    st.builds(Departure, st.integers(1, 2)),
    st.builds(
        Invitation, st.just("i"), st.sampled_from(Role), st.just("bob"), st.just(1), st.just(9)
    ),
    st.builds(Withdrawal, st.just("i")),
    st.builds(
        KeyStep, st.integers(1, 3), st.sampled_from(KeyPhase), st.binary(min_size=16, max_size=16)
    ),
)


def said(author: str, number: int, claim: Claim, generation: int) -> Signed:
    """By a node that makes sense; what makes none ends a merge."""
    if isinstance(claim, Departure):
        claim = Departure(generation)
    if isinstance(claim, Removal) and claim.subject == author:
        claim = Withdrawal("i")
    return claim_of(author, number, claim, generation=generation)


claims = st.builds(said, st.sampled_from(ADMINS), st.integers(1, 4), some_claims, st.integers(1, 2))


def follows(roll: Roll) -> Standing:
    return standing(roll.held(), roll.claims())


def merged(*parts: Part) -> Roll:
    """As peers send it: each part with the certificates that its claims need."""
    roll = new_roll()
    for certificates, signed in parts:
        roll.merge(certificates, signed)
    roll.check()
    return roll


def shown(roll: Roll) -> tuple[bytes, bytes, Standing]:
    return roll.digest(), roll.marks(), follows(roll)


@given(
    st.lists(bundles, max_size=8), st.lists(claims, max_size=8), st.randoms(use_true_random=False)
)
@settings(max_examples=150, deadline=None)
def test_any_order_gives_the_same_roll(
    certificates: list[bytes], signed: list[Signed], dice: random.Random
) -> None:
    backing = [*BASE, *(admin(name, generation=2) for name in ADMINS)]
    expected = shown(merged((backing + certificates, signed)))
    parts: list[Part] = [([one], []) for one in certificates]
    parts += [([], [one]) for one in signed]
    dice.shuffle(parts)
    parts.insert(0, (backing, []))

    assert shown(merged(*parts, *parts)) == expected


@given(st.lists(bundles, max_size=6), st.lists(claims, max_size=6), st.lists(claims, max_size=6))
@settings(max_examples=100, deadline=None)
def test_two_rolls_that_exchange_what_the_other_lacks_are_one(
    certificates: list[bytes], left: list[Signed], right: list[Signed]
) -> None:
    backing = [*BASE, *(admin(name, generation=2) for name in ADMINS)]
    one, other = merged((backing + certificates, left)), merged((backing, right))
    for giver, taker in ((one, other), (other, one)):
        marks = taker.marks()
        news = giver.beyond({marks[at : at + 16] for at in range(0, len(marks), 16)})
        taker.merge(news.bundles, news.claims)

    assert shown(one) == shown(other)
    assert one.merge(other.bundles(), other.claims().values()) == News()


@given(st.lists(claims, max_size=8), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_a_removal_outlives_everything_but_a_higher_generation(
    signed: list[Signed], serial: int
) -> None:
    """Whatever others claim, once the most senior admin has removed a node."""
    out = claim_of("n1", 9, removal("n5"))
    others = [s for s in signed if s.author_key != out.author_key]
    readmitted = bundle("n5", "n1", generation=2)
    old = bundle("n5", "n1", until=2**40, serial=serial)
    backing = [*BASE, bundle("n5"), old]

    stands = follows(merged((backing, [*others, out])))
    credential = inspect(old)
    assert credential is not None
    assert stands.refusal(credential) == "removed"
    assert "n5" not in stands.credentials
    is_removed_again = any(
        isinstance(s.claim, Removal) and s.claim.subject in ("n5", "n1") for s in others
    )
    if not is_removed_again:
        assert "n5" in follows(merged(([*backing, readmitted], [*others, out]))).credentials


def test_the_news_of_a_merge_is_what_it_added() -> None:
    roll = new_roll()
    older, newer = bundle("n4", serial=1), bundle("n4", serial=2)
    out = claim_of("n1", 1, removal("n4"))

    assert roll.merge([*BASE, older], [out]) == News((*BASE, older), (out,))
    assert roll.merge([older, *BASE], [out]) == News()
    assert roll.merge([newer], []) == News((newer,), (), (BundleRow(older).key(),))
    assert roll.merge([older], []) == News()


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        (claim_of("n9", 1, removal("n2")), "claim_without_right"),
        (claim_of("n4", 1, removal("n2")), "claim_without_right"),
        (claim_of("n1", 1, removal("n2"), generation=2), "claim_without_right"),
        (claim_of("n1", 1, removal("n2"), pool_id=b"another"), "claim_forged"),
        (Signed(b"k", 1, 1, removal("n2"), b"s"), "claim_without_right"),
        (Signed(claim_of("n1", 1, removal("n2")).author_key, 1, 1, removal("n2")), "claim_forged"),
        (claim_of("n1", 1, removal("n1")), "claim_senseless"),
        (claim_of("n1", 0, removal("n2")), "claim_senseless"),
        (claim_of("n1", 1, removal("n2", generation=0)), "claim_senseless"),
        (claim_of("n1", 1, removal("n" * 65)), "claim_senseless"),
        (claim_of("n4", 1, Departure(2)), "claim_senseless"),
        (claim_of("n1", 1, KeyStep(1, KeyPhase.USE, b"short")), "claim_senseless"),
    ],
)
def test_claims_that_are_not_taken(signed: Signed, reason: str) -> None:
    roll = new_roll()
    roll.merge([*BASE, bundle("n4")], [])

    assert not roll.merge([], [signed])
    assert roll.dropped == {reason: 1}


def test_certificates_that_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_module, "ISSUED_MAX", 2)
    roll = new_roll()

    for broken in (b"nonsense", bytes(5_000)):
        assert roll.merge([broken], []) == News(is_sound=False)
    assert roll.dropped == {"certificate_of_no_chain": 1, "certificate_too_long": 1}
    assert len(roll.merge([bundle(f"n{i}") for i in range(10, 14)], []).bundles) == 2
    assert roll.dropped["roll_full"] == 2
    assert len(roll.merge([bundle("n20", "n2")], []).bundles) == 1, "others may still issue"


def test_an_author_keeps_its_first_removals_and_its_last_invitations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PER_AUTHOR_MAX, Removal, 3)
    monkeypatch.setitem(PER_AUTHOR_MAX, Withdrawal, 3)
    removals = [claim_of("n1", number, removal(f"n{number}")) for number in range(2, 7)]
    withdrawals = [claim_of("n1", number, Withdrawal("i")) for number in range(10, 15)]
    forward, backward = new_roll(), new_roll()
    forward.merge(BASE, [])
    news = [forward.merge([], [signed]) for signed in (*removals, *withdrawals)]
    backward.merge(BASE, [*removals, *withdrawals][::-1])

    assert set(forward.claims().values()) == {*removals[:3], *withdrawals[2:]}
    assert shown(forward) == shown(backward)
    assert [bool(one) for one in news] == [True] * 3 + [False] * 2 + [True] * 5
    assert news[-1].deletes == (ClaimRow(withdrawals[1]).key(),)


def test_a_claim_travels_with_the_certificates_it_needs() -> None:
    roll = new_roll()
    vouched = bundle("n4", "n1")
    roll.merge([*BASE, bundle("n4", "n2"), vouched, bundle("n5", "n3")], [])
    of_a_node, of_an_admin = claim_of("n2", 1, removal("n5")), claim_of("n1", 1, removal("n2"))
    roll.merge([], [of_a_node, of_an_admin])

    assert roll.closure([of_a_node]) == (BASE[1],)
    assert set(roll.closure([of_an_admin])) == {BASE[0], vouched}


def test_a_merge_ends_at_what_cannot_be_proven() -> None:
    roll = new_roll()
    forged = claim_of("n1", 1, removal("n4"), pool_id=b"another")
    good = claim_of("n1", 2, removal("n5"))

    news = roll.merge([*BASE, b"nonsense", bundle("n4"), *[b"nonsense"] * 99], [good])
    assert news == News(tuple(BASE), is_sound=False)
    news = roll.merge([], [good, *[forged] * 99, claim_of("n1", 3, removal("n4"))])
    assert news == News((), (good,), is_sound=False)
    assert roll.dropped == {"certificate_of_no_chain": 1, "claim_forged": 1}
    useless = claim_of("n9", 1, removal("n4"))
    assert roll.merge([], [useless, claim_of("n1", 4, removal("n4"))]).is_sound, "only of no use"


def test_of_departures_in_one_generation_the_first_one_is_kept() -> None:
    first, later = claim_of("n2", 3, Departure(1)), claim_of("n2", 9, Departure(1))
    again = claim_of("n2", 12, Departure(2), generation=2)
    backing = [*BASE, admin("n2", generation=2)]
    expected = shown(merged((backing, [first, again])))

    assert shown(merged((backing, [first, later, again]))) == expected
    assert shown(merged((backing, [again, later, first]))) == expected
