"""What members tell each other about who may be here.

RollDigest is a packet; RollHave and RollNews go over streams, whose other end has shown a
certificate: pool keys are given and taken nowhere else.
"""

from typing import Annotated

from msgspec import Meta

from rain.claims import Signed
from rain.effects import Message
from rain.model import Count, Value

BUNDLE_BYTES_MAX = 4 * 1024
NODES_MAX = 2_048
"""Ids ever seen; at most 512 of them are members at a time."""
BUNDLES_MAX = 4_096
CLAIMS_MAX = 16_384
MARK_BYTES = 16
DIGEST_BYTES = 8
NEWS_BUNDLES_MAX = 1_024
NEWS_CLAIMS_MAX = 2_048
RING_KEYS_MAX = 8

Mark = Annotated[bytes, Meta(max_length=MARK_BYTES)]
Bundle = Annotated[bytes, Meta(max_length=BUNDLE_BYTES_MAX)]


class RingKey(Value, frozen=True):
    """A pool key: 32 secret bytes under the number that claims know it by."""

    number: Count
    key: Annotated[bytes, Meta(min_length=32, max_length=32)]

    def __repr__(self) -> str:
        """Without the key: what is printed may come into a log."""
        return f"RingKey({self.number})"


class RollDigest(Message, frozen=True, tag="td"):
    """What I hold, in a few bytes: do we differ, and how far am I with the newest pool key?"""

    digest: Annotated[bytes, Meta(max_length=DIGEST_BYTES)]
    newest: Count
    """The highest pool key that I have; 0: none."""
    mark: Mark
    """Of that key: two admins may have chosen one number."""
    use: Count
    taken: Count = 0
    """Over a stream, when not 0: your news of this serial is on my disk."""


class RollHave(Message, frozen=True, tag="th"):
    """The marks of all that I hold, one after the other: tell me the rest."""

    held: Annotated[bytes, Meta(max_length=MARK_BYTES * (BUNDLES_MAX + CLAIMS_MAX))]
    keys: Annotated[tuple[Mark, ...], Meta(max_length=RING_KEYS_MAX)]
    is_reply: bool = False
    """This answers yours, so that two who differ do not ask each other for ever."""


class RollNews(Message, frozen=True, tag="tn"):
    """Certificates, claims and pool keys; merged in this order."""

    bundles: Annotated[tuple[Bundle, ...], Meta(max_length=NEWS_BUNDLES_MAX)] = ()
    claims: Annotated[tuple[Signed, ...], Meta(max_length=NEWS_CLAIMS_MAX)] = ()
    keys: Annotated[tuple[RingKey, ...], Meta(max_length=RING_KEYS_MAX)] = ()
    serial: Count = 0
    """When not 0: say `taken` as soon as it is on disk."""

    def __repr__(self) -> str:
        """Without the keys, and without what nobody can read."""
        numbers = [ring_key.number for ring_key in self.keys]
        return (
            f"RollNews({len(self.bundles)} bundles, {len(self.claims)} claims, "
            f"keys {numbers}, serial={self.serial})"
        )


TrustMessage = RollDigest | RollHave | RollNews
