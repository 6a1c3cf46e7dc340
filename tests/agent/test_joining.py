"""How a PC comes into a pool: what it is asked, what it is told, and where it ends."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rain.agent.invites import OpenCode
from rain.agent.joining import (
    JOINING_ALLOWS,
    Entered,
    Entrance,
    Patience,
    resolve_contacts,
    resume,
)
from rain.agent.refusals import JoinError
from rain.agent.seeking import Seeker
from rain.claims import node_id_of
from rain.config import UpOptions
from rain.mesh import keys
from rain.mesh.beacon import Here, Seek, decode_beacon, encode_beacon
from rain.mesh.errors import MeshError
from rain.model import Address, NodeId, Role
from rain.trust.records import rows_of
from tests.agent.hosts import LOOPBACK, Clock, Host, founder, node_key

PATIENCE = Patience(
    decide_s=(0.05, 0.1), settle_s=0.03, code_s=0.1, give_up_s=0.1, hint_s=0.05, again_s=0.03
)
STORY_TIMEOUT_S = 10


class Ether:
    """One network: what one PC casts, the others hear."""

    def __init__(self) -> None:
        self.hearers: list[Callable[[bytes, Address], None]] = []

    def cast(self, packet: bytes, own: Callable[[bytes, Address], None] | None = None) -> None:
        loop = asyncio.get_running_loop()
        for hear in self.hearers:
            if hear != own:
                loop.call_soon(hear, packet, Address(LOOPBACK, 7246))

    @contextlib.asynccontextmanager
    async def answered_by(self, host: Host, says: bool = True) -> AsyncIterator[Address]:
        """A pool on this network: its member answers, and its door is open."""
        async with host.opened() as address:

            def hear(packet: bytes, source: Address) -> None:
                seek = decode_beacon(packet)
                if not isinstance(seek, Seek):
                    return
                is_sponsor = says and host.invites.is_sponsor(seek.want)
                here = Here(
                    seek.nonce,
                    host.pool.pool_id,
                    host.pool.name,
                    host.node_id,
                    "studio",
                    address.port,
                    len(host.trust.credentials()),
                    (address,),
                    is_sponsor,
                )
                self.cast(encode_beacon(here), hear)

            self.hearers.append(hear)
            yield address
            self.hearers.remove(hear)


class Newcomer:
    """A PC at its first start, and the person before it."""

    def __init__(
        self, folder: Path, ether: Ether, *, name: str = "lab-3", is_terminal: bool = True,
        token: str = "", new: bool = False, pool: str = "",
    ) -> None:  # fmt: skip
        self.options = UpOptions(
            folder, name=name, is_terminal=is_terminal, token=token, new=new, pool=pool
        )
        self.signer = node_key(folder)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.lines: list[str] = []
        self.typed = asyncio.Event()
        self.told = asyncio.Event()
        node_id = node_id_of(self.signer.public_key)
        self.seeker = Seeker(node_id, name, lambda packet: ether.cast(packet, self.hear))
        ether.hearers.append(self.hear)
        self.entrance = Entrance(
            self.options,
            self.signer,
            self.seeker,
            self.ask,
            self.say,
            Clock(),
            random.Random(name),
            "bob",
            PATIENCE,
        )

    def hear(self, packet: bytes, source: Address) -> None:
        self.seeker.hear(packet, source)

    def say(self, line: str) -> None:
        self.said.append(line)
        self.told.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Until the person has been told or asked enough."""
        async with asyncio.timeout(STORY_TIMEOUT_S):
            while not is_so():
                self.told.clear()
                await self.told.wait()

    async def ask(self, prompt: str) -> str:
        self.asked.append(prompt)
        self.told.set()
        while not self.lines:
            self.typed.clear()
            await self.typed.wait()
        line = self.lines.pop(0)
        if line == "^D":
            raise EOFError
        return line

    def type(self, *lines: str) -> None:
        self.lines += lines
        self.typed.set()

    async def enter(self) -> Entered:
        async with asyncio.timeout(STORY_TIMEOUT_S):
            return await self.entrance.enter()

    async def fails(self) -> JoinError:
        with pytest.raises(JoinError) as raised:
            await self.enter()
        assert keys.load_pool(self.options.data_dir) is None
        return raised.value


# --- Nothing is said -----------------------------------------------------------------------------


async def test_the_first_pc_founds_a_pool_and_shows_its_phrase_once(tmp_path: Path) -> None:
    pc = Newcomer(tmp_path / "a", Ether())

    entered = await pc.enter()

    assert pc.asked == []
    assert pc.said[0] == "No pool was found on this network."
    words = pc.said[1].splitlines()[-2:]
    assert [len(line.split()) for line in words] == [6, 6]
    assert entered.pool.name == "lab-3-pool"
    assert [each.number for each in entered.ring] == [1]
    assert entered.bundles == (entered.bundle,)
    assert entered.is_new
    assert not entered.is_newcomer
    assert resume(pc.options) is None, "its store has to be kept first"
    keys.keep_pool(pc.options.data_dir, entered.pool)
    assert resume(pc.options) == Entered(entered.pool, entered.bundle)
    assert keys.load_root(pc.options.data_dir) is not None
    for half in words:
        assert half.strip() not in repr(entered)
        files = [path.read_text(errors="replace") for path in pc.options.data_dir.iterdir()]
        assert not any(half.strip() in text for text in files)


async def test_without_a_terminal_no_pool_is_founded_unasked(tmp_path: Path) -> None:
    error = await Newcomer(tmp_path / "a", Ether(), is_terminal=False).fails()

    assert error.exit_code == 4
    assert str(error) == "this PC is in no pool yet, and no pool answers here"
    assert "rain up --new" in error.hint
    assert "--join-file" in error.hint


async def test_new_founds_beside_a_pool_that_it_mentions(tmp_path: Path) -> None:
    ether = Ether()
    async with ether.answered_by(founder(tmp_path / "a")):
        pc = Newcomer(tmp_path / "b", ether, new=True, pool="cellar", is_terminal=False)
        entered = await pc.enter()

    assert entered.pool.name == "cellar"
    assert pc.said[0] == (
        "Heard pool 'attic' (1 PC, studio answered); founding another one, as --new says."
    )


async def test_two_first_pcs_at_once_ask_instead_of_founding_twins(tmp_path: Path) -> None:
    ether = Ether()
    one, two = Newcomer(tmp_path / "a", ether, name="one"), Newcomer(tmp_path / "b", ether)
    entering_one = asyncio.ensure_future(one.enter())
    entering_two = asyncio.ensure_future(two.enter())
    await one.until(lambda: bool(one.asked))
    await two.until(lambda: bool(two.asked))

    assert one.said == ["No pool was found, but lab-3 is looking for one too."]
    assert two.said == ["No pool was found, but one is looking for one too."]
    assert one.asked == two.asked == ["Found the pool on this PC? [y/N] "]
    one.type("y")
    founded = await entering_one
    host = founder_again(founded, one)
    async with ether.answered_by(host):
        await two.until(lambda: len(two.asked) == 2)
        two.type(host.invites.open_code().code.text)
        joined = await entering_two

    assert joined.pool == founded.pool
    assert two.said[1:4] == [
        "\npool 'one-pool' (1 PC, studio answered) is there now.",
        "Found pool 'one-pool' (1 PC, studio answered).",
        JOINING_ALLOWS,
    ]


def founder_again(entered: Entered, pc: Newcomer) -> Host:
    """The agent that runs on what was founded."""
    held = ((each.number, each.key) for each in entered.ring)
    rows = rows_of(entered.bundles, entered.claims, held)
    return Host(pc.options.data_dir, entered.pool, entered.bundle, rows, Clock())


async def test_who_will_not_found_waits_for_the_other(tmp_path: Path) -> None:
    ether = Ether()
    one, two = Newcomer(tmp_path / "a", ether, name="one"), Newcomer(tmp_path / "b", ether)
    two.type("n")
    waiting = asyncio.ensure_future(one.enter())
    entering = asyncio.ensure_future(two.enter())
    await two.until(lambda: "Waiting for one to found one (Ctrl-C stops)." in two.said)
    waiting.cancel()
    host = founder(tmp_path / "c")
    async with ether.answered_by(host):
        two.type(host.invites.open_code().code.text)
        assert (await entering).pool == host.pool


async def test_two_first_pcs_without_terminals_found_nothing(tmp_path: Path) -> None:
    ether = Ether()
    pcs = [
        Newcomer(tmp_path / name, ether, name=name, is_terminal=False) for name in ("one", "two")
    ]

    errors = await asyncio.gather(*(pc.fails() for pc in pcs))

    assert [error.exit_code for error in errors] == [4, 4]
    assert "two is looking for one too" in str(errors[0])


# --- A pool is there -----------------------------------------------------------------------------


async def test_a_pool_that_is_found_asks_for_its_code(tmp_path: Path) -> None:
    ether, host = Ether(), founder(tmp_path / "a")
    async with ether.answered_by(host) as address:
        pc = Newcomer(tmp_path / "b", ether)
        code = host.invites.open_code(role=Role.WORKER, person="bob").code
        pc.type("", "what?", code.text.upper().replace("-", " "))
        entered = await pc.enter()

    assert pc.said == [
        "Found pool 'attic' (1 PC, studio answered).",
        JOINING_ALLOWS,
        "that is not a Rain token. a token begins with rain1-; see: rain invite",
        "Joined pool 'attic' as lab-3.",
    ]
    assert len(pc.asked) == 3
    assert entered.contact == address
    assert entered.is_newcomer
    assert [each.key for each in entered.ring] == [host.trust.ring().keys[1]]
    assert set(entered.bundles) == {host.bundle, entered.bundle}
    assert len(entered.claims) == 1
    keys.keep_pool(pc.options.data_dir, entered.pool)
    assert resume(pc.options) == Entered(host.pool, entered.bundle)
    assert keys.load_authority(pc.options.data_dir) is None


async def test_a_wrong_code_is_told_with_the_tries_left(tmp_path: Path) -> None:
    ether, host = Ether(), founder(tmp_path / "a")
    async with ether.answered_by(host):
        pc = Newcomer(tmp_path / "b", ether)
        open_code = host.invites.open_code()
        wrong = mistyped(open_code)
        pc.type(wrong, wrong, wrong, wrong, "099 zoo zoo", "^D")
        error = await pc.fails()

    fresh = "get a fresh code: on an admin's PC type `rain invite`"
    again = "look at it again, on the PC that shows it"
    assert pc.said[2:] == [
        f"that code is wrong: 2 tries are left. {again}",
        f"that code is wrong: 1 try is left. {again}",
        f"that code is wrong: it is of no use any more. {fresh}",
        f"that code does not work any more: it was typed wrong too often. {fresh}",
        "nobody here has shown such a code. look at its three digits again",
    ]
    assert error.exit_code == 4
    assert open_code.code.text not in "".join(pc.said)


def mistyped(open_code: OpenCode) -> str:
    first = "zoo" if open_code.code.words[0] != "zoo" else "abandon"
    return f"{open_code.code.nameplate} {first} {open_code.code.words[1]}"


async def test_without_a_terminal_a_pool_that_is_found_is_named(tmp_path: Path) -> None:
    ether = Ether()
    async with ether.answered_by(founder(tmp_path / "a")):
        error = await Newcomer(tmp_path / "b", ether, is_terminal=False).fails()

    assert error.exit_code == 4
    assert "found here: 'attic'" in str(error)
    assert "--join-file" in error.hint


async def test_two_pools_are_both_listed(tmp_path: Path) -> None:
    ether, cellar = Ether(), founder(tmp_path / "c", pool_name="cellar")
    async with ether.answered_by(founder(tmp_path / "a")), ether.answered_by(cellar):
        error = await Newcomer(tmp_path / "b", ether, is_terminal=False).fails()
        assert "found here: 'attic', 'cellar'" in str(error)
        assert "--pool NAME" in error.hint

        pc = Newcomer(tmp_path / "d", ether)
        pc.type(cellar.invites.open_code().code.text)
        assert (await pc.enter()).pool == cellar.pool
        assert pc.said[:2] == [
            "Found pool 'attic' (1 PC, studio answered).",
            "Found pool 'cellar' (1 PC, studio answered).",
        ]

        named = Newcomer(tmp_path / "e", ether, pool="attic")
        named.type("^D")
        await named.fails()
        assert named.said[0] == "Found pool 'attic' (1 PC, studio answered)."
        assert "cellar" not in "".join(named.said)


async def test_a_pool_by_name_is_waited_for(tmp_path: Path) -> None:
    ether, host = Ether(), founder(tmp_path / "a")
    pc = Newcomer(tmp_path / "b", ether, pool="attic")
    entering = asyncio.ensure_future(pc.enter())
    await pc.until(lambda: bool(pc.said))
    assert pc.said[0].startswith("Nobody of pool 'attic' answers yet.")
    async with ether.answered_by(host):
        pc.type(host.invites.open_code().code.text)
        assert (await entering).pool == host.pool

    alone = Newcomer(tmp_path / "c", Ether(), pool="attic", is_terminal=False)
    assert str(await alone.fails()) == "nobody of pool 'attic' answered in time"


# --- With an invitation --------------------------------------------------------------------------


async def test_a_code_or_a_token_joins_without_a_question(tmp_path: Path) -> None:
    ether, host = Ether(), founder(tmp_path / "a")
    async with ether.answered_by(host):
        code = host.invites.open_code().code
        by_code = Newcomer(tmp_path / "b", ether, token=code.text, is_terminal=False)
        assert (await by_code.enter()).pool == host.pool
        line, _ = host.invites.open_token()
        by_token = Newcomer(tmp_path / "c", ether, token=line, is_terminal=False)
        assert (await by_token.enter()).pool == host.pool

    for pc in (by_code, by_token):
        assert pc.asked == []
        assert pc.said == [JOINING_ALLOWS, "Joined pool 'attic' as lab-3."]


async def test_a_member_that_is_no_sponsor_names_the_doors(tmp_path: Path) -> None:
    ether, host = Ether(), founder(tmp_path / "a")
    async with ether.answered_by(host, says=False):
        line, _ = host.invites.open_token()
        pc = Newcomer(tmp_path / "b", ether, token=line, is_terminal=False)
        assert (await pc.enter()).pool == host.pool


async def test_an_evil_twin_is_passed_over(tmp_path: Path) -> None:
    ether, host, twin = Ether(), founder(tmp_path / "a"), founder(tmp_path / "t")
    async with ether.answered_by(twin), ether.answered_by(host):
        twin.invites.is_sponsor = lambda want: True  # type: ignore[method-assign]
        for text in (host.invites.open_token()[0], host.invites.open_code().code.text):
            folder = tmp_path / f"pc-{text[:5]}"
            pc = Newcomer(folder, ether, token=text, is_terminal=False)
            assert (await pc.enter()).pool == host.pool


@pytest.mark.parametrize("is_code", [True, False])
async def test_nobody_answers(tmp_path: Path, is_code: bool) -> None:
    host = founder(tmp_path / "a")
    token = "482-velvet-orbit" if is_code else host.invites.open_token()[0]
    pc = Newcomer(tmp_path / "b", Ether(), token=token, is_terminal=False)

    error = await pc.fails()

    assert error.exit_code == 4
    assert str(error).startswith("nobody of the pool")
    assert "firewall" in error.hint


async def test_a_token_that_is_used_up_is_not_tried_for_ever(tmp_path: Path) -> None:
    ether, host = Ether(), founder(tmp_path / "a")
    line, _ = host.invites.open_token()
    async with ether.answered_by(host):
        await Newcomer(tmp_path / "b", ether, token=line).enter()
        error = await Newcomer(tmp_path / "c", ether, token=line).fails()

    assert str(error) == "the token is used up"
    assert "rain invite --token" in error.hint


async def test_a_text_that_is_neither_is_an_error_at_once(tmp_path: Path) -> None:
    for text in ("hello", "482-velvet"):
        with pytest.raises(MeshError):
            await Newcomer(tmp_path / "a", Ether(), token=text).enter()


async def test_a_clock_that_is_wrong_is_mentioned(tmp_path: Path) -> None:
    ether, host = Ether(), founder(tmp_path / "a")
    host.clock.pass_s(3_600)
    async with ether.answered_by(host):
        pc = Newcomer(tmp_path / "b", ether, token=host.invites.open_code().code.text)
        await pc.enter()

    assert "The clock of this PC is 60 min behind the pool's." in pc.said


# --- In a pool already ---------------------------------------------------------------------------


def test_a_pc_that_is_in_a_pool_resumes_it_or_says_what_is_in_the_way(tmp_path: Path) -> None:
    host, other = founder(tmp_path / "a"), founder(tmp_path / "o")

    def options(**given: object) -> UpOptions:
        return UpOptions(host.folder, name="studio", **given)  # type: ignore[arg-type]

    here = Entered(host.pool, host.bundle)
    assert resume(UpOptions(tmp_path / "nowhere")) is None
    assert not here.is_new
    assert resume(options()) == here
    assert resume(options(pool="attic")) == here
    assert resume(options(token=host.invites.open_token()[0])) == here
    assert resume(options(token="482-velvet-orbit")) == here
    for wrong in (
        options(new=True),
        options(pool="cellar"),
        options(token=other.invites.open_token()[0]),
    ):
        with pytest.raises(JoinError, match="this PC is in pool 'attic' already") as raised:
            resume(wrong)
        assert raised.value.exit_code == 1
        assert "rain leave" in raised.value.hint


# --- Hints by datagram ---------------------------------------------------------------------------


async def test_what_is_heard_is_bounded_and_only_what_was_asked_for_counts() -> None:
    calls: list[bytes] = []
    seeker = Seeker(NodeId("a" * 26), "lab-3", calls.append)

    def flood(packet: bytes) -> None:
        seek = decode_beacon(packet)
        assert isinstance(seek, Seek)
        calls.append(packet)
        for n in range(100):
            pool_id, node_id = bytes([n]) * 16, NodeId("b" * 26)
            doors = (Address(f"10.0.0.{n}", 1),)
            here = Here(seek.nonce, pool_id, f"p{n}", node_id, "x", 1 + n, 1, doors, True)
            late = Here(b"l" * 8, b"l" * 16, "late", node_id, "x", 1, 1)
            for beacon in (late, here, Seek(NodeId(f"{chr(97 + n % 26)}" * 26), b"n" * 8, "", "y")):
                seeker.hear(encode_beacon(beacon), Address("10.0.0.9", 5))
            seeker.hear(b"rb garbage", Address("10.0.0.9", 5))

    seeker._cast = flood
    heard = await seeker.seek(0.01, want="482")

    assert len(heard.pools) == 16
    assert heard.deciding == {}
    assert "late" not in {each.name for each in heard.pools.values()}
    assert all(len(each.sponsors) == 1 for each in heard.pools.values())
    assert heard.doors()[:2] == [Address("10.0.0.9", 1), Address("10.0.0.9", 2)]
    assert heard.doors("p3") == [Address("10.0.0.9", 4), Address("10.0.0.3", 1)]
    asked = decode_beacon(calls[0])
    assert isinstance(asked, Seek)
    assert (asked.want, asked.name, asked.is_deciding) == ("482", "lab-3", False)


async def test_a_contact_that_is_no_name_is_left_out(tmp_path: Path) -> None:
    # The first one is a label of 63 letters, but no longer once it is written in ASCII.
    contacts = ("ü" * 63, "127.0.0.1:99")
    options = UpOptions(tmp_path, name="blue", contacts=contacts)
    assert await resolve_contacts(options) == (Address("127.0.0.1", 99),)
