"""A pool is entered and forgotten in steps; whatever breaks off, the next start goes on."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rain.agent.joining import Entered, resume
from rain.agent.recollection import (
    BOOT_KEY,
    POOL_KEY,
    STORE_FILE,
    complete,
    forget,
    has_keys,
    settle,
)
from rain.config import UpOptions
from rain.effects import Record
from rain.mesh import codec, keys
from rain.mesh.door import PoolKey
from rain.mesh.keys import EdSigner
from rain.model import Address, JobSpec
from rain.sched.identity import signed_job
from rain.sched.records import JobRow
from rain.store import Store, StoreError
from rain.trust.messages import RingKey
from rain.trust.records import BundleRow, RingRow
from tests.agent.hosts import Clock, found, node_key

Say = Callable[[str], None]


class Pc:
    """A PC's data folder, from start to start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signer: EdSigner = node_key(folder)
        self.said: list[str] = []
        self.store = Store.open(folder / STORE_FILE)

    def rows(self) -> dict[str, bytes]:
        return dict(self.store.read_all())

    async def settle(self, entered: Entered) -> tuple[Record, ...]:
        return await settle(self.folder, self.store, self.rows(), entered, self.said.append)

    async def keep(self, *records: Record) -> None:
        await self.store.write([(r.key(), codec.encode_record(r)) for r in records], ())

    def resumed(self) -> Entered | None:
        """What the next start finds."""
        complete(self.folder, self.signer, self.rows())
        return resume(UpOptions(self.folder))


@pytest.fixture
async def pc(tmp_path: Path) -> AsyncIterator[Pc]:
    made = Pc(tmp_path / "pc")
    yield made
    await made.store.close()


def founded(pc: Pc, name: str = "attic") -> Entered:
    made = found(pc.folder, Clock(), name)
    return Entered(made.pool, made.bundle, (made.key,), made.key.number, (made.bundle,))


def joined(pc: Pc, key: bytes = b"k" * 32) -> Entered:
    """As if another PC had founded the pool."""
    own = founded(pc)
    return Entered(own.pool, own.bundle, (PoolKey(4, key),), 4, (own.bundle,), (), Address("h", 1))


def old_rows() -> tuple[Record, ...]:
    signer = EdSigner(b"s" * 32)
    by = signer.public_key, signer.sign
    job = signed_job(JobSpec(("true",)), "pc", 1, b"n", "eve", *by, b"another pool")
    return RingRow((RingKey(7, b"o" * 32),)), JobRow(job)


async def test_a_founder_takes_nothing_of_another_pool_along(pc: Pc) -> None:
    await pc.keep(*old_rows())
    await pc.store.write([(BOOT_KEY, b"\x05"), (POOL_KEY, b"another root")], ())
    entered = founded(pc)

    assert await pc.settle(entered) == ()

    assert pc.rows() == {BOOT_KEY: b"\x05", POOL_KEY: entered.pool.root}
    assert pc.said == ["What was still kept here of another pool is cleared away."]
    assert not has_keys(pc.rows()), "so it draws key 1"
    assert pc.resumed() == Entered(entered.pool, entered.bundle)


async def test_rows_of_nobody_knows_which_pool_are_not_taken_along_either(pc: Pc) -> None:
    await pc.keep(*old_rows())
    entered = joined(pc)

    records = await pc.settle(entered)

    ring = RingRow((RingKey(4, b"k" * 32),))
    assert set(map(type, records)) == {BundleRow, RingRow}
    assert ring in records
    assert pc.rows()[ring.key()] == codec.encode_record(ring)
    assert not [key for key in pc.rows() if key.startswith("job/")]


async def test_a_store_of_another_pool_is_not_mixed_in_at_a_later_start(pc: Pc) -> None:
    entered = founded(pc)
    await pc.settle(entered)
    await pc.store.write([(POOL_KEY, b"another root")], ())

    with pytest.raises(StoreError) as raised:
        await pc.settle(Entered(entered.pool, entered.bundle))

    assert "is of another pool than 'attic'" in raised.value.message
    assert "rain leave" in raised.value.hint


async def test_what_was_kept_is_there_at_the_next_start(pc: Pc) -> None:
    entered = joined(pc)
    first = await pc.settle(entered)
    again = await pc.settle(Entered(entered.pool, entered.bundle))
    assert sorted(map(repr, first)) == sorted(map(repr, again))
    assert has_keys(pc.rows())
    assert pc.said == []


async def test_who_broke_off_after_the_store_was_kept_is_in(pc: Pc) -> None:
    """The code is used up by now, so asking for it again would lock this PC out."""
    entered = joined(pc)
    await pc.settle(entered)
    (pc.folder / keys.POOL_FILE).unlink()

    assert pc.resumed() == Entered(entered.pool, entered.bundle)


async def test_who_broke_off_before_is_not_in(pc: Pc) -> None:
    founded(pc)
    assert pc.resumed() is None
    await pc.store.write([(POOL_KEY, b"no root")], ())
    assert pc.resumed() is None


async def test_the_certificate_of_another_pool_or_pc_completes_nothing(
    pc: Pc, tmp_path: Path
) -> None:
    entered = joined(pc)
    await pc.settle(entered)
    (pc.folder / keys.POOL_FILE).unlink()
    own = keys.load_certificate(pc.folder)
    founded(pc, "cellar")
    assert pc.resumed() is None
    assert own is not None
    keys.keep_certificate(pc.folder, own)
    complete(pc.folder, node_key(tmp_path / "other"), pc.rows())
    assert resume(UpOptions(pc.folder)) is None


async def test_a_store_that_is_gone_has_no_keys(pc: Pc) -> None:
    assert not has_keys({})
    await pc.keep(RingRow(()))
    assert not has_keys(pc.rows())
    await pc.keep(RingRow((RingKey(1, b"k" * 32),)))
    assert has_keys(pc.rows())


async def test_what_must_not_be_met_again_is_forgotten_first(
    pc: Pc, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pc.settle(founded(pc))

    def cut(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(keys, "forget_pool", cut)
        with pytest.raises(KeyboardInterrupt):
            forget(pc.folder)

    assert not (pc.folder / STORE_FILE).exists()
    assert keys.load_pool(pc.folder) is not None, "rain leave can be typed again"
    forget(pc.folder)
    assert keys.load_pool(pc.folder) is None
    assert keys.load_root(pc.folder) is None
