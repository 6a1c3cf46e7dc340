"""The figures of gossip, all in one place. They suit a LAN of two to some hundred PCs."""

from rain.model import Value


class GossipConfig(Value, frozen=True):
    probe_interval_ms: int = 500
    ack_timeout_ms: int = 200
    nack_timeout_ms: int = 160
    """A helper says so before its asker gives up."""
    helpers_max: int = 3
    suspicion_ms_min: int = 1_500
    suspicion_ms_max: int = 6_000
    announce_alone_ms: int = 1_000
    announce_alone_first: int = 5
    """So often quickly; after that every `announce_alone_later_ms`."""
    announce_alone_later_ms: int = 5_000
    announce_interval_ms: int = 30_000
    announcers: int = 4
    """So many members announce per interval, however large the pool is."""
    introduce_for_ms: int = 10_000
    """So long after its start a node introduces itself to everybody that it hears of."""
    newcomer_tellers: int = 3
    """So many of those who hear a newcomer tell all others and send it their table."""
    sync_first_ms: int = 1_000
    """After a change of who is here: this, then twice that, up to the interval."""
    sync_interval_ms: int = 30_000
    sync_stretch_members: int = 32
    """A pool of up to so many syncs at the interval, each doubling adds one interval."""
    retry_first_ms: int = 2_000
    retry_interval_ms: int = 30_000
    forget_after_ms: int = 7 * 24 * 3_600_000
    tell_interval_ms: int = 200
    tell_members: int = 3
    tell_all_members_max: int = 64
    goodbye_members_max: int = 16
    goodbye_repeat_ms: int = 50
    handover_timeout_ms: int = 1_000
