"""A person at a terminal: sees what a program shows there, and types.

The program gets a pseudo terminal as its controlling one; all it writes is kept, so that a test
can wait for words and see what was shown after a key was pressed.
"""

import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

READ_BYTES = 4_096
POLL_S = 0.01
DEADLINE_S = 30.0
END_WAIT_S = 30.0


class Typist:
    """One program at a terminal of its own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        try:
            self.program = subprocess.Popen(
                list(command),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env={**environment, "TERM": "dumb", "COLUMNS": "200"},
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self._seen = bytearray()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()

    def _look(self) -> None:
        while True:
            try:
                read = os.read(self._ours, READ_BYTES)
            except OSError:  # the last of the programs at this terminal has ended
                return
            if not read:
                return
            self._seen += read

    @property
    def seen(self) -> str:
        """All that was shown so far."""
        return bytes(self._seen).decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, words: str, deadline_s: float = DEADLINE_S, after: int = 0) -> str:
        """Until these words are shown, from that place on; all that was shown."""
        ends = time.monotonic() + deadline_s
        while words not in self.seen[after:]:
            ended = self.program.poll()
            if ended is not None and not self._looking.is_alive() and words not in self.seen:
                raise AssertionError(f"ended with {ended} before {words!r}:\n{self.seen}")
            if time.monotonic() > ends:
                raise AssertionError(f"{words!r} is not shown within {deadline_s} s:\n{self.seen}")
            time.sleep(POLL_S)
        return self.seen

    def type(self, line: str) -> float:
        """A line and the return key; the instant of that last key (monotonic)."""
        os.write(self._ours, line.encode() + b"\n")
        return time.monotonic()

    def ended(self, deadline_s: float = END_WAIT_S) -> int:
        """The exit code, as soon as there is one."""
        code = self.program.wait(deadline_s)
        self._looking.join(1.0)
        return code

    def interrupt(self) -> None:
        """Ctrl-C."""
        if self.program.poll() is None:
            self.program.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Whatever state it is in: the program is gone afterwards."""
        if self.program.poll() is None:
            self.program.kill()
            self.program.wait(END_WAIT_S)
        self._looking.join(1.0)
        os.close(self._ours)
