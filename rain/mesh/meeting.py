"""How two ends of a connection come to know each other: TLS, then HELLO and WELCOME.

    who dials                       who answers
      TLS: wants the name of the peer   TLS: wants a certificate of the pool, or none (the door)
      Hello(bundle, boot, protocol)  ->
                                     <- Welcome(bundle, boot, protocol)   or   Refused(reason)

Each side checks that the bundle is of the certificate that was proven in the handshake, and asks
`admit` whether its node may be here: removed, left and expired ones may not. Who dialled learns
of a refusal by the frame, or, where TLS itself refused, by nothing but the end of the stream:
both count as `refused_by_peer`.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine

from rain.mesh.certificates import dns_name
from rain.mesh.discovery import EVERYWHERE
from rain.mesh.frames import (
    EVIDENCE_BYTES_MAX,
    SHUTDOWN_TIMEOUT_S,
    STRANGER_BYTES_MAX,
    BoundedReader,
    BrokenConnection,
    Connection,
    Frame,
    Hello,
    Refused,
    Welcome,
    tune,
)
from rain.mesh.tls import TlsIdentity, leaf_of
from rain.model import Address, NodeId
from rain.trust.credential import Credential
from rain.version import PROTOCOL

CONNECT_TIMEOUT_MS = 1_000
HANDSHAKE_TIMEOUT_MS = 3_000
WELCOME_TIMEOUT_MS = 3_000
REFUSED_BY_PEER = "refused_by_peer"

HUNG_UP = (
    "it hung up before it said welcome: it is too busy, or this node's certificate is of another "
    "pool"
)

Admit = Callable[[bytes], Credential | str]
"""(bundle) -> whose it is, or in one word why its node may not be here."""
Shown = Callable[[bytes], None]
"""A bundle of somebody who may be here: perhaps a newer one than was known."""

Shaken = tuple[asyncio.Transport, asyncio.BaseProtocol]

Evidence = Callable[[bytes], bytes]
"""(bundle) -> a message that proves why its node was removed; empty where there is none."""
Heard = Callable[[NodeId, bytes, str], object]
"""(who refuses this node, the message that proves why, its host)"""

_HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH of OpenSSL


class Meeting:
    """Introduces this node to others, and judges them."""

    def __init__(
        self,
        tls: TlsIdentity,
        boot_epoch: int,
        admit: Admit,
        shown: Shown,
        evidence: Evidence,
        heard: Heard,
    ) -> None:
        self._tls = tls
        self._boot_epoch = boot_epoch
        self._admit = admit
        self._shown = shown
        self._evidence = evidence
        self._heard = heard

    async def dial(self, address: Address, peer: NodeId, bind: str) -> Connection:
        """A connection to that node, both introduced."""
        tcp = await _tcp_to(address, bind)
        connection = await _begin_tls(tcp, self._tls.client, peer)
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_MS / 1_000):
                answer = await self._hear_answer(connection)
            if isinstance(answer, Refused):
                if answer.evidence:
                    self._heard(peer, answer.evidence, connection.host)
                said = answer.reason if answer.reason.isprintable() else "?"
                raise BrokenConnection(REFUSED_BY_PEER, f"it refuses this node: {said}")
            if not isinstance(answer, Welcome):
                raise BrokenConnection("unexpected")
            self._settle(connection, self._judged(connection, answer), answer)
            assert connection.peer == peer, "TLS has compared the name"
        except TimeoutError:
            connection.abort()
            raise BrokenConnection("welcome_timeout") from None
        except BaseException:
            connection.abort()
            raise
        return connection

    async def answer(self, connection: Connection, refusal: Callable[[NodeId], str]) -> None:
        """Let in who dialled, unless there is a refusal."""
        hello = await connection.receive()
        if not isinstance(hello, Hello):
            raise BrokenConnection("unexpected")
        try:
            credential = self._judged(connection, hello)
            reason = refusal(credential.node_id)
            if reason:
                raise BrokenConnection(reason)
        except BrokenConnection as refused:
            is_known = (
                bool(connection.certificate) and leaf_of(hello.bundle) == connection.certificate
            )
            evidence = self._evidence(hello.bundle) if is_known else b""
            assert len(evidence) <= EVIDENCE_BYTES_MAX, f"evidence of {len(evidence)} bytes"
            connection.write(Refused(refused.reason, evidence))
            await connection.end()
            raise
        self._settle(connection, credential, hello)
        connection.write(Welcome(self._tls.bundle, self._boot_epoch, PROTOCOL))

    def refusal_now(self, connection: Connection) -> str:
        """Why somebody who was let in once may not be here any more; '' when all is well."""
        judged = self._admit(connection.bundle)
        return judged if isinstance(judged, str) else ""

    async def _hear_answer(self, connection: Connection) -> Frame:
        try:
            connection.write(Hello(self._tls.bundle, self._boot_epoch, PROTOCOL))
            return await connection.receive()
        except BrokenConnection as error:
            if error.reason in ("closed", "lost"):
                raise BrokenConnection(REFUSED_BY_PEER, HUNG_UP) from None
            raise

    def _settle(self, connection: Connection, peer: Credential, said: Hello | Welcome) -> None:
        connection.settle(peer.node_id, said.bundle, said.boot_epoch)
        self._shown(said.bundle)

    def _judged(self, connection: Connection, said: Hello | Welcome) -> Credential:
        if abs(said.protocol - PROTOCOL) > 1:
            raise BrokenConnection("version")
        # An empty certificate would be that of nobody, and no bundle has an empty leaf.
        if not connection.certificate or leaf_of(said.bundle) != connection.certificate:
            raise BrokenConnection("other_certificate")
        judged = self._admit(said.bundle)
        if isinstance(judged, str):
            raise BrokenConnection(judged)
        return judged


async def accept_tls(tcp: socket.socket, context: ssl.SSLContext) -> Connection:
    """The answering side's handshake. The socket is closed when it fails."""
    try:
        tune(tcp)
        await _first_byte(tcp)
    except OSError as error:
        tcp.close()
        raise BrokenConnection("handshake") from error
    except BaseException:
        tcp.close()
        raise
    loop = asyncio.get_running_loop()
    protocol = _Protocol()
    handshake = loop.connect_accepted_socket(
        lambda: protocol,
        tcp,
        ssl=context,
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT_MS / 1_000,
        ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
    )
    return await _connected(protocol, handshake, tcp)


async def _first_byte(tcp: socket.socket) -> None:
    """A connection that says nothing costs a socket, and not the 256 KiB that TLS begins with."""
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()

    def note() -> None:
        if not arrived.done():
            arrived.set_result(None)

    loop.add_reader(tcp.fileno(), note)
    try:
        await arrived
    finally:
        loop.remove_reader(tcp.fileno())


async def _begin_tls(tcp: socket.socket, context: ssl.SSLContext, peer: NodeId) -> Connection:
    """The dialling side's handshake. The socket is closed when it fails."""
    try:
        tune(tcp)
    except OSError as error:
        tcp.close()
        raise BrokenConnection("unreachable") from error
    loop = asyncio.get_running_loop()
    protocol = _Protocol()
    handshake = loop.create_connection(
        lambda: protocol,
        sock=tcp,
        ssl=context,
        server_hostname=dns_name(peer),
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT_MS / 1_000,
        ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
    )
    return await _connected(protocol, handshake, tcp)


class _Protocol(asyncio.StreamReaderProtocol):
    """Of a stream that takes in little until it is somebody's."""

    def __init__(self) -> None:
        self.reader = BoundedReader(STRANGER_BYTES_MAX)
        super().__init__(self.reader)


async def _connected(
    protocol: _Protocol, handshake: Coroutine[None, None, Shaken], tcp: socket.socket
) -> Connection:
    """The connection that comes of a handshake.

    A handshake under way is never cancelled: asyncio may leave a transport behind that nobody
    closes. Cut off from the network it fails by itself, at once.
    """
    under_way = asyncio.ensure_future(handshake)
    try:
        transport, _ = await asyncio.shield(under_way)
    except OSError as error:
        _let_go(error)
        raise BrokenConnection(_failure_of(error)) from None
    except asyncio.CancelledError:
        under_way.add_done_callback(_abandon)
        with contextlib.suppress(OSError):
            tcp.shutdown(socket.SHUT_RDWR)
        await asyncio.wait([under_way])
        raise
    loop = asyncio.get_running_loop()
    writer = asyncio.StreamWriter(transport, protocol, protocol.reader, loop)
    return Connection(protocol.reader, writer)


def _abandon(handshake: asyncio.Future[Shaken]) -> None:
    if handshake.cancelled():
        return
    error = handshake.exception()
    if error is None:
        handshake.result()[0].abort()
    else:
        _let_go(error)


def _let_go(error: BaseException) -> None:
    """An error of asyncio and its frames hold each other, and the buffers of TLS with them."""
    error.__traceback__ = None


async def _tcp_to(address: Address, bind: str) -> socket.socket:
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        tcp.setblocking(False)
        if bind != EVERYWHERE:
            tcp.bind((bind, 0))
        async with asyncio.timeout(CONNECT_TIMEOUT_MS / 1_000):
            loop = asyncio.get_running_loop()
            await loop.sock_connect(tcp, (address.host, address.port))
    except TimeoutError:
        tcp.close()
        raise BrokenConnection("connect_timeout") from None
    except OSError as error:
        tcp.close()
        raise BrokenConnection("unreachable") from error
    except BaseException:
        tcp.close()
        raise
    return tcp


def _failure_of(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "other_peer" if error.verify_code == _HOSTNAME_MISMATCH else "stranger"
    return "handshake"
