"""Every duration of the trust core, in one place."""

from rain.model import Value


class TrustConfig(Value, frozen=True):
    pool_id: bytes = b""
    """Part of what is signed."""
    digest_interval_ms: int = 10_000
    """So often one member, drawn anew, is told the digest."""
    settle_ms: int = 300
    """So long a difference is left alone: most are news that is on its way."""
    ask_interval_ms: int = 1_000
    """At most one RollHave of one's own accord in this time."""
    seek_pause_max_ms: int = 30_000
    """Between two rounds of asking for a key that nobody has."""
    answer_interval_ms: int = 200
    """To each member, at most one answer to a RollHave in this time."""
    distrust_ms: int = 1_000
    """From who has told what cannot be proven nothing is taken for so long, twice as long each
    time."""
    distrust_max_ms: int = 60_000
    told_ms: int = 2_000
    """So long a person waits until the members that are up have what was claimed."""
    install_ms: int = 2_000
    use_ms: int = 5_000
    takeover_ms: int = 6_000
    """A rotation that has not moved for so long is continued by the first admin by id."""
    clash_ms: int = 1_000
    """So long after two admins chose one number, the first admin by id chooses a new one."""
