"""Following a job on a terminal: its output as it is, or one line of progress for an array."""

import base64
import codecs
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress

from rain.cli import render
from rain.cli.errors import RAINS_OWN_FAILURE, note
from rain.client import Client, ControlError, Failed, Json, NoAgent

FAILED_STATES = ("FAILED", "TIMEOUT", "OUT_OF_MEMORY", "ABORTED")
FAILURES_SHOWN_MAX = 20
FAILURES_PAUSE_S = 2.0
"""Looking for failed tasks asks for all of them, so not more often than this."""
PLAIN_PROGRESS_S = 5.0
"""Where progress cannot overwrite itself it says a line no more often than this."""
OUTPUT_WAIT_S = 30.0
"""For the last output of an array that has ended."""
REFUSALS_PAUSE_S = 2.0
"""Between two looks at who has refused a job that somebody waits for."""
REFUSALS_SHOWN_MAX = 20


class Printer:
    """Writes the items of a log stream: raw, or a prefix before each line, or JSON lines."""

    def __init__(self, indexes: Sequence[int] = (), as_json: bool = False) -> None:
        self._indexes = indexes
        self._as_json = as_json
        self._halves: dict[tuple[int, int], bytes] = {}
        self._decoders: dict[tuple[int, int], codecs.IncrementalDecoder] = {}
        self._shown: dict[int, int] = {}
        self._left_out: dict[int, int] = {}

    def show(self, item: Json) -> None:
        task = int(item.get("task") or 0)
        if "note" in item:
            note(f"rain: task {self.index(task)}: {item['note']}")
            return
        fd, content = int(item["fd"]), base64.b64decode(item["data"])
        if self._as_json:
            decoder = self._decoders.setdefault((task, fd), _decoder())
            text = decoder.decode(content)
            render.print_json({"task": self.index(task), "fd": fd, "text": text})
        elif not self._indexes:
            self._show_raw(fd, content)
        else:
            self._show_lines(task, fd, content)

    def begin_again(self) -> None:
        """The same output comes once more from its beginning: show only what is new."""
        self._left_out, self._shown = self._shown, {}

    def _show_raw(self, fd: int, content: bytes) -> None:
        self._shown[fd] = self._shown.get(fd, 0) + len(content)
        left_out = min(self._left_out.get(fd, 0), len(content))
        self._left_out[fd] = self._left_out.get(fd, 0) - left_out
        _write(fd, content[left_out:])

    def finish(self) -> None:
        """Lines that never got their end."""
        for (task, fd), half in self._halves.items():
            if half:
                _write(fd, self._prefix(task) + half + b"\n")
        self._halves.clear()

    def _show_lines(self, task: int, fd: int, content: bytes) -> None:
        *lines, half = (self._halves.get((task, fd), b"") + content).split(b"\n")
        self._halves[task, fd] = half
        if lines:
            prefix = self._prefix(task)
            _write(fd, b"".join(prefix + line + b"\n" for line in lines))

    def _prefix(self, task: int) -> bytes:
        return f"[{self.index(task)}] ".encode()

    @property
    def is_raw(self) -> bool:
        """Of one task: nothing stands before its lines."""
        return not self._indexes and not self._as_json

    def index(self, task: int) -> int:
        """Of the task at that position, as people count."""
        return self._indexes[task] if task < len(self._indexes) else task


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


def _write(fd: int, content: bytes) -> None:
    stream = sys.stderr if fd == 2 else sys.stdout
    stream.flush()
    stream.buffer.write(content)
    stream.buffer.flush()


class Refusals:
    """While the block runs: says once why a PC does not take the job, or no longer for that."""

    def __init__(self, client: Client, job_id: str, say: Callable[[str], None] = note) -> None:
        self._client = client
        self._job_id = job_id
        self._say = say
        self._told: dict[tuple[str, str], None] = {}
        self._over = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._look, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(REFUSALS_PAUSE_S) and len(self._told) < REFUSALS_SHOWN_MAX:
            try:
                job = self._client.call("job", id=self._job_id, tasks=False)
            except ControlError:
                continue  # a failover, or the agent is gone: who waits for the end tells of it
            for told in job.get("refusals", {}).items():
                if told not in self._told and not self._over.is_set():
                    self._told[told] = None
                    self._say(f"rain: refused by {told[0]}: {told[1]}")


class Progress:
    """`rain: 24 tasks: 12 SUCCEEDED, 6 RUNNING` on stderr, overwriting itself on a terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._is_terminal = sys.stderr.isatty()
        self._told = ""
        self._next_s = 0.0

    def show(self, tasks: dict[str, int], is_last: bool = False) -> None:
        text = f"rain: {self._total} tasks: {render.counts(tasks)}"
        if text == self._told:
            if is_last and self._is_terminal:
                sys.stderr.write("\n")
            return
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if is_last else ""))
            sys.stderr.flush()
        elif is_last or time.monotonic() >= self._next_s:
            note(text)
            self._next_s = time.monotonic() + PLAIN_PROGRESS_S
        else:
            return
        self._told = text

    def say(self, text: str) -> None:
        """A line above the progress."""
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
            self._told = ""
        note(text)


def printer_of(spec: Json) -> Printer:
    """What prints the output of a job: as it is, or of an array with the index of each task."""
    start, step, total = spec["array_start"], spec["array_step"], spec["tasks"]
    return Printer(range(start, start + total * step, step) if total > 1 else ())


def follow(client: Client, job_id: str, tasks_total: int, printer: Printer) -> int:
    """Follow the job to its end; the job's own exit code, or 125 when the agent is lost."""
    try:
        if tasks_total == 1:
            with Refusals(client, job_id):
                for item in client.stream("logs", id=job_id, task=None, follow=True):
                    printer.show(item)
                end = client.call("wait", timeout_s=None, ids=[job_id])
        else:
            end = _follow_array(client, job_id, tasks_total, printer)
    except (NoAgent, Failed) as error:
        error.hint = f"{error.hint}; the job goes on in the pool: rain wait {job_id}"
        error.exit_code = RAINS_OWN_FAILURE
        raise
    job = end["jobs"][0]
    code = int(end["exit_code"])
    if code:
        reason = _reason(client, job_id) if tasks_total == 1 else ""
        note(f"rain: job {job_id} {job['state']} (exit code {code}){reason}")
    return code


def _reason(client: Client, job_id: str) -> str:
    """What the PC that ran it last said of the end."""
    task = client.call("job", id=job_id, tasks=True)["task_list"][0]
    said = [attempt["reason"] for attempt in task["attempts"] if attempt["reason"]]
    reason = task.get("reason") or (said[-1] if said else "")
    return f": {reason}" if reason else ""


def follow_rest(client: Client, job_id: str, printer: Printer) -> None:
    """What a job says on its way out, until its containers have ended."""
    printer.begin_again()
    _print_logs(client, job_id, printer)
    printer.finish()


def _follow_array(client: Client, job_id: str, tasks_total: int, printer: Printer) -> Json:
    """Output by lines with their task's index on stdout, progress on stderr, side by side."""
    progress, failures = Progress(tasks_total), _Failures(client, job_id)
    reading = threading.Thread(target=_print_logs, args=(client, job_id, printer), daemon=True)
    reading.start()
    with Refusals(client, job_id, progress.say):
        end = _show_progress(client.stream("wait", ids=[job_id]), failures, progress)
    reading.join(OUTPUT_WAIT_S)
    printer.finish()
    counts = end["jobs"][0]["tasks"]
    failures.look(counts, progress, is_last=True)
    progress.show(counts, is_last=True)
    return end


def _show_progress(
    stream: Generator[Json, None, Json], failures: "_Failures", progress: Progress
) -> Json:
    """Until the jobs are over; what `wait` ended with."""
    while True:
        try:
            item = next(stream)
        except StopIteration as stop:
            end: Json = stop.value
            return end
        for job in item.get("jobs", ()):
            failures.look(job["tasks"], progress)
            progress.show(job["tasks"])


def _print_logs(client: Client, job_id: str, printer: Printer) -> None:
    with suppress(ControlError, BrokenPipeError):  # the other stream tells of it
        for item in client.stream("logs", id=job_id, task=None, follow=True):
            printer.show(item)


class _Failures:
    """Names each task that failed, once, and not more than a screenful."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._seen: dict[int, None] = {}
        self._next_s = 0.0

    def look(self, tasks: dict[str, int], progress: Progress, is_last: bool = False) -> None:
        count = sum(tasks.get(state, 0) for state in FAILED_STATES)
        is_due = is_last or time.monotonic() >= self._next_s
        if count <= len(self._seen) or len(self._seen) >= FAILURES_SHOWN_MAX or not is_due:
            return
        self._next_s = time.monotonic() + FAILURES_PAUSE_S
        try:
            found = self._client.call("job", id=self._job_id, tasks=True)
        except ControlError:
            return  # a failover: the next look finds them
        for task in found["task_list"]:
            if task["state"] not in FAILED_STATES:
                continue
            if task["index"] in self._seen:
                continue
            self._seen[task["index"]] = None
            progress.say(
                f"rain: task {task['index']} {task['state']} (exit code {task['exit_code']}) "
                f"on {task['node']} · rain logs {self._job_id}.{task['index']}"
            )
            if len(self._seen) >= FAILURES_SHOWN_MAX:
                progress.say(f"rain: … the rest: rain job {self._job_id} --tasks")
                return
