"""Who cannot read its pool's packets finds by beacon whom to ask, and nobody else is found."""

from msgspec.structs import replace

from rain.mesh.beacon import Here, decode_beacon, encode_beacon
from rain.model import NodeId
from sim.beacons import SEEK_EVERY_US, SEEK_FRESH_US, Beacons
from sim.routes import Routes
from sim.world import World

LOST, MEMBER = NodeId("l" * 26), NodeId("m" * 26)
POOL_ID = b"a pool of sixtee"
WEST, EAST = 0, 1


class Side:
    """The beacons of one host, and what they send."""

    def __init__(self, world: World, node_id: NodeId, known: tuple[NodeId, ...]) -> None:
        self.sent: list[tuple[int, bytes]] = []
        self.routes = Routes(world)
        self.beacons = Beacons(
            Here(b"no nonce", POOL_ID, "sim", node_id, "pc", 7246, 1),
            world,
            self.routes,
            world.dice(node_id),
            lambda target, packet: self.sent.append((target, packet)),
            known.__contains__,
        )


def sides(knows_it: bool = True) -> tuple[World, Side, Side]:
    world = World(1)
    return world, Side(world, LOST, ()), Side(world, MEMBER, (LOST,) if knows_it else ())


def test_each_learns_where_the_other_is() -> None:
    _, lost, member = sides()
    lost.beacons.seek([EAST])
    ((target, call),) = lost.sent
    assert target == EAST
    assert member.beacons.hear(call, WEST)
    assert member.routes.find(LOST) == WEST
    ((target, answer),) = member.sent
    assert target == WEST
    assert lost.beacons.hear(answer, EAST)
    assert lost.routes.find(MEMBER) == EAST


def test_a_stranger_is_answered_and_not_remembered_and_no_call_moves_anybody() -> None:
    _, lost, member = sides(knows_it=False)
    lost.beacons.seek([EAST])
    assert member.beacons.hear(lost.sent[0][1], WEST)
    assert member.routes.find(LOST) is None
    assert len(member.sent) == 1

    _, lost, member = sides()
    lost.beacons.seek([EAST])
    member.routes.learn(LOST, EAST)
    member.beacons.hear(lost.sent[0][1], WEST)
    assert member.routes.find(LOST) == EAST


def test_what_nobody_asked_for_or_comes_late_or_of_another_pool_teaches_nothing() -> None:
    world, lost, member = sides()
    lost.beacons.seek([EAST])
    member.beacons.hear(lost.sent[0][1], WEST)
    answer = decode_beacon(member.sent[0][1])
    assert isinstance(answer, Here)
    for wrong in (replace(answer, nonce=b"another!"), replace(answer, pool_id=b"o" * 16)):
        assert lost.beacons.hear(encode_beacon(wrong), EAST)
    world.run(SEEK_FRESH_US + 1)
    assert lost.beacons.hear(encode_beacon(answer), EAST)
    assert lost.routes.find(MEMBER) is None


def test_nobody_calls_all_the_time_or_hears_itself() -> None:
    world, lost, _ = sides()
    lost.beacons.seek([EAST])
    lost.beacons.seek([EAST])
    assert lost.beacons.hear(lost.sent[0][1], WEST)
    assert len(lost.sent) == 1
    world.run(SEEK_EVERY_US)
    lost.beacons.seek([EAST])
    assert len(lost.sent) == 2


def test_what_is_no_beacon_is_left_to_the_envelope() -> None:
    _, lost, _ = sides()
    assert not lost.beacons.hear(b"rn" + bytes(200), EAST)
    assert lost.sent == []
