"""What of the roll and of the pool keys is kept on disk."""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from rain.claims import Signed
from rain.effects import Record
from rain.model import Count
from rain.trust.content import mark_of_bundle, mark_of_claim
from rain.trust.messages import RING_KEYS_MAX, Bundle, RingKey


class BundleRow(Record, frozen=True, tag="tb"):
    bundle: Bundle

    def key(self) -> str:
        return f"trust/bundle/{mark_of_bundle(self.bundle).hex()}"


class ClaimRow(Record, frozen=True, tag="tc"):
    signed: Signed

    def key(self) -> str:
        return f"trust/claim/{mark_of_claim(self.signed).hex()}"


class RingRow(Record, frozen=True, tag="tr"):
    """The pool keys of this node, replaced as a whole."""

    keys: Annotated[tuple[RingKey, ...], Meta(max_length=RING_KEYS_MAX)]
    use: Count = 0
    """0: as the claims say."""
    spent: Annotated[tuple[Count, ...], Meta(max_length=RING_KEYS_MAX)] = ()
    """Numbers that this node has sealed with or passed over, and never will again."""

    def key(self) -> str:
        return "trust/ring"

    def __repr__(self) -> str:
        """Without the keys: what is printed may come into a log."""
        return f"RingRow({list(self.keys)}, use={self.use}, spent={list(self.spent)})"


TrustRecord = BundleRow | ClaimRow | RingRow


def rows_of(
    bundles: Iterable[bytes], claims: Iterable[Signed], keys: Iterable[tuple[int, bytes]]
) -> tuple[TrustRecord, ...]:
    """What a node that was just let in writes to its store, before its first start."""
    ring = RingRow(tuple(RingKey(number, key) for number, key in sorted(keys)))
    return (
        *(BundleRow(bundle) for bundle in bundles),
        *(ClaimRow(signed) for signed in claims),
        ring,
    )
