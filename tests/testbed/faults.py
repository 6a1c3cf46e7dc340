"""Faults of a network, made by the firewall of each PC: who hears whom, and how much is lost.

Rules stand in the INPUT chain of a PC's own namespace, so a block is one-way unless both are told.
"""

from collections.abc import Iterable, Sequence

from tests.testbed.lan import Pc

LOCK_WAIT_S = "5"


class Fault:
    """Rules that were set together, and go together."""

    def __init__(self, rules: Iterable[tuple[Pc, tuple[str, ...]]]) -> None:
        self._rules = list(rules)
        for pc, rule in self._rules:
            _iptables(pc, "-A", *rule)

    def lift(self) -> None:
        for pc, rule in self._rules:
            _iptables(pc, "-D", *rule)
        self._rules.clear()


def deafen(pc: Pc, peers: Iterable[Pc]) -> Fault:
    """`pc` hears nothing of these; they hear it."""
    return Fault((pc, ("INPUT", "-s", peer.address, "-j", "DROP")) for peer in peers)


def split(one: Sequence[Pc], other: Sequence[Pc]) -> Fault:
    """No packet between the two sides; whoever is on neither hears both, and is heard."""
    ways = [(a, b) for a in one for b in other]
    return Fault(
        (here, ("INPUT", "-s", there.address, "-j", "DROP"))
        for a, b in ways
        for here, there in ((a, b), (b, a))
    )


def drop_datagrams(pc: Pc) -> Fault:
    """Streams go on, datagrams do not: a switch that hates UDP. Both ways."""
    rule = ("-i", "eth0", "-p", "udp", "-j", "DROP")
    return Fault([(pc, ("INPUT", *rule)), (pc, ("OUTPUT", "-o", *rule[1:]))])


def lose(pcs: Iterable[Pc], share: float) -> Fault:
    """So much of what arrives from the network is lost, streams' segments too."""
    chance = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}")
    return Fault((pc, ("INPUT", "-i", "eth0", *chance, "-j", "DROP")) for pc in pcs)


def clear(pc: Pc) -> None:
    """Whatever was set: gone."""
    for chain in ("INPUT", "OUTPUT"):
        _iptables(pc, "-F", chain)


def _iptables(pc: Pc, *words: str) -> None:
    done = pc.run("iptables", "-w", LOCK_WAIT_S, *words)
    assert done.returncode == 0, f"{pc.name}: iptables {words}: {done.stderr}"
