"""The agent's diary: one JSON object a line in a bounded, rotating file of the data folder.

On a terminal, warnings and errors are told there as well. Secrets do not get in: fields with a
telling name and everything that looks like a join token are replaced before they are written.
"""

import logging
import logging.handlers
import os
import sys
from collections.abc import MutableMapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import structlog

FILE_BYTES_MAX = 4 * 1024 * 1024
FILES_MAX = 4
VALUE_CHARS_MAX = 2_000
SECRET_FIELDS = ("token", "secret", "password", "private_key", "pool_key", "invite", "environment")
TOKEN_PREFIX = "rain1-"
OWNER_NOTE = "owner_note"
"""What a PC's owner should know: on a terminal its `note` alone is told."""

Fields = MutableMapping[str, Any]
Logger = structlog.stdlib.BoundLogger


class _BoundedFile(logging.handlers.RotatingFileHandler):
    """Private to its owner; a full disk loses lines, never the agent."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(descriptor, "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        pass


class _Terminal(logging.StreamHandler[Any]):
    """`event key=value ...` for people."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def open_log(data_dir: Path, is_terminal: bool = False) -> Logger:
    """The logger of one agent: `log.info("member_up", node_id=...)`. No global state is set."""
    sink = logging.Logger(f"rain:{data_dir}", level=logging.DEBUG)
    sink.propagate = False
    file = _BoundedFile(
        log_path(data_dir), maxBytes=FILE_BYTES_MAX, backupCount=FILES_MAX - 1, encoding="utf-8"
    )
    file.setFormatter(structlog.stdlib.ProcessorFormatter(structlog.processors.JSONRenderer()))
    sink.addHandler(file)
    if is_terminal:
        terminal = _Terminal(sys.stderr)
        terminal.setLevel(logging.WARNING)
        terminal.setFormatter(structlog.stdlib.ProcessorFormatter(_for_people))
        sink.addHandler(terminal)
    logger: Logger = structlog.wrap_logger(
        sink,
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            without_secrets,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=Logger,
    )
    return logger


_render = structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True)


def _for_people(logger: Any, method: str, fields: Fields) -> str:
    """A line on the terminal."""
    if fields.get("event") == OWNER_NOTE:
        return f"note: {fields.get('note')}"
    return _render(logger, method, fields)


def log_path(data_dir: Path) -> Path:
    return data_dir / "agent.log"


def without_secrets(_logger: Any, _method: str, fields: Fields) -> Fields:
    """A processor: what must not be written is replaced, what is too long is cut."""
    for name, value in fields.items():
        if name in SECRET_FIELDS:
            fields[name] = "[secret]"
        elif isinstance(value, str):
            if TOKEN_PREFIX in value:
                fields[name] = "[secret]"
            elif len(value) > VALUE_CHARS_MAX and name != "exception":
                fields[name] = value[:VALUE_CHARS_MAX] + "…"
        elif isinstance(value, bytes):
            fields[name] = f"[{len(value)} bytes]"
    return fields
