"""Every duration and bound of the election, in one place."""

from rain.model import Value


class ElectionConfig(Value, frozen=True):
    """The defaults suit a LAN: round trips of a few ms, event loops late by up to 160 ms."""

    heartbeat_interval_ms: int = 100
    dead_interval_beats: int = 10
    """A dead member is sent every tenth heartbeat, so that a healed partition meets quickly."""
    ask_after_ms: int = 350
    """Without a heartbeat for so long: ask the coordinator and three helpers. More than `fresh_ms`:
    when the coordinator is dead, nobody has anything to vouch for."""
    silence_ms: int = 500
    fresh_ms: int = 300
    """A heartbeat younger than this is worth an objection or a vouch. Less than the silence: all
    followers fall silent within one interval of each other and must not object to the first."""
    reset_silence_ms: int = 200
    """After the coordinator's streams broke: so long without a sign of life younger than that."""
    reset_grace_ms: int = 50
    """So long a reset alone takes nothing from what was heard just before it."""
    reset_ask_ms: int = 60
    unlisted_ms: int = 1_000
    unreadable_ms: int = 3_000
    """So long a heartbeat under another view is believed to list this node."""
    start_quiet_ms: int = 1_000
    lag_gap_ms: int = 1_000
    """A gap in one's own clock that costs the right to stand, and makes a coordinator doubt."""
    lag_doubt_ms: int = 250
    load_window_ms: int = 1_000
    lame_ms: int = 10_000
    """A coordinator that lags by more than `lag_doubt_ms` in every second for so long hands over,
    to a follower that for as long did not lag at all."""
    lame_reign_ms: int = 30_000
    """No sooner after its reign began, so that the reign does not go round among lame nodes."""
    doze_ms: int = 10_000
    """Who said that its PC is about to sleep does not stand for so long, or until it woke."""
    behind_ms: int = 10_000
    """So long a node with an old disk leaves it to all others to stand."""
    doubt_ms: int = 300
    """So long such a coordinator waits for anybody to confirm or to deny its reign."""
    rank_step_ms: int = 50
    campaign_ms: int = 500
    campaign_pair_ms: int = 300
    campaign_handover_ms: int = 80
    """With the write of the epoch after it: nobody coordinates for less than 100 ms."""
    challenge_interval_ms: int = 150
    challenge_handover_ms: int = 20
    """Who is challenged for a handover waits for nothing: its answer takes a few ms, or was lost,
    or it had not heard the resignation yet and objected."""
    grant_hold_ms: int = 400
    defeat_hold_ms: int = 300
    objected_hold_ms: int = 1_000
    """For a node that follows nobody: whom the objection spoke of will be heard by then."""
    persist_ms_max: int = 300
    slow_disk_hold_ms: int = 2_000
    heard_ms: int = 1_000
    vanish_ms: int = 1_500
    meeting_ms: int = 600
    """Third parties must name a stronger reign for so long before it is believed unheard."""
    age_tolerance_ms: int = 1_000
    tell_interval_ms: int = 200
    raise_interval_ms: int = 500
    contest_window_ms: int = 10_000
    view_stable_ms: int = 1_000
    view_unstable_ms_max: int = 10_000
    brake_ms: int = 15_000
    view_lost_ms: int = 18_000
    """So long the view remembers a world most of which is gone; longer than the brake, which is
    put on up to two seconds after the loss."""
    resign_again_ms: int = 25
    """A resignation is said again after so long, then after twice as long each time: one lost
    packet costs little, and a link that is gone for a while is outlasted."""
    resign_ms: int = 500
    handover_after_ms: int = 120_000
    disk_patience_ms: int = 1_000
    """A coordinator that cannot write for so long hands over."""
