"""Which packets are new: windows per sender, and the proof that a sender is alive now.

A signature says who wrote a packet, not when. Within one boot of the receiver a window over the
sequence numbers of each boot of each sender takes every number once. But a receiver that has just
started remembers no window, and whatever was recorded before could be played to it again. So it
takes nothing of a boot of a sender until that boot has proven the number that it is at: it is sent
a nonce, and the packet that brings the nonce back was written after this node asked. All numbers
up to that packet's own count as taken, all above are new.

Invariants.
F1  Nothing is taken from a boot of a sender that has not answered a nonce which this object drew;
    a nonce serves once, for one sender.
F2  Each number of a proven boot is taken once, none at or below that of its proof, none of an
    older boot ever. That holds over everything that is forgotten: who is forgotten proves again.
F3  Of an unproven boot each number is looked at once, so a recording costs one signature check
    for each packet in it, however often it is played.
F4  The first CHALLENGES_AT_ONCE bodies of an unproven boot lead to a challenge, later every
    CHALLENGE_EVERYth: a lost challenge or proof heals with the packets that follow, and a
    recording draws few answers.
F5  SENDERS_MAX proven and as many unproven senders are remembered; the unproven are kept apart
    and never displace the proven.

What this file does not do: it verifies no signature. Whoever calls `take`, `prove` or
`Doubles.prove` has done that; whoever calls `refusal` need not have, and nothing moves by it.
"""

from collections.abc import Callable

WINDOW = 1_024
"""How far behind the newest sequence a packet may come."""
SENDERS_MAX = 1_024
"""Senders remembered; the one unheard for longest gives way."""
CHALLENGES_AT_ONCE = 4
CHALLENGE_EVERY = 8
NONCE_BYTES = 8

_MASK = (1 << WINDOW) - 1

Nonce = Callable[[], bytes]
"""NONCE_BYTES that nobody can foretell."""


class _Life:
    """What was heard of one boot of one sender; bit n of `taken` stands for `newest - n`."""

    __slots__ = ("boot_epoch", "newest", "older", "taken")

    def __init__(self, boot_epoch: int, newest: int = 0, taken: int = 0) -> None:
        self.boot_epoch = boot_epoch
        self.newest = newest
        self.taken = taken
        self.older = 0
        """Packets of older boots since."""

    def is_fresh(self, sequence: int) -> bool:
        behind = self.newest - sequence
        return behind < 0 or (behind < WINDOW and not self.taken >> behind & 1)

    def take(self, sequence: int) -> None:
        assert self.is_fresh(sequence), "F2: a sequence is taken once"
        ahead = sequence - self.newest
        if ahead > 0:
            self.taken = (self.taken << ahead & _MASK if ahead < WINDOW else 0) | 1
            self.newest = sequence
        else:
            self.taken |= 1 << -ahead


class _Unproven(_Life):
    """A boot that has not answered yet: its window keeps recordings from being looked at twice."""

    __slots__ = ("heard", "nonce")

    def __init__(self, boot_epoch: int, nonce: bytes) -> None:
        super().__init__(boot_epoch)
        self.nonce = nonce
        self.heard = 0


class Freshness:
    """What this node, since its start, knows about the numbers of the others."""

    def __init__(self, nonce: Nonce) -> None:
        self._nonce = nonce
        # In the order of last hearing.
        self._proven: dict[bytes, _Life] = {}
        self._unproven: dict[bytes, _Unproven] = {}

    def refusal(self, public_key: bytes, boot_epoch: int, sequence: int) -> str:
        """Why this packet is not worth the check of its signature; empty: it is."""
        life = self._proven.get(public_key)
        if life is None or boot_epoch > life.boot_epoch:
            life = self._unproven.get(public_key)
            if life is None or boot_epoch > life.boot_epoch:
                return ""
        if boot_epoch < life.boot_epoch:
            return "old_boot"
        return "" if life.is_fresh(sequence) else "replayed"

    def take(self, public_key: bytes, boot_epoch: int, sequence: int) -> bool:
        """Note a verified packet that nothing speaks against. True: its sender is proven."""
        life = self._proven.pop(public_key, None)
        if life is not None:
            self._proven[public_key] = life  # at the end
            if life.boot_epoch == boot_epoch:
                life.take(sequence)
                return True
        unproven = self._unproven.pop(public_key, None)
        if unproven is None or boot_epoch > unproven.boot_epoch:
            unproven = _Unproven(boot_epoch, self._nonce())
        unproven.take(sequence)
        self._unproven[public_key] = unproven
        if len(self._unproven) > SENDERS_MAX:
            del self._unproven[next(iter(self._unproven))]
        return False

    def prove(self, public_key: bytes, boot_epoch: int, sequence: int, nonce: bytes) -> bool:
        """A verified packet brings a nonce: is it the one that this sender was asked with?"""
        unproven = self._unproven.get(public_key)
        if unproven is None or nonce != unproven.nonce or boot_epoch < unproven.boot_epoch:
            return False
        del self._unproven[public_key]
        self._proven.pop(public_key, None)
        self._proven[public_key] = _Life(boot_epoch, sequence, _MASK)
        if len(self._proven) > SENDERS_MAX:
            del self._proven[next(iter(self._proven))]
        return True

    def challenge(self, public_key: bytes) -> bytes:
        """The nonce to ask an unproven sender with; empty: it was asked often enough just now."""
        unproven = self._unproven[public_key]
        unproven.heard += 1
        if unproven.heard <= CHALLENGES_AT_ONCE or unproven.heard % CHALLENGE_EVERY == 0:
            return unproven.nonce
        return b""

    def open_nonce(self, public_key: bytes) -> bytes:
        """What that sender has still to answer; empty: nothing."""
        unproven = self._unproven.get(public_key)
        return b"" if unproven is None else unproven.nonce

    def newer_to_tell(self, public_key: bytes, boot_epoch: int) -> int | None:
        """The boot that made this one old, when it is time to tell (again)."""
        life = self._proven.get(public_key)
        if life is None or boot_epoch >= life.boot_epoch:
            life = self._unproven[public_key]
        life.older += 1
        return life.boot_epoch if life.older % CHALLENGE_EVERY == 1 else None

    def check(self) -> None:
        for lives in (self._proven, self._unproven):
            assert len(lives) <= SENDERS_MAX, "F5: too many senders"
            for life in lives.values():
                assert life.taken.bit_length() <= WINDOW, "F5: a window outgrew its width"
        for key, unproven in self._unproven.items():
            proven = self._proven.get(key)
            assert proven is None or proven.boot_epoch < unproven.boot_epoch, "F2: it is old"


class Doubles:
    """Whether somebody else lives with this node's own key: the same question, asked of oneself.

    There is one nonce for the whole life of this object, so its own question is known when it
    comes back (`is_own`), also from a double that has the very same boot epoch.
    """

    def __init__(self, nonce: Nonce) -> None:
        self._own_nonce = nonce()
        self._heard = 0
        self.epoch: int | None = None
        """The highest boot epoch of a double that answered; None: none did."""

    def challenge(self) -> bytes:
        """Something signed with the own key came, not from here: the nonce to ask with, or b''."""
        self._heard += 1
        if self._heard <= CHALLENGES_AT_ONCE or self._heard % CHALLENGE_EVERY == 0:
            return self._own_nonce
        return b""

    def is_own(self, nonce: bytes) -> bool:
        return nonce == self._own_nonce

    def prove(self, boot_epoch: int, nonce: bytes) -> bool:
        """This node never answers its own nonce: who does is another."""
        if not self.is_own(nonce):
            return False
        self.epoch = boot_epoch if self.epoch is None else max(self.epoch, boot_epoch)
        return True
