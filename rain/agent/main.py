"""One agent: opens the devices, joins the pool, lets the driver run, and ends in good order."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from rain.agent.address_book import AddressBook
from rain.agent.clock import now_ms, now_unix_ms
from rain.agent.control import ControlServer
from rain.agent.driver import Driver
from rain.agent.executors import Executors
from rain.agent.joining import JoinError, choose_pool, hear_a_member, resolve_contacts
from rain.agent.logs import Logs
from rain.agent.network import Network
from rain.agent.reads import Reads
from rain.agent.verbs import NotYet, Verbs
from rain.config import UpOptions, control_path, open_data_dir
from rain.effects import AddressChanged, HardwareMeasured, Record, StopRequested
from rain.exec.labels import ExecLabels
from rain.gossip.messages import FactsRecord, Join, MemberRecord
from rain.gossip.records import MemberRow
from rain.log import Logger, open_log
from rain.mesh import codec, keys
from rain.mesh.codec import Rejected
from rain.mesh.envelope import Envelope
from rain.mesh.errors import MeshError
from rain.mesh.streams import Streams
from rain.mesh.token import Pool
from rain.mesh.transport import Transport
from rain.model import Address, Facts, Identity, MemberState, NodeId
from rain.node import Node, NodeConfig
from rain.store import Store, StoreError

STORE_FILE = "rain.db"
BOOT_KEY = "agent/boot"
"""The one row that is the agent's own: how often it has started."""
AGENT_ROWS = "agent/"
STOP_WAIT_S = 4.0
OPEN_WAIT_S = 5.0
ADDRESS_INTERVAL_S = 2.0
DRAIN_POLL_MS = 1_000
NICENESS = -5
"""The agent before its tasks: a coordinator that lags behind its own containers helps nobody."""

EXIT_FAILED = 1


class AgentEnded(Exception):
    """Why the agent could not start or go on; `hint` says what to type next."""

    def __init__(self, message: str, hint: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def run_agent(options: UpOptions, say: Callable[[str], None], on_ready: Callable[[], None]) -> None:
    """Run one agent until it is told to stop. Raises AgentEnded and ConfigError."""
    if not __debug__:
        raise AgentEnded("rain does not run under python -O: asserts are needed", "drop the -O")
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_Agent(options, say, on_ready).run())
    except JoinError as error:
        raise AgentEnded(str(error), error.hint, error.exit_code) from error
    except (MeshError, StoreError) as error:
        raise AgentEnded(error.message, error.hint) from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists; the standard loop elsewhere (Windows)."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class _Agent:
    """The devices of one agent, in the order of their opening."""

    def __init__(
        self, options: UpOptions, say: Callable[[str], None], on_ready: Callable[[], None]
    ) -> None:
        self._options = options
        self._say = say
        self._on_ready = on_ready
        self._book = AddressBook()
        self._forget = False
        self._stop_asked = asyncio.Event()
        self._drain_ms = 0
        self._signals = 0
        self._heard = asyncio.Event()
        self._driver: Driver | None = None
        self._log: Logger

    async def run(self) -> None:
        options = self._options
        open_data_dir(options.data_dir)
        self._log = open_log(options.data_dir, options.is_terminal)
        store = Store.open(options.data_dir / STORE_FILE)
        try:
            await self._run(store)
        finally:
            await store.close()
            if self._forget:
                forget(options.data_dir)

    async def _run(self, store: Store) -> None:
        options = self._options
        signer = keys.load_node_key(options.data_dir)
        membership = choose_pool(options)
        pool = membership.pool
        rows = dict(store.read_all())
        recovered = _records(rows)
        boot_epoch = _next_boot_epoch(rows.get(BOOT_KEY, b""))
        await store.write([(BOOT_KEY, boot_epoch.to_bytes(8, "big"))], ())
        envelope = Envelope(pool.pool_id, pool.key, signer, keys.ed_verify, boot_epoch)
        for record in recovered:
            if isinstance(record, MemberRow):
                envelope.expect(record.node_id, record.boot_epoch)
        identity = Identity(envelope.node_id, options.name, boot_epoch)
        transport = Transport(options.bind or "0.0.0.0", options.port, self._on_packet)
        streams = Streams(envelope, self._book.find, self._on_frame)
        self._network = Network(envelope, transport, streams, self._book)
        self._watch_signals()
        await transport.open()
        await streams.open(options.bind or "0.0.0.0", transport.port)
        tasks = [asyncio.create_task(transport.run()), asyncio.create_task(streams.run())]
        try:
            self._book.set_contacts(await resolve_contacts(options))
            if membership.is_newcomer:
                await self._hear(identity, transport, pool)
            if keys.load_pool(options.data_dir) is None:
                keys.keep_pool(options.data_dir, pool)
            executors = self._executors(pool, identity)
            with contextlib.suppress(TimeoutError):  # it is tried again and again later
                async with asyncio.timeout(OPEN_WAIT_S):
                    await executors.open()
            driver = self._make_driver(store, recovered, identity, transport, executors)
            await self._serve(driver, executors, streams, transport, pool, tasks)
        finally:
            for task in tasks:
                task.cancel()
            transport.close()
            await streams.close()

    def _executors(self, pool: Pool, identity: Identity) -> Executors:
        labels = ExecLabels(pool.pool_id.hex(), identity.node_id, identity.name)
        folder = self._options.data_dir / "exec"
        folder.mkdir(mode=0o700, exist_ok=True)
        return Executors(self._options, labels, folder, self._feed, self._log)

    async def _hear(self, identity: Identity, transport: Transport, pool: Pool) -> None:
        body = codec.encode(_join(identity, transport.own_address()))
        stop = asyncio.create_task(self._stop_asked.wait())
        hear = asyncio.create_task(
            hear_a_member(
                lambda: self._network.broadcast(body), self._heard, self._options, pool, self._say
            )
        )
        not_yet = NotYet(pool, self._on_stop_verb)
        path = control_path(self._options.data_dir)
        control = ControlServer(path, not_yet.by_name(), self._log, not_yet.refuse)
        try:
            await control.open()
            await asyncio.wait({stop, hear}, return_when=asyncio.FIRST_COMPLETED)
            if not hear.done():
                raise JoinError("stopped before anybody of the pool was heard", "", 130)
            hear.result()
        finally:
            stop.cancel()
            hear.cancel()
            await control.close()

    def _make_driver(
        self,
        store: Store,
        recovered: tuple[Record, ...],
        identity: Identity,
        transport: Transport,
        executors: Executors,
    ) -> Driver:
        rng = random.Random(os.urandom(16))

        def make_node(at_ms: int) -> Node:
            return Node(
                identity,
                transport.own_address(),
                executors.facts(),
                NodeConfig(),
                rng,
                at_ms,
                recovered,
            )

        driver = Driver(make_node, identity, self._book, store, self._log)
        driver.connect(self._network, executors)
        return driver

    async def _serve(
        self,
        driver: Driver,
        executors: Executors,
        streams: Streams,
        transport: Transport,
        pool: Pool,
        tasks: list[asyncio.Task[Any]],
    ) -> None:
        self._driver = driver
        identity = driver.node.identity
        reads = Reads(driver, streams, identity)
        logs = Logs(driver, streams, identity, reads, executors)
        verbs = Verbs(driver, identity, pool, reads, logs, self._on_stop_verb)
        control = ControlServer(control_path(self._options.data_dir), verbs.by_name(), self._log)
        with contextlib.suppress(OSError):  # not everybody may
            os.nice(NICENESS)
        driver.feed(HardwareMeasured(executors.facts()))
        forever = [
            asyncio.create_task(driver.writer.run()),
            asyncio.create_task(executors.keep_measured()),
            asyncio.create_task(self._watch_addresses(driver, transport)),
        ]
        await control.open()
        # An engine may take its time: the node is a member meanwhile, and can be stopped.
        once = [
            asyncio.create_task(executors.list_all()),
            asyncio.create_task(self._tell_ready(driver, pool)),
        ]
        devices = tuple(tasks)
        tasks += [*forever, *once]
        try:
            await self._until_stopped(driver, [*devices, *forever])
            await executors.close(remove_all=True)
        except AgentEnded:
            await executors.close(remove_all=False)
            raise
        finally:
            await control.close()

    async def _until_stopped(self, driver: Driver, forever: list[asyncio.Task[Any]]) -> None:
        stop = asyncio.create_task(self._stop_asked.wait())
        watched: set[asyncio.Future[Any]] = {driver.failed, *forever}
        await asyncio.wait({stop, *watched}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            await self._drain(driver, watched)
        stop.cancel()
        if any(one.done() for one in watched):
            raise self._explanation(driver, forever)
        driver.feed(StopRequested())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WAIT_S):
                await driver.stopped.wait()
        self._say("stopped")

    def _explanation(self, driver: Driver, forever: list[asyncio.Task[Any]]) -> AgentEnded:
        """A core broke an invariant, or a device failed for good: say why, then end."""
        error: BaseException | None = None
        if driver.failed.done():
            error = driver.failed.exception()
        for task in forever:
            if task.done() and not task.cancelled():
                error = error or task.exception()
        self._log.error("agent_failed", exc_info=error)
        return AgentEnded(
            f"the agent ends, because one of its invariants broke: {error!r}",
            f"running tasks go on and are adopted by the next `rain up`; the story is in "
            f"{self._options.data_dir / 'agent.log'}",
        )

    async def _drain(self, driver: Driver, watched: set[asyncio.Future[Any]]) -> None:
        """`rain down --drain`: take nothing new, let what runs here end, within the time."""
        if not self._drain_ms:
            return
        members = driver.node.gossip.members()
        own = next(m for m in members if m.record.node_id == driver.node.identity.node_id)
        draining = msgspec.structs.replace(own.facts, works=False, idle_reason="draining")
        driver.feed(HardwareMeasured(draining))
        deadline_ms = now_ms() + self._drain_ms
        while driver.node.sched.active_attempts() and now_ms() < deadline_ms:
            if self._signals or any(one.done() for one in watched):
                return
            await driver.wait_change(DRAIN_POLL_MS)

    async def _tell_ready(self, driver: Driver, pool: Pool) -> None:
        while driver.node.election.reign() is None:
            await driver.wait_change(1_000)
        alive = [
            member
            for member in driver.node.gossip.members()
            if member.record.state is MemberState.ALIVE
        ]
        own = driver.node.identity
        facts = next(m.facts for m in alive if m.record.node_id == own.node_id)
        self._on_ready()
        self._say(f"ready: {own.name} is in pool {pool.name!r} with {len(alive)} PC(s)")
        if facts.works:
            capacity = facts.capacity
            self._say(
                f"shares {capacity.cpus_milli / 1_000:g} cpus and "
                f"{capacity.memory_bytes / 2**30:.1f} GiB by {' and '.join(facts.executors)}"
            )
        else:
            self._say(f"takes no work: {facts.idle_reason}")
        for accelerator in facts.accelerators:
            self._say(f"GPU: {accelerator} (shown, not yet shared)")

    async def _watch_addresses(self, driver: Driver, transport: Transport) -> None:
        known = transport.own_address()
        while True:
            await asyncio.sleep(ADDRESS_INTERVAL_S)
            now = transport.own_address()
            if now != known:
                known = now
                self._log.info("address_changed", address=str(now))
                driver.feed(AddressChanged(now))
            self._book.set_contacts(await resolve_contacts(self._options))

    # --- what comes in ---------------------------------------------------------------------------

    def _feed(self, event: Any) -> None:
        if self._driver is not None:
            self._driver.feed(event)

    def _on_packet(self, packet: bytes, source: Address) -> None:
        opened = self._network.open(packet)
        if opened is None:
            return
        self._heard.set()
        if self._driver is not None:
            self._driver.receive(opened.sender, opened.boot_epoch, opened.body, source)

    def _on_frame(self, sender: NodeId, boot_epoch: int, body: bytes, host: str) -> None:
        self._heard.set()
        if self._driver is not None:
            self._driver.receive_frame(sender, boot_epoch, body, host)

    def _on_stop_verb(self, forget: bool, drain_ms: int) -> None:
        self._forget = forget
        self._drain_ms = drain_ms
        self._stop_asked.set()

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            if sys.platform == "win32":  # its loops take no signal handlers
                signal.signal(sign, lambda *_: loop.call_soon_threadsafe(self._on_signal))
            else:
                loop.add_signal_handler(sign, self._on_signal)

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(130)  # the second Ctrl-C means now
        self._say("stopping (again: at once)")
        self._stop_asked.set()


def _join(identity: Identity, address: Address) -> Join:
    record = MemberRecord(
        identity.node_id, identity.name, address, identity.boot_epoch, 0, MemberState.ALIVE
    )
    return Join(record, FactsRecord(identity.node_id, identity.boot_epoch, Facts()))


def _next_boot_epoch(kept: bytes) -> int:
    """Above the last start's, and above those of a data folder that was moved away.

    Peers take nothing from an older boot, so counting from one again would lock this PC out.
    """
    return max(int.from_bytes(kept, "big") + 1, now_unix_ms() // 1_000)


def _records(rows: dict[str, bytes]) -> tuple[Record, ...]:
    """What the cores kept. A row that cannot be read is damage, and never silently left out."""
    records = []
    for key, value in sorted(rows.items()):
        if key.startswith(AGENT_ROWS):
            continue
        record = codec.decode_record(value)
        if isinstance(record, Rejected):
            raise StoreError(
                f"a row of the store cannot be read ({key}: {record.reason})",
                "it was written by a newer Rain, or the file is damaged: upgrade, or move it away",
            )
        records.append(record)
    return tuple(records)


def forget(data_dir: Path) -> None:
    """`rain leave`: the pool's key and everything kept for it go; this PC's own key stays."""
    keys.forget_pool(data_dir)
    for name in (STORE_FILE, f"{STORE_FILE}-wal", f"{STORE_FILE}-shm"):
        (data_dir / name).unlink(missing_ok=True)
    shutil.rmtree(data_dir / "exec", ignore_errors=True)
