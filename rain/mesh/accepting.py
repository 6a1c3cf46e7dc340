"""The listening side of the streams: who connects is bounded before it is known.

Until it has said a good HELLO, whoever connects is a newcomer; without a certificate it comes to
the door. Both have few places and little time, and when the places are all taken, the oldest of
the host that has most of them gives way: who floods crowds out itself, and a member that comes
from elsewhere is served. Against a crowd of hosts, those that members have come from before keep
their places longest.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine

NEWCOMERS_MAX = 64
NEWCOMERS_PER_HOST_MAX = 16
NEWCOMER_TIMEOUT_MS = 3_000
BACKLOG = 1_024
"""What the kernel keeps for us; where it is full, members wait a second for their next try."""
HOSTS_KNOWN_MAX = 1_024
ACCEPTED_PER_TURN = 16
"""Before other work of the agent gets its turn."""
REST_AFTER_FAILURE_MS = 100
"""When the system has no more sockets to give, asking at once again helps nobody."""

Serve = Callable[[socket.socket, "Place"], Coroutine[None, None, None]]
Spawn = Callable[[Coroutine[None, None, None]], asyncio.Task[None]]
Count = Callable[[str], None]


class Place:
    """One of a few places, until it is freed, or its holder gives way."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.is_served = False
        self.task: asyncio.Task[None] | None = None


class Places:
    """At most so many at once, and so many from one host."""

    def __init__(self, places_max: int, per_host_max: int) -> None:
        self._places_max = places_max
        self._per_host_max = per_host_max
        self._taken: dict[Place, None] = {}
        self._known: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, place: Place) -> Place | None:
        """Take a place; whose it was before, if somebody has to give way for it."""
        hosts = [each.host for each in self._taken]
        ousted = None
        if hosts.count(place.host) >= self._per_host_max:
            ousted = self._oldest_of(place.host)
        elif len(hosts) >= self._places_max:
            crowd = max(hosts, key=lambda host: (host not in self._known, hosts.count(host)))
            ousted = self._oldest_of(crowd)
        if ousted is not None:
            del self._taken[ousted]
        self._taken[place] = None
        assert len(self._taken) <= self._places_max, "more newcomers than places"
        return ousted

    def free(self, place: Place) -> None:
        """The holder has gone, or has become somebody. May be told twice."""
        self._taken.pop(place, None)

    def know(self, host: str) -> None:
        """A member has come from there."""
        self._known.pop(host, None)
        self._known[host] = None
        if len(self._known) > HOSTS_KNOWN_MAX:
            del self._known[next(iter(self._known))]

    def _oldest_of(self, host: str) -> Place:
        return next(place for place in self._taken if place.host == host)


class Acceptor:
    """Takes connections from a listening socket and serves each in a task of its own."""

    def __init__(self, serve: Serve, spawn: Spawn, count: Count) -> None:
        self._serve = serve
        self._spawn = spawn
        self._count = count
        self.newcomers = Places(NEWCOMERS_MAX, NEWCOMERS_PER_HOST_MAX)

    async def accept_forever(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(ACCEPTED_PER_TURN):
                try:
                    tcp, (host, _) = await loop.sock_accept(listening)
                except OSError:
                    self._count("not_accepted")
                    await asyncio.sleep(REST_AFTER_FAILURE_MS / 1_000)
                else:
                    self._admit(tcp, host)
            await asyncio.sleep(0)

    def _admit(self, tcp: socket.socket, host: str) -> None:
        place = Place(host)
        ousted = self.newcomers.take(place)
        if ousted is not None:
            self._count("too_many_newcomers")
            assert ousted.task is not None, "a place is taken for a task"
            ousted.task.cancel()
        place.task = self._spawn(self._serve_in(place, tcp))

        def leave(task: asyncio.Task[None]) -> None:
            self.newcomers.free(place)
            place.task = None  # each would keep the other, and what TLS had for them
            if not place.is_served:  # cancelled before its first step: nobody has the socket
                tcp.close()

        place.task.add_done_callback(leave)

    async def _serve_in(self, place: Place, tcp: socket.socket) -> None:
        place.is_served = True
        await self._serve(tcp, place)
