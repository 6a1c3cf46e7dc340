"""An agent whose key is used elsewhere ends only if that is proven by its own signature."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from rain.agent import doubles as doubles_module
from rain.agent.doubles import ALIVE_LOOKS, Doubles, Held
from rain.gossip.messages import MemberRecord
from rain.gossip.proofs import member_content
from rain.mesh import keys
from rain.mesh.calls import CallError
from rain.mesh.codec import pack
from rain.mesh.envelope import Envelope
from rain.mesh.streams import Streams
from rain.model import Address, MemberState, NodeId
from tests.agent.desk import OneNode


class Told:
    """Members that say something of this node, and what they hold of it."""

    def __init__(self) -> None:
        self.superseded_by = 0
        self.answer = b""
        self.asked: list[NodeId] = []
        self.was_asked = asyncio.Event()

    def serve(self, verb: str, serve: object) -> None: ...

    async def call(self, node_id: NodeId, verb: str, args: bytes) -> AsyncIterator[bytes]:
        self.asked.append(node_id)
        self.was_asked.set()
        if not self.answer:
            raise CallError("nobody there")
        yield self.answer


class Scene:
    def __init__(self, folder: Path) -> None:
        self.node = OneNode(folder)
        self.told = Told()
        self.doubles = Doubles(
            self.node.driver,
            cast(Streams, self.told),
            cast(Envelope, self.told),
            self.node.signer.public_key,
            keys.ed_verify,
        )

    def record(self, boot_epoch: int) -> MemberRecord:
        identity = self.node.identity
        address = Address("10.0.0.9", 7246)
        alive = MemberState.ALIVE
        bare = MemberRecord(identity.node_id, identity.name, address, boot_epoch, 0, alive)
        return replace(bare, signature=self.node.signer.sign(member_content(bare)))

    async def look(self, record: MemberRecord) -> bool:
        """Hear of a newer boot, and be shown that record by every member there is."""
        self.told.superseded_by = 5
        self.told.answer = pack(Held(record))
        self.doubles._others = lambda: [NodeId("other")]  # type: ignore[method-assign]
        running = asyncio.create_task(self.doubles.run())
        while len(self.told.asked) < ALIVE_LOOKS:
            assert not self.doubles.is_proven
            self.told.was_asked.clear()
            await self.told.was_asked.wait()
        await asyncio.sleep(0)
        running.cancel()
        return self.doubles.is_proven


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(doubles_module, "ASK_INTERVAL_S", 0.001)
    one = Scene(tmp_path)
    yield one
    await one.node.store.close()


async def test_a_newer_boot_signed_with_the_own_key_is_proof(scene: Scene) -> None:
    assert await scene.look(scene.record(5))


async def test_an_earlier_life_that_has_ended_is_no_double(scene: Scene) -> None:
    assert not await scene.look(replace(scene.record(5), state=MemberState.DEAD))


async def test_a_members_word_alone_is_none(scene: Scene) -> None:
    forged = replace(scene.record(5), boot_epoch=6)
    assert not await scene.look(forged)


async def test_the_own_boot_is_no_double(scene: Scene) -> None:
    assert not await scene.look(scene.record(1))


async def test_nobody_is_asked_before_somebody_says_so(scene: Scene) -> None:
    running = asyncio.create_task(scene.doubles.run())
    for _ in range(20):
        await asyncio.sleep(0.001)
    running.cancel()
    assert scene.told.asked == []
