"""Which pool this PC is in, and the first contact with it.

A data folder that has a pool resumes it. Otherwise a token names one, or `--new` founds one; with
neither the node stays out and says how to get in. A newcomer listens and calls until a member of
the pool is heard, and only then takes part: alone it would elect itself and begin a reign that
the pool would have to undo.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from rain.config import UpOptions, parse_contact
from rain.mesh import keys
from rain.mesh.token import Pool, decode_token
from rain.model import Address

CALL_INTERVAL_S = 0.5
HINT_AFTER_S = 5.0
GIVE_UP_AFTER_S = 25.0
"""Without a person at the terminal. With one, the agent goes on calling."""

NOBODY_ANSWERS = """\
Nobody of pool {name!r} answers yet. What to check:
  - is another PC of the pool switched on, with `rain up` running on it?
  - firewall: UDP and TCP port {port} must be open on both PCs (ufw allow {port})
  - Wi-Fi: "client isolation" or a guest network keeps PCs from hearing each other
  - another network: name one PC of the pool: rain up --contact HOST"""


class JoinError(Exception):
    """Why this PC is in no pool; `hint` says how to get in."""

    def __init__(self, message: str, hint: str, exit_code: int = 4) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code


class Membership:
    """The pool to be in. `is_newcomer`: it was never heard yet, so hear it first."""

    def __init__(self, pool: Pool, is_newcomer: bool) -> None:
        self.pool = pool
        self.is_newcomer = is_newcomer


def choose_pool(options: UpOptions) -> Membership:
    """Resume, join or found. Raises JoinError (exit 4 where no pool is named) and MeshError."""
    known = keys.load_pool(options.data_dir)
    if options.token:
        pool = decode_token(options.token)
        if options.pool and pool.name != options.pool:
            message = f"the token is for pool {pool.name!r}, not {options.pool!r}"
            raise JoinError(message, "leave --pool out, or get a token of the other pool", 1)
        if known is not None and known.pool_id != pool.pool_id:
            raise JoinError(
                f"this PC is in pool {known.name!r} already", "leave it first: rain leave", 1
            )
        return Membership(pool, known is None)
    if known is not None:
        if options.new:
            raise JoinError(
                f"this PC is in pool {known.name!r} already",
                "plain `rain up` resumes it; `rain leave` forgets it",
                1,
            )
        return Membership(known, is_newcomer=False)
    if options.new:
        return Membership(keys.new_pool(options.pool or f"{options.name}-pool"), is_newcomer=False)
    raise JoinError(
        f"this PC is not in pool {options.pool!r} yet: that takes a token of it"
        if options.pool
        else "this PC is in no pool yet",
        "found one here: rain up --new\n"
        "or join one: on a PC of it type `rain invite --token > token`, bring that file here,\n"
        "and type: rain up --join-file token",
    )


async def hear_a_member(
    call: Callable[[], None],
    heard: asyncio.Event,
    options: UpOptions,
    pool: Pool,
    say: Callable[[str], None],
) -> None:
    """Call until a member is heard. Raises JoinError when nobody is there to wait for it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    hinted = False
    while not heard.is_set():
        call()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALL_INTERVAL_S):
                await heard.wait()
        waited = loop.time() - began
        if waited > HINT_AFTER_S and not hinted:
            hinted = True
            say(NOBODY_ANSWERS.format(name=pool.name, port=options.port))
        if waited > GIVE_UP_AFTER_S and not options.is_terminal:
            raise JoinError(
                f"nobody of pool {pool.name!r} answered within {GIVE_UP_AFTER_S:.0f} s",
                NOBODY_ANSWERS.format(name=pool.name, port=options.port),
            )


async def resolve_contacts(options: UpOptions) -> tuple[Address, ...]:
    """Addresses of `--contact`; names that do not resolve now are tried again by the caller."""
    loop = asyncio.get_running_loop()
    found: list[Address] = []
    for contact in options.contacts:
        host, port = parse_contact(contact)
        # A UnicodeError is about letters that no name on the network has.
        with contextlib.suppress(OSError, UnicodeError):
            rows = await loop.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM)
            found.extend(Address(str(row[4][0]), port) for row in rows[:1])
    return tuple(found)
