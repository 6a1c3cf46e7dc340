"""The streams of one host: who may speak on them, by what each side shows the other.

Both ends of a connection prove their key and show their bundle, and each asks its own roll whether
the other may be here; only then does anything pass. The bodies carry no seal of their own. When
the roll changes its mind the connection is broken, and the next one is refused.
"""

from collections.abc import Callable

from rain.mesh.envelope import node_id_of
from rain.model import NodeId
from rain.trust.credential import Inspect

from .network import Frame, Network

Refuses = Callable[[bytes], str]
"""Bundle -> why its holder is not let in; '' when it is."""


class Streams:
    """Handshakes with peers, by index; what is refused is counted."""

    def __init__(self, index: int, network: Network, inspect: Inspect) -> None:
        self.refused: dict[str, int] = {}
        self._index = index
        self._network = network
        self._inspect = inspect
        self._open: dict[int, tuple[bytes, int, int]] = {}

    def forget(self) -> None:
        """The agent is another one: nothing is connected."""
        self._open.clear()

    def hang_up(self, peer: int) -> None:
        self._open.pop(peer, None)
        self._network.break_between(self._index, peer)

    def is_open(self, frame: Frame, source: int, connection: int) -> bool:
        """Was the handshake of the connection that this frame came by done before?"""
        return self._open.get(source) == (frame.public_key, frame.boot_epoch, connection)

    def shake_hands(self, frame: Frame, source: int, connection: int, refuses: Refuses) -> bool:
        """Look at what the other side shows; what is refused is hung up on."""
        refusal = refuses(frame.bundle) or self._refusal_of_key(frame)
        if refusal:
            self.refused[refusal] = self.refused.get(refusal, 0) + 1
            if connection >= 0:  # a stranger's own ends by itself
                self.hang_up(source)
            return False
        self._open[source] = (frame.public_key, frame.boot_epoch, connection)
        return True

    def _refusal_of_key(self, frame: Frame) -> str:
        """A bundle is no secret: whoever shows it must hold its key."""
        credential = self._inspect(frame.bundle)
        is_own = credential is not None and credential.public_key == frame.public_key
        return "" if is_own else "not_its_key"


def sender_of(frame: Frame) -> NodeId:
    return node_id_of(frame.public_key)
