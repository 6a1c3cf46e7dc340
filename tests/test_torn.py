"""Some of the cases of `python -m tests.torn`, which has as many as one likes."""

import random
from pathlib import Path

from tests import torn


async def test_torn_stores_keep_what_was_acknowledged_or_say_so() -> None:
    told = await torn.tear(cases=80, seed=3, writes=30)
    assert told["whole"] > 10
    assert told["repaired"] > 10


async def test_a_disk_that_is_full_at_any_byte_keeps_what_was_acknowledged() -> None:
    told = await torn.fill(step=40_001, seed=3)
    assert told["acknowledged"] > 20
    assert told["refused"] > 20


async def test_lives_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    lives = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        history = await torn.lived(tmp_path / name, random.Random(1), 10)
        lives.append([copy.rows for copy in history.copies])
    assert lives[0] == lives[1]
