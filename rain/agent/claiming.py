"""A claim that a person makes here: signed, told to the pool, and waited for until it is known."""

import asyncio
from collections.abc import Callable

from rain.agent.clock import now_unix_ms
from rain.agent.control import VerbError
from rain.agent.driver import Driver
from rain.claims import Claim
from rain.effects import Answer, ClaimMade

TELL_WAIT_S = 4.0
"""By then a claim is with all members that are up, or with as many as can be told."""


async def state(
    driver: Driver, next_request: Callable[[], int], claim: Claim, fresh_key: bytes = b""
) -> Answer:
    """Who has it, this node counted. VerbError when it cannot be made."""
    request = next_request()
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    driver.answers[request] = future
    driver.feed(ClaimMade(claim, now_unix_ms(), request, fresh_key))
    try:
        async with asyncio.timeout(TELL_WAIT_S):
            answer = await future
    except TimeoutError:
        return Answer(request, 1)
    finally:
        driver.answers.pop(request, None)
    if answer.error:
        raise VerbError("failed", answer.error, "see who is there: rain members", 1)
    return answer
