"""What a node in a pool says to who has no key in common with it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import pytest

from rain.agent import beacons, twins
from rain.agent.beacons import SEEK_FRESH_S, SEEK_INTERVAL_S, Beacons
from rain.agent.driver import Driver
from rain.claims import node_id_of
from rain.effects import CertificateShown, DeadlinePassed, Event, KeyMissing
from rain.mesh import keys
from rain.mesh.beacon import Here, Seek, decode_beacon, encode_beacon
from rain.mesh.certificates import public_key_of
from rain.mesh.transport import Transport
from rain.model import Address, Role
from tests.agent.desk import NOW_UNIX_S, Nowhere, OneNode

OTHER = node_id_of(public_key_of(b"other".ljust(32)))
THERE = Address("10.0.0.9", 7246)
OWN = Address("10.0.0.1", 7246)
NONCE = b"8 bytes!"


class Wire:
    """A transport that keeps what was sent."""

    port = 7246

    def __init__(self) -> None:
        self.answers: list[tuple[Address, bytes]] = []
        self.calls: list[bytes] = []
        self.called: list[Address] = []

    is_spent = False

    def answer_beacon(self, address: Address, make: Callable[[], bytes]) -> None:
        if not self.is_spent:
            self.answers.append((address, make()))

    def broadcast(self, packet: bytes, extra_addresses: Iterable[Address] = ()) -> None:
        self.calls.append(packet)
        self.called += extra_addresses

    def own_address(self) -> Address:
        return OWN


class Noting(Driver):
    """A driver that keeps what it was told, and what was known then of where the other is."""

    found: Address | None = None
    misses = 0

    def feed(self, event: Event) -> None:
        super().feed(event)
        if isinstance(event, KeyMissing):
            self.misses += 1
            self.found = self._book.find(OTHER)


class Scene:
    def __init__(self, folder: Path) -> None:
        self.node = OneNode(folder, Noting)
        self.node.driver.connect(Nowhere(), Nowhere())
        self.node.driver.feed(DeadlinePassed())
        self.wire = Wire()
        self.now_s = 100.0
        clock: Callable[[], float] = lambda: self.now_s  # noqa: E731 - a clock is no more
        self.beacons = Beacons(
            self.node.pool,
            self.node.driver,
            self.node.admission.invites,
            cast(Transport, self.wire),
            self.node.book,
            clock,
        )

    def seek(self, want: str = "") -> bytes:
        return encode_beacon(Seek(OTHER, NONCE, want, "lab-3"))

    def let_in(self) -> None:
        """The other one is a member from now on."""
        authority = keys.load_authority(self.node.folder)
        assert authority is not None
        bundle = authority.issue(
            public_key_of(b"other".ljust(32)),
            name="lab-3",
            role=Role.MEMBER,
            person="bert",
            generation=1,
            invite_id="abcdefghij",
            now_unix_s=NOW_UNIX_S,
        )
        self.node.driver.feed(CertificateShown(bundle))

    def here(self, nonce: bytes, pool_id: bytes | None = None) -> bytes:
        pool_id = self.node.pool.pool_id if pool_id is None else pool_id
        return encode_beacon(Here(nonce, pool_id, "attic", OTHER, "lab-3", 7300, 2))


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_who_seeks_a_pool_is_told_of_this_one(scene: Scene) -> None:
    scene.beacons.hear(scene.seek(), THERE)
    ((address, packet),) = scene.wire.answers
    assert address == THERE
    assert decode_beacon(packet) == Here(
        NONCE,
        scene.node.pool.pool_id,
        "attic",
        scene.node.identity.node_id,
        "desk",
        7246,
        1,
        (OWN,),
    )
    await scene.node.store.close()


async def test_an_answer_that_is_not_given_is_not_made(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def is_sponsor(want: str) -> bool:
        asked.append(want)
        return False

    monkeypatch.setattr(scene.node.admission.invites, "is_sponsor", is_sponsor)
    scene.beacons.hear(scene.seek("482"), THERE)
    scene.wire.is_spent = True
    scene.beacons.hear(scene.seek("483"), THERE)
    assert asked == ["482"]
    await scene.node.store.close()


async def test_who_made_the_invitation_says_so(scene: Scene) -> None:
    code = scene.node.admission.invites.open_code()
    scene.beacons.hear(scene.seek(code.code.nameplate), THERE)
    told = decode_beacon(scene.wire.answers[0][1])
    assert isinstance(told, Here)
    assert told.is_sponsor
    await scene.node.store.close()


@pytest.mark.parametrize("packet", [b"", b"rb", b"rb\x01\x00\x05hello", b"\xff" * 640])
async def test_nonsense_is_not_answered(scene: Scene, packet: bytes) -> None:
    scene.beacons.hear(packet, THERE)
    assert scene.wire.answers == []
    await scene.node.store.close()


async def test_a_lost_node_learns_where_its_pool_is(scene: Scene) -> None:
    scene.beacons.seek_own_pool()
    (call,) = scene.wire.calls
    sought = decode_beacon(call)
    assert isinstance(sought, Seek)
    assert not sought.is_deciding
    scene.beacons.hear(scene.here(sought.nonce), THERE)
    assert scene.node.book.find(OTHER) == Address("10.0.0.9", 7300)
    await scene.node.store.close()


async def test_who_can_be_read_by_nobody_is_called_where_it_spoke_from(scene: Scene) -> None:
    scene.beacons.seek_own_pool(THERE)
    assert scene.wire.called == [THERE], "no broadcast may reach it, and no address of it be known"
    await scene.node.store.close()


async def test_who_lacks_a_key_asks_for_it_when_it_knows_where_somebody_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beacons, "ANSWER_WAIT_S", 0.0)
    driver = scene.node.driver
    assert isinstance(driver, Noting)
    scene.beacons.miss_key(THERE)
    assert driver.misses == 0, "its address comes by the answer"
    sought = decode_beacon(scene.wire.calls[0])
    assert isinstance(sought, Seek)
    scene.beacons.hear(scene.here(sought.nonce), THERE)
    while not driver.misses:
        await driver.wait_change(1_000)
    assert (driver.misses, driver.found) == (1, Address("10.0.0.9", 7300))
    await scene.node.store.close()


async def test_nobody_teaches_addresses_unasked_late_or_of_another_pool(scene: Scene) -> None:
    scene.beacons.hear(scene.here(NONCE), THERE)
    scene.beacons.seek_own_pool()
    sought = decode_beacon(scene.wire.calls[0])
    assert isinstance(sought, Seek)
    scene.beacons.hear(scene.here(NONCE), THERE)
    scene.beacons.hear(scene.here(sought.nonce, b"another pool----"), THERE)
    scene.now_s += SEEK_FRESH_S + 1
    scene.beacons.hear(scene.here(sought.nonce), THERE)
    assert scene.node.book.find(OTHER) is None
    await scene.node.store.close()


async def test_the_own_pool_is_not_sought_all_the_time(scene: Scene) -> None:
    for _ in range(5):
        scene.beacons.seek_own_pool()
    assert len(scene.wire.calls) == 1
    scene.now_s += SEEK_INTERVAL_S
    scene.beacons.seek_own_pool()
    assert len(scene.wire.calls) == 2
    await scene.node.store.close()


async def test_a_pool_founded_at_the_same_time_is_told_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "LOOK_INTERVAL_S", 0.0)
    said: list[str] = []
    watch = twins.Twins(scene.beacons, said.append, looks=3)
    scene.beacons.seek_own_pool()
    sought = decode_beacon(scene.wire.calls[0])
    assert isinstance(sought, Seek)
    other = Here(sought.nonce, b"another pool----", "cellar", OTHER, "lab-3", 7300, 1)
    scene.beacons.hear(encode_beacon(other), THERE)
    await watch.look()
    assert said == watch.warnings
    assert [line[:25] for line in said] == ["another pool, 'cellar', w"]
    await scene.node.store.close()


async def test_where_a_lost_member_calls_from_is_where_it_is_answered(scene: Scene) -> None:
    scene.beacons.hear(scene.seek(), THERE)
    assert scene.node.book.find(OTHER) is None, "it is no member"
    scene.let_in()
    scene.beacons.hear(scene.seek(), THERE)
    assert scene.node.book.find(OTHER) == THERE
    scene.beacons.hear(scene.seek(), Address("10.0.0.66", 7246))
    assert scene.node.book.find(OTHER) == THERE, "a stranger's word moves nobody"
    scene.node.book.misled(OTHER, THERE)
    assert scene.node.book.find(OTHER) == Address("10.0.0.66", 7246), "who moved is looked for"
    await scene.node.store.close()
