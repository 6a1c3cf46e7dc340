"""A control server that speaks the wire and knows nothing: each verb answers what a test says."""

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rain.config import control_path

Json = dict[str, Any]
Answers = Callable[[Json], Iterable[Json]]


class FakeAgent:
    """Listens on the data folder's control socket in a thread until `close`."""

    def __init__(self, data_dir: Path) -> None:
        self.requests: list[tuple[str, Json]] = []
        self._answers: dict[str, Answers] = {}
        self._path = control_path(data_dir)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(self._path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def on(self, verb: str, *lines: Json) -> None:
        """Answer these lines to that verb."""
        self._answers[verb] = lambda _args: lines

    def on_call(self, verb: str, answers: Answers) -> None:
        """Answer that verb with what this makes of its arguments."""
        self._answers[verb] = answers

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.requests]

    def args(self, verb: str) -> Json:
        """The arguments of the last request for that verb."""
        return next(args for name, args in reversed(self.requests) if name == verb)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rwb") as file:
            line = file.readline()
            if not line:
                return
            request = json.loads(line)
            verb, args = request["verb"], request["args"]
            self.requests.append((verb, args))
            for answer in self._answers[verb](args):
                file.write(json.dumps(answer).encode() + b"\n")
                file.flush()


def end(**content: Any) -> Json:
    return {"end": content}


def output(content: bytes, fd: int = 1, task: int = 0) -> Json:
    data = base64.b64encode(content).decode()
    return {"item": {"fd": fd, "data": data, "task": task}}


def refusal(code: str, exit_code: int, message: str = "no", hint: str = "do that") -> Json:
    return {"error": {"code": code, "message": message, "hint": hint}, "exit_code": exit_code}


def job(job_id: str = "abc", **changed: Any) -> Json:
    """The answer to `job`, as docs/interface.md has it."""
    return {
        "id": job_id,
        "name": "",
        "state": "SUCCEEDED",
        "exit_code": 0,
        "submitted_by": "pc1",
        "tasks_total": 1,
        "tasks": {"SUCCEEDED": 1},
        "created_at": "2026-11-23T12:00:00Z",
        "finished_at": "2026-11-23T12:00:02Z",
        **changed,
    }
