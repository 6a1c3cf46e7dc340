"""A code is read by one person and typed by another: what may go wrong on the way."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from rain.mesh.codes import Code, draw_code, is_code, parse_code
from rain.mesh.errors import MeshError

WORDS = Mnemonic("english").wordlist
CODE = Code("482", ("velvet", "orbit"))


def dice(*rolls: int) -> Callable[[int], int]:
    """Draws these, one after the other."""
    coming = iter(rolls)
    return lambda below: next(coming) % below


@given(st.sampled_from(WORDS), st.sampled_from(WORDS), st.integers(100, 999))
def test_a_code_that_was_shown_can_be_typed(first: str, second: str, nameplate: int) -> None:
    code = Code(str(nameplate), (first, second))

    assert parse_code(code.text) == code
    assert parse_code(f" {nameplate} {first[:4].upper()}  {second[:4].title()}\n") == code


@pytest.mark.parametrize(
    "typed", ["482-velvet-orbit", "482 VELVET orbit", "482velv.orbi", " 482--velvet , orbit\n"]
)
def test_typed_sloppily_it_is_the_same(typed: str) -> None:
    assert parse_code(typed) == CODE
    assert is_code(typed)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "it has not three digits and two words"),
        ("482-velvet", "it has not three digits and two words"),
        ("482-velvet-orbit-orbit", "it has not three digits and two words"),
        ("482-velvet-orbit" + " " * 60, "it has not three digits and two words"),
        ("48-velvet-orbit", "it does not begin with three digits"),
        ("velvet-482-orbit", "it does not begin with three digits"),
        ("482-velvett-orbit", "word 1 is none of the words that codes are made of"),
        ("482-velvet-orb", "word 2 is none of the words that codes are made of"),
    ],
)
def test_what_is_wrong_is_said_but_not_what_was_typed(typed: str, why: str) -> None:
    with pytest.raises(MeshError) as raised:
        parse_code(typed)

    assert raised.value.message == f"that is not an invite code: {why}"
    assert raised.value.hint == "codes look like 482-velvet-orbit"
    assert "orb" not in raised.value.message


@given(st.text(max_size=80))
def test_any_text_is_a_code_or_an_error(text: str) -> None:
    try:
        code = parse_code(text)
    except MeshError:
        return
    assert parse_code(code.text) == code


def test_nameplate_and_words_are_drawn_from_all_there_are() -> None:
    assert draw_code(dice(0, 2047, 899), ()).text == "999-abandon-zoo"


def test_a_nameplate_that_is_taken_is_not_drawn() -> None:
    taken = {str(n) for n in range(100, 999)}

    assert draw_code(dice(0, 0, 0), taken).nameplate == "999"
    with pytest.raises(MeshError, match="too many invitations are open"):
        draw_code(dice(0, 0, 0), {*taken, "999"})


def test_its_words_are_not_shown_by_accident() -> None:
    assert repr(CODE) == str(CODE) == "Code(482)"


def test_a_token_is_no_code() -> None:
    assert not is_code("rain1-abc")
