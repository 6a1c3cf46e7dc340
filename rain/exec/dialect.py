"""The engine's language: what it is asked for, and what its answers mean. Pure; no engine needed.

Requests are the JSON of the Docker Engine API itself, so that what a container may do is one
value which a test can compare whole.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rain.effects import ContainerFound, StartContainer
from rain.exec.labels import ATTEMPT, IN_CONTAINER, ExecLabels, environment_of, labels_of
from rain.model import REASON_CHARS_MAX

PIDS_MAX = 512
"""Processes and threads of one task: a fork bomb ends here."""
CPU_SHARES = 128
"""An eighth of what a desktop program has by default: under load the owner goes first."""
LOG_BYTES_MAX_TEXT = "20m"
LOG_FILES_MAX_TEXT = "5"
"""Several files: the engine drops a whole one at a time, the oldest."""
NANO_PER_MILLI = 1_000_000

EXIT_RAIN_FAILED = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_KILLED = 137

_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of its PC a container gets to see; all of it has passed the owner's policy."""

    user: str
    network: str
    """What the engine calls it."""
    mounts: tuple[dict[str, Any], ...] = ()
    image: str = ""


def container_name(attempt_key: str) -> str:
    return f"rain-{attempt_key}"


def container_request(
    labels: ExecLabels, order: StartContainer, surroundings: Surroundings
) -> dict[str, Any]:
    """The body of POST /containers/create: the task, and everything it may not do."""
    spec = order.job.spec
    environment = environment_of(labels, order, IN_CONTAINER)
    return {
        "Image": surroundings.image,
        "Cmd": list(spec.command) or None,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "WorkingDir": spec.workdir,
        "User": surroundings.user,
        "Labels": labels_of(labels, order.attempt_id),
        "HostConfig": {
            "Init": True,
            "Privileged": False,
            "NetworkMode": surroundings.network,
            "IpcMode": "private",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Mounts": list(surroundings.mounts),
            "PidsLimit": PIDS_MAX,
            "NanoCpus": spec.need.cpus_milli * NANO_PER_MILLI,
            "CpuShares": CPU_SHARES,
            "Memory": spec.need.memory_bytes,
            # Equal to the memory: a task that needs more ends, it does not swap the PC to death.
            "MemorySwap": spec.need.memory_bytes,
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": LOG_BYTES_MAX_TEXT, "max-file": LOG_FILES_MAX_TEXT},
            },
        },
    }


def found_of(inspected: Mapping[str, Any]) -> ContainerFound | None:
    """What GET /containers/ID/json says; None while it was created but never started."""
    key = str(inspected["Config"]["Labels"].get(ATTEMPT, ""))
    state = inspected["State"]
    started_unix_ms = unix_ms(state["StartedAt"])
    if state["Running"]:
        return ContainerFound(key, started_unix_ms)
    if state["Status"] == "created":
        return None
    return ContainerFound(
        attempt_key=key,
        started_unix_ms=started_unix_ms,
        exit_code=exit_code_of(state["ExitCode"]),
        out_of_memory=bool(state["OOMKilled"]),
        ended_unix_ms=max(started_unix_ms, unix_ms(state["FinishedAt"])),
    )


def exit_code_of(engine_code: int) -> int:
    """Engines use codes outside 0 to 255 for their own accidents."""
    return engine_code if 0 <= engine_code <= 255 else 255


def unix_ms(text: str) -> int:
    """RFC 3339 with any number of decimals; the engine's year 1 ("never") and rubbish are 0."""
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return 0
    zone = "+00:00" if match[3] == "Z" else match[3]
    try:
        whole = datetime.fromisoformat(match[1] + zone)
    except ValueError:
        return 0
    since = whole - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = since.days * 86_400 + since.seconds
    return max(0, seconds * 1_000 + int((match[2] or "")[:3].ljust(3, "0")))


_WORDS_ABOUT_THE_JOB = (
    *("unable to find user", "no matching entries", "no users found", "uids and gids"),
    *("working directory", "chdir", "cwd", "not a directory", "invalid"),
)
"""What engines say of a user or a folder that an image does not have."""


def start_failure_code(text: str) -> int:
    """The exit code `docker run` gives for this refusal to start."""
    if "executable file not found" in text or "no such file or directory" in text:
        return EXIT_NOT_FOUND
    if "permission denied" in text or "is a directory" in text:
        return EXIT_NOT_EXECUTABLE
    return EXIT_RAIN_FAILED


def is_about_the_job(text: str) -> bool:
    """Would every other engine refuse to start this as well?"""
    lowered = text.lower()
    return any(word in lowered for word in _WORDS_ABOUT_THE_JOB)


def no_image_reason(image: str, why: str) -> str:
    return clipped(
        f"no image {image} here, and it could not be pulled: {one_line(why)[:200]}; "
        "check its name, or load it on this PC (docker load, docker pull)"
    )


def unreachable_reason(error: BaseException, is_installed: bool) -> str:
    """Why no engine answers, and what to do about it."""
    causes = _causes(error)
    if any(isinstance(cause, PermissionError) for cause in causes):
        return (
            "permission denied by the Docker engine's socket; add this user to the docker group "
            "(sudo usermod -aG docker $USER), log in again and restart rain"
        )
    if not is_installed and any(isinstance(cause, FileNotFoundError) for cause in causes):
        return (
            "no Docker engine is installed here; install one "
            "(https://docs.docker.com/engine/install) or use --executor process"
        )
    if any(isinstance(cause, FileNotFoundError | ConnectionError) for cause in causes):
        return "the Docker engine is not running; start it (sudo systemctl start docker)"
    return clipped(
        f"the Docker engine does not answer ({one_line(str(error))[:200]}); try: docker info"
    )


def one_line(text: str) -> str:
    return " ".join(text.split())


def clipped(text: str) -> str:
    """Fits into a reason."""
    return text if len(text) <= REASON_CHARS_MAX else text[: REASON_CHARS_MAX - 1] + "…"


CAUSES_MAX = 32


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it was made of: libraries wrap the one that matters several times."""
    found: list[BaseException] = []
    pending: list[object] = [error]
    while pending and len(found) < CAUSES_MAX:
        cause = pending.pop(0)
        if isinstance(cause, BaseException) and not any(cause is known for known in found):
            found.append(cause)
            pending += [*cause.args, cause.__cause__, cause.__context__]
    return found
