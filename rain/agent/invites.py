"""The invitations of this pool: made here, tried at the door, told to who waits.

A token is an invitation on the roll, so any admin can honour it. A code is one too, but its words
are in the memory of the PC that made it, and nowhere else: it is open for ten minutes, for one PC,
and for three tries. A try is counted when an exchange begins, and one exchange at a time has the
code; so wrong tries side by side, on whatever connections, count like wrong tries in a row.
"""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable
from enum import StrEnum

from rain.agent.control import Json
from rain.agent.rights import admins_pc
from rain.claims import Claim, Invitation, Withdrawal, node_id_of
from rain.mesh.certificates import reason_unshowable
from rain.mesh.codes import TRIES_MAX, Code, draw_code
from rain.mesh.door import Denied, Newcomer
from rain.mesh.errors import MeshError
from rain.mesh.token import (
    INVITE_ID_CHARS,
    SEED_BYTES,
    encode_token,
    invite_id_of,
    new_token,
)
from rain.model import NodeId, Role, Value
from rain.trust.credential import Credential
from rain.trust.views import Views

CODE_TTL_S = 600
CODES_MAX = 16
"""Open at a time on this PC."""
CODES_KEPT = 64
"""Of those that are over, to say why a late try is refused."""
TOKEN_TTL_S = 24 * 3_600
TTL_S_MAX = 365 * 24 * 3_600
USES_MAX = 1_000
NEWS_MAX = 64
"""Of one code; it has three tries and one end."""


class State(StrEnum):
    """How it stands with an invitation."""

    OPEN = "open"
    USED = "used"
    EXPIRED = "expired"
    BURNT = "burnt"
    WITHDRAWN = "withdrawn"


class News(Value, frozen=True):
    """What happened to a code: `wrong` (somebody mistyped or guessed), or its end."""

    kind: str
    name: str = ""
    """What the newcomer calls itself."""
    tries_left: int = 0


class OpenCode:
    """One code from its making to its end, and one try of it at a time."""

    def __init__(self, code: Code, invitation: Invitation, now_unix_s: Callable[[], int]) -> None:
        self.code = code
        self._invitation = invitation
        self._now_unix_s = now_unix_s
        self._tries_left = TRIES_MAX
        self._end: State | None = None
        self._is_tried = False
        self._is_told = False
        """Whether it has been told how the try under way went."""
        self._news: list[News] = []
        self.changed = asyncio.Event()

    @property
    def invitation(self) -> Invitation:
        return self._invitation

    @property
    def state(self) -> State:
        if self._end is not None:
            return self._end
        if self._now_unix_s() >= self._invitation.until_unix_s:
            return State.EXPIRED
        return State.OPEN

    @property
    def news(self) -> tuple[News, ...]:
        return tuple(self._news)

    def begin(self) -> str:
        """Count a try and keep the code for it; or why not, in one word."""
        if self.state is not State.OPEN:
            return f"code_{self.state}"
        if self._is_tried:
            return "busy"
        assert self._tries_left > 0, "a code without tries is burnt"
        self._tries_left -= 1
        self._is_tried = True
        self._is_told = False
        return ""

    def used(self, name: str) -> None:
        self._tell(State.USED, name)

    def wrong(self, name: str) -> int:
        if self._end is None:  # it may have been taken back meanwhile
            self._tell(None, name)
        return self._tries_left

    def over(self, name: str) -> bool:
        """The try is over. True: it was the last one and failed, so the code is burnt."""
        self._is_tried = False
        if self._end is None and not self._is_told:
            # Who hung up halfway had its guess, and may know by now that it was wrong.
            self._tell(None, name)
        if self._end is not None or self._tries_left:
            return False
        self._tell(State.BURNT, "")
        return True

    def withdraw(self) -> None:
        self._tell(State.WITHDRAWN, "")

    def _tell(self, end: State | None, name: str) -> None:
        assert self._end is None, f"the code is {self._end} already"
        self._end = end
        assert len(self._news) < NEWS_MAX, "a code ends after three tries"
        self._is_told = True
        self._news.append(News(str(end) if end else "wrong", name, self._tries_left))
        self.changed.set()


class _CodeTry:
    """See door.Try."""

    def __init__(self, open_code: OpenCode, name: str, burn: Callable[[OpenCode], None]) -> None:
        self._open_code = open_code
        self._name = name
        self._burn = burn

    @property
    def invitation(self) -> Invitation:
        return self._open_code.invitation

    @property
    def password(self) -> bytes:
        return self._open_code.code.password

    def refusal(self) -> str:
        state = self._open_code.state
        return "" if state is State.OPEN else f"code_{state}"

    def spend(self) -> None:
        self._open_code.used(self._name)

    def fail(self) -> int:
        return self._open_code.wrong(self._name)

    def close(self) -> None:
        if self._open_code.over(self._name):
            self._burn(self._open_code)


class _TokenTry:
    """See door.Try. Nothing is awaited while it lasts, so there is nothing to keep free."""

    password = b""

    def __init__(self, invitation: Invitation, spend: Callable[[], None]) -> None:
        self.invitation = invitation
        self._spend = spend

    def refusal(self) -> str:
        return ""

    def spend(self) -> None:
        self._spend()

    def fail(self) -> int:
        return 0

    def close(self) -> None:
        pass


class Invites:
    """Invitations of the pool, as this node knows them and as it made them."""

    def __init__(
        self,
        node_id: NodeId,
        root_key: bytes,
        roll: Views,
        claim: Callable[[Claim], None],
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._node_id = node_id
        self._root_key = root_key
        self._roll = roll
        self._claim = claim
        self._now_unix_ms = now_unix_ms
        self._codes: dict[str, OpenCode] = {}
        """By nameplate; those that are over stay until their nameplate is needed."""
        self.dropped: dict[str, int] = {}
        self._issued: dict[str, set[NodeId]] = {}
        """Let in with a token here, and not yet seen on the roll."""

    # --- making them -----------------------------------------------------------------------------

    def open_code(
        self, *, role: Role = Role.MEMBER, person: str = "", ttl_s: int = CODE_TTL_S
    ) -> OpenCode:
        """A code for one PC. MeshError when this PC may not invite."""
        self._forget_old()
        opened = [each for each in self._codes.values() if each.state is State.OPEN]
        if len(opened) >= CODES_MAX:
            raise MeshError(
                f"{CODES_MAX} codes are open already", "for many PCs: rain invite --token --uses N"
            )
        if ttl_s > CODE_TTL_S:
            raise MeshError(
                f"a code is open for {CODE_TTL_S // 60} minutes at most",
                "leave --ttl out, or make a token: rain invite --token --ttl 1h",
            )
        person, until_unix_s = self._terms(person, ttl_s)
        code = draw_code(secrets.randbelow, self._taken_nameplates())
        raw = base64.b32encode(secrets.token_bytes(SEED_BYTES)).decode().lower()
        invite_id = raw[:INVITE_ID_CHARS]
        invitation = Invitation(invite_id, role, person, 1, until_unix_s, nameplate=code.nameplate)
        found = OpenCode(code, invitation, self._now_unix_s)
        self._codes[code.nameplate] = found
        self._claim(invitation)
        return found

    def open_token(
        self,
        *,
        role: Role = Role.MEMBER,
        person: str = "",
        uses: int = 1,
        ttl_s: int = TOKEN_TTL_S,
    ) -> tuple[str, Invitation]:
        """A token as text, and what the pool knows of it. MeshError when it cannot be."""
        if not 1 <= uses <= USES_MAX:
            raise MeshError(f"a token cannot have {uses} uses", f"from 1 to {USES_MAX}: --uses N")
        person, until_unix_s = self._terms(person, ttl_s)
        token = new_token(self._root_key, secrets.token_bytes(SEED_BYTES))
        invitation = Invitation(
            token.invite_id, role, person, uses, until_unix_s, token_key=token.public_key
        )
        self._claim(invitation)
        return encode_token(token), invitation

    def withdraw(self, invite_id: str, reason: str = "") -> None:
        """Take it back; who is in by it stays in."""
        self._claim(self.taken_back(invite_id, reason))

    def withdraw_of(self, credential: Credential) -> str:
        """Take back what that node came by, if it is open still. Answers its id, or ''."""
        signed = self._roll.invitation(credential.invite_id)
        invitation = signed.claim if signed is not None else None
        if not isinstance(invitation, Invitation) or self._state_of(invitation) is not State.OPEN:
            return ""
        self.withdraw(invitation.invite_id, f"{credential.name} was removed")
        return invitation.invite_id

    def taken_back(self, invite_id: str, reason: str) -> Withdrawal:
        """It is honoured here no more; with what is answered, nowhere."""
        for open_code in self._codes.values():
            same = open_code.invitation.invite_id == invite_id
            if same and open_code.state is State.OPEN:
                open_code.withdraw()
        return Withdrawal(invite_id, reason)

    def _terms(self, person: str, ttl_s: int) -> tuple[str, int]:
        """For whom and until when. Only an admin invites; by default for its own person."""
        own = self._roll.credential(self._node_id)
        if own is None or own.role is not Role.ADMIN:
            message = "this PC is not an admin of the pool: it may not invite"
            raise MeshError(message, admins_pc(self._roll))
        if not 0 < ttl_s <= TTL_S_MAX:
            raise MeshError("that lifetime is too short or too long", "like 10m, 1h or 30d: --ttl")
        person = person or own.person
        reason = reason_unshowable(person)
        if reason:
            raise MeshError(f"no person can be called {person!r}: {reason}", "--for PERSON")
        return person, self._now_unix_s() + ttl_s

    def _taken_nameplates(self) -> set[str]:
        now_unix_s = self._now_unix_s()
        taken = {nameplate for nameplate, each in self._codes.items() if each.state is State.OPEN}
        for signed in self._roll.claims():
            claim = signed.claim
            if isinstance(claim, Invitation) and claim.until_unix_s > now_unix_s:
                taken.add(claim.nameplate)
        return taken

    def _forget_old(self) -> None:
        over = [key for key, each in self._codes.items() if each.state is not State.OPEN]
        for key in over[: max(0, len(over) - CODES_KEPT)]:
            del self._codes[key]

    # --- seeing them -----------------------------------------------------------------------------

    def nameplates(self) -> tuple[str, ...]:
        """Of the codes that are open here now."""
        return tuple(key for key, each in self._codes.items() if each.state is State.OPEN)

    def is_sponsor(self, want: str) -> bool:
        """Whether this node honours that nameplate or invite id: what a beacon asks for."""
        if want in self.nameplates():
            return True
        found = self._roll.invitation(want) if want else None
        if found is None or not isinstance(found.claim, Invitation) or not found.claim.token_key:
            return False
        return self._state_of(found.claim) is State.OPEN

    def list(self) -> list[Json]:
        """Every invitation that counts, as JSON; the newest last."""
        rows = []
        for signed in self._roll.claims():
            claim = signed.claim
            if not isinstance(claim, Invitation) or not self._roll.counts(signed):
                continue
            rows.append(
                {
                    "id": claim.invite_id,
                    "kind": "token" if claim.token_key else "code",
                    "role": claim.role.name.lower(),
                    "person": claim.person,
                    "uses": claim.uses,
                    "used": self._uses(claim.invite_id),
                    "until_unix_s": claim.until_unix_s,
                    "node_id": self._roll.author_of(signed),
                    "state": str(self._state_of(claim)),
                }
            )
        return rows

    async def watch(self, open_code: OpenCode) -> AsyncIterator[News]:
        """What happens to that code, until its end."""
        told = 0
        while True:
            news = open_code.news
            for each in news[told:]:
                yield each
            told = len(news)
            if open_code.state is State.EXPIRED:
                yield News(str(State.EXPIRED))
            if open_code.state is not State.OPEN:
                return
            open_code.changed.clear()
            left_s = open_code.invitation.until_unix_s - self._now_unix_ms() / 1_000
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    await open_code.changed.wait()
            except TimeoutError:
                continue

    def _state_of(self, invitation: Invitation) -> State:
        open_code = self._codes.get(invitation.nameplate)
        if open_code is not None and open_code.invitation.invite_id == invitation.invite_id:
            return open_code.state
        if self._roll.withdrawn(invitation.invite_id):
            return State.WITHDRAWN
        if self._uses(invitation.invite_id) >= invitation.uses:
            return State.USED
        if self._now_unix_s() >= invitation.until_unix_s:
            return State.EXPIRED
        return State.OPEN

    # --- at the door -----------------------------------------------------------------------------

    def try_code(self, nameplate: str, newcomer: Newcomer) -> "_CodeTry | Denied":
        """See door.Porter."""
        open_code = self._codes.get(nameplate)
        if open_code is None:
            return Denied("unknown_code")
        reason = open_code.begin()
        if reason:
            return Denied(reason)
        return _CodeTry(open_code, newcomer.name, self._burn)

    def try_token(self, token_key: bytes, newcomer: Newcomer) -> "_TokenTry | Denied":
        """See door.Porter."""
        invite_id = invite_id_of(token_key)
        signed = self._roll.invitation(invite_id)
        invitation = signed.claim if signed is not None else None
        if not isinstance(invitation, Invitation) or invitation.token_key != token_key:
            return Denied("unknown_token")
        assert signed is not None, "its claim was found"
        node_id = node_id_of(newcomer.public_key)
        if self._is_removed_since(node_id, signed.at_unix_ms):
            return Denied("removed")
        state = self._state_of(invitation)
        # Who is in by it already lost the answer, or its files: that is no further use.
        if state is State.OPEN or (state is State.USED and self._is_in_by(node_id, invite_id)):
            return _TokenTry(invitation, lambda: self._spend(invite_id, node_id))
        return Denied(f"token_{state}")

    def _is_removed_since(self, node_id: NodeId, at_unix_ms: int) -> bool:
        """Only an invitation made after a removal speaks for who was removed."""
        removal = self._roll.removals().get(node_id)
        return removal is not None and at_unix_ms <= removal[2]

    def _is_in_by(self, node_id: NodeId, invite_id: str) -> bool:
        credential = self._roll.credential(node_id)
        return credential is not None and credential.invite_id == invite_id

    def _was_in_by(self, node_id: NodeId, invite_id: str) -> bool:
        credential = self._roll.known(node_id)
        return credential is not None and credential.invite_id == invite_id

    def _spend(self, invite_id: str, node_id: NodeId) -> None:
        if not self._was_in_by(node_id, invite_id):
            self._issued.setdefault(invite_id, set()).add(node_id)

    def _uses(self, invite_id: str) -> int:
        """On the roll, and those on their way there."""
        issued = self._issued.get(invite_id, set())
        issued -= {node_id for node_id in issued if self._was_in_by(node_id, invite_id)}
        if not issued:
            self._issued.pop(invite_id, None)
        return self._roll.uses(invite_id) + len(issued)

    def _burn(self, open_code: OpenCode) -> None:
        self.dropped["code_burnt"] = self.dropped.get("code_burnt", 0) + 1
        self._claim(Withdrawal(open_code.invitation.invite_id, f"{TRIES_MAX} wrong tries"))

    def _now_unix_s(self) -> int:
        return self._now_unix_ms() // 1_000
