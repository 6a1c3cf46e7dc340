"""Is another agent alive that has this node's key? Who is told so wants to see it signed.

A clone that can be heard proves itself to the envelope. Where packets do not reach (a network
without broadcast, two of them), members say that a newer boot of this node is there; but a
member's word alone must not end an agent. So this node asks a member for the record that it
holds: a claim of a newer boot, signed with this node's own key, that this agent never made.
"""

import asyncio
from collections.abc import AsyncIterator

from rain.agent.driver import Driver
from rain.claims import Verify
from rain.gossip.messages import MemberRecord
from rain.gossip.proofs import member_content
from rain.mesh.codec import Rejected, by_tag, pack, unpack
from rain.mesh.envelope import Envelope
from rain.mesh.streams import CallError, Streams
from rain.model import MemberState, NodeId, Value

RECORD_VERB = "record"
ASK_INTERVAL_S = 5.0
ASKED_MAX = 3
ALIVE_LOOKS = 3
"""So often in a row it must be shown alive: an earlier life of this very PC, whose disk was set
back, is believed to be alive too until its probes have failed."""
CALL_TIMEOUT_S = 3.0


class Held(Value, frozen=True, tag="r"):
    """What a member holds of who asks."""

    record: MemberRecord


_HELD = by_tag((Held,))


class Doubles:
    """Finds out whether this node is doubled, once somebody says so."""

    def __init__(
        self,
        driver: Driver,
        streams: Streams,
        envelope: Envelope,
        public_key: bytes,
        verify: Verify,
    ) -> None:
        self._driver = driver
        self._streams = streams
        self._envelope = envelope
        self._public_key = public_key
        self._verify = verify
        self._identity = driver.node.identity
        self.is_proven = False
        self._alive_looks = 0
        streams.serve(RECORD_VERB, self._serve)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(ASK_INTERVAL_S)
            is_told = self._envelope.superseded_by > self._identity.boot_epoch
            if is_told and not self.is_proven:
                await self._ask()

    async def _ask(self) -> None:
        for node_id in self._others()[:ASKED_MAX]:
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    pieces = [p async for p in self._streams.call(node_id, RECORD_VERB, b"")]
            except (CallError, TimeoutError):
                continue
            held = unpack(b"".join(pieces), _HELD)
            if not isinstance(held, Rejected) and self._is_of_a_double(held.record):
                self._alive_looks += 1
                self.is_proven = self._alive_looks >= ALIVE_LOOKS
                return
        self._alive_looks = 0

    def _is_of_a_double(self, record: MemberRecord) -> bool:
        return (
            record.node_id == self._identity.node_id
            and record.boot_epoch > self._identity.boot_epoch
            and record.state is MemberState.ALIVE
            and self._verify(self._public_key, record.signature, member_content(record))
        )

    def _others(self) -> list[NodeId]:
        """Members to ask, those first that are up as far as is known."""
        members = [
            member.record
            for member in self._driver.node.gossip.members()
            if member.record.node_id != self._identity.node_id
        ]
        members.sort(key=lambda record: record.state is not MemberState.ALIVE)
        return [record.node_id for record in members]

    async def _serve(self, sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
        for member in self._driver.node.gossip.members():
            if member.record.node_id == sender:
                yield pack(Held(member.record))
