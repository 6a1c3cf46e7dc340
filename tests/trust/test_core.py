"""One trust core, fed by hand."""

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rain.claims import Departure, Invitation, KeyPhase, KeyStep, Removal, Withdrawal
from rain.effects import (
    Admitted,
    Answer,
    Barred,
    CertificateShown,
    ClaimMade,
    DeadlinePassed,
    DiskFailed,
    DiskRecovered,
    KeyMissing,
    MemberUp,
    Output,
    Persist,
    Persisted,
    Post,
    Received,
    Record,
    Rekey,
    Send,
)
from rain.model import NodeId, Role
from rain.trust.content import mark_of_key
from rain.trust.core import Trust
from rain.trust.messages import RingKey, RollDigest, RollHave, RollNews, TrustMessage
from rain.trust.records import BundleRow, ClaimRow, RingRow, rows_of
from tests.trust.pool import (
    SOURCE,
    admin,
    bundle,
    claim_of,
    key,
    posted,
    public,
    removal,
    trust_of,
    up,
)


def member(*present: str, me: str = "n1") -> Trust:
    """One of three members who know each other and have key 1; n1 and n2 are admins."""
    step = KeyStep(1, KeyPhase.REMOVE, mark_of_key(key(1)))
    bundles = [admin("n1"), admin("n2"), bundle("n3")]
    core = trust_of(me, rows_of(bundles, [claim_of("n1", 1, step)], [(1, key(1))]))
    core.handle(DeadlinePassed(), 0)
    for name in present:
        core.handle(up(name), 0)
    return core


def posts(outputs: list[Output]) -> list[Post]:
    return [output for output in outputs if isinstance(output, Post)]


def install(number: int, of: bytes, author: str = "n2") -> RollNews:
    step = KeyStep(number, KeyPhase.INSTALL, mark_of_key(of))
    return RollNews((), (claim_of(author, number, step),), (RingKey(number, of),))


def test_a_pool_is_founded_in_two_events() -> None:
    core = trust_of("n1")
    assert core.handle(DeadlinePassed(), 0) == []
    own = admin("n1")

    shown = core.handle(CertificateShown(own), 1)
    assert shown == [
        Persist((BundleRow(own),)),
        Admitted(NodeId("n1"), "pc-n1", Role.ADMIN, "anna", public("n1")),
    ]
    made = core.handle(ClaimMade(KeyStep(1, KeyPhase.INSTALL), 1_000, 5, key(1)), 2)
    persist, rekey = made[0], made[1]
    assert isinstance(persist, Persist)
    assert rekey == Rekey(((1, key(1)),), 1)
    assert [type(row) for row in persist.puts] == [ClaimRow, ClaimRow, ClaimRow, RingRow]
    assert persist.then == ()
    assert core.handle(Persisted(persist.token, 1), 3) == [Answer(5, 1)]
    assert core.ring().progress() == (1, 1)
    core.check()


def test_a_restarted_node_is_told_its_keys_first() -> None:
    founder = trust_of("n1")
    rows: dict[str, Record] = {}
    for event in (
        CertificateShown(admin("n1")),
        ClaimMade(KeyStep(1, KeyPhase.INSTALL), 1_000, 0, key(1)),
        CertificateShown(bundle("n2")),
    ):
        for output in founder.handle(event, 0):
            if isinstance(output, Persist):
                rows |= {row.key(): row for row in output.puts}

    again = trust_of("n1", tuple(rows.values()), now_ms=50)
    assert [type(notice) for notice in again.initial_notices()] == [Admitted, Admitted]
    assert again.next_deadline_ms() == 50
    assert again.handle(DeadlinePassed(), 50)[0] == Rekey(((1, key(1)),), 1)
    assert again.claims() == founder.claims()


def test_a_newcomer_starts_from_what_it_was_given() -> None:
    given_rows = rows_of([admin("n1"), bundle("n2")], [], [(1, key(1)), (2, key(2))])
    core = trust_of("n2", given_rows)

    assert core.ring().use == 2
    assert core.role(NodeId("n2")) is Role.MEMBER


@pytest.mark.parametrize(
    ("me", "event", "error"),
    [
        ("n3", ClaimMade(Withdrawal("i"), 1, 9), "this PC is no admin of the pool"),
        ("n1", ClaimMade(removal("n9", 0), 1, 9), "no member of that id is known"),
        ("n1", ClaimMade(removal("n1"), 1, 9), "a PC does not remove itself: it leaves"),
        ("n1", ClaimMade(removal("n3"), 1, 9, b"short"), "a pool key has 32 bytes"),
        (
            "n1",
            ClaimMade(KeyStep(1, KeyPhase.USE), 1, 9),
            "a key takes its later steps by itself",
        ),
    ],
)
def test_claims_that_are_refused(me: str, event: ClaimMade, error: str) -> None:
    assert member("n2", me=me).handle(event, 1) == [Answer(9, 0, error)]


def test_a_removal_without_a_generation_means_the_one_that_is_known() -> None:
    core = member()
    core.handle(posted("n2", RollNews((), (claim_of("n2", 4, Withdrawal("i")),))), 1)
    core.handle(ClaimMade(removal("n2", 0), 1, 0, key(2)), 2)

    assert core.removals() == {NodeId("n2"): (Removal(NodeId("n2"), 1, 4), NodeId("n1"), 1)}
    assert core.next_generation(NodeId("n2")) == 2
    assert core.credential(NodeId("n2")) is None
    assert core.known(NodeId("n2")) is not None


def test_a_key_that_nobody_brought_is_made_from_a_secret_signature() -> None:
    core = member()
    core.handle(ClaimMade(removal("n2", 0), 1), 1)

    first, second = core.ring().keys[2], member().ring().keys.get(2)
    assert len(first) == 32
    assert second is None
    assert core.ring().phase is KeyPhase.INSTALL


def test_an_invitation_counts_until_its_author_is_evicted() -> None:
    core = member()
    invitation = Invitation("abc", Role.MEMBER, "bob", 2, 2_000_000_000)
    made = claim_of("n2", 1, invitation)
    core.handle(posted("n2", RollNews((bundle("n4", "n2", invite_id="abc"),), (made,))), 1)
    assert core.invitation("abc") == made
    assert core.uses("abc") == 1

    core.handle(ClaimMade(Withdrawal("abc"), 1), 2)
    assert core.withdrawn("abc")
    assert [c.node_id for c in core.issued_by(NodeId("n2"))] == ["n4"]
    core.handle(ClaimMade(removal("n2", 0), 1), 3)
    assert core.invitation("abc") is None
    assert not core.counts(made)


def test_what_is_told_is_on_disk_first() -> None:
    core = member("n2", "n3")
    shown = core.handle(CertificateShown(bundle("n4")), 1)

    persist = shown[0]
    assert isinstance(persist, Persist)
    news = RollNews((bundle("n4"),))
    assert persist.then == (Post(NodeId("n2"), news), Post(NodeId("n3"), news))
    assert not posts(shown)


def test_news_is_passed_on_once_and_acknowledged() -> None:
    core = member("n2", "n3")
    news = RollNews((bundle("n4"),), serial=3)

    (persist, _) = core.handle(posted("n2", news), 1)
    assert isinstance(persist, Persist)
    passed_on, taken = persist.then
    assert passed_on == Post(NodeId("n3"), RollNews((bundle("n4"),)))
    assert isinstance(taken, Post)
    assert isinstance(taken.message, RollDigest)
    assert (taken.to, taken.message.taken) == ("n2", 3)
    assert core.handle(posted("n2", news), 2) == [taken], "known: acknowledged, nothing else"


def test_a_key_needs_an_admins_word_and_a_stream() -> None:
    core = member("n2")
    news = install(2, key(2))

    core.handle(posted("n2", RollNews(keys=news.keys)), 1)
    core.handle(posted("n2", RollNews(news.bundles, news.claims, (RingKey(2, key(3)),))), 2)
    core.handle(Received(NodeId("n2"), news, SOURCE, 1), 3)
    core.handle(posted("n9", news), 4)
    assert core.dropped == {
        "unbacked_key": 2,
        "not_by_stream": 1,
        "sender_without_credential": 1,
    }
    assert sorted(core.ring().keys) == [1]
    outputs = core.handle(posted("n2", news), 5)
    assert Rekey(((1, key(1)), (2, key(2))), 1) in outputs


def test_a_worker_installs_no_key() -> None:
    core = member("n2", "n3")

    core.handle(posted("n3", install(2, key(2), author="n3")), 1)
    assert core.dropped == {"claim_without_right": 1, "unbacked_key": 1}
    assert core.ring().use == 1


def test_what_is_missing_is_sent_and_what_the_asker_has_is_asked_for() -> None:
    core = member("n2")
    everything = core.bundles()
    asker = trust_of("n2", rows_of([everything[0], bundle("n4")], [], []))
    (have,) = (p.message for p in posts(asker.handle(DeadlinePassed(), 0)))
    assert isinstance(have, RollHave)

    news, question = posts(core.handle(posted("n2", have), 1))
    assert isinstance(news.message, RollNews)
    assert set(news.message.bundles) == set(everything[1:])
    assert news.message.keys == (RingKey(1, key(1)),)
    assert isinstance(question.message, RollHave)
    assert question.message.is_reply
    assert core.handle(posted("n2", have), 2) == []
    assert core.dropped == {"asked_too_often": 1}


def test_a_difference_that_lasts_is_asked_about() -> None:
    core = member("n2")
    core.handle(posted("n2", RollDigest(b"other", 1, mark_of_key(key(1)), 1)), 100)
    assert core.next_deadline_ms() == 400
    assert core.handle(DeadlinePassed(), 399) == []

    (post,) = posts(core.handle(DeadlinePassed(), 400))
    assert post.to == "n2"
    assert isinstance(post.message, RollHave)


def test_a_missing_key_is_asked_for_one_member_after_the_other_then_ever_more_rarely() -> None:
    core = member("n3")
    asked: list[tuple[int, str]] = []
    for now_ms in range(0, 9_000, 100):
        for event in (KeyMissing(), DeadlinePassed()):
            asked += [(now_ms, post.to) for post in posts(core.handle(event, now_ms))]

    assert asked == [
        (0, "n3"),
        (1_000, "n2"),
        (3_000, "n3"),
        (4_000, "n2"),
        (7_000, "n3"),
        (8_000, "n2"),
    ]


def test_a_disk_that_fails_tells_nobody_and_recovers_whole() -> None:
    core = member("n2")
    begun = core.handle(ClaimMade(Withdrawal("i"), 1, 9), 1)
    assert not posts(begun)
    error = "the disk of this PC takes no writes"
    assert core.handle(DiskFailed("full"), 2) == [Answer(9, 0, error)]
    assert core.handle(ClaimMade(Withdrawal("j"), 1, 10), 3) == [Answer(10, 0, error)]

    heard = core.handle(posted("n2", install(2, key(2))), 4)
    assert heard[0] == Rekey(((1, key(1)), (2, key(2))), 1), "it can still read what others say"
    assert not [output for output in heard if isinstance(output, Persist | Post)]
    (persist,) = core.handle(DiskRecovered(), 5)
    assert isinstance(persist, Persist)
    again = trust_of("n1", persist.puts)
    assert again.claims() == core.claims()
    assert again.ring().keys == core.ring().keys


def test_who_leaves_is_told_that_it_was_heard_before_anybody_hangs_up() -> None:
    core = member("n2", "n3")
    gone = RollNews((), (claim_of("n3", 1, Departure(1)),), serial=4)

    outputs = core.handle(posted("n3", gone), 1)
    assert outputs[-1] == Barred(NodeId("n3"))
    persist = next(output for output in outputs if isinstance(output, Persist))
    assert [effect.to for effect in persist.then if isinstance(effect, Post)] == ["n2", "n3"]


def test_own_removal_bars_this_node() -> None:
    core = member("n1", me="n3")

    outputs = core.handle(posted("n1", RollNews((), (claim_of("n1", 2, removal("n3")),))), 1)
    assert outputs[-1] == Barred(NodeId("n3"))
    assert core.handle(KeyMissing(), 2) == []


def test_digests_go_to_a_newcomer_and_to_one_member_every_ten_seconds() -> None:
    core = member("n2")
    assert [type(o) for o in core.handle(up("n3"), 1)] == [Send]
    assert core.handle(MemberUp(NodeId("n8"), "", 1, up("n8").facts), 1) == [], "not on the roll"

    told: list[int] = []
    for _ in range(6):
        now_ms = core.next_deadline_ms()
        told += [now_ms] * sum(isinstance(o, Send) for o in core.handle(DeadlinePassed(), now_ms))
    gaps = [later - earlier for earlier, later in pairwise(told)]
    assert all(9_000 <= gap <= 11_000 for gap in gaps)


messages: st.SearchStrategy[TrustMessage] = st.one_of(
    st.builds(RollDigest, st.binary(max_size=8), st.integers(0, 9), st.binary(max_size=16)),
    st.builds(RollHave, st.binary(max_size=99), st.just(())),
    st.builds(
        RollNews,
        st.lists(st.binary(max_size=40), max_size=3).map(tuple),
        st.lists(
            st.builds(
                claim_of,
                st.sampled_from(("n1", "n2", "n3", "n9")),
                st.integers(0, 2**62),
                st.builds(KeyStep, st.integers(0, 2**62), st.sampled_from(KeyPhase), st.binary()),
            ),
            max_size=3,
        ).map(tuple),
        st.lists(st.builds(RingKey, st.integers(0, 2**62), st.just(key(5))), max_size=3).map(tuple),
    ),
)


@given(st.lists(messages, max_size=6), st.booleans(), st.sampled_from(("n1", "n2", "n3", "n9")))
@settings(max_examples=100, deadline=None)
def test_nothing_a_peer_sends_raises(
    received: list[TrustMessage], by_stream: bool, sender: str
) -> None:
    core = member("n2", "n3")
    for number, message in enumerate(received):
        core.handle(Received(NodeId(sender), message, SOURCE, 1, by_stream), number)
        core.check()
    assert core.ring().use == 1


def test_messages_are_bounded() -> None:
    core_dice = random.Random(1)
    for message in (
        RollDigest(b"123456789", 1, b"", 1),
        RollNews((core_dice.randbytes(5_000),)),
        RollNews((b"",) * 2_000),
        RollNews(keys=(RingKey(1, b"short"),)),
        RollNews(keys=(RingKey(1, key(1)),) * 9),
        RollHave(b"", (key(1),)),
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(msgspec.to_builtins(message, builtin_types=(bytes,)), type(message))


def test_who_tells_what_cannot_be_proven_is_not_listened_to_for_a_growing_while() -> None:
    core = member("n2", "n3")
    broken = RollNews((b"nonsense",) * 1_024)
    now_ms, pauses = 10, []
    for _ in range(9):
        core.handle(posted("n3", broken), now_ms)
        begun_ms = now_ms
        before = core.dropped.get("sender_distrusted", 0)
        while True:
            core.handle(posted("n3", RollNews()), now_ms)
            if core.dropped.get("sender_distrusted", 0) == before:
                break
            before, now_ms = core.dropped["sender_distrusted"], now_ms + 500
        pauses.append(now_ms - begun_ms)

    assert pauses == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]
    assert core.dropped["certificate_of_no_chain"] == 9, "one of each message was looked at"
    assert core.handle(posted("n2", install(2, key(2))), now_ms), "others are heard"
    core.handle(posted("n3", broken), now_ms + 200_000)
    core.handle(posted("n3", broken), now_ms + 201_000)
    assert core.dropped["certificate_of_no_chain"] == 11, "after a while it begins anew"
    core.check()


def test_invitations_are_found_by_their_id() -> None:
    core = member()
    open_one = Invitation("i", Role.MEMBER, "bob", 1, 2_000_000_000)
    core.handle(ClaimMade(open_one, 5), 1)
    core.handle(CertificateShown(bundle("n4", invite_id="i")), 2)

    found = core.invitation("i")
    assert found is not None
    assert found.claim == open_one
    assert core.uses("i") == 1
    assert core.inviter(core.credentials()[-1]) == "n1"
    assert not core.withdrawn("i")
    core.handle(ClaimMade(Withdrawal("i"), 6), 3)
    assert core.withdrawn("i")


def test_whom_an_admin_has_let_in() -> None:
    core = member(me="n1")
    core.handle(ClaimMade(Invitation("i", Role.MEMBER, "bob", 9, 2_000_000_000), 5), 1)
    for certificate in (
        bundle("n4", "n2", invite_id="i"),  # with a token of n1, at the door of n2
        bundle("n5", "n2"),
        bundle("n6", "n2", role=Role.ADMIN),
        admin("n6", since=9),  # its own word for itself is nobody else's
        bundle("n7", "n2"),
        bundle("n7", "n1", serial=2),
        bundle("n8", "n6"),
    ):
        core.handle(CertificateShown(certificate), 2)

    def names(*admins: str) -> list[str]:
        return [str(each.node_id) for each in core.let_in_by({NodeId(name) for name in admins})]

    assert names("n2") == ["n4", "n5", "n6"]
    assert names("n1") == ["n3", "n4", "n7"]
    assert names("n2", "n6") == ["n4", "n5", "n8"]


def test_no_pool_key_is_ever_printed() -> None:
    secret = key(1)
    ring_key = RingKey(1, secret)
    shown = [
        ring_key,
        RollNews(keys=(ring_key,)),
        RingRow((ring_key,), 1),
        Rekey(((1, secret),), 1),
        ClaimMade(Withdrawal("i"), 5, 0, secret),
        Post(NodeId("n2"), RollNews(keys=(ring_key,))),
    ]
    for one in shown:
        assert repr(secret) not in repr(one)
        assert repr(secret)[2:10] not in repr(one)


def test_who_was_removed_by_an_admin_that_falls_stays_out() -> None:
    """Confirmed and removed at once, it is out, and what it said before goes on to count."""
    core = member(me="n1")
    crony = bundle("n4", "n2", role=Role.ADMIN)
    core.handle(posted("n2", RollNews((crony,), (claim_of("n4", 1, removal("n3")),))), 1)
    assert core.credential(NodeId("n3")) is None
    core.handle(CertificateShown(bundle("n4", "n1", role=Role.ADMIN)), 2)
    for name in ("n4", "n2"):
        core.handle(ClaimMade(Removal(NodeId(name), 0), 1_000, 0, key(2)), 3)

    assert [each.node_id for each in core.credentials()] == ["n1"]
    assert sorted(core.removals()) == ["n2", "n3", "n4"]
