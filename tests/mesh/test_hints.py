"""A connection that ends without a goodbye is told at once, a few times a second, and no more."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rain.mesh import streams as streams_module
from rain.mesh.hints import NODES_MAX, RESETS_TOLD, Hints
from rain.model import Address, NodeId
from tests.mesh.certified import node_of
from tests.mesh.peers import HOST, Peer, Realm, pool, running, speak, until_counted

TOLD_WITHIN_S = 0.05
WAIT_S = 10.0


class Told:
    """Who was hinted at, and when."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[NodeId, float]] = asyncio.Queue()

    def __call__(self, node_id: NodeId) -> None:
        self.queue.put_nowait((node_id, time.monotonic()))

    async def next(self) -> tuple[NodeId, float]:
        async with asyncio.timeout(WAIT_S):
            return await self.queue.get()


def listening(peer: Peer) -> Told:
    """From now on, what that peer is told."""
    told = Told()
    peer.streams._hints = Hints(told, time.monotonic)
    return told


# --- the bound ------------------------------------------------------------------------------------


def test_each_node_is_told_of_so_often_a_second() -> None:
    now_s = 7.2
    told: list[str] = []
    hints = Hints(told.append, lambda: now_s)
    for _ in range(5):
        hints.give(NodeId("a"))
        hints.give(NodeId("b"))
    assert told == ["a", "b"] * RESETS_TOLD
    now_s = 8.0
    hints.give(NodeId("a"))
    assert told[-1] == "a"
    assert len(told) == 2 * RESETS_TOLD + 1


def test_a_crowd_of_nodes_is_bounded() -> None:
    told: list[str] = []
    hints = Hints(told.append, lambda: 1.0)
    for number in range(2 * NODES_MAX):
        hints.give(NodeId(str(number)))
    assert len(told) == NODES_MAX


# --- what is a hint -------------------------------------------------------------------------------


async def test_both_ends_are_told_when_the_other_hangs_up(tmp_path: Path) -> None:
    realm = Realm(tmp_path)
    async with running(Peer("a", realm)) as a:
        at_a = listening(a)
        async with running(Peer("b", realm)) as b:
            await speak(a, b, b"x")
        assert (await at_a.next())[0] == b.node_id
    async with running(Peer("c", realm)) as c:
        at_c = listening(c)
        async with running(Peer("d", realm)) as d:
            await speak(d, c, b"x")
        assert (await at_c.next())[0] == d.node_id


async def test_a_refused_dial_is_a_hint_and_a_missing_address_none(tmp_path: Path) -> None:
    async with pool(tmp_path, "a") as (a,):
        at_a = listening(a)
        nowhere, ghost = node_of("nowhere"), node_of("ghost")
        a.streams.post(nowhere, b"x")
        await until_counted(a, "no_address")
        a.realm.book[ghost] = Address(HOST, 1)
        a.streams.post(ghost, b"x")
        assert (await at_a.next())[0] == ghost
        assert at_a.queue.empty()


async def test_who_hangs_up_for_want_of_words_is_no_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "IDLE_TIMEOUT_MS", 200)
    monkeypatch.setattr(streams_module, "GOODBYE_MARGIN_MS", 100)
    async with pool(tmp_path, "a", "b") as (a, b):
        at_b = listening(b)
        await speak(a, b, b"x")
        await until_counted(b, "closed")
        assert at_b.queue.empty()


# --- the line that is held ------------------------------------------------------------------------


async def test_a_held_line_stays_open_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "IDLE_TIMEOUT_MS", 100)
    monkeypatch.setattr(streams_module, "HOLD_INTERVAL_MS", 20)
    realm = Realm(tmp_path)
    async with running(Peer("a", realm)) as a:
        at_a = listening(a)
        async with running(Peer("b", realm)) as b:
            port = b.streams.port
            a.streams.hold(b.node_id)
            await asyncio.sleep(0.4)
            assert b.streams.dropped == {}
            assert a.node_id in b.streams._members.values()
        assert (await at_a.next())[0] == b.node_id
        async with running(Peer("b", realm), port) as again:
            async with asyncio.timeout(WAIT_S):
                while a.node_id not in again.streams._members.values():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            a.streams.hold(None)
            await until_counted(again, "closed")


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_killed_agent_is_told_of_within_milliseconds(tmp_path: Path) -> None:
    realm = Realm(tmp_path)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        asyncio.run(_be_killed(Peer("b", realm), writing))
        os._exit(0)
    try:
        delay_s = asyncio.run(_watch_the_kill(Peer("a", realm), child, reading))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
    assert delay_s < TOLD_WITHIN_S


async def _be_killed(b: Peer, writing: int) -> None:
    async with running(b):
        os.write(writing, b"%d\n" % b.streams.port)
        await b.inbox.get()
        os.write(writing, b"heard\n")
        await asyncio.sleep(WAIT_S)


async def _watch_the_kill(a: Peer, child: int, reading: int) -> float:
    port = int(await asyncio.to_thread(os.read, reading, 100))
    async with running(a):
        at_a = listening(a)
        b_id = node_of("b")
        a.realm.book[b_id] = Address(HOST, port)
        a.streams.post(b_id, b"x")
        assert await asyncio.to_thread(os.read, reading, 100) == b"heard\n"
        killed_s = time.monotonic()
        os.kill(child, signal.SIGKILL)
        told, at_s = await at_a.next()
        assert told == b_id
        print(f"told {1_000 * (at_s - killed_s):.1f} ms after the kill")
        return at_s - killed_s
