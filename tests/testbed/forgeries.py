"""Messages and frames that somebody without the right to them would send."""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
from msgspec.structs import replace

from rain.claims import Claim, Invitation, KeyPhase, KeyStep, Removal, Signed, node_id_of
from rain.effects import Message
from rain.election.messages import Challenge, Heartbeat, Resign, Strength
from rain.mesh.certificates import make_root
from rain.mesh.codec import pack
from rain.mesh.frames import FRAME_BYTES_MAX, Posted
from rain.mesh.keys import EdSigner
from rain.model import AttemptId, End, EndState, Epoch, JobId, JobSpec, NodeId, Role, Stage
from rain.sched.identity import signed_cancel, signed_job
from rain.sched.messages import (
    Assign,
    AttemptReport,
    InventoryRequest,
    JobPatch,
    Patch,
    Propose,
    Replicate,
    Report,
    ReportAck,
    Stop,
)
from rain.trust.content import signed_content
from rain.trust.messages import RingKey, RollNews

NEST = 200_000
HUGE = 2**32 - 1


class Forger:
    """Makes messages with one stolen key.

    `args` may name: `target` (a node id), `victim` (another one), `job`, and `trap`: a file
    that appears if anybody obeys.
    """

    def __init__(
        self, signer: EdSigner, pool_id: bytes, epoch: Epoch, args: dict[str, Any]
    ) -> None:
        self._signer = signer
        self._own = node_id_of(signer.public_key)
        self._pool_id = pool_id
        self._reign = epoch
        self._usurped = Epoch(epoch.number + 1, self._own, 1)
        self._target = NodeId(args.get("target", ""))
        self._victim = NodeId(args.get("victim", ""))
        self._job = JobId(args.get("job", ""))
        self._trap = str(args.get("trap", "true"))

    def heartbeat(self) -> Message:
        strength = Strength(100, 10**9)
        return Heartbeat(self._usurped, 1, strength, b"", b"", b"")

    def challenge(self) -> Message:
        return Challenge(1, self._reign, 0)

    def resign(self) -> Message:
        return Resign(self._reign, self._own)

    def assign(self) -> Message:
        """As the coordinator of a reign of its own."""
        return self._assigned(self._usurped)

    def assign_of_the_reign(self) -> Message:
        """As the coordinator that is followed."""
        return self._assigned(self._reign)

    def _assigned(self, epoch: Epoch) -> Message:
        spec = JobSpec(("touch", self._trap), executor="process")
        now_ms = int(time.time() * 1_000)  # noqa: TID251  jobs have dates
        job = signed_job(
            spec, "pc", now_ms, secrets.token_bytes(16), "eve", self._signer.public_key,
            self._signer.sign, self._pool_id,
        )  # fmt: skip
        return Assign(epoch, 1, job, (AttemptId(job.job_id, 0, 1, epoch, self._target),))

    def stop(self) -> Message:
        return Stop(self._reign, 1, (self._attempt(self._target),), "because I say so")

    def report_ack(self) -> Message:
        return ReportAck(self._reign, (self._attempt(self._target),))

    def inventory_request(self) -> Message:
        return InventoryRequest(self._reign, 1, 1)

    def replicate(self) -> Message:
        return Replicate(self._reign, 1, (self._cancelled(),))

    def patch(self) -> Message:
        return Patch(self._reign, (self._cancelled(),))

    def cancel(self) -> Message:
        """Somebody else's job, signed by itself."""
        return Propose(1, (self._cancelled(),))

    def cancel_in_anothers_name(self) -> Message:
        """The same with a signature that is none."""
        return Propose(2, (replace(self._cancelled(), cancel_signature=bytes(64)),))

    def _cancelled(self) -> JobPatch:
        now_ms = int(time.time() * 1_000)  # noqa: TID251  cancels have dates
        public_key, sign = self._signer.public_key, self._signer.sign
        cancel = signed_cancel(self._job, 1, now_ms, public_key, sign, self._pool_id)
        return JobPatch.of_parts(self._job, cancel=cancel)

    def submit(self) -> Message:
        assigned = self._assigned(self._reign)
        assert isinstance(assigned, Assign)
        return Propose(3, (JobPatch.of_parts(assigned.job.job_id, assigned.job),))

    def report(self) -> Message:
        """That another node's attempt has succeeded."""
        end = End(EndState.SUCCEEDED, 0)
        return Report(
            self._reign, (AttemptReport(self._attempt(self._victim), Stage.ENDED, 1, end),)
        )

    def _attempt(self, node_id: NodeId) -> AttemptId:
        return AttemptId(self._job, 0, 1, self._reign, node_id)

    def invite(self) -> Message:
        claim = Invitation("b" * 10, Role.ADMIN, "eve", 9, 2**40, self._signer.public_key)
        return RollNews(claims=(self._claimed(claim),))

    def remove(self) -> Message:
        return RollNews(claims=(self._claimed(Removal(self._victim, 1)),))

    def rekey(self) -> Message:
        """A pool key of its own making."""
        step = self._claimed(KeyStep(90, KeyPhase.USE))
        return RollNews(claims=(step,), keys=(RingKey(90, bytes(32)),))

    def forged_claim(self) -> Message:
        """The admin's own word, with a signature that is none."""
        claimed = self._claimed(Removal(self._victim, 1))
        return RollNews(claims=(replace(claimed, signature=bytes(64)),))

    def promote(self) -> Message:
        """A certificate that says admin, by an authority under another root."""
        from rain.agent.authority import new_authority

        now_s = int(time.time())  # noqa: TID251  certificates have dates
        root = make_root(secrets.token_bytes(16), "pc1-pool", now_s)
        bundle = new_authority(root, self._own, 1, now_s).issue(
            self._signer.public_key, name="pc3", role=Role.ADMIN, person="eve", generation=2,
            invite_id="", now_unix_s=now_s,
        )  # fmt: skip
        return RollNews(bundles=(bundle,))

    def _claimed(self, claim: Claim) -> Signed:
        now_ms = int(time.time() * 1_000)  # noqa: TID251  claims have dates
        signed = Signed(self._signer.public_key, 1, now_ms, claim)
        signature = self._signer.sign(signed_content(signed, self._pool_id))
        return replace(signed, signature=signature)


def message(
    kind: str, signer: EdSigner, pool_id: bytes, epoch: Epoch, args: dict[str, Any]
) -> Message:
    """A message of that kind: the name of a method of `Forger`."""
    make: Callable[[], Message] = getattr(Forger(signer, pool_id, epoch, args), kind)
    return make()


def bad_frames() -> Iterator[tuple[str, bytes, int | None]]:
    """Name, bytes, and the length that is claimed where it is not the true one."""
    nested = b"\x91" * NEST + b"\x90"
    yield "length of 4 GiB", b"x", HUGE
    yield "length of nothing", b"", 0
    yield "longer than any frame", bytes(1_024), FRAME_BYTES_MAX + 1
    for tag in ("p", "dk"):  # a frame's, and a word's at the door
        head = b"\x92" + msgpack.packb(tag)
        yield f"nested in {tag}", head + nested[:7_000], None
        yield f"array in {tag} that claims 4 G elements", head + b"\xdd\xff\xff\xff\xff", None
        yield f"map in {tag}", head + msgpack.packb({"a": 1}), None
    yield "unknown tag", msgpack.packb(["zz", 1]), None
    yield "nested in a post", pack(Posted(b"\x92" + msgpack.packb("sp") + nested)), None
    yield "noise in a post", pack(Posted(bytes(range(256)) * 4)), None
