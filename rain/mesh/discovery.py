"""Which networks this PC is on: where a broadcast goes, and where others reach this node.

A machine without a default route refuses 255.255.255.255, and one with several networks sends it
into one of them only. So every real interface gets a broadcast of its own. Bridges and tunnels of
containers, virtual machines and VPNs are left out: what sits there is no neighbour.

The Linux part asks the kernel by ioctl, and sees the first IPv4 address of each interface.
Elsewhere nothing is listed and 255.255.255.255 is all there is.
"""

import socket
import struct
import sys

from rain.model import Value

EVERYWHERE = "0.0.0.0"
LOOPBACK = "127.0.0.1"
LIMITED_BROADCAST = "255.255.255.255"
INTERFACES_MAX = 64

_VIRTUAL = (
    *("docker", "br-", "veth", "virbr", "lxcbr", "lxdbr", "podman", "cni", "flannel", "cali"),
    *("tun", "wg", "tailscale", "zt", "vmnet", "vboxnet", "ppp", "ipsec"),
)
_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFBRDADDR = 0x8919
_IFF_UP = 0x1
_IFF_BROADCAST = 0x2
_IFF_LOOPBACK = 0x8
_IFREQ = struct.Struct("16s24s")
_SOMEWHERE_ELSE = ("192.0.2.1", 9)
"""An address that nobody has (RFC 5737): routing to it names the way out, nothing is sent."""


class Interface(Value, frozen=True):
    name: str
    address: str
    broadcast: str


_seen: list[Interface] = []
"""As listed last: a node without file descriptors must not tell that it has moved to loopback."""


def list_interfaces() -> tuple[Interface, ...]:
    """Every real interface that is up and can broadcast, in the kernel's order.

    Without a file descriptor to ask with: those of the last time.
    """
    if sys.platform != "linux":
        return ()
    try:
        names = [name for _, name in socket.if_nameindex() if not name.startswith(_VIRTUAL)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            found = [_interface(probe, name) for name in names]
    except OSError:
        return tuple(_seen)
    _seen[:] = [interface for interface in found if interface is not None][:INTERFACES_MAX]
    return tuple(_seen)


def broadcast_addresses(bound: str = EVERYWHERE) -> tuple[str, ...]:
    """Where to send one broadcast, looked up anew: addresses change while the agent runs."""
    if is_loopback(bound):
        return ()
    interfaces = list_interfaces()
    if bound != EVERYWHERE:
        return tuple(each.broadcast for each in interfaces if each.address == bound)
    if not interfaces and sys.platform != "linux":
        return (LIMITED_BROADCAST,)
    return tuple(dict.fromkeys(each.broadcast for each in interfaces))


def own_address(bound: str = EVERYWHERE) -> str:
    """The address to tell others: that of the way out, else that of any real interface.

    A guess: what a receiver sees a packet come from is better.
    """
    if bound != EVERYWHERE:
        return bound
    real = [interface.address for interface in list_interfaces()]
    outward = _outward_address()
    if outward and (outward in real or not real):
        return outward
    return real[0] if real else LOOPBACK


def own_addresses() -> frozenset[str]:
    """Of all interfaces that packets may come from, loopback aside."""
    return frozenset(interface.address for interface in list_interfaces())


def is_loopback(address: str) -> bool:
    return address.startswith("127.")


def is_ipv4(host: str) -> bool:
    """Four numbers. Names are resolved once at the edge, never where it would block the loop."""
    try:
        return len(socket.inet_pton(socket.AF_INET, host)) == 4
    except (OSError, ValueError):
        return False


def _outward_address() -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_SOMEWHERE_ELSE)
            address: str = probe.getsockname()[0]
    except OSError:
        return ""
    return address


def _interface(probe: socket.socket, name: str) -> Interface | None:
    try:
        (flags,) = struct.unpack_from("H", _ask(probe, _SIOCGIFFLAGS, name))
        if flags & _IFF_LOOPBACK or not flags & _IFF_UP or not flags & _IFF_BROADCAST:
            return None
        address = _ipv4_in(_ask(probe, _SIOCGIFADDR, name))
        broadcast = _ipv4_in(_ask(probe, _SIOCGIFBRDADDR, name))
    except OSError:
        return None  # no IPv4 address, or unplugged since it was listed
    if EVERYWHERE in (address, broadcast):
        return None
    return Interface(name, address, broadcast)


def _ask(probe: socket.socket, question: int, name: str) -> bytes:
    # Here and not above: other systems have no such module.
    import fcntl

    answer = fcntl.ioctl(probe.fileno(), question, _IFREQ.pack(name.encode()[:15], b""))
    return answer[16:]


def _ipv4_in(sockaddr: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET, sockaddr[4:8])
