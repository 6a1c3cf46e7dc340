"""Verbs that make a job: submit (mine to leave) and run (tied to this terminal)."""

import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rain.cli import render
from rain.cli.errors import INTERRUPTED, RAINS_OWN_FAILURE, as_typed, note
from rain.cli.follow import Refusals, follow, follow_rest, printer_of
from rain.cli.jobs import cancel_jobs
from rain.cli.private import masked, private_environment_of, secrets_of, volume_of
from rain.cli.session import (
    TASK_WORDS,
    Session,
    TaskVerb,
    common_options,
    parsed,
    pass_session,
)
from rain.client import Client, ControlError, Json
from rain.config import (
    parse_array,
    parse_duration,
    parse_size,
    parse_task_cpus,
    parse_user,
)

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CPUS_MILLI = 1_000
DEFAULT_MEMORY_BYTES = 256 * 1024 * 1024
COPIES_WANTED = 3
CRASH_LIMIT = 3
"""The same as rain.model.CRASH_LIMIT, which is slow to import."""
ENVIRONMENT_MAX = 1_024
"""The same bound as rain.model.ENVIRONMENT_MAX, which is slow to import."""

_OPTIONS = (
    click.option("--image", help="The container image to run in."),
    click.option(
        "--cpus", callback=parsed(parse_task_cpus), metavar="N",
        help="CPUs of each task, else 1. Without a container (--executor process) this only "
        "counts for placement: nothing holds the task to it.",
    ),
    click.option(
        "--memory", callback=parsed(parse_size), metavar="SIZE",
        help="Memory of each task, else 256m.",
    ),
    click.option(
        "--array", metavar="0-99[:STEP][%MAX]",
        help="A task for each index, both ends included; %MAX: at most so many at once.",
    ),
    click.option("--env", multiple=True, metavar="K=V", help="Repeatable; K alone: as set here."),
    click.option(
        "--env-file", metavar="F",
        help="Lines of K=V, or K alone: as set here; shown to nobody but the task.",
    ),
    click.option(
        "--secret", "secrets", multiple=True, metavar="NAME=FILE",
        help="The task alone reads it: /run/secrets/NAME, named by $NAME_FILE; repeatable.",
    ),
    click.option(
        "--volume", "volumes", multiple=True, metavar="SRC:DST[:ro]",
        help="A folder of the PC that runs the task, where its owner allows it; repeatable.",
    ),
    click.option("--workdir", metavar="DIR", help="The folder to run in, inside the container."),
    click.option(
        "--timeout", callback=parsed(parse_duration), metavar="TIME",
        help="End a task after 90s, 10m, …",
    ),
    click.option("--retries", type=click.IntRange(0, 20), help="Run a failed task again so often."),
    click.option(
        "--crash-limit", type=click.IntRange(0, 10), metavar="N",
        help="Give a task up once PCs went down under it N times, else 3; 0: never for that.",
    ),
    click.option("--priority", type=int, help="Larger goes first; else 0."),
    click.option("--node", metavar="NAME", help="Only on this PC."),
    click.option("--name", help="A name for people."),
    click.option("--executor", type=click.Choice(["docker", "process"]), help="Else docker."),
    click.option("--network", type=click.Choice(["none", "bridge", "host"]), help="Else none."),
    click.option(
        "--user", callback=parsed(parse_user), metavar="UID[:GID]",
        help="Run as this user; else the PC's owner.",
    ),
    click.option("--dry-run", is_flag=True, help="Print the job as TOML (--json: JSON), no more."),
)  # fmt: skip


def _job_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command(cls=TaskVerb)
@_job_options
@click.option("-q", "--quiet", is_flag=True, help="The job id alone on stdout.")
@click.option("-d", "--detach", is_flag=True, help="Do not follow: the job id alone on stdout.")
@click.option("--wait", "is_waiting", is_flag=True, help="Follow and return the job's exit code.")
@common_options
@pass_session
@click.pass_context
def submit(
    context: click.Context,
    session: Session,
    /,
    quiet: bool,
    detach: bool,
    is_waiting: bool,
    dry_run: bool,
    **given: Any,
) -> int:
    """Give the pool a job. On a terminal its output is followed; Ctrl-C leaves it to the pool."""
    if detach and is_waiting:
        raise click.UsageError("--detach returns at once, --wait does not: give one of them")
    spec = spec_of(given, context.meta[TASK_WORDS])
    if dry_run:
        return _print_spec(masked(spec), session.as_json)
    is_following = is_waiting or (sys.stdout.isatty() and not (quiet or detach or session.as_json))
    answer = _submit(session.client, spec)
    job_id = answer["job_id"]
    if not is_following:
        render.print_json({"job_id": job_id}) if session.as_json else click.echo(job_id)
        return 0
    if quiet:
        print(job_id, flush=True)
    elif not session.as_json:
        note(f"submitted {job_id}")
    try:
        if quiet or session.as_json:
            code = _wait(session.client, job_id)
        else:
            code = follow(session.client, job_id, spec["tasks"], printer_of(spec))
    except KeyboardInterrupt:
        next_words = f"rain logs -f {job_id} · rain cancel {job_id}"
        next_words = as_typed(next_words, session.data_dir_text)
        note(f"\nrain: detached; the job goes on · {next_words}")
        return INTERRUPTED
    if session.as_json:
        render.print_json({"job_id": job_id, "exit_code": code})
    return code


@click.command(cls=TaskVerb)
@_job_options
@common_options
@pass_session
@click.pass_context
def run(context: click.Context, session: Session, /, dry_run: bool, **given: Any) -> int:
    """Run a job tied to this terminal: stdout is the task's alone, Ctrl-C cancels it."""
    spec = spec_of(given, context.meta[TASK_WORDS])
    if dry_run:
        return _print_spec(masked(spec), session.as_json)
    client = session.client
    job_id = _submit(client, spec)["job_id"]
    printer = printer_of(spec)
    try:
        return follow(client, job_id, spec["tasks"], printer)
    except KeyboardInterrupt:
        note(f"\nrain: cancelling {job_id} (Ctrl-C again: do not wait for its end)")
        cancel_jobs(client, (job_id,))
        try:
            if spec["tasks"] == 1:
                follow_rest(client, job_id, printer)
            code = _wait(client, job_id)
        except KeyboardInterrupt:
            return INTERRUPTED
        return code or INTERRUPTED
    except BrokenPipeError:
        cancel_jobs(client, (job_id,))
        raise


def _submit(client: Client, spec: Json) -> Json:
    answer = client.call("submit", spec=spec)
    copies, members = answer["copies"], answer["members"]
    if copies <= 1:
        note("kept on this PC only")
    elif copies < min(COPIES_WANTED, members):
        note(f"kept on {copies} of {members} PCs")
    if answer.get("waits_for"):
        note(f"it waits: {answer['waits_for']}")
    return answer


def _wait(client: Client, job_id: str) -> int:
    try:
        with Refusals(client, job_id):
            return int(client.call("wait", timeout_s=None, ids=[job_id])["exit_code"])
    except ControlError as error:
        error.exit_code = RAINS_OWN_FAILURE
        raise


# --- The spec ------------------------------------------------------------------------------------


def spec_of(given: dict[str, Any], words: tuple[str, ...]) -> Json:
    """The job spec by the field names of rain.model.JobSpec, from options and the task's words."""
    executor = given["executor"] or "docker"
    if executor == "process":
        _refuse_unenforceable(given)
    if not words and not given["image"]:
        raise click.UsageError("there is nothing to run: put a command after --")
    spec: Json = {
        "command": list(words),
        "image": given["image"] or "",
        "name": given["name"] or "",
        "need": {
            "cpus_milli": DEFAULT_CPUS_MILLI if given["cpus"] is None else given["cpus"],
            "memory_bytes": DEFAULT_MEMORY_BYTES if given["memory"] is None else given["memory"],
        },
        "tasks": 1,
        "array_start": 0,
        "array_step": 1,
        "is_array": False,
        "running_max": 0,
        "environment": [list(pair) for pair in environment_of(given["env"])],
        "workdir": given["workdir"] or "",
        "user": given["user"] or "",
        "network": given["network"] or "none",
        "executor": executor,
        "timeout_ms": given["timeout"] or 0,
        "retries": given["retries"] or 0,
        "priority": given["priority"] or 0,
        "node_name": given["node"] or "",
        "private_environment": [list(pair) for pair in private_environment_of(given["env_file"])],
        "secrets": [list(pair) for pair in secrets_of(given["secrets"])],
        "volumes": [volume_of(text) for text in given["volumes"]],
        "crash_limit": CRASH_LIMIT if given["crash_limit"] is None else given["crash_limit"],
    }
    if len(spec["environment"]) + len(spec["private_environment"]) > ENVIRONMENT_MAX:
        raise click.UsageError(f"more than {ENVIRONMENT_MAX} variables: pass a file instead")
    if given["array"] is not None:
        array = parse_array(given["array"])
        spec.update(
            tasks=array.tasks,
            array_start=array.start,
            array_step=array.step,
            is_array=True,
            running_max=array.running_max,
        )
    return spec


def _refuse_unenforceable(given: dict[str, Any]) -> None:
    asked = [
        f"--{name}" for name in ("memory", "image", "user", "network") if given[name] is not None
    ]
    asked += ["--volume"] if given["volumes"] else []
    if asked:
        raise click.UsageError(
            f"--executor process runs a plain process and cannot enforce {', '.join(asked)}: "
            "leave it out, or use --executor docker"
        )


def environment_of(pairs: tuple[str, ...]) -> list[tuple[str, str]]:
    """What --env says, sorted by name."""
    chosen: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals and name not in os.environ:
            raise click.UsageError(f"--env {pair}: not set here; write {pair}=VALUE")
        if not re.fullmatch(r"[^\s=\0]+", name):
            raise click.UsageError(f"{pair!r} is not K=V")
        chosen[name] = value if equals else os.environ[name]
    return sorted(chosen.items())


def _print_spec(spec: Json, as_json: bool) -> int:
    if as_json:
        render.print_json(spec)
    else:
        click.echo(as_toml(spec))
    return 0


def as_toml(spec: Json) -> str:
    """The spec as TOML: a JSON string is a TOML string, but for the DEL character."""
    tables = [name for name, value in spec.items() if isinstance(value, dict)]
    lines = [f"{name} = {_toml(value)}" for name, value in spec.items() if name not in tables]
    for name in tables:
        lines += ["", f"[{name}]", *(f"{key} = {_toml(one)}" for key, one in spec[name].items())]
    return "\n".join(lines)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
