"""Looks after this node's own standing: removed, doubled, refused; and counts what was refused.

Nothing here decides about others. Where this node itself has no business going on, the agent ends
with words that say why and what to do.
"""

import asyncio
from collections.abc import Mapping

from rain.agent.admission import Admission
from rain.agent.doubles import Doubles
from rain.agent.driver import Driver
from rain.mesh.envelope import Envelope
from rain.mesh.streams import Streams
from rain.mesh.transport import Transport

LOOK_INTERVAL_S = 0.5
OUTLIVED_LOOKS = 40
"""So many looks a later life of this PC may still turn out to be that of a copy: twenty seconds."""
NOT_IN_POOL = 4
EXIT_FAILED = 1


class Expelled(Exception):
    """Why this agent may not go on; `hint` says what to type next."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class Watch:
    """One agent's eye on itself."""

    def __init__(
        self,
        driver: Driver,
        admission: Admission,
        envelope: Envelope,
        transport: Transport,
        streams: Streams,
        doubles: Doubles,
    ) -> None:
        self._doubles = doubles
        self._driver = driver
        self._admission = admission
        self._envelope = envelope
        self._transport = transport
        self._streams = streams
        self._node_id = driver.node.identity.node_id
        self._outlived_looks = 0

    async def run(self) -> None:
        """Until this node may not go on; then raises Expelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            self._look()

    def _look(self) -> None:
        boot_epoch = self._driver.node.identity.boot_epoch
        other = self._envelope.clone_epoch
        if self._doubles.is_proven or (other is not None and other >= boot_epoch):
            raise Expelled(
                "another PC has started with this PC's identity: the data folder was copied",
                "go on with one of the two; on the other: rain leave, then join as a new PC.\n"
                "If nobody here copied it, somebody has: on an admin's PC rain kick this PC",
                EXIT_FAILED,
            )
        self._look_back(boot_epoch)
        trust = self._driver.node.trust
        removal = trust.removals().get(self._node_id)
        known = trust.known(self._node_id)
        # Who has come back since that removal may have fallen with whoever let it in anew.
        is_removed = known is None or trust.refusal(known) == "removed"
        if removal is not None and is_removed and not trust.is_overruled(self._node_id):
            claim, author, _ = removal
            by = trust.known(author)
            reason = f": {claim.reason}" if claim.reason else ""
            raise Expelled(
                f"this PC was removed from pool {self._admission.pool.name!r} "
                f"by {by.name if by is not None else author}{reason}",
                "to come back: rain leave, then join with a new invitation",
                NOT_IN_POOL,
            )

    def _look_back(self, boot_epoch: int) -> None:
        """Members remember a later start of this PC, and no copy of it is alive: then its disk is
        an old one and its clock is wrong, and they take nothing from it until it starts above."""
        if self._driver.node.gossip.outlived_by() <= boot_epoch:
            return
        self._outlived_looks += 1
        if self._outlived_looks >= OUTLIVED_LOOKS:
            raise Expelled(
                "this PC's disk is older than what the pool knows of it, and its clock is behind",
                "set the clock, then: rain up. Its jobs come back from the pool's other PCs",
                EXIT_FAILED,
            )

    def warnings(self) -> list[str]:
        """What others say of this node that its person should know."""
        told = self._standing_told()
        if self._envelope.clone_epoch is not None or self._envelope.superseded_by:
            told.append(
                "another PC uses this PC's identity: its data folder is a copy; rain leave there"
            )
        for node_id, reason in sorted(self._streams.refusals.items()):
            known = self._driver.node.trust.known(node_id)
            name = known.name if known is not None else node_id
            told.append(f"{name} refuses this PC: {reason}")
        return told

    def _standing_told(self) -> list[str]:
        """Why this node may not be in the pool just now, though it need not end."""
        trust = self._driver.node.trust
        known = trust.known(self._node_id)
        refusal = trust.refusal(known) if known is not None else ""
        if trust.is_overruled(self._node_id):
            _, author, _ = trust.removals()[self._node_id]
            by = trust.known(author)
            name = by.name if by is not None else author
            return [
                f"{name} has removed this PC, which is the senior admin: nobody takes its word "
                f"for anything else until it removes {name} (rain kick {name}); "
                "to agree with it: rain leave"
            ]
        if refusal == "issuer_removed":
            return [
                "the admin who let this PC in was removed, so the pool refuses it; if another "
                "admin confirms it, it comes back by itself; else: rain leave, then join with a "
                "new invitation"
            ]
        return []

    def refused(self) -> dict[str, Mapping[str, int]]:
        """What was refused so far, by where and why."""
        messages = dict(self._driver.dropped)
        for (_, kind), times in self._driver.node.refused.items():
            messages[kind] = messages.get(kind, 0) + times
        node = self._driver.node
        return {
            "packets": {**self._transport.dropped, **self._envelope.dropped},
            "streams": dict(self._streams.dropped),
            "door": dict(self._admission.door.dropped),
            "messages": messages,
            "claims": {
                **node.trust.dropped,
                **node.gossip.dropped,
                **node.election.dropped,
                **node.sched.dropped_by_reason(),
            },
        }
