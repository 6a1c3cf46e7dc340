"""What an executor needs from a container engine. Everything here blocks: it is for threads."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

Inspected = dict[str, Any]
"""The engine's JSON about one container."""


class EngineGone(Exception):
    """No engine answers; the text says why and what to do."""


class NotStarted(Exception):
    """The attempt cannot run: the job's fault, or (`refused`) this node's."""

    def __init__(self, exit_code: int, reason: str, refused: bool = False) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.reason = reason
        self.refused = refused


class Watch(Protocol):
    """Reads the engine's events in a thread of its own."""

    def start(self) -> None: ...

    def close(self) -> None: ...


class Engine(Protocol):
    """The engine's calls, blocking, for threads: an answer, or EngineGone."""

    def ping(self) -> None: ...

    def pid(self) -> int:
        """Of the process that listens on the engine's socket; 0 where nobody knows."""

    def is_local(self) -> bool:
        """Whether it sees the folders of this machine."""

    def sockets(self) -> tuple[str, ...]:
        """Where it may be spoken with: whoever reaches one of them owns this PC."""

    def maps_users(self) -> bool:
        """Whether a user in a container is another one outside (rootless, userns-remap)."""

    def make_network(self, name: str, body: dict[str, Any]) -> str:
        """Why it cannot be made; empty when it is there."""

    def disk_bytes(self, name: str) -> int:
        """What a container has written so far; 0 where nobody knows."""

    def create(self, name: str, body: dict[str, Any]) -> bool:
        """False: the image is missing. A container that is there already will do."""

    def start(self, name: str) -> Inspected:
        """Its state afterwards, or NotStarted. One that ran already does not run again."""

    def inspect(self, name: str) -> Inspected | None:
        """None: there is no such container."""

    def list(self) -> list[Inspected]:
        """All containers of this node, in any state."""

    def kill(self, name: str, signal: str) -> None:
        """Not an error where it has ended or is gone."""

    def remove(self, name: str) -> None:
        """Running or not; not an error where it is gone."""

    def pull(self, image: str) -> str:
        """Why it failed; empty when the image is here now."""

    def logs(
        self, name: str, follow: bool, opened: Callable[[Callable[[], None]], None]
    ) -> Iterator[bytes]:
        """Frames as they come, none without a container; `opened` gets what cuts the stream."""

    def watch(
        self,
        on_back: Callable[[], None],
        on_gone: Callable[[str], None],
        on_event: Callable[[str, str], None],
    ) -> Watch:
        """Calls back in the watching thread: the engine is there, gone, or key and action."""

    def close(self) -> None: ...
