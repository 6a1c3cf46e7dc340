"""Verbs about jobs that exist: jobs, job, logs, wait, cancel."""

import click

from rain.cli import render
from rain.cli.errors import RAINS_OWN_FAILURE, VerbFailed, note
from rain.cli.follow import Printer
from rain.cli.session import Session, common_options, pass_session
from rain.client import AgentGone, Client, Failed, Json

MISSING_SHOWN_MAX = 10
"""Tasks named whose output is not to be had."""


@click.command()
@click.option("-a", "--all", "include_over", is_flag=True, help="Those that are over, too.")
@common_options
@pass_session
def jobs(session: Session, include_over: bool) -> int:
    """The pool's jobs, from whichever node."""
    answer = session.client.call("jobs", all=include_over)
    if session.as_json:
        render.print_json(answer)
        return 0
    render.table(
        ("ID", "NAME", "STATE", "TASKS", "EXIT", "SUBMITTED BY", "CREATED"),
        [
            (
                job["id"],
                job["name"],
                _state(job),
                render.counts(job["tasks"]),
                job["exit_code"],
                _submitted_by(job),
                render.when(job["created_at"]),
            )
            for job in answer["jobs"]
        ],
        session.color,
    )
    return 0


@click.command()
@click.argument(
    "what", required=False, metavar="[release|drop]", type=click.Choice(["release", "drop"])
)
@common_options
@pass_session
def quarantine(session: Session, what: str | None) -> int:
    """Jobs this PC brought back after more than 180 days: `release` or `drop` them.

    Nobody runs them, and no other PC hears of them, until one of the two is said.
    """
    answer = session.client.call("quarantine", do=what or "")
    if session.as_json:
        render.print_json(answer)
    elif what:
        note(f"{'given back to the pool' if what == 'release' else 'dropped'}: {answer['jobs']}")
    elif answer["since"]:
        click.echo(f"{answer['jobs']} job(s), as they were on {answer['since']}: rain jobs -a")
    else:
        click.echo("nothing is quarantined on this PC")
    return 0


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--tasks", "with_tasks", is_flag=True, help="Every task and its attempts.")
@common_options
@pass_session
def job(session: Session, job_id: str, with_tasks: bool) -> int:
    """One job. ID: a unique beginning of an id, or `last`."""
    answer = session.client.call("job", id=job_id, tasks=with_tasks)
    if session.as_json:
        render.print_json(answer)
        return 0
    lines = [
        ("job", answer["id"]),
        ("name", answer["name"]),
        ("state", answer["state"]),
        ("exit code", answer["exit_code"]),
        ("tasks", f"{answer['tasks_total']}: {render.counts(answer['tasks'])}"),
        ("submitted by", _submitted_by(answer)),
        ("created", render.when(answer["created_at"])),
        ("finished", render.when(answer["finished_at"])),
        ("waiting for", _words(answer.get("waiting_for"))),
    ]
    for word, text in lines:
        if text is not None and text != "":
            click.echo(f"{word + ':':<15}{text}")
    for name, reason in answer.get("refusals", {}).items():
        click.echo(f"refused by {name}: {reason}")
    if with_tasks:
        click.echo()
        render.table(
            ("TASK", "STATE", "EXIT", "NODE", "ATTEMPT", "STARTED", "ENDED", "REASON"),
            _task_rows(answer["task_list"]),
            session.color,
        )
    return 0


def _state(job: Json) -> str:
    return f"{job['state']} (quarantined)" if job.get("quarantined") else str(job["state"])


def _submitted_by(job: Json) -> str:
    """Whose it is (they may cancel it), and where it was typed."""
    person = job.get("person")
    return f"{person}@{job['submitted_by']}" if person else str(job["submitted_by"])


def _words(waiting_for: dict[str, int] | None) -> str:
    """Why no PC takes more of it now, counted by reason."""
    reasons = sorted((waiting_for or {}).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason.replace('_', ' ')} ({count} PC(s))" for reason, count in reasons)


def _task_rows(tasks: list[Json]) -> list[tuple[object, ...]]:
    """One row a task, and one below it for every attempt but the one that made its state."""
    rows: list[tuple[object, ...]] = []
    for task in tasks:
        attempts = task["attempts"]
        last = dict(attempts[-1]) if attempts else {}
        last["reason"] = task.get("reason") or last.get("reason")
        rows.append((task["index"], task["state"], task["exit_code"], task["node"], *_times(last)))
        for attempt in attempts[:-1]:
            row = (" ", attempt["state"], attempt["exit_code"], attempt["node"], *_times(attempt))
            rows.append(row)
    return rows


def _times(attempt: Json) -> tuple[object, ...]:
    return (
        attempt.get("number"),
        render.when(attempt.get("started_at")),
        render.when(attempt.get("ended_at")),
        attempt.get("reason"),
    )


@click.command()
@click.argument("job_id", metavar="ID[.TASK]")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@common_options
@pass_session
def logs(session: Session, job_id: str, follow: bool) -> int:
    """What a job, or one task of an array, printed."""
    name, _, index = job_id.partition(".")
    if index and not index.isdigit():
        raise click.UsageError(f"{job_id!r} is no ID or ID.TASK")
    task = int(index) if index else None
    printer = printer_for(session, name, task)
    missing: dict[int, str] = {}
    try:
        for item in session.client.stream("logs", id=name, task=task, follow=follow):
            if item.get("missing"):
                missing[int(item.get("task") or 0)] = str(item["note"])
            else:
                printer.show(item)
    finally:
        printer.finish()
    if missing:
        raise _not_had(missing, printer)
    return 0


def _not_had(missing: dict[int, str], printer: Printer) -> VerbFailed:
    """What was printed cannot be shown: of which tasks, and why."""
    why = next(iter(missing.values()))
    if len(missing) > 1 or not printer.is_raw:
        shown = [str(printer.index(task)) for task in sorted(missing)[:MISSING_SHOWN_MAX]]
        more = f" and {len(missing) - len(shown)} more" if len(missing) > len(shown) else ""
        why = f"no output of task {', '.join(shown)}{more}: {why}"
    return VerbFailed(why, "switch that PC on, then try again")


def printer_for(session: Session, job_id: str, task: int | None) -> Printer:
    """Raw for one task; with the task's index before each line where there are several."""
    if task is not None and not session.as_json:
        return Printer()
    found = session.client.call("job", id=job_id, tasks=False)
    if found["tasks_total"] == 1 and not session.as_json:
        return Printer()
    found = session.client.call("job", id=job_id, tasks=True)
    indexes = [entry["index"] for entry in found["task_list"]]
    return Printer(indexes, session.as_json)


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@common_options
@pass_session
def wait(session: Session, ids: tuple[str, ...]) -> int:
    """Wait for jobs to end; the exit code is theirs."""
    try:
        answer = session.client.call("wait", timeout_s=None, ids=list(ids))
    except (AgentGone, Failed) as error:
        error.exit_code = RAINS_OWN_FAILURE  # 1 or 3 could be the job's own
        raise
    if session.as_json:
        render.print_json(answer)
    else:
        for ended in answer["jobs"]:
            click.echo(f"{ended['id']} {ended['state']}")
    return int(answer["exit_code"])


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@common_options
@pass_session
def cancel(session: Session, ids: tuple[str, ...]) -> int:
    """End jobs: what waits is not started, what runs is stopped."""
    answer = cancel_jobs(session.client, ids)
    if session.as_json:
        render.print_json(answer)
    else:
        for job_id in answer["cancelled"]:
            note(f"cancelled {job_id}")
        for ended in answer.get("over", ()):
            note(f"nothing to cancel: job {ended['id']} is over already ({ended['state']})")
    return 0


def cancel_jobs(client: Client, ids: tuple[str, ...]) -> Json:
    return client.call("cancel", ids=list(ids))
