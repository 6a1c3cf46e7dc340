"""Judges a history from the outside: was every promise kept?

It knows what was typed, what the command line answered on each PC, and what the engine said of
its containers. Of the agents' code it uses nothing, so that it cannot share a fault with them.

    python -m tests.chaos.checker FILE      judges a history that was kept

The laws:

    ended         the run came to its end, and no agent ended by itself
    kept          every acknowledged job is known on every PC
    over          every job is over, in the bound after the heal
    result        it ended as it had to: state, exit code, number of tasks, retries
    one result    a task that succeeded has one committed attempt, any other has none
    same          the same answers from all PCs, and the same digest of the table
    cancel        what was acknowledged as cancelled is CANCELLED
    containers    none is left
    coordinator   there is one, and all name it, by the same epoch
    reigns        no more numbers than the faults account for
    alive         nobody who lives is shown dead
    invented      no job that nobody submitted, none twice, no result without a container
    output        what a task printed is there, whole, once
    told          an end that was told once is the end that stands
    quiet         after the heal nothing starts and no reign begins any more
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.evidence import ENDS, Evidence, Expected, Json, Span
from tests.chaos.history import read
from tests.chaos.schedule import KINDS, UPGRADE, UPGRADE_REIGNS

CANCELLED_CODE = 137
RETURN_S = 20.0
"""After a fault is mended the pool may take so long to see that everybody is back."""
UP = "alive"


class Violation(NamedTuple):
    """A promise that was not kept."""

    law: str
    what: str


def check(lines: Sequence[Json]) -> list[Violation]:
    """All violations of a history; none: every promise was kept."""
    evidence = Evidence(lines)
    return [Violation(law, what) for law, judge in LAWS.items() for what in judge(evidence)]


def _ended(evidence: Evidence) -> Iterator[str]:
    end = evidence.first("ended")
    if not end:
        yield "the history breaks off"
    elif end["reason"]:
        yield str(end["reason"])
    for line in evidence.all("died"):
        yield f"the agent of {line['pc']} ended by itself: {line['said']}"
    for number in (1, 2):
        missing = set(evidence.pcs) - set(evidence.finals(number))
        if end and not end["reason"] and missing:
            yield f"no answer in round {number} from {sorted(missing)}"


def _kept(evidence: Evidence) -> Iterator[str]:
    for pc, final in evidence.finals(2).items():
        known = {job["id"] for job in final["jobs"]}
        for each in evidence.expected.values():
            if each.job and each.job not in known:
                yield f"{pc} does not know {each.job} ({each.name}), which was acknowledged"


def _over(evidence: Evidence) -> Iterator[str]:
    for line in evidence.all("waited"):
        if not line["is_over"]:
            yield f"not all jobs were over {line['bound_s']} s after the heal: {line['open']}"
    for job in _final_jobs(evidence):
        if job["state"] not in ENDS:
            yield f"{job['id']} ({job['name']}) is {job['state']}"


def _result(evidence: Evidence) -> Iterator[str]:
    told = evidence.told_jobs()
    for job in _final_jobs(evidence):
        each = evidence.expected_of(job)
        if each is None:
            continue
        if job["state"] in ENDS:
            yield from _wrong_end(job, each)
        if job["id"] not in told:
            yield f"nobody told the tasks of {job['id']}"
            continue
        yield from _wrong_tasks(told[job["id"]], each)


def _wrong_end(job: Json, each: Expected) -> Iterator[str]:
    state, code = "SUCCEEDED", 0
    if each.is_cancelled:
        state, code = "CANCELLED", CANCELLED_CODE
    elif each.failures:
        state, code = "FAILED", each.failures[min(each.failures)]
    if (job["state"], job["exit_code"]) != (state, code):
        found = f"{job['state']} ({job['exit_code']})"
        yield f"{job['id']} ({each.name}, {each.kind}) is {found}, not {state} ({code})"


def _wrong_tasks(job: Json, each: Expected) -> Iterator[str]:
    indexes = [task["index"] for task in job["task_list"]]
    if indexes != list(range(each.tasks)):
        yield f"{job['id']} has the tasks {indexes}, not {each.tasks}"
    if each.is_cancelled:
        return
    for task in job["task_list"]:
        code = each.failures.get(task["index"], 0)
        state = "FAILED" if code else "SUCCEEDED"
        if (task["state"], task["exit_code"]) != (state, code):
            found = f"{task['state']} ({task['exit_code']})"
            yield f"{job['id']}.{task['index']} is {found}, not {state} ({code})"
        failed = sum(attempt["state"] == "FAILED" for attempt in task["attempts"])
        if code and failed <= each.retries:
            yield f"{job['id']}.{task['index']} failed {failed} times, with {each.retries} retries"


def _one_result(evidence: Evidence) -> Iterator[str]:
    for job_id, job in evidence.told_jobs().items():
        for task in job["task_list"]:
            committed = [a for a in task["attempts"] if a["state"] == "SUCCEEDED"]
            wanted = 1 if task["state"] == "SUCCEEDED" else 0
            if len(committed) != wanted:
                yield f"{job_id}.{task['index']}, {task['state']}: {len(committed)} committed"
            open_ones = [a for a in task["attempts"] if a["state"] in ("STARTING", "RUNNING")]
            if task["state"] in ENDS and open_ones:
                yield f"{job_id}.{task['index']}, {task['state']}: {len(open_ones)} still open"


def _same(evidence: Evidence) -> Iterator[str]:
    for number in (1, 2):
        finals = evidence.finals(number)
        digests = {
            pc: final["status"].get("table", {}).get("digest") for pc, final in finals.items()
        }
        if len(set(digests.values())) > 1:
            yield f"round {number}: the tables differ: {digests}"
        if not finals:
            continue
        first, *others = sorted(finals)
        for pc in others:
            here = {job["id"]: job for job in finals[first]["jobs"]}
            there = {job["id"]: job for job in finals[pc]["jobs"]}
            if here != there:
                unlike = sorted(i for i in {*here, *there} if here.get(i) != there.get(i))
                yield f"round {number}: {first} and {pc} tell {unlike[:5]} differently"


def _cancel(evidence: Evidence) -> Iterator[str]:
    told = evidence.told_jobs()
    for each in evidence.expected.values():
        job = told.get(each.job) if each.is_cancelled else None
        for task in job["task_list"] if job is not None else ():
            if task["state"] != "CANCELLED":
                yield f"{each.job}.{task['index']} was cancelled and is {task['state']}"


def _containers(evidence: Evidence) -> Iterator[str]:
    for line in evidence.all("containers"):
        for labels in line["left"]:
            yield f"left behind: {labels}"


def _coordinator(evidence: Evidence) -> Iterator[str]:
    for number in (1, 2):
        finals = evidence.finals(number)
        reigns = {
            pc: (final["status"]["coordinator"] or {}).get("name", "")
            + f" by {final['status']['epoch']}"
            for pc, final in finals.items()
        }
        if len(set(reigns.values())) > 1 or any(each.startswith(" by") for each in reigns.values()):
            yield f"round {number}: {reigns}"
        for pc, final in finals.items():
            named = [row["name"] for row in final["nodes"] if row["is_coordinator"]]
            if len(named) != 1:
                yield f"round {number}: {pc} shows {named} as coordinators"


def _reigns(evidence: Evidence) -> Iterator[str]:
    first = evidence.first("formed")
    finals = evidence.finals(2)
    if not first or not finals:
        return
    numbers = [(final["status"]["epoch"] or {}).get("number", 0) for final in finals.values()]
    counted = max(numbers) - first["epoch"]["number"]
    cost = {**{kind: each.reigns for kind, each in KINDS.items()}, UPGRADE: UPGRADE_REIGNS}
    allowed = sum(cost[span.kind] for span in evidence.spans)
    if counted > allowed:
        yield f"{counted} reigns, and the faults account for {allowed}"
    if min(numbers) < first["epoch"]["number"]:
        yield f"the number of the reign fell: {numbers}"


def _alive(evidence: Evidence) -> Iterator[str]:
    for number in (1, 2):
        for pc, final in evidence.finals(number).items():
            states = {row["name"]: row["state"] for row in final["nodes"]}
            wrong = {name: states.get(name) for name in evidence.pcs if states.get(name) != UP}
            if wrong:
                yield f"round {number}: {pc} shows {wrong}"
    for seen in evidence.all("seen"):
        for row in seen.get("nodes", ()):
            both = (seen["pc"], row["name"])
            if row["state"] == "dead" and _is_quiet(evidence.spans, both, seen["at"]):
                yield f"at {seen['at']} {seen['pc']} shows {row['name']} dead: no fault near"


def _is_quiet(spans: Sequence[Span], pcs: tuple[str, ...], at_s: float) -> bool:
    """No fault touched any of these then, or shortly before."""
    return not any(
        span.from_s <= at_s <= span.to_s + RETURN_S and set(span.pcs) & set(pcs) for span in spans
    )


def _invented(evidence: Evidence) -> Iterator[str]:
    jobs = _final_jobs(evidence)
    for job in jobs:
        if evidence.expected_of(job) is None:
            yield f"nobody submitted {job['id']} ({job['name']})"
    for name, count in Counter(job["name"] for job in jobs).items():
        if count > 1:
            yield f"{name} was submitted once and is there {count} times"
    ids = {job["name"]: job["id"] for job in jobs}
    for each in evidence.expected.values():
        if each.job and each.job != ids.get(each.name, each.job):
            yield f"{each.name} was acknowledged as {each.job} and is {ids[each.name]}"
    started = {(s["job"], s["task"], s["node"]) for s in evidence.all("started")}
    for job_id, job in evidence.told_jobs().items():
        for task in job["task_list"]:
            for attempt in task["attempts"]:
                ran = attempt["state"] in ("SUCCEEDED", "SUPERSEDED", "FAILED")
                if ran and (job_id, task["index"], attempt["node"]) not in started:
                    where = f"{job_id}.{task['index']} on {attempt['node']}"
                    yield f"{where} is {attempt['state']}, and no container of it ever started"


def _output(evidence: Evidence) -> Iterator[str]:
    by_job = {job["id"]: evidence.expected_of(job) for job in _final_jobs(evidence)}
    full = {pc for span in evidence.spans if span.kind == "disk full" for pc in span.pcs}
    for line in evidence.all("output"):
        each = by_job.get(line["job"])
        if each is None or line["node"] in full:  # a full disk may cost output, and says so
            continue
        wanted = f"{each.nonce} {line['job']} {line['task']}\n"
        if line["code"] != 0 or line["text"] != wanted:
            found = f"({line['code']}) {line['text']!r}"
            yield f"{line['job']}.{line['task']} on {line['node']} printed {found}, not {wanted!r}"


def _told(evidence: Evidence) -> Iterator[str]:
    final = {job["id"]: job["state"] for job in _final_jobs(evidence)}
    complained: set[str] = set()
    for seen in evidence.all("seen"):
        for job_id, state in seen.get("jobs", {}).items():
            stands = final.get(job_id, "unknown")
            if state in ENDS and state != stands and job_id not in complained:
                complained.add(job_id)
                yield f"at {seen['at']} {seen['pc']} told {job_id} {state}, and it is {stands}"


def _quiet(evidence: Evidence) -> Iterator[str]:
    first, second = evidence.finals(1), evidence.finals(2)
    for pc in sorted(set(first) & set(second)):
        before, after = first[pc], second[pc]
        if before["status"]["epoch"] != after["status"]["epoch"]:
            yield f"{pc}: {before['status']['epoch']}, then {after['status']['epoch']}"
        if before["jobs"] != after["jobs"]:
            yield f"{pc}: the jobs still changed after all was over"
    settled_s = max((line["at"] for line in first.values()), default=float("inf"))
    for line in evidence.all("started"):
        if line["at"] > settled_s:
            yield f"{line['attempt']} was started on {line['node']} after all was over"


LAWS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    "ended": _ended,
    "kept": _kept,
    "over": _over,
    "result": _result,
    "one result": _one_result,
    "same": _same,
    "cancel": _cancel,
    "containers": _containers,
    "coordinator": _coordinator,
    "reigns": _reigns,
    "alive": _alive,
    "invented": _invented,
    "output": _output,
    "told": _told,
    "quiet": _quiet,
}


def _final_jobs(evidence: Evidence) -> list[Json]:
    """As the first PC tells them at the very end; that the others agree is a law of its own."""
    finals = evidence.finals(2)
    return list(finals[min(finals)]["jobs"]) if finals else []


def main(words: Sequence[str]) -> int:
    if len(words) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    violations = check(read(Path(words[0])))
    for each in violations:
        print(f"{each.law}: {each.what}")
    print("every promise was kept" if not violations else f"{len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
