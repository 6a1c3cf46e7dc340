"""Who calls for a pool, and who is one: clear datagrams between PCs that share no key yet.

    magic 2 | version 1 | length 2 | msgpack array of that length | zeros

A newcomer calls `Seek`; members answer `Here`. Both are hints that anybody can forge: they lead to
a connection, and what counts is proven there. So nothing here is secret, and nothing is believed:
a lie costs a failed connect.

Seek is padded to BEACON_BYTES and Here is never longer, so that a forged source address gains
nothing by it. Names are checked to be such as Rain gives out, since they are shown to people.

Pure: bytes in, values out. `decode_beacon` never raises, whatever the bytes.
"""

import re
from struct import Struct
from typing import Annotated

from msgspec import Meta

from rain.mesh.codec import Rejected, by_tag, pack, unpack
from rain.mesh.pool import POOL_ID_BYTES
from rain.model import Address, Count, NodeId, Value

BEACON_MAGIC = b"rb"
BEACON_VERSION = 1
BEACON_BYTES = 640
"""Of every Seek, and the most that a Here may have."""
DOORS_MAX = 4
NONCE_BYTES = 8

_HEAD = Struct(">2sBH")
_HOST = re.compile(r"[0-9.]{7,15}")

Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]
"""As rain/config.py lets people name PCs and pools."""
BeaconNodeId = Annotated[NodeId, Meta(pattern=r"\A[a-z2-7]{26}\Z")]
Port = Annotated[int, Meta(ge=1, le=65_535)]
BeaconNonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
Want = Annotated[str, Meta(pattern=r"\A[a-z0-9]{0,16}\Z")]


class Seek(Value, frozen=True, tag="s"):
    """Is there a pool? `want` names an invitation, by nameplate or id; empty: any pool."""

    node_id: BeaconNodeId
    nonce: BeaconNonce
    """Comes back in the answer, which thereby is one."""
    want: Want
    name: Name
    """Of this PC."""
    is_deciding: bool = False
    """This PC has no pool and may found one: who else does should know of it."""


class Here(Value, frozen=True, tag="h"):
    """There is."""

    nonce: BeaconNonce
    pool_id: Annotated[bytes, Meta(min_length=POOL_ID_BYTES, max_length=POOL_ID_BYTES)]
    pool_name: Name
    node_id: BeaconNodeId
    node_name: Name
    port: Port
    members: Count
    doors: Annotated[tuple[Address, ...], Meta(max_length=DOORS_MAX)] = ()
    """Admins, who can let a newcomer in."""
    is_sponsor: bool = False
    """The sender itself holds the invitation that was asked for."""


Beacon = Seek | Here

_KINDS: dict[str, type[Seek | Here]] = by_tag((Seek, Here))


def encode_beacon(beacon: Beacon) -> bytes:
    body = pack(beacon)
    packet = _HEAD.pack(BEACON_MAGIC, BEACON_VERSION, len(body)) + body
    assert len(packet) <= BEACON_BYTES, f"a beacon of {len(packet)} bytes"
    return packet.ljust(BEACON_BYTES, b"\0") if isinstance(beacon, Seek) else packet


def decode_beacon(packet: bytes) -> Beacon | Rejected:
    """The beacon in these bytes, or why there is none."""
    if len(packet) > BEACON_BYTES:
        return Rejected("too_long")
    if len(packet) < _HEAD.size:
        return Rejected("too_short")
    magic, version, length = _HEAD.unpack_from(packet)
    if magic != BEACON_MAGIC:
        return Rejected("magic")
    if version != BEACON_VERSION:
        return Rejected("version")
    body = packet[_HEAD.size : _HEAD.size + length]
    if len(body) < length or any(packet[_HEAD.size + length :]):
        return Rejected("length")
    beacon = unpack(body, _KINDS)
    if isinstance(beacon, Seek) and len(packet) < BEACON_BYTES:
        return Rejected("too_short")
    if isinstance(beacon, Here) and not all(_HOST.fullmatch(door.host) for door in beacon.doors):
        return Rejected("bad_field")
    return beacon
