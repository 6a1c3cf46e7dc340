"""The verbs about invitations that were made: which are open, and taking one back."""

from collections.abc import AsyncIterator, Callable

from rain.agent.claiming import state
from rain.agent.control import End, Item, Json, Verb, VerbError
from rain.agent.driver import Driver
from rain.agent.invites import Invites, State
from rain.agent.rights import admins_pc
from rain.model import REASON_CHARS_MAX, Role
from rain.sched.civil import rfc3339


class InvitationVerbs:
    """Everybody may look; only an admin takes back."""

    def __init__(self, driver: Driver, invites: Invites, next_request: Callable[[], int]) -> None:
        self._driver = driver
        self._invites = invites
        self._next_request = next_request

    def by_name(self) -> dict[str, Verb]:
        return {"invites": self.invites, "withdraw": self.withdraw}

    async def invites(self, args: Json) -> AsyncIterator[Item | End]:
        """`{"invitations": [...]}`, oldest first; with `all` those that are over too."""
        yield End({"invitations": [self._told(row) for row in self._rows(bool(args.get("all")))]})

    async def withdraw(self, args: Json) -> AsyncIterator[Item | End]:
        """Take back the one with that id, or beginning of an id; who is in by it stays in."""
        self._refuse_unless_admin()
        row = self._find(str(args.get("id") or ""))
        claim = self._invites.taken_back(
            row["id"], str(args.get("reason") or "")[:REASON_CHARS_MAX]
        )
        answer = await state(self._driver, self._next_request, claim)
        yield End({**self._told(row), "state": str(State.WITHDRAWN), "told": answer.copies})

    def _rows(self, is_all: bool) -> list[Json]:
        return [each for each in self._invites.list() if is_all or each["state"] == State.OPEN]

    def _told(self, row: Json) -> Json:
        known = self._driver.node.trust.known(row["node_id"])
        return {
            "id": row["id"],
            "kind": row["kind"],
            "state": row["state"],
            "role": row["role"],
            "person": row["person"],
            "uses": row["uses"],
            "used": row["used"],
            "until": rfc3339(row["until_unix_s"] * 1_000),
            "invited_by": known.name if known is not None else row["node_id"],
        }

    def _find(self, words: str) -> Json:
        found = [
            each for each in self._rows(is_all=False) if words and each["id"].startswith(words)
        ]
        if len(found) > 1:
            ids = ", ".join(each["id"] for each in found[:5])
            raise VerbError("ambiguous", f"{words!r} could be {ids}", "write more of its id", 2)
        if not found:
            message = f"no open invitation has the id {words!r}"
            raise VerbError("not_found", message, "see which are open: rain invite --list", 5)
        return found[0]

    def _refuse_unless_admin(self) -> None:
        trust = self._driver.node.trust
        if trust.role(self._driver.node.identity.node_id) is not Role.ADMIN:
            raise VerbError("failed", "this PC is no admin of the pool", admins_pc(trust), 1)
