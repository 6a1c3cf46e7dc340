"""Planted bugs of gossip and election: one for each rule that docs/rules.md tells of."""

from .planting import Plant

BELIEFS = "rain.gossip.beliefs"
CORE = "rain.election.core"
FITNESS = "rain.election.fitness"
PROBER = "rain.gossip.prober"
ROLES = "rain.election.roles"
SILENCE = "rain.election.silence"

ELECTION_PLANTS: tuple[Plant, ...] = (
    Plant(
        "first-by-rank-alone-stands",
        ROLES,
        "self._view.position_without(silent) * self._config.rank_step_ms",
        "self._view.position_without(silent) * 3_600_000",
        "E1 rank only staggers who stands first",
    ),
    Plant(
        "deaf-reign",
        SILENCE,
        "        elif self._unlisted_since_ms is None:\n"
        "            self._unlisted_since_ms = now_ms\n",
        "",
        "E2 a coordinator that does not hear this node is none",
    ),
    Plant(
        "weaker-reign-followed",
        CORE,
        "elif hearing is not None and self._refuses(hearing, sender, heartbeat, now_ms):",
        "elif False:",
        "E3 who hears a healthy coordinator refuses a weaker reign",
    ),
    Plant(
        "life-signs-echo",
        CORE,
        "hearing.epoch == ask.epoch and hearing.is_fresh(now_ms):\n"
        "            age_ms = now_ms - hearing.heard_ms\n",
        "hearing.epoch == ask.epoch and self._followed is not None:\n            age_ms = 0\n",
        "E4 nobody vouches for what he did not hear himself, nor later than he heard it",
    ),
    Plant(
        "full-disk-stands",
        ROLES,
        "if self._is_stopping or self._disk_failed_ms is not None:\n            return None",
        "if self._is_stopping:\n            return None",
        "E12 who cannot write does not stand",
    ),
    Plant(
        "old-disk-unnoticed",
        BELIEFS,
        "            self.emit(reminded)\n",
        "            pass\n",
        "E14 peers tell a node of the lives that its disk forgot",
    ),
    Plant(
        "old-disk-stands",
        ROLES,
        "            start_ms += self._config.behind_ms\n",
        "            pass\n",
        "E14 who has an old disk leaves it to others to stand",
    ),
    Plant(
        "old-disk-for-ever",
        ROLES,
        "            return []\n        return self._know_best()\n",
        "            return []\n        return []\n",
        "E14 a table that is whole again makes a disk like any other",
    ),
    Plant(
        "own-evidence-ignored",
        PROBER,
        "        if probe.urgent:\n"
        "            self._beliefs.emit(MemberUnreachable(probe.target))\n",
        "",
        "E19 a coordinator's own evidence suffices",
    ),
    Plant(
        "nobody-hands-over",
        "rain.election.franchise",
        "        successors = reign.successors(self._view, self._digest, now_ms)\n",
        "        successors = ()\n",
        "who goes hands over",
    ),
    Plant(
        "sleeps-without-a-word",
        FITNESS,
        "        if reign is not None and reign.successors(self._view, self._digest, now_ms):\n",
        "        if reign is None:\n",
        "a coordinator hands over before its PC sleeps",
    ),
    Plant(
        "lame-reign-stays",
        FITNESS,
        "        if self._lateness.is_lame(now_ms):\n",
        "        if False:\n",
        "a coordinator that lags for long passes its reign on",
    ),
    # --- gossip --------------------------------------------------------------------------------
    Plant(
        "dead-not-rung",
        BELIEFS,
        "                self.emit(Send(node_id, Ping(RING_SEQUENCE",
        "                (Send(node_id, Ping(RING_SEQUENCE",
        "the dead are rung, so that partitions heal",
    ),
    Plant(
        "goodbye-is-death",
        BELIEFS,
        "replace(self.own.record, state=MemberState.LEFT)",
        "replace(self.own.record, state=MemberState.DEAD)",
        "who leaves did not die",
    ),
)
