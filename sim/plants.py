"""The planted bugs: each takes one rule away, and the simulator must notice within 300 seeds."""

from .election_plants import ELECTION_PLANTS
from .planting import Plant

ROLES = "rain.election.roles"
CORE = "rain.election.core"
BELIEFS = "rain.gossip.beliefs"
WORKER = "rain.sched.worker"
REPLICATION = "rain.sched.replication"
SCHEDULER = "rain.sched.scheduler"
ENVELOPE = "rain.mesh.envelope"
WARRANTS = "rain.sched.warrants"

PLANTS: tuple[Plant, ...] = (
    *ELECTION_PLANTS,
    Plant(
        "announce-before-disk",
        ROLES,
        "        campaign.start_claim(epoch, token, now_ms, patience_ms)\n        return [",
        "        campaign.start_claim(epoch, token, now_ms, patience_ms)\n"
        "        return [*self._become_coordinator(campaign, now_ms), ",
        "an epoch is on disk before it is announced",
    ),
    Plant(
        "incumbent-not-sticky",
        ROLES,
        "start_ms = max(start_ms, self._hearing.silent_at_ms())",
        "start_ms = start_ms if self._view.rank_of(self._me) < self._view.rank_of(silent)"
        " else max(start_ms, self._hearing.silent_at_ms())",
        "whoever returns unseats nobody",
    ),
    Plant(
        "two-reigns-stay",
        ROLES,
        "if is_sure or reign.is_rival_proven(rival, now_ms):",
        "if False:",
        "of two reigns that meet the weaker goes",
    ),
    Plant(
        "epoch-falls",
        CORE,
        "if heartbeat.epoch < self._epochs.floor:",
        "if False:",
        "nobody follows an epoch below one that it followed",
    ),
    Plant(
        "floor-forgotten",
        "rain.election.epochs",
        "return EpochRecord(max(self.newest, epoch), max(self.floor, epoch))",
        "return EpochRecord(max(self.newest, epoch), self.floor)",
        "what is followed or announced is what is written down",
    ),
    Plant(
        "no-refutation",
        BELIEFS,
        "if claim.boot_epoch == own.boot_epoch and claim.incarnation >= own.incarnation:",
        "if claim.boot_epoch == own.boot_epoch and claim.incarnation > own.incarnation:",
        "who is called dead and lives says so",
    ),
    Plant(
        "fencing-off",
        WORKER,
        '        if epoch != self._epoch:\n            return "order_of_another_reign"\n',
        "",
        "a worker obeys only the reign that it follows",
    ),
    Plant(
        "old-orders-obeyed",
        WORKER,
        "if self._beat - beat > BEATS_BEHIND_MAX:",
        "if False:",
        "an order that quotes an old heartbeat is not carried out",
    ),
    Plant(
        "start-before-disk",
        WORKER,
        "        return [*write, *self._post_reports(told, now_ms)]\n\n    def on_stop(",
        "        return [*then, *write, *self._post_reports(told, now_ms)]\n\n    def on_stop(",
        "an attempt is on disk before its container starts",
    ),
    Plant(
        "outcome-forgotten",
        WORKER,
        "return [Persist((attempt.row(),), then=then)]",
        "return [Persist((), (attempt.row().key(),) * (attempt.end is not None), then=then)]",
        "a worker keeps an outcome until it is acknowledged",
    ),
    Plant(
        "attempts-forgotten",
        SCHEDULER,
        "rows = [record for record in recovered if isinstance(record, AttemptRow)]",
        "rows: list[AttemptRow] = []",
        "an agent that restarts knows what it had accepted",
    ),
    Plant(
        "ack-before-replicas",
        REPLICATION,
        "if copies < self._needed():",
        "if copies < 1:",
        "acknowledged means on disk at enough members",
    ),
    Plant(
        "answer-before-disk",
        REPLICATION,
        "return ledger.persist(ledger.known_part(message.patches), answer)",
        "return [*answer, *ledger.persist(ledger.known_part(message.patches), ())]"
        "  # type: ignore[list-item]",
        "a holder says that it wrote when it has written",
    ),
    Plant(
        "tables-never-compared",
        "rain.sched.antientropy",
        "if digest == self._ledger.table.digest():",
        "if True:",
        "every table becomes like the others",
    ),
    Plant(
        "capacity-ignored",
        "rain.model",
        "return self.cpus_milli >= need.cpus_milli and self.memory_bytes >= need.memory_bytes",
        "return True",
        "what is placed on a node fits",
    ),
    Plant(
        "attempts-reused",
        "rain.sched.decisions",
        "return AttemptId(job_id, task, cell.turn + 1, epoch, node_id)",
        "return AttemptId(job_id, task, 1, epoch, node_id)",
        "an attempt is never reused",
    ),
    Plant(
        "success-overruled",
        "rain.sched.cells",
        "        cell.success,\n        cell.generation,\n        cell.final,\n"
        "        epoch is not None,\n        NO_EPOCH if epoch is None else epoch,\n",
        "        cell.generation,\n        epoch is not None,\n"
        "        NO_EPOCH if epoch is None else epoch,\n"
        "        cell.success,\n        cell.final,\n",
        "no later decision changes a committed success",
    ),
    Plant(
        "cancel-not-written",
        "rain.sched.table",
        "fresh.append(CancelRow(patch.job_id, *known.cancel()))",
        "pass",
        "an acknowledged cancel is on disk",
    ),
    Plant(
        "lost-never-rerun",
        "rain.sched.judgement",
        "            outputs += self._lose(attempt_id, reason, now_ms)\n",
        "            pass\n",
        "what a lost node ran is placed elsewhere",
    ),
    Plant(
        "candidate-never-done",
        "rain.election.campaign",
        "        self._challenged_ms = now_ms\n        voters",
        "        self._challenged_ms = now_ms\n"
        "        self.deadline_ms = now_ms + self.length_ms\n        voters",
        "a candidate's own deadline never moves",
    ),
    Plant(
        "freshness-not-asked",
        ENVELOPE,
        "if self._freshness.take(public_key, boot_epoch, sequence):\n            return Opened",
        "if self._freshness.take(public_key, boot_epoch, sequence) or True:\n"
        "            return Opened",
        "after a start a sender proves that it is alive before it is believed",
    ),
    Plant(
        "window-forgotten",
        ENVELOPE,
        "        self._use = use\n        self._opening",
        "        for life in self._freshness._proven.values():\n            life.taken = 0\n"
        "        self._use = use\n        self._opening",
        "the window of a sender survives the change of the pool key",
    ),
    Plant(
        "packets-unsigned",
        ENVELOPE,
        '        ):\n            return Rejected("signature")\n        if newer is not None:',
        "        ):\n            pass\n        if newer is not None:",
        "whoever holds the pool's key cannot speak for a member",
    ),
    Plant(
        "anybody-admitted",
        ENVELOPE,
        "refusal = self._admits(sender) or self._freshness.refusal(",
        "refusal = self._freshness.refusal(",
        "the pool's key alone lets nobody in",
    ),
    Plant(
        "worker-stands",
        "rain.election.electors",
        "return self._roles.get(node_id, Role.WORKER) >= Role.MEMBER",
        "return True",
        "a worker never coordinates",
    ),
    Plant(
        "orders-of-anybody",
        WORKER,
        '        if sender != epoch.node_id:\n            return "order_not_by_the_coordinator"\n',
        "",
        "orders come from the coordinator itself",
    ),
    Plant(
        "report-of-another",
        "rain.sched.judgement",
        "if attempt_id.node_id != sender:",
        "if False:",
        "a report is believed from the worker of that attempt only",
    ),
    Plant(
        "cancel-unsigned",
        "rain.sched.identity",
        "return _fits(cancel.cancelled_by, cancel.cancel_signature) and verify(\n"
        "        cancel.cancelled_by, cancel.cancel_signature, content\n    )",
        "return True",
        "a cancel is signed by who gave it",
    ),
    Plant(
        "cancel-by-anybody",
        "rain.sched.people",
        "return author.role is Role.ADMIN or (bool(author.person) and author.person == job.person)",
        "return True",
        "people cancel their own jobs, admins any",
    ),
    Plant(
        "job-unsigned",
        "rain.sched.identity",
        "        and verify(job.public_key, job.signature, job_content(pool_id, job.job_id))\n",
        "",
        "a job is signed by who asked for it",
    ),
    Plant(
        "member-speaks-for-another",
        "rain.gossip.proofs",
        "            verdict = self._verify(notice.public_key, signature, content)\n",
        "            verdict = True\n",
        "what is said of a member is signed by itself",
    ),
    Plant(
        "claim-unsigned",
        "rain.trust.roll",
        "if not self._verify(signed.author_key, signed.signature, content):",
        "if False:",
        "a claim is signed by its author",
    ),
    Plant(
        "removed-stay",
        "rain.trust.standing",
        "if held.credential.generation > over:",
        "if True:",
        "who was removed is heard no more",
    ),
    Plant(
        "key-stays",
        "rain.trust.core",
        "return error  # of several who removed this node it has undone one\n"
        "        return self._install(event.fresh_key, at_unix_ms, turn, now_ms)",
        "return error\n        return error",
        "a removal changes the pool key",
    ),
    Plant(
        "key-unbacked",
        "rain.trust.ring",
        "if course is None or course.mark != mark_of_key(key):",
        "if False:",
        "a pool key is what an admin said it is",
    ),
    Plant(
        "known-is-acknowledged",
        "rain.sched.intake",
        "        news = self._ledger.merge(patches)\n        if all(",
        "        news = self._ledger.merge(patches)\n        if not news:\n"
        "            from rain.sched.messages import Accepted\n"
        "            return [Post(sender, Accepted(message.proposal, epoch, 3))]\n        if all(",
        "E8 a known job is acknowledged again only after this reign has counted its copies",
    ),
    Plant(
        "failures-forgotten",
        "rain.sched.cells",
        "    return tuple(sorted(kept, key=lambda entry: entry.attempt_id))",
        "    return tuple(sorted(kept, key=lambda entry: entry.attempt_id))[-1:]",
        "E17 the failed attempts of two sides are added up",
    ),
)


def plant_of(name: str) -> Plant | None:
    return next((plant for plant in PLANTS if plant.name == name), None)
