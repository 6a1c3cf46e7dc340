"""The way into a pool, while it lasts: it can be watched, and stopped, like an agent."""

import asyncio
import random
from collections.abc import Callable

from rain.agent.clock import now_unix_ms
from rain.agent.control import ControlServer
from rain.agent.joining import Ask, Entered, Entrance, Say
from rain.agent.pool_verbs import NotYet
from rain.agent.refusals import JoinError
from rain.agent.seeking import Seeker
from rain.claims import Signer
from rain.config import UpOptions, control_path, login_name
from rain.log import Logger

EXIT_STOPPED = 130


async def arrive(
    options: UpOptions,
    signer: Signer,
    seeker: Seeker,
    ask: Ask,
    say: Say,
    log: Logger,
    stop_asked: asyncio.Event,
    on_stop_verb: Callable[[bool, int], None],
    kept: Entered | None,
) -> Entered:
    """Join or found as the options and the person say; or, where this PC is in a pool that it has
    kept too little of, get in again. Raises JoinError and MeshError.
    """
    entrance = Entrance(
        options, signer, seeker, ask, say, now_unix_ms, random.Random(), login_name()
    )
    stop = asyncio.create_task(stop_asked.wait())
    way = entrance.enter() if kept is None else entrance.again(kept)
    enter = asyncio.create_task(way)
    not_yet = NotYet(on_stop_verb)
    path = control_path(options.data_dir)
    control = ControlServer(path, not_yet.by_name(), log, not_yet.refuse)
    try:
        await control.open()
        await asyncio.wait({stop, enter}, return_when=asyncio.FIRST_COMPLETED)
        if not enter.done():
            raise JoinError("stopped before this PC was in a pool", "", EXIT_STOPPED)
        return enter.result()
    finally:
        stop.cancel()
        enter.cancel()
        await control.close()
