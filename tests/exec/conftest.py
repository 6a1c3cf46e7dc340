"""An engine for the tests that need one: the one that answers, or one of our own."""

import os
from collections.abc import Iterator

import docker
import pytest

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
