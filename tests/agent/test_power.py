"""A PC sleeps, wakes and is switched off: logind says so, a node hands over first."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from rain.agent import power
from rain.agent.driver import Driver
from rain.agent.power import LOGIND, NONE, Power
from rain.effects import Event, MaySleep, SleepComing
from rain.log import Logger
from tests.agent.desk import Nowhere, OneNode
from tests.testbed.loopback import Node, loopback_pool, wait_for

if sys.platform != "linux":
    pytest.skip("only Linux has logind", allow_module_level=True)

from dbus_fast import Message, MessageType, NameFlag
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusBool, DBusStr, DBusUnixFd
from dbus_fast.service import ServiceInterface, dbus_method, dbus_signal

pytestmark = pytest.mark.skipif(
    shutil.which("dbus-daemon") is None, reason="needs the program dbus-daemon"
)
WAIT_S = 10.0
MANAGER = "org.freedesktop.login1.Manager"


@pytest.fixture
def bus_address() -> Iterator[str]:
    """A D-Bus of the test's own."""
    daemon = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert daemon.stdout is not None
    address = daemon.stdout.readline().strip()
    yield address
    daemon.terminate()
    daemon.wait(WAIT_S)
    daemon.stdout.close()


async def come(holds: Callable[[], bool]) -> None:
    """Until it holds; what is waited for is another process's."""
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Logind(ServiceInterface):
    """As much of systemd-logind as tells of sleep and waits for inhibitors."""

    def __init__(self) -> None:
        super().__init__("org.freedesktop.login1.Manager")
        self.asked: list[tuple[str, str, str]] = []
        self._inhibitors: list[int] = []
        self._given: list[int] = []

    @dbus_method(name="Inhibit")
    def inhibit(self, what: DBusStr, who: DBusStr, why: DBusStr, mode: DBusStr) -> DBusUnixFd:
        self.asked.append((what, who, mode))
        mine, theirs = os.pipe()
        os.set_blocking(mine, False)
        self._inhibitors.append(mine)
        self._given.append(theirs)
        return theirs

    @dbus_signal(name="PrepareForSleep")
    def prepare_for_sleep(self, begins: bool) -> DBusBool:
        return begins

    @dbus_signal(name="PrepareForShutdown")
    def prepare_for_shutdown(self, begins: bool) -> DBusBool:
        return begins

    def held(self) -> int:
        """How many inhibitors nobody has let go."""
        while self._given:
            os.close(self._given.pop())
        return sum(not _is_at_end(one) for one in self._inhibitors)

    def close(self) -> None:
        for one in (*self._inhibitors, *self._given):
            os.close(one)

    async def wait_held(self, count: int) -> float:
        """Seconds until so many are held."""
        began = time.monotonic()
        await come(lambda: bool(self.asked) and self.held() == count)
        return time.monotonic() - began


def _is_at_end(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


async def _unique_names(bus: MessageBus) -> list[str]:
    """Of the others on that bus."""
    dbus = "org.freedesktop.DBus"
    question = Message(dbus, "/org/freedesktop/DBus", dbus, "ListNames")
    names = (await bus.call(question)).body[0]
    return [name for name in names if name.startswith(":") and name != bus.unique_name]


def _signal(to: str, called: str, signature: str, body: list[object], fds: list[int]) -> Message:
    interface, _, member = called.rpartition(".")
    kind = MessageType.SIGNAL
    return Message(to, "/x", interface, member, kind, signature=signature, body=body, unix_fds=fds)


@contextlib.asynccontextmanager
async def running_logind(address: str) -> AsyncIterator[Logind]:
    logind = Logind()
    bus = await MessageBus(bus_address=address, negotiate_unix_fd=True).connect()
    bus.export("/org/freedesktop/login1", logind)
    await bus.request_name("org.freedesktop.login1", NameFlag.NONE)
    try:
        yield logind
    finally:
        bus.disconnect()
        logind.close()


@pytest.fixture(autouse=True)
def no_system_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's own logind says is none of these tests'."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/at/all")


@pytest.fixture
def system_bus(bus_address: str, no_system_bus: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test's own in the place of the system's."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    return bus_address


class Sleeper(Driver):
    """Allows a sleep when it is told to."""

    allows = True
    slept = 0

    def feed(self, event: Event) -> None:
        if not isinstance(event, SleepComing):
            return
        self.slept += 1
        if self.allows:
            self._carry_out(MaySleep())


class Desk:
    """A node whose power is watched."""

    def __init__(self, folder: Path, logger: Logger) -> None:
        node = OneNode(folder, Sleeper)
        self.store = node.store
        assert isinstance(node.driver, Sleeper)
        self.driver = node.driver
        self.driver.connect(Nowhere(), Nowhere())
        self.said: list[str] = []
        self.power = Power(
            self.driver,
            lambda: self.said.append("woken"),
            lambda: self.said.append("stop"),
            logger,
        )

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.power.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.store.close()


async def test_an_inhibitor_is_held_let_go_and_taken_again(
    tmp_path: Path, logger: Logger, system_bus: str
) -> None:
    desk = Desk(tmp_path, logger)
    async with running_logind(system_bus) as logind, desk.watching():
        await logind.wait_held(1)
        assert logind.asked == [("sleep:shutdown", "Rain", "delay")]
        assert desk.power.state == LOGIND

        logind.prepare_for_sleep(True)
        assert await logind.wait_held(0) < power.SLEEP_WAIT_S / 2
        assert (desk.driver.slept, desk.said) == (1, [])

        logind.prepare_for_sleep(False)
        await logind.wait_held(1)
        assert desk.said == ["woken"]

        logind.prepare_for_shutdown(True)
        await come(lambda: desk.said == ["woken", "stop"])
        assert logind.held() == 1, "it is let go when the agent has ended"
    assert desk.power.state == NONE


async def test_a_node_that_cannot_hand_over_holds_up_no_sleep(
    tmp_path: Path, logger: Logger, system_bus: str
) -> None:
    desk = Desk(tmp_path, logger)
    desk.driver.allows = False
    desk.driver.may_sleep.set()  # of the sleep before this one
    async with running_logind(system_bus) as logind, desk.watching():
        await logind.wait_held(1)
        logind.prepare_for_sleep(True)
        waited = await logind.wait_held(0)
        assert power.SLEEP_WAIT_S - 0.1 < waited < power.SLEEP_WAIT_S + 1


async def test_only_logind_itself_is_heard(tmp_path: Path, logger: Logger, system_bus: str) -> None:
    desk = Desk(tmp_path, logger)
    stranger = await MessageBus(bus_address=system_bus, negotiate_unix_fd=True).connect()
    mine, theirs = os.pipe()
    async with running_logind(system_bus) as logind, desk.watching():
        await logind.wait_held(1)
        for name in await _unique_names(stranger):
            for member in ("PrepareForSleep", "PrepareForShutdown"):
                await stranger.send(_signal(name, f"{MANAGER}.{member}", "b", [True], []))
            owned: list[object] = ["org.freedesktop.login1", "", stranger.unique_name]
            claim = "org.freedesktop.DBus.NameOwnerChanged"
            await stranger.send(_signal(name, claim, "sss", owned, []))
            await stranger.send(_signal(name, f"{MANAGER}.PrepareForSleep", "h", [0], [theirs]))
        await come(lambda: desk.power.dropped.get("not_logind", 0) == 3)
        assert (desk.driver.slept, desk.said) == (0, [])
        assert desk.power.dropped == {"not_logind": 3, "descriptor": 1}
        assert logind.held() == 1

        logind.prepare_for_shutdown(True)
        await come(lambda: desk.said == ["stop"])
    stranger.disconnect()
    os.close(mine)
    os.close(theirs)


async def test_an_inhibitor_that_comes_too_late_is_closed(
    tmp_path: Path, logger: Logger, bus_address: str
) -> None:
    desk = Desk(tmp_path, logger)
    mine, theirs = os.pipe()
    late = Message(MANAGER, message_type=MessageType.METHOD_RETURN, reply_serial=7)
    late.unix_fds = [theirs]
    desk.power._hear(late)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(theirs)
    assert desk.power.dropped == {"descriptor": 1}
    os.close(mine)
    await desk.store.close()


async def test_without_logind_nothing_happens_until_there_is_one(
    tmp_path: Path, logger: Logger, system_bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "LOOK_INTERVAL_S", 0.05)
    desk = Desk(tmp_path, logger)
    async with desk.watching():
        await asyncio.sleep(0.2)
        assert desk.power.state == NONE
        async with running_logind(system_bus) as logind:
            await logind.wait_held(1)
            assert desk.power.state == LOGIND
        async with running_logind(system_bus) as restarted:
            assert restarted.asked == []


@pytest.mark.parametrize("address", ["unix:path=/nowhere/at/all", "rubbish", "tcp:host=256"])
async def test_without_a_bus_nothing_happens(
    tmp_path: Path, logger: Logger, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    monkeypatch.setattr(power, "LOOK_INTERVAL_S", 0.01)
    desk = Desk(tmp_path, logger)
    async with desk.watching():
        await asyncio.sleep(0.1)
        assert desk.power.state == NONE


def _coordinator(node: Node) -> str:
    named = node.ask("status")["coordinator"]
    return str(named["name"]) if named else ""


async def test_a_pool_of_two_has_another_coordinator_before_the_pc_sleeps(
    tmp_path: Path, bus_address: str
) -> None:
    async with running_logind(bus_address) as logind:
        pool = loopback_pool(tmp_path, 2, {"DBUS_SYSTEM_BUS_ADDRESS": bus_address})
        sleeper, other = await asyncio.to_thread(pool.__enter__)
        try:
            await logind.wait_held(1)
            assert (await asyncio.to_thread(sleeper.ask, "status"))["power"] == LOGIND
            logind.prepare_for_sleep(True)
            assert await logind.wait_held(0) < 1.5
            sleeper.send(signal.SIGSTOP)
            assert await asyncio.to_thread(_coordinator, other) == other.name
            sleeper.send(signal.SIGCONT)
            logind.prepare_for_sleep(False)
            await logind.wait_held(1)
            await asyncio.to_thread(wait_for, lambda: _coordinator(sleeper) == other.name, "back")

            logind.prepare_for_shutdown(True)
            await logind.wait_held(0)
        finally:
            await asyncio.to_thread(pool.__exit__, None, None, None)
