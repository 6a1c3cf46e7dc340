"""The options of `rain up` as a policy, and what the owner is told."""

import logging
from pathlib import Path

import structlog

from rain.agent.executors import Executors, policy_of
from rain.config import UpOptions
from rain.exec.policy import OwnerPolicy
from rain.log import Logger
from tests.exec.rig import LABELS


def test_options_make_a_policy() -> None:
    folder = Path("/home/me/rain")
    private = (str(folder), str(folder))
    assert policy_of(UpOptions(folder)) == OwnerPolicy(private_folders=private)
    options = UpOptions(
        folder,
        allow_networks=("host", "none"),
        allow_user=True,
        allow_images=("a",),
        allow_volumes=("/srv",),
        task_disk="1g",
    )
    assert policy_of(options) == OwnerPolicy("host", True, ("a",), ("/srv",), 2**30, private)
    assert policy_of(UpOptions(folder, allow_networks=("none",))).network == "none"


async def test_the_owner_is_told_what_tasks_can_do(tmp_path: Path) -> None:
    log: Logger = structlog.wrap_logger(logging.Logger("test"), wrapper_class=Logger)
    for executor, words in (("docker", []), ("both", ["run as you"]), ("process", ["run as you"])):
        options = UpOptions(tmp_path, executor=executor)
        notes = Executors(options, LABELS, tmp_path, lambda _: None, log).notes()
        assert [word in note for word, note in zip(words, notes, strict=True)] == [True] * len(
            words
        )
