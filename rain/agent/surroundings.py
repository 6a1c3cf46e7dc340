"""What an agent keeps an eye on beside its pool: this PC's power and addresses, logs in safety."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from rain.agent.address_book import AddressBook
from rain.agent.addresses import Addresses
from rain.agent.control import Json
from rain.agent.departures import Departures
from rain.agent.driver import Driver
from rain.agent.executors import Executors
from rain.agent.log_copies import LogCopies
from rain.agent.log_courier import courier_for
from rain.agent.power import Power
from rain.agent.tether import Tether
from rain.config import UpOptions
from rain.log import Logger
from rain.mesh.streams import Streams
from rain.mesh.transport import Transport
from rain.model import Address

FLUSH_WAIT_S = 1.0
"""For the last logs to reach other PCs when this one stops."""


class Surroundings:
    """All of it together: what runs for ever, what `rain status` tells of it."""

    def __init__(
        self,
        driver: Driver,
        executors: Executors,
        transport: Transport,
        streams: Streams,
        book: AddressBook,
        options: UpOptions,
        contacts: Callable[[], Awaitable[tuple[Address, ...]]],
        stop: Callable[[], None],
        log: Logger,
    ) -> None:
        self.copies = LogCopies(options.data_dir / "exec" / "copies", driver, streams, log)
        self._courier = courier_for(
            driver, streams, executors, options.data_dir, options.replicas, log
        )
        self.departures = Departures(driver)
        self._addresses = Addresses(driver, transport, streams, book, contacts, log)
        self._power = Power(driver, self._addresses.look_now, stop, log)
        self._tether = Tether(driver, streams)

    def forever(self) -> list[Coroutine[Any, Any, None]]:
        """What is to run as long as the agent does."""
        here = (self._addresses, self._power, self._tether)
        every = (*here, self._courier, self.copies, self.departures)
        return [one.run() for one in every]

    def status(self) -> Json:
        logs = {"held": self.copies.held, "waiting": self._courier.waiting}
        return {"power": self._power.state, "log_copies": logs}

    async def before_stop(self) -> None:
        """The agent is about to say goodbye."""
        await self._courier.flush(FLUSH_WAIT_S)
