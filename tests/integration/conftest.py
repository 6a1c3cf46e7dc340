"""A real engine and a real LAN. In CI their absence is a failure, elsewhere a reasoned skip."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.engine import Engine, running_engine, why_impossible
from tests.testbed.lan import Lan, Pc, found_pool, lan, missing
from tests.testbed.witness import Witness

SHARE = ("--cpus", "2", "--memory", "1g")
"""What each PC lends in these tests."""


def require(reason: str) -> None:
    """What is missing fails in CI, and is skipped elsewhere."""
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    require(why_impossible())
    with running_engine() as one:
        yield one


@pytest.fixture
def witness(engine: Engine) -> Iterator[Witness]:
    one = Witness(engine.host)
    yield one
    one.close()


@pytest.fixture
def empty_lan(engine: Engine, tmp_path: Path) -> Iterator[Lan]:
    """A switch with nobody on it yet."""
    require(missing())
    with lan(tmp_path, 0, {"DOCKER_HOST": engine.host}) as one:
        yield one
        show_ends(one)


@pytest.fixture
def pcs(empty_lan: Lan) -> list[Pc]:
    """Four PCs in one pool, ready and agreed."""
    four = empty_lan.add(4)
    found_pool(four, *SHARE)
    return four


def show_ends(one: Lan) -> None:
    """What each agent said last: pytest shows it only when the test failed."""
    for pc in one.pcs:
        for said in sorted(pc.folder.glob("up-*.txt")):
            print(f"--- {pc.name} {said.name}\n{said.read_text()[-2_000:]}")
