"""What the simulated LAN may do to a packet and to a stream, and what not."""

from sim.network import Frame, Network
from sim.options import Options, draw_options
from sim.world import World


class Host:
    def __init__(self) -> None:
        self.is_connected = True
        self.is_listening = True
        self.packets: list[bytes] = []
        self.frames: list[bytes] = []
        self.connections: list[int] = []
        self.resets: list[int] = []

    def take_packet(self, packet: bytes, source: int) -> None:
        self.packets.append(packet)

    def take_frame(self, frame: Frame, source: int, connection: int) -> None:
        self.frames.append(frame.body)
        self.connections.append(connection)

    def take_reset(self, source: int) -> None:
        self.resets.append(source)


def said(body: bytes) -> Frame:
    return Frame(b"key", 1, b"bundle", body)


def lan(seed: int = 1, **changes: int) -> tuple[World, Network, list[Host]]:
    world = World(seed)
    drawn = draw_options(world.dice("options"), 3, 60)
    calm = {
        "loss_permille": 0,
        "duplicate_permille": 0,
        "replay_permille": 0,
        "corrupt_permille": 0,
        "heavy_tail_permille": 0,
        "truncate_permille": 0,
        "stream_stall_ms_max": 1_000,
    }
    fields = {name: getattr(drawn, name) for name in Options.__struct_fields__}
    network = Network(world, Options(**{**fields, **calm, **changes}))
    hosts = [Host(), Host(), Host()]
    network.connect(hosts)
    return world, network, hosts


def test_a_calm_lan_delivers_everything_once() -> None:
    world, network, hosts = lan()
    for number in range(100):
        network.send(0, 1, bytes([number]))
        network.post(0, 1, said(bytes([number])))
    world.run(1_000_000)
    assert sorted(hosts[1].packets) == [bytes([number]) for number in range(100)]
    assert hosts[1].frames == [bytes([number]) for number in range(100)]
    assert hosts[2].packets == hosts[2].frames == []


def test_packets_are_lost_doubled_and_damaged_as_drawn() -> None:
    world, network, hosts = lan(loss_permille=300)
    for _ in range(1_000):
        network.send(0, 1, b"packet")
    world.run(1_000_000)
    assert 600 < len(hosts[1].packets) < 800
    world, network, hosts = lan(duplicate_permille=300, corrupt_permille=300)
    for _ in range(1_000):
        network.send(0, 1, b"packet")
    world.run(1_000_000)
    assert 1_200 < len(hosts[1].packets) < 1_400
    assert 250 < sum(1 for packet in hosts[1].packets if packet != b"packet") < 500


def test_a_cut_is_one_way_and_counts() -> None:
    world, network, hosts = lan()
    network.cut(0, 1)
    network.cut(0, 1)
    network.send(0, 1, b"there")
    network.send(1, 0, b"back")
    network.mend(0, 1)
    network.send(0, 1, b"still cut")
    network.mend(0, 1)
    network.send(0, 1, b"open")
    world.run(1_000_000)
    assert (hosts[1].packets, hosts[0].packets) == ([b"open"], [b"back"])


def test_a_stalled_stream_delivers_late_and_in_order() -> None:
    world, network, hosts = lan()
    network.cut(1, 0)  # acknowledgements need the way back
    network.post(0, 1, said(b"one"))
    network.post(0, 1, said(b"two"))
    world.run(900_000)
    assert hosts[1].frames == []
    network.mend(1, 0)
    network.post(0, 1, said(b"three"))
    world.run(2_000_000)
    assert hosts[1].frames == [b"one", b"two", b"three"]


def test_a_stream_that_stalls_too_long_breaks_and_drops_what_it_held() -> None:
    world, network, hosts = lan()
    network.cut(0, 1)
    network.post(0, 1, said(b"one"))
    world.run(2_000_000)
    network.mend(0, 1)
    network.post(0, 1, said(b"two"))
    world.run(4_000_000)
    assert hosts[1].frames == [b"two"]


def test_a_crash_of_either_side_drops_what_was_on_its_way() -> None:
    world, network, hosts = lan()
    network.post(0, 1, said(b"one"))
    network.break_streams(1)
    network.post(0, 1, said(b"two"))
    network.break_streams(0)
    hosts[2].is_listening = False
    network.post(0, 2, said(b"three"))
    world.run(1_000_000)
    assert hosts[1].frames == hosts[2].frames == []


def test_after_a_break_the_connection_is_another_one() -> None:
    world, network, hosts = lan()
    network.post(0, 1, said(b"one"))
    world.run(1_000_000)
    network.break_between(1, 0)
    network.post(0, 1, said(b"two"))
    world.run(2_000_000)
    assert hosts[1].frames == [b"one", b"two"]
    assert hosts[1].connections[0] != hosts[1].connections[1]


def test_a_stranger_comes_by_a_connection_of_his_own() -> None:
    world, network, hosts = lan()
    network.post(0, 1, said(b"mine"))
    network.knock(0, 1, said(b"his"))
    network.inject(0, 1, b"his")
    world.run(1_000_000)
    assert sorted(hosts[1].frames) == [b"his", b"mine"]
    assert min(hosts[1].connections) < 0 <= max(hosts[1].connections)
    assert hosts[1].packets == [b"his"]


def test_whoever_taps_hears_what_goes_out() -> None:
    world, network, _ = lan(loss_permille=1_000)
    heard: list[tuple[int, int, bytes, int]] = []
    network.tap = lambda *what: heard.append(what)
    network.send(0, 1, b"packet")
    network.cut(0, 2)
    network.send(0, 2, b"cut")
    assert heard == [(0, 1, b"packet", world.now_us)]


def test_truncated_packets_are_shorter() -> None:
    world, network, hosts = lan(truncate_permille=500)
    for _ in range(1_000):
        network.send(0, 1, b"packet")
    world.run(1_000_000)
    assert len(hosts[1].packets) == 1_000
    short = [packet for packet in hosts[1].packets if packet != b"packet"]
    assert 400 < len(short) < 600
    assert all(b"packet".startswith(packet) for packet in short)


def test_a_clog_holds_packets_and_streams_until_it_is_let_go() -> None:
    world, network, hosts = lan()
    network.links.spoil(0, 1, is_clogged=True)
    network.send(0, 1, b"packet")
    network.post(0, 1, said(b"frame"))
    world.run(500_000)
    assert (hosts[1].packets, hosts[1].frames) == ([], [])
    assert not network.is_open(0, 1)
    network.unclog(0, 1)
    world.run(2_000_000)
    assert (hosts[1].packets, hosts[1].frames) == ([b"packet"], [b"frame"])
    assert network.is_open(0, 1)


def test_a_frame_that_is_too_large_for_the_way_stops_the_stream() -> None:
    world, network, hosts = lan()
    network.links.spoil(0, 1, bytes_max=100)
    network.post(0, 1, said(b"small"))
    world.run(300_000)
    network.post(0, 1, said(b"x" * 200))
    network.post(0, 1, said(b"behind"))
    world.run(3_000_000)
    assert hosts[1].frames == [b"small"]


def test_the_healing_mends_every_link_and_lets_go_what_was_held() -> None:
    world, network, hosts = lan(loss_permille=1_000)
    network.links.spoil(0, 1, is_clogged=True)
    network.links.spoil(1, 0, packets_blocked=True)
    network.send(0, 1, b"held")
    network.send(1, 0, b"lost")
    network.heal()
    network.send(1, 0, b"sent")
    world.run(1_000_000)
    assert (hosts[1].packets, hosts[0].packets) == ([b"held"], [b"sent"])


def test_who_hangs_up_is_heard_and_who_loses_power_is_not() -> None:
    world, network, hosts = lan()
    network.post(0, 1, said(b"frame"))
    world.run(1_000_000)
    network.break_streams(0, is_told=False)
    world.run(2_000_000)
    assert hosts[1].resets == []
    network.post(0, 1, said(b"frame"))
    network.break_streams(0, is_told=True)
    world.run(3_000_000)
    assert (hosts[1].resets, hosts[2].resets) == ([0], [])
    hosts[2].is_listening = False
    network.post(0, 2, said(b"refused"))
    world.run(4_000_000)
    assert hosts[0].resets == [2]


def test_packets_are_counted_by_their_sender() -> None:
    _, network, _ = lan(loss_permille=1_000)
    network.send(0, 1, b"packet")
    network.send(0, 2, b"packet")
    network.send(1, 2, b"p")
    assert (network.packets_of, network.bytes_of) == ([2, 1, 0], [12, 1, 0])
