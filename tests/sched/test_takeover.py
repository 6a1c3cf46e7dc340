"""A new coordinator that lacks what others have on disk must hear them before it judges."""

from rain.effects import MemberUp, Message
from rain.model import Epoch, Identity, NodeId
from rain.sched.messages import Digests, Inventory
from rain.sched.pool import Pool
from rain.sched.takeover import Inventories, TakeoverConfig
from tests.sched.samples import admitted, id_of, make_people
from tests.sched.wire import FACTS, Wire, job_of


def test_what_succeeded_is_not_run_again_by_a_coordinator_that_has_not_heard_of_it() -> None:
    wire = Wire("a", "b", "c", "d")
    wire.reign("a", 1)
    job = job_of("b")
    wire.submit("b", job)
    wire.run(300)
    runner = next(name for name, count in wire.running().items() if count)
    wire.exit(runner)
    ignorant = next(
        node_id
        for node_id in wire.hosts
        if not wire.hosts[node_id].core.table.cell(job.job_id, 0).success
    )
    dropped: list[NodeId] = []

    def lost(sender: NodeId, to: NodeId, message: Message) -> bool:
        """Who does not follow the new reign yet does not answer its first question."""
        if isinstance(message, Digests) and sender == ignorant and to not in dropped:
            dropped.append(to)
            return True
        return False

    wire.lost = lost
    wire.told()
    wire.reign(wire.name(ignorant), 2)
    wire.run(3_000)

    assert len(dropped) == 3
    assert sum(wire.running().values()) == 0
    assert not [line for line in wire.told() if "starts" in line]
    assert wire.hosts[ignorant].core.table.cell(job.job_id, 0).success


def test_two_that_died_at_once_do_not_cost_the_takeover_its_full_time() -> None:
    wire = Wire("a", "b", "c", "d", "e")
    wire.reign("a", 1)
    wire.kill("a")
    wire.kill("b")
    wire.reign("c", 2)
    scheduler = wire.hosts[id_of("c")].core

    wire.run(550)
    assert scheduler.is_taking_inventory()
    wire.run(100)

    assert not scheduler.is_taking_inventory()


def test_who_follows_and_has_not_answered_yet_is_waited_for() -> None:
    wire = Wire("a", "b", "c")
    wire.reign("a", 1)
    wire.kill("a")
    wire.lost = lambda sender, _to, message: (
        wire.name(sender) == "b" and isinstance(message, Inventory)
    )
    wire.reign("c", 2)
    scheduler = wire.hosts[id_of("c")].core

    wire.run(1_900)
    assert scheduler.is_taking_inventory()
    wire.run(200)

    assert not scheduler.is_taking_inventory()


def test_who_answers_that_it_is_not_ready_is_heard_though_no_heartbeat_was_acknowledged() -> None:
    people = make_people(admitted(name) for name in "ab")
    pool = Pool(Identity(id_of("a"), "a", 1), FACTS, 15_000, people)
    pool.on_up(MemberUp(id_of("b"), "b", 1, FACTS))
    inventories = Inventories(TakeoverConfig(), pool)
    epoch = Epoch(1, id_of("a"), 7)
    inventories.begin(epoch, None, 0)
    inventories.ask(1, 0)
    inventories.on_inventory(id_of("a"), Inventory(epoch, 1, ready=True))

    inventories.on_inventory(id_of("b"), Inventory(epoch, 1, ready=False))

    assert not inventories.close(700)
    assert inventories.close(2_000)


def test_who_is_just_telling_its_table_is_waited_for() -> None:
    people = make_people(admitted(name) for name in "ab")
    pool = Pool(Identity(id_of("a"), "a", 1), FACTS, 15_000, people)
    pool.on_up(MemberUp(id_of("b"), "b", 1, FACTS))
    inventories = Inventories(TakeoverConfig(), pool)
    inventories.begin(Epoch(1, id_of("a"), 7), None, 0)

    inventories.extend(900)

    assert not inventories.close(700)
    assert inventories.close(900)
