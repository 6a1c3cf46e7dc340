"""Verbs of this PC's own agent: up, down, leave."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import click

from rain.cli import render
from rain.cli.errors import INTERRUPTED, VerbFailed, as_typed, note
from rain.cli.session import Session, common_options, parsed, pass_session
from rain.config import (
    EXECUTORS,
    NETWORKS,
    REPLICAS_MAX,
    ConfigError,
    open_data_dir,
    parse_duration,
    remember,
    up_options,
)

TOKEN_CHARS_MAX = 4_096
READY_WAIT_S = 30.0
STOP_WAIT_S = 30.0
POLL_S = 0.05
NOT_IN_POOL = 4
DISK = 7
WORDS_BYTES = 64 * 1024
"""With less space than this an agent cannot even say why it ended."""


@click.command()
@click.option("--name", help="This PC's name in the pool; else its host name.")
@click.option("--new", is_flag=True, default=None, help="Found a pool now.")
@click.option("--pool", metavar="NAME", help="With --new: its name; without: wait for that pool.")
@click.option("--join", metavar="CODE", help="Join with this code, as `rain invite` shows it.")
@click.option("--join-file", metavar="F", help="A file with a code or token; - is stdin.")
@click.option(
    "--contact", "contacts", multiple=True, metavar="HOST[:PORT]",
    help="A PC to join through, where broadcast does not reach; repeatable.",
)  # fmt: skip
@click.option("--bind", metavar="ADDRESS", help="Only on this address; else on all interfaces.")
@click.option("--port", type=click.IntRange(1, 65_535), help="UDP and TCP port; else 7246.")
@click.option("--cpus", metavar="N|N%", help="How much of this PC's CPUs to share.")
@click.option("--memory", metavar="SIZE|N%", help="How much of this PC's memory to share.")
@click.option("--no-work/--work", "no_work", default=None, help="Submit only: run no tasks here.")
@click.option(
    "--executor", type=click.Choice(EXECUTORS),
    help="What runs tasks here; else docker. process: no isolation at all.",
)  # fmt: skip
@click.option(
    "--allow-network",
    "allow_networks",
    multiple=True,
    type=click.Choice(NETWORKS),
    help="The most that tasks may reach from here; else bridge (the internet). host: everything "
    "that this PC reaches.",
)
@click.option(
    "--allow-user/--no-allow-user",
    "allow_user",
    default=None,
    help="Let jobs choose who they run as in a container (--user), root too.",
)
@click.option(
    "--allow-image",
    "allow_images",
    multiple=True,
    metavar="PATTERN",
    help="Only images like this, for example 'python:*'; repeatable; else all.",
)
@click.option(
    "--allow-volume",
    "allow_volumes",
    multiple=True,
    metavar="FOLDER",
    help="A folder that jobs may ask for, and those below it; repeatable; else none.",
)
@click.option(
    "--task-disk", metavar="SIZE", help="End a task that uses more disk than this; else 10g."
)  # fmt: skip
@click.option("--rank", type=int, help="Larger coordinates sooner; else 0.")
@click.option(
    "--replicas", type=click.IntRange(1, REPLICAS_MAX),
    help="On so many PCs a job is kept before it counts as accepted, while this PC coordinates; "
    "else 3, or all when they are fewer.",
)  # fmt: skip
@click.option("-d", "--detach", is_flag=True, help="Return when the node is ready.")
@common_options
@pass_session
def up(
    session: Session, /, join: str | None, join_file: str | None, detach: bool, **given: Any
) -> int:
    """Start this PC's node, here in the foreground (Ctrl-C stops it).

    A later `rain up` needs no options: it resumes the pool and what this PC was told before. An
    empty value takes back what was told: --bind ''.
    """
    explicit = {name: value for name, value in given.items() if value is not None and value != ()}
    data_dir = open_data_dir(session.data_dir)
    if session.client.is_agent_there():
        raise VerbFailed(
            f"an agent already runs on {data_dir}", "see it: rain status; stop it: rain down"
        )
    if join is not None and join_file is not None:
        raise click.UsageError("--join and --join-file are two ways to say one thing")
    if join is not None and not join.strip():
        raise click.UsageError("--join wants the code that `rain invite` shows")
    if join is not None and not is_like_a_code(join):
        # Every user of this PC can read the arguments of a command that runs.
        raise click.UsageError("that is no code; a token is for a file or stdin: --join-file F")
    token = join if join is not None else ""
    if join_file is not None:
        token = read_token(join_file)
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not detach
    options = up_options(data_dir, explicit, token=token, is_terminal=is_terminal)
    if detach:
        return _detach(session, data_dir, arguments_of(explicit), token)
    from rain.agent.main import AgentEnded, run_agent  # all the weight of the agent comes with it

    try:
        # What an option did is known once the node is ready: a wrong one is not remembered.
        run_agent(options, _sayer(session.as_json), lambda: remember(data_dir, explicit))
    except AgentEnded as error:
        code = {NOT_IN_POOL: "not_in_pool", DISK: "disk"}.get(error.exit_code, "failed")
        raise VerbFailed(error.message, error.hint, error.exit_code, code) from error
    return 0


def _sayer(as_json: bool) -> Callable[[str], None]:
    """How the agent in the foreground tells what happens: a line each, or a JSON object each."""

    def say(line: str) -> None:
        print(json.dumps({"say": line}) if as_json else line, flush=True)

    return say


def read_token(join_file: str) -> str:
    """A join token from a file or stdin; asked for, unseen, where stdin is a terminal."""
    if join_file != "-":
        try:
            with open(join_file, encoding="utf-8") as file:
                text = file.read(TOKEN_CHARS_MAX)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the token file {join_file} cannot be read: {error}",
                "make one on a PC of the pool: rain invite --token -q",
            ) from error
    elif sys.stdin.isatty():
        text = click.prompt("Token (rain invite --token shows it)", hide_input=True, err=True)
    else:
        text = sys.stdin.read(TOKEN_CHARS_MAX)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ConfigError(
            "there is no token in it", "make one on a PC of the pool: rain invite --token -q"
        )
    # The output of `rain invite --token` may have been saved whole: its last line is the token.
    return lines[-1]


def is_like_a_code(text: str) -> bool:
    """Short, and first a digit: how sloppily it may be typed, rain/mesh/codes.py says."""
    return re.fullmatch(r"\s*[0-9].{,63}", text) is not None


def agent_command(data_dir: Path, arguments: Sequence[str]) -> list[str]:
    """The command line of a `rain up` in a process of its own."""
    root = Path(__file__).resolve().parents[2]
    # -P: a json.py in the folder where somebody typed `rain up -d` is none of ours.
    safe = [] if Path.cwd() == root else ["-P"]
    python = [sys.executable, *safe, "-m", "rain", "--data-dir", str(data_dir), "up"]
    return [*python, *arguments]


def arguments_of(explicit: dict[str, Any]) -> list[str]:
    """The explicit options again as words; a token is never among them."""
    words: list[str] = []
    for name, value in explicit.items():
        match name, value:
            case "new", _:
                words += ["--new"] if value else []
            case "no_work", _:
                words.append("--no-work" if value else "--work")
            case "allow_user", _:
                words.append("--allow-user" if value else "--no-allow-user")
            case (("contacts" | "allow_networks" | "allow_images" | "allow_volumes"), _):
                option = name.removesuffix("s").replace("_", "-")
                words += [f"--{option}={one}" for one in value]
            case _:
                words.append(f"--{name.replace('_', '-')}={value}")
    return words


def _detach(session: Session, data_dir: Path, arguments: list[str], token: str) -> int:
    if token:
        arguments = [*arguments, "--join-file", "-"]
    # Files, not pipes: the agent may go on writing when nobody reads any more.
    with _fresh(data_dir / "agent.out") as output, _fresh(data_dir / "agent.err") as errors:
        ready = ""
        try:
            agent = start_agent(data_dir, ["--json", *arguments], token, output, errors)
            ready = wait_ready(agent, output, READY_WAIT_S)
        finally:
            # Whatever happened: a founder's recovery phrase is among what was said. Shown here it
            # must not stay there. The agent writes on at the place that this moves it to.
            said = _read(output).splitlines()
            output.seek(0)
            output.truncate()
            if not ready:
                _show_unready(said)
        complained = _read(errors).splitlines()
    if ready:
        before = [_said(line) for line in said[: said.index(ready)]]
        if session.as_json:
            render.print_json({"ready": _said(ready), "pid": agent.pid, "said": before})
        else:
            for line in [*before, _said(ready)]:
                click.echo(line)
        return 0
    raise _failure(agent, said, complained, errors.name)


def _show_unready(said: list[str]) -> None:
    """What the agent said before it failed or was given up: nobody will see it again."""
    for line in said:
        if not _is_error(line):
            note(_said(line))


def _is_error(line: str) -> bool:
    with suppress(ValueError, TypeError):
        return "error" in json.loads(line)
    return False


def _failure(
    agent: "subprocess.Popen[bytes]", said: list[str], complained: list[str], errors: str
) -> VerbFailed:
    """Why there is no agent that is ready, in the agent's own words where it has had any."""
    code = agent.poll()
    if code is None:
        return VerbFailed(
            f"not ready after {READY_WAIT_S:.0f} s; it goes on trying (pid {agent.pid})",
            f"how far it is: rain status; its words: {errors}; stop it: kill {agent.pid}",
        )
    try:
        told = json.loads(said[-1])
        error = told["error"]
        # It was given its folder by us; who typed this may not have named one.
        hint = error["hint"].replace(f"--data-dir {shlex.quote(str(Path(errors).parent))} ", "")
        return VerbFailed(error["message"], hint, told["exit_code"], error["code"])
    except (LookupError, ValueError, TypeError):
        folder = Path(errors).parent
        if not complained and shutil.disk_usage(folder).free < WORDS_BYTES:
            hint = "free some space on it, then: rain up"
            return VerbFailed(f"the disk of {folder} is full", hint, DISK, "disk")
        last = complained[-1] if complained else f"the agent ended with {code} and no word"
        return VerbFailed(last, exit_code=code if code > 0 else 1)


def _said(line: str) -> str:
    """What the agent said in a line of its JSON; the line itself where it is none."""
    try:
        return str(json.loads(line)["say"])
    except (ValueError, LookupError, TypeError):
        return line


def start_agent(
    data_dir: Path, arguments: Sequence[str], token: str, output: IO[str], errors: IO[str]
) -> "subprocess.Popen[bytes]":
    """A `rain up` in a process and a session of its own; the token goes in by stdin."""
    agent = subprocess.Popen(
        agent_command(data_dir, arguments),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=errors,
        start_new_session=True,
    )
    assert agent.stdin is not None
    # It may have ended before it read the token: then its exit code tells more than the pipe.
    with suppress(BrokenPipeError), agent.stdin as pipe:
        pipe.write(token.encode())
    return agent


def wait_ready(agent: "subprocess.Popen[bytes]", output: IO[str], wait_s: float) -> str:
    """The line of the agent that says it is ready; '' when it ended or took too long."""
    deadline = time.monotonic() + wait_s
    while agent.poll() is None and time.monotonic() < deadline:
        for line in _read(output).splitlines():
            if re.search(r"\bready\b", line):
                return line
        time.sleep(POLL_S)
    return ""


def _fresh(path: Path) -> IO[str]:
    """A file that nobody else may read, whatever the umask."""
    path.unlink(missing_ok=True)

    def private(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    return open(path, "x+", encoding="utf-8", errors="replace", opener=private)


def _read(output: IO[str]) -> str:
    output.seek(0)
    return output.read()


@click.command()
@click.option(
    "--drain",
    callback=parsed(parse_duration),
    metavar="TIME",
    help="Let running tasks end, so long.",
)
@common_options
@pass_session
def down(session: Session, drain: int | None) -> int:
    """Stop this PC's node; coordination is handed over first."""
    drain_ms = drain or 0
    session.client.call("down", drain_ms=drain_ms)
    try:
        return _until_gone(session, "stopped", drain_ms)
    except KeyboardInterrupt:
        if not drain_ms:
            raise
        note(
            "rain: this PC goes on draining: it takes no new work, and stops when its tasks have "
            f"ended ({drain_ms // 1_000} s at most) · "
            + as_typed("stop it at once: rain down", session.data_dir_text)
        )
        return INTERRUPTED


@click.command()
@common_options
@pass_session
def leave(session: Session) -> int:
    """Stop this PC's node and forget the pool: its containers and data here are removed."""
    if not session.client.is_agent_there() and (session.data_dir / "pool.json").exists():
        from rain.agent.recollection import forget  # no agent runs: it is done here

        forget(session.data_dir)
        return _until_gone(session, "left", 0)
    session.client.call("leave")
    return _until_gone(session, "left", 0)


def _until_gone(session: Session, word: str, drain_ms: int) -> int:
    deadline = time.monotonic() + STOP_WAIT_S + drain_ms / 1_000
    while session.client.is_agent_there():
        if time.monotonic() >= deadline:
            raise VerbFailed("the agent has not stopped yet", f"its log is in {session.data_dir}")
        time.sleep(POLL_S)
    if session.as_json:
        render.print_json({word: True})
    else:
        click.echo(word)
    return 0
