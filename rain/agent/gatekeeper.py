"""Who is let in on packets and streams: what the roll says, and what the clock says.

The roll (rain/trust) knows no clock, so expiry is judged here. A certificate that has expired is
refused while an admin is to be had, since it can be renewed within a second. While none is, the
members go on among each other for GRACE_S: a pool does not stop because its only admin is on
holiday with his PC. Removal has no grace.

A certificate that begins in the future is as good as any. To refuse it would protect nothing, as
whoever has an authority can date back; and it would lock out an admin whose clock was once ahead,
for as long as that: later certificates of that node are older by their end, so they lose.

An admin whom a junior one has removed is let in on streams (not on packets), as the last word may
be its own: the node reads its news of the roll there and nothing else, and each verb asks for
itself who may call it.
"""

from collections.abc import Callable

from rain.agent.clock import now_unix_ms
from rain.model import MemberState, NodeId, Role
from rain.node import Node
from rain.trust.credential import Credential, Inspect

GRACE_S = 90 * 24 * 3_600
"""How long after its end a certificate still counts while no admin is to be had."""


class Gatekeeper:
    """Says of each packet's sender and each stream's certificate why it is refused, if it is."""

    def __init__(self, inspect: Inspect, now_unix_ms: Callable[[], int] = now_unix_ms) -> None:
        self._inspect = inspect
        self._now_unix_ms = now_unix_ms
        self._node: Node | None = None

    def attach(self, node: Node) -> None:
        """From now on the roll of this node counts; before, nobody is let in."""
        self._node = node

    def admit(self, bundle: bytes) -> Credential | str:
        """What a peer on a stream has to show; or why it is refused, in a word."""
        credential = self._inspect(bundle)
        if credential is None:
            return "stranger"
        if self._node is None:
            return "not_ready"
        trust = self._node.trust
        refusal = trust.refusal(credential)
        if refusal == "removed" and trust.is_overruled(credential.node_id):
            refusal = ""
        return refusal or self._refusal_by_clock(credential) or credential

    def refusal_of(self, node_id: NodeId) -> str:
        """Why a packet of that sender counts for nothing; '' when it counts."""
        if self._node is None:
            return "not_ready"
        credential = self._node.trust.credential(node_id)
        if credential is None:
            return "not_a_member"
        return self._refusal_by_clock(credential)

    def _refusal_by_clock(self, credential: Credential) -> str:
        now_s = self._now_unix_ms() // 1_000
        if now_s <= credential.until_unix_s:
            return ""
        if now_s > credential.until_unix_s + GRACE_S or self.is_admin_there():
            return "expired"
        return ""

    def is_admin_there(self) -> bool:
        """Could an expired certificate be renewed now, here or at somebody who is up?"""
        assert self._node is not None, "attach() comes first"
        now_s = self._now_unix_ms() // 1_000
        for member in self._node.gossip.members():
            if member.record.state is MemberState.ALIVE:
                credential = self._node.trust.credential(member.record.node_id)
                if (
                    credential is not None
                    and credential.role is Role.ADMIN
                    and now_s <= credential.until_unix_s
                ):
                    return True
        return False
