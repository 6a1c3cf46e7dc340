"""Who came, went, was removed, invited, submitted, cancelled: the signed records, told as lines.

Nothing is written for this page. Each line is a certificate, a claim, a job or a cancel that its
author signed and every member keeps; who can show it can prove it.
"""

from collections.abc import Iterable, Mapping

from rain.agent.control import Json
from rain.claims import (
    Departure,
    Invitation,
    KeyPhase,
    KeyStep,
    Removal,
    Signed,
    Withdrawal,
    node_id_of,
)
from rain.model import NodeId
from rain.sched.civil import rfc3339
from rain.sched.table import Table
from rain.trust.core import Trust

EVENTS_MAX = 1_000
"""Told at once, the newest."""


def events(trust: Trust, table: Table) -> list[Json]:
    """`{"at", "event", "by", "what"}`, oldest first."""
    names = _names(trust)
    claims = sorted(trust.claims(), key=lambda signed: (signed.at_unix_ms, signed.number))
    found = [
        *_joins(trust, names),
        *(_claim_told(signed, names) for signed in claims),
        *_jobs(table, names),
    ]
    found.sort(key=lambda one: one[0])
    return [{"at": rfc3339(at_unix_ms), **told} for at_unix_ms, told in found[-EVENTS_MAX:]]


def _names(trust: Trust) -> dict[NodeId, str]:
    """Of everybody ever known, removed ones included."""
    return {one.node_id: one.name for one in trust.ever_known()}


def _joins(trust: Trust, names: Mapping[NodeId, str]) -> Iterable[tuple[int, Json]]:
    for one in trust.ever_known():
        inviter = trust.inviter(one)
        by = names.get(inviter, inviter)
        if not one.invite_id:
            yield one.joined_unix_s * 1_000, _line("founded", one.name, "the pool")
        else:
            what = f"{one.name} as {one.role.name.lower()} for {one.person}"
            yield one.joined_unix_s * 1_000, _line("joined", by, what)


def _claim_told(signed: Signed, names: Mapping[NodeId, str]) -> tuple[int, Json]:
    author = node_id_of(signed.author_key)
    by = names.get(author, author)
    match signed.claim:
        case Removal(subject=subject, reason=reason):
            what = names.get(subject, subject) + (f": {reason}" if reason else "")
            told = _line("removed", by, what)
        case Departure():
            told = _line("left", by, by)
        case Invitation(role=role, person=person, uses=uses, token_key=token_key):
            kind = f"token for {uses}" if token_key else "code for 1"
            told = _line("invited", by, f"{kind}, as {role.name.lower()} for {person}")
        case Withdrawal(invite_id=invite_id, reason=reason):
            told = _line("invitation over", by, f"{invite_id}: {reason}")
        case KeyStep(number=number, phase=phase):
            word = {
                KeyPhase.INSTALL: "handed out",
                KeyPhase.USE: "in use",
                KeyPhase.REMOVE: "the only one",
            }
            told = _line("pool key", by, f"key {number} {word[phase]}")
    return signed.at_unix_ms, told


def _jobs(table: Table, names: Mapping[NodeId, str]) -> Iterable[tuple[int, Json]]:
    for job_id in table.jobs():
        job = table.job(job_id)
        if job is None:
            continue
        what = f"job {job_id}" + (f" ({job.spec.name})" if job.spec.name else "")
        yield job.created_unix_ms, _line("submitted", f"{job.person} on {job.submitted_by}", what)
        cancel = table.cancel_of(job_id)
        if cancel is not None:
            author = node_id_of(cancel.cancelled_by)
            by = names.get(author, author)
            yield cancel.cancelled_unix_ms, _line("cancelled", by, what)


def _line(event: str, by: str, what: str) -> Json:
    return {"event": event, "by": by, "what": what}
