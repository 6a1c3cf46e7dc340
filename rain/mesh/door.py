"""The door of a pool: what a stream without a certificate may say, and what it is answered.

It runs inside TLS, whose server certificate the newcomer cannot check yet; so everything that is
proven here is proven over the hash of that certificate, and is worth nothing on another stream.

    newcomer                              pool
    Knock                            ->
                                     <-   Shown (bundle, root, nonce)
    AskByCode (SPAKE2 message)       ->
                                     <-   Response (SPAKE2 message)
    Confirmation                     ->
                                     <-   Granted (with a confirmation) or Denied
  or
    AskByToken (proof with its key)  ->   Granted or Denied
  or
    AskRenewal (proof, old bundle)   ->   Granted or Denied

Every ask is signed by the node key that wants a certificate: nobody gets one for another's key.
With a token the newcomer checks root and bundle against the token before it asks. A denial is a
word; the newcomer has its own sentences for it, since nobody vouches for what a stranger says.

A stranger gets STRANGER_BYTES_MAX and DOOR_TIMEOUT_S in all, never an exception out of here; what
it did wrong is counted in `dropped`. A try at a code is counted before the answer is computed.
"""

import asyncio
import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Protocol, TypeVar

from msgspec import Meta
from msgspec.structs import replace

from rain.claims import Invitation, Key, Signed, Verify
from rain.mesh.certificates import (
    BUNDLE_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    decode_bundle,
)
from rain.mesh.codec import Rejected, by_tag, pack, unpack
from rain.mesh.pake import CONFIRMATION_BYTES, MESSAGE_BYTES, BadExchange, sponsor_exchange
from rain.model import Count, ShortText, Value
from rain.trust.messages import RING_KEYS_MAX

DOOR_PROTOCOL = 1
DOOR_TIMEOUT_S = 10.0
STRANGER_BYTES_MAX = 16 * 1024
"""All that a stranger may send on one connection."""
GRANTED_BYTES_MAX = 4 * 1024 * 1024
"""All that a newcomer takes in."""
ROLL_BYTES_MAX = 2 * 1024 * 1024
"""Of the roll in a Granted; what is beyond reaches the newcomer as it reaches any member."""
ROLL_MAX = 8_192
NONCE_BYTES = 16
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""As rain/config.py lets people name PCs: it is shown to people, and stands in beacons."""

_LENGTH_BYTES = 4

Bundle = Annotated[bytes, Meta(max_length=BUNDLE_BYTES_MAX)]
Proof = Annotated[bytes, Meta(max_length=64)]
Message = Annotated[bytes, Meta(max_length=MESSAGE_BYTES)]
Digest = Annotated[bytes, Meta(max_length=CONFIRMATION_BYTES)]


class Said(Value, frozen=True):
    """What is said at the door."""


class Knock(Said, frozen=True, tag="dk"):
    """The first word of who comes."""

    protocol: Count = DOOR_PROTOCOL


class Shown(Said, frozen=True, tag="ds"):
    """Who opens, and something new to sign."""

    protocol: Count
    bundle: Bundle
    root: Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)]
    nonce: Annotated[bytes, Meta(max_length=NONCE_BYTES)]


class AskByCode(Said, frozen=True, tag="dc"):
    nameplate: ShortText
    public_key: Key
    name: ShortText
    proof: Proof
    message: Message


class Response(Said, frozen=True, tag="dr"):
    message: Message


class Confirmation(Said, frozen=True, tag="df"):
    digest: Digest


class AskByToken(Said, frozen=True, tag="dt"):
    token_key: Key
    public_key: Key
    name: ShortText
    proof: Proof
    token_proof: Proof


class AskRenewal(Said, frozen=True, tag="dn"):
    """`bundle` is the newest that the node has; it may have run out."""

    bundle: Bundle
    public_key: Key
    proof: Proof


class PoolKey(Value, frozen=True):
    number: Count
    key: Key

    def __repr__(self) -> str:
        """Without the key, so that no log or traceback tells it."""
        return f"PoolKey({self.number})"


class Granted(Said, frozen=True, tag="dg"):
    """All that a node needs to take part. `unix_ms` is the clock of who granted it."""

    root: Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)]
    bundle: Bundle
    keys: Annotated[tuple[PoolKey, ...], Meta(max_length=RING_KEYS_MAX)]
    use: Count
    bundles: Annotated[tuple[Bundle, ...], Meta(max_length=ROLL_MAX)]
    claims: Annotated[tuple[Signed, ...], Meta(max_length=ROLL_MAX)]
    unix_ms: Count
    confirmation: Digest = b""


class Denied(Said, frozen=True, tag="dd"):
    """One word why not. `tries_left` counts for a wrong code."""

    reason: ShortText
    tries_left: Count = 0


_SAID: dict[str, type[Said]] = by_tag(
    (Knock, Shown, AskByCode, Response, Confirmation, AskByToken, AskRenewal, Granted, Denied)
)

S = TypeVar("S", bound=Said)


class Newcomer(Value, frozen=True):
    """Who asks, proven to hold that key. The name is its own choice, the rest is not."""

    public_key: bytes
    name: str


class Try(Protocol):
    """One use of one invitation, kept free for one newcomer while it proves itself."""

    @property
    def invitation(self) -> Invitation: ...

    @property
    def password(self) -> bytes:
        """The words of a code; empty for a token."""

    def refusal(self) -> str:
        """'' while it counts; in a word why it does not any more."""

    def spend(self) -> None:
        """It was used: the newcomer is in."""

    def fail(self) -> int:
        """The newcomer did not know the words. Answers how many tries are left."""

    def close(self) -> None:
        """The exchange is over, however it ended."""


class Invitations(Protocol):
    """What this node knows of the invitations of its pool."""

    def try_code(self, nameplate: str, newcomer: Newcomer) -> Try | Denied:
        """Counts a try before anything else is done."""

    def try_token(self, token_key: bytes, newcomer: Newcomer) -> Try | Denied: ...


class Issuing(Protocol):
    """What makes certificates; denies where this node is no admin."""

    def admit(self, newcomer: Newcomer, invitation: Invitation) -> Granted | Denied: ...

    def renew(self, bundle: bytes, public_key: bytes) -> Granted | Denied: ...


class BrokenDoor(Exception):
    """This stream is of no use any more; the reason is one word, to be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Channel:
    """Frames on a stream: a length of 4 bytes, then msgpack; so many bytes come in and no more."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_max: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._bytes_left = bytes_max

    async def send(self, said: Said) -> None:
        packed = pack(said)
        try:
            self._writer.write(len(packed).to_bytes(_LENGTH_BYTES, "big") + packed)
            await self._writer.drain()
        except OSError as error:
            raise BrokenDoor("door_lost") from error

    async def receive(self) -> Said:
        """The next thing said. BrokenDoor for anything else."""
        header = await self._take(_LENGTH_BYTES)
        said = unpack(await self._take(int.from_bytes(header, "big")), _SAID)
        if isinstance(said, Rejected):
            raise BrokenDoor(f"door_{said.reason}")
        return said

    async def expect(self, kind: type[S]) -> S:
        said = await self.receive()
        if not isinstance(said, kind):
            raise BrokenDoor("door_unexpected")
        return said

    async def wait_closed(self) -> None:
        """Until the other end has hung up, so that it has read what was said to it last."""
        try:
            while await self._reader.read(_LENGTH_BYTES):
                self._spend(_LENGTH_BYTES)
        except OSError as error:
            raise BrokenDoor("door_lost") from error

    async def _take(self, count: int) -> bytes:
        self._spend(count)
        try:
            return await self._reader.readexactly(count)
        except EOFError:  # an incomplete read
            raise BrokenDoor("door_closed") from None
        except OSError as error:
            raise BrokenDoor("door_lost") from error

    def _spend(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise BrokenDoor("door_too_much")


class Door:
    """Lets in who proves to be invited, or to have been in. Serves streams side by side."""

    def __init__(
        self,
        invitations: Invitations,
        issuing: Issuing,
        own_bundle: Callable[[], bytes],
        root: bytes,
        verify: Verify,
    ) -> None:
        self._invitations = invitations
        self._issuing = issuing
        self._own_bundle = own_bundle
        self._root = root
        self._verify = verify
        self.dropped: dict[str, int] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one stranger. It never raises for what that stranger does."""
        channel = Channel(reader, writer, STRANGER_BYTES_MAX)
        try:
            async with asyncio.timeout(DOOR_TIMEOUT_S):
                await self._serve(channel)
                await channel.wait_closed()
        except TimeoutError:
            self._count("door_timeout")
        except BrokenDoor as error:
            self._count(error.reason)
        finally:
            writer.transport.abort()

    async def _serve(self, channel: Channel) -> None:
        knock = await channel.expect(Knock)
        if knock.protocol != DOOR_PROTOCOL:
            await self._deny(channel, Denied("protocol"))
            return
        bundle, nonce = self._own_bundle(), secrets.token_bytes(NONCE_BYTES)
        own = decode_bundle(bundle)
        assert own is not None, "a node has a certificate of its own"
        await channel.send(Shown(DOOR_PROTOCOL, bundle, self._root, nonce))
        match await channel.receive():
            case AskByCode() as ask:
                answer = await self._by_code(channel, ask, own.leaf, nonce)
            case AskByToken() as ask:
                answer = self._by_token(ask, own.leaf, nonce)
            case AskRenewal() as ask:
                answer = self._renewed(ask, own.leaf, nonce)
            case _:
                raise BrokenDoor("door_unexpected")
        if isinstance(answer, Denied):
            await self._deny(channel, answer)
        else:
            await channel.send(answer)

    async def _by_code(
        self, channel: Channel, ask: AskByCode, leaf: bytes, nonce: bytes
    ) -> Granted | Denied:
        newcomer = self._newcomer(ask, proof_content("code", leaf, nonce, ask.public_key, ask.name))
        if isinstance(newcomer, Denied):
            return newcomer
        attempt = self._invitations.try_code(ask.nameplate, newcomer)
        if isinstance(attempt, Denied):
            return attempt
        try:
            exchange = await sponsor_exchange(attempt.password, ask.public_key, ask.name, leaf)
            try:
                await exchange.finish(ask.message)
            except BadExchange:
                return Denied("wrong_code", attempt.fail())
            await channel.send(Response(exchange.message))
            confirmation = await channel.expect(Confirmation)
            if not exchange.is_confirmed_by(confirmation.digest):
                return Denied("wrong_code", attempt.fail())
            answer = self._let_in(attempt, newcomer)
            if isinstance(answer, Denied):
                return answer
            return replace(answer, confirmation=exchange.confirmation)
        finally:
            attempt.close()

    def _by_token(self, ask: AskByToken, leaf: bytes, nonce: bytes) -> Granted | Denied:
        content = proof_content("token", leaf, nonce, ask.public_key, ask.name)
        newcomer = self._newcomer(ask, content)
        if isinstance(newcomer, Denied):
            return newcomer
        if not self._verify(ask.token_key, ask.token_proof, content):
            return Denied("bad_proof")
        attempt = self._invitations.try_token(ask.token_key, newcomer)
        if isinstance(attempt, Denied):
            return attempt
        try:
            return self._let_in(attempt, newcomer)
        finally:
            attempt.close()

    def _renewed(self, ask: AskRenewal, leaf: bytes, nonce: bytes) -> Granted | Denied:
        content = proof_content("renewal", leaf, nonce, ask.public_key, ask.bundle.hex())
        if not self._verify(ask.public_key, ask.proof, content):
            return Denied("bad_proof")
        return self._issuing.renew(ask.bundle, ask.public_key)

    def _newcomer(self, ask: AskByCode | AskByToken, content: bytes) -> Newcomer | Denied:
        if not self._verify(ask.public_key, ask.proof, content):
            return Denied("bad_proof")
        if NAME.fullmatch(ask.name) is None:
            return Denied("bad_name")
        return Newcomer(ask.public_key, ask.name)

    def _let_in(self, attempt: Try, newcomer: Newcomer) -> Granted | Denied:
        # Nothing is awaited in here: an invitation is never used twice.
        refusal = attempt.refusal()
        if refusal:
            return Denied(refusal)
        answer = self._issuing.admit(newcomer, attempt.invitation)
        if isinstance(answer, Granted):
            attempt.spend()
        return answer

    async def _deny(self, channel: Channel, denied: Denied) -> None:
        self._count(f"door_denied_{denied.reason}")
        await channel.send(denied)

    def _count(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


def proof_content(purpose: str, leaf: bytes, nonce: bytes, public_key: bytes, name: str) -> bytes:
    """What is signed at the door: counts for this purpose, server, visit, key and name only."""
    words = b"rain door\0" + purpose.encode() + b"\0"
    return words + sha256(leaf).digest() + sha256(nonce).digest() + public_key + name.encode()
