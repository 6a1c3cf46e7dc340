"""Why an agent ended is kept for who asks later."""

import json
import os
from pathlib import Path

import pytest

from rain.agent.ending import AgentEnded, kept_end


def end(folder: Path) -> None:
    with pytest.raises(AgentEnded), kept_end(folder):
        raise AgentEnded("this PC was removed", "rain leave", 4)


def test_the_reason_is_kept_privately(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        end(tmp_path)
    finally:
        os.umask(umask)
    kept = tmp_path / "ended.json"
    told = json.loads(kept.read_bytes())
    assert (told["message"], told["hint"]) == ("this PC was removed", "rain leave")
    assert told["at"].endswith("Z")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_the_next_start_forgets_it(tmp_path: Path) -> None:
    end(tmp_path)
    with kept_end(tmp_path):
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_an_end_in_good_order_leaves_nothing(tmp_path: Path) -> None:
    with kept_end(tmp_path):
        end(tmp_path)  # another one tried to start meanwhile
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    end(tmp_path / "gone")
