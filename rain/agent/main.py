"""One agent: opens the devices, joins the pool, lets the driver run, and ends in good order."""

import asyncio
import contextlib
import itertools
import os
import random
import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from rain.agent.address_book import AddressBook
from rain.agent.admission import Admission
from rain.agent.arrival import arrive
from rain.agent.backup_verb import BackupVerb
from rain.agent.beacons import Beacons
from rain.agent.clock import now_ms, now_unix_ms
from rain.agent.control import ControlServer, Verb
from rain.agent.doubles import Doubles
from rain.agent.driver import Driver
from rain.agent.ending import AgentEnded, exit_code_of, kept_end
from rain.agent.executors import Executors
from rain.agent.greeting import ready_words
from rain.agent.invitation_verbs import InvitationVerbs
from rain.agent.joining import Ask, Entered, resolve_contacts, resume
from rain.agent.logs import Logs
from rain.agent.loop import loop_factory
from rain.agent.network import Network
from rain.agent.people import People
from rain.agent.pool_verbs import PoolVerbs
from rain.agent.quarantine import Quarantine
from rain.agent.reads import Reads
from rain.agent.recollection import STORE_FILE, begin, complete, forget, has_keys, settle
from rain.agent.refusal_log import Counters, RefusalLog
from rain.agent.refusals import JoinError
from rain.agent.seeking import Seeker
from rain.agent.signals import Signals
from rain.agent.surroundings import Surroundings
from rain.agent.terminal import ask
from rain.agent.twins import LOOKS, Twins
from rain.agent.verbs import Verbs
from rain.agent.wall_clock import WallClock
from rain.agent.watch import Expelled, Watch
from rain.claims import Departure, node_id_of
from rain.config import UpOptions, control_path, open_data_dir
from rain.effects import (
    Answer,
    ClaimMade,
    HardwareMeasured,
    PeerReset,
    Record,
    StopRequested,
)
from rain.election.config import ElectionConfig
from rain.exec.kernel import boot_id
from rain.exec.labels import ExecLabels
from rain.log import Logger, open_log
from rain.mesh import keys
from rain.mesh.certificates import make_inspect
from rain.mesh.discovery import EVERYWHERE
from rain.mesh.envelope import Envelope
from rain.mesh.errors import MeshError
from rain.mesh.freshness import NONCE_BYTES
from rain.mesh.keys import EdSigner
from rain.mesh.pool import Pool
from rain.mesh.streams import Streams
from rain.mesh.transport import Transport
from rain.model import Address, Identity, NodeId
from rain.node import Node, NodeConfig
from rain.sched.scheduler import SchedConfig
from rain.store import Store, StoreError
from rain.trust.config import TrustConfig

__all__ = ["AgentEnded", "run_agent"]

STOP_WAIT_S = 4.0
OPEN_WAIT_S = 5.0
LIST_WAIT_S = 2.0
DRAIN_POLL_MS = 1_000
DEPARTURE = -1
"""The request of this agent itself; those of people count from 1."""
NEWCOMER_QUIET_MS = 5_000
"""Who has just joined waits so long for the pool's coordinator before it stands itself."""
NICENESS = -5
"""The agent before its tasks: a coordinator that lags behind its own containers helps nobody."""


def run_agent(
    options: UpOptions, say: Callable[[str], None], on_ready: Callable[[], None], ask: Ask = ask
) -> None:
    """Run one agent until it is told to stop. Raises AgentEnded and ConfigError."""
    if not __debug__:
        raise AgentEnded("rain does not run under python -O: asserts are needed", "drop the -O")
    with kept_end(options.data_dir):
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(_Agent(options, say, on_ready, ask).run())
        except JoinError as error:
            raise AgentEnded(error.message, error.hint, error.exit_code) from error
        except StoreError as error:
            raise AgentEnded(error.message, error.hint, exit_code_of(error)) from error
        except MeshError as error:
            raise AgentEnded(error.message, error.hint) from error


class _Agent:
    """The devices of one agent, in the order of their opening."""

    def __init__(
        self,
        options: UpOptions,
        say: Callable[[str], None],
        on_ready: Callable[[], None],
        ask: Ask,
    ) -> None:
        self._ask = ask
        self._options = options
        self._say = say
        self._on_ready = on_ready
        self._book = AddressBook()
        self._forget = False
        self._stop_asked = asyncio.Event()
        self._drain_ms = 0
        self._signals = Signals(self._stop_asked.set, say)
        self._door_address: Address | None = None
        """Where this PC was let in just now: rung like a contact."""
        self._driver: Driver | None = None
        self._hear_beacon: Callable[[bytes, Address], None] = lambda packet, source: None
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
        self._store = store
        rows, boot_epoch, self._health = await begin(options.data_dir, store, self._log)
        identity = Identity(node_id_of(signer.public_key), options.name, boot_epoch)
        transport = Transport(options.bind or EVERYWHERE, options.port, self._on_packet, self._hear)
        self._signals.watch()
        await transport.open()
        tasks = [asyncio.create_task(transport.run())]
        try:
            self._book.set_contacts(await resolve_contacts(options))
            complete(options.data_dir, signer, rows)
            entered = resume(options)
            if entered is None or not has_keys(rows):
                entered = await self._arrive(identity, signer, transport, entered)
            recovered = await settle(options.data_dir, store, rows, entered, self._say)
            self._door_address = entered.contact
            executors = self._executors(entered.pool, identity)
            driver = self._make_driver(
                store, recovered, identity, transport, executors, signer, entered
            )
            await self._serve(driver, executors, transport, signer, entered, tasks)
        finally:
            for task in tasks:
                task.cancel()
            transport.close()

    async def _arrive(
        self, identity: Identity, signer: EdSigner, transport: Transport, kept: Entered | None
    ) -> Entered:
        def call(beacon: bytes) -> None:
            transport.broadcast(beacon, self._book.ring())

        seeker = Seeker(identity.node_id, identity.name, call)
        self._hear_beacon = seeker.hear
        stop, on_stop_verb = self._stop_asked, self._on_stop_verb
        say, log = self._say, self._log
        return await arrive(
            self._options, signer, seeker, self._ask, say, log, stop, on_stop_verb, kept
        )

    def _executors(self, pool: Pool, identity: Identity) -> Executors:
        labels = ExecLabels(pool.pool_id.hex(), identity.node_id, identity.name, boot_id())
        folder = self._options.data_dir / "exec"
        folder.mkdir(mode=0o700, exist_ok=True)
        return Executors(self._options, labels, folder, self._feed, self._log)

    def _make_driver(
        self,
        store: Store,
        recovered: tuple[Record, ...],
        identity: Identity,
        transport: Transport,
        executors: Executors,
        signer: EdSigner,
        entered: Entered,
    ) -> Driver:
        rng = random.Random(os.urandom(16))
        pool_id = entered.pool.pool_id
        sched = SchedConfig.of(pool_id, self._options.replicas)
        config = NodeConfig(trust=TrustConfig(pool_id=pool_id), sched=sched)
        if entered.is_newcomer:
            # Alone it would elect itself, and the pool would have to undo that reign.
            quiet = ElectionConfig(start_quiet_ms=NEWCOMER_QUIET_MS)
            config = msgspec.structs.replace(config, election=quiet)

        def make_node(at_ms: int) -> Node:
            return Node(
                identity,
                transport.own_address(),
                executors.facts(),
                config,
                rng,
                at_ms,
                recovered,
                make_inspect(entered.pool),
                signer,
                keys.ed_verify,
            )

        return Driver(make_node, identity, self._book, store, self._log, self._health)

    async def _serve(
        self,
        driver: Driver,
        executors: Executors,
        transport: Transport,
        signer: EdSigner,
        entered: Entered,
        tasks: list[asyncio.Task[Any]],
    ) -> None:
        pool = entered.pool
        admission = Admission(self._options.data_dir, pool, signer, driver, self._book)
        streams = self._streams(driver, admission)
        await streams.open(self._options.bind or EVERYWHERE, transport.port)
        tasks.append(asyncio.create_task(streams.run()))
        envelope = Envelope(
            pool.pool_id,
            signer,
            keys.ed_verify,
            driver.node.identity.boot_epoch,
            admission.gatekeeper.refusal_of,
            lambda: secrets.token_bytes(NONCE_BYTES),
        )
        beacons = Beacons(pool, driver, admission.invites, transport, self._book)
        self._hear_beacon = beacons.hear
        is_founder = entered.is_new and not entered.is_newcomer and not self._options.new
        self._twins = Twins(beacons, self._say, looks=LOOKS if is_founder else 0)
        self._network = Network(envelope, transport, streams, self._book, beacons.miss_key)
        driver.connect(self._network, executors)
        self._driver = driver
        self._wall, self._quarantine = WallClock(driver), Quarantine(driver)
        self._wall.tell()
        try:
            await self._live(driver, admission, executors, transport, streams, tasks)
        finally:
            await streams.close()

    def _streams(self, driver: Driver, admission: Admission) -> Streams:
        identity = driver.node.identity
        streams = Streams(
            admission.tls,
            identity.node_id,
            identity.boot_epoch,
            self._book.find,
            self._on_frame,
            admission.gatekeeper.admit,
            admission.show,
            admission.door.serve,
            self._book.misled,
            admission.evidence,
            lambda node_id: driver.feed(PeerReset(node_id)),
        )
        admission.attach(streams)
        return streams

    async def _live(
        self,
        driver: Driver,
        admission: Admission,
        executors: Executors,
        transport: Transport,
        streams: Streams,
        tasks: list[asyncio.Task[Any]],
    ) -> None:
        with contextlib.suppress(OSError):  # not everybody may
            os.nice(NICENESS)
        envelope = self._network.envelope
        doubles = Doubles(driver, streams, envelope, admission.signer.public_key, keys.ed_verify)
        watch = Watch(driver, admission, envelope, transport, streams, doubles)
        path = control_path(self._options.data_dir)
        around = self._surroundings(driver, executors, transport, streams)
        verbs = self._verbs(driver, admission, executors, streams, watch, around)
        control = ControlServer(path, verbs, self._log)

        def refused() -> Counters:
            invites, people = admission.invites.dropped, control.dropped
            return {**watch.refused(), "invites": invites, "control": people}

        admission.begin()
        forever = [
            asyncio.create_task(driver.writer.run()),
            asyncio.create_task(executors.keep_measured()),
            asyncio.create_task(executors.watch_disk()),
            asyncio.create_task(self._wall.run()),
            asyncio.create_task(admission.run()),
            asyncio.create_task(watch.run()),
            asyncio.create_task(doubles.run()),
            asyncio.create_task(RefusalLog(refused, self._log).run()),
            *(asyncio.create_task(one) for one in around.forever()),
        ]
        await control.open()
        # An engine may take its time: the node is a member meanwhile, and can be stopped.
        begun = self._begin_work(driver, admission.pool, executors)
        once = [asyncio.create_task(begun), asyncio.create_task(self._twins.look())]
        devices = tuple(tasks)
        tasks += [*forever, *once]
        try:
            await self._until_stopped(driver, executors, [*devices, *forever], around)
            await executors.close(remove_all=True)
        except AgentEnded:
            await executors.close(remove_all=False)
            raise
        finally:
            await control.close()

    def _verbs(
        self,
        driver: Driver,
        admission: Admission,
        executors: Executors,
        streams: Streams,
        watch: Watch,
        around: Surroundings,
    ) -> dict[str, Verb]:
        identity = driver.node.identity
        requests = itertools.count(1)
        reads = Reads(driver, streams, identity)
        gone = around.departures.since_unix_ms
        logs = Logs(driver, streams, identity, reads, executors, around.copies, gone)
        people = People(driver, admission, requests.__next__)
        pool_id = admission.pool.pool_id
        jobs = Verbs(driver, admission.signer, reads, logs, requests.__next__, pool_id)
        stop = self._on_stop_verb
        pool_verbs = PoolVerbs(
            driver, admission, people, reads, stop, watch.refused,
            lambda: [*watch.warnings(), *self._twins.warnings, *self._quarantine.warnings()],
            lambda: {**around.status(), "table": self._quarantine.table()},
        )  # fmt: skip
        invitations = InvitationVerbs(driver, admission.invites, requests.__next__).by_name()
        backup = BackupVerb(self._store).by_name()
        of_jobs = {**jobs.by_name(), **backup, **self._quarantine.by_name()}
        return {**pool_verbs.by_name(), **people.by_name(), **invitations, **of_jobs}

    async def _until_stopped(
        self,
        driver: Driver,
        executors: Executors,
        forever: list[asyncio.Task[Any]],
        around: Surroundings,
    ) -> None:
        stop = asyncio.create_task(self._stop_asked.wait())
        watched: set[asyncio.Future[Any]] = {driver.failed, *forever}
        await asyncio.wait({stop, *watched}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            await self._drain(driver, executors, watched)
        stop.cancel()
        if any(one.done() for one in watched):
            raise self._explanation(driver, forever)
        await around.before_stop()
        driver.feed(StopRequested())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WAIT_S):
                await driver.stopped.wait()
        if self._forget:
            await self._depart(driver)
        with contextlib.suppress(OSError):  # the terminal may be what went
            self._say("stopped")

    async def _depart(self, driver: Driver) -> None:
        """Tell the others that this PC has left for good, as far as anybody is there to hear it."""
        own = driver.node.trust.credential(driver.node.identity.node_id)
        if own is None:
            return
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        driver.answers[DEPARTURE] = future
        driver.feed(ClaimMade(Departure(own.generation), now_unix_ms(), DEPARTURE))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WAIT_S):
                await future

    def _explanation(self, driver: Driver, forever: list[asyncio.Task[Any]]) -> AgentEnded:
        """A core broke an invariant, or a device failed for good: say why, then end."""
        error: BaseException | None = None
        if driver.failed.done():
            error = driver.failed.exception()
        for task in forever:
            if task.done() and not task.cancelled():
                error = error or task.exception()
        if isinstance(error, Expelled):
            return AgentEnded(error.message, error.hint, error.exit_code)
        self._log.error("agent_failed", exc_info=error)
        return AgentEnded(
            f"the agent ends, because one of its invariants broke: {error!r}",
            f"running tasks go on and are adopted by the next `rain up`; the story is in "
            f"{self._options.data_dir / 'agent.log'}",
        )

    async def _drain(
        self, driver: Driver, executors: Executors, watched: set[asyncio.Future[Any]]
    ) -> None:
        """`rain down --drain`: take nothing new, let what runs here end, within the time."""
        if not self._drain_ms:
            return
        driver.feed(HardwareMeasured(executors.drain()))
        began_ms = now_ms()  # a second `rain down` says how long anew
        while driver.node.sched.active_attempts() and now_ms() < began_ms + self._drain_ms:
            if self._signals.count or any(one.done() for one in watched):
                return
            await driver.wait_change(DRAIN_POLL_MS)

    async def _begin_work(self, driver: Driver, pool: Pool, executors: Executors) -> None:
        with contextlib.suppress(TimeoutError):  # it is tried again and again later
            async with asyncio.timeout(OPEN_WAIT_S):
                await executors.open()
        listing = asyncio.create_task(executors.list_all())
        try:
            # First: orders that come before it are refused. What takes its time is offered anyway.
            await asyncio.wait((listing,), timeout=LIST_WAIT_S)
            driver.feed(HardwareMeasured(executors.facts()))
            await self._tell_ready(driver, pool, executors)
            await listing
        finally:
            listing.cancel()

    async def _tell_ready(self, driver: Driver, pool: Pool, executors: Executors) -> None:
        while driver.node.election.reign() is None:
            await driver.wait_change(1_000)
        self._on_ready()
        for words in ready_words(driver, pool, executors):
            self._say(words)

    def _surroundings(
        self, driver: Driver, executors: Executors, transport: Transport, streams: Streams
    ) -> Surroundings:
        async def contacts() -> tuple[Address, ...]:
            door = () if self._door_address is None else (self._door_address,)
            return (*await resolve_contacts(self._options), *door)

        stop, log = self._stop_asked.set, self._log
        return Surroundings(
            driver, executors, transport, streams, self._book, self._options, contacts, stop, log
        )

    # --- what comes in ---------------------------------------------------------------------------

    def _feed(self, event: Any) -> None:
        if self._driver is not None:
            self._driver.feed(event)

    def _on_packet(self, packet: bytes, source: Address) -> None:
        if self._driver is None:
            return  # not in a pool yet: nothing can be opened
        opened = self._network.open(packet, source)
        if opened is not None:
            self._driver.receive(opened.sender, opened.boot_epoch, opened.body, source)

    def _hear(self, packet: bytes, source: Address) -> None:
        self._hear_beacon(packet, source)

    def _on_frame(self, sender: NodeId, boot_epoch: int, body: bytes, host: str) -> None:
        if self._driver is not None:
            self._driver.receive_frame(sender, boot_epoch, body, host)

    def _on_stop_verb(self, forget: bool, drain_ms: int) -> None:
        self._forget = forget
        self._drain_ms = drain_ms
        self._stop_asked.set()
