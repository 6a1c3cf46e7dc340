"""This PC's own address, which may change while the agent runs: DHCP, another Wi-Fi, a dock.

The socket is bound to the wildcard and goes on by itself; broadcasts look the interfaces up anew.
What is to be done is to say the new address to the members, and to hang up connections that go out
from an address which is gone: nothing comes back to it any more.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from rain.agent.address_book import AddressBook
from rain.agent.driver import Driver
from rain.effects import AddressChanged
from rain.log import Logger
from rain.mesh.discovery import own_addresses
from rain.mesh.streams import Streams
from rain.mesh.transport import Transport
from rain.model import Address

LOOK_INTERVAL_S = 1.0
CONTACTS_INTERVAL_S = 2.0


class Addresses:
    """Looks every second, and at once when the PC woke."""

    def __init__(
        self,
        driver: Driver,
        transport: Transport,
        streams: Streams,
        book: AddressBook,
        contacts: Callable[[], Awaitable[tuple[Address, ...]]],
        log: Logger,
    ) -> None:
        self._driver = driver
        self._transport = transport
        self._streams = streams
        self._book = book
        self._contacts = contacts
        self._log = log
        self._known = transport.own_address()
        self._wake = asyncio.Event()

    def look_now(self) -> None:
        """Much may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """For ever. Names may take long to resolve where the network is gone: side by side."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_forever())
            group.create_task(self._resolve_forever())

    async def _look_forever(self) -> None:
        while True:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._wake.wait()
            self.look()

    async def _resolve_forever(self) -> None:
        while True:
            await asyncio.sleep(CONTACTS_INTERVAL_S)
            self._book.set_contacts(await self._contacts())

    def look(self) -> None:
        """Tell the node when the address is another one."""
        now = self._transport.own_address()
        if now == self._known:
            return
        self._known = now
        self._log.info("address_changed", address=str(now))
        self._driver.feed(AddressChanged(now))
        self._streams.leave_addresses(own_addresses())
