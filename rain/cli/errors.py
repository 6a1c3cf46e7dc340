"""How a command line ends: what happened · likely cause · what to type next, and an exit code."""

import json
import os
import re
import shlex
import sys

import click

from rain.client import ControlError
from rain.config import ConfigError

FAILED = 1
USAGE = 2
RAINS_OWN_FAILURE = 125
INTERRUPTED = 130
BROKEN_PIPE = 141


class VerbFailed(Exception):
    """A verb could not do what was asked; the exit code is its own."""

    def __init__(
        self, message: str, hint: str = "", exit_code: int = FAILED, code: str = "failed"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        self.code = code


_TYPED = re.compile(r"(?<![\w/.-])rain (?!--data-dir)(?=[a-z-])")
_ELSEWHERE = re.compile(r"\bon (?:an?|the|another|one|each|that|\S+'s)\b[^;(]*PC[^;(]*$", re.I)
"""Before a command that is for another PC: there the folder is another one."""


def as_typed(text: str, folder: str) -> str:
    """What to type next with the --data-dir that was given, so that it can be pasted as it is."""
    option = f"--data-dir {shlex.quote(folder)} "

    def named(found: re.Match[str]) -> str:
        is_elsewhere = _ELSEWHERE.search(text[: found.start()])
        return found[0] if is_elsewhere else found[0] + option

    return _TYPED.sub(named, text) if folder else text


def end_of(error: BaseException, as_json: bool, folder: str = "") -> int:
    """Tell a person, or a program, why the command line ended; returns its exit code.

    `folder` is the --data-dir that was given, if any."""
    if isinstance(error, ConfigError | ControlError | VerbFailed):
        error.hint = as_typed(error.hint, folder)
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else FAILED
        case click.exceptions.Exit():
            return error.exit_code
        case KeyboardInterrupt() | click.Abort():
            return _tell("interrupted", "stopped by Ctrl-C", "", INTERRUPTED, as_json)
        case BrokenPipeError():
            # Whoever read us has gone (`rain logs ID | head`); the interpreter's own last flush
            # must not complain about that a second time.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        case click.UsageError():
            path = error.ctx.command_path if error.ctx is not None else "rain"
            return _tell("usage", error.format_message(), f"{path} --help", USAGE, as_json)
        case click.ClickException():
            return _tell("failed", error.format_message(), "", error.exit_code, as_json)
        case ConfigError():
            return _tell("usage", error.message, error.hint, USAGE, as_json)
        case ControlError() | VerbFailed():
            return _tell(error.code, error.message, error.hint, error.exit_code, as_json)
        case _:
            raise error


def _tell(code: str, message: str, hint: str, exit_code: int, as_json: bool) -> int:
    if as_json:
        error = {"code": code, "message": message, "hint": hint}
        print(json.dumps({"error": error, "exit_code": exit_code}))
    else:
        print("rain: " + " · ".join(part for part in (message, hint) if part), file=sys.stderr)
    return exit_code


def note(text: str) -> None:
    """A word for people, beside the data on stdout."""
    print(text, file=sys.stderr, flush=True)
