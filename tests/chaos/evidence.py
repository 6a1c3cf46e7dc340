"""A history, sorted by what the checker asks of it. Nothing is judged here."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

ENDS = ("SUCCEEDED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED", "ABORTED")


class Expected(NamedTuple):
    """A submit as it was typed, and what came back."""

    number: int
    name: str
    kind: str
    nonce: str
    tasks: int
    failures: dict[int, int]
    """Exit code by index, of the tasks that must fail."""
    retries: int
    is_cancelled: bool
    """A cancel of it was acknowledged."""
    job: str
    """The id, where the submit was acknowledged; else empty."""


class Span(NamedTuple):
    """From when to when a fault lasted, and on whom."""

    kind: str
    pcs: tuple[str, ...]
    """Whom it touched; all of them for what touches the network or the engine as a whole."""
    from_s: float
    to_s: float


class Evidence:
    """What the lines of one history say."""

    def __init__(self, lines: Sequence[Json]) -> None:
        self.lines = list(lines)
        began = self.first("began")
        self.pcs: list[str] = list(began.get("pcs", []))
        self.expected = {each.name: each for each in self._submits()}
        self.spans = list(self._spans())
        self.healed_s = float(self.first("healed").get("at", 0.0))

    def all(self, what: str) -> list[Json]:
        return [line for line in self.lines if line["what"] == what]

    def first(self, what: str) -> Json:
        """The first line of that kind; empty where there is none."""
        return next((line for line in self.lines if line["what"] == what), {})

    def finals(self, number: int) -> dict[str, Json]:
        """By PC, what it said in that round after the heal."""
        return {line["pc"]: line for line in self.all("final") if line["round"] == number}

    def told_jobs(self) -> dict[str, Json]:
        """By id, each job with its tasks as told at the end."""
        return {line["job"]: line["told"] for line in self.all("tasks")}

    def expected_of(self, job: Json) -> Expected | None:
        return self.expected.get(str(job["name"]))

    def _submits(self) -> Iterator[Expected]:
        answers = {line["number"]: line for line in self.all("submitted")}
        cancelled = {line["number"] for line in self.all("cancelled") if line["code"] == 0}
        for line in self.all("submit"):
            number = line["number"]
            answer = answers.get(number, {})
            yield Expected(
                number=number,
                name=line["name"],
                kind=line["kind"],
                nonce=line["nonce"],
                tasks=line["tasks"],
                failures={int(index): code for index, code in line["failures"].items()},
                retries=line["retries"],
                is_cancelled=number in cancelled,
                job=answer.get("job", "") if answer.get("code") == 0 else "",
            )

    def _spans(self) -> Iterator[Span]:
        ends = {line["number"]: line["at"] for line in self.all("mended")}
        for line in self.all("blow"):
            to_s = ends.get(line["number"], float("inf"))
            yield Span(line["kind"], tuple(line["on"]) or tuple(self.pcs), line["at"], to_s)
