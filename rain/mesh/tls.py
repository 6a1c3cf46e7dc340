"""TLS as Rain speaks it: 1.3 only, both ends show certificates of the pool, nothing is resumed.

The library checks the chain up to the root, the usage, and on the dialling side the name; it is
told to leave the time alone: whether an expired certificate still counts is a question for the
roll (`admit` of the streams), which knows how long the pool has been without an admin. A stream
without a certificate passes the library on the answering side, and comes no further than the
door (see streams.py).
"""

import ssl
from pathlib import Path

from rain.mesh import keys
from rain.mesh.certificates import decode_bundle
from rain.mesh.errors import MeshError
from rain.mesh.pool import Pool

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the ssl module has no name for.
_NO_TIME_CHECK = ssl.VerifyFlags(0x200000)


class TlsIdentity:
    """This node's key and certificate, ready for handshakes of one pool."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self._folder = folder
        self.server = _pool_context(ssl.PROTOCOL_TLS_SERVER, pool)
        self.server.verify_mode = ssl.CERT_OPTIONAL
        self.server.num_tickets = 0
        self.client = _pool_context(ssl.PROTOCOL_TLS_CLIENT, pool)
        self.bundle = b""
        self.reload()

    def reload(self) -> None:
        """Show the certificate that stands in the folder now, from the next handshake on."""
        bundle = keys.load_certificate(self._folder)
        if bundle is None:
            raise MeshError(
                f"{self._folder / keys.CERTIFICATE_FILE} is missing",
                "leave the pool and join it again: rain leave, rain up",
            )
        files = (self._folder / keys.CERTIFICATE_FILE, self._folder / keys.NODE_KEY_FILE)
        try:
            for context in (self.server, self.client):
                context.load_cert_chain(*files)
        except (OSError, ValueError) as error:
            raise MeshError(
                f"{files[0]} and {files[1]} do not belong together ({error})",
                "leave the pool and join it again: rain leave, rain up",
            ) from None
        self.bundle = bundle


def joining_context() -> ssl.SSLContext:
    """Of a newcomer at the door: it shows nothing, and judges what it is shown by itself."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def leaf_of(bundle: bytes) -> bytes:
    """The certificate (DER) that a handshake shows of this bundle; empty when it is none."""
    decoded = decode_bundle(bundle)
    return decoded.leaf if decoded is not None else b""


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    return context


def _pool_context(protocol: int, pool: Pool) -> ssl.SSLContext:
    context = _context(protocol)
    context.load_verify_locations(cadata=pool.root)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | _NO_TIME_CHECK
    return context
