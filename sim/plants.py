"""The planted bugs: each takes one rule away, and the simulator must notice within 300 seeds."""

from .planting import Plant

ROLES = "rain.election.roles"
CORE = "rain.election.core"

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
        "not-raised",
        ROLES,
        "        if epoch <= reign.epoch:\n            return outputs\n",
        "        if epoch != reign.epoch:\n            return outputs\n",
        "the stronger of two reigns lifts its number above both",
    ),
    Plant(
        "no-refutation",
        "rain.gossip.beliefs",
        "if claim.boot_epoch == own.boot_epoch and claim.incarnation >= own.incarnation:",
        "if claim.boot_epoch == own.boot_epoch and claim.incarnation > own.incarnation:",
        "who is called dead and lives says so",
    ),
    Plant(
        "dead-not-retried",
        "rain.gossip.beliefs",
        "        for node_id in self._retries.due(now_ms):\n",
        "        for node_id in self._retries.due(now_ms)[:0]:\n",
        "the dead are rung again, so that partitions heal",
    ),
)


def plant_of(name: str) -> Plant | None:
    return next((plant for plant in PLANTS if plant.name == name), None)
