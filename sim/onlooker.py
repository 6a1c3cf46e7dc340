"""Who looks on while a forecast is played: it notes what is started where, and judges nothing."""

from collections.abc import Callable
from typing import NamedTuple

from rain.effects import Answer, Log, Message, Persist, StartContainer
from rain.mesh.envelope import Opened
from rain.model import JobId, NodeId

from .host import Host


class Started(NamedTuple):
    """A container that was ordered."""

    at_us: int
    host: Host
    job_id: JobId
    task: int


class Onlooker:
    """Everything that was started, in order."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self.starts: list[Started] = []
        self._now_us = now_us

    def started(self, host: Host, order: StartContainer) -> None:
        attempt_id = order.attempt_id
        self.starts.append(Started(self._now_us(), host, attempt_id.job_id, attempt_id.task))

    def taken(self, host: Host, opened: Opened, packet: bytes) -> None: ...
    def received(self, host: Host, sender: NodeId, message: Message) -> None: ...
    def sent(self, host: Host, message: Message, copies: int) -> None: ...
    def posted(self, host: Host, to: NodeId, message: Message) -> None: ...
    def stopped(self, host: Host, key: str) -> None: ...
    def removed(self, host: Host, key: str) -> None: ...
    def wrote(self, host: Host, write: Persist) -> None: ...
    def logged(self, log: Log) -> None: ...
    def answered(self, host: Host, answer: Answer) -> None: ...
    def ended(self, host: Host) -> None: ...
    def settled(self, host: Host) -> None: ...
