"""The ends of logs on other PCs: who brings them, who takes them, who reads them."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from rain.agent import log_copies, log_courier
from rain.agent.log_copies import (
    COPY_VERB,
    HELD_VERB,
    KEYS,
    READ_VERB,
    Keys,
    LogCopies,
    Piece,
    Pieces,
    Wanted,
    copy_name,
    ranked,
)
from rain.agent.log_courier import ABSENT_S, SHUNNED_S, TRIES_MAX, LogCourier
from rain.exec.logs import (
    PACKED_BYTES_MAX,
    STDERR,
    STDOUT,
    TAIL_BYTES_MAX,
    KeptLogs,
    Tail,
    frame,
    unpacked,
)
from rain.log import Logger
from rain.mesh.codec import Rejected, pack, unpack
from rain.mesh.streams import CallError, Streams
from rain.model import AttemptId, End, EndState, Epoch, JobSpec, NodeId, Role, Stage
from rain.sched.identity import attempt_key
from rain.sched.messages import AttemptEnd, Cell, JobPatch, TaskPatch
from tests.agent.asking import certify
from tests.agent.desk import Nowhere, OneNode
from tests.agent.desk import logger as quiet

Serve = Callable[[NodeId, bytes], AsyncIterator[bytes]]
WORKER, KEEPERS = NodeId("w" * 26), [NodeId(letter * 26) for letter in "abc"]


class Verbs:
    """What a node answers over its streams, without a network."""

    def __init__(self) -> None:
        self.by_name: dict[str, Serve] = {}

    def serve(self, verb: str, serve: Serve) -> None:
        self.by_name[verb] = serve

    async def call(self, node_id: NodeId, verb: str, args: bytes) -> AsyncIterator[bytes]:
        raise CallError("nobody else is here")
        yield b""


class Keeper:
    """A member that takes copies; its job table knows one attempt of a PC called mia's."""

    def __init__(self, folder: Path) -> None:
        node = OneNode(folder)
        node.driver.connect(Nowhere(), Nowhere())
        self.store, self.driver = node.store, node.driver
        self.folder = folder / "copies"
        self.verbs = Verbs()
        self.copies = LogCopies(self.folder, node.driver, cast(Streams, self.verbs), quiet())
        self.mia = certify(node, "mia", Role.WORKER, "mia")
        self.zoe = certify(node, "zoe", Role.WORKER, "zoe")
        self.max = certify(node, "max", Role.MEMBER, "max")
        job = node.job(JobSpec(("true",)))
        epoch = Epoch(1, node.identity.node_id, 7)
        self.attempt = AttemptId(job.job_id, 0, 1, epoch, self.mia)
        self.key = attempt_key(self.attempt)
        cell = Cell(True, 1, True, epoch, 2, Stage.ENDED, self.attempt)
        end = AttemptEnd(self.attempt, End(EndState.SUCCEEDED, 0))
        patch = JobPatch(job.job_id, job, tasks=(TaskPatch(0, 0, cell, (end,)),))
        assert node.driver.node.sched.table.merge((patch,))

    async def asked(self, sender: NodeId, verb: str, args: bytes) -> bytes:
        return b"".join([piece async for piece in self.verbs.by_name[verb](sender, args)])

    async def brought(self, sender: NodeId, *pieces: Piece) -> tuple[str, ...]:
        answer = unpack(await self.asked(sender, COPY_VERB, pack(Pieces(pieces))), KEYS)
        assert not isinstance(answer, Rejected)
        return answer.keys

    async def read(self, reader: NodeId) -> Tail | None:
        return unpacked(await self.asked(reader, READ_VERB, pack(Wanted(self.attempt))))


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    one = Keeper(tmp_path)
    yield one
    await one.store.close()


TAIL = Tail((5, 0), frame(STDOUT, b"the end\n"))
PACKED = TAIL.packed()


# --- who may ----------------------------------------------------------------------------------


async def test_a_copy_is_taken_and_read(keeper: Keeper) -> None:
    whole = Piece(keeper.key, 0, len(PACKED), PACKED)
    assert await keeper.brought(keeper.mia, whole) == (keeper.key,)
    assert await keeper.read(keeper.max) == TAIL
    assert await keeper.copies.find(keeper.attempt) == TAIL
    (file,) = keeper.folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    held = await keeper.asked(keeper.mia, HELD_VERB, pack(Keys((keeper.key, "job.0.1.000000"))))
    assert unpack(held, KEYS) == Keys((keeper.key,))


async def test_only_who_ran_the_attempt_brings_its_log(keeper: Keeper) -> None:
    whole = Piece(keeper.key, 0, len(PACKED), PACKED)
    assert await keeper.brought(keeper.zoe, whole) == ()
    assert await keeper.brought(keeper.max, whole) == ()
    assert keeper.copies.dropped == {"unknown_attempt": 2}
    assert await keeper.read(keeper.max) is None


@pytest.mark.parametrize("key", ["", "../x.0.1.abcdef", "a/b.0.1.abcdef", "aaaa.9.1.abcdef", "a"])
async def test_what_names_no_attempt_is_not_taken(keeper: Keeper, key: str) -> None:
    assert await keeper.brought(keeper.mia, Piece(key, 0, len(PACKED), PACKED)) == ()
    other = keeper.key[:-6] + "000000"
    assert await keeper.brought(keeper.mia, Piece(other, 0, len(PACKED), PACKED)) == ()
    assert not keeper.folder.exists() or list(keeper.folder.iterdir()) == []


async def test_a_workers_pc_reads_only_what_its_person_may(keeper: Keeper) -> None:
    await keeper.brought(keeper.mia, Piece(keeper.key, 0, len(PACKED), PACKED))
    for reader in (keeper.mia, keeper.zoe, WORKER):
        with pytest.raises(CallError, match="may not read"):
            await keeper.read(reader)


@pytest.mark.parametrize("args", [b"", b"\x93", pack(Keys(("x",))), b"\xc1" * 100])
async def test_rubbish_is_refused_and_counted(keeper: Keeper, args: bytes) -> None:
    with pytest.raises(CallError, match="no question"):
        await keeper.asked(keeper.mia, COPY_VERB, args)
    assert sum(keeper.copies.dropped.values()) == 1


# --- parts --------------------------------------------------------------------------------------


async def test_parts_come_in_order_or_from_the_start(keeper: Keeper) -> None:
    first = Piece(keeper.key, 0, len(PACKED), PACKED[:10])
    rest = Piece(keeper.key, 10, len(PACKED), PACKED[10:])
    assert await keeper.brought(keeper.mia, rest) == ()
    assert await keeper.brought(keeper.mia, first) == (keeper.key,)
    assert await keeper.read(keeper.max) is None
    assert await keeper.brought(keeper.mia, first) == (keeper.key,)
    assert await keeper.brought(keeper.mia, Piece(keeper.key, 11, len(PACKED), b"xy")) == ()
    assert await keeper.brought(keeper.mia, rest) == (keeper.key,)
    assert await keeper.read(keeper.max) == TAIL


async def test_no_part_goes_beyond_what_was_announced(keeper: Keeper) -> None:
    assert await keeper.brought(keeper.mia, Piece(keeper.key, 0, 3, PACKED)) == ()
    assert await keeper.read(keeper.max) is None


async def test_a_full_disk_says_so(keeper: Keeper) -> None:
    keeper.folder.write_bytes(b"a file where the folder should be")
    with pytest.raises(CallError, match="keeps nothing"):
        await keeper.brought(keeper.mia, Piece(keeper.key, 0, len(PACKED), PACKED))


# --- forgetting -----------------------------------------------------------------------------------


async def test_copies_of_forgotten_jobs_go_at_the_second_look(keeper: Keeper) -> None:
    await keeper.brought(keeper.mia, Piece(keeper.key, 0, len(PACKED), PACKED))
    forgotten = keeper.folder / f"{copy_name('aaaa.0.1.abcdef', keeper.mia)}.log"
    unfinished = keeper.folder / f"{copy_name('bbbb.0.1.abcdef', keeper.mia)}.part"
    for path in (forgotten, unfinished):
        path.write_bytes(PACKED)
    await keeper.copies.sweep()
    assert forgotten.exists()
    await keeper.copies.sweep()
    assert [path.name for path in keeper.folder.iterdir()] == [
        f"{copy_name(keeper.key, keeper.mia)}.log"
    ]
    assert await keeper.read(keeper.max) == TAIL


async def test_the_folder_is_bounded(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_copies, "COPIES_FILES_MAX", 3)
    monkeypatch.setattr(log_copies, "KEEPS_PER_PRUNE", 2)
    keeper.folder.mkdir()
    for number in range(9):
        (keeper.folder / f"old{number}.log").write_bytes(b"x")
    for _ in range(3):
        await keeper.brought(keeper.mia, Piece(keeper.key, 0, len(PACKED), PACKED))
    assert len(list(keeper.folder.iterdir())) == 3
    assert await keeper.read(keeper.max) == TAIL


async def test_first_parts_are_bounded_as_well(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_copies, "COPIES_FILES_MAX", 3)
    monkeypatch.setattr(log_copies, "KEEPS_PER_PRUNE", 2)
    keeper.folder.mkdir()
    for number in range(9):
        (keeper.folder / f"old{number}.part").write_bytes(b"x")
    for offset in (0, 5):  # of the second one there is no beginning: it leaves a file as well
        await keeper.brought(keeper.mia, Piece(keeper.key, offset, len(PACKED), PACKED[:1]))
    assert len(list(keeper.folder.iterdir())) <= 3 + 1


# --- the courier ------------------------------------------------------------------------------


class Shelf:
    """A keeper as the courier sees it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.brought: list[str] = []
        self.calls = 0
        self.is_away = False
        self.knows_nothing = False
        self.at_once = 0
        self.at_once_most = 0

    async def answer(self, verb: str, args: bytes) -> AsyncIterator[bytes]:
        self.calls += 1
        assert len(args) <= 64 * 1024
        if self.is_away:
            raise CallError("that node does not answer")
        self.at_once += 1
        self.at_once_most = max(self.at_once, self.at_once_most)
        await asyncio.sleep(0)
        self.at_once -= 1
        if verb == HELD_VERB:
            asked = unpack(args, KEYS)
            assert not isinstance(asked, Rejected)
            yield pack(Keys(tuple(key for key in asked.keys if key in self.kept)))
            return
        pieces = unpack(args, log_copies.PIECES)
        assert not isinstance(pieces, Rejected)
        taken = [] if self.knows_nothing else [self._take(piece) for piece in pieces.pieces]
        yield pack(Keys(tuple(dict.fromkeys(taken))))

    def _take(self, piece: Piece) -> str:
        self.brought.append(piece.key)
        before = self.parts.get(piece.key, b"") if piece.offset else b""
        assert len(before) == piece.offset
        self.parts[piece.key] = before + piece.content
        if len(self.parts[piece.key]) == piece.total:
            self.kept[piece.key] = self.parts.pop(piece.key)
        return piece.key


class Office:
    """One PC whose logs are brought away, and three keepers."""

    def __init__(self, folder: Path, logger: Logger) -> None:
        self.now_s = 1_000.0
        self.shelves = {node_id: Shelf() for node_id in KEEPERS}
        self.here = list(KEEPERS)
        self.logs = KeptLogs(folder / "logs")
        self.logger = logger
        self.courier = self.begun()

    def begun(self) -> LogCourier:
        """A courier after a start of its agent."""
        return LogCourier(
            WORKER,
            self.logs,
            lambda node_id, verb, args: self.shelves[node_id].answer(verb, args),
            lambda: [WORKER, *self.here],
            2,
            lambda: self.now_s,
            self.logger,
        )

    def printed(self, key: str, *frames: bytes) -> None:
        self.logs.keep(key, frames)
        self.courier.note(key)

    async def rounds(self, count: int, each_s: float = 1.0) -> None:
        for _ in range(count):
            self.now_s += each_s
            await self.courier.bring_due()
            await self.courier.review()

    def holders(self, key: str) -> list[NodeId]:
        return [one for one, shelf in self.shelves.items() if key in shelf.kept]


@pytest.fixture
def office(tmp_path: Path, logger: Logger, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(log_courier, "BYTES_PER_S", 10**12)
    return Office(tmp_path, logger)


async def test_a_log_is_brought_to_the_first_two_in_order(office: Office) -> None:
    office.printed("job.0.1.abcdef", frame(STDOUT, b"out"), frame(STDERR, b"err"))
    assert office.courier.waiting == 1
    await office.rounds(1)
    first, second, _ = ranked(copy_name("job.0.1.abcdef", WORKER), KEEPERS)
    assert sorted(office.holders("job.0.1.abcdef")) == sorted([first, second])
    tail = unpacked(office.shelves[first].kept["job.0.1.abcdef"])
    assert tail == Tail((0, 0), frame(STDOUT, b"out") + frame(STDERR, b"err"))
    assert office.courier.waiting == 0


async def test_ten_thousand_short_logs_take_few_calls_and_empty_ones_none(office: Office) -> None:
    for number in range(2_000):
        office.printed(f"job.{number}.1.abcdef", frame(STDOUT, b"done\n"))
    for number in range(2_000, 4_000):
        office.printed(f"job.{number}.1.abcdef")
    await office.rounds(9)
    assert office.courier.waiting == 0
    kept = [key for shelf in office.shelves.values() for key in shelf.kept]
    assert len(kept) == 2 * 2_000
    calls = [shelf.calls for shelf in office.shelves.values()]
    assert sum(calls) <= 50, calls
    assert {shelf.at_once_most for shelf in office.shelves.values()} == {1}


async def test_of_a_long_log_its_end_is_brought_in_parts(office: Office) -> None:
    lines = [frame(STDOUT if n % 3 else STDERR, b"%07d\n" % n) for n in range(60_000)]
    office.printed("job.0.1.abcdef", *lines)
    await office.rounds(1)
    holder = office.holders("job.0.1.abcdef")[0]
    packed = office.shelves[holder].kept["job.0.1.abcdef"]
    assert len(packed) <= PACKED_BYTES_MAX
    tail = unpacked(packed)
    assert tail is not None
    kept = len(tail.frames) // 16
    assert TAIL_BYTES_MAX - 16 < len(tail.frames) <= TAIL_BYTES_MAX
    assert tail.frames == b"".join(lines[-kept:])
    errors = sum(n % 3 == 0 for n in range(60_000 - kept))
    assert tail.left_out == (8 * (60_000 - kept - errors), 8 * errors)


async def test_who_is_away_is_passed_over_and_who_is_lost_is_replaced(office: Office) -> None:
    key = "job.0.1.abcdef"
    first, second, third = ranked(copy_name(key, WORKER), KEEPERS)
    office.shelves[first].is_away = True
    office.printed(key, frame(STDOUT, b"out"))
    await office.rounds(3)
    assert sorted(office.holders(key)) == sorted([second, third])

    office.shelves[first].is_away = False
    office.here.remove(second)
    await office.rounds(int(ABSENT_S) - 1)
    assert first not in office.holders(key), "it may come back"
    await office.rounds(4)
    assert first in office.holders(key)
    assert SHUNNED_S < ABSENT_S


async def test_a_pc_that_was_alone_brings_its_logs_when_others_come(office: Office) -> None:
    office.here = []
    office.printed("job.0.1.abcdef", frame(STDOUT, b"out"))
    await office.rounds(40)
    assert office.courier.waiting == 0
    office.here = KEEPERS[:1]
    await office.rounds(2)
    assert office.holders("job.0.1.abcdef") == KEEPERS[:1]
    office.here = list(KEEPERS)
    await office.rounds(2)
    assert len(office.holders("job.0.1.abcdef")) == 2


async def test_after_a_start_nothing_is_brought_twice(office: Office) -> None:
    office.printed("job.0.1.abcdef", frame(STDOUT, b"out"))
    await office.rounds(1)
    for shelf in office.shelves.values():
        shelf.brought.clear()
    office.printed("job.1.1.abcdef", frame(STDOUT, b"new"))
    office.courier = office.begun()
    running = asyncio.create_task(office.courier.run())
    while not (office.courier.waiting == 0 and len(office.holders("job.1.1.abcdef")) == 2):
        await asyncio.sleep(0.01)
        office.now_s += 1
    running.cancel()
    assert len(office.holders("job.0.1.abcdef")) == 2
    brought = [key for shelf in office.shelves.values() for key in shelf.brought]
    assert brought == ["job.1.1.abcdef"] * 2


async def test_what_nobody_takes_is_given_up_in_time(office: Office) -> None:
    for shelf in office.shelves.values():
        shelf.knows_nothing = True
    office.printed("job.0.1.abcdef", frame(STDOUT, b"out"))
    await office.rounds(30, each_s=61)
    assert office.courier.waiting == 0
    assert sum(shelf.calls for shelf in office.shelves.values()) == 2 * TRIES_MAX


async def test_an_agent_that_ends_brings_its_last_logs_first(office: Office) -> None:
    office.printed("job.0.1.abcdef", frame(STDOUT, b"out"))
    await office.courier.flush(1.0)
    assert len(office.holders("job.0.1.abcdef")) == 2


def test_the_order_of_keepers_is_everybodys_and_shares_the_load() -> None:
    names = [copy_name(f"job.{n}.1.abcdef", WORKER) for n in range(300)]
    firsts = [ranked(name, KEEPERS)[0] for name in names]
    assert firsts == [ranked(name, reversed(KEEPERS))[0] for name in names]
    assert all(firsts.count(node_id) > 50 for node_id in KEEPERS)


async def test_a_folder_that_cannot_be_listed_ends_nothing(keeper: Keeper, office: Office) -> None:
    keeper.folder.write_bytes(b"a file where the folder should be")
    await keeper.copies.sweep()
    (keeper.folder.parent / "logs").write_bytes(b"and here")
    running = asyncio.create_task(office.courier.run())
    await asyncio.wait({running}, timeout=0.2)
    assert not running.done()
    running.cancel()
