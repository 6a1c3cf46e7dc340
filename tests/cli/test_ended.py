"""Where no agent runs, the reason why the last one ended is told."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Rain


def test_the_reason_is_told(rain: Rain, data_dir: Path) -> None:
    ended = {"message": "this PC was removed by studio", "hint": "rain leave", "at": "2026"}
    (data_dir / "ended.json").write_text(json.dumps(ended))
    told = rain("status")
    assert told.code == 3
    assert told.err == (
        f"rain: no agent runs here (data folder {data_dir}); "
        "it ended: this PC was removed by studio · rain leave\n"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"message": 5}', "\xff", '{"message": ""}'])
def test_what_is_no_reason_is_left_out(rain: Rain, data_dir: Path, text: str) -> None:
    (data_dir / "ended.json").write_text(text, encoding="latin-1")
    told = rain("status")
    assert (told.code, told.err) == (
        3, f"rain: no agent runs here (data folder {data_dir}) · start it: rain up\n"
    )  # fmt: skip
