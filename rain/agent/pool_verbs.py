"""The verbs of the control socket about this node and its pool: status, nodes, down, leave."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from rain.agent.admission import Admission
from rain.agent.clock import now_ms, now_unix_ms
from rain.agent.control import End, Item, Json, Verb, VerbError
from rain.agent.driver import Driver
from rain.agent.people import People
from rain.agent.reads import Reads
from rain.agent.rights import NO_ADMIN_BACK, NO_ADMIN_LEFT
from rain.gossip.member import Member
from rain.model import MemberState, NodeId, Resources, Role
from rain.sched.civil import rfc3339
from rain.sched.table import Table
from rain.trust.credential import Credential
from rain.version import VERSION

ADMINS_WANTED = 2
"""A pool with fewer can be lost with one PC."""
EXPIRY_WARNED_S = 7 * 24 * 3_600

Counts = Mapping[str, int]


class NotYet:
    """What a newcomer answers while it waits to be let in: exit 4, but for going away."""

    def __init__(self, stop: Callable[[bool, int], None]) -> None:
        self._stop = stop

    def by_name(self) -> dict[str, Verb]:
        return {"down": self.down, "leave": self.down}

    async def refuse(self, args: Json) -> AsyncIterator[Item | End]:
        message = "this PC is not in a pool yet: it waits to be let in"
        raise VerbError("not_in_pool", message, "look at what `rain up` says", 4)
        yield End({})  # a generator by its shape

    async def down(self, args: Json) -> AsyncIterator[Item | End]:
        self._stop(False, 0)
        yield End({})


class PoolVerbs:
    """What there is to see of the pool, and going away."""

    def __init__(
        self,
        driver: Driver,
        admission: Admission,
        people: People,
        reads: Reads,
        stop: Callable[[bool, int], None],
        refused: Callable[[], dict[str, Counts]],
        own_warnings: Callable[[], list[str]],
        surroundings: Callable[[], Json] = dict,
    ) -> None:
        self._driver = driver
        self._identity = driver.node.identity
        self._admission = admission
        self._people = people
        self._reads = reads
        self._stop = stop
        self._refused = refused
        self._own_warnings = own_warnings
        self._surroundings = surroundings
        """What the devices around the node say of themselves."""

    def by_name(self) -> dict[str, Verb]:
        return {
            "status": self.status,
            "nodes": self.nodes,
            "down": self.down,
            "leave": self.leave,
        }

    async def status(self, args: Json) -> AsyncIterator[Item | End]:
        node = self._driver.node
        members = node.gossip.members()
        own = next(m for m in members if m.record.node_id == self._identity.node_id)
        counts = {state.name.lower(): 0 for state in MemberState}
        for member in members:
            counts[member.record.state.name.lower()] += 1
        pool = self._admission.pool
        yield End(
            {
                "node": {
                    "id": self._identity.node_id,
                    "name": self._identity.name,
                    "state": own.record.state.name.lower(),
                    "address": str(own.record.address),
                },
                "pool": {"id": pool.pool_id.hex(), "name": pool.name},
                **self._reign(),
                "members": counts,
                "version": VERSION,
                "takes_work": own.facts.works,
                "idle_reason": own.facts.idle_reason,
                "disk": dict(
                    zip(("state", "reason"), self._driver.writer.health.told(), strict=True)
                ),
                "braked": node.election.is_braked(),
                **self._rights(),
                "key": self._people.key(),
                **self._surroundings(),
                "refused": self._refused(),
                "warnings": [*self._warnings(), *self._own_warnings()],
            }
        )

    def _reign(self) -> Json:
        election, at_ms = self._driver.node.election, now_ms()
        reign, lag_ms = election.reign(), {"own": election.load_ms(at_ms), "coordinator": None}
        if reign is None:
            return {"coordinator": None, "epoch": None, "lag_ms": lag_ms}
        name = self._reads.names().get(reign.node_id, reign.node_id)
        return {
            "coordinator": {"id": reign.node_id, "name": name},
            "epoch": {"number": reign.number, "node_id": reign.node_id},
            "lag_ms": {**lag_ms, "coordinator": election.coordinator_load_ms(at_ms)},
        }

    def _rights(self) -> Json:
        own = self._driver.node.trust.credential(self._identity.node_id)
        if own is None:
            return {"role": "", "person": "", "certificate_until": None}
        return {
            "role": own.role.name.lower(),
            "person": own.person,
            "certificate_until": rfc3339(own.until_unix_s * 1_000),
        }

    def _warnings(self) -> list[str]:
        """What a person should do something about, and what."""
        trust = self._driver.node.trust
        told = []
        credentials = trust.credentials()
        admins = [each for each in credentials if each.role is Role.ADMIN]
        if credentials and not admins:
            told.append(NO_ADMIN_LEFT)
        elif len(credentials) > 1 and len(admins) < ADMINS_WANTED:
            told.append(
                f"{admins[0].name} is the only admin: without that PC nobody can be let in or "
                "removed. Make another one: rain invite --role admin"
            )
        told += namesake_warning(self._driver.node.gossip.members(), self._identity.node_id)
        own = trust.credential(self._identity.node_id)
        now_s = now_unix_ms() // 1_000
        if own is not None and own.until_unix_s - now_s < EXPIRY_WARNED_S:
            when = "has run out" if own.until_unix_s < now_s else "runs out soon"
            told.append(
                f"this PC's certificate {when} and no admin has renewed it: switch an admin's PC "
                f"on; {NO_ADMIN_BACK}"
            )
        return told

    async def nodes(self, args: Json) -> AsyncIterator[Item | End]:
        node = self._driver.node
        reign = node.election.reign()
        rows = []
        for member in node.gossip.members():
            record, facts = member.record, member.facts
            placed = _placed_on(node.sched.table, record.node_id)
            rows.append(
                {
                    "id": record.node_id,
                    "name": record.name,
                    "address": str(record.address),
                    "state": record.state.name.lower(),
                    "is_coordinator": reign is not None and reign.node_id == record.node_id,
                    "capacity": _amounts(facts.capacity, list(facts.accelerators)),
                    "free": _amounts(facts.capacity.minus(placed), []),
                    "labels": {"platform": facts.platform} if facts.platform else {},
                    "paused": False,
                    "version": facts.software,
                    "takes_work": facts.works,
                    "idle_reason": facts.idle_reason,
                    "executors": list(facts.executors),
                    "rank": facts.rank,
                    **_standing(node.trust.credential(record.node_id)),
                }
            )
        yield End({"nodes": rows})

    async def down(self, args: Json) -> AsyncIterator[Item | End]:
        self._stop(False, int(args.get("drain_ms") or 0))
        yield End({})

    async def leave(self, args: Json) -> AsyncIterator[Item | End]:
        self._stop(True, 0)
        yield End({})


def namesake_warning(members: Iterable[Member], own_id: NodeId) -> list[str]:
    """`--node NAME` and `rain kick NAME` would mean both."""
    up = (MemberState.ALIVE, MemberState.SUSPECT)
    names = {m.record.node_id: m.record.name for m in members if m.record.state in up}
    name = names.pop(own_id, None)
    if name not in names.values():
        return []
    # A certificate says the name: it is given at the door, and stays.
    return [
        f"another PC is called {name} too: on one of the two rain leave, then join again with "
        "rain up --name OTHER"
    ]


def _standing(credential: Credential | None) -> Json:
    """By the certificate; None where there is none (any more)."""
    if credential is None:
        return {"role": None, "person": None}
    return {"role": credential.role.name.lower(), "person": credential.person}


def _amounts(amount: Resources, gpus: list[str]) -> Json:
    return {"cpus": amount.cpus_milli / 1_000, "memory_bytes": amount.memory_bytes, "gpus": gpus}


def _placed_on(table: Table, node_id: NodeId) -> Resources:
    """What the cells place on a node, by this node's copy of the table."""
    total = Resources()
    for attempt_id in table.attempts_on(node_id):
        job = table.job(attempt_id.job_id)
        if job is not None:
            total = total.plus(job.spec.need)
    return total
