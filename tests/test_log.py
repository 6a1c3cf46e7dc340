"""The agent's diary: JSON lines, bounded, private, without secrets."""

import json
from pathlib import Path
from typing import Any

import pytest

from rain import log


def _lines(data_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.log_path(data_dir).read_text().splitlines()]


def _close(logger: log.Logger) -> None:
    for sink in list(logger._logger.handlers):
        sink.close()


def test_an_event_is_one_line_of_json(tmp_path: Path) -> None:
    logger = log.open_log(tmp_path)
    logger.info("member_up", node_id="n1", count=3)
    try:
        raise ValueError("deep")
    except ValueError:
        logger.exception("verb_failed")
    _close(logger)
    up, failed = _lines(tmp_path)
    assert (up["event"], up["level"], up["node_id"], up["count"]) == ("member_up", "info", "n1", 3)
    assert up["timestamp"].endswith("Z")
    assert "ValueError: deep" in failed["exception"]
    assert log.log_path(tmp_path).stat().st_mode & 0o777 == 0o600


def test_secrets_do_not_get_in(tmp_path: Path) -> None:
    logger = log.open_log(tmp_path)
    logger.info(
        "joining", token="abc-secret", words="with rain1-secret", key=b"secret", long="x" * 9_999
    )
    _close(logger)
    text = log.log_path(tmp_path).read_text()
    assert "secret" not in text.replace("[secret]", "")
    assert len(text) < 3_000


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "FILE_BYTES_MAX", 10_000)
    logger = log.open_log(tmp_path)
    for number in range(2_000):
        logger.info("event", number=number)
    _close(logger)
    files = sorted(tmp_path.iterdir())
    assert len(files) == log.FILES_MAX
    assert sum(file.stat().st_size for file in files) <= 10_000 * log.FILES_MAX
    assert _lines(tmp_path)[-1]["number"] == 1_999
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


def test_a_terminal_hears_warnings_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = log.open_log(tmp_path, is_terminal=True)
    logger.info("quiet")
    logger.warning("disk_failed", reason="full")
    _close(logger)
    told = capsys.readouterr()
    assert told.out == ""
    assert "disk_failed" in told.err
    assert "full" in told.err
    assert "quiet" not in told.err
    assert len(_lines(tmp_path)) == 2


def test_a_note_to_the_owner_is_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = log.open_log(tmp_path, is_terminal=True)
    logger.warning(log.OWNER_NOTE, note="tasks reach your LAN")
    _close(logger)
    assert capsys.readouterr().err == "note: tasks reach your LAN\n"
    assert _lines(tmp_path)[0]["event"] == "owner_note"
