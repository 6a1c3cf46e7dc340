"""What a person may ask for is looked at before anything is done with it."""

import pytest

from rain.agent.control import VerbError
from rain.agent.verbs import _spec


@pytest.mark.parametrize(
    "wish",
    [
        {"command": ["echo", "\udcff"]},
        {"command": ["echo"], "environment": [["NAME", "\ud800"]]},
        {"command": ["echo"], "environment": [["\ud800", "value"]]},
        {"command": ["echo"], "name": "\udc80"},
    ],
)
def test_words_that_are_no_text_are_refused(wish: dict[str, object]) -> None:
    with pytest.raises(VerbError, match="not UTF-8") as refused:
        _spec(wish)
    assert (refused.value.code, refused.value.exit_code) == ("usage", 2)


def test_any_text_is_fine() -> None:
    wish = {"command": ["echo", "größe 🌧"], "environment": [["NAME", "\x7f"]]}
    assert _spec(wish).command == ("echo", "größe 🌧")
