"""How a running attempt is marked, so that it is known again, and what it is told about itself."""

import re
from dataclasses import dataclass

import msgspec

from rain.effects import StartContainer
from rain.model import AttemptId
from rain.sched.identity import attempt_key

POOL = "rain.pool"
JOB = "rain.job"
TASK = "rain.task"
ATTEMPT = "rain.attempt"
EPOCH = "rain.epoch"
NODE = "rain.node"
BOOT = "rain.boot"
"""In which life of its PC it began: what a reboot ended is nobody's failure."""
NODE_ID = "rain.node_id"
"""Several agents may share one engine: each lists only what carries its own id."""
ATTEMPT_ID = "rain.attempt_id"
"""The whole id as JSON: an adopted attempt must be reported under it."""

IN_CONTAINER = "/run/secrets"
"""The folder of a task's secrets, as the task sees it."""

_decoder = msgspec.json.Decoder(AttemptId)
_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")
_NO_VARIABLE = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class ExecLabels:
    """Whose attempts these are."""

    pool: str
    node_id: str
    node_name: str
    boot: str = ""
    """The id of this boot of the PC; empty where the system has none."""


def is_key(text: str) -> bool:
    """Fit for a container's name and for a file's: nothing that leads out of a folder."""
    return _KEY.fullmatch(text) is not None


def labels_of(labels: ExecLabels, attempt_id: AttemptId) -> dict[str, str]:
    """The labels of this attempt's container."""
    boot = {BOOT: labels.boot} if labels.boot else {}
    return {
        **boot,
        POOL: labels.pool,
        JOB: attempt_id.job_id,
        TASK: str(attempt_id.task),
        ATTEMPT: attempt_key(attempt_id),
        EPOCH: str(attempt_id.epoch.number),
        NODE: labels.node_name,
        NODE_ID: labels.node_id,
        ATTEMPT_ID: encode_attempt_id(attempt_id),
    }


def encode_attempt_id(attempt_id: AttemptId) -> str:
    return msgspec.json.encode(attempt_id).decode()


def decode_attempt_id(text: str) -> AttemptId | None:
    """None for what somebody else wrote there."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return None


def environment_of(labels: ExecLabels, order: StartContainer, secrets: str) -> dict[str, str]:
    """The user's variables, then Rain's own, which nobody can replace.

    `secrets` is the folder in which the task finds the files of its secrets.
    """
    spec = order.job.spec
    environment = {**dict(spec.private_environment), **dict(spec.environment)}
    for name, _ in spec.secrets:
        environment[f"{_NO_VARIABLE.sub('_', name)}_FILE"] = f"{secrets}/{name}"
    environment["RAIN_JOB_ID"] = order.attempt_id.job_id
    environment["RAIN_TASK_INDEX"] = str(spec.array_index(order.attempt_id.task))
    environment["RAIN_ARRAY_SIZE"] = str(spec.tasks)
    environment["RAIN_ATTEMPT"] = str(order.attempt_id.number)
    environment["RAIN_NODE_NAME"] = labels.node_name
    return environment
