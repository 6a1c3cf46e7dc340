"""What the owner of this PC lets jobs do on it. A job that wants more is refused here, with words.

The worker itself asks, at every start: what a submitter or a coordinator believes does not count.
A refusal is this node's and not the job's fault, so another node may take the job.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rain.model import JobSpec

NETWORKS = ("none", "bridge", "host")
"""Each gives a task more than the one before it."""
DEFAULT_NETWORK = "bridge"
DEFAULT_TASK_DISK_BYTES = 10 * 2**30
DEFAULT_REGISTRY = "docker.io"
SYSTEM_FOLDERS = ("/proc", "/sys", "/dev", "/run", "/var/run", "/boot")
ENGINE_FOLDERS = ("/var/lib/docker", "/var/lib/containerd", "/var/lib/containers")
_TAGGED = re.compile(r"[^/]*[:@][^/]*")


@dataclass(frozen=True, slots=True)
class OwnerPolicy:
    """What jobs may do here; the defaults are those of an owner who said nothing."""

    network: str = DEFAULT_NETWORK
    """The most that a task may be given of NETWORKS."""
    allows_users: bool = False
    images: tuple[str, ...] = ()
    """Patterns as of a shell; empty: all images."""
    volumes: tuple[str, ...] = ()
    """Folders that tasks may be given, and what is below them."""
    task_disk_bytes: int = DEFAULT_TASK_DISK_BYTES
    private_folders: tuple[str, ...] = ()
    """The agent's own: in no volume, whatever the owner allowed."""

    def refusal(self, spec: JobSpec) -> str:
        """Why this job may not run here, but for its volumes; empty where it may."""
        assert spec.network in NETWORKS, "the caller refuses other networks"
        if NETWORKS.index(spec.network) > NETWORKS.index(self.network):
            return _no(f"--network {spec.network}", f"--allow-network {spec.network}")
        if spec.user and not self.allows_users:
            return _no("--user", "--allow-user")
        if not self.allows_image(spec.image):
            return _no(f"the image {spec.image}", f"--allow-image {spec.image}")
        return ""

    def allows_image(self, image: str) -> bool:
        """Whether a pattern of the owner matches the full name of this image."""
        name = full_name(image)
        return not self.images or any(
            fnmatchcase(name, one) for pattern in self.images for one in _full_patterns(pattern)
        )

    def volume_refusal(self, source: str, real: str | None, private: Iterable[str]) -> str:
        """Why `source`, by `real_path` the folder `real`, is no volume here; empty: it is one.

        `private` are places besides the policy's own that no task may see.
        """
        if real is None or not any(
            _is_within(real, os.path.realpath(one)) for one in self.volumes if one
        ):
            return _no(f"the folder {source} as a volume", f"--allow-volume {source}")
        for place in (*self.private_folders, *private, *SYSTEM_FOLDERS, *ENGINE_FOLDERS):
            hidden = os.path.realpath(place)
            if _is_within(real, hidden) or _is_within(hidden, real):
                return f"the folder {source} is never given to a task: it would show {place}"
        return ""


def real_path(source: str) -> str | None:
    """Where all links lead; None where this user may not even look."""
    try:
        return os.path.realpath(source)
    except (OSError, ValueError):
        return None


def full_name(image: str) -> str:
    """The name with registry and tag, as engines complete it: python is
    docker.io/library/python:latest, and python:5000/x is of the registry python:5000."""
    name = _with_registry(image)
    is_tagged = _TAGGED.fullmatch(name.rpartition("/")[2])
    return name if is_tagged else f"{name}:latest"


def _full_patterns(pattern: str) -> tuple[str, ...]:
    """What the owner's pattern is on full names; one without a tag means every tag."""
    full = pattern if pattern.startswith("*") else _with_registry(pattern)
    if _TAGGED.fullmatch(full.rpartition("/")[2]):
        return (full,)
    return full, f"{full}:*", f"{full}@*"


def _with_registry(name: str) -> str:
    first, slash, rest = name.partition("/")
    if first in (DEFAULT_REGISTRY, f"index.{DEFAULT_REGISTRY}") and slash:
        name = rest
    elif slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"{DEFAULT_REGISTRY}/{name}" if "/" in name else f"{DEFAULT_REGISTRY}/library/{name}"


def _is_within(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)


def _no(what: str, option: str) -> str:
    return f"the owner of this PC does not allow {what}; they could: rain up {option}"
