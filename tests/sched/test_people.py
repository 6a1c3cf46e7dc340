"""Roles and persons by the roll, and what follows from them."""

import pytest

from rain.model import Role
from rain.sched import people as module
from rain.sched.people import may_read_log
from tests.sched.samples import ANNA, BERT, admitted, id_of, make_job, make_people

JOB = make_job()


def test_people_cancel_their_own_jobs_from_any_pc_and_admins_all() -> None:
    people = make_people(
        (
            admitted("anna"),
            admitted("laptop", person="anna"),
            admitted("lent", Role.WORKER, "bert"),
            admitted("bert"),
            admitted("carl", Role.ADMIN),
        )
    )
    verdicts = {name: people.may_cancel(id_of(name), JOB) for name in ("anna", "laptop", "carl")}
    assert verdicts == {"anna": True, "laptop": True, "carl": True}
    assert people.may_cancel(BERT, JOB) is False
    assert people.may_cancel(id_of("lent"), JOB) is False
    assert people.may_cancel(id_of("stranger"), JOB) is None


def test_who_was_removed_is_not_here_but_what_they_signed_stands() -> None:
    people = make_people()
    people.bar(ANNA)

    assert people.role(ANNA) is None
    assert people.is_barred(ANNA)
    assert people.person(ANNA) == "anna"
    assert people.may_cancel(ANNA, JOB) is True

    people.admit(admitted("anna", Role.WORKER))
    assert people.role(ANNA) is Role.WORKER
    assert not people.is_barred(ANNA)


def test_who_is_only_known_as_removed_is_unknown() -> None:
    people = make_people(())
    people.bar(ANNA)
    assert people.may_cancel(ANNA, JOB) is None
    assert people.person(ANNA) == ""


def test_the_newest_certificate_counts() -> None:
    people = make_people()
    people.admit(admitted("carl"))
    assert people.may_cancel(id_of("carl"), JOB) is False
    assert people.is_at_least(id_of("carl"), Role.MEMBER)
    assert not people.is_at_least(id_of("carl"), Role.ADMIN)
    assert not people.is_at_least(id_of("stranger"), Role.WORKER)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEOPLE_MAX", 2)
    people = make_people()
    assert people.role(ANNA) is None, "told of longest ago"
    for name in ("x", "y", "z"):
        people.bar(id_of(name))
    assert [people.is_barred(id_of(name)) for name in ("x", "y", "z")] == [False, True, True]


@pytest.mark.parametrize(
    ("role", "person", "may"),
    [
        (Role.WORKER, "anna", True),
        (Role.WORKER, "bert", False),
        (Role.WORKER, "", False),
        (Role.MEMBER, "bert", True),
        (Role.ADMIN, "bert", True),
    ],
)
def test_a_worker_reads_the_logs_of_its_own_person_only(role: Role, person: str, may: bool) -> None:
    assert may_read_log(role, person, JOB) is may
    assert may_read_log(role, person, None) is (role >= Role.MEMBER)
