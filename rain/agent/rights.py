"""On whose PC something can be typed that this one may not: hints for who was refused."""

from rain.model import Role
from rain.trust.views import Views

NO_ADMIN_LEFT = "no admin is left: bring the root back with the twelve words: rain recover"
NO_ADMIN_BACK = "if none comes back: rain recover, with the twelve words of the founding"
"""An admin's PC may be gone for good, and it may have been the only one."""
NAMES_TOLD_MAX = 5


def admins_pc(trust: Views) -> str:
    """What only an admin may do."""
    admins = _admins(trust)
    return f"type it on an admin's PC: {admins}; {NO_ADMIN_BACK}" if admins else NO_ADMIN_LEFT


def members_pc(trust: Views) -> str:
    """What a worker may not do."""
    admins = _admins(trust)
    return (
        "type it on " + (f"an admin's PC ({admins}), or on " if admins else "") + "one of a member"
    )


def persons_pc(trust: Views, person: str) -> str:
    """What only that person or an admin may do."""
    own = _names(
        [c.name for c in trust.credentials() if c.person == person and c.role > Role.WORKER]
    )
    admins = _admins(trust)
    places = [f"{person}'s PC ({own})"] if own else []
    places += [f"an admin's ({admins})"] if admins else []
    return f"type it on {' or on '.join(places)}" if places else NO_ADMIN_LEFT


def _admins(trust: Views) -> str:
    return _names([each.name for each in trust.credentials() if each.role is Role.ADMIN])


def _names(names: list[str]) -> str:
    more = len(names) - NAMES_TOLD_MAX
    return ", ".join(sorted(names)[:NAMES_TOLD_MAX]) + (f" and {more} more" if more > 0 else "")
