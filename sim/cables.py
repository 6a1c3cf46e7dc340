"""Troubles of the network beyond cuts and storms: links that lose, hold back, flap or are picky."""

from collections.abc import Sequence

from rain.mesh.envelope import PACKET_BYTES_MAX
from rain.model import Address

from .host import PORT, Host
from .stage import Stage, Strike
from .tape import Tape
from .world import draw_int, exponential_us, pick_some

LINKS_MIN = 1
LOSS_PERMILLE_MIN = 50
LOSS_PERMILLE_MAX = 600
CLOG_US_MEAN = 1_200_000
CLOG_US_MAX = 5_000_000
SWIZZLE_GAP_US_MAX = 400_000
FLAP_US_MIN = 100_000
FLAP_US_MAX = 2_500_000
"""Half a period: 0.2 to 5 times a second."""
FLAPS_MAX = 12
BURST_US_MIN = 200_000
BURST_US_MAX = 800_000
BURSTS = 5
FULL_SIZE = PACKET_BYTES_MAX - 100
"""What is larger than that is lost in a black hole; a frame of a stream as well."""
ECHOES = 40
ECHO_US_MIN = 5_000_000
ECHO_US_MAX = 120_000_000
"""So long after it was played the first time a recording is played again."""

Pairs = list[tuple[int, int]]


class Cables:
    """Carries out the network's troubles."""

    def __init__(self, stage: Stage, tape: Tape) -> None:
        self._stage = stage
        self._tape = tape
        self._moves = 0
        self.kinds: dict[str, Strike] = {
            "readdress": self._readdress,
            "lossy_links": self._lossy_links,
            "clog": self._clog,
            "swizzle_clog": self._swizzle_clog,
            "flap": self._flap,
            "black_hole": self._black_hole,
            "no_packets": self._no_packets,
            "no_streams": self._no_streams,
            "wifi_bursts": self._wifi_bursts,
            "no_broadcast": self._no_broadcast,
            "echo": self._echo,
        }

    # --- single links --------------------------------------------------------------------------

    def _draw_links(self) -> Pairs:
        """Some directed links of the LAN."""
        count = len(self._stage.hosts)
        pairs = [(one, other) for one in range(count) for other in range(count) if one != other]
        links: Pairs = pick_some(
            self._stage.dice, pairs, draw_int(self._stage.dice, LINKS_MIN, 2 * count)
        )
        return links

    def _spoil(self, links: Pairs, span_us: int, **wrong: int) -> None:
        self._stage.say(f"spoil {links}: {wrong}")
        for source, target in links:
            self._stage.disturb(source, target)
            self._stage.network.links.spoil(source, target, **wrong)
        self._stage.later(span_us, self._restore, links, tuple(wrong))

    def _restore(self, links: Pairs, names: Sequence[str]) -> None:
        self._stage.say(f"restore {links}: {names}")
        for source, target in links:
            self._stage.disturb(source, target)
            self._stage.network.links.restore(source, target, *names)
            self._stage.network.flush(source, target)

    def _lossy_links(self, span_us: int) -> None:
        for link in self._draw_links():
            loss_permille = draw_int(self._stage.dice, LOSS_PERMILLE_MIN, LOSS_PERMILLE_MAX)
            self._spoil([link], span_us, loss_permille=loss_permille)

    def _clog(self, span_us: int) -> None:
        """What is sent there waits, and comes all at once."""
        for link in self._draw_links():
            clog_us = exponential_us(self._stage.dice, CLOG_US_MEAN, CLOG_US_MAX)
            self._stop_up(*link)
            self._stage.later(clog_us, self._unclog, *link)

    def _swizzle_clog(self, span_us: int) -> None:
        """Some hosts are stopped up one after the other, and let go in another order."""
        stage = self._stage
        count = draw_int(stage.dice, 1, len(stage.hosts))
        chosen = pick_some(stage.dice, list(stage.hosts), count)
        at_us = 0
        for host in chosen:
            for link in stage.links_of([host]):
                stage.later(at_us, self._stop_up, *link)
            at_us += draw_int(stage.dice, 0, SWIZZLE_GAP_US_MAX)
        at_us += min(span_us, CLOG_US_MAX)
        for host in pick_some(stage.dice, chosen, count):
            for link in stage.links_of([host]):
                stage.later(at_us, self._unclog, *link)
            at_us += draw_int(stage.dice, 0, SWIZZLE_GAP_US_MAX)

    def _stop_up(self, source: int, target: int) -> None:
        self._stage.disturb(source, target)
        self._stage.network.links.spoil(source, target, is_clogged=True)

    def _unclog(self, source: int, target: int) -> None:
        self._stage.disturb(source, target)
        self._stage.network.unclog(source, target)

    # --- whole hosts ---------------------------------------------------------------------------

    def _flap(self, span_us: int) -> None:
        """A bad plug: on and off, on and off."""
        host = self._stage.victim()
        if host is None:
            return
        half_us = draw_int(self._stage.dice, FLAP_US_MIN, FLAP_US_MAX)
        for number in range(min(FLAPS_MAX, 1 + span_us // (2 * half_us))):
            self._stage.later(2 * number * half_us, self._cut_off, host, half_us)

    def _wifi_bursts(self, span_us: int) -> None:
        """Everything is lost for a fraction of a second, several times."""
        host = self._stage.victim()
        if host is None:
            return
        for _ in range(BURSTS):
            burst_us = draw_int(self._stage.dice, BURST_US_MIN, BURST_US_MAX)
            at_us = draw_int(self._stage.dice, 0, span_us)
            self._stage.later(at_us, self._cut_off, host, burst_us)

    def _cut_off(self, host: Host, span_us: int) -> None:
        self._stage.cut(self._stage.links_of([host]), span_us)

    def _black_hole(self, span_us: int) -> None:
        """Small packets pass, full ones vanish, and nobody is told."""
        host = self._stage.victim()
        if host is not None:
            both = self._stage.dice.random() < 0.5
            self._spoil(self._stage.links_of([host], both), span_us, bytes_max=FULL_SIZE)

    def _no_packets(self, span_us: int) -> None:
        """A firewall that lets streams pass and no packets."""
        host = self._stage.victim()
        if host is not None:
            self._spoil(self._stage.links_of([host]), span_us, packets_blocked=True)

    def _no_streams(self, span_us: int) -> None:
        """A firewall that lets packets pass and no streams."""
        host = self._stage.victim()
        if host is not None:
            self._spoil(self._stage.links_of([host]), span_us, streams_blocked=True)

    def _no_broadcast(self, span_us: int) -> None:
        """An access point that carries no broadcasts."""
        mute = self._stage.network.links.mute
        for host in self._stage.hosts:
            mute.add(host.index)
        self._stage.later(span_us, mute.clear)

    def _readdress(self, span_us: int) -> None:
        """The lease ran out: the host is to be reached elsewhere from now on."""
        host = self._stage.victim()
        if host is None:
            return
        self._moves += 1
        address = Address(f"10.{self._moves}.0.{host.index + 1}", PORT)
        for other in self._stage.hosts:
            other.wire.readdress(host.index, address)
        host.move(address)

    def _echo(self, span_us: int) -> None:
        """Packets of long ago come again, when the run is nearly over too."""
        for _ in range(ECHOES):
            recording = self._tape.draw(self._stage.dice)
            if recording is not None:
                delay_us = draw_int(self._stage.dice, ECHO_US_MIN, ECHO_US_MAX)
                self._stage.world.after(delay_us, self._stage.network.inject, *recording)
