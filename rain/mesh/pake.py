"""Proving to each other that both know a short code, without telling it: SPAKE2.

What each end believes about the other goes into the key: the newcomer's public key and name, and
the certificate of the TLS server as the newcomer saw it. With the same code and the same beliefs
both get the same key; who sits between with a certificate of its own makes the beliefs differ, so
that both ends refuse. One exchange lets an attacker try one code. The newcomer confirms first:
a stranger who guesses learns from a sponsor no more than that the guess was wrong.

The arithmetic takes some 10 ms a step in plain Python and is not constant in time. A code is gone
after three tries, so there is nothing to sample; the time is spent outside of the loop's thread.
So is that of the import, which computes tables: most starts of an agent never meet a code.
"""

import asyncio
import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spake2 import SPAKE2_A, SPAKE2_B

MESSAGE_BYTES = 33
CONFIRMATION_BYTES = 32


class BadExchange(Exception):
    """What the other end sent is no message of this exchange."""


class Exchange:
    """One end of one exchange; of use once."""

    def __init__(self, engine: "SPAKE2_A | SPAKE2_B", message: bytes, own: bytes, other: bytes):
        self._engine = engine
        self._own = own
        self._other = other
        self._key = b""
        self.message = message
        """What the other end needs to `finish`."""

    async def finish(self, message: bytes) -> None:
        """Take the other end's message. BadExchange when it is none."""
        assert not self._key, "an exchange is finished once"
        if len(message) != MESSAGE_BYTES:
            raise BadExchange
        from spake2.spake2 import SPAKEError  # here already: the engine is of it

        try:
            self._key = await asyncio.to_thread(self._engine.finish, message)
        # All that strange bytes may set off in there: a point off the curve, our own reflected.
        except (SPAKEError, ValueError, AssertionError):
            raise BadExchange from None

    @property
    def confirmation(self) -> bytes:
        """What shows the other end that this one has the key."""
        return self._digest(self._own)

    def is_confirmed_by(self, confirmation: bytes) -> bool:
        return hmac.compare_digest(self._digest(self._other), confirmation)

    def _digest(self, label: bytes) -> bytes:
        assert self._key, "finish comes first"
        return hmac.digest(self._key, label, "sha256")


async def newcomer_exchange(
    password: bytes, public_key: bytes, name: str, sponsor_leaf: bytes
) -> Exchange:
    """The typing end; `sponsor_leaf` is the certificate that the TLS server showed."""
    beliefs = _beliefs(public_key, name, sponsor_leaf)
    engine, message = await asyncio.to_thread(_begin_newcomer, password, *beliefs)
    return Exchange(engine, message, b"rain newcomer", b"rain sponsor")


async def sponsor_exchange(
    password: bytes, public_key: bytes, name: str, own_leaf: bytes
) -> Exchange:
    """The showing end; public key and name are those that the newcomer has sent."""
    beliefs = _beliefs(public_key, name, own_leaf)
    engine, message = await asyncio.to_thread(_begin_sponsor, password, *beliefs)
    return Exchange(engine, message, b"rain sponsor", b"rain newcomer")


def _begin_newcomer(password: bytes, newcomer: bytes, sponsor: bytes) -> "tuple[SPAKE2_A, bytes]":
    from spake2 import SPAKE2_A

    engine = SPAKE2_A(password, newcomer, sponsor)
    return engine, engine.start()


def _begin_sponsor(password: bytes, newcomer: bytes, sponsor: bytes) -> "tuple[SPAKE2_B, bytes]":
    from spake2 import SPAKE2_B

    engine = SPAKE2_B(password, newcomer, sponsor)
    return engine, engine.start()


def _beliefs(public_key: bytes, name: str, leaf: bytes) -> tuple[bytes, bytes]:
    return sha256(public_key + name.encode()).digest(), sha256(leaf).digest()
