"""The planted bugs: each takes one rule away, and the simulator must notice within 300 seeds."""

from .planting import Plant

ROLES = "rain.election.roles"
CORE = "rain.election.core"
BELIEFS = "rain.gossip.beliefs"
WORKER = "rain.sched.worker"
REPLICATION = "rain.sched.replication"
SCHEDULER = "rain.sched.scheduler"

PLANTS: tuple[Plant, ...] = (
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
        "if is_first_hand or reign.is_rival_proven(rival, now_ms):",
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
)


def plant_of(name: str) -> Plant | None:
    return next((plant for plant in PLANTS if plant.name == name), None)
