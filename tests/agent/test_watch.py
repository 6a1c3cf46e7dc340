"""What a node makes of what the roll says about itself."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from rain.agent.authority import new_authority
from rain.agent.control import End
from rain.agent.doubles import Doubles
from rain.agent.people import People
from rain.agent.watch import NOT_IN_POOL, OUTLIVED_LOOKS, Expelled, Watch
from rain.claims import Removal, Signed, node_id_of
from rain.effects import CertificateShown, Received
from rain.mesh import keys
from rain.mesh.certificates import Authority
from rain.mesh.envelope import Envelope
from rain.mesh.keys import EdSigner
from rain.mesh.streams import Streams
from rain.mesh.transport import Transport
from rain.model import Address, NodeId, Role
from rain.trust.content import signed_content
from rain.trust.messages import RollNews
from tests.agent.desk import NOW_UNIX_S, Nowhere, OneNode


class Quiet:
    """A network on which nobody has said anything."""

    clone_epoch: int | None = None
    superseded_by = 0

    def __init__(self) -> None:
        self.refusals: dict[NodeId, str] = {}

    def serve(self, verb: str, serve: object) -> None: ...


class Scene:
    """The founder's PC, and another admin, who may be the senior one."""

    def __init__(self, folder: Path, other_folder: Path, *, is_senior: bool) -> None:
        self.node = OneNode(folder)
        self.node.driver.connect(Nowhere(), Nowhere())
        self.me = self.node.identity.node_id
        self.trust = self.node.driver.node.trust
        quiet = Quiet()
        self.watch = Watch(
            self.node.driver,
            self.node.admission,
            cast(Envelope, quiet),
            cast(Transport, quiet),
            cast(Streams, quiet),
            Doubles(
                self.node.driver,
                cast(Streams, quiet),
                cast(Envelope, quiet),
                self.node.signer.public_key,
                keys.ed_verify,
            ),
        )
        self.other_signer = keys.load_node_key(other_folder)
        self.other = node_id_of(self.other_signer.public_key)
        root = keys.load_root(folder)
        assert root is not None
        self.root = root
        since_s = NOW_UNIX_S + (-9 if is_senior else 9)
        self.authority: Authority = new_authority(root, self.other, 1, since_s)
        self.node.admission.begin()
        self.issue(self.other_signer.public_key, "lab-3")

    def issue(
        self,
        public_key: bytes,
        name: str,
        generation: int = 1,
        authority: Authority | None = None,
    ) -> None:
        bundle = (authority or self.authority).issue(
            public_key,
            name=name,
            role=Role.ADMIN,
            person="bert",
            generation=generation,
            invite_id="",
            now_unix_s=NOW_UNIX_S + 9,
        )
        self.node.driver.feed(CertificateShown(bundle))

    def strike(self, subject: NodeId, author: EdSigner | None = None, through: int = 0) -> None:
        """The other one, or that one, removes somebody."""
        author = author or self.other_signer
        removal = Removal(subject, 1, through, reason="mine now")
        unsigned = Signed(author.public_key, 1, 5, removal)
        signature = author.sign(signed_content(unsigned, self.node.pool.pool_id))
        news = RollNews((), (replace(unsigned, signature=signature),))
        source = Address("10.0.0.9", 7246)
        self.node.driver.feed(Received(self.other, news, source, 1, True))


@pytest.fixture
async def scene(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    own, others = tmp_path / "own", tmp_path / "others"
    own.mkdir()
    (others / "third").mkdir(parents=True)
    made = Scene(own, others, is_senior=request.param)
    yield made
    await made.node.store.close()


@pytest.mark.parametrize("scene", [True], indirect=True)
async def test_who_was_removed_by_a_senior_admin_ends_and_says_by_whom(scene: Scene) -> None:
    scene.watch._look()
    scene.strike(scene.me)
    with pytest.raises(Expelled, match="by lab-3: mine now") as raised:
        scene.watch._look()
    assert raised.value.exit_code == NOT_IN_POOL


@pytest.mark.parametrize("scene", [False], indirect=True)
async def test_an_admin_whom_a_junior_one_removed_goes_on_and_may_undo_it(scene: Scene) -> None:
    assert scene.watch.warnings() == []
    scene.strike(scene.me)
    assert scene.trust.role(scene.me) is None
    scene.watch._look()
    (warning,) = scene.watch.warnings()
    assert "rain kick lab-3" in warning

    people = People(scene.node.driver, scene.node.admission, itertools.count(1).__next__)
    writing = scene.node.writing()
    (end,) = [piece async for piece in people.kick({"node": "lab-3"})]
    await scene.node.stop(writing)
    assert isinstance(end, End)
    assert scene.trust.role(scene.me) is Role.ADMIN
    assert scene.trust.role(scene.other) is None
    assert scene.watch.warnings() == []


@pytest.mark.parametrize("scene", [True], indirect=True)
async def test_who_fell_with_the_admin_that_let_it_in_is_told_what_to_do(scene: Scene) -> None:
    """It does not end: another admin may confirm it, and then it comes back."""
    third = keys.load_node_key(scene.node.folder.parent / "others" / "third")
    elder = new_authority(scene.root, node_id_of(third.public_key), 1, NOW_UNIX_S - 99)
    scene.issue(third.public_key, "elder", authority=elder)
    scene.strike(scene.me)
    scene.issue(scene.node.signer.public_key, "desk", generation=2)
    assert scene.trust.role(scene.me) is Role.ADMIN
    assert scene.watch.warnings() == []

    scene.strike(scene.other, third, through=9)
    assert scene.trust.role(scene.me) is None
    scene.watch._look()
    (warning,) = scene.watch.warnings()
    assert "was removed" in warning
    assert "rain leave" in warning

    scene.issue(scene.node.signer.public_key, "desk", generation=2, authority=elder)
    assert scene.watch.warnings() == []


@pytest.mark.parametrize("scene", [True], indirect=True)
async def test_who_was_outlived_by_an_earlier_life_of_its_own_starts_anew(scene: Scene) -> None:
    lives = scene.node.driver.node.gossip._lives
    assert lives.remind(scene.node.identity.boot_epoch + 7) is not None
    for _ in range(OUTLIVED_LOOKS - 1):
        scene.watch._look()
    with pytest.raises(Expelled, match="older than what the pool knows") as raised:
        scene.watch._look()
    assert "rain up" in raised.value.hint
