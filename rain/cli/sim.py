"""`rain sim`: what happens in this pool if some of its PCs go off. Nothing happens to the pool.

The simulator is part of the package (rain.sim); in a source tree it lies beside it (sim).
"""

import json
import sys
from datetime import UTC, datetime, time, timedelta
from importlib import import_module
from typing import Any

import click

from rain.cli.errors import FAILED, VerbFailed
from rain.cli.session import Session, common_options, pass_session

Json = dict[str, Any]

SIMULATORS = ("rain.sim.forecast", "sim.forecast")
RUNS = 5
RUNS_MAX = 100
LOOK_MS = 3_600_000
LOOK_MS_MAX = 2 * LOOK_MS
"""Further ahead a run would take minutes."""
AFTER_BACK_MS = 1_800_000
TASK_TIME = "10m"
JOBS_MAX = 200
"""Jobs that the agent is asked for, oldest first."""
FILE_BYTES_MAX = 64 * 1024 * 1024
NOT_FOUND = 5
SHOWN_MAX = 20


@click.command()
@click.option("--off", metavar="NAME[,NAME]…", default="", help="PCs whose plugs are pulled.")
@click.option("--cut", metavar="NAME[,NAME]…", default="", help="PCs whose cables are pulled.")
@click.option("--at", metavar="TIME", default="0", help="When: 18:00, or 2h from now.  [now]")
@click.option("--back", metavar="TIME", default="", help="When they are back: 20:00, or 4h.")
@click.option("--for", "gone_for", metavar="TIME", default="", help="Or for how long: 90m.")
@click.option("--runs", type=click.IntRange(1, RUNS_MAX), default=RUNS, show_default=True)
@click.option("--task-time", metavar="TIME", default=TASK_TIME, show_default=True,
              help="What a task takes, of jobs of which none has ended yet.")  # fmt: skip
@click.option("--nodes-file", metavar="F", default="", help="Saved by rain nodes --json.")
@click.option("--jobs-file", metavar="F", default="", help="Saved by rain jobs --json.")
@common_options
@pass_session
def sim(
    session: Session,
    off: str,
    cut: str,
    at: str,
    back: str,
    gone_for: str,
    runs: int,
    task_time: str,
    nodes_file: str,
    jobs_file: str,
) -> int:
    """What happens in this pool if some of its PCs go off: simulated.

    The pool stays as it is: its PCs and open jobs are copied into a simulation that runs the
    product's own code. Until PCs go off, what runs is taken to go on as it is now.
    """
    from rain.config import ConfigError, parse_duration

    now = datetime.now().astimezone()
    lost_at = _instant(at, now, "--at")
    if back and gone_for:
        raise click.UsageError("--back and --for say the same: give one of them")
    back_at = _instant(back, now, "--back") if back else None
    try:
        task_ms = parse_duration(task_time)
        if gone_for:
            back_at = lost_at + timedelta(milliseconds=parse_duration(gone_for))
    except ConfigError as error:
        raise click.UsageError(f"{error.message}: {error.hint}") from error
    if back_at is not None and back_at <= lost_at:
        raise click.UsageError("they come back after they went: --back is later than --at")
    back_ms = None if back_at is None else round((back_at - lost_at) / timedelta(milliseconds=1))
    if not task_ms:
        raise click.UsageError("a task takes some time: --task-time is more than nothing")
    nodes, jobs = _pool(session, nodes_file, jobs_file)
    told = _played(nodes, jobs, (_names(off), _names(cut)), back_ms, runs, task_ms, now)
    told = _dated(told, lost_at, back_at)
    if session.as_json:
        from rain.cli import render

        render.print_json(told)
    else:
        _tell(told, lost_at, session.color)
    return 0


def _instant(text: str, now: datetime, option: str) -> datetime:
    """`18:00`, the next such time; or how long from now."""
    from rain.config import ConfigError, parse_duration

    try:
        if ":" in text:
            hour = time.fromisoformat(text)
            then = datetime.combine(now, hour.replace(tzinfo=None)).astimezone()
            return then if then >= now else then + timedelta(days=1)
        return now + timedelta(milliseconds=parse_duration(text))
    except (ValueError, OverflowError, ConfigError) as error:
        raise click.UsageError(
            f"{option} {text}: a time is 18:00, or 90m or 2h from now"
        ) from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


# --- the pool -----------------------------------------------------------------------------------


def _pool(session: Session, nodes_file: str, jobs_file: str) -> tuple[list[Json], list[Json]]:
    """From files where they are given, from the agent else. A saved pool alone has no jobs."""
    if nodes_file:
        nodes = _read(nodes_file, "nodes")
        return nodes, _read(jobs_file, "jobs") if jobs_file else []
    client = session.client
    nodes = list(client.call("nodes")["nodes"])
    if jobs_file:
        return nodes, _read(jobs_file, "jobs")
    listed = client.call("jobs", all=False)["jobs"][:JOBS_MAX]
    return nodes, [client.call("job", id=job["id"], tasks=True) for job in listed]


def _read(path: str, what: str) -> list[Json]:
    try:
        with open(path, "rb") as file:
            told = json.loads(file.read(FILE_BYTES_MAX))
        rows = told[what]
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            raise TypeError(f"its {what} are no list")
    except OSError as error:
        raise VerbFailed(f"{path} cannot be read: {error.strerror}", "look at its name") from error
    except (ValueError, KeyError, TypeError) as error:
        hint = f"save it anew: rain {what} --json >{path}"
        raise VerbFailed(f"{path} holds no {what}", hint) from error
    return list(rows)


def _played(
    nodes: list[Json],
    jobs: list[Json],
    gone: tuple[tuple[str, ...], tuple[str, ...]],
    back_ms: int | None,
    runs: int,
    task_ms: int,
    now: datetime,
) -> Json:
    simulator = _simulator()
    look_ms = min(LOOK_MS_MAX, max(LOOK_MS, (back_ms or 0) + AFTER_BACK_MS))
    is_seen = back_ms is not None and back_ms < look_ms
    plan = simulator.Plan(*gone, back_ms if is_seen else None, look_ms)
    now_unix_ms = int(now.timestamp() * 1_000)
    try:
        told: Json = simulator.forecast(nodes, jobs, plan, runs, task_ms, now_unix_ms, _progress)
    except simulator.Unfit as error:
        if error.is_unknown_name:
            raise VerbFailed(error.message, error.hint, NOT_FOUND, "not_found") from error
        raise VerbFailed(error.message, error.hint, FAILED) from error
    finally:
        _progress("")
    if back_ms is not None and not is_seen:
        told["assumed"].append(f"it is looked {look_ms // 60_000} min ahead: none is back by then")
    return told


def _simulator() -> Any:
    for name in SIMULATORS:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    raise VerbFailed("this installation of Rain has no simulator", "install it anew, with pip")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<40}\r", end="", file=sys.stderr, flush=True)


# --- what is told -------------------------------------------------------------------------------


def _dated(told: Json, lost_at: datetime, back_at: datetime | None) -> Json:
    """With the instants of the wall beside the spans of the forecast."""
    for job in told["jobs"]:
        ends_ms = job["ends_after_ms"]
        job["ends_at"] = None if ends_ms is None else _later(lost_at, ends_ms)
    return {"at": _later(lost_at, 0), "back": back_at and _later(back_at, 0), **told}


def _later(instant: datetime, span_ms: int) -> str:
    then = (instant + timedelta(milliseconds=span_ms)).astimezone(UTC)
    return then.isoformat(timespec="seconds").replace("+00:00", "Z")


def _tell(told: Json, lost_at: datetime, color: bool) -> None:
    gone = [f"{name} off" for name in told["off"]] + [f"{name} cut off" for name in told["cut"]]
    what = ", ".join(gone) if gone else "all as it is"
    click.echo(f"{lost_at:%H:%M}: {what} ({told['runs']} simulated)")
    _line("coordinator", _coordinators(told))
    copies = told["copies"]
    _line("copies", f"every job on {_pcs(copies['before'])} before, on {copies['after']} after")
    lost = sum(len(tasks) for tasks in told["lost"].values())
    _line("running there", f"{_tasks(lost)}, {len(told['restarted'])} started elsewhere")
    for again in told["restarted"][:SHOWN_MAX]:
        where = f"{again['lost_on']} -> {again['runs_on']}"
        click.echo(f"  {again['job']}.{again['task']}: {where}, within {_span(again['worst_ms'])}")
    _rest(told["restarted"])
    for waits in told["waiting"]:
        _line("waits", f"{_job(waits)}, {_tasks(len(waits['tasks']))}: {waits['because']}")
    if told["jobs"]:
        from rain.cli import render

        click.echo()
        look_at = render.when(_later(lost_at, told["looked_ms"]))
        rows = [
            (
                job["id"],
                job["name"],
                job["open_tasks"],
                render.when(job["ends_at"]) or f"not by {look_at}",
            )
            for job in told["jobs"]
        ]
        render.table(("ID", "NAME", "OPEN TASKS", "ENDS"), rows, color)
        click.echo()
    for warning in told["warnings"]:
        _line("mind", warning)
    for words in told["assumed"][:SHOWN_MAX]:
        _line("assumed", words)


def _line(word: str, text: str) -> None:
    click.echo(f"{word + ':':<15}{text}")


def _rest(rows: list[Json]) -> None:
    if len(rows) > SHOWN_MAX:
        click.echo(f"  and {len(rows) - SHOWN_MAX} more: --json tells them all")


def _coordinators(told: Json) -> str:
    seats, nobody = told["coordinator"], told["nobody_ms"]
    before, after = _seats(seats["before"], told["runs"]), _seats(seats["after"], told["runs"])
    if before == after:
        return f"{before}, as before"
    if nobody["worst"] is None:
        return f"{before}, then {after}"
    gap = f"nobody for {_span(nobody['median'])}, at worst {_span(nobody['worst'])}"
    return f"{before}, then {after}; {gap}"


def _seats(counts: dict[str, int], runs: int) -> str:
    if list(counts.values()) == [runs]:
        return next(iter(counts)) or "nobody"
    return " or ".join(f"{name or 'nobody'} ({n} of {runs})" for name, n in counts.items())


def _job(row: Json) -> str:
    return f"job {row['job']} ({row['name']})" if row["name"] else f"job {row['job']}"


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def _pcs(count: int) -> str:
    return f"{count} PC" if count == 1 else f"{count} PCs"


def _span(span_ms: int) -> str:
    return f"{span_ms / 1_000:.1f} s" if span_ms < 60_000 else f"{span_ms / 60_000:.0f} min"
