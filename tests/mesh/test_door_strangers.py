"""The door on the real wire: strangers, and what they may cost."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from rain.agent.invites import State
from rain.mesh import door as door_module
from rain.mesh.codes import Code
from rain.mesh.door import (
    STRANGER_BYTES_MAX,
    AskRenewal,
    BrokenDoor,
    Channel,
    Denied,
    Knock,
)
from rain.mesh.newcomer import NotLetIn, doorstep
from rain.mesh.streams import Streams
from rain.mesh.tls import TlsIdentity, joining_context
from rain.mesh.token import decode_token
from rain.model import Address
from tests.agent.hosts import founder
from tests.mesh.conftest import Run
from tests.mesh.knocking import (
    NEWCOMER,
    OTHER,
    by_token,
    refused,
    shown_to,
    stranger,
    wrong,
)

# --- Strangers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\0\0\0\2\x91\xc0", "door_unknown_tag"),
        (b"\0\0\0\1\xc1", "door_msgpack"),
        (b"\0\0\0\0", "door_msgpack"),
        (b"\xff\xff\xff\xff", "door_too_much"),
        (b"\0\0\x40\0" + b"x" * 20_000, "door_too_much"),
        (b"GET / HTTP/1.1\r\n\r\n", "door_too_much"),
        (b"\0\0", "door_closed"),
        (b"", "door_closed"),
        (b"\0\0\0\x05\x92\xa2df\xc4", "door_msgpack"),
        (b"\0\0\0\x06\x92\xa2df\xc4\0", "door_unexpected"),
    ],
)
def test_what_is_no_word_of_the_door_ends_it(
    run: Run, tmp_path: Path, said: bytes, reason: str
) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        async with host.opened() as address:
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=joining_context(), server_hostname=""
            )
            await shown_to(Channel(reader, writer, 100_000))
            writer.write(said)
            with contextlib.suppress(OSError):
                await writer.drain()
                if reason != "door_closed":
                    assert await reader.read() == b""
            writer.close()
        assert host.door.dropped == {reason: 1}

    run(story())


def test_a_stranger_has_so_many_bytes_and_no_more(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        async with host.opened() as address, stranger(address) as (channel, _):
            await shown_to(channel)
            with contextlib.suppress(BrokenDoor):
                # A denial, then words without end to keep the door busy.
                await channel.send(AskRenewal(b"", NEWCOMER.public_key, b""))
                assert await channel.receive() == Denied("bad_proof")
                for _ in range(STRANGER_BYTES_MAX // 512 + 1):
                    await channel.send(AskRenewal(b"x" * 500, b"", b""))
                await channel.receive()
        assert host.door.dropped == {"door_denied_bad_proof": 1, "door_too_much": 1}

    run(story())


def test_a_slow_stranger_is_cut_off(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "DOOR_TIMEOUT_S", 0.05)

    async def story() -> None:
        host = founder(tmp_path / "a")
        async with host.opened() as address, stranger(address) as (channel, _):
            with pytest.raises(BrokenDoor):
                await channel.receive()
        assert host.door.dropped == {"door_timeout": 1}

    run(story())


@pytest.mark.parametrize("name", ["", "a b", "\x1b[31mred", "x" * 64, ".hidden"])
def test_a_name_that_cannot_be_shown_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        open_code = host.invites.open_code()
        async with host.opened() as address:
            with pytest.raises(NotLetIn, match="bad_name"):
                async with doorstep(address) as door:
                    await door.join_by_code(open_code.code, NEWCOMER, name)
        assert open_code.state is State.OPEN

    run(story())


def test_another_version_is_told(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        async with host.opened() as address, stranger(address) as (channel, _):
            await channel.send(Knock(2))
            assert await channel.receive() == Denied("protocol")

    run(story())


def test_where_nobody_listens_there_is_no_door(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        for address in (Address("127.0.0.1", 1), Address("no.such.host", 1)):
            assert (await refused(address, Code("482", ("zoo", "zoo")))).reason == "unreachable"

    run(story())


# --- Behind the streams of a member --------------------------------------------------------------


def test_the_door_is_on_the_port_of_the_streams(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        streams = Streams(
            TlsIdentity(host.folder, host.pool),
            host.node_id,
            1,
            lambda node_id: None,
            lambda sender, boot_epoch, body, source: None,
            lambda bundle: "nobody",
            host.show,
            host.door.serve,
        )
        code, (line, _) = host.invites.open_code().code, host.invites.open_token()
        await streams.open("127.0.0.1", 0)
        running = asyncio.ensure_future(streams.run())
        address = Address("127.0.0.1", streams.port)
        async with doorstep(address) as door:
            await door.join_by_code(code, NEWCOMER, "lab-3")
        await by_token(address, line, OTHER)
        async with stranger(address) as (channel, _):
            await shown_to(channel)
            await channel.send(AskRenewal(b"", NEWCOMER.public_key, b""))
            assert await channel.receive() == Denied("bad_proof")
        await streams.close()
        await running

        assert [each.name for each in host.trust.credentials()].count("lab-3") == 2
        assert host.door.dropped == {"door_denied_bad_proof": 1}

    run(story())


# --- Secrets -------------------------------------------------------------------------------------


def test_no_secret_shows_in_what_may_be_logged(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = founder(tmp_path / "a")
        open_code = host.invites.open_code()
        line, _ = host.invites.open_token()
        async with host.opened() as address:
            error = await refused(address, wrong(open_code.code))
            async with doorstep(address) as door:
                granted = await door.join_by_code(open_code.code, NEWCOMER, "lab-3")

        shown = "".join(
            map(repr, (error, error.args, granted, open_code, open_code.code, decode_token(line)))
        )
        shown += "".join(map(repr, (open_code.news, host.claims, host.invites.list())))
        for secret in (
            "-".join(open_code.code.words),
            decode_token(line).seed.hex(),
            repr(decode_token(line).seed)[2:-1],
            repr(host.trust.ring().keys[1])[2:-1],
        ):
            assert secret not in shown

    run(story())
