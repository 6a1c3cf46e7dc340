"""What the tests of the command line share."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rain.cli import main
from tests.cli.fake_agent import FakeAgent


@dataclass
class Ended:
    """How one command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Rain = Callable[..., Ended]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def rain(
    data_dir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Rain:
    """Runs one command line in this process, on the data folder of the test."""
    monkeypatch.setenv("RAIN_DATA_DIR", str(data_dir))

    def run(*words: str) -> Ended:
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        captured = capfd.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def agent(data_dir: Path) -> Iterator[FakeAgent]:
    fake = FakeAgent(data_dir)
    yield fake
    fake.close()
