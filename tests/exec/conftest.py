"""An engine for the tests that need one: the one that answers, or one of our own."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest

from tests.exec.engine_rig import Rig
from tests.testbed import engine as testbed


@pytest.fixture(scope="session")
def engine_host() -> Iterator[str]:
    """The DOCKER_HOST of a working engine that has the test image."""
    named = os.environ.get("DOCKER_HOST", "")
    if named and testbed.answers(named):
        client = docker.APIClient(base_url=named)
        try:
            testbed.make_image(client)
        finally:
            client.close()
        yield named
        return
    if reason := testbed.why_impossible():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the engine tests may not be skipped here: {reason}")
        pytest.skip(reason)
    with testbed.running_engine() as engine:
        yield engine.host


@pytest.fixture
def host(engine_host: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DOCKER_HOST", engine_host)
    return engine_host


@pytest.fixture
async def rig(host: str, tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(host, tmp_path)
    rig.remove_all()
    try:
        assert await rig.executor.open() == ""
        yield rig
    finally:
        await rig.executor.close()
        rig.remove_all()
        rig.client.close()


@pytest.fixture
def lent() -> Iterator[Path]:
    """A folder that every user can reach, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="rain-lent-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
