"""What a person is told who was not let into a pool: what happened, and what to do next.

A door denies in one word. The sentences are this side's own: nobody vouches for a stranger's.
"""

from rain.mesh.newcomer import NotLetIn

NOT_IN_POOL = 4

_FRESH_CODE = "get a fresh code: on an admin's PC type `rain invite`"
_FRESH_TOKEN = "get another token: on an admin's PC type `rain invite --token`"
_NETWORK = "check the network and try again"
_BETWEEN = (
    "the PC that answered could not prove itself: somebody may be listening in between",
    "look at the invitation again; if it is right, do not join on this network",
)

_SENTENCES = {
    "wrong_code": ("that code is wrong", "look at it again, on the PC that shows it"),
    "code_burnt": ("that code does not work any more: it was typed wrong too often", _FRESH_CODE),
    "code_used": ("that code was used already: each lets in one PC", _FRESH_CODE),
    "code_expired": ("that code has run out", _FRESH_CODE),
    "code_withdrawn": ("that code was taken back", _FRESH_CODE),
    "unknown_code": ("nobody here has shown such a code", "look at its three digits again"),
    "busy": ("another PC is using that code just now", "try again in a few seconds"),
    "unproven": _BETWEEN,
    "bad_proof": _BETWEEN,
    "token_used": ("the token is used up", _FRESH_TOKEN),
    "token_expired": ("the token has run out", _FRESH_TOKEN),
    "token_withdrawn": ("the token was taken back", _FRESH_TOKEN),
    "unknown_token": (
        "the pool does not know that token (yet)",
        f"if it is new, wait a moment; else {_FRESH_TOKEN}",
    ),
    "other_pool": (
        "the PC that answered is not of the pool that was looked for",
        "name a PC of that pool: rain up --contact HOST",
    ),
    "not_admin": (
        "the PC that answered is not an admin, and cannot let anybody in",
        "an admin's PC must be on; name one: rain up --contact HOST",
    ),
    "bad_name": ("the pool does not take this PC's name", "choose another: rain up --name NAME"),
    "unfit": ("the invitation says what cannot be", "ask for another one: rain invite"),
    "removed": (
        "this PC was removed from the pool (rain kick)",
        "to come back: rain leave, then join with a new invitation",
    ),
    "left": ("this PC has left the pool", "to come back: rain leave, then join again"),
    "issuer_removed": (
        "the admin who let this PC in was removed from the pool",
        "to come back: rain leave, then join with a new invitation",
    ),
    "unknown_node": (
        "the pool does not know this PC's certificate",
        "rain leave, then join with a new invitation",
    ),
    "protocol": ("the pool speaks another version of Rain", "bring both PCs to the same version"),
    "unreachable": (
        "the PC that has the invitation does not take connections",
        "firewall: TCP as well as UDP must be open there",
    ),
    "timeout": ("the PC that has the invitation took too long", _NETWORK),
    "door_closed": ("the other PC hung up: it is too busy, or it stopped", _NETWORK),
}
_OTHERWISE = ("the pool did not let this PC in", _NETWORK)

_WEAK = ("unreachable", "unknown_code", "unknown_token", "other_pool", "not_admin", "timeout")
"""What a wrong door says; any other answer says more about the invitation itself."""
# fmt: off
FINAL = frozenset((
    "wrong_code", "code_burnt", "code_used", "code_expired", "code_withdrawn", "unproven",
    "bad_proof", "unfit", "token_used", "token_expired", "token_withdrawn", "bad_name", "protocol",
    "removed",
))
# fmt: on
"""Asking again later would bring the same answer."""


class JoinError(Exception):
    """Why this PC is in no pool; `hint` says how to get in."""

    def __init__(self, message: str, hint: str, exit_code: int = NOT_IN_POOL) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class Refused(JoinError):
    """A door said no. Another try, or another code, may do better."""

    def __init__(self, cause: NotLetIn) -> None:
        message, hint = _SENTENCES.get(cause.reason, _OTHERWISE)
        if cause.reason == "wrong_code":
            left = {0: "it is of no use any more", 1: "1 try is left"}
            message += f": {left.get(cause.tries_left, f'{cause.tries_left} tries are left')}"
            hint = hint if cause.tries_left else _FRESH_CODE
        super().__init__(message, hint)
        self.reason = cause.reason


def most_telling(causes: list[NotLetIn]) -> NotLetIn:
    """Of what several doors answered, what the person should know."""
    assert causes, "somebody must have refused"
    telling = [each for each in causes if each.reason not in _WEAK]
    return (telling or causes)[0]
