"""A token is copied by people: what may go wrong on the way is said in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.mesh.errors import MeshError
from rain.mesh.token import Pool, decode_token, encode_token

POOL = Pool(b"i" * 16, "lab 3", b"k" * 32)
TOKEN = encode_token(POOL)


@given(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=16),
)
def test_a_token_names_its_pool(pool_id: bytes, key: bytes, name: str) -> None:
    pool = Pool(pool_id, name, key)

    token = encode_token(pool)

    assert token.startswith("rain1-")
    assert token == token.lower()
    assert decode_token(token) == pool


@pytest.mark.parametrize(
    "line", [TOKEN.upper(), f"  {TOKEN}\n", f"{TOKEN[:20]}\r\n {TOKEN[20:40]}\t{TOKEN[40:]}"]
)
def test_what_copying_does_is_forgiven(line: str) -> None:
    assert decode_token(line) == POOL


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "that is not a Rain token"),
        ("hello", "that is not a Rain token"),
        ("rain2-abc", "the token was made by a newer Rain"),
        ("rain1-", "the token is cut short"),
        (TOKEN[:60], "the token is cut short"),
        (TOKEN[:-3], "the token is damaged: a character is wrong, or its end is missing"),
        (TOKEN[:9] + "1" + TOKEN[10:], "the token is damaged: character 10 is '1', which no"),
        (TOKEN + "a" * 999, "the token is too long"),
    ],
)
def test_what_is_wrong_is_said(line: str, message: str) -> None:
    with pytest.raises(MeshError) as raised:
        decode_token(line)

    assert raised.value.message.startswith(message)
    assert raised.value.hint


@given(st.integers(6, len(TOKEN) - 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_wrong_character_is_noticed(at: int, char: str) -> None:
    typed = TOKEN[:at] + char + TOKEN[at + 1 :]
    try:
        pool = decode_token(typed)
    except MeshError:
        return
    # The last character has spare bits: another one there may mean the same.
    assert pool == POOL


@given(st.text(max_size=150))
def test_any_text_is_answered_in_words(text: str) -> None:
    with pytest.raises(MeshError):
        decode_token("rain1-" + text)


def test_the_key_is_not_shown() -> None:
    assert repr(POOL) == f"Pool({'69' * 16}, 'lab 3')"
