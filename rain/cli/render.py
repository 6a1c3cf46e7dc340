"""Tables and words for people. rich is imported only when a table is drawn."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

PIPE_WIDTH = 10_000
"""No line of a table is folded when it goes into a pipe."""
_UNITS = ("KiB", "MiB", "GiB", "TiB")
_STYLES = {
    "SUCCEEDED": "green", "alive": "green", "RUNNING": "cyan", "STARTING": "cyan",
    "FAILED": "red", "TIMEOUT": "red", "OUT_OF_MEMORY": "red", "ABORTED": "red", "dead": "red",
    "CANCELLED": "yellow", "suspect": "yellow", "LOST": "yellow", "SUPERSEDED": "yellow",
}  # fmt: skip


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], color: bool = True) -> None:
    """A plain table: one header, no frames, state words in colour where the terminal has any."""
    from rich.console import Console  # slow: only a table pays for it
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    console = Console(
        no_color=not color or bool(os.environ.get("NO_COLOR")),
        width=None if is_terminal else PIPE_WIDTH,
        highlight=False,
    )
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        words = ["-" if cell is None or cell == "" else str(cell) for cell in row]
        drawn.add_row(*(Text(word, _STYLES.get(word, "")) for word in words))
    if is_terminal:
        console.print(drawn)
        return
    with console.capture() as capture:
        console.print(drawn)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def size(count: int) -> str:
    """`7.8 GiB`."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / 1024**power:.1f} {_UNITS[power - 1]}"


def cpus(count: float) -> str:
    return f"{count:g}"


def when(text: str | None) -> str:
    """An instant of the wire (RFC 3339, UTC) in this PC's own time."""
    if not text:
        return ""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def counts(tasks: dict[str, int]) -> str:
    """`12 SUCCEEDED, 3 RUNNING`, in the order of a task's life."""
    order = (
        "PENDING HELD STARTING RUNNING PAUSED STAGING_OUT "
        "SUCCEEDED FAILED TIMEOUT OUT_OF_MEMORY CANCELLED ABORTED"
    )
    states = order.split()
    known = [state for state in states if state in tasks]
    other = sorted(set(tasks) - set(states))
    return ", ".join(f"{tasks[state]} {state}" for state in [*known, *other] if tasks[state])
