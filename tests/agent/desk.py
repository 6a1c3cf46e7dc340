"""One founded node without a network, for tests of what the agent does around it."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog

from rain.agent.address_book import AddressBook
from rain.agent.admission import Admission
from rain.agent.driver import Driver
from rain.agent.founding import found_pool
from rain.claims import node_id_of
from rain.effects import Record, RemoveContainer, StartContainer, StopContainer
from rain.log import Logger
from rain.mesh import keys
from rain.mesh.certificates import make_inspect
from rain.mesh.keys import EdSigner
from rain.mesh.pool import Pool
from rain.mesh.streams import Streams
from rain.model import Address, Facts, Identity, Job, JobSpec, NodeId
from rain.node import Node, NodeConfig
from rain.sched.identity import signed_job
from rain.sched.scheduler import SchedConfig
from rain.store import Store
from rain.trust.config import TrustConfig
from rain.trust.records import rows_of

NOW_UNIX_S = 1_700_000_000


def logger() -> Logger:
    log: Logger = structlog.wrap_logger(logging.Logger("test"), wrapper_class=Logger)
    return log


class Nowhere:
    """A network and an executor that swallow everything."""

    def send(self, to: NodeId, address: Address, body: bytes) -> None: ...
    def cast(self, to: Iterable[Address], body: bytes) -> None: ...
    def broadcast(self, body: bytes) -> None: ...
    def post(self, to: NodeId, body: bytes) -> None: ...
    def rekey(self, keys: Iterable[tuple[int, bytes]], use: int) -> None: ...
    def expel(self) -> None: ...
    def start(self, effect: StartContainer) -> None: ...
    def stop(self, effect: StopContainer) -> None: ...
    def remove(self, effect: RemoveContainer) -> None: ...


class OneNode:
    """The founder of a pool of one: its keys, its certificate, its node. It is not running."""

    def __init__(
        self,
        folder: Path,
        driver: type[Driver] = Driver,
        on_disk: Callable[["OneNode"], Sequence[Record]] = lambda _node: (),
    ) -> None:
        """`on_disk`: what an earlier life has left there besides."""
        self.folder = folder
        self.signer: EdSigner = keys.load_node_key(folder)
        founded = found_pool(
            folder,
            self.signer,
            pool_name="attic",
            node_name="desk",
            person="anna",
            now_unix_s=NOW_UNIX_S,
        )
        self.pool: Pool = founded.pool
        self.phrase = founded.phrase
        self.identity = Identity(node_id_of(self.signer.public_key), "desk", 1)
        self.store = Store.open(folder / "store.db")
        self.book = AddressBook()
        recovered = [*rows_of([founded.bundle], (), []), *on_disk(self)]

        def make_node(at_ms: int) -> Node:
            return Node(
                self.identity,
                Address("127.0.0.1", 7246),
                Facts(),
                NodeConfig(
                    trust=TrustConfig(pool_id=self.pool.pool_id),
                    sched=SchedConfig(pool_id=self.pool.pool_id),
                ),
                random.Random(1),
                at_ms,
                recovered,
                make_inspect(self.pool),
                self.signer,
                keys.ed_verify,
            )

        self.driver = driver(make_node, self.identity, self.book, self.store, logger())
        self.admission = Admission(folder, self.pool, self.signer, self.driver, self.book)

    def writing(self) -> asyncio.Task[None]:
        """Let writes come to disk from now on, until `stop`."""
        return asyncio.create_task(self.driver.writer.run())

    async def stop(self, writing: asyncio.Task[None]) -> None:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing

    def streams(self) -> Streams:
        """Never opened: enough for what registers a verb."""
        return Streams(
            self.admission.tls,
            self.identity.node_id,
            1,
            self.book.find,
            lambda *_: None,
            self.admission.gatekeeper.admit,
            self.admission.show,
            None,
        )

    def job(self, spec: JobSpec, nonce: bytes = b"n") -> Job:
        """As typed here by the founder."""
        signer = self.signer
        by = signer.public_key, signer.sign
        return signed_job(spec, "desk", 1, nonce, "anna", *by, self.pool.pool_id)
