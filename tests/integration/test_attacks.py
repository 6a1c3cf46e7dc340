"""The table of attacks, each on the real wire: refused, counted, and the pool works meanwhile."""

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from rain.agent.founding import found_pool
from rain.mesh import keys
from rain.mesh.certificates import make_inspect
from tests.testbed.intruder import answer_of, attack, start
from tests.testbed.lan import Pc, missing, wait_agreed, wait_until
from tests.testbed.scene import (
    DEADLINE_S,
    RUN,
    SHARE,
    Count,
    Scene,
    assert_works,
    attacked_pool,
    join,
    refused,
    submit,
)
from tests.testbed.typist import Typist
from tests.testbed.wire import Injector, Sniffer

pytestmark = [pytest.mark.lan]

CONNECTIONS = 10_000


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with attacked_pool(tmp_path_factory.mktemp("attacks")) as one:
        yield one


# --- Listening -----------------------------------------------------------------------------------


def test_a_listener_reads_nothing(scene: Scene) -> None:
    secret = scene.folder / "secret"
    secret.write_text("sesame-of-the-secret")
    script = 'echo "output-of-the-job $SPICE"; cat "$PIN_FILE"'
    with Sniffer(scene.lan.namespace) as sniffer:
        shout = "import socket; socket.socket(2, 2).sendto(b'heard-by-all', ('198.18.0.1', 7246))"
        scene.eve.run("python3", "-c", shout)
        done = scene.mia.rain(
            "run", *RUN, "--node", scene.second.name, "--name", "name-of-the-job",
            "--env", "SPICE=saffron-of-the-environment", "--secret", f"PIN={secret}",
            "--", "sh", "-c", script,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        scene.admin.rain("invite", "--for", "person-of-the-invite")
        wait_agreed(scene.pool)
        job = scene.admin.ask("job", scene.mia.ask("job", "last")["id"])
    heard = sniffer.text()

    assert "output-of-the-job saffron-of-the-environment" in done.stdout
    assert "sesame-of-the-secret" in done.stdout
    assert job["name"] == "name-of-the-job", "it is known on a third PC"
    assert b"heard-by-all" in heard, "the listener hears"
    assert len(sniffer.packets(scene.mia.address)) > 0
    for marker in (
        "output-of-the-job", "saffron-of-the-environment", "sesame-of-the-secret",
        "name-of-the-job", "person-of-the-invite", "hermione", "wilhelmina", "PIN_FILE", "SPICE",
        job["id"],
    ):  # fmt: skip
        assert marker.encode() not in heard, marker


# --- In the middle, and at the door --------------------------------------------------------------


@pytest.mark.parametrize(
    ("signs", "reason", "words"),
    [
        (False, "door.door_denied_bad_proof", "somebody may be listening in between"),
        (True, "door.door_denied_wrong_code", "that code is wrong: 2 tries are left"),
    ],
)
def test_a_relay_with_the_right_code_fails_at_both_ends(
    scene: Scene, signs: bool, reason: str, words: str
) -> None:
    """The code is typed right, but between the two ends sits somebody who ends their TLS.

    It passes on every byte, or asks with a key of its own and passes on what proves the code.
    """
    count = Count(scene.admin)
    guest = scene.guest
    code = scene.admin.rain("invite", "-q").stdout.strip()
    relay = _trap(scene, f"relay-{signs}", host=scene.admin.address, signs=signs)
    _deafen(guest, scene.pool)
    try:
        done = guest.rain("up", "--join", code, *SHARE)
        assert_works(scene.mia)
    finally:
        visits = _untrap(relay)
        _deafen(guest, scene.pool, again=True)

    assert visits
    assert done.returncode == 4, done.stdout + done.stderr
    assert words in done.stderr, done.stderr
    count.rose(reason)
    assert guest.name not in {row["name"] for row in scene.admin.ask("members")["members"]}
    assert not (guest.data_dir / "pool.json").exists()


def test_a_false_door_that_lets_everybody_in(scene: Scene) -> None:
    """It knows no code and says welcome: the newcomer itself must refuse."""
    guest = scene.guest
    code = scene.admin.rain("invite", "-q").stdout.strip()
    trap = _trap(scene, "lies", host=scene.admin.address, lies=True)
    _deafen(guest, scene.pool)
    try:
        done = guest.rain("up", "--join", code, *SHARE)
    finally:
        assert _untrap(trap)
        _deafen(guest, scene.pool, again=True)

    assert done.returncode == 4, done.stdout + done.stderr
    assert "somebody may be listening in between" in done.stderr
    assert not (guest.data_dir / "pool.json").exists()
    assert_works(scene.mia)


def _trap(scene: Scene, name: str, **args: object) -> subprocess.Popen[bytes]:
    status = scene.admin.ask("status")
    folder = scene.folder / name
    folder.mkdir(mode=0o700)
    program = start(
        scene.eve, "relay", folder=str(folder), own=scene.eve.address,
        pool_id=status["pool"]["id"], pool_name=status["pool"]["name"], **args,
    )  # fmt: skip
    assert program.stdout is not None
    said = program.stdout.readline()
    assert said == b"listening\n", said + program.stdout.read()
    return program


def _untrap(program: subprocess.Popen[bytes]) -> bool:
    """Whether anybody stepped into it."""
    said, _ = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 0, said
    return b'"visits": 0' not in said


def _deafen(pc: Pc, others: list[Pc], again: bool = False) -> None:
    """Between that PC and the pool nothing passes but what the one in the middle passes on."""
    for other in others:
        what = "-D" if again else "-A"
        done = pc.run("iptables", what, "INPUT", "-s", other.address, "-j", "DROP")
        assert done.returncode == 0, done.stderr


def test_three_wrong_tries_burn_a_code(scene: Scene) -> None:
    count = Count(scene.admin)
    host = scene.admin.sit_down("invite")
    guest = scene.guest.sit_down("up", "--name", scene.guest.name, *SHARE)
    try:
        code = _code_shown(host)
        wrong = f"{code.split('-')[0]}-" + ("zone-zone" if "zoo" in code else "zoo-zoo")
        at = 0
        for left in ("2 tries are left", "1 try is left", "it is of no use any more"):
            guest.wait_for("Invite code", after=at)
            at = len(guest.seen)
            guest.type(wrong)
            guest.wait_for(left, after=at)
        guest.wait_for("Invite code", after=at)
        guest.type(code)
        guest.wait_for("typed wrong too often")
        host.wait_for("the code is over")
        assert host.seen.count("tried a wrong code") == 3
        assert host.ended() == 1
        assert_works(scene.mia)
    finally:
        host.close()
        guest.close()

    count.rose("door.door_denied_wrong_code", by=3)
    count.rose("door.door_denied_code_burnt")
    events = scene.second.ask("members", "--events")["events"]
    assert "wrong tries" in [one for one in events if one["event"] == "invitation over"][-1]["what"]


def _code_shown(host: Typist) -> str:
    seen = host.wait_for("Valid until")
    return seen.split("this code there:")[1].split()[0]


def test_used_and_expired_codes_and_tokens(scene: Scene) -> None:
    count = Count(scene.admin)
    guest, eve = scene.guest, scene.eve
    code = scene.admin.rain("invite", "-q").stdout.strip()
    guest.up("--join", code, *SHARE)
    guest.wait_ready()
    _refuses(eve, code, "used already: each lets in one PC")
    assert_works(guest)

    late = scene.admin.rain("invite", "-q", "--ttl", "1s").stdout.strip()
    token = scene.admin.rain("invite", "--token", "-q", "--ttl", "1s").stdout.strip()
    once = scene.admin.rain("invite", "--token", "-q", "--uses", "1").stdout.strip()
    file = guest.folder / "once"
    file.write_text(once)
    assert guest.rain("leave").returncode == 0
    guest.kill(signal.SIGTERM)
    guest.up("--join-file", str(file), *SHARE)
    guest.wait_ready()
    _refuses(eve, once, "the token is used up")
    _refuses(eve, late, "that code has run out")
    _refuses(eve, token, "the token has run out")
    assert guest.rain("leave").returncode == 0
    guest.kill(signal.SIGTERM)

    count.rose(
        "door.door_denied_code_used", "door.door_denied_code_expired",
        "door.door_denied_token_used", "door.door_denied_token_expired",
    )  # fmt: skip
    assert_works(scene.mia)


def _refuses(pc: Pc, invitation: str, words: str) -> None:
    done = pc.rain("up", "--join-file", "-", *SHARE, stdin=invitation)
    assert done.returncode == 4, done.stdout + done.stderr
    assert words in done.stderr, done.stderr
    assert not (pc.data_dir / "pool.json").exists()


# --- Certificates --------------------------------------------------------------------------------


def test_certificates_of_strangers_and_of_old_pools(scene: Scene) -> None:
    """Another root, be it that of an earlier pool of the same name and the same PC."""
    count = Count(scene.second)
    for name, thief in (("stranger", None), ("old", scene.mia)):
        folder = scene.folder / name
        folder.mkdir(mode=0o700)
        if thief is not None:
            shutil.copy(thief.data_dir / keys.NODE_KEY_FILE, folder)
        founded = found_pool(
            folder, keys.load_node_key(folder), pool_name="home", node_name=scene.mia.name,
            person="eve", now_unix_s=_now_s(),
        )  # fmt: skip
        keys.keep_pool(folder, founded.pool)
        told = attack(scene.eve, "hail", folder=str(folder), host=scene.second.address)
        assert told["answer"] == "end", told
    count.rose("streams.stranger", by=2)
    assert_works(scene.mia)


def test_an_expired_certificate(scene: Scene) -> None:
    count = Count(scene.second)
    folder = scene.stolen(scene.mia)
    authority = keys.load_authority(scene.admin.data_dir)
    pool, bundle = keys.load_pool(folder), keys.load_certificate(folder)
    assert authority is not None
    assert pool is not None
    assert bundle is not None
    own = make_inspect(pool)(bundle)
    assert own is not None
    expired = authority.issue(
        own.public_key, name=own.name, role=own.role, person=own.person,
        generation=own.generation, invite_id=own.invite_id, now_unix_s=_now_s() - 1_000,
        life_s=500,
    )  # fmt: skip
    keys.keep_certificate(folder, expired)
    told = attack(scene.eve, "hail", folder=str(folder), host=scene.second.address)

    assert told == {"answer": "refused", "reason": "expired"}
    count.rose("streams.expired")
    assert_works(scene.mia)


def test_somebody_elses_certificate(scene: Scene) -> None:
    """TLS proves one certificate, HELLO tells another: the admin's."""
    count = Count(scene.second)
    folder, shown = scene.stolen(scene.mia), scene.stolen(scene.admin)
    told = attack(
        scene.eve, "hail", folder=str(folder), shown=str(shown), host=scene.second.address
    )

    assert told == {"answer": "refused", "reason": "other_certificate"}
    count.rose("streams.other_certificate")


def _now_s() -> int:
    return int(time.time())  # noqa: TID251  certificates have dates


# --- Packets -------------------------------------------------------------------------------------


def test_packets_that_were_changed_reflected_and_replayed(scene: Scene) -> None:
    """What `second` said to `mia` comes once more: cut, with a bit turned, and as it was."""
    source, target = scene.second, scene.mia
    with Sniffer(scene.lan.namespace) as sniffer:
        wait_until(lambda: _is_enough(sniffer, scene), DEADLINE_S, "packets")
    recorded = sniffer.packets(source.address, target.address)[-20:]
    before = target.ask("status")["epoch"]
    count, own = Count(target), Count(source)
    with _port_to(scene, target) as to_target, _port_to(scene, source) as to_source:
        for frame in recorded:
            to_target.play(frame)
            to_target.play(frame, frame.payload[:-1])
            to_target.play(frame, frame.payload[:40])
            turned = bytearray(frame.payload)
            turned[len(turned) // 2] ^= 1
            to_target.play(frame, bytes(turned))
            to_source.play(frame.reflected())
    assert_works(source, target)

    played = len(recorded)
    count.rose("packets.replayed", "packets.too_short", by=played)
    count.rose("packets.stranger", by=2 * played)
    own.rose("packets.recipient", by=played // 2)  # what was for everybody is its own echo
    assert target.ask("status")["epoch"] == before


def _is_enough(sniffer: Sniffer, scene: Scene) -> bool:
    return len(sniffer.packets(scene.second.address, scene.mia.address)) >= 5


def _port_to(scene: Scene, pc: Pc) -> Injector:
    return Injector(scene.lan.namespace, pc.port)


def test_packets_from_before_a_restart(scene: Scene) -> None:
    """A PC that has just started knows no numbers: old packets must count for nothing there."""
    source, target = scene.second, scene.mia
    with Sniffer(scene.lan.namespace) as sniffer:
        wait_until(lambda: _is_enough(sniffer, scene), DEADLINE_S, "packets")
    recorded = sniffer.packets(source.address, target.address)
    target.kill()
    target.up(*SHARE)
    wait_until(lambda: target.try_ask("status"), DEADLINE_S, "it answers")
    count = Count(target)
    with _port_to(scene, target) as wire:
        for frame in recorded:
            wire.play(frame)
        target.wait_ready()
        for frame in recorded:
            wire.play(frame)
    count.rose("packets.replayed", by=len(recorded))
    wait_agreed(scene.pool)
    assert_works(target)


def test_a_removed_node_and_the_key_that_it_knew(scene: Scene) -> None:
    """After a kick its certificate, its packets, and all packets under the old key are refused."""
    guest = scene.guest
    shutil.rmtree(guest.data_dir, ignore_errors=True)
    join(scene, guest, "member", "gustav")
    guest.wait_ready()
    wait_agreed([*scene.pool, guest])
    with Sniffer(scene.lan.namespace) as sniffer:
        wait_until(lambda: _is_enough(sniffer, scene), DEADLINE_S, "packets")
    stolen = scene.stolen(guest)
    guest.kill()
    number = scene.admin.ask("status")["key"]["number"]
    assert scene.admin.rain("kick", guest.name, "--reason", "test").returncode == 0
    wait_until(lambda: _key(scene.mia) > number, DEADLINE_S, "the new key is everywhere")
    wait_until(lambda: not _opens(scene, sniffer), DEADLINE_S, "the old key is gone")

    count = Count(scene.mia)
    told = attack(guest, "hail", folder=str(stolen), host=scene.mia.address)
    assert told == {"answer": "refused", "reason": "removed"}
    attack(guest, "cast", folder=str(stolen), host=scene.mia.address, kinds=["heartbeat"])
    with _port_to(scene, scene.mia) as wire:
        for frame in sniffer.packets(scene.second.address, scene.mia.address):
            wire.play(frame)
    count.rose("streams.removed", "packets.old_key")
    assert_works(scene.mia)


def _key(pc: Pc) -> int:
    key = pc.ask("status")["key"]
    return int(key["number"]) if key["have"] == key["of"] else 0


def _opens(scene: Scene, sniffer: Sniffer) -> bool:
    """Does a packet under the old key still pass for one under a key of the ring?"""
    count = refused(scene.mia)["packets.old_key"]
    with _port_to(scene, scene.mia) as wire:
        wire.play(sniffer.packets(scene.second.address, scene.mia.address)[0])
    return refused(scene.mia)["packets.old_key"] == count


# --- Floods --------------------------------------------------------------------------------------


def test_ten_thousand_connections_that_say_nothing(scene: Scene) -> None:
    count = Count(scene.admin)
    sources = [f"198.18.9.{n}" for n in range(1, 9)]
    for source in sources:
        scene.eve.run("ip", "addr", "add", f"{source}/15", "dev", "eth0")
    job_id = submit(scene.mia, "--array", "0-19%2", "--", "sleep", "0.3")
    flood = start(scene.eve, "flood", host=scene.admin.address, count=CONNECTIONS, sources=sources)
    answered: list[float] = []
    while not _has_said(flood):
        began = time.monotonic()
        assert scene.admin.ask("status")["members"]["alive"] >= len(scene.pool)
        answered.append(time.monotonic() - began)
        assert_works(scene.mia)
    assert_works(scene.second)
    opened = answer_of(flood)["opened"]
    done = scene.mia.rain("wait", job_id, timeout_s=60)

    assert done.returncode == 0
    print(f"status answered {len(answered)} times, slowest {max(answered):.2f} s")
    assert opened == CONNECTIONS
    count.rose("streams.too_many_newcomers", by=CONNECTIONS // 2)
    wait_agreed(scene.pool)


def _has_said(program: subprocess.Popen[bytes]) -> bool:
    assert program.stdout is not None
    return bool(select.select([program.stdout], [], [], 0)[0])


def test_bad_frames_at_the_door(scene: Scene) -> None:
    count = Count(scene.second)
    ends = attack(scene.eve, "mangle", host=scene.second.address)
    assert set(ends.values()) == {"end"}, ends
    count.rose("door.door_too_much")
    count.garbled("door.door_", by=7)
    assert_works(scene.mia)
