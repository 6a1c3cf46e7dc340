"""What this node issues, and how its own certificate stays fresh.

An admin issues with an authority of its own, whose certificate only the root can sign. The founder
keeps the root, and so does who recovered it by the phrase: a new admin asks the others for that
certificate until one of them has the root. A node renews its certificate at 50 to 80 % of its
life, drawn by the hash of the certificate, so that a pool does not renew all at once and a restart
changes nothing: by its own authority, else by a call to an admin, else at an admin's door, which
is open to a node that slept past its expiry too.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from hashlib import sha256
from pathlib import Path

from rain.claims import Invitation, Signer, node_id_of
from rain.mesh import keys
from rain.mesh.calls import CallError
from rain.mesh.certificates import (
    GENERATION_MAX,
    Authority,
    Root,
    make_inspect,
    new_private_key,
    public_key_of,
    reason_unshowable,
)
from rain.mesh.door import ROLL_BYTES_MAX, ROLL_MAX, Denied, Granted, Newcomer, PoolKey
from rain.mesh.errors import MeshError
from rain.mesh.newcomer import NotLetIn, doorstep
from rain.mesh.pool import Pool
from rain.model import Address, NodeId, Role
from rain.trust.credential import Credential
from rain.trust.views import Views

CERTIFY = "certify"
RENEW = "renew"
"""The verbs of the two stream calls."""
RENEW_FROM = 0.5
RENEW_UNTIL = 0.8
LOOK_INTERVAL_S = 60.0
RENEWAL_INTERVAL_S = 5.0
"""While a certificate is due: just after its start a node has nobody to ask yet."""
AUTHORITY_INTERVAL_S = 1.0
"""A new admin cannot let anybody in before it has met a keeper of the root: it asks this often."""
ASKED_MAX = 4
"""Admins asked at a time, by call or at the door."""
CALL_TIMEOUT_S = 5.0

Call = Callable[[NodeId, str, bytes], AsyncIterator[bytes]]
"""See Streams.call."""
CLAIM_BYTES_MAX = 1_024
"""More than any claim has when it is written."""


class Issuer:
    """Issues certificates where this node is an admin; denies everything where it is not."""

    def __init__(
        self,
        pool: Pool,
        node_id: NodeId,
        roll: Views,
        shown: Callable[[bytes], None],
        now_unix_ms: Callable[[], int],
        authority: Authority | None = None,
        root: Root | None = None,
    ) -> None:
        self._pool = pool
        self._node_id = node_id
        self._roll = roll
        self._shown = shown
        self._now_unix_ms = now_unix_ms
        self._inspect = make_inspect(pool)
        self.authority = authority
        self.root = root

    @property
    def is_ready(self) -> bool:
        """Whether this node can issue: it is an admin now, and its authority is of now."""
        own = self._roll.credential(self._node_id)
        if own is None or own.role is not Role.ADMIN or self.authority is None:
            return False
        return self.authority.generation == own.generation

    def admit(self, newcomer: Newcomer, invitation: Invitation) -> Granted | Denied:
        """See door.Issuing."""
        node_id = node_id_of(newcomer.public_key)
        if not self.is_ready:
            return Denied("not_admin")
        if node_id == self._node_id:
            return Denied("bad_proof")
        generation = self._roll.next_generation(node_id)
        # Another admin may have claimed what no certificate can say.
        if reason_unshowable(invitation.person) or generation > GENERATION_MAX:
            return Denied("unfit")
        assert self.authority is not None, "only who is ready issues"
        bundle = self.authority.issue(
            newcomer.public_key,
            name=newcomer.name,
            role=invitation.role,
            person=invitation.person,
            generation=generation,
            invite_id=invitation.invite_id,
            now_unix_s=self._now_unix_s(),
        )
        self._shown(bundle)
        return self._granted(bundle)

    def renew(self, bundle: bytes, public_key: bytes) -> Granted | Denied:
        """See door.Issuing: the same again, for who was not removed. Its age does not matter.

        One that has half its life before it stands: nobody has certificates issued by asking.
        """
        shown = self._inspect(bundle)
        if shown is None or shown.public_key != public_key:
            return Denied("unknown_node")
        refusal = self._roll.refusal(shown)
        if refusal:
            return Denied(refusal)
        # The roll may know a newer one (a role may have changed), or not yet know the one shown.
        known = self._roll.credential(shown.node_id) or shown
        if _age(known) > _age(shown):
            return self._renewed(known, self._roll.bundle(shown.node_id))
        return self._renewed(shown, bundle)

    def reissue(self, issuer_id: NodeId) -> tuple[NodeId, ...]:
        """Issue anew what that admin has issued: before it is removed, and all that with it."""
        if not self.is_ready:
            return ()
        found = [each for each in self._roll.issued_by(issuer_id) if each.node_id != issuer_id]
        for each in found:
            self._again(each)
        return tuple(each.node_id for each in found)

    def certify(self, sender: NodeId, ca_public_key: bytes) -> bytes:
        """The certificate of that admin's authority. CallError when there is none to give."""
        if self.root is None:
            raise CallError("this node does not keep the root")
        credential = self._roll.credential(sender)
        if credential is None or credential.role is not Role.ADMIN:
            raise CallError("only an admin gets an authority")
        if len(ca_public_key) != len(credential.public_key):
            raise CallError("that is no public key")
        if ca_public_key == credential.public_key:
            raise CallError("an authority needs a key of its own")
        return self.root.certify(ca_public_key, sender, credential.generation, self._now_unix_s())

    async def serve_certify(self, sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
        """The verb `certify`: a public key -> a certificate (DER)."""
        yield self.certify(sender, args)

    async def serve_renew(self, sender: NodeId, args: bytes) -> AsyncIterator[bytes]:
        """The verb `renew`: nothing -> a bundle."""
        credential = self._roll.credential(sender)
        if credential is None:
            raise CallError("unknown_node")
        answer = self._renewed(credential, self._roll.bundle(sender))
        if isinstance(answer, Denied):
            raise CallError(answer.reason)
        yield answer.bundle

    def again(self) -> bytes | None:
        """This node's own certificate anew; None where it cannot issue."""
        own = self._roll.credential(self._node_id)
        return self._again(own) if own is not None and self.is_ready else None

    def _renewed(self, credential: Credential, bundle: bytes | None) -> Granted | Denied:
        """Anew, unless what there is will do; whoever had to go has been denied already."""
        if not self.is_ready:
            return Denied("not_admin")
        life_s = credential.until_unix_s - credential.since_unix_s
        is_young = self._now_unix_s() < credential.since_unix_s + int(life_s * RENEW_FROM)
        if bundle is None or not is_young:
            bundle = self._again(credential)
        else:
            self._shown(bundle)
        return self._granted(bundle)

    def _again(self, credential: Credential) -> bytes:
        assert self.authority is not None, "only who is ready issues"
        bundle = _issued(self.authority, credential, self._now_unix_s())
        self._shown(bundle)
        return bundle

    def _granted(self, bundle: bytes) -> Granted:
        ring = self._roll.ring()
        bundles, claims, left = [], [], ROLL_BYTES_MAX
        admins = [each for each in self._roll.credentials() if each.role is Role.ADMIN]
        first = [kept for each in admins if (kept := self._roll.bundle(each.node_id))]
        for kept in list(dict.fromkeys((*first, *self._roll.bundles())))[:ROLL_MAX]:
            left -= len(kept)
            if left > 0:
                bundles.append(kept)
        newest_first = self._roll.claims()[::-1]
        for signed in newest_first[:ROLL_MAX]:
            left -= CLAIM_BYTES_MAX
            if left > 0:
                claims.append(signed)
        return Granted(
            root=self._pool.root,
            bundle=bundle,
            keys=tuple(PoolKey(number, key) for number, key in sorted(ring.keys.items())),
            use=ring.use,
            bundles=tuple(bundles),
            claims=tuple(claims),
            unix_ms=self._now_unix_ms(),
        )

    def _now_unix_s(self) -> int:
        return self._now_unix_ms() // 1_000


class OwnCertificate:
    """This node's certificate: kept on disk, taken from the roll, renewed in time."""

    def __init__(
        self,
        folder: Path,
        pool: Pool,
        signer: Signer,
        bundle: bytes,
        roll: Views,
        issuer: Issuer,
        call: Call,
        admins: Callable[[], Iterable[tuple[NodeId, Address | None]]],
        changed: Callable[[bytes], None],
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._folder = folder
        self._pool = pool
        self._signer = signer
        self._node_id = node_id_of(signer.public_key)
        self._inspect = make_inspect(pool)
        self._roll = roll
        self._issuer = issuer
        self._call = call
        self._admins = admins
        self._changed = changed
        self._now_unix_ms = now_unix_ms
        self._bundle = bundle

    @property
    def bundle(self) -> bytes:
        """The one to show."""
        return self._bundle

    async def keep_fresh(self) -> None:
        """Until cancelled."""
        while True:
            # A disk that is full now is told of elsewhere; the next look tries again.
            with contextlib.suppress(MeshError):
                await self.look()
            await asyncio.sleep(self._rest_s())

    async def look(self) -> None:
        """Take what the roll has for this node, then ask for what is missing or nearly over."""
        on_roll = self._roll.bundle(self._node_id)
        if on_roll is not None:
            self._take(on_roll)
        own = self._roll.credential(self._node_id)
        if own is not None and self._lacks_authority():
            await self._ask_for_authority(own)
        if self._is_due():
            await self._renew()

    def _rest_s(self) -> float:
        if self._lacks_authority():
            return AUTHORITY_INTERVAL_S
        return RENEWAL_INTERVAL_S if self._is_due() else LOOK_INTERVAL_S

    def _is_due(self) -> bool:
        return self._now_unix_ms() // 1_000 >= renew_at_unix_s(self._own(), self._bundle)

    def _lacks_authority(self) -> bool:
        own = self._roll.credential(self._node_id)
        return own is not None and own.role is Role.ADMIN and not self._issuer.is_ready

    async def _renew(self) -> None:
        fresh = self._issuer.again() or await self._renewed_by_call()
        fresh = fresh or await self._renewed_at_a_door()
        if fresh is not None:
            self._take(fresh)

    async def _renewed_by_call(self) -> bytes | None:
        for node_id, _ in self._asked():
            answer = await self._answer_of(node_id, RENEW, b"")
            if answer is not None and self._is_own(answer):
                return answer
        return None

    async def _renewed_at_a_door(self) -> bytes | None:
        for _, address in self._asked():
            if address is None:
                continue
            with contextlib.suppress(NotLetIn):
                granted = await renew_at_door(
                    address, self._pool, self._bundle, self._signer, self._is_trusted
                )
                return granted.bundle
        return None

    async def _ask_for_authority(self, own: Credential) -> None:
        root = self._issuer.root
        if root is not None:
            now_unix_s = self._now_unix_ms() // 1_000
            authority = new_authority(root, self._node_id, own.generation, now_unix_s)
            return self._take_authority(authority)
        private_key = new_private_key()
        ca_public_key = public_key_of(private_key)
        for node_id, _ in self._asked():
            answer = await self._answer_of(node_id, CERTIFY, ca_public_key)
            certified = self._authority_of(private_key, answer) if answer is not None else None
            if certified is not None:
                return self._take_authority(certified)
        return None

    def _authority_of(self, private_key: bytes, certificate: bytes) -> Authority | None:
        """Whether that is what was asked for shows in what can be issued with it."""
        try:
            authority = Authority(private_key, certificate)
        except (ValueError, KeyError, AssertionError):  # no certificate, or another key's
            return None
        own = self._own()
        trial = _issued(authority, own, self._now_unix_ms() // 1_000)
        issued = self._inspect(trial)
        if issued is None or issued.issuer_id != self._node_id:
            return None
        return authority if issued.issuer_generation == own.generation else None

    def _take_authority(self, authority: Authority) -> None:
        keys.keep_authority(self._folder, authority)
        self._issuer.authority = authority
        # An admin's seniority is told by a certificate that it issued for itself.
        fresh = self._issuer.again()
        if fresh is not None:
            self._take(fresh)

    async def _answer_of(self, node_id: NodeId, verb: str, args: bytes) -> bytes | None:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                pieces = [piece async for piece in self._call(node_id, verb, args)]
        except (CallError, TimeoutError):
            return None  # the next one may have it; the next look asks again
        return b"".join(pieces)

    def _asked(self) -> list[tuple[NodeId, Address | None]]:
        others = [each for each in self._admins() if each[0] != self._node_id]
        return others[:ASKED_MAX]

    def _is_trusted(self, credential: Credential) -> bool:
        return not self._roll.refusal(credential)

    def _is_own(self, bundle: bytes) -> bool:
        credential = self._inspect(bundle)
        return credential is not None and credential.public_key == self._signer.public_key

    def _own(self) -> Credential:
        credential = self._inspect(self._bundle)
        assert credential is not None, "a node's own certificate leads to its pool's root"
        return credential

    def _take(self, bundle: bytes) -> None:
        """Use it from now on, if it is newer than the one in use."""
        fresh = self._inspect(bundle)
        if fresh is None or not self._is_own(bundle) or _age(fresh) <= _age(self._own()):
            return
        keys.keep_certificate(self._folder, bundle)
        self._bundle = bundle
        self._changed(bundle)


def new_authority(root: Root, node_id: NodeId, generation: int, now_unix_s: int) -> Authority:
    """An authority for that admin, of a fresh key, by who keeps the root."""
    private_key = new_private_key()
    certificate = root.certify(public_key_of(private_key), node_id, generation, now_unix_s)
    return Authority(private_key, certificate)


async def renew_at_door(
    address: Address,
    pool: Pool,
    bundle: bytes,
    signer: Signer,
    is_trusted: Callable[[Credential], bool],
) -> Granted:
    """A fresh certificate from that admin's door. Raises NotLetIn."""
    async with doorstep(address) as door:
        return await door.renew(pool, bundle, signer, is_trusted)


def renew_at_unix_s(credential: Credential, bundle: bytes) -> int:
    """When to ask for the next certificate: for this one always the same instant."""
    share = int.from_bytes(sha256(bundle).digest()[:4], "big") / 2**32
    life_s = credential.until_unix_s - credential.since_unix_s
    return credential.since_unix_s + int(life_s * (RENEW_FROM + (RENEW_UNTIL - RENEW_FROM) * share))


def _issued(authority: Authority, credential: Credential, now_unix_s: int) -> bytes:
    """The same certificate anew."""
    return authority.issue(
        credential.public_key,
        name=credential.name,
        role=credential.role,
        person=credential.person,
        generation=credential.generation,
        invite_id=credential.invite_id,
        now_unix_s=now_unix_s,
        joined_unix_s=credential.joined_unix_s,
    )


def _age(credential: Credential) -> tuple[int, int, int]:
    return credential.generation, credential.until_unix_s, credential.serial
