"""Speaks to the agent of this PC over its control socket. Synchronous; standard library only.

A request is one line of JSON, `{"verb", "args"}`. The answer is any number of `{"item": {...}}`
lines and then one `{"end": {...}}` or `{"error": {"code", "message", "hint"}, "exit_code"}`.
"""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from rain.config import ENDED_FILE, control_path

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 30.0
"""Above the 10 s that an agent waits through a failover; only a stuck agent takes longer."""
PATIENCE_S = 2.5
"""After so much silence a person is told what is waited for."""
STOPPED_TIMEOUT_S = 10.0
"""An agent that somebody has stopped, and that stays so, will not answer."""
LINE_BYTES_MAX = 256 * 1024 * 1024
READ_BYTES = 64 * 1024
ENDED_BYTES_MAX = 64 * 1024

Json = dict[str, Any]


class ControlError(Exception):
    """The agent, or the way to it, said no. Subclasses name the reasons that scripts tell apart."""

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Failed(ControlError):
    pass


class Usage(ControlError):
    code = "usage"
    exit_code = 2


class Ambiguous(ControlError):
    code = "ambiguous"
    exit_code = 2


class NoAgent(ControlError):
    code = "no_agent"
    exit_code = 3


class AgentGone(NoAgent):
    """It was there and ended before it had answered."""


class NotInPool(ControlError):
    code = "not_in_pool"
    exit_code = 4


class NotFound(ControlError):
    code = "not_found"
    exit_code = 5


class CannotPlace(ControlError):
    code = "cannot_place"
    exit_code = 6


ERRORS: dict[str, type[ControlError]] = {
    error.code: error
    for error in (Failed, Usage, Ambiguous, NoAgent, NotInPool, NotFound, CannotPlace)
}


class Client:
    """One connection a request; an instance may be kept and used again and again."""

    def __init__(self, data_dir: Path, say: Callable[[str], None] = lambda text: None) -> None:
        """`say` hears what is waited for where that takes long."""
        self.data_dir = data_dir
        self._say = say

    def is_agent_there(self) -> bool:
        """Whether somebody listens on the control socket."""
        try:
            self._connect().close()
        except ControlError:
            return False
        return True

    def call(self, verb: str, timeout_s: float | None = ANSWER_TIMEOUT_S, **args: Any) -> Json:
        """Ask, drop the items if there are any, return the end."""
        stream = self.stream(verb, timeout_s, **args)
        while True:
            try:
                next(stream)
            except StopIteration as stop:
                end: Json = stop.value
                return end

    def stream(
        self, verb: str, timeout_s: float | None = None, **args: Any
    ) -> Generator[Json, None, Json]:
        """Yield each item as it comes; the generator's return value is the end."""
        with self._connect() as connection:
            silence = _Silence(connection, verb, timeout_s, self.data_dir, self._say)
            try:
                with contextlib.suppress(BrokenPipeError):  # refused unread: why, it has said
                    connection.sendall(json.dumps({"verb": verb, "args": args}).encode() + b"\n")
                for line in _lines(silence.receive):
                    answer = _parse(line)
                    if "item" in answer:
                        yield answer["item"]
                    elif "end" in answer:
                        end: Json = answer["end"]
                        return end
                    else:
                        raise _error_of(answer)
            except TimeoutError as error:
                raise silence.failure() from error
            except OSError as error:
                raise _gone(self.data_dir) from error
        raise _gone(self.data_dir)

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_TIMEOUT_S)
        try:
            connection.connect(str(control_path(self.data_dir)))
        except PermissionError as error:
            connection.close()
            raise Failed(
                f"the agent on {self.data_dir} belongs to another user",
                "run the command as that user, or use a --data-dir of your own",
            ) from error
        except TimeoutError as error:
            connection.close()
            raise Failed(
                f"the agent on {self.data_dir} is stuck", "stop it and start it again: rain up"
            ) from error
        except OSError as error:
            connection.close()
            message = f"no agent runs here (data folder {self.data_dir})"
            ended, hint = _last_words(self.data_dir)
            raise NoAgent(message + ended, hint or "start it: rain up") from error
        return connection


def _last_words(data_dir: Path) -> tuple[str, str]:
    """Why the agent that was here ended by itself, and what to do; empty where nothing is known."""
    try:
        with (data_dir / ENDED_FILE).open("rb") as file:
            told = json.loads(file.read(ENDED_BYTES_MAX))
        message, hint = told["message"], told["hint"]
    except (OSError, ValueError, LookupError, TypeError):
        return "", ""
    if not (isinstance(message, str) and isinstance(hint, str) and message):
        return "", ""
    return f"; it ended: {message}", hint


def _gone(data_dir: Path) -> AgentGone:
    return AgentGone(
        f"the agent stopped before it had answered (data folder {data_dir})",
        "start it again: rain up",
    )


class _Silence:
    """Receives with patience: says what is waited for, once, and ends where there is no hope."""

    def __init__(
        self,
        connection: socket.socket,
        verb: str,
        timeout_s: float | None,
        data_dir: Path,
        say: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._verb = verb
        self._timeout_s = timeout_s
        """None: it may say nothing for ever, unless it was stopped."""
        self._data_dir = data_dir
        self._say = say
        self._pid = _pid_behind(connection)
        self._is_told = False
        self._silent_s = 0.0
        connection.settimeout(PATIENCE_S if timeout_s is None else min(PATIENCE_S, timeout_s))

    def receive(self) -> bytes:
        """What comes next; TimeoutError where nothing will."""
        began_s = time.monotonic()
        while True:
            try:
                return self._connection.recv(READ_BYTES)
            except TimeoutError:
                self._silent_s = time.monotonic() - began_s
                is_stopped = self._is_stopped()
                limit_s = self._timeout_s
                if is_stopped:
                    limit_s = min(limit_s or STOPPED_TIMEOUT_S, STOPPED_TIMEOUT_S)
                if limit_s is None:
                    continue
                if self._silent_s >= limit_s:
                    raise
                self._tell(is_stopped, limit_s)

    def _tell(self, is_stopped: bool, limit_s: float) -> None:
        if self._is_told:
            return
        self._is_told = True
        what = "is stopped" if is_stopped else "has not answered yet"
        self._say(f"rain: the agent{self._named()} {what}; waiting up to {limit_s:.0f} s for it")

    def failure(self) -> Failed:
        """Why no answer came, and what to do."""
        message = f"the agent{self._named()} did not answer `{self._verb}` within "
        message += f"{self._silent_s:.0f} s"
        if self._is_stopped():
            return Failed(f"{message}: it is stopped", f"let it go on: kill -CONT {self._pid}")
        return Failed(message, f"look at its log in {self._data_dir}")

    def _named(self) -> str:
        return f" (pid {self._pid})" if self._pid else ""

    def _is_stopped(self) -> bool:
        """By a signal or a debugger, as far as this system tells."""
        try:
            stat = Path(f"/proc/{self._pid}/stat").read_text()
        except (OSError, UnicodeDecodeError):
            return False
        return stat.rpartition(")")[2].split()[:1] in (["T"], ["t"])


def _pid_behind(connection: socket.socket) -> int:
    """Of the agent; 0 where this system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    length = struct.calcsize("3i")
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, length)
    pid: int = struct.unpack("3i", told)[0]
    return pid


def _lines(receive: Callable[[], bytes]) -> Generator[bytes, None, None]:
    buffered = bytearray()
    while chunk := receive():
        searched = len(buffered)
        buffered += chunk
        while (newline := buffered.find(b"\n", searched)) >= 0:
            yield bytes(buffered[:newline])
            del buffered[: newline + 1]
            searched = 0
        if len(buffered) > LINE_BYTES_MAX:
            raise Failed("the agent's answer is too long", "ask for less, e.g. for one job")


def _parse(line: bytes) -> Json:
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Failed("the agent's answer is not of this Rain", "restart it: rain down, rain up")
    return answer


def _error_of(answer: Json) -> ControlError:
    told = answer.get("error")
    if not isinstance(told, dict):
        return Failed("the agent's answer is not of this Rain", "restart it: rain down, rain up")
    kind = ERRORS.get(str(told.get("code")), Failed)
    error = kind(str(told.get("message", "")), str(told.get("hint", "")))
    exit_code = answer.get("exit_code")
    if isinstance(exit_code, int):
        error.exit_code = exit_code
    return error
