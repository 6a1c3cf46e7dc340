"""What happened, one line each, with names instead of ids; the same bytes for the same seed."""

import re
from collections.abc import Callable

from rain.effects import Effect, Event, Received

LINE_CHARS_MAX = 600
_ID = re.compile(r"[a-z2-7]{26}")
_SHORTER = (
    (re.compile(r"Epoch\(number=(\d+), node_id='([^']*)', salt=(\d{1,4})\d*\)"), r"\1/\2/\3"),
    (
        re.compile(
            r"AttemptId\(job_id='([^']*)', task=(\d+), number=(\d+), "
            r"epoch=([^,]*), node_id='([^']*)'\)"
        ),
        r"\1.\2.\3 of \4 on \5",
    ),
    (re.compile(r"JobSpec\(command=(\([^)]*\)).*?node_name=''\)"), r"JobSpec\1"),
    (re.compile(r"<\w+\.(\w+): [^>]*>"), r"\1"),
)
"""Epochs as number/node/salt, attempts as job.task.number: a trace is to be read."""


class Trace:
    """Silent unless `say` is given: building lines costs more than the run itself."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.is_on = say is not None
        self._say = say
        self._names: dict[str, str] = {}

    def name(self, node_id: str, name: str) -> None:
        self._names[node_id] = name

    def line(self, at_us: int, who: str, text: str) -> None:
        if self._say is not None:
            told = self.named(text)[:LINE_CHARS_MAX]
            self._say(f"{at_us / 1_000_000:11.6f} {who:<4} {told}")

    def event(self, at_us: int, who: str, local_ms: int, event: Event) -> None:
        if self._say is None:
            return
        if isinstance(event, Received):
            way = "<~" if event.by_stream else "<-"
            text = f"{way} {event.sender} {event.message!r}"
        else:
            text = f"== {event!r}"
        self.line(at_us, who, f"[{local_ms}] {text}")

    def effect(self, at_us: int, who: str, effect: Effect) -> None:
        if self._say is not None:
            self.line(at_us, who, f"   {effect!r}")

    def named(self, text: str) -> str:
        """With names of hosts for their ids."""
        told = _ID.sub(self._named, text)
        for long, short in _SHORTER:
            told = long.sub(short, told)
        return told

    def _named(self, found: re.Match[str]) -> str:
        return self._names.get(found.group(), found.group())
