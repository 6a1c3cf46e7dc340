"""The control socket: one JSON line asks, JSON lines answer. For this PC's owner alone.

The socket is 0600, and whoever speaks on it must be the user of the agent, or root: permissions of
a file can be changed, what the kernel says about the other end cannot.

An answer is any number of `{"item": ...}` and then one `{"end": ...}` or `{"error": ...}`. When
the asker goes away, its verb is cancelled.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rain.log import Logger

REQUEST_BYTES_MAX = 16 * 1024 * 1024
ASKERS_MAX = 128
ENCODED_IN_ONE_GO_MAX = 1_000
"""Elements of a list: a task of a job takes some 4 us."""

_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
"""Of macOS, for which Python has no names."""

Json = dict[str, Any]


class VerbError(Exception):
    """What a person is told: what happened, the likely cause, what to type next."""

    def __init__(self, code: str, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.exit_code = exit_code

    def as_json(self) -> Json:
        error = {"code": self.code, "message": str(self), "hint": self.hint}
        return {"error": error, "exit_code": self.exit_code}


@dataclass(frozen=True)
class Item:
    """One piece of an answer that comes in pieces."""

    content: Json


@dataclass(frozen=True)
class End:
    """The last piece."""

    content: Json


Verb = Callable[[Json], AsyncIterator[Item | End]]


class ControlServer:
    """Listens on the control socket and runs one verb per connection."""

    def __init__(
        self, path: Path, verbs: dict[str, Verb], log: Logger, otherwise: Verb | None = None
    ) -> None:
        self._path = path
        self._verbs = verbs
        self._otherwise = otherwise
        self._log = log
        self._server: asyncio.Server | None = None
        self._askers: set[asyncio.Task[None]] = set()
        self.dropped: dict[str, int] = {}
        """Who was sent away, counted by why."""

    async def open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)  # the socket is 0600 from its first moment
        try:
            listening.bind(str(self._path))
        finally:
            os.umask(mask)  # at once: it is the whole process's
        self._server = await asyncio.start_unix_server(
            self._on_connection, sock=listening, limit=REQUEST_BYTES_MAX
        )

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for asker in list(self._askers):
            asker.cancel()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._askers.add(task)
        try:
            if len(self._askers) > ASKERS_MAX:
                raise VerbError("failed", "too many commands at once", "try again", 1)
            self._refuse_strangers(writer)
            await self._serve(reader, writer)
        except VerbError as error:
            await _write(writer, error.as_json())
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._askers.discard(task)
            writer.close()

    def _refuse_strangers(self, writer: asyncio.StreamWriter) -> None:
        """Another user of this PC may do nothing, not even ask for the state of things."""
        uid = peer_uid(writer.get_extra_info("socket").fileno())
        if uid is None or uid in (0, os.getuid()):
            return
        count = self.dropped["other_user"] = self.dropped.get("other_user", 0) + 1
        if count.bit_count() == 1:  # 1, 2, 4, 8, ...: who tries for ever does not fill the log
            self._log.warning("control_refused", uid=uid, count=count)
        raise VerbError(
            "denied",
            f"this agent belongs to another user of this PC (you are {uid})",
            "give commands as that user, or start an agent of your own: rain up",
            1,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        verb, args = _parse(await reader.readline())
        run = self._verbs.get(verb, self._otherwise)
        if run is None:
            hint = "the agent may be older than this command: rain down, then rain up"
            raise VerbError("usage", f"the agent knows no verb {verb!r}", hint, 2)
        gone = asyncio.ensure_future(reader.read(1))
        work = asyncio.ensure_future(self._answer(run(args), writer))
        try:
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (gone, work):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError, VerbError):
                    await task

    async def _answer(
        self, pieces: AsyncIterator[Item | End], writer: asyncio.StreamWriter
    ) -> None:
        try:
            async for piece in pieces:
                name = "item" if isinstance(piece, Item) else "end"
                await _write(writer, {name: piece.content})
        except (VerbError, ConnectionError):
            raise
        except Exception as error:  # a fault of ours in one verb must not take the agent along
            self._log.exception("verb_failed")
            hint = "this is a fault in Rain; the agent's log has the details"
            raise VerbError("failed", f"internal error: {error!r}", hint, 1) from error


def peer_uid(descriptor: int) -> int | None:
    """The user at the other end of a Unix socket; None where this system does not tell."""
    with socket.socket(fileno=os.dup(descriptor)) as peer:
        if hasattr(socket, "SO_PEERCRED"):
            told = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            uid: int = struct.unpack("3i", told)[1]
            return uid
        if sys.platform == "darwin":
            told = peer.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, struct.calcsize("2I"))
            return int(struct.unpack("2I", told)[1])
    return None


def _parse(line: bytes) -> tuple[str, Json]:
    try:
        request = json.loads(line)
        verb, args = request["verb"], request.get("args", {})
    except (ValueError, KeyError, TypeError) as error:
        raise VerbError("usage", "not a request", "use the rain command", 2) from error
    if not isinstance(verb, str) or not isinstance(args, dict):
        raise VerbError("usage", "not a request", "use the rain command", 2)
    return verb, args


async def encoded(content: object) -> str:
    """As json.dumps has it; in the middle of a long list whatever else waits has its turn."""
    if isinstance(content, dict):
        pairs = [f"{json.dumps(key)}: {await encoded(value)}" for key, value in content.items()]
        return "{" + ", ".join(pairs) + "}"
    if not isinstance(content, list) or len(content) <= ENCODED_IN_ONE_GO_MAX:
        return json.dumps(content)
    pieces: list[str] = []
    for first in range(0, len(content), ENCODED_IN_ONE_GO_MAX):
        pieces.append(json.dumps(content[first : first + ENCODED_IN_ONE_GO_MAX])[1:-1])
        await asyncio.sleep(0)
    return "[" + ", ".join(pieces) + "]"


async def _write(writer: asyncio.StreamWriter, line: Json) -> None:
    text = await encoded(line)
    with contextlib.suppress(ConnectionError):
        writer.write(text.encode() + b"\n")
        await writer.drain()
