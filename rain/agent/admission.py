"""Who comes in and how this node stays in: gate, door, invitations, certificates; coupled here.

The parts know each other by small interfaces and the roll (node.trust); this file only puts them
together, for one pool, around one driver.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from rain.agent.address_book import AddressBook
from rain.agent.authority import CERTIFY, RENEW, Issuer, OwnCertificate, new_authority
from rain.agent.clock import now_unix_ms
from rain.agent.driver import Driver
from rain.agent.gatekeeper import Gatekeeper
from rain.agent.invites import Invites
from rain.claims import Claim, KeyPhase, KeyStep
from rain.effects import CertificateShown, ClaimMade
from rain.mesh import codec, keys
from rain.mesh.certificates import LIFE_S, make_inspect, recover_root
from rain.mesh.door import Door
from rain.mesh.envelope import POOL_KEY_BYTES
from rain.mesh.frames import EVIDENCE_BYTES_MAX
from rain.mesh.keys import EdSigner
from rain.mesh.pool import Pool
from rain.mesh.streams import Streams
from rain.mesh.tls import TlsIdentity
from rain.model import Address, MemberState, NodeId, Role

REVIEW_INTERVAL_S = 10.0
"""How soon a certificate that runs out ends the connections that it opened."""


class Admission:
    """Everything of one node that decides who may be here."""

    def __init__(
        self, folder: Path, pool: Pool, signer: EdSigner, driver: Driver, book: AddressBook
    ) -> None:
        self.pool = pool
        self.signer = signer
        self._folder = folder
        self._driver = driver
        self._book = book
        self._inspect = make_inspect(pool)
        self.tls = TlsIdentity(folder, pool)
        self.gatekeeper = Gatekeeper(self._inspect)
        self.gatekeeper.attach(driver.node)
        node_id, roll = driver.node.identity.node_id, driver.node.trust
        self._node_id = node_id
        self.issuer = Issuer(
            pool,
            node_id,
            roll,
            self.show,
            now_unix_ms,
            keys.load_authority(folder),
            keys.load_root(folder),
        )
        self.invites = Invites(node_id, pool.root_key, roll, self._claim, now_unix_ms)
        self.door = Door(
            self.invites, self.issuer, lambda: self.own.bundle, pool.root, keys.ed_verify
        )
        self.own = OwnCertificate(
            folder,
            pool,
            signer,
            self.tls.bundle,
            roll,
            self.issuer,
            self._call,
            self._admins,
            self._renewed,
            now_unix_ms,
        )
        self._streams: Streams | None = None

    def attach(self, streams: Streams) -> None:
        """The streams that serve and ask for certificates."""
        self._streams = streams
        streams.serve(CERTIFY, self.issuer.serve_certify)
        streams.serve(RENEW, self.issuer.serve_renew)

    def begin(self) -> None:
        """The first events of the roll: the own certificate, and a founder's first pool key."""
        trust = self._driver.node.trust
        self.show(self.own.bundle)
        alone = [each.node_id for each in trust.credentials()] == [self._node_id]
        if alone and not trust.ring().keys and trust.role(self._node_id) is Role.ADMIN:
            step = KeyStep(trust.next_key_number(), KeyPhase.INSTALL)
            key = secrets.token_bytes(POOL_KEY_BYTES)
            self._driver.feed(ClaimMade(step, now_unix_ms(), fresh_key=key))

    def show(self, bundle: bytes) -> None:
        """Let the roll know of a certificate."""
        self._driver.feed(CertificateShown(bundle))

    async def run(self) -> None:
        """Keep the own certificate fresh, and hang up on who is refused by now; for ever."""
        fresh = asyncio.create_task(self.own.keep_fresh())
        try:
            while True:
                await asyncio.sleep(REVIEW_INTERVAL_S)
                if fresh.done():
                    fresh.result()
                assert self._streams is not None, "attach() comes first"
                self._streams.review()
        finally:
            fresh.cancel()

    def evidence(self, bundle: bytes) -> bytes:
        """For a node that was removed while it was away: what removed it, signed."""
        credential = self._inspect(bundle)
        if credential is None:
            return b""
        news = self._driver.node.trust.evidence_against(credential.node_id)
        body = b"" if news is None else codec.encode(news)
        return body if len(body) <= EVIDENCE_BYTES_MAX else b""

    def recover(self, entropy: bytes) -> None:
        """Keep the root here and be an admin. MeshError when it is another pool's root."""
        root = recover_root(entropy, self.pool)
        own = self._driver.node.trust.credential(self._node_id)
        assert own is not None, "this node is in its pool"
        # As old as the root: what is recovered after a takeover by an evil admin is senior to it.
        authority = new_authority(root, self._node_id, own.generation, root.since_unix_s)
        bundle = authority.issue(
            own.public_key,
            name=own.name,
            role=Role.ADMIN,
            person=own.person,
            generation=own.generation,
            invite_id=own.invite_id,
            # The newest one counts, and what this node has may be of a clock that was ahead.
            now_unix_s=max(now_unix_ms() // 1_000, own.until_unix_s - LIFE_S + 1),
            joined_unix_s=own.joined_unix_s,
        )
        keys.keep_root(self._folder, root)
        keys.keep_authority(self._folder, authority)
        self.issuer.root, self.issuer.authority = root, authority
        self.show(bundle)

    def _claim(self, claim: Claim) -> None:
        self._driver.feed(ClaimMade(claim, now_unix_ms()))

    def _renewed(self, bundle: bytes) -> None:
        self.tls.reload()
        self.show(bundle)

    def _call(self, node_id: NodeId, verb: str, args: bytes) -> AsyncIterator[bytes]:
        assert self._streams is not None, "attach() comes first"
        return self._streams.call(node_id, verb, args)

    def _admins(self) -> list[tuple[NodeId, Address | None]]:
        """Whom to ask for certificates: those that are up first."""
        trust = self._driver.node.trust
        up = {
            member.record.node_id
            for member in self._driver.node.gossip.members()
            if member.record.state is MemberState.ALIVE
        }
        admins = [each.node_id for each in trust.credentials() if each.role is Role.ADMIN]
        admins.sort(key=lambda node_id: (node_id not in up, node_id))
        return [(node_id, self._book.find(node_id)) for node_id in admins]
