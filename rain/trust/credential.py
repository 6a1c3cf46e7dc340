"""What a certificate says, once somebody who can read certificates has verified it.

The core knows certificates as bytes (`bundle`: the node's certificate and that of the admin who
issued it) and reads them through a function it is given, so that the simulator can do without
X.509.
"""

from collections.abc import Callable

from rain.model import NodeId, Role, Value


class Credential(Value, frozen=True):
    """Who may be here. True as far as the root of the pool can say; removals are another matter."""

    node_id: NodeId
    public_key: bytes
    name: str
    role: Role
    person: str
    generation: int
    """1 at first; a node that was removed and is let in again gets a higher one."""
    serial: int
    issuer_id: NodeId
    """The admin who issued it."""
    issuer_generation: int
    issuer_since_unix_s: int
    """When the root made that admin one: the seniority of admins."""
    since_unix_s: int
    until_unix_s: int
    invite_id: str = ""
    """The invitation that it came by; empty for the founder."""
    joined_unix_s: int = 0
    """When the node was let in; a renewal does not change it."""


Inspect = Callable[[bytes], Credential | None]
"""Verify a bundle up to the root of this pool, whatever the time is; None: it does not lead there.

Pure and deterministic; the core remembers the answer."""
