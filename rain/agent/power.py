"""This PC goes to sleep, wakes or is switched off: systemd-logind tells so over D-Bus.

While the agent runs it holds a *delay inhibitor*: logind announces a sleep or a shutdown and waits
until the inhibitor is let go (5 s at most, by its own default). Before a sleep the node hands
coordination over (`SleepComing` .. `MaySleep`, SLEEP_WAIT_S at most), then the inhibitor is let
go; its tasks stay, and sleep along. After the sleep a new one is taken. A shutdown is a stop as by
SIGTERM, and the inhibitor goes with the process.

Without D-Bus, without logind or without permission all this is left out silently (`state` says
"none"): a sleep is then noticed only afterwards, by a timer that is late. The only file that
touches dbus_fast.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rain.agent.driver import Driver
from rain.effects import SleepComing
from rain.log import Logger

if TYPE_CHECKING:
    from dbus_fast.aio import MessageBus
    from dbus_fast.message import Message

LOGIND = "logind"
NONE = "none"
SLEEP_WAIT_S = 1.0
"""For the node to hand over; a sleep is not held up for longer."""
CALL_TIMEOUT_S = 3.0
LOOK_INTERVAL_S = 60.0
"""Where there is no logind, or not any more: how often it is looked for."""
SIGNALS_WAITING_MAX = 16

_BUS = "org.freedesktop.DBus"
_BUS_PATH = "/org/freedesktop/DBus"
_OWNER_CHANGED = "NameOwnerChanged"
_SERVICE = "org.freedesktop.login1"
_PATH = "/org/freedesktop/login1"
_INTERFACE = "org.freedesktop.login1.Manager"
_SLEEP = "PrepareForSleep"
_SHUTDOWN = "PrepareForShutdown"
_NO_DESCRIPTOR = -1
_NOT_ASKED = 0


class PowerError(Exception):
    """There is nobody who tells of sleep, and why."""


class Power:
    """Listens to logind as long as there is one."""

    def __init__(
        self,
        driver: Driver,
        on_wake: Callable[[], None],
        on_shutdown: Callable[[], None],
        log: Logger,
    ) -> None:
        self._driver = driver
        self._on_wake = on_wake
        self._on_shutdown = on_shutdown
        self._log = log
        self._inhibitor = _NO_DESCRIPTOR
        self._told: asyncio.Queue[tuple[str, bool]] = asyncio.Queue(SIGNALS_WAITING_MAX)
        self._owner = ""
        """The connection that is logind; nobody while that is not known."""
        self._asked_serial = _NOT_ASKED
        self.state = NONE
        self.dropped: dict[str, int] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            bus = None
            try:
                bus = await _connected()
                await self._listen(bus)
            except (PowerError, OSError, EOFError, TimeoutError) as error:
                self._log.debug("no_logind", reason=str(error))
            finally:
                self.state = NONE
                self.release()
                if bus is not None:
                    bus.disconnect()
            await asyncio.sleep(LOOK_INTERVAL_S)

    def release(self) -> None:
        """Let the PC sleep, or end."""
        if self._inhibitor != _NO_DESCRIPTOR:
            with suppress(OSError):
                os.close(self._inhibitor)
            self._inhibitor = _NO_DESCRIPTOR

    async def _listen(self, bus: "MessageBus") -> None:
        bus.add_message_handler(self._hear)
        await self._look_for_owner(bus)
        for signal in (_SLEEP, _SHUTDOWN):
            await _match(bus, f"sender='{_SERVICE}',interface='{_INTERFACE}',member='{signal}'")
        await self._inhibit(bus)
        self.state = LOGIND
        gone: asyncio.Future[None] = asyncio.ensure_future(
            bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # theirs
        )
        try:
            while not gone.done():
                told = asyncio.ensure_future(self._told.get())
                either: set[asyncio.Future[Any]] = {gone, told}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not told.done():
                    told.cancel()
                    break
                await self._obey(bus, *told.result())
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await gone

    async def _obey(self, bus: "MessageBus", signal: str, begins: bool) -> None:
        if signal == _SLEEP and begins:
            self._log.info("sleep_coming")
            await self._hand_over()
            self.release()
        elif signal == _SLEEP:
            self._log.info("woken")
            self._on_wake()
            await self._inhibit(bus)
        elif begins:
            self._log.info("shutdown_coming")
            self._on_shutdown()

    async def _hand_over(self) -> None:
        self._driver.may_sleep.clear()
        self._driver.feed(SleepComing())
        with suppress(TimeoutError):
            async with asyncio.timeout(SLEEP_WAIT_S):
                await self._driver.may_sleep.wait()

    async def _look_for_owner(self, bus: "MessageBus") -> None:
        """Who logind is, now and from now on: anybody may send us what logind would say."""
        self._owner = ""
        await _match(bus, f"sender='{_BUS}',member='{_OWNER_CHANGED}',arg0='{_SERVICE}'")
        with suppress(PowerError):  # nobody yet: the question for an inhibitor may start it
            question = _question(_BUS, _BUS_PATH, _BUS, "GetNameOwner", "s", [_SERVICE])
            self._owner = str((await _asked(bus, question)).body[0])

    async def _inhibit(self, bus: "MessageBus") -> None:
        self.release()
        words = ["sleep:shutdown", "Rain", "coordination is handed over first", "delay"]
        question = _question(_SERVICE, _PATH, _INTERFACE, "Inhibit", "ssss", words)
        question.serial = self._asked_serial = bus.next_serial()
        try:
            await _asked(bus, question)
        finally:
            self._asked_serial = _NOT_ASKED
        if self._inhibitor == _NO_DESCRIPTOR:
            raise PowerError("logind gave no inhibitor")

    def _hear(self, message: "Message") -> None:
        if message.unix_fds:
            self._take(message)
        if message.sender == _BUS and message.member == _OWNER_CHANGED:
            if message.signature == "sss" and message.body[0] == _SERVICE:
                self._owner = message.body[2]
            return
        if message.interface != _INTERFACE or message.member not in (_SLEEP, _SHUTDOWN):
            return
        if not self._owner or message.sender != self._owner:
            self._drop("not_logind")
        elif message.signature != "b" or self._told.full():
            self._drop("rubbish" if message.signature != "b" else "too_many")
        else:
            self._told.put_nowait((message.member, bool(message.body[0])))

    def _take(self, message: "Message") -> None:
        """The inhibitor that is waited for; whatever else is open is closed: late, or a stranger's.

        Taken right here, for who waits may have given up before it is its turn.
        """
        given = list(message.unix_fds)
        is_ours = bool(self._owner) and message.sender == self._owner
        if is_ours and message.reply_serial == self._asked_serial != _NOT_ASKED:
            self.release()
            self._inhibitor = given.pop(0)
            os.set_inheritable(self._inhibitor, False)
        for one in given:
            self._drop("descriptor")
            with suppress(OSError):
                os.close(one)

    def _drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


async def _connected() -> "MessageBus":
    if sys.platform != "linux":
        raise PowerError("only Linux has logind")
    try:
        from dbus_fast import BusType  # Here and not above: it is installed on Linux only.
        from dbus_fast.aio import MessageBus
        from dbus_fast.errors import AuthError, InvalidAddressError
    except ImportError as error:
        raise PowerError(str(error)) from None
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
    except (AuthError, InvalidAddressError) as error:
        raise PowerError(str(error)) from None


async def _match(bus: "MessageBus", rule: str) -> None:
    """Have signals sent to us; this keeps no other away, `_hear` looks at who sent what."""
    words = [f"type='signal',{rule}"]
    await _asked(bus, _question(_BUS, _BUS_PATH, _BUS, "AddMatch", "s", words))


def _question(
    service: str, path: str, interface: str, member: str, signature: str, words: list[str]
) -> "Message":
    from dbus_fast.message import Message

    return Message(
        destination=service,
        path=path,
        interface=interface,
        member=member,
        signature=signature,
        body=words,
    )


async def _asked(bus: "MessageBus", question: "Message") -> "Message":
    from dbus_fast.constants import MessageType

    async with asyncio.timeout(CALL_TIMEOUT_S):
        reply = await bus.call(question)
    if reply.message_type is not MessageType.METHOD_RETURN:
        raise PowerError(f"{question.member}: {reply.error_name}")
    return reply
