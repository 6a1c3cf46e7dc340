"""A forecast: one scenario played several times, and what all runs have in common told in words.

Several short runs show how long nobody coordinates and what is started again; the last one is
played on until the jobs end, for when they do. Everything comes back as one JSON object.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from rain.model import Resources

from .premises import OpenJob, Pc, Premises, Unfit, premises_of
from .scenario import Course, Plan, Scenario

SEED = 1
"""Of the first run; a forecast of the same pool is the same forecast."""
GIB = 1024**3
COPIES_ENOUGH = 2

__all__ = ["Plan", "Unfit", "forecast"]

Json = dict[str, Any]
Say = Callable[[str], None]


def forecast(
    nodes: Sequence[Mapping[str, Any]],
    jobs: Sequence[Mapping[str, Any]],
    plan: Plan,
    runs: int,
    task_ms: int,
    now_unix_ms: int,
    say: Say,
) -> Json:
    """Raises Unfit; `say` hears how far it is."""
    premises = premises_of(nodes, jobs, task_ms, now_unix_ms)
    _refuse_unknown(premises, (*plan.off, *plan.cut))
    courses = []
    for run in range(runs):
        is_last = run == runs - 1
        say(f"run {run + 1} of {runs}")
        scenario = Scenario(premises, plan, SEED + run)

        def told(passed_ms: int) -> None:
            say(f"run {runs} of {runs}: {passed_ms // 60_000} of {plan.look_ms // 60_000} min")

        courses.append(scenario.play(told, is_last))
    return _summed(premises, plan, courses)


def _refuse_unknown(premises: Premises, names: Sequence[str]) -> None:
    known = premises.names()
    for name in names:
        if name not in known:
            hint = f"these are up: {', '.join(sorted(known))}"
            raise Unfit(f"there is no PC {name!r} that is up", hint, is_unknown_name=True)
    if len(set(names)) < len(names):
        raise Unfit("one PC is named twice", "name each once, in --off or in --cut")


def _summed(premises: Premises, plan: Plan, courses: Sequence[Course]) -> Json:
    last = courses[-1]
    gaps = [course.gap_ms for course in courses if course.gap_ms is not None]
    waiting = _waiting(premises, plan, last)
    told: Json = {
        "off": list(plan.off),
        "cut": list(plan.cut),
        "back_after_ms": plan.back_ms,
        "looked_ms": plan.look_ms,
        "runs": len(courses),
        "coordinator": {
            "before": _counted(course.before for course in courses),
            "after": _counted(course.after for course in courses),
        },
        "nobody_ms": {
            "median": int(median(gaps)) if gaps else None,
            "worst": max(gaps) if len(gaps) == len(courses) else None,
        },
        "lost": last.lost,
        "restarted": _restarted(courses),
        "waiting": waiting,
        "jobs": [_ending(job, last) for job in premises.jobs],
        "copies": {
            "before": min(course.copies_before for course in courses),
            "after": min(course.copies_after for course in courses),
        },
        "assumed": list(premises.assumed),
    }
    told["warnings"] = _warnings(premises, plan, told)
    return told


def _counted(names: Any) -> Json:
    """In how many of the runs; '' nobody."""
    return dict(Counter(names).most_common())


def _restarted(courses: Sequence[Course]) -> list[Json]:
    """By task: where in the last run in which it was, and how soon over all runs."""
    found: dict[tuple[str, int], Json] = {}
    for course in courses:
        for again in course.reruns:
            place = (again.job_id, again.task)
            worst_ms = max(again.after_ms, found[place]["worst_ms"] if place in found else 0)
            found[place] = {
                "job": again.job_id,
                "task": again.task,
                "lost_on": again.lost_on,
                "runs_on": again.runs_on,
                "worst_ms": worst_ms,
            }
    return [found[place] for place in sorted(found)]


def _waiting(premises: Premises, plan: Plan, course: Course) -> list[Json]:
    gone = (*plan.off, *plan.cut)
    staying = [pc for pc in premises.pcs if pc.name not in gone]
    return [
        {
            "job": job.job_id,
            "name": job.name,
            "tasks": course.waiting[job.job_id],
            "because": _reason(job, staying),
            "fits_nowhere": not _able(job, staying),
        }
        for job in premises.jobs
        if job.job_id in course.waiting
    ]


def _able(job: OpenJob, pcs: Sequence[Pc]) -> list[Pc]:
    """Those that could run a task of it if they were empty."""
    return [pc for pc in pcs if pc.capacity.covers(job.need) and job.node_name in ("", pc.name)]


def _reason(job: OpenJob, staying: Sequence[Pc]) -> str:
    if _able(job, staying):
        return "the PCs that are left are full: it runs when something there has ended"
    if job.node_name:
        return f"it is to run on {job.node_name} only"
    return f"no PC that is left has {_size(job.need)}"


def _size(need: Resources) -> str:
    return f"{need.cpus_milli / 1_000:g} CPU and {need.memory_bytes / GIB:.3g} GiB"


def _ending(job: OpenJob, course: Course) -> Json:
    return {
        "id": job.job_id,
        "name": job.name,
        "open_tasks": len(job.tasks),
        "ends_after_ms": course.finished_ms.get(job.job_id),
    }


def _warnings(premises: Premises, plan: Plan, told: Json) -> list[str]:
    words: list[str] = []
    gone = ", ".join((*plan.off, *plan.cut))
    if told["nobody_ms"]["worst"] is None:
        words.append(f"without {gone} nobody coordinates: nothing new is started")
    for waits in told["waiting"]:
        if waits["fits_nowhere"]:
            job = next(job for job in premises.jobs if job.job_id == waits["job"])
            words.append(
                f"without {gone} nothing is left with {_size(job.need)}: job {job.job_id} waits"
            )
    lost = {(job_id, task) for job_id, tasks in told["lost"].items() for task in tasks}
    if lost:
        words.append(f"what runs on {gone} begins from the start, elsewhere or later: {len(lost)}")
    if premises.jobs and told["copies"]["after"] < COPIES_ENOUGH:
        words.append("only one PC that is left keeps the jobs: if it goes too, all wait for it")
    return words
