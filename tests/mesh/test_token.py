"""A token is copied by people and scripts: what may go wrong on the way is said in words."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.mesh.errors import MeshError
from rain.mesh.keys import ed_verify
from rain.mesh.token import Token, decode_token, encode_token, invite_id_of, new_token

ROOT_KEY = b"r" * 32
TOKEN = new_token(ROOT_KEY, b"s" * 16)
LINE = encode_token(TOKEN)
OF_VERSION_1 = (
    "rain1-afuws2ljnfuws2ljnfuws2ljnfuww23lnnvww23lnnvww23lnnvww2"
    "3lnnvww23lnnvww23lnnvww23mmfrcam3nzwktc"
)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_a_token_pins_its_pool_and_holds_a_key(root_key: bytes, seed: bytes) -> None:
    token = new_token(root_key, seed)

    line = encode_token(token)

    assert line.startswith("rain1-")
    assert line == line.lower()
    assert decode_token(line) == token
    assert token.pins(root_key)
    assert not token.pins(sha256(root_key).digest())
    assert ed_verify(token.public_key, token.sign(b"content"), b"content")
    assert token.invite_id == invite_id_of(token.public_key)
    assert len(token.invite_id) == 10


@pytest.mark.parametrize(
    "line", [LINE.upper(), f"  {LINE}\n", f"{LINE[:20]}\r\n {LINE[20:40]}\t{LINE[40:]}"]
)
def test_what_copying_does_is_forgiven(line: str) -> None:
    assert decode_token(line) == TOKEN


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "that is not a Rain token"),
        ("hello", "that is not a Rain token"),
        ("rain2-abc", "the token was made by a newer Rain"),
        ("rain1-", "the token is cut short"),
        (LINE[:60], "the token is cut short"),
        (LINE[:-1] + "aaaa", "the token is damaged: a character is wrong, or its end is missing"),
        (LINE[:9] + "1" + LINE[10:], "the token is damaged: character 10 is '1', which no"),
        (LINE + "a" * 999, "the token is too long"),
    ],
)
def test_what_is_wrong_is_said(line: str, message: str) -> None:
    with pytest.raises(MeshError) as raised:
        decode_token(line)

    assert raised.value.message.startswith(message)
    assert raised.value.hint


@given(st.integers(6, len(LINE) - 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_wrong_character_is_noticed(at: int, char: str) -> None:
    typed = LINE[:at] + char + LINE[at + 1 :]
    try:
        token = decode_token(typed)
    except MeshError:
        return
    # The last character carries bits that do not count.
    assert token == TOKEN


@given(st.text(max_size=200))
def test_any_text_is_a_token_or_an_error(text: str) -> None:
    for line in (text, "rain1-" + text):
        try:
            decode_token(line)
        except MeshError:
            continue


def test_a_token_of_the_first_rain_is_told_apart() -> None:
    with pytest.raises(MeshError, match="made by an older Rain"):
        decode_token(OF_VERSION_1)


def test_its_seed_is_not_shown_by_accident() -> None:
    assert repr(TOKEN) == str(TOKEN) == f"Token({TOKEN.invite_id})"
    assert "s" * 16 not in repr([Token(b"", b"s" * 16)])


def test_an_error_does_not_tell_the_token() -> None:
    with pytest.raises(MeshError) as raised:
        decode_token(LINE[:-2] + "aa")

    assert LINE[6:30] not in raised.value.message + raised.value.hint
