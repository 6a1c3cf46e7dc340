"""In front of the door: how a PC without a certificate asks for one. See door.py for the words.

Whoever opens is a stranger until it has proven itself: by knowing the code, by a root that the
token pins, or by the root of the pool that this PC is in already. What a stranger says is never
shown to a person; a denial is one of our own words or none.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from rain.claims import Signer
from rain.mesh.certificates import decode_bundle, make_inspect, pool_of
from rain.mesh.codes import TRIES_MAX, Code
from rain.mesh.discovery import EVERYWHERE, is_ipv4
from rain.mesh.door import (
    DOOR_PROTOCOL,
    DOOR_TIMEOUT_S,
    GRANTED_BYTES_MAX,
    NONCE_BYTES,
    AskByCode,
    AskByToken,
    AskRenewal,
    BrokenDoor,
    Channel,
    Confirmation,
    Denied,
    Granted,
    Knock,
    Response,
    Said,
    Shown,
    proof_content,
)
from rain.mesh.envelope import POOL_KEY_BYTES
from rain.mesh.pake import BadExchange, newcomer_exchange
from rain.mesh.pool import Pool
from rain.mesh.tls import joining_context
from rain.mesh.token import Token
from rain.model import Address, Role
from rain.trust.credential import Credential

CONNECT_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 0.5

S = TypeVar("S", bound=Said)


class NotLetIn(Exception):
    """The door stayed closed. The reason is one word; of a wrong code, how many tries are left."""

    def __init__(self, reason: str, tries_left: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.tries_left = tries_left


class Doorstep:
    """A stream to somebody's door, and the certificate that the TLS server proved to have."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, leaf: bytes
    ) -> None:
        self._channel = Channel(reader, writer, GRANTED_BYTES_MAX)
        self._leaf = leaf

    async def join_by_code(self, code: Code, signer: Signer, name: str) -> Granted:
        """Raises NotLetIn. What is granted comes from who showed the code."""
        key = signer.public_key
        shown = await self._knock()
        proof = signer.sign(proof_content("code", self._leaf, shown.nonce, key, name))
        exchange = await newcomer_exchange(code.password, key, name, self._leaf)
        await self._say(AskByCode(code.nameplate, key, name, proof, exchange.message))
        answer = await self._answer(Response)
        try:
            await exchange.finish(answer.message)
        except BadExchange:
            raise NotLetIn("unproven") from None
        await self._say(Confirmation(exchange.confirmation))
        granted = await self._answer(Granted)
        if not exchange.is_confirmed_by(granted.confirmation):
            raise NotLetIn("unproven")
        pool = pool_of(granted.root)
        if pool is None:
            raise NotLetIn("unusable")
        self._require_fit(granted, pool, key)
        return granted

    async def join_by_token(self, token: Token, signer: Signer, name: str) -> Granted:
        """Raises NotLetIn, before anything is proven where the token is for another pool."""
        key = signer.public_key
        shown = await self._knock()
        pool = pool_of(shown.root)
        if pool is None or not token.pins(pool.root_key):
            raise NotLetIn("other_pool")
        self._require_admin(shown, pool)
        content = proof_content("token", self._leaf, shown.nonce, key, name)
        ask = AskByToken(token.public_key, key, name, signer.sign(content), token.sign(content))
        await self._say(ask)
        granted = await self._answer(Granted)
        self._require_fit(granted, pool, key)
        return granted

    async def renew(
        self, pool: Pool, bundle: bytes, signer: Signer, is_trusted: Callable[[Credential], bool]
    ) -> Granted:
        """A certificate instead of the one in `bundle`. Raises NotLetIn."""
        key = signer.public_key
        shown = await self._knock()
        if not is_trusted(self._require_admin(shown, pool)):
            raise NotLetIn("other_pool")
        proof = signer.sign(proof_content("renewal", self._leaf, shown.nonce, key, bundle.hex()))
        await self._say(AskRenewal(bundle, key, proof))
        granted = await self._answer(Granted)
        self._require_fit(granted, pool, key)
        return granted

    async def _knock(self) -> Shown:
        await self._say(Knock())
        shown = await self._answer(Shown)
        if shown.protocol != DOOR_PROTOCOL or len(shown.nonce) != NONCE_BYTES:
            raise NotLetIn("protocol")
        return shown

    def _require_admin(self, shown: Shown, pool: Pool) -> Credential:
        """Who opens is an admin of that pool, and holds the key of the certificate it shows.

        Its dates are not judged: the clock of a newcomer may be wrong by years.
        """
        credential = make_inspect(pool)(shown.bundle)
        bundle = decode_bundle(shown.bundle)
        if credential is None or bundle is None or bundle.leaf != self._leaf:
            raise NotLetIn("other_pool")
        if credential.role is not Role.ADMIN:
            raise NotLetIn("not_admin")
        return credential

    def _require_fit(self, granted: Granted, pool: Pool, public_key: bytes) -> None:
        """What was granted is a certificate of that pool for this key, and keys to speak with."""
        credential = make_inspect(pool)(granted.bundle)
        if granted.root != pool.root or credential is None or credential.public_key != public_key:
            raise NotLetIn("unusable")
        numbers = {each.number for each in granted.keys if len(each.key) == POOL_KEY_BYTES}
        if granted.use not in numbers or len(numbers) != len(granted.keys):
            raise NotLetIn("unusable")

    async def _say(self, said: Said) -> None:
        try:
            await self._channel.send(said)
        except BrokenDoor as error:
            raise NotLetIn(error.reason) from None

    async def _answer(self, kind: type[S]) -> S:
        try:
            said = await self._channel.receive()
        except BrokenDoor as error:
            raise NotLetIn(error.reason) from None
        if isinstance(said, Denied):
            raise NotLetIn(said.reason, min(said.tries_left, TRIES_MAX))
        if not isinstance(said, kind):
            raise NotLetIn("unusable")
        return said


@contextlib.asynccontextmanager
async def doorstep(address: Address, bind: str = EVERYWHERE) -> AsyncIterator[Doorstep]:
    """Connect to the door there, hang up at the end. Raises NotLetIn when it takes too long."""
    try:
        async with asyncio.timeout(DOOR_TIMEOUT_S):
            async with _connected(address, bind) as (reader, writer):
                tls = writer.get_extra_info("ssl_object")
                leaf = tls.getpeercert(binary_form=True) if tls is not None else None
                if leaf is None:
                    raise NotLetIn("unusable")
                yield Doorstep(reader, writer, leaf)
    except TimeoutError:
        raise NotLetIn("timeout") from None


@contextlib.asynccontextmanager
async def _connected(
    address: Address, bind: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    if not is_ipv4(address.host):  # a stranger's hint must not make this PC look up names
        raise NotLetIn("unreachable")
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                address.host,
                address.port,
                ssl=joining_context(),
                server_hostname="",
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
                local_addr=(bind, 0) if bind != EVERYWHERE else None,
            )
    except OSError:  # a timeout and all that TLS may dislike among them
        raise NotLetIn("unreachable") from None
    try:
        yield reader, writer
    finally:
        writer.close()
