"""What is signed or hashed stays the same when a field is added that says nothing."""

from msgspec import defstruct
from msgspec.msgpack import encode

from rain.claims import lasting_fields
from rain.gossip.proofs import FACTS_FIELDS_FIRST
from rain.model import Facts, JobSpec, Resources, Value
from rain.sched.identity import SPEC_FIELDS_FIRST


class First(Value, frozen=True):
    name: str
    count: int = 0


class Later(Value, frozen=True):
    name: str
    count: int = 0
    limit: int = 3
    note: str = ""


def test_a_field_that_was_added_and_says_nothing_changes_nothing() -> None:
    older, newer = First("a"), Later("a")

    assert encode(lasting_fields(newer, 2)) == encode(older)


def test_a_field_that_says_something_is_part_of_it_and_so_is_what_stands_before() -> None:
    assert lasting_fields(Later("a", 0, 5), 2) == ("a", 0, 5)
    assert lasting_fields(Later("a", 0, 3, "b"), 2) == ("a", 0, 3, "b")


def test_the_first_fields_count_whatever_they_say() -> None:
    assert lasting_fields(First("", 0), 2) == ("", 0)


def test_a_spec_of_today_that_uses_nothing_new_is_hashed_as_by_the_first_release() -> None:
    spec = JobSpec(("true",), need=Resources(500, 1_000))
    names = JobSpec.__struct_fields__[:SPEC_FIELDS_FIRST]
    of_then = defstruct("JobSpecOfThen", names, array_like=True)

    assert encode(lasting_fields(spec, SPEC_FIELDS_FIRST)) == encode(
        of_then(*(getattr(spec, name) for name in names))
    )
    assert names[-1] == "volumes"


def test_facts_of_today_that_say_nothing_new_are_signed_as_by_the_first_release() -> None:
    facts = Facts(1, Resources(4_000, 1 << 30), ("docker",), works=True)

    assert len(lasting_fields(facts, FACTS_FIELDS_FIRST)) == FACTS_FIELDS_FIRST
    assert Facts.__struct_fields__[FACTS_FIELDS_FIRST - 1] == "accelerators"
