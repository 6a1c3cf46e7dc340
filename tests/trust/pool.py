"""Several trust cores in one virtual time; gossip is an oracle, certificates are plain msgpack.

Streams deliver in order, packets are opened only with a key of the ring, as the envelope would.
Every node logs what it says; `told` shows it as text.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from hashlib import blake2b

import msgspec

from rain.claims import Claim, KeyPhase, KeyStep, Removal, Signed
from rain.effects import (
    Admitted,
    Answer,
    Barred,
    Cast,
    CertificateShown,
    ClaimMade,
    DeadlinePassed,
    Event,
    Expel,
    KeyMissing,
    Log,
    MemberDown,
    MemberUp,
    Message,
    Notice,
    Output,
    Persist,
    Persisted,
    Post,
    Received,
    Record,
    Rekey,
    Send,
)
from rain.model import Address, Facts, Identity, MemberState, NodeId, Role
from rain.trust.content import signed_content
from rain.trust.core import Trust, TrustConfig
from rain.trust.credential import Credential
from rain.trust.messages import RollDigest, RollHave, RollNews
from rain.trust.records import rows_of

SOURCE = Address("192.0.2.1", 7246)
POOL_ID = b"pool"
FOREVER_UNIX_S = 2_000_000_000
LATENCY_MS = 2
DISK_MS = 3

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Credential)


def secret(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=32, person=b"secret").digest()


def public(name: str) -> bytes:
    key = blake2b(secret(name), digest_size=32).digest()
    _SECRETS[key] = secret(name)
    return key


_SECRETS: dict[bytes, bytes] = {}


def sign_as(name: str) -> Callable[[bytes], bytes]:
    public(name)
    return lambda content: blake2b(content, key=secret(name), digest_size=64).digest()


def verify(public_key: bytes, signature: bytes, content: bytes) -> bool:
    known = _SECRETS.get(public_key)
    if known is None:
        return False
    return blake2b(content, key=known, digest_size=64).digest() == signature


def bundle(
    name: str,
    issuer: str = "n1",
    *,
    role: Role = Role.MEMBER,
    generation: int = 1,
    issuer_generation: int = 1,
    since: int = 0,
    until: int = FOREVER_UNIX_S,
    serial: int = 1,
    invite_id: str = "",
) -> bytes:
    """A certificate; of an admin n2 by n2 itself the root says: since 2, unless told otherwise."""
    credential = Credential(
        NodeId(name),
        public(name),
        f"pc-{name}",
        role,
        "anna",
        generation,
        serial,
        NodeId(issuer),
        issuer_generation,
        since or int(issuer[1:]),
        0,
        until,
        invite_id,
    )
    return _encoder.encode(credential)


def admin(name: str, *, generation: int = 1, since: int = 0) -> bytes:
    return bundle(
        name,
        name,
        role=Role.ADMIN,
        generation=generation,
        issuer_generation=generation,
        since=since,
    )


def inspect(certificate: bytes) -> Credential | None:
    try:
        return _decoder.decode(certificate)
    except msgspec.DecodeError:
        return None


def claim_of(
    author: str,
    number: int,
    claim: Claim,
    *,
    generation: int = 1,
    at: int = 0,
    pool_id: bytes = POOL_ID,
) -> Signed:
    """Signed as its author would."""
    unsigned = Signed(public(author), number, at or number, claim, generation=generation)
    signature = sign_as(author)(signed_content(unsigned, pool_id))
    return msgspec.structs.replace(unsigned, signature=signature)


def removal(subject: str, generation: int = 1, through: int = 0) -> Removal:
    return Removal(NodeId(subject), generation, through)


def trust_of(
    name: str, recovered: Sequence[Record] = (), *, now_ms: int = 0, seed: int = 1
) -> Trust:
    return Trust(
        Identity(NodeId(name), f"pc-{name}", 1),
        TrustConfig(pool_id=POOL_ID),
        inspect,
        sign_as(name),
        verify,
        random.Random(f"{name}/{seed}"),
        now_ms,
        recovered,
    )


def up(name: str) -> MemberUp:
    return MemberUp(NodeId(name), f"pc-{name}", 1, Facts())


def posted(sender: str, message: Message) -> Received:
    return Received(NodeId(sender), message, SOURCE, 1, True)


class Pool:
    """Nodes n1, n2, …; those in `admins` are admins, senior first."""

    def __init__(
        self, names: Sequence[str], admins: Sequence[str], *, issuer: str = "", seed: int = 1
    ) -> None:
        self.now_ms = 0
        self.seed = seed
        self.names = tuple(names)
        self.disks: dict[str, dict[str, Record]] = {name: {} for name in names}
        self.cores: dict[str, Trust] = {}
        self.lines: list[str] = []
        self.cut: set[frozenset[str]] = set()
        self.answers: dict[int, Answer] = {}
        self._keys: dict[str, Rekey] = {}
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        bundles = [admin(n) if n in admins else bundle(n, issuer or admins[0]) for n in names]
        step = KeyStep(1, KeyPhase.REMOVE, _mark(key(1)))
        rows = rows_of(bundles, [claim_of(admins[0], 1, step)], [(1, key(1))])
        for name in names:
            self.disks[name] = {row.key(): row for row in rows}

    # --- driving ---

    def start(self, *names: str) -> None:
        for name in names or self.names:
            rows = tuple(self.disks[name].values())
            self.cores[name] = trust_of(name, rows, now_ms=self.now_ms, seed=self.seed)
            for notice in self.cores[name].initial_notices():
                assert isinstance(notice, Admitted | Barred)
            self.feed(name, DeadlinePassed())
        for one in self.names:
            for other in names or self.names:
                self._meet(one, other)

    def stop(self, *names: str) -> None:
        for name in names:
            del self.cores[name]
        for one in sorted(self.cores):
            for name in names:
                self.feed(one, MemberDown(NodeId(name), MemberState.DEAD))

    def part(self, *side: str) -> None:
        for one in self.names:
            for other in self.names:
                if (one in side) and (other not in side):
                    self.cut.add(frozenset((one, other)))
                    for here, there in ((one, other), (other, one)):
                        if here in self.cores:
                            self.feed(here, MemberDown(NodeId(there), MemberState.DEAD))

    def heal(self) -> None:
        self.cut.clear()
        for one in self.names:
            for other in self.names:
                if one < other:
                    self._meet(one, other)

    def claim(self, name: str, claim: Claim, fresh_key: bytes = b"", request: int = 0) -> None:
        self.feed(name, ClaimMade(claim, 1_000 + self.now_ms, request, fresh_key))

    def feed(self, name: str, event: Event | Notice) -> None:
        core = self.cores.get(name)
        if core is None:
            return
        outputs = core.handle(event, self.now_ms)
        core.check()
        for output in outputs:
            self._carry_out(name, core, output)
        self._wake(name, core)

    def run(self, duration_ms: int) -> None:
        until_ms = self.now_ms + duration_ms
        while self._queue and self._queue[0][0] <= until_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
        self.now_ms = until_ms

    def told(self) -> str:
        text = "\n".join(self.lines)
        self.lines.clear()
        return text

    # --- effects ---

    def _carry_out(self, name: str, core: Trust, output: Output) -> None:
        words = describe(output)
        if words:
            self.lines.append(f"{self.now_ms} {name} {words}")
        match output:
            case Send(to=to, message=message):
                self._packet(name, to, message)
            case Cast(to=several, message=message):
                for to in several:
                    self._packet(name, to, message)
            case Post(to=to, message=message):
                assert not _has_keys(message) or core.credential(to), "a key for a stranger"
                self._transmit(name, to, message, by_stream=True)
            case Persist():
                self.at(self.now_ms + DISK_MS, lambda: self._written(name, core, output))
            case Rekey():
                self._keys[name] = output
            case Barred(node_id=node_id) if node_id == name:
                self.at(self.now_ms, lambda: self._end(name))
            case Answer(request=request):
                self.answers[request] = output
            case _:
                pass

    def _end(self, name: str) -> None:
        """An agent whose node was removed ends itself; one that leaves waits to be heard."""
        core = self.cores.get(name)
        known = core.known(NodeId(name)) if core else None
        is_overruled = core is not None and core.is_overruled(NodeId(name))
        if core and known and core.refusal(known) == "removed" and not is_overruled:
            self.stop(name)

    def _written(self, name: str, core: Trust, persist: Persist) -> None:
        if self.cores.get(name) is not core:
            return  # it died before
        for row in persist.puts:
            self.disks[name][row.key()] = row
        for row_key in persist.deletes:
            self.disks[name].pop(row_key, None)
        for effect in persist.then:
            self._carry_out(name, core, effect)
        if persist.token:
            self.feed(name, Persisted(persist.token, DISK_MS))

    def _packet(self, sender: str, to: str, message: Message) -> None:
        ring, theirs = self._keys.get(sender), self._keys.get(to)
        if ring is None:
            return
        sealed_with = (ring.use, dict(ring.keys)[ring.use])
        if theirs is not None and sealed_with in theirs.keys:
            self._transmit(sender, to, message, by_stream=False)
        elif frozenset((sender, to)) not in self.cut:
            self.at(self.now_ms + LATENCY_MS, lambda: self.feed(to, KeyMissing()))

    def _transmit(self, sender: str, to: str, message: Message, *, by_stream: bool) -> None:
        if frozenset((sender, to)) in self.cut:
            return

        def arrive() -> None:
            core = self.cores.get(to)
            if core is not None and core.hears(NodeId(sender)):
                self.feed(to, Received(NodeId(sender), message, SOURCE, 1, by_stream))

        self.at(self.now_ms + LATENCY_MS, arrive)

    def _meet(self, one: str, other: str) -> None:
        if one == other or frozenset((one, other)) in self.cut:
            return
        if one in self.cores and other in self.cores:
            self.feed(one, up(other))
            self.feed(other, up(one))

    def at(self, when_ms: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (when_ms, self._sequence, action))

    def _wake(self, name: str, core: Trust) -> None:
        deadline_ms = core.next_deadline_ms()
        if deadline_ms is not None:
            when_ms = max(self.now_ms, deadline_ms)

            def wake() -> None:
                is_due = self.cores.get(name) is core and core.next_deadline_ms() == deadline_ms
                if is_due:
                    self.feed(name, DeadlinePassed())

            self.at(when_ms, wake)

    # --- what is asked of it ---

    def rings(self) -> dict[str, tuple[list[int], int]]:
        """Numbers held and number in use."""
        return {
            name: (sorted(core.ring().keys), core.ring().use)
            for name, core in sorted(self.cores.items())
        }

    def agree(self) -> bool:
        """All that are up hold the same roll and the same keys."""
        seen = {
            (tuple(c.bundles()), tuple(c.claims()), tuple(sorted(c.ring().keys.items())))
            for c in self.cores.values()
        }
        return len(seen) == 1

    def show(self, name: str, *certificates: bytes) -> None:
        for certificate in certificates:
            self.feed(name, CertificateShown(certificate))


def key(number: int, salt: str = "") -> bytes:
    return blake2b(f"{number}{salt}".encode(), digest_size=32).digest()


def _mark(of: bytes) -> bytes:
    return blake2b(of, digest_size=16, person=b"key").digest()


def _has_keys(message: Message) -> bool:
    return isinstance(message, RollNews) and bool(message.keys)


# --- words ---------------------------------------------------------------------------------------


def describe(output: Output) -> str:
    """One line; digests, which go to and fro all the time, are left out."""
    match output:
        case Post(to=to, message=RollNews() as news):
            return f"-> {to}: news{_words(news)}"
        case Post(to=to, message=RollHave()):
            return f"-> {to}: have"
        case Post(to=to, message=RollDigest(taken=taken)):
            return f"-> {to}: taken {taken}"
        case Rekey(keys=keys, use=use):
            return f"keys {' '.join(str(number) for number, _ in keys)} use {use}"
        case Expel(node_id=node_id):
            return f"expels {node_id}"
        case Barred(node_id=node_id):
            return f"bars {node_id}"
        case Admitted(node_id=node_id, role=role):
            return f"admits {node_id} {role.name}"
        case Answer(copies=copies, error=error):
            return f"answers {error or copies}"
        case Log(event="barred", fields=fields):
            return f"log barred {dict(fields)['node']}: {dict(fields)['why']}"
        case _:
            return ""


def _words(news: RollNews) -> str:
    words = [f" {describe_claim(signed)}" for signed in news.claims]
    words += [f" key {ring_key.number}" for ring_key in news.keys]
    return ",".join(words) + (f" #{news.serial}" if news.serial else "")


def describe_claim(signed: Signed) -> str:
    match signed.claim:
        case Removal(subject=subject, generation=generation):
            return f"removal of {subject}.{generation}"
        case KeyStep(number=number, phase=phase):
            return f"{phase.name} {number}"
        case _:
            return type(signed.claim).__name__.lower()
