"""Coming into a pool, staying in it, and going: as people do it, on the real wire."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from rain.mesh import keys
from rain.mesh.certificates import make_inspect
from tests.testbed.lan import Json, Lan, Pc, lan, missing, wait_agreed, wait_until
from tests.testbed.typist import Typist

pytestmark = [pytest.mark.lan]

SHARE = ("--executor", "process", "--cpus", "2")
RUN = ("--executor", "process", "--cpus", "0.1")
GOAL_S = 2.0
DEADLINE_S = 10 * GOAL_S
WAIT_S = 50.0
LONG_S = 29 * 24 * 3_600
NOT_IN_POOL = 4


@dataclass
class Home:
    """A pool that a person founded at a terminal, and PCs without one."""

    lan: Lan
    founder: Pc
    terminal: Typist
    phrase: str
    typed: Pc
    """Joins by a code that a person types."""
    coded: Pc
    """Joins by --join."""
    lab: Pc
    """Founds another pool."""
    guest: Pc
    spare: Pc


def require_lan() -> None:
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    require_lan()
    with lan(tmp_path_factory.mktemp("joining"), 6) as one:
        founder, typed, coded, lab, guest, spare = one.pcs
        with closing(founder.sit_down("up", "--name", founder.name, *SHARE)) as terminal:
            terminal.wait_for("ready")
            phrase = phrase_in(terminal.seen)
            yield Home(one, founder, terminal, phrase, typed, coded, lab, guest, spare)


def phrase_in(seen: str) -> str:
    """The twelve words, as they are shown on two lines."""
    lines = re.findall(r"^ {4}((?:[a-z]+ ){5}[a-z]+)$", seen, re.MULTILINE)
    assert len(lines) == 2, seen
    return " ".join(lines)


def code_of(pc: Pc, *words: str) -> str:
    done = pc.rain("invite", "-q", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def members(pc: Pc) -> dict[str, Json]:
    return {row["name"]: row for row in pc.ask("members")["members"]}


def assert_works(pc: Pc) -> None:
    done = pc.rain("run", *RUN, "--", "echo", "fine")
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_two_people_two_terminals_and_a_code(home: Home) -> None:
    """PC 1: `rain up`, `rain invite`. PC 2: `rain up`, the code, in the pool."""
    assert "No pool was found on this network" in home.terminal.seen
    kept = b"".join(
        file.read_bytes() for file in home.founder.data_dir.rglob("*") if file.is_file()
    )
    assert home.phrase.encode() not in kept
    assert home.phrase.split()[0].encode() + b" " + home.phrase.split()[1].encode() not in kept

    invite = home.founder.sit_down("invite")
    newcomer = home.typed.sit_down("up", "--name", home.typed.name, *SHARE)
    with closing(invite), closing(newcomer):
        invite.wait_for("Valid until")
        code = invite.seen.split("this code there:")[1].split()[0]
        newcomer.wait_for("Invite code")
        assert "Found pool 'pc1-pool'" in newcomer.seen
        assert "Joining lets the members of a pool run containers on this PC" in newcomer.seen
        pressed = newcomer.type(code.upper().replace("-", "  "))
        newcomer.wait_for("ready", DEADLINE_S)
        took = time.monotonic() - pressed
        print(f"from the last key to ready: {took:.2f} s (goal {GOAL_S} s)")
        invite.wait_for(f"{home.typed.name} joined")
        assert invite.ended() == 0
        assert took < DEADLINE_S
        row = members(home.founder)[home.typed.name]
        assert (row["role"], row["invited_by"]) == ("member", home.founder.name)
        assert row["person"] == members(home.founder)[home.founder.name]["person"]
        assert_works(home.typed)
        newcomer.interrupt()
        assert newcomer.ended() == 0
    home.typed.up()
    home.typed.wait_ready()


def test_a_code_on_the_command_line_with_role_and_person(home: Home) -> None:
    code = code_of(home.founder, "--role", "worker", "--for", "wilhelmina")
    home.coded.up("--join", code, *SHARE)
    home.coded.wait_ready()
    wait_agreed([home.founder, home.typed, home.coded])
    row = members(home.typed)[home.coded.name]
    assert (row["role"], row["person"]) == ("worker", "wilhelmina")

    only = [one for one in home.founder.ask("status")["warnings"] if "only admin" in one]
    assert only
    assert "--role admin" in only[0]


@dataclass
class Lab:
    """A second pool on the same LAN."""

    founder: Pc
    terminal: Typist
    phrase: str


@pytest.fixture(scope="module")
def lab(home: Home) -> Iterator[Lab]:
    words = ("up", "--new", "--pool", "lab", "--name", home.lab.name, *SHARE)
    with closing(home.lab.sit_down(*words)) as terminal:
        terminal.wait_for("Heard pool 'pc1-pool'")
        terminal.wait_for("ready")
        yield Lab(home.lab, terminal, phrase_in(terminal.seen))


def test_two_pools_are_both_listed(home: Home, lab: Lab) -> None:
    """The code says which it is for, and so does a token; without a person one of them must."""
    done = home.guest.rain("up", *SHARE)
    assert done.returncode == NOT_IN_POOL
    for words in ("'lab'", "'pc1-pool'", "--pool NAME", "rain invite --token"):
        assert words in done.stderr, done.stderr

    with closing(home.guest.sit_down("up", "--name", "guest", *SHARE)) as guest:
        guest.wait_for("The code says which of the pools it is for")
        assert "Found pool 'lab'" in guest.seen
        assert "Found pool 'pc1-pool'" in guest.seen
        guest.wait_for("Invite code")
        guest.type(code_of(lab.founder))
        guest.wait_for("Joined pool 'lab'")
        guest.wait_for("ready")
        guest.interrupt()
        assert guest.ended() == 0

    with closing(home.spare.sit_down("up", "--pool", "lab", "--name", "spare", *SHARE)) as spare:
        spare.wait_for("Invite code")
        assert "pc1-pool" not in spare.seen
        spare.type(lab.founder.rain("invite", "--token", "-q").stdout.strip())
        spare.wait_for("Joined pool 'lab'")
        spare.wait_for("ready")
        assert home.spare.rain("leave").returncode == 0
        assert spare.ended() == 0


def test_the_founder_is_gone_for_good(home: Home, lab: Lab) -> None:
    """Twelve words on another PC: it is an admin, keeps the root, and can invite."""
    home.guest.up()
    home.guest.wait_ready()
    wait_agreed([lab.founder, home.guest])
    lab.terminal.program.kill()
    lab.terminal.ended()
    shutil.rmtree(lab.founder.data_dir)
    refused = home.guest.rain("invite")
    assert refused.returncode == 1
    assert "this PC is no admin of the pool" in refused.stderr

    for phrase, words in (
        (home.phrase, "recovery phrase of another pool"),
        (" ".join(lab.phrase.split()[:11]), "has 12 words, this one has 11"),
        (" ".join(reversed(lab.phrase.split())), "do not belong together"),
    ):
        done = home.guest.rain("recover", "--phrase-file", "-", stdin=phrase)
        assert done.returncode == 1, phrase
        assert words in done.stderr or "another pool" in done.stderr, done.stderr
    wait_until(lambda: _coordinates(home.guest), WAIT_S, "the rest of the pool goes on")
    done = home.guest.rain("recover", "--phrase-file", "-", stdin=lab.phrase)
    assert done.returncode == 0, done.stderr
    assert home.guest.ask("status")["role"] == "admin"

    home.spare.up("--join", code_of(home.guest, "--role", "admin"), *SHARE)
    home.spare.wait_ready()
    wait_agreed([home.guest, home.spare])
    code = wait_until(lambda: _code_when_ready(home.spare), WAIT_S, "the new admin can invite")
    assert code
    assert_works(home.spare)
    home.spare.kill(signal.SIGTERM)
    home.guest.kill(signal.SIGTERM)


def _coordinates(pc: Pc) -> bool:
    status = pc.try_ask("status")
    return status is not None and status["epoch"] is not None


def _code_when_ready(pc: Pc) -> str:
    done = pc.rain("invite", "-q")
    return done.stdout.strip() if done.returncode == 0 else ""


def test_a_certificate_is_renewed_in_time_and_after_its_end(home: Home) -> None:
    """Once due by its age, and once of a PC that slept past its expiry."""
    pc = home.typed
    for age_s, life_s in ((3_000, 3_600), (10_000, 5_000)):
        pc.kill(signal.SIGTERM)
        _give_short_certificate(home.founder, pc, age_s, life_s)
        pc.up()
        pc.wait_ready()
        wait_until(lambda: _left_s(pc) > LONG_S, WAIT_S, "the certificate is a new one")
        wait_agreed([home.founder, home.typed, home.coded])
        assert_works(pc)


def _give_short_certificate(admin: Pc, pc: Pc, age_s: int, life_s: int) -> None:
    """As if the admin had let it in so long ago, for so long. Its agent is stopped."""
    authority, pool = keys.load_authority(admin.data_dir), keys.load_pool(pc.data_dir)
    bundle = keys.load_certificate(pc.data_dir)
    assert authority is not None
    assert pool is not None
    assert bundle is not None
    own = make_inspect(pool)(bundle)
    assert own is not None
    short = authority.issue(
        own.public_key,
        name=own.name,
        role=own.role,
        person=own.person,
        generation=own.generation + 1,
        invite_id=own.invite_id,
        now_unix_s=_now_s() - age_s,
        life_s=life_s,
    )
    keys.keep_certificate(pc.data_dir, short)


def _left_s(pc: Pc) -> float:
    """How long the certificate on disk still counts."""
    pool, bundle = keys.load_pool(pc.data_dir), keys.load_certificate(pc.data_dir)
    assert pool is not None
    assert bundle is not None
    own = make_inspect(pool)(bundle)
    assert own is not None
    return own.until_unix_s - _now_s()


def _now_s() -> int:
    return int(time.time())  # noqa: TID251  certificates have dates


def test_a_kick_and_who_was_away_meanwhile(home: Home) -> None:
    """The removed one ends with words, now and after a restart; the other comes back in."""
    away, gone = home.typed, home.coded
    away.kill(signal.SIGTERM)
    key = home.founder.ask("status")["key"]["number"]
    done = home.founder.rain("kick", gone.name, "--reason", "sold")
    assert done.returncode == 0, done.stderr
    assert gone.agent is not None
    assert gone.agent.wait(WAIT_S) == NOT_IN_POOL
    said = gone.output.read_text()
    assert "this PC was removed from pool 'pc1-pool' by pc1: sold" in said
    assert "rain leave" in said
    assert "Traceback" not in said
    gone.agent = None

    again = gone.rain("up")
    assert again.returncode == NOT_IN_POOL
    assert "was removed from pool" in again.stderr
    away.up()
    away.wait_ready()
    wait_agreed([home.founder, away])
    # Alone for a moment, the founder gave those who are away 2 s to ask for the new key.
    wait_until(lambda: away.ask("status")["key"]["number"] > key, WAIT_S, "the new key is in use")
    assert gone.name not in members(away)
    assert [one["name"] for one in away.ask("members")["removed"]] == [gone.name]
    assert_works(away)

    assert gone.rain("leave").returncode in (0, 3)
    shutil.rmtree(gone.data_dir, ignore_errors=True)
    gone.up("--join", code_of(home.founder), *SHARE)
    gone.wait_ready()
    wait_agreed([home.founder, away, gone])
    gone.kill(signal.SIGTERM)


def test_a_copied_data_folder(home: Home) -> None:
    """Refused at the start; and where somebody made it fit, the older of the two ends."""
    original, copy = home.typed, home.spare
    shutil.rmtree(copy.data_dir, ignore_errors=True)
    shutil.copytree(
        original.data_dir, copy.data_dir, ignore=shutil.ignore_patterns("*.sock", "exec")
    )
    refused = copy.rain("up")
    assert refused.returncode == 1
    assert "is a copy of" in refused.stderr
    assert "two agents cannot be one node" in refused.stderr

    place = copy.data_dir / keys.HOME_FILE
    fitted = json.loads(place.read_text()) | {"folder": str(copy.data_dir.resolve())}
    place.write_text(json.dumps(fitted))
    copy.up()
    assert original.agent is not None
    assert original.agent.wait(WAIT_S) == 1
    said = original.output.read_text()
    assert "another PC has started with this PC's identity" in said
    assert "rain kick" in said
    assert "Traceback" not in said
    original.agent = None
    copy.wait_ready()
    assert_works(copy)
    copy.kill(signal.SIGTERM)


# --- Two first PCs at once -----------------------------------------------------------------------


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[tuple[Pc, Pc]]:
    require_lan()
    with lan(tmp_path, 2) as one:
        first, second = one.pcs
        yield first, second


def test_two_first_pcs_with_people_end_in_one_pool(twins: tuple[Pc, Pc]) -> None:
    """Each hears the other, so somebody is asked; the other one joins what is founded."""
    first, second = twins
    one = first.sit_down("up", "--name", first.name, *SHARE)
    two = second.sit_down("up", "--name", second.name, *SHARE)
    with closing(one), closing(two):
        one.wait_for("Found the pool on this PC?")
        two.wait_for("Found the pool on this PC?")
        assert "pc2 is looking for one too" in one.seen
        assert "pc1 is looking for one too" in two.seen
        assert "Founded" not in one.seen + two.seen
        one.type("y")
        one.wait_for("ready")
        two.wait_for("is there now")
        two.wait_for("Invite code")
        two.type(code_of(first))
        two.wait_for("ready")
        wait_agreed([first, second])


def test_two_first_pcs_without_people_found_nothing(twins: tuple[Pc, Pc]) -> None:
    for pc in twins:
        pc.up(*SHARE)
    told = []
    for pc in twins:
        assert pc.agent is not None
        assert pc.agent.wait(WAIT_S) == NOT_IN_POOL
        told.append(pc.output.read_text())
        assert not (pc.data_dir / keys.POOL_FILE).exists()
    assert any("is looking for one too" in said for said in told), told
    assert all("rain up --new" in said for said in told), told
