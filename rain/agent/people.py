"""The verbs about who may be in the pool: invite, kick, members, recover."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable

from rain.agent.admission import Admission
from rain.agent.claiming import state
from rain.agent.clock import now_unix_ms
from rain.agent.control import End, Item, Json, Verb, VerbError
from rain.agent.driver import Driver
from rain.agent.invites import CODE_TTL_S, TOKEN_TTL_S, OpenCode
from rain.agent.records import events
from rain.agent.rights import admins_pc
from rain.claims import Removal
from rain.effects import ClaimMade
from rain.mesh.envelope import POOL_KEY_BYTES
from rain.mesh.errors import MeshError
from rain.mesh.phrase import entropy_of
from rain.model import REASON_CHARS_MAX, MemberState, NodeId, Role
from rain.sched.civil import rfc3339
from rain.trust.credential import Credential

TOKEN_USES = 32
"""So many PCs a token lets in unless its maker says otherwise."""
KEY_WAIT_S = 3.0
POLL_MS = 50
ROLES = {role.name.lower(): role for role in Role}


class People:
    """What an admin does, and what everybody may look at."""

    def __init__(
        self, driver: Driver, admission: Admission, next_request: Callable[[], int]
    ) -> None:
        self._driver = driver
        self._admission = admission
        self._next_request = next_request
        self._node_id = driver.node.identity.node_id

    def by_name(self) -> dict[str, Verb]:
        return {
            "invite": self.invite,
            "kick": self.kick,
            "members": self.members,
            "recover": self.recover,
        }

    # --- invite ----------------------------------------------------------------------------------

    async def invite(self, args: Json) -> AsyncIterator[Item | End]:
        """The code or token; then, with `watch`, what becomes of the code."""
        role = ROLES.get(str(args.get("role") or "member"))
        if role is None:
            raise VerbError("usage", "there is no such role", "worker, member or admin", 2)
        self._refuse_unless_admin()
        if not self._admission.issuer.is_ready:
            message = "this PC is an admin, but has not met the keeper of the pool's root yet"
            hint = "switch the founder's PC on, or bring the root here: rain recover"
            raise VerbError("failed", message, hint, 1)
        person, ttl_s = str(args.get("person") or ""), int(args.get("ttl_ms") or 0) // 1_000
        invites = self._admission.invites
        try:
            if args.get("token"):
                uses = int(args.get("uses") or TOKEN_USES)
                token, invitation = invites.open_token(
                    role=role, person=person, uses=uses, ttl_s=ttl_s or TOKEN_TTL_S
                )
                yield Item({"token": token, "uses": uses, **self._terms(role, invitation.person,
                    invitation.until_unix_s)})  # fmt: skip
                yield End({})
                return
            code = invites.open_code(role=role, person=person, ttl_s=ttl_s or CODE_TTL_S)
        except MeshError as error:
            raise VerbError("failed", error.message, error.hint, 1) from error
        terms = self._terms(role, code.invitation.person, code.invitation.until_unix_s)
        yield Item({"code": code.code.text, **terms})
        if args.get("watch"):
            async for item in self._watched(code):
                yield item
        yield End({})

    def _terms(self, role: Role, person: str, until_unix_s: int) -> Json:
        return {
            "pool": self._admission.pool.name,
            "role": role.name.lower(),
            "person": person,
            "until": rfc3339(until_unix_s * 1_000),
        }

    async def _watched(self, code: OpenCode) -> AsyncIterator[Item]:
        async for news in self._admission.invites.watch(code):
            match news.kind:
                case "wrong":
                    told = {"event": "wrong", "name": news.name, "left": news.tries_left}
                case "used":
                    told = {"event": "joined", "name": news.name}
                case over:
                    told = {"event": "over", "reason": over}
            yield Item(told)

    # --- kick ------------------------------------------------------------------------------------

    async def kick(self, args: Json) -> AsyncIterator[Item | End]:
        """Remove a node: its certificates, its connections, its key.

        Admins that it let in fall with it; others that it let in are confirmed by this PC and
        named, unless nobody of them is to be kept.
        """
        trust = self._driver.node.trust
        if not trust.is_overruled(self._node_id):
            self._refuse_unless_admin()
        target = self._find(str(args.get("node") or ""))
        if target.node_id == self._node_id:
            raise VerbError("usage", "that is this PC itself", "to go: rain leave", 2)
        admins, others = self._let_in_by(target)
        self._refuse_unless_confirming((target, *admins))
        # Those that fall are confirmed as well, in a generation that is over at once: so what they
        # have said goes on to count, and whom they removed stays out.
        for each in (target, *admins):
            self._admission.issuer.reissue(each.node_id)
        reason = str(args.get("reason") or "")[:REASON_CHARS_MAX]
        for each in (*admins, *others) if args.get("with_invited") else admins:
            why = (reason or f"let in by {target.name}")[:REASON_CHARS_MAX]
            removal = Removal(each.node_id, 0, reason=why)
            fresh_key = secrets.token_bytes(POOL_KEY_BYTES)
            self._driver.feed(ClaimMade(removal, now_unix_ms(), fresh_key=fresh_key))
        answer = await state(
            self._driver,
            self._next_request,
            Removal(target.node_id, 0, reason=reason),
            secrets.token_bytes(POOL_KEY_BYTES),
        )
        withdrawn = self._admission.invites.withdraw_of(target)
        await self._key_spread()
        kept = [each for each in (*admins, *others) if trust.credential(each.node_id) is not None]
        yield End(
            {
                "id": target.node_id,
                "name": target.name,
                "told": answer.copies,
                "key": self.key(),
                "kept": [each.name for each in kept],
                "fallen": [each.name for each in (*admins, *others) if each not in kept],
                "withdrawn": withdrawn,
                "warnings": self._after_removal(target),
            }
        )

    def _let_in_by(self, target: Credential) -> tuple[list[Credential], list[Credential]]:
        """The admins that it let in, and those that these did; and all others that they did."""
        trust, apart = self._driver.node.trust, (target.node_id, self._node_id)
        admins: dict[NodeId, Credential] = {}
        while True:
            found = trust.let_in_by({target.node_id, *admins})
            found = [each for each in found if each.node_id not in apart]
            more = {each.node_id: each for each in found if each.role is Role.ADMIN}
            if not more:
                return list(admins.values()), found
            admins |= more

    def _refuse_unless_confirming(self, falling: Iterable[Credential]) -> None:
        """Who is overruled confirms nobody, but is not to be held up by that."""
        trust, issuer = self._driver.node.trust, self._admission.issuer
        if issuer.is_ready or trust.is_overruled(self._node_id):
            return
        for each in falling:
            if trust.issued_by(each.node_id):
                message = f"{each.name} has let others in, and this PC cannot confirm them yet"
                hint = "try again on an admin's PC that can reach the keeper of the root"
                raise VerbError("failed", message, hint, 1)

    def _after_removal(self, target: Credential) -> list[str]:
        if target.issuer_id != target.node_id or target.invite_id:
            return []
        return [
            f"{target.name} founded the pool, so its PC has the root key: if its owner is hostile, "
            "found a new pool (docs/security.md)"
        ]

    async def _key_spread(self) -> None:
        """Until everybody that is up has the new key, or long enough."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + KEY_WAIT_S
        while loop.time() < deadline_s:
            have, of = self._driver.node.trust.ring().progress()
            if have >= of:
                return
            await self._driver.wait_change(POLL_MS)

    def _refuse_unless_admin(self) -> None:
        trust = self._driver.node.trust
        if trust.role(self._node_id) is not Role.ADMIN:
            raise VerbError("failed", "this PC is no admin of the pool", admins_pc(trust), 1)

    def _find(self, words: str) -> Credential:
        """The member of that name, id or beginning of an id."""
        trust = self._driver.node.trust
        credentials = trust.credentials()
        found = [each for each in credentials if words in (each.name, each.node_id)]
        if not found and words:
            found = [each for each in credentials if each.node_id.startswith(words)]
        if not found:
            # What an admin issued that has left goes on to count, until it is removed as well.
            gone = [each for each in trust.ever_known() if trust.refusal(each) == "left"]
            found = [each for each in gone if words in (each.name, each.node_id)]
        if len(found) > 1:
            ids = ", ".join(each.node_id for each in found[:5])
            message = f"{words!r} could be {ids}"
            raise VerbError("ambiguous", message, "name it by its id: rain members --json", 2)
        if not found:
            message = f"no member is called {words!r}"
            raise VerbError("not_found", message, "see who is in: rain members", 5)
        return found[0]

    # --- members ---------------------------------------------------------------------------------

    async def members(self, args: Json) -> AsyncIterator[Item | End]:
        """Who may be here; with `events`, what their signed records tell."""
        node = self._driver.node
        if args.get("events"):
            yield End({"events": events(node.trust, node.sched.table)})
            return
        names = {each.node_id: each.name for each in node.trust.ever_known()}
        states = {
            member.record.node_id: member.record.state.name.lower()
            for member in node.gossip.members()
        }
        rows = [
            self._member(each, names, states.get(each.node_id, MemberState.DEAD.name.lower()))
            for each in node.trust.credentials()
        ]
        removed = [
            {
                "id": node_id,
                "name": names.get(node_id, node_id),
                "by": names.get(author, author),
                "at": rfc3339(at_unix_ms),
                "reason": removal.reason,
            }
            for node_id, (removal, author, at_unix_ms) in sorted(node.trust.removals().items())
        ]
        yield End({"members": rows, "removed": removed, "key": self.key()})

    def _member(self, credential: Credential, names: dict[NodeId, str], state: str) -> Json:
        is_founder = credential.issuer_id == credential.node_id and not credential.invite_id
        issuer_id = self._driver.node.trust.inviter(credential)
        return {
            "id": credential.node_id,
            "name": credential.name,
            "role": credential.role.name.lower(),
            "person": credential.person,
            "state": state,
            "since": rfc3339(credential.joined_unix_s * 1_000),
            "until": rfc3339(credential.until_unix_s * 1_000),
            "invited_by": "" if is_founder else names.get(issuer_id, issuer_id),
        }

    def key(self) -> Json:
        """The pool key in the making or in use, and with how many of those that are up it is."""
        ring = self._driver.node.trust.ring()
        have, of = ring.progress()
        return {"number": max(ring.keys, default=0), "have": have, "of": of}

    # --- recover ---------------------------------------------------------------------------------

    async def recover(self, args: Json) -> AsyncIterator[Item | End]:
        if self._driver.node.trust.credential(self._node_id) is None:
            message = "this PC may not be in the pool now, so it cannot become an admin of it"
            raise VerbError("failed", message, "see why: rain status", 1)
        try:
            self._admission.recover(entropy_of(str(args.get("phrase") or "")))
        except MeshError as error:
            raise VerbError("failed", error.message, error.hint, 1) from error
        identity = self._driver.node.identity
        yield End({"id": identity.node_id, "name": identity.name,
            "pool": self._admission.pool.name})  # fmt: skip
