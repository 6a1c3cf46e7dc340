"""Members that have a door: real keys, certificates, roll and TLS, on this machine, in one loop."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path

from rain.agent.authority import Issuer
from rain.agent.founding import Founded, found_pool
from rain.agent.invites import Invites
from rain.claims import Claim, Removal
from rain.effects import CertificateShown, ClaimMade, Record
from rain.mesh import keys
from rain.mesh.certificates import make_inspect
from rain.mesh.door import Door, Granted
from rain.mesh.keys import EdSigner
from rain.mesh.pool import Pool
from rain.mesh.tls import TlsIdentity
from rain.model import Address, Identity, NodeId
from rain.trust.core import Trust, TrustConfig
from rain.trust.records import rows_of

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]

START_UNIX_MS = 1_800_000_000_000
LOOPBACK = "127.0.0.1"


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.unix_ms = START_UNIX_MS

    def __call__(self) -> int:
        return self.unix_ms

    def pass_s(self, seconds: int) -> None:
        self.unix_ms += seconds * 1_000


class Host:
    """One PC of a pool, as far as it lets others in."""

    def __init__(
        self,
        folder: Path,
        pool: Pool,
        bundle: bytes,
        recovered: Sequence[Record],
        clock: Clock,
    ) -> None:
        self.folder, self.pool, self.clock = folder, pool, clock
        self.signer = keys.load_node_key(folder)
        credential = make_inspect(pool)(bundle)
        assert credential is not None, "a bundle of this pool"
        self.node_id = credential.node_id
        self.trust = Trust(
            Identity(self.node_id, credential.name, 1),
            TrustConfig(pool_id=pool.pool_id),
            make_inspect(pool),
            self.signer.sign,
            keys.ed_verify,
            random.Random(1),
            0,
            recovered,
        )
        self.trust.handle(CertificateShown(bundle), 0)
        self.claims: list[Claim] = []
        self.invites = Invites(self.node_id, pool.root_key, self.trust, self.claim, clock)
        self.issuer = Issuer(
            pool,
            self.node_id,
            self.trust,
            self.show,
            clock,
            keys.load_authority(folder),
            keys.load_root(folder),
        )
        self.door = Door(self.invites, self.issuer, lambda: self.bundle, pool.root, keys.ed_verify)

    @property
    def bundle(self) -> bytes:
        bundle = keys.load_certificate(self.folder)
        assert bundle is not None, "a member has a certificate"
        return bundle

    def claim(self, claim: Claim) -> None:
        self.claims.append(claim)
        self.trust.handle(ClaimMade(claim, self.clock()), 0)

    def show(self, bundle: bytes) -> None:
        self.trust.handle(CertificateShown(bundle), 0)

    def kick(self, node_id: NodeId) -> None:
        self.trust.handle(ClaimMade(Removal(node_id, 0), self.clock(), fresh_key=b"f" * 32), 0)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Address]:
        """Its door, at this address."""
        async with served(self.door.serve, TlsIdentity(self.folder, self.pool)) as address:
            yield address


@contextlib.asynccontextmanager
async def served(serve: Serve, tls: TlsIdentity) -> AsyncIterator[Address]:
    """Whoever connects is served; at the end, until all have gone."""
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(begin, LOOPBACK, 0, ssl=tls.server)
    try:
        yield Address(LOOPBACK, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await asyncio.gather(*tasks)


def founder(folder: Path, clock: Clock | None = None, pool_name: str = "attic") -> Host:
    """The first PC of a pool."""
    clock = clock or Clock()
    founded = found(folder, clock, pool_name)
    keys.keep_pool(folder, founded.pool)
    rows = rows_of((founded.bundle,), (), ((founded.key.number, founded.key.key),))
    return Host(folder, founded.pool, founded.bundle, rows, clock)


def found(folder: Path, clock: Clock, pool_name: str = "attic") -> Founded:
    return found_pool(
        folder,
        node_key(folder),
        pool_name=pool_name,
        node_name="studio",
        person="ann",
        now_unix_s=clock() // 1_000,
    )


def node_key(folder: Path) -> EdSigner:
    """The key of a PC at its first start."""
    folder.mkdir(exist_ok=True)
    return keys.load_node_key(folder)


def joined(folder: Path, pool: Pool, granted: Granted, clock: Clock) -> Host:
    """A PC that was let in."""
    keys.keep_certificate(folder, granted.bundle)
    keys.keep_pool(folder, pool)
    held = ((each.number, each.key) for each in granted.keys)
    rows = rows_of((granted.bundle, *granted.bundles), granted.claims, held)
    return Host(folder, pool, granted.bundle, rows, clock)
