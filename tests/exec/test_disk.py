"""How disk use is counted, said and watched."""

import asyncio
import os
from pathlib import Path

import pytest

from rain.exec import disk
from rain.exec.disk import excess, folder_bytes, in_words, watch_disk


def test_a_folder_is_counted_with_all_below_it_and_nothing_beside(tmp_path: Path) -> None:
    inside, beside = tmp_path / "in/deep", tmp_path / "beside"
    inside.mkdir(parents=True)
    beside.mkdir()
    for folder in (inside, beside):
        with (folder / "file").open("wb") as file:
            file.write(b"x" * 2**20)
            os.fsync(file.fileno())
    (inside / "link").symlink_to(beside)
    with (inside / "hole").open("wb") as file:
        file.truncate(2**40)
    assert 2**20 <= folder_bytes(str(tmp_path / "in")) < 2**21
    assert folder_bytes(str(tmp_path / "in"), entries_max=1) < 2**20
    assert folder_bytes(str(tmp_path / "none")) == 0


def test_amounts_in_words() -> None:
    amounts = (0, 1_023, 1_024, 1_536, 10 * 2**30, 3 * 2**40)
    words = ["0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "10 GiB", "3 TiB"]
    assert [in_words(amount) for amount in amounts] == words
    assert excess(11 * 2**30, 10 * 2**30) == (
        "used more than 10 GiB of disk (11 GiB); "
        "the owner of this PC sets the limit: rain up --task-disk SIZE"
    )


async def test_only_who_uses_too_much_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "ROUND_PAUSE_S", 0.0)
    use = {"small": 10, "exact": 100, "large": 101}
    told: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    asked: list[str] = []

    async def used(key: str) -> int:
        asked.append(key)
        return use[key]

    async def over(key: str, reason: str) -> None:
        if not told.done():
            told.set_result((key, reason))

    watching = asyncio.create_task(watch_disk(100, lambda: use, used, over))
    async with asyncio.timeout(5):
        assert await told == ("large", excess(101, 100))
    watching.cancel()
    assert asked[:3] == ["small", "exact", "large"]
