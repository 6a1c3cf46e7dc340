"""Who is removed, who is let in again, and when the pool key is changed: what admins do.

A removed PC is switched off at once, or runs on and keeps trying, or falls into the hands of
somebody who goes on with its keys and tells lies (attacks.py). It may be let in again later.
"""

from collections.abc import Callable, Sequence

from rain.claims import KeyPhase, KeyStep, Removal, Verify
from rain.effects import CertificateShown, ClaimMade
from rain.mesh import codec
from rain.model import NodeId, Role
from rain.trust.credential import Credential
from rain.trust.records import BundleRow, ClaimRow, rows_of
from rain.trust.roll import Roll
from rain.trust.standing import standing

from .credentials import Charter
from .executor import UNIX_MS
from .host import Host
from .trace import Trace
from .world import World, pick

KICKS_MAX = 2
QUIET_BEFORE_END_US = 4_000_000
"""Nobody is removed so shortly before everything is mended: his removal shall be known by then."""
COORDINATING_MIN = 2
"""So many who may coordinate are left in."""
READMIT_SHARE = 0.5
READMIT_US_MIN = 3_000_000
CLAIM_REQUESTS_FROM = 1_000_000
"""Numbers of requests that are nobody's submit or cancel."""
STRIKE_BACK_SHARE = 0.7
STRIKE_BACK_US_MAX = 6_000_000
FATES = ("off", "runs", "stolen")
TRUST_PREFIX = "trust/"


class Kicks:
    """Removes, lets in again, and changes keys."""

    def __init__(
        self,
        world: World,
        hosts: Sequence[Host],
        charter: Charter,
        verify: Verify,
        trace: Trace,
        end_us: int,
        on_removal: Callable[[Host], None],
    ) -> None:
        self.removals = 0
        self.readmissions = 0
        self.rotations = 0
        self.stolen: set[int] = set()
        """Hosts whose keys somebody else has."""
        self._world = world
        self._hosts = hosts
        self._charter = charter
        self._verify = verify
        self._trace = trace
        self._end_us = end_us
        self._on_removal = on_removal
        self._dice = world.dice("kicks")
        self._requests = 0

    # --- removing ------------------------------------------------------------------------------

    def kick(self) -> Host | None:
        """An admin who is there removes somebody. The host whose keys are stolen, if they are."""
        if self.removals >= KICKS_MAX or self._world.now_us > self._end_us - QUIET_BEFORE_END_US:
            return None
        admins = [host for host in self._members() if host.is_awake and _is_admin(host)]
        if not admins:
            return None
        admin = pick(self._dice, admins)
        victims = [host for host in self._members() if host is not admin and self._may_go(host)]
        victims = [host for host in victims if self._credential(admin, host.node_id) is not None]
        if not victims:
            return None
        victim: Host = pick(self._dice, victims)
        # The keys of an admin can undo what a junior one does: not those of all are stolen.
        fate = pick(self._dice, list(FATES[:2] if _is_admin(victim) else FATES))
        self.removals += 1
        self._say(f"{admin.name} removes {victim.name}, which is {fate}")
        self._on_removal(victim)
        victim.is_removed = True
        self._remove(admin, victim)
        if fate != "runs" and victim.is_up:
            victim.power_off()
        if self._dice.random() < READMIT_SHARE:
            delay_us = READMIT_US_MIN + int(self._dice.random() * self._end_us)
            self._world.after(delay_us, self._readmit, victim)
        if fate == "runs" and _is_admin(victim) and self._dice.random() < STRIKE_BACK_SHARE:
            delay_us = int(self._dice.random() * STRIKE_BACK_US_MAX)
            self._world.after(delay_us, self._strike_back, victim, admin)
        if fate == "stolen":
            self.stolen.add(victim.index)
            return victim
        return None

    def _strike_back(self, victim: Host, remover: Host) -> None:
        """Of two admins who remove each other the senior stays, whoever began."""
        if not victim.is_removed or not victim.is_awake or remover.is_removed:
            return
        if self._world.now_us > self._end_us - QUIET_BEFORE_END_US:
            return
        authorities = self._charter.authorities
        is_senior = (
            authorities[victim.node_id].since_unix_s < authorities[remover.node_id].since_unix_s
        )
        self.removals += 1
        self._say(f"{victim.name} removes {remover.name}, which had removed it")
        self._on_removal(remover)
        if is_senior:
            remover.is_removed, victim.is_removed = True, False
        self._remove(victim, remover)

    def rotate(self) -> None:
        """An admin changes the pool key without a reason that anybody could see."""
        admins = [host for host in self._members() if host.is_awake and _is_admin(host)]
        if not admins:
            return
        admin = pick(self._dice, admins)
        assert admin.node is not None
        number = max(admin.node.trust.ring().keys) + 1
        self.rotations += 1
        self._say(f"{admin.name} makes pool key {number}")
        self._claim(admin, KeyStep(number, KeyPhase.INSTALL), self._charter.next_key())

    def settle(self) -> None:
        """Whoever is not removed by all that lies on any disk never was: the word was lost."""
        bundles, claims = list[bytes](), []
        for host in self._hosts:
            for key in sorted(host.disk.rows):
                if key.startswith(TRUST_PREFIX):
                    record = codec.decode_record(host.disk.rows[key])
                    if isinstance(record, BundleRow):
                        bundles.append(record.bundle)
                    elif isinstance(record, ClaimRow):
                        claims.append(record.signed)
        roll = Roll(self._charter.pool_id, self._charter.inspect, self._verify)
        roll.merge(bundles, claims)
        verdict = standing(roll.held(), roll.claims())
        for host in self._hosts:
            is_removed = host.node_id not in verdict.credentials
            if is_removed != host.is_removed:
                self._say(f"{host.name} is {'removed' if is_removed else 'in'} after all")
                host.is_removed = is_removed

    def _members(self) -> list[Host]:
        return [host for host in self._hosts if not host.is_removed]

    def _may_go(self, host: Host) -> bool:
        left = [one for one in self._members() if one is not host]
        coordinating = [one for one in left if one.is_keeper]
        return len(coordinating) >= COORDINATING_MIN and any(_is_admin(one) for one in left)

    def _remove(self, admin: Host, victim: Host) -> None:
        """As the agent does it: first under its own word whom it keeps, then the removal."""
        assert admin.node is not None
        trust = admin.node.trust
        authority = self._charter.authorities[admin.node_id]
        for credential in trust.issued_by(victim.node_id):
            admin.feed(CertificateShown(authority.renew(credential)))
        removed = self._credential(admin, victim.node_id)
        if removed is None:
            return  # its issuer was removed meanwhile: it is out already
        through = max(
            (
                signed.number
                for signed in trust.claims()
                if signed.author_key == victim.signer.public_key
            ),
            default=0,
        )
        claim = Removal(victim.node_id, removed.generation, through, "no longer one of us")
        self._claim(admin, claim, self._charter.next_key())

    def _claim(self, admin: Host, claim: Removal | KeyStep, fresh_key: bytes) -> None:
        self._requests += 1
        at_unix_ms = UNIX_MS + self._world.now_us // 1_000
        admin.feed(ClaimMade(claim, at_unix_ms, self._requests + CLAIM_REQUESTS_FROM, fresh_key))

    # --- letting in again ----------------------------------------------------------------------

    def _readmit(self, victim: Host) -> None:
        """A person carries an invitation to that PC, and an admin who knows of its removal."""
        if not victim.is_removed or self._world.now_us > self._end_us - QUIET_BEFORE_END_US:
            return
        admins = [
            host
            for host in self._members()
            if host.is_awake and _is_admin(host) and self._knows(host, victim.node_id)
        ]
        if not admins:
            return
        admin = pick(self._dice, admins)
        assert admin.node is not None
        trust = admin.node.trust
        authority = self._charter.authorities[admin.node_id]
        generation = trust.next_generation(victim.node_id)
        bundle = authority.issue(
            victim.signer.public_key,
            name=victim.name,
            role=victim.role,
            person=victim.person,
            generation=generation,
        )
        self.readmissions += 1
        self._say(f"{admin.name} lets {victim.name} in again, generation {generation}")
        if victim.is_up:
            victim.kill()
        admin.feed(CertificateShown(bundle))
        self._fill(victim, admin, bundle)
        if _is_admin(victim):
            self._charter.empower(victim.signer, generation)
        self.stolen.discard(victim.index)
        victim.is_removed = False
        victim.start()

    def _fill(self, victim: Host, admin: Host, bundle: bytes) -> None:
        """What the door hands out replaces what the PC knew of who may be in."""
        assert admin.node is not None
        trust = admin.node.trust
        for key in [key for key in victim.disk.rows if key.startswith(TRUST_PREFIX)]:
            del victim.disk.rows[key]
        for row in rows_of([*trust.bundles(), bundle], trust.claims(), trust.ring().keys.items()):
            victim.disk.rows[row.key()] = codec.encode_record(row)

    def _knows(self, host: Host, node_id: NodeId) -> bool:
        assert host.node is not None
        return node_id in host.node.trust.removals()

    def _credential(self, host: Host, node_id: NodeId) -> Credential | None:
        return host.node.trust.credential(node_id) if host.node is not None else None

    def _say(self, text: str) -> None:
        self._trace.line(self._world.now_us, "who", f"** {text}")


def _is_admin(host: Host) -> bool:
    return host.role is Role.ADMIN
