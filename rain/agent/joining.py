"""Which pool this PC is in, and how it comes to be in one.

A data folder that has a pool resumes it. A code or a token joins one, `--new` founds one. With
neither, the PC calls: where a pool answers, the person is asked for its code; where nothing does,
a pool is founded, but only with a person at the terminal to see it. Two first PCs at once hear each
other, since both call for a random 2 to 4 s, and then a person decides: there are no silent twins.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rain.agent.founding import found_pool, founder_words
from rain.agent.refusals import FINAL, JoinError, Refused, most_telling
from rain.agent.seeking import Heard, Seeker, Sighting
from rain.claims import Signed, Signer
from rain.config import UpOptions, parse_contact
from rain.mesh import keys
from rain.mesh.certificates import make_inspect, pool_of
from rain.mesh.codes import Code, is_code, parse_code
from rain.mesh.discovery import EVERYWHERE
from rain.mesh.door import Granted, PoolKey
from rain.mesh.errors import MeshError
from rain.mesh.newcomer import Doorstep, NotLetIn, doorstep
from rain.mesh.pool import Pool
from rain.mesh.token import Token, decode_token
from rain.model import Address

CALL_INTERVAL_S = 0.5
HINT_AFTER_S = 5.0
GIVE_UP_AFTER_S = 25.0
"""Without a person at the terminal. With one, the agent goes on calling."""
DOORS_MAX = 8
"""Knocked at for one code: each that lies about it gets one guess at it."""
ASKED_MAX = 10
"""Times that a person is asked for a code before the agent ends."""
CLOCK_SKEW_MS_MAX = 5 * 60 * 1_000
"""More is worth a word: certificates count from an hour before they were issued."""

JOINING_ALLOWS = (
    "Joining lets the members of a pool run containers on this PC, within what this PC shares."
)
NO_CODE_HERE = (
    "on an admin's PC of the pool type `rain invite --token -q > token`, bring that file here,\n"
    "and type: rain up --join-file token"
)
NOBODY_ANSWERS = """\
Nobody of {pool} answers yet. What to check:
  - is another PC of the pool switched on, with `rain up` running on it?
  - firewall: UDP and TCP port {port} must be open on both PCs (ufw allow {port})
  - Wi-Fi: "client isolation" or a guest network keeps PCs from hearing each other
  - another network: name one PC of the pool: rain up --contact HOST"""

Ask = Callable[[str], Awaitable[str]]
"""Shows a prompt at the terminal and waits for a line; EOFError when there will be none."""
Say = Callable[[str], None]
Join = Callable[[Doorstep], Awaitable[Granted]]


@dataclass(frozen=True)
class Patience:
    """How long is waited for what."""

    decide_s: tuple[float, float] = (2.0, 4.0)
    """Before a pool is founded, at random from .. to .."""
    settle_s: float = 0.5
    """For further pools, once one has answered; with --new, for any."""
    code_s: float = 5.0
    """For the PC that shows a code, where a person waits."""
    give_up_s: float = GIVE_UP_AFTER_S
    hint_s: float = HINT_AFTER_S
    again_s: float = CALL_INTERVAL_S


@dataclass(frozen=True, repr=False)
class Entered:
    """The pool that this PC is in now. Its certificate is kept already; the rest is kept by
    recollection.settle."""

    pool: Pool
    bundle: bytes
    ring: tuple[PoolKey, ...] = ()
    """With `use`, `bundles` and `claims`: of a pool just entered, for the first start of the
    store. Empty where a pool is resumed: the store has them."""
    use: int = 0
    bundles: tuple[bytes, ...] = ()
    claims: tuple[Signed, ...] = ()
    contact: Address | None = None
    """Whose door it was."""

    @property
    def is_new(self) -> bool:
        """Founded or joined just now: the store has nothing of the pool yet."""
        return bool(self.ring)

    @property
    def is_newcomer(self) -> bool:
        """Joined just now: a member should be heard before this node takes part."""
        return self.contact is not None


class Entrance:
    """One way in, from what the person typed to a certificate on disk."""

    def __init__(
        self,
        options: UpOptions,
        signer: Signer,
        seeker: Seeker,
        ask: Ask,
        say: Say,
        now_unix_ms: Callable[[], int],
        rng: random.Random,
        person: str,
        patience: Patience = Patience(),
    ) -> None:
        self._options = options
        self._signer = signer
        self._seeker = seeker
        self._ask = ask
        self._say = say
        self._now_unix_ms = now_unix_ms
        self._rng = rng
        self._person = person
        self._patience = patience

    async def enter(self) -> Entered:
        """Join or found as the options say. Raises JoinError and MeshError.

        Not for a PC that is in a pool already: see `resume`, and `again`.
        """
        text = self._options.token
        if text and is_code(text):
            self._say(JOINING_ALLOWS)
            return await self._by_code(parse_code(text), self._waits_for_code_s())
        if text:
            self._say(JOINING_ALLOWS)
            return await self._by_token(decode_token(text))
        if self._options.new:
            heard = await self._seeker.seek(self._patience.settle_s)
            for sighting in heard.pools.values():
                self._say(f"Heard {_described(sighting)}; founding another one, as --new says.")
            return self._found()
        return await self._choose()

    # --- neither code nor token ------------------------------------------------------------------

    async def _choose(self) -> Entered:
        options = self._options
        if options.pool:
            heard = await self._wait_for_pool(options.pool)
            return await self._ask_for_code(list(heard.pools.values()))
        heard = await self._seeker.seek(
            self._rng.uniform(*self._patience.decide_s),
            is_deciding=True,
            is_enough=lambda heard: bool(heard.pools),
        )
        if heard.pools:
            # Deciding no more: others shall hear the pool, not this PC.
            more = await self._seeker.seek(self._patience.settle_s)
            return await self._ask_for_code(_merged(heard, more))
        if not options.is_terminal:
            others = ", ".join(heard.deciding.values())
            raise JoinError(
                "this PC is in no pool yet, and no pool answers here"
                + (f"; {others} is looking for one too" if others else ""),
                f"found one here: rain up --new\nor join one: {NO_CODE_HERE}",
            )
        if heard.deciding:
            return await self._settle_with(heard)
        self._say("No pool was found on this network.")
        return self._found()

    async def _wait_for_pool(self, name: str) -> Heard:
        def is_there(heard: Heard) -> bool:
            return any(each.name == name for each in heard.pools.values())

        patience = self._patience
        heard = await self._seeker.seek(patience.hint_s, is_enough=is_there)
        if not is_there(heard):
            self._say(self._nobody(f"pool {name!r}"))
        waited_s = patience.hint_s
        while not is_there(heard):
            if waited_s >= patience.give_up_s and not self._options.is_terminal:
                raise self._nobody_in_time(f"pool {name!r}")
            heard = await self._seeker.seek(patience.hint_s, is_enough=is_there)
            waited_s += patience.hint_s
        heard.pools = {key: each for key, each in heard.pools.items() if each.name == name}
        return heard

    async def _settle_with(self, heard: Heard) -> Entered:
        """Another PC is deciding too: a person says which of them founds the pool."""
        others = ", ".join(heard.deciding.values())
        self._say(f"No pool was found, but {others} is looking for one too.")
        asked = asyncio.ensure_future(self._asked("Found the pool on this PC? [y/N] "))
        try:
            while not asked.done():  # so that others hear that this PC is deciding
                heard = await self._seeker.seek(
                    self._patience.hint_s,
                    is_deciding=True,
                    is_enough=lambda heard: bool(heard.pools) or asked.done(),
                )
                if heard.pools:
                    break
            if heard.pools:
                # The question still stands at the end of its line.
                self._say(f"\n{_described(next(iter(heard.pools.values())))} is there now.")
            elif (await asked).strip().lower() in ("y", "yes"):
                return self._found()
        finally:
            asked.cancel()
            # The question is off the terminal before another one is put.
            await asyncio.wait({asked})
        if not heard.pools:
            self._say(f"Waiting for {others} to found one (Ctrl-C stops).")
        while not heard.pools:
            heard = await self._seeker.seek(
                self._patience.hint_s, is_enough=lambda heard: bool(heard.pools)
            )
        return await self._ask_for_code(list(heard.pools.values()))

    async def _ask_for_code(self, pools: list[Sighting]) -> Entered:
        for sighting in pools:
            self._say(f"Found {_described(sighting)}.")
        if not self._options.is_terminal:
            several = "which pool to join? name it: --pool NAME\n" if len(pools) > 1 else ""
            names = ", ".join(repr(each.name) for each in pools)
            raise JoinError(
                f"this PC is in no pool yet; found here: {names}; joining takes an invitation",
                f"{several}{NO_CODE_HERE}\nor found another pool here: rain up --new",
            )
        self._say(JOINING_ALLOWS)
        if len(pools) > 1:
            self._say("The code says which of the pools it is for.")
        for _ in range(ASKED_MAX):
            text = await self._asked("Invite code (`rain invite` on an admin's PC shows one): ")
            try:
                if not text.strip():
                    continue
                if is_code(text):
                    return await self._by_code(parse_code(text), self._patience.code_s)
                return await self._by_token(decode_token(text))
            except (Refused, MeshError) as error:
                self._say(f"{error.message}. {error.hint}")
        raise JoinError("no invitation let this PC in", "start again with: rain up")

    async def _asked(self, prompt: str) -> str:
        try:
            return await self._ask(prompt)
        except EOFError:
            raise JoinError("nobody is at the terminal to answer", NO_CODE_HERE) from None

    # --- with an invitation ----------------------------------------------------------------------

    async def _by_code(self, code: Code, wait_s: float) -> Entered:
        def join(door: Doorstep) -> Awaitable[Granted]:
            return door.join_by_code(code, self._signer, self._options.name)

        whose = "the pool with that code"
        return self._joined(*await self._by_doors(code.nameplate, whose, join, wait_s, DOORS_MAX))

    async def _by_token(self, token: Token) -> Entered:
        def join(door: Doorstep) -> Awaitable[Granted]:
            return door.join_by_token(token, self._signer, self._options.name)

        whose, wait_s = "the pool of that token", self._waits_for_pool_s()
        return self._joined(
            *await self._by_doors(token.invite_id, whose, join, wait_s, float("inf"))
        )

    async def again(self, kept: Entered) -> Entered:
        """The roll and the keys of the pool that this PC is in, from an admin's door.

        For a PC whose store was lost, or whose entering broke off. Its certificate is proof enough.
        """
        pool, own = kept.pool, make_inspect(kept.pool)(kept.bundle)
        assert own is not None, "a node's own certificate leads to its pool's root"
        if own.issuer_id == own.node_id and not own.invite_id:

            def is_answered(heard: Heard) -> bool:
                return pool.pool_id in heard.pools

            # A founder may well be alone still, and draws the first key then.
            seconds = self._patience.decide_s[1]
            if not is_answered(await self._seeker.seek(seconds, is_enough=is_answered)):
                return kept
        self._say(f"This PC is in pool {pool.name!r} but has no key of it: asking an admin's PC.")

        def renew(door: Doorstep) -> Awaitable[Granted]:
            return door.renew(pool, kept.bundle, self._signer, lambda _: True)

        whose, wait_s = f"pool {pool.name!r}", self._waits_for_pool_s()
        granted, door = await self._by_doors("", whose, renew, wait_s, float("inf"))
        keys.keep_certificate(self._options.data_dir, granted.bundle)
        return self._entered(granted, door)

    async def _by_doors(
        self, want: str, whose: str, join: Join, wait_s: float, knocks: float
    ) -> tuple[Granted, Address]:
        """Knock where somebody says to have that invitation, until one door opens."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        is_told = False
        causes: list[NotLetIn] = []
        tried: set[Address] = set()

        def has_more(heard: Heard) -> bool:
            return any(door not in tried for door in heard.doors(self._options.pool))

        while (left_s := began + wait_s - loop.time()) > 0:
            round_s = min(left_s, self._patience.again_s if causes else self._patience.hint_s)
            heard = await self._seeker.seek(round_s, want=want, is_enough=has_more)
            doors = [door for door in heard.doors(self._options.pool) if door not in tried]
            for door in doors[: int(min(knocks, DOORS_MAX))]:
                tried.add(door)
                knocks -= 1
                try:
                    return await self._knock(door, join), door
                except NotLetIn as cause:
                    causes.append(cause)
            if not doors and causes:
                if knocks <= 0 or most_telling(causes).reason in FINAL:
                    break
                tried.clear()  # all have said no for now; ask them again
                causes = causes[-DOORS_MAX:]
            if not doors and not causes and not is_told:
                is_told = True
                self._say(self._nobody(whose))
        if causes:
            raise Refused(most_telling(causes))
        raise self._nobody_in_time(whose)

    async def _knock(self, address: Address, join: Join) -> Granted:
        async with doorstep(address, self._options.bind or EVERYWHERE) as door:
            return await join(door)

    def _joined(self, granted: Granted, contact: Address) -> Entered:
        entered, folder = self._entered(granted, contact), self._options.data_dir
        # An authority here is of a pool whose founding broke off: it would issue for nobody.
        keys.forget_authority(folder)
        keys.keep_certificate(folder, granted.bundle)
        self._say(f"Joined pool {entered.pool.name!r} as {self._options.name}.")
        return entered

    def _entered(self, granted: Granted, contact: Address) -> Entered:
        pool = pool_of(granted.root)
        assert pool is not None, "the newcomer's side has checked what was granted"
        skew_ms = granted.unix_ms - self._now_unix_ms()
        if abs(skew_ms) > CLOCK_SKEW_MS_MAX:
            way = "behind" if skew_ms > 0 else "ahead of"
            self._say(f"The clock of this PC is {abs(skew_ms) // 60_000} min {way} the pool's.")
        return Entered(
            pool,
            granted.bundle,
            granted.keys,
            granted.use,
            (granted.bundle, *granted.bundles),
            granted.claims,
            contact,
        )

    # --- founding --------------------------------------------------------------------------------

    def _found(self) -> Entered:
        founded = found_pool(
            self._options.data_dir,
            self._signer,
            pool_name=self._options.pool or f"{self._options.name}-pool"[:63],
            node_name=self._options.name,
            person=self._person,
            now_unix_s=self._now_unix_ms() // 1_000,
        )
        self._say(founder_words(founded))
        key = founded.key
        return Entered(founded.pool, founded.bundle, (key,), key.number, (founded.bundle,))

    # --- words -----------------------------------------------------------------------------------

    def _waits_for_code_s(self) -> float:
        patience = self._patience
        return patience.code_s if self._options.is_terminal else patience.give_up_s

    def _waits_for_pool_s(self) -> float:
        return float("inf") if self._options.is_terminal else self._patience.give_up_s

    def _nobody(self, whose: str) -> str:
        return NOBODY_ANSWERS.format(pool=whose, port=self._options.port)

    def _nobody_in_time(self, whose: str) -> JoinError:
        return JoinError(f"nobody of {whose} answered in time", self._nobody(whose))


def resume(options: UpOptions) -> Entered | None:
    """The pool that this PC is in already. JoinError when the options name another one."""
    pool = keys.load_pool(options.data_dir)
    if pool is None:
        return None
    bundle = keys.load_certificate(options.data_dir)
    if bundle is None:
        raise JoinError(
            f"this PC is in pool {pool.name!r}, but its certificate is gone",
            "rain leave, then join again",
            1,
        )
    if options.new:
        raise JoinError(
            f"this PC is in pool {pool.name!r} already",
            "plain `rain up` resumes it; `rain leave` forgets it",
            1,
        )
    is_other = options.pool not in ("", pool.name)
    if options.token and not is_code(options.token):
        is_other = is_other or not decode_token(options.token).pins(pool.root_key)
    if is_other:
        raise JoinError(
            f"this PC is in pool {pool.name!r} already", "leave it first: rain leave", 1
        )
    return Entered(pool, bundle)


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


def _described(sighting: Sighting) -> str:
    pcs = "1 PC" if sighting.members == 1 else f"{sighting.members} PCs"
    return f"pool {sighting.name!r} ({pcs}, {sighting.member} answered)"


def _merged(*heard: Heard) -> list[Sighting]:
    pools: dict[bytes, Sighting] = {}
    for each in heard:
        pools |= each.pools
    return list(pools.values())
