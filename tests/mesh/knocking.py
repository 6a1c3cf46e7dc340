"""Who comes to a door in the tests, by the rules and against them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from rain.mesh.codes import Code
from rain.mesh.door import (
    Channel,
    Granted,
    Knock,
    Shown,
)
from rain.mesh.keys import EdSigner
from rain.mesh.newcomer import NotLetIn, doorstep
from rain.mesh.tls import joining_context
from rain.mesh.token import decode_token
from rain.model import Address
from tests.agent.hosts import Host, joined, node_key

NEWCOMER = EdSigner(b"newcomer".ljust(32))
OTHER = EdSigner(b"other".ljust(32))


def wrong(code: Code) -> Code:
    """The same nameplate, other words."""
    first = "zoo" if code.words[0] != "zoo" else "abandon"
    return replace(code, words=(first, code.words[1]))


async def refused(address: Address, code: Code, signer: EdSigner = NEWCOMER) -> NotLetIn:
    with pytest.raises(NotLetIn) as raised:
        async with doorstep(address) as door:
            await door.join_by_code(code, signer, "lab-3")
    return raised.value


@contextlib.asynccontextmanager
async def stranger(address: Address) -> AsyncIterator[tuple[Channel, bytes]]:
    """Somebody who says at the door whatever it likes."""
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=joining_context(), server_hostname=""
    )
    try:
        leaf = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        yield Channel(reader, writer, 1_000_000), leaf
    finally:
        writer.transport.abort()


async def shown_to(channel: Channel) -> Shown:
    await channel.send(Knock())
    return await channel.expect(Shown)


async def by_token(address: Address, line: str, signer: EdSigner) -> Granted:
    async with doorstep(address) as door:
        return await door.join_by_token(decode_token(line), signer, "lab-3")


async def no_token(address: Address, line: str, signer: EdSigner) -> str:
    with pytest.raises(NotLetIn) as raised:
        await by_token(address, line, signer)
    return raised.value.reason


async def member_of(host: Host, address: Address, folder: Path) -> Host:
    line, _ = host.invites.open_token(person="bob")
    granted = await by_token(address, line, node_key(folder))
    return joined(folder, host.pool, granted, host.clock)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(4_096):
        writer.write(some)
        await writer.drain()
    writer.close()
