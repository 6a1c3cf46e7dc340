"""The lines of the control socket."""

import asyncio
import json

import pytest

from rain.agent.control import ENCODED_IN_ONE_GO_MAX, encoded


@pytest.mark.parametrize("count", [0, 1, ENCODED_IN_ONE_GO_MAX, 3 * ENCODED_IN_ONE_GO_MAX + 1])
async def test_a_long_list_is_encoded_as_ever_and_in_slices(count: int) -> None:
    content = {"end": {"id": "größe", "none": None, "list": [{"index": n} for n in range(count)]}}
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    await asyncio.sleep(0)
    assert await encoded(content) == json.dumps(content)
    waiting.cancel()
    assert turns == 1 + (4 if count > ENCODED_IN_ONE_GO_MAX else 0)
